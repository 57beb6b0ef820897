//! Data four times the cache, in a process whose memory is bounded, page cache included, so that the file system's cache does
//! not stand in for the engine's.

use std::time::Instant;

use anyhow::Result;

use super::load::{BATCH_PAIRS, load};
use super::verify::{get, verify};
use super::{Context, VALUE_BYTES};
use crate::confine::confine;
use crate::engine::{Engine, Session, Setup};
use crate::input::{KEY_BYTES, Values, key};
use crate::measure::{Measured, run as run_threads, with_relaxed_syncs};
use crate::outcome::Row;
use crate::yardstick::Yardstick;

/// Bytes of keys and values for a byte of cache.
const DATA_PER_CACHE: u64 = 4;
/// Memory beside twice the cache: the program, its input, what engines keep beside their caches.
const BESIDE_BYTES: u64 = 128 << 20;
/// A shorter cache would have the bound hold all of the data.
const CACHE_BYTES_MIN: u64 = 96 << 20;
const READERS: [(&str, usize); 2] = [("confined-get-2", 2), ("confined-get-16", 16)];

pub(super) fn run<E: Engine>(context: &Context) -> Result<()> {
    let cache_bytes = context.scaled_cache_bytes().max(CACHE_BYTES_MIN);
    let bound = 2 * cache_bytes + BESIDE_BYTES;
    let confined = confine(bound);
    if let Err(error) = &confined {
        eprintln!("memory is not bounded: {error:#}");
    }
    let bound = if confined.is_ok() { bound as f64 } else { 0.0 };

    let values = Values::new(VALUE_BYTES);
    let data_bytes = cache_bytes * DATA_PER_CACHE;
    let count = data_bytes / (KEY_BYTES + VALUE_BYTES) as u64;
    let setup = Setup { cache_bytes, ..Context::setup(false) };
    load::<E>(context, &setup, &values, count, BATCH_PAIRS, "confined-load")?;

    for (workload, threads) in READERS {
        let beside = context.dir().parent().unwrap_or(context.dir());
        let disk = Yardstick::for_reads(beside, data_bytes)?
            .reads(threads as u64, context.duration(2.0))?;
        let engine = E::open(context.dir(), &setup)?;
        let measured =
            run_threads(&engine, &context.timed(threads, 10.0, 9), |session, worker| {
                get(session, &values, worker.stream.below(count))
            })?;
        let row = Measured::sum(&measured).row(workload).beside("bound", bound);
        context.emit(&Row::new(format!("{workload}-of-disk"), row.figure / disk))?;
        context.emit(&row.beside("disk", disk))?;
        engine.close()?;
    }
    let engine = E::open(context.dir(), &setup)?;
    updates(context, &engine, &values, count)?;
    verify(&engine, &values, count)?;
    engine.close()
}

/// Overwrites of random keys in relaxed transactions, until all of it is synced.
fn updates<E: Engine>(context: &Context, engine: &E, values: &Values, count: u64) -> Result<()> {
    let started = Instant::now();
    let measured = with_relaxed_syncs(engine, || {
        run_threads(engine, &context.timed(1, 15.0, 10), |session, worker| {
            let (stream, buffer) = (&mut worker.stream, &mut worker.buffer);
            buffer.resize(values.bytes(), 0);
            session.transaction(&mut |writer| {
                (0..BATCH_PAIRS).try_for_each(|_| {
                    let number = stream.below(count);
                    values.fill(number, stream.next(), buffer);
                    writer.put(&key(number), buffer)
                })
            })?;
            Ok(BATCH_PAIRS)
        })
    })?;
    engine.sync()?;
    let rate = measured[0].pairs as f64 / started.elapsed().as_secs_f64();
    context.emit(&Row::new("confined-update", rate))
}
