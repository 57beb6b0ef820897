//! Reads of data that lies in memory: after a load in one transaction point reads, ranges, scans, reads while another
//! thread writes; at last half of it is deleted in one transaction.

use std::time::Instant;

use anyhow::{Result, ensure};

use super::load::{BATCH_PAIRS, insert, load};
use super::verify::{ScanCheck, get, highest, verify};
use super::{Context, VALUE_BYTES};
use crate::engine::{Engine, Session, Setup};
use crate::input::{Values, key};
use crate::measure::{Measured, Spec, run as run_threads, with_relaxed_syncs};
use crate::outcome::Row;

/// Pairs at scale 1: 139 MB of keys and values, which every engine's cache of 256 MiB holds.
const COUNT: u64 = 800_000;
const COUNT_KILOBYTE: u64 = 150_000;
const COUNT_MIN: u64 = 20_000;
/// Pairs of a range.
const RANGE_PAIRS: u64 = 100;
/// Updates of a transaction while others read.
const UPDATES: u64 = 100;
/// Reads between two looks at the clock.
const READS_TIMED_EVERY: u64 = 64;

pub(super) fn run<E: Engine>(context: &Context) -> Result<()> {
    let count = context.count(COUNT, COUNT_MIN);
    let values = Values::new(VALUE_BYTES);
    let setup = Context::setup(false);
    load::<E>(context, &setup, &values, count, u64::MAX, "load-one")?;
    let engine = E::open(context.dir(), &setup)?;
    scans(context, &engine, &values, count)?;
    gets(context, &engine, &values, count, &[("get-1", 1), ("get-2", 2)])?;
    ranges(context, &engine, &values, count, "range-100")?;
    reads_during_writes(context, &engine, &values, count)?;
    verify(&engine, &values, count)?;
    delete_half(context, &engine, &values, count)?;
    engine.close()
}

pub(super) fn run_kilobyte<E: Engine>(context: &Context) -> Result<()> {
    let count = context.count(COUNT_KILOBYTE, COUNT_MIN);
    let values = Values::new(1024);
    let setup = Setup { value_bytes: values.bytes(), ..Context::setup(false) };
    load::<E>(context, &setup, &values, count, BATCH_PAIRS, "kilobyte-load")?;
    let engine = E::open(context.dir(), &setup)?;
    engine.session()?.scan(&[], u64::MAX, |_, _| ())?;
    gets(context, &engine, &values, count, &[("kilobyte-get", 1)])?;
    ranges(context, &engine, &values, count, "kilobyte-range-100")?;
    engine.close()?;

    let engine = E::open(context.dir(), &Setup { is_durable: true, ..setup })?;
    let puts = super::durable::puts(context, &engine, &values, 1, 1 << 40)?;
    context.emit(&puts.row("kilobyte-put-1"))?;
    verify(&engine, &values, count + puts.operations)?;
    engine.close()
}

/// Full scans; the first one, which is not timed, reads everything into memory.
fn scans<E: Engine>(context: &Context, engine: &E, values: &Values, count: u64) -> Result<()> {
    let expected = (0..count).fold(0_u64, |sum, n| sum.wrapping_add(Values::head(n, 0)));
    let mut session = engine.session()?;
    let mut scan = || -> Result<u64> {
        let mut check = ScanCheck::new(values);
        let found = session.scan(&[], u64::MAX, |key, value| check.visit(key, value))?;
        check.finish(found, count, u64::MAX)?;
        ensure!(check.sum == expected, "a scan gave other values than were loaded");
        Ok(found)
    };
    scan()?;
    let (duration, started) = (context.duration(5.0), Instant::now());
    let mut pairs = 0;
    while started.elapsed() < duration {
        pairs += scan()?;
    }
    context.emit(&Row::new("scan", pairs as f64 / started.elapsed().as_secs_f64()))
}

fn gets<E: Engine>(
    context: &Context,
    engine: &E,
    values: &Values,
    count: u64,
    rows: &[(&str, usize)],
) -> Result<()> {
    for &(workload, threads) in rows {
        let spec = Spec { timed_every: READS_TIMED_EVERY, ..context.timed(threads, 10.0, 1) };
        let measured = run_threads(engine, &spec, |session, worker| {
            get(session, values, worker.stream.below(count))
        })?;
        context.emit(&Measured::sum(&measured).row(workload))?;
    }
    Ok(())
}

fn ranges<E: Engine>(
    context: &Context,
    engine: &E,
    values: &Values,
    count: u64,
    workload: &str,
) -> Result<()> {
    let highest = highest(count);
    let spec = Spec { timed_every: 8, ..context.timed(1, 5.0, 2) };
    let measured = run_threads(engine, &spec, |session, worker| {
        let mut check = ScanCheck::new(values);
        let from = key(worker.stream.below(count));
        let found = session.scan(&from, RANGE_PAIRS, |key, value| check.visit(key, value))?;
        check.finish(found, RANGE_PAIRS, highest)
    })?;
    context.emit(&Measured::sum(&measured).row(workload))
}

/// One thread reads, another one overwrites random keys in relaxed transactions.
fn reads_during_writes<E: Engine>(
    context: &Context,
    engine: &E,
    values: &Values,
    count: u64,
) -> Result<()> {
    let spec = context.timed(2, 5.0, 3);
    let measured = with_relaxed_syncs(engine, || {
        run_threads(engine, &spec, |session, worker| {
            if worker.thread == 0 {
                for _ in 0..READS_TIMED_EVERY {
                    get(session, values, worker.stream.below(count))?;
                }
                return Ok(READS_TIMED_EVERY);
            }
            let (stream, buffer) = (&mut worker.stream, &mut worker.buffer);
            buffer.resize(values.bytes(), 0);
            session.transaction(&mut |writer| {
                (0..UPDATES).try_for_each(|_| {
                    let number = stream.below(count);
                    values.fill(number, stream.next(), buffer);
                    writer.put(&key(number), buffer)
                })
            })?;
            Ok(UPDATES)
        })
    })?;
    engine.sync()?;
    let writes = measured[1].rate();
    context.emit(&Row::new("get-during-writes", measured[0].rate()).beside("writes", writes))?;
    context.emit(&Row::new("writes-during-get", writes))
}

/// Deletes every other key in one transaction.
fn delete_half<E: Engine>(
    context: &Context,
    engine: &E,
    values: &Values,
    count: u64,
) -> Result<()> {
    let started = Instant::now();
    with_relaxed_syncs(engine, || {
        engine.session()?.transaction(&mut |writer| {
            (0..count).step_by(2).try_for_each(|number| writer.delete(&key(number)))
        })
    })?;
    engine.sync()?;
    let deleted = count.div_ceil(2);
    let rate = deleted as f64 / started.elapsed().as_secs_f64();
    verify(engine, values, count - deleted)?;
    let mut session = engine.session()?;
    for number in (0..count).step_by(2).take(1000) {
        ensure!(session.get(&key(number), |_| ())?.is_none(), "a deleted key is there");
        get(&mut session, values, number + 1)?;
    }
    context.emit(&Row::new("delete-half", rate))?;
    // What is deleted can be written again.
    insert(engine, values, 0..1, 1)?;
    verify(engine, values, count - deleted + 1)
}
