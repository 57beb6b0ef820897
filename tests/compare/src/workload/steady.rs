//! A minute of durable puts by eight threads, long enough for every engine's checkpoints, flushes and compactions: how much
//! of a stop do they make?

use anyhow::{Result, ensure};

use super::load::{BATCH_PAIRS, load};
use super::verify::verify;
use super::{Context, VALUE_BYTES};
use crate::disk::Written;
use crate::engine::{Engine, Session, Setup};
use crate::input::{KEY_BYTES, Values, key};
use crate::measure::{Measured, run as run_threads};
use crate::outcome::Row;

/// Pairs that are overwritten, at scale 1.
const COUNT: u64 = 800_000;
const COUNT_MIN: u64 = 20_000;
const THREADS: usize = 8;

pub(super) fn run<E: Engine>(context: &Context) -> Result<()> {
    let count = context.count(COUNT, COUNT_MIN);
    let values = Values::new(VALUE_BYTES);
    let setup = Setup { writers: THREADS, ..Context::setup(true) };
    load::<E>(context, &setup, &values, count, BATCH_PAIRS, "steady-load")?;
    let engine = E::open(context.dir(), &setup)?;
    let before = Written::count(context.dir())?;
    let mut spec = context.timed(THREADS, 60.0, 11);
    // Less would have no whole seconds to compare.
    spec.duration = spec.duration.max(std::time::Duration::from_secs(4));
    let measured = run_threads(&engine, &spec, |session, worker| {
        worker.buffer.resize(values.bytes(), 0);
        let number = worker.stream.below(count);
        values.fill(number, worker.stream.next(), &mut worker.buffer);
        session.put(&key(number), &worker.buffer)?;
        Ok(1)
    })?;
    let measured = Measured::sum(&measured);
    verify(&engine, &values, count)?;
    engine.close()?;

    let seconds = measured.seconds();
    let mut sorted = seconds.clone();
    sorted.sort_by(f64::total_cmp);
    ensure!(!sorted.is_empty(), "the run was shorter than a second");
    let (worst, median) = (sorted[0], sorted[sorted.len() / 2]);
    let mut row = measured.row("steady");
    row.seconds = seconds;
    context.emit(&row.beside("median_second", median).beside("worst_second", worst))?;
    context.emit(&Row::new("steady-evenness", worst / median))?;
    context.emit(&Row::new("steady-slowest", measured.latency().max))?;
    if let Some(written) = Written::count(context.dir())?.since(&before) {
        let user_bytes = measured.operations * (KEY_BYTES + values.bytes()) as u64;
        context.emit(&Row::new("steady-written", written as f64 / user_bytes as f64))?;
    }
    Ok(())
}
