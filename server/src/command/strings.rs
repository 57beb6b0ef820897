//! Strings, but for their bits.

use std::sync::atomic::Ordering;

use super::expiry::{self, Lifetime};
use super::{Args, Context, Failure, Found, Outcome, integer, number};
use crate::keyspace::Unit;
use crate::limits::BULK_BYTES_MAX;

/// Options of SET and GETEX.
#[derive(Debug, Default)]
struct SetOptions {
    lifetime: Option<Lifetime>,
    keeps_expiry: bool,
    persists: bool,
    only_if: Option<Presence>,
    returns_old: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    Absent,
    Present,
}

impl SetOptions {
    fn parse(args: Args<'_>, is_getex: bool) -> Outcome<Self> {
        let mut options = Self::default();
        let mut index = 0;
        while index < args.len() {
            let asked = expiry::unit_of(args.at(index));
            let is_other = |life: Lifetime| asked != Some((life.unit, life.base));
            // The same option may be given again, and the last one counts.
            let contradicts = options.lifetime.is_some_and(is_other)
                || options.keeps_expiry && !args.is(index, "keepttl")
                || options.persists && !args.is(index, "persist");
            if !is_getex && args.is(index, "nx") && options.only_if != Some(Presence::Present) {
                options.only_if = Some(Presence::Absent);
            } else if !is_getex && args.is(index, "xx") && options.only_if != Some(Presence::Absent)
            {
                options.only_if = Some(Presence::Present);
            } else if !is_getex && args.is(index, "get") {
                options.returns_old = true;
            } else if !is_getex && args.is(index, "keepttl") && !contradicts {
                options.keeps_expiry = true;
            } else if is_getex && args.is(index, "persist") && !contradicts {
                options.persists = true;
            } else if let (Some((unit, base)), Some(value), false) =
                (asked, args.get(index + 1), contradicts)
            {
                options.lifetime = Some(Lifetime { value: integer_later(value), unit, base });
                index += 1;
            } else {
                return Err(Failure::SYNTAX);
            }
            index += 1;
        }
        Ok(options)
    }
}

/// Redis reads the number only when all options are known.
fn integer_later(argument: &[u8]) -> Result<i64, ()> {
    number::parse_i64(argument).ok_or(())
}

pub(super) fn set(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    let options = SetOptions::parse(args.from(3), false)?;
    let now_ms = context.now_ms();
    let expires_ms = options.lifetime.map(|life| life.expires_ms(now_ms, "set")).transpose()?;
    let (key, value) = (args.at(1), args.at(2));
    let mut old = None;
    if options.returns_old {
        old = context.string(key)?;
    }
    if let Some(presence) = options.only_if {
        let is_there = if options.returns_old { old.is_some() } else { context.exists(key)? };
        if is_there != (presence == Presence::Present) {
            match (options.returns_old, old) {
                (true, Some(old)) => context.reply.bulk(&old.body),
                _ => context.reply.null(),
            }
            return Ok(());
        }
    }
    let expires_ms = if options.keeps_expiry {
        let database = context.session.database;
        context.unit()?.read(database, key, |row| row.expires_ms)?.flatten()
    } else {
        expires_ms
    };
    context.put(key, expires_ms, value)?;
    if options.returns_old {
        context.reply.bulk_or_null(old.as_ref().map(|old| &old.body[..]));
    } else {
        context.reply.ok();
    }
    Ok(())
}

pub(super) fn setnx(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    let is_absent = !context.exists(args.at(1))?;
    if is_absent {
        context.put(args.at(1), None, args.at(2))?;
    }
    context.reply.truth(is_absent);
    Ok(())
}

fn set_for(
    context: &mut Context<'_, '_>,
    args: Args<'_>,
    unit: expiry::TimeUnit,
    name: &str,
) -> Outcome {
    let value = Ok(integer(args.at(2))?);
    let lifetime = Lifetime { value, unit, base: expiry::Base::Now };
    let expires_ms = lifetime.expires_ms(context.now_ms(), name)?;
    context.put(args.at(1), Some(expires_ms), args.at(3))?;
    context.reply.ok();
    Ok(())
}

