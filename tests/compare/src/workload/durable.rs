//! Commits that return when they are durable: single puts of new keys by 1 to 64 threads, transactions of 1000, and
//! beside them the disk's own rate of synced overwrites.

use anyhow::Result;

use super::load::{BATCH_PAIRS, load};
use super::verify::verify;
use super::{Context, VALUE_BYTES, ycsb};
use crate::engine::{Engine, Session, Setup};
use crate::input::{Values, key};
use crate::measure::{Measured, run as run_threads};
use crate::outcome::Row;
use crate::yardstick::Yardstick;

/// Pairs that are there before, at scale 1.
const COUNT: u64 = 200_000;
const COUNT_MIN: u64 = 20_000;
/// Threads of the workloads, and how each is called.
const THREADS: [(&str, usize); 4] = [("put-1", 1), ("put-4", 4), ("put-16", 16), ("put-64", 64)];
/// How far apart the numbers of new keys are from workload to workload.
const WORKLOAD_NUMBERS: u64 = 1 << 50;
/// How far apart they are from thread to thread.
pub(super) const THREAD_NUMBERS: u64 = 1 << 40;
/// Seconds of bare overwrites before, and as many after.
const YARDSTICK_SECONDS: f64 = 2.0;

pub(super) fn run<E: Engine>(context: &Context) -> Result<()> {
    let count = context.count(COUNT, COUNT_MIN);
    let values = Values::new(VALUE_BYTES);
    let setup = Context::setup(true);
    load::<E>(context, &setup, &values, count, BATCH_PAIRS, "durable-load")?;

    let mut written = 0;
    for (first, (workload, threads)) in (1..).zip(THREADS) {
        // The disk by itself, before and after: its rate changes from minute to minute.
        let before = overwrites(context)?;
        let engine = E::open(context.dir(), &Setup { writers: threads, ..setup })?;
        let puts = puts(context, &engine, &values, threads, first * WORKLOAD_NUMBERS)?;
        engine.close()?;
        let disk = f64::midpoint(before, overwrites(context)?);
        context.emit(&puts.row(workload).beside("disk", disk))?;
        if threads == 1 {
            context.emit(&Row::new("disk-overwrites", disk))?;
            context.emit(&Row::new("put-1-of-disk", puts.rate() / disk))?;
        }
        written += puts.operations;
    }
    let engine = E::open(context.dir(), &setup)?;
    let batches = batches(context, &engine, &values)?;
    context.emit(&batches.row("put-batches"))?;
    written += batches.pairs;
    verify(&engine, &values, count + written)?;
    engine.close()?;
    ycsb::run_durable::<E>(context, count, count + written)
}

fn overwrites(context: &Context) -> Result<f64> {
    // Beside the database's folder, since some engines do not like files of others in it.
    let beside = context.dir().parent().unwrap_or(context.dir());
    Yardstick::for_overwrites(beside)?.overwrites(context.duration(YARDSTICK_SECONDS) / 2)
}

/// Single puts of new keys.
pub(super) fn puts<E: Engine>(
    context: &Context,
    engine: &E,
    values: &Values,
    threads: usize,
    first: u64,
) -> Result<Measured> {
    let spec = context.timed(threads, 10.0, 4);
    let measured = run_threads(engine, &spec, |session, worker| {
        worker.buffer.resize(values.bytes(), 0);
        let number = first + worker.thread * THREAD_NUMBERS + worker.step;
        values.fill(number, 0, &mut worker.buffer);
        session.put(&key(number), &worker.buffer)?;
        Ok(1)
    })?;
    Ok(Measured::sum(&measured))
}

/// Transactions of new keys.
fn batches<E: Engine>(context: &Context, engine: &E, values: &Values) -> Result<Measured> {
    let measured = run_threads(engine, &context.timed(1, 10.0, 5), |session, worker| {
        let first = 7 * WORKLOAD_NUMBERS + worker.step * BATCH_PAIRS;
        let buffer = &mut worker.buffer;
        buffer.resize(values.bytes(), 0);
        session.transaction(&mut |writer| {
            (first..first + BATCH_PAIRS).try_for_each(|number| {
                values.fill(number, 0, buffer);
                writer.put(&key(number), buffer)
            })
        })?;
        Ok(BATCH_PAIRS)
    })?;
    Ok(Measured::sum(&measured))
}
