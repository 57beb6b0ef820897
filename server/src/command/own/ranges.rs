//! SW.RANGE, SW.PREFIX, SW.COUNT, SW.DELRANGE: keys of the selected database in the order of their
//! bytes. What bounds mean stands in [`KeySpan`].
//!
//! An answer is never cut without saying so: where no LIMIT is given, more keys than
//! [`RANGE_KEYS_DEFAULT`] are an error, and so are more bytes than [`RANGE_REPLY_BYTES_MAX`] in any
//! case, but for the first key, so that a LIMIT of 1 always goes on. Rows are read one by one, so memory
//! is bounded by the answer.

use std::ops::ControlFlow;

use super::{Args, Context, Failure, Outcome, integer};
use crate::keyspace::{KeySpan, Kind, Order, Row, client_key};
use crate::limits::{RANGE_KEYS_DEFAULT, RANGE_KEYS_MAX, RANGE_REPLY_BYTES_MAX};
use crate::resp::Protocol;

/// What SW.RANGE and SW.PREFIX are asked for behind their bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Options {
    limit: Option<usize>,
    order: Order,
    only_keys: bool,
}

impl Options {
    fn parse(args: Args<'_>) -> Outcome<Self> {
        let mut options = Self { limit: None, order: Order::Ascending, only_keys: false };
        let mut index = 0;
        while index < args.len() {
            if args.is(index, "rev") {
                options.order = Order::Descending;
            } else if args.is(index, "keys") {
                options.only_keys = true;
            } else if let (true, Some(limit)) = (args.is(index, "limit"), args.get(index + 1)) {
                options.limit = Some(parse_limit(limit)?);
                index += 1;
            } else {
                return Err(Failure::SYNTAX);
            }
            index += 1;
        }
        Ok(options)
    }

    /// Elements of the answer for so many keys.
    const fn elements(self, keys: usize, protocol: Protocol) -> usize {
        match protocol {
            Protocol::Resp2 if !self.only_keys => 2 * keys,
            Protocol::Resp2 | Protocol::Resp3 => keys,
        }
    }
}

fn parse_limit(argument: &[u8]) -> Outcome<usize> {
    let limit = usize::try_from(integer(argument)?)
        .map_err(|_| Failure::fixed("ERR LIMIT can't be negative"))?;
    if limit > RANGE_KEYS_MAX {
        return Err(Failure::new(format!("ERR LIMIT can't be greater than {RANGE_KEYS_MAX}")));
    }
    Ok(limit)
}

pub(super) fn range(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    let options = Options::parse(args.from(3))?;
    list(context, &KeySpan::between(args.at(1), args.at(2)), options)
}

pub(super) fn prefix(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    let options = Options::parse(args.from(2))?;
    list(context, &KeySpan::of_prefix(args.at(1)), options)
}

fn list(context: &mut Context<'_, '_>, span: &KeySpan, options: Options) -> Outcome {
    let database = context.session.database;
    let unit = context.unit.as_deref_mut().ok_or(Failure::LOADING)?;
    let reply = &mut *context.reply;
    let (now_ms, space, mark) = (unit.now_ms(), unit.space(database), reply.bytes.len());
    let mut count = 0;
    let mut rows = unit.rows(&space.keys, span.bounds(), options.order)?;
    while options.limit != Some(count) {
        let Some(pair) = rows.next() else { break };
        let (key, bytes) = pair?;
        let (key, row) = (client_key(&key), Row::decode(&bytes)?);
        if row.is_expired(now_ms) {
            continue;
        }
        if options.limit.is_none() && count == RANGE_KEYS_DEFAULT {
            return Err(Failure::new(format!(
                "ERR more than {RANGE_KEYS_DEFAULT} keys: give a LIMIT, and go on behind the last key"
            )));
        }
        if !options.only_keys && row.kind != Kind::String {
            return Err(Failure::WRONG_TYPE);
        }
        let value = (!options.only_keys).then_some(row.body);
        let bytes = reply.bytes.len() - mark + key.len() + value.map_or(0, <[u8]>::len);
        if count > 0 && bytes > RANGE_REPLY_BYTES_MAX {
            return Err(Failure::new(format!(
                "ERR the reply would have more than {RANGE_REPLY_BYTES_MAX} bytes: give a LIMIT below {}",
                count + 1
            )));
        }
        match value {
            Some(value) => {
                if reply.protocol == Protocol::Resp3 {
                    reply.array(2);
                }
                reply.bulk(key);
                reply.bulk(value);
            }
            None => reply.bulk(key),
        }
        count += 1;
    }
    drop(rows);
    let elements = options.elements(count, reply.protocol);
    reply.array_at(mark, elements);
    unit.rest_on_all();
    Ok(())
}

pub(super) fn count(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    let span = KeySpan::between(args.at(1), args.at(2));
    let database = context.session.database;
    let unit = context.unit()?;
    let (now_ms, space) = (unit.now_ms(), unit.space(database));
    let mut count: usize = 0;
    let failed = unit.scan(&space.keys, span.bounds(), |_, bytes| match Row::decode(bytes) {
        Ok(row) => {
            count += usize::from(!row.is_expired(now_ms));
            ControlFlow::Continue(())
        }
        Err(failure) => ControlFlow::Break(failure),
    })?;
    unit.rest_on_all();
    failed.map_or(Ok(()), Err)?;
    context.reply.count(count);
    Ok(())
}

/// Keys of any type go, as with DEL.
pub(super) fn delrange(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    let span = KeySpan::between(args.at(1), args.at(2));
    let database = context.session.database;
    let unit = context.unit()?;
    let count = unit.remove_span(database, &span)?;
    unit.rest_on_all();
    context.reply.integer(i64::try_from(count).unwrap_or(i64::MAX));
    Ok(())
}