pub(super) fn setex(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    set_for(context, args, expiry::TimeUnit::Seconds, "setex")
}

pub(super) fn psetex(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    set_for(context, args, expiry::TimeUnit::Milliseconds, "psetex")
}

/// Counts a look at a key for INFO.
fn count_look(context: &Context<'_, '_>, is_hit: bool) {
    let stats = &context.server.stats;
    let counter = if is_hit { &stats.hits } else { &stats.misses };
    counter.fetch_add(1, Ordering::Relaxed);
}

pub(super) fn get(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    use crate::keyspace::Kind;
    let database = context.session.database;
    let unit = context.unit.as_deref_mut().ok_or(Failure::LOADING)?;
    let reply = &mut *context.reply;
    let found = unit.read(database, args.at(1), |row| {
        if row.kind != Kind::String {
            return Err(Failure::WRONG_TYPE);
        }
        reply.bulk(row.body);
        Ok(())
    })?;
    count_look(context, found.is_some());
    match found {
        Some(done) => done,
        None => {
            context.reply.null();
            Ok(())
        }
    }
}

pub(super) fn getset(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    let old = context.string(args.at(1))?;
    context.put(args.at(1), None, args.at(2))?;
    context.reply.bulk_or_null(old.as_ref().map(|old| &old.body[..]));
    Ok(())
}

pub(super) fn getdel(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    let old = context.string(args.at(1))?;
    if old.is_some() {
        context.remove(args.at(1))?;
    }
    context.reply.bulk_or_null(old.as_ref().map(|old| &old.body[..]));
    Ok(())
}

pub(super) fn getex(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    let options = SetOptions::parse(args.from(2), true)?;
    let Some(found) = context.string(args.at(1))? else {
        context.reply.null();
        return Ok(());
    };
    let now_ms = context.now_ms();
    let expires_ms = options.lifetime.map(|life| life.expires_ms(now_ms, "getex")).transpose()?;
    context.reply.bulk(&found.body);
    match expires_ms {
        Some(expires_ms) if expires_ms <= now_ms => {
            context.remove(args.at(1))?;
        }
        Some(_) => context.put(args.at(1), expires_ms, &found.body)?,
        None if options.persists && found.expires_ms.is_some() => {
            context.put(args.at(1), None, &found.body)?;
        }
        None => {}
    }
    Ok(())
}

pub(super) fn mget(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    context.reply.array(args.len() - 1);
    for key in args.from(1).iter() {
        context.check_reply()?;
        let found = match context.string(key) {
            Err(Failure::Text(_)) => None,
            found => found?,
        };
        count_look(context, found.is_some());
        context.reply.bulk_or_null(found.as_ref().map(|found| &found.body[..]));
    }
    Ok(())
}

/// Puts all pairs or, where one has a key that is refused, none.
fn put_pairs(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    for index in (1..args.len()).step_by(2) {
        Unit::check_key(args.at(index))?;
    }
    for index in (1..args.len()).step_by(2) {
        context.put(args.at(index), None, args.at(index + 1))?;
    }
    Ok(())
}

pub(super) fn mset(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    if args.len().is_multiple_of(2) {
        return Err(Failure::wrong_arity("mset"));
    }
    put_pairs(context, args)?;
    context.reply.ok();
    Ok(())
}

pub(super) fn msetnx(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    if args.len().is_multiple_of(2) {
        return Err(Failure::wrong_arity("msetnx"));
    }
    let mut is_any_there = false;
    for index in (1..args.len()).step_by(2) {
        is_any_there |= context.exists(args.at(index))?;
    }
    if !is_any_there {
        put_pairs(context, args)?;
    }
    context.reply.truth(!is_any_there);
    Ok(())
}

pub(super) fn append(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    let mut found = context.string(args.at(1))?.unwrap_or_else(absent);
    check_length(found.body.len(), args.at(2).len())?;
    found.body.extend_from_slice(args.at(2));
    context.put(args.at(1), found.expires_ms, &found.body)?;
    context.reply.count(found.body.len());
    Ok(())
}

/// What a key is taken for that is not there.
pub(super) fn absent() -> Found {
    Found { kind: crate::keyspace::Kind::String, expires_ms: None, body: Vec::new() }
}

