//! Loads of 5 million pairs in random order, more than three times the cache.

use anyhow::Result;

use super::load::{BATCH_PAIRS, load};
use super::verify::verify;
use super::{Context, VALUE_BYTES};
use crate::engine::{Engine, Setup};
use crate::input::Values;

/// Pairs at scale 1.
const COUNT: u64 = 5_000_000;
const COUNT_MIN: u64 = 100_000;

pub(super) fn run_one<E: Engine>(context: &Context) -> Result<()> {
    run::<E>(context, u64::MAX, "big-load-one")
}

pub(super) fn run_batches<E: Engine>(context: &Context) -> Result<()> {
    run::<E>(context, BATCH_PAIRS, "big-load-batches")
}

fn run<E: Engine>(context: &Context, batch: u64, workload: &str) -> Result<()> {
    let count = context.count(COUNT, COUNT_MIN);
    let values = Values::new(VALUE_BYTES);
    let setup = Setup { cache_bytes: context.scaled_cache_bytes(), ..Context::setup(false) };
    load::<E>(context, &setup, &values, count, batch, workload)?;
    let engine = E::open(context.dir(), &setup)?;
    verify(&engine, &values, count)?;
    engine.close()
}
