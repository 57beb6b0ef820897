//! Keys of any type.

use super::{Args, Context, Failure, Outcome, integer, number};
use crate::keyspace::Row;
use crate::limits::DATABASES;

/// A database's number.
pub(super) fn database(argument: &[u8]) -> Outcome<usize> {
    let number = number::parse_i64(argument).ok_or(Failure::NOT_INTEGER)?;
    let number = i32::try_from(number).map_err(|_| Failure::NOT_32_BITS)?;
    let number = usize::try_from(number).ok().filter(|&number| number < DATABASES);
    number.ok_or(Failure::DB_RANGE)
}

pub(super) fn del(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    let mut count = 0;
    for key in args.from(1).iter() {
        count += usize::from(context.remove(key)?);
    }
    context.reply.count(count);
    Ok(())
}

/// EXISTS and TOUCH: how many of the keys are there; a key named twice counts twice.
pub(super) fn exists(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    let mut count = 0;
    for key in args.from(1).iter() {
        count += usize::from(context.exists(key)?);
    }
    context.reply.count(count);
    Ok(())
}

pub(super) fn type_of(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    let database = context.session.database;
    let kind = context.unit()?.read(database, args.at(1), |row| row.kind)?;
    context.reply.simple(kind.map_or("none", crate::keyspace::Kind::name));
    Ok(())
}

/// Puts what is under one key under another, of any database. Returns whether it did.
fn copy_row(
    context: &mut Context<'_, '_>,
    (from, key): (usize, &[u8]),
    (to, target): (usize, &[u8]),
    replaces: bool,
) -> Outcome<bool> {
    let unit = context.unit()?;
    let Some(found) = unit.find(from, key)? else { return Ok(false) };
    if !replaces && unit.exists(to, target)? {
        return Ok(false);
    }
    let row = Row { kind: found.kind, expires_ms: found.expires_ms, body: &found.body };
    unit.put(to, target, &row)?;
    Ok(true)
}

fn rename_to(context: &mut Context<'_, '_>, args: Args<'_>, replaces: bool) -> Outcome<bool> {
    let (key, target) = (args.at(1), args.at(2));
    if !context.exists(key)? {
        return Err(Failure::NO_SUCH_KEY);
    }
    if key == target {
        return Ok(replaces);
    }
    let database = context.session.database;
    let is_done = copy_row(context, (database, key), (database, target), replaces)?;
    if is_done {
        context.remove(key)?;
    }
    Ok(is_done)
}

pub(super) fn rename(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    rename_to(context, args, true)?;
    context.reply.ok();
    Ok(())
}

pub(super) fn renamenx(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    let is_done = rename_to(context, args, false)?;
    context.reply.truth(is_done);
    Ok(())
}

pub(super) fn copy(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    let from = context.session.database;
    let (mut to, mut replaces, mut index) = (from, false, 3);
    while index < args.len() {
        if args.is(index, "replace") {
            replaces = true;
        } else if args.is(index, "db") && index + 1 < args.len() {
            index += 1;
            to = database(args.at(index))?;
        } else {
            return Err(Failure::SYNTAX);
        }
        index += 1;
    }
    if from == to && args.at(1) == args.at(2) {
        return Err(Failure::fixed("ERR source and destination objects are the same"));
    }
    let is_done = copy_row(context, (from, args.at(1)), (to, args.at(2)), replaces)?;
    context.reply.truth(is_done);
    Ok(())
}

pub(super) fn move_to(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    let (from, to) = (context.session.database, database(args.at(2))?);
    if from == to {
        return Err(Failure::fixed("ERR source and destination objects are the same"));
    }
    let key = args.at(1);
    let is_done = copy_row(context, (from, key), (to, key), false)?;
    if is_done {
        context.remove(key)?;
    }
    context.reply.truth(is_done);
    Ok(())
}

pub(super) fn swapdb(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    let parse = |index: usize, which: &str| {
        let number =
            number::parse_i64(args.at(index)).and_then(|number| i32::try_from(number).ok());
        number.ok_or_else(|| Failure::new(format!("ERR invalid {which} DB index")))
    };
    let (one, other) = (parse(1, "first")?, parse(2, "second")?);
    let within = |number| {
        usize::try_from(number).ok().filter(|&number| number < DATABASES).ok_or(Failure::DB_RANGE)
    };
    let (one, other) = (within(one)?, within(other)?);
    if one != other {
        context.unit()?.swap(one, other)?;
    }
    context.reply.ok();
    Ok(())
}

/// Whether FLUSHDB or FLUSHALL is asked for in a way that there is: at once either way.
fn check_flush(args: Args<'_>) -> Outcome {
    match args.len() {
        1 => Ok(()),
        2 if args.is(1, "async") || args.is(1, "sync") => Ok(()),
        _ => Err(Failure::SYNTAX),
    }
}

pub(super) fn flushdb(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    check_flush(args)?;
    let database = context.session.database;
    context.unit()?.flush([database])?;
    context.reply.ok();
    Ok(())
}

pub(super) fn flushall(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    check_flush(args)?;
    context.unit()?.flush(0..DATABASES)?;
    context.reply.ok();
    Ok(())
}

pub(super) fn dbsize(context: &mut Context<'_, '_>, _args: Args<'_>) -> Outcome {
    let database = context.session.database;
    let count = context.unit()?.key_count(database)?;
    context.reply.integer(i64::try_from(count).unwrap_or(i64::MAX));
    Ok(())
}

/// The string's representation in Redis that tools expect to hear of.
fn encoding(body: &[u8]) -> &'static [u8] {
    /// Longest string that Redis keeps in one piece with its head.
    const EMBEDDED_MAX: usize = 44;
    match body {
        _ if number::parse_i64(body).is_some() => b"int",
        _ if body.len() <= EMBEDDED_MAX => b"embstr",
        _ => b"raw",
    }
}

fn find(context: &mut Context<'_, '_>, key: &[u8]) -> Outcome<Option<crate::keyspace::Found>> {
    let database = context.session.database;
    context.unit()?.find(database, key)
}

pub(super) fn object_encoding(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    let found = find(context, args.at(2))?;
    context.reply.bulk_or_null(found.as_ref().map(|found| encoding(&found.body)));
    Ok(())
}

pub(super) fn object_refcount(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    match find(context, args.at(2))? {
        Some(_) => context.reply.integer(1),
        None => context.reply.null(),
    }
    Ok(())
}

/// Nothing is evicted, so nobody notes when a key was used.
pub(super) fn object_idletime(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    match find(context, args.at(2))? {
        Some(_) => context.reply.integer(0),
        None => context.reply.null(),
    }
    Ok(())
}

pub(super) fn object_freq(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    if find(context, args.at(2))?.is_none() {
        context.reply.null();
        return Ok(());
    }
    Err(Failure::fixed(
        "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.",
    ))
}

pub(super) fn memory_usage(context: &mut Context<'_, '_>, args: Args<'_>) -> Outcome {
    match args.len() {
        3 => {}
        5 if args.is(3, "samples") => {
            integer(args.at(4))?;
        }
        _ => return Err(Failure::SYNTAX),
    }
    match find(context, args.at(2))? {
        // What it takes on its page: header, key and value.
        Some(found) => context.reply.count(found.body.len() + args.at(2).len() + 16),
        None => context.reply.null(),
    }
    Ok(())
}
