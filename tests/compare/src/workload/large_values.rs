//! Values of 4 KiB to 2 MiB: written one by one, relaxed, and read in random order. Every byte that is read is compared,
//! because a slice of a map that nobody looks at has not been read.

use std::time::Instant;

use anyhow::{Result, ensure};

use super::Context;
use super::verify::verify;
use crate::engine::{Engine, Session, Setup};
use crate::input::{Values, key};
use crate::measure::{Measured, Spec, run as run_threads, with_relaxed_syncs};
use crate::outcome::Row;

/// Bytes of each length that are written, at scale 1.
const BYTES: u64 = 512 << 20;
const SIZES: [(&str, usize); 3] = [("4k", 4 << 10), ("64k", 64 << 10), ("2m", 2 << 20)];
/// Values of a length at least.
const VALUES_MIN: u64 = 8;

pub(super) fn run<E: Engine>(context: &Context) -> Result<()> {
    for (name, bytes) in SIZES {
        let context = Context { dir: context.dir().join(name), ..context.clone() };
        std::fs::create_dir(context.dir())?;
        run_size::<E>(&context, name, bytes)?;
        std::fs::remove_dir_all(context.dir())?;
    }
    Ok(())
}

/// Rates are in bytes a second.
fn run_size<E: Engine>(context: &Context, name: &str, bytes: usize) -> Result<()> {
    let count = context.count(BYTES / bytes as u64, VALUES_MIN);
    let values = Values::new(bytes);
    let setup = Setup { value_bytes: bytes, ..Context::setup(false) };
    let engine = E::open(context.dir(), &setup)?;
    let started = Instant::now();
    with_relaxed_syncs(&engine, || {
        let mut session = engine.session()?;
        let mut value = values.buffer();
        (0..count).try_for_each(|number| {
            values.fill(number, 0, &mut value);
            session.put(&key(number), &value)
        })
    })?;
    engine.sync()?;
    let rate = (count * bytes as u64) as f64 / started.elapsed().as_secs_f64();
    context.emit(&Row::new(format!("large-put-{name}"), rate))?;

    verify(&engine, &values, count)?;
    let spec = Spec { timed_every: 1, ..context.timed(1, 3.0, 8) };
    let measured = run_threads(&engine, &spec, |session, worker| {
        let number = worker.stream.below(count);
        let key = key(number);
        let head = session.get(&key, |value| values.check_whole(&key, value))?;
        ensure!(
            head == Some(Some(Values::head(number, 0))),
            "a large value is not what was written"
        );
        Ok(bytes as u64)
    })?;
    context.emit(&Measured::sum(&measured).row(format!("large-get-{name}")))?;
    engine.close()
}
