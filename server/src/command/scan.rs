//! Commands that look at all keys of a database.

use std::ops::Bound;

use super::{Args, Context, Failure, Outcome, check_reply_bytes, integer};
use crate::glob;
use crate::keyspace::{Order, Row, client_key, engine_key};

/// Keys among which RANDOMKEY chooses.
const RANDOM_KEYS: usize = 16;
const DEFAULT_COUNT: usize = 10;

#[derive(Debug, Default)]
struct ScanOptions<'a> {
    count: usize,
    pattern: Option<&'a [u8]>,
    kind: Option<&'a [u8]>,
}

impl<'a> ScanOptions<'a> {
    fn parse(args: Args<'a>) -> Outcome<Self> {
        let mut options = Self { count: DEFAULT_COUNT, ..Self::default() };
        for index in (0..args.len()).step_by(2) {
            let value = args.get(index + 1).ok_or(Failure::SYNTAX)?;
            match () {
                () if args.is(index, "count") => {
                    let count = integer(value)?;
                    options.count = usize::try_from(count).unwrap_or(0);
                    if options.count == 0 {
                        return Err(Failure::SYNTAX);
                    }
                }
                () if args.is(index, "match") => options.pattern = Some(value),
                () if args.is(index, "type") => options.kind = Some(value),
                () => return Err(Failure::SYNTAX),
            }
        }
        Ok(options)
    }

    fn takes(&self, key: &[u8], row: &Row<'_>) -> bool {
        self.pattern.is_none_or(|pattern| glob::matches(pattern, key))
            && self.kind.is_none_or(|kind| kind.eq_ignore_ascii_case(row.kind.name().as_bytes()))
    }
}

/// Calls `visit` with the keys of the selected database from a bound of the tree on, until it says to
/// stop; without a row where the key has expired.
fn visit(
    context: &mut Context<'_, '_>,
    from: Bound<Vec<u8>>,
    mut visit: impl FnMut(&[u8], Option<&Row<'_>>) -> bool,
) -> Outcome {
    let database = context.session.database;
    let unit = context.unit()?;
    let now_ms = unit.now_ms();
    let space = unit.space(database);
    for pair in unit.rows(&space.keys, (from, Bound::Unbounded), Order::Ascending)? {
        let (key, bytes) = pair?;
        let row = Row::decode(&bytes)?;
        if !visit(client_key(&key), Some(&row).filter(|row| !row.is_expired(now_ms))) {
            break;
        }
    }
    unit.rest_on_all();
    Ok(())
}

pub(super) fn scan(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    let invalid = || Failure::fixed("ERR invalid cursor");
    let cursor: u64 = std::str::from_utf8(args.at(1))
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(invalid)?;
    let options = ScanOptions::parse(args.from(2))?;
    let database = context.session.database;
    let unit = context.unit()?;
    let (keyspace, space) = (unit.keyspace(), unit.space(database).id);
    let from = match keyspace.cursors.place(space, cursor) {
        None => Bound::Unbounded,
        Some(key) => Bound::Excluded(engine_key(&key).into_owned()),
    };
    let (mut seen, mut found, mut last) = (0, Vec::new(), None);
    visit(context, from, |key, row| {
        if seen == options.count {
            return false;
        }
        seen += 1;
        found.extend(row.filter(|row| options.takes(key, row)).map(|_| key.to_vec()));
        last = Some(key.to_vec());
        true
    })?;
    let next = match last {
        Some(last) if seen == options.count => keyspace.cursors.give(space, last),
        _ => 0,
    };
    context.reply.array(2);
    context.reply.bulk(next.to_string().as_bytes());
    reply_keys(context, &found)
}

fn reply_keys(context: &mut Context<'_, '_>, keys: &[Vec<u8>]) -> Outcome {
    context.reply.array(keys.len());
    keys.iter().try_for_each(|key| {
        context.check_reply()?;
        context.reply.bulk(key);
        Ok(())
    })
}

pub(super) fn keys(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    let pattern = args.at(1);
    let (mut found, mut bytes) = (Vec::new(), 0);
    visit(context, Bound::Unbounded, |key, row| {
        if row.is_some() && glob::matches(pattern, key) {
            bytes += key.len();
            found.push(key.to_vec());
        }
        check_reply_bytes(bytes).is_ok()
    })?;
    check_reply_bytes(bytes)?;
    reply_keys(context, &found)
}

/// One of the keys behind a random place between the first and the last one. Among a few keys each is as
/// likely; among many, those behind gaps are likelier.
pub(super) fn randomkey(context: &mut Context<'_, '_>, _args: Args<'_>) -> Outcome {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| Failure::new(format!("ERR {error}")))?;
    let (place, choice) = random.split_at(8);
    let database = context.session.database;
    let (first, last) = {
        let unit = context.unit()?;
        let space = unit.space(database);
        let mut outermost = |order| -> Outcome<_> {
            let all = (Bound::Unbounded, Bound::Unbounded);
            unit.rows(&space.keys, all, order)?.next().transpose()
        };
        (outermost(Order::Ascending)?, outermost(Order::Descending)?)
    };
    let from = match (first, last) {
        (Some((first, _)), Some((last, _))) => Bound::Included(between(&first, &last, place)),
        _ => Bound::Unbounded,
    };
    let mut found = Vec::new();
    for from in [from, Bound::Unbounded] {
        let wanted = RANDOM_KEYS;
        visit(context, from, |key, row| {
            if row.is_some() && !found.iter().any(|other: &Vec<u8>| other == key) {
                found.push(key.to_vec());
            }
            found.len() < wanted
        })?;
        if found.len() == wanted {
            break;
        }
    }
    if found.is_empty() {
        context.reply.null();
        return Ok(());
    }
    let choice = choice.iter().fold(0_usize, |sum, &byte| sum.wrapping_mul(31) + usize::from(byte));
    context.reply.bulk(&found[choice % found.len()]);
    Ok(())
}

/// A place between two keys: what they have in common, and then random bytes below the higher one's.
fn between(first: &[u8], last: &[u8], random: &[u8]) -> Vec<u8> {
    let common = first.iter().zip(last).take_while(|(one, other)| one == other).count();
    let mut place = first[..common].to_vec();
    let low = first.get(common).copied().unwrap_or(0);
    let high = last.get(common).copied().unwrap_or(u8::MAX);
    let span = usize::from(high.saturating_sub(low)) + 1;
    let offset = usize::from(random[0]) % span;
    place.push(u8::try_from(usize::from(low) + offset).unwrap_or(high));
    place.extend_from_slice(&random[1..]);
    place
}