fn check_length(start: usize, added: usize) -> Outcome {
    match start.checked_add(added) {
        Some(length) if length <= BULK_BYTES_MAX => Ok(()),
        _ => Err(Failure::TOO_LONG),
    }
}

pub(super) fn strlen(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    let found = context.string(args.at(1))?;
    context.reply.count(found.map_or(0, |found| found.body.len()));
    Ok(())
}

/// Whether a range counts from the end of a string and ends before it begins: empty then, where ends
/// before the first byte would otherwise both mean that one.
pub(super) const fn is_turned(start: i64, end: i64) -> bool {
    start < 0 && end < 0 && start > end
}

/// The bytes or bits that a range of so many means, if any.
pub(super) fn clamp_ends(start: i64, end: i64, length: usize) -> Option<(usize, usize)> {
    let total = i64::try_from(length).ok()?;
    let absolute = |index: i64| if index < 0 { index.saturating_add(total).max(0) } else { index };
    let (start, end) = (absolute(start), absolute(end).min(total - 1));
    if start > end {
        return None;
    }
    Some((usize::try_from(start).ok()?, usize::try_from(end).ok()?))
}

pub(super) fn getrange(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    let (start, end) = (integer(args.at(2))?, integer(args.at(3))?);
    let found = context.string(args.at(1))?.unwrap_or_else(absent);
    let range = if is_turned(start, end) { None } else { clamp_ends(start, end, found.body.len()) };
    context.reply.bulk(range.map_or(&[], |(start, end)| &found.body[start..=end]));
    Ok(())
}

pub(super) fn setrange(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    let offset = usize::try_from(integer(args.at(2))?)
        .map_err(|_| Failure::fixed("ERR offset is out of range"))?;
    let value = args.at(3);
    let mut found = context.string(args.at(1))?.unwrap_or_else(absent);
    if value.is_empty() {
        context.reply.count(found.body.len());
        return Ok(());
    }
    check_length(offset, value.len())?;
    let end = offset + value.len();
    if found.body.len() < end {
        found.body.resize(end, 0);
    }
    found.body[offset..end].copy_from_slice(value);
    context.put(args.at(1), found.expires_ms, &found.body)?;
    context.reply.count(found.body.len());
    Ok(())
}

fn add(context: &mut Context<'_, '_>, key: &[u8], increment: i64) -> Outcome {
    let found = context.string(key)?;
    let (value, expires_ms) = match &found {
        Some(found) => (integer(&found.body)?, found.expires_ms),
        None => (0, None),
    };
    let overflow = Failure::fixed("ERR increment or decrement would overflow");
    let sum = value.checked_add(increment).ok_or(overflow)?;
    context.put(key, expires_ms, sum.to_string().as_bytes())?;
    context.reply.integer(sum);
    Ok(())
}

pub(super) fn incr(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    add(context, args.at(1), 1)
}

pub(super) fn decr(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    add(context, args.at(1), -1)
}

pub(super) fn incrby(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    add(context, args.at(1), integer(args.at(2))?)
}

pub(super) fn decrby(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    let decrement = integer(args.at(2))?;
    let negated = decrement.checked_neg().ok_or(Failure::fixed("ERR decrement would overflow"))?;
    add(context, args.at(1), negated)
}

pub(super) fn incrbyfloat(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    use number::Float;
    let found = context.string(args.at(1))?;
    let old = match &found {
        Some(found) => number::parse_float(&found.body).ok_or(Failure::NOT_FLOAT)?,
        None => Float::Finite(0.into()),
    };
    let increment = number::parse_float(args.at(2)).ok_or(Failure::NOT_FLOAT)?;
    let (Float::Finite(old), Float::Finite(increment)) = (old, increment) else {
        return Err(Failure::fixed("ERR increment would produce NaN or Infinity"));
    };
    let sum = old + increment;
    if !number::is_long_double(&sum) {
        return Err(Failure::fixed("ERR increment would produce NaN or Infinity"));
    }
    let text = number::format_float(&sum);
    context.put(args.at(1), found.and_then(|found| found.expires_ms), text.as_bytes())?;
    context.reply.bulk(text.as_bytes());
    Ok(())
}
