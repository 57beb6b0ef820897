//! Loading pairs in the order of their numbers, which is random for their keys; and what that takes on disk.

use std::time::Instant;

use anyhow::Result;

use super::Context;
use crate::disk::{Written, allocated_bytes};
use crate::engine::{Engine, Session, Setup};
use crate::input::{KEY_BYTES, Values, key};
use crate::measure::with_relaxed_syncs;
use crate::outcome::Row;

/// Pairs of a transaction where a load comes in batches.
pub(super) const BATCH_PAIRS: u64 = 1000;

/// Opens an empty database, relaxed, loads the numbers below `count` in transactions of `batch`, and closes it. The time
/// is that until everything is synced; what the engine puts off until it is closed counts as written, not as time.
pub(super) fn load<E: Engine>(
    context: &Context,
    setup: &Setup,
    values: &Values,
    count: u64,
    batch: u64,
    workload: &str,
) -> Result<()> {
    let setup = Setup { is_durable: false, writers: 1, ..*setup };
    let before = Written::count(context.dir())?;
    let engine = E::open(context.dir(), &setup)?;
    let started = Instant::now();
    with_relaxed_syncs(&engine, || insert(&engine, values, 0..count, batch))?;
    engine.sync()?;
    let rate = count as f64 / started.elapsed().as_secs_f64();
    engine.settle()?;
    engine.close()?;
    let user_bytes = (count * (KEY_BYTES + values.bytes()) as u64) as f64;
    let mut row = Row::new(workload, rate)
        .beside("disk_per_byte", allocated_bytes(context.dir())? as f64 / user_bytes);
    if let Some(written) = Written::count(context.dir())?.since(&before) {
        row = row.beside("written_per_byte", written as f64 / user_bytes);
    }
    context.emit(&row)
}

/// Inserts the pairs of these numbers in transactions of `batch`.
pub(super) fn insert<E: Engine>(
    engine: &E,
    values: &Values,
    numbers: std::ops::Range<u64>,
    batch: u64,
) -> Result<()> {
    let mut session = engine.session()?;
    let mut value = values.buffer();
    let mut first = numbers.start;
    while first < numbers.end {
        let end = numbers.end.min(first.saturating_add(batch));
        session.transaction(&mut |writer| {
            (first..end).try_for_each(|number| {
                values.fill(number, 0, &mut value);
                writer.put(&key(number), &value)
            })
        })?;
        first = end;
    }
    Ok(())
}
