//! The workloads. A session is what one process does with one engine in one fresh folder: it loads once and then
//! measures several workloads on what it has loaded. Every session verifies all that is there at its end.

mod big;
mod confined;
mod durable;
mod large_values;
mod load;
mod memory;
pub(crate) mod recovery;
mod steady;
#[cfg(test)]
mod tests;
mod verify;
mod ycsb;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;

use crate::disk::peak_memory_bytes;
use crate::engine::{Engine, Setup};
use crate::measure::Spec;
use crate::outcome::Row;

/// The cache of every engine that has one.
pub(crate) const CACHE_BYTES: u64 = 256 << 20;
/// The shortest cache that a scaled session uses.
const CACHE_BYTES_MIN: u64 = 32 << 20;
/// Length of the values of most workloads.
pub(crate) const VALUE_BYTES: usize = 150;

/// What one process measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Session {
    /// A load in one transaction; reads, ranges, scans, reads during writes, deletes, in memory.
    Memory,
    /// A load in batches; YCSB A to F, relaxed, in memory.
    Ycsb,
    /// Durable single puts and batches, YCSB durable.
    Durable,
    /// Values of 1 KiB: load, reads, ranges, durable puts.
    Kilobyte,
    /// A load of 5 million pairs in one transaction, more than the cache holds.
    BigOne,
    /// The same in batches, and what it writes to the disk.
    BigBatches,
    /// Values of 4 KiB, 64 KiB and 2 MiB.
    LargeValues,
    /// Data four times the cache, memory bounded: random reads, random updates.
    Confined,
    /// A minute of durable puts, and how even they are.
    Steady,
    /// Opening after SIGKILL.
    Recovery,
}

impl Session {
    /// How long a run may take before it is killed, at scale 1.
    pub(crate) const fn time_max(self) -> Duration {
        let minutes = match self {
            Self::BigOne | Self::BigBatches | Self::Confined => 15,
            Self::Memory | Self::Ycsb | Self::Durable | Self::Steady | Self::Recovery => 8,
            Self::Kilobyte | Self::LargeValues => 5,
        };
        Duration::from_secs(60 * minutes)
    }

    pub(crate) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// Where and how much a session measures.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    /// A folder of the run's own, empty.
    pub(crate) dir: PathBuf,
    /// 1 for the full sizes.
    pub(crate) scale: f64,
    pub(crate) repetition: u32,
    /// The shortest time that a workload takes, whatever the scale.
    pub(crate) time_min: Duration,
}

/// What [`Context::time_min`] is but in tests.
pub(crate) const TIME_MIN: Duration = Duration::from_secs(1);

impl Context {
    /// So many of something at scale 1, `least` at least.
    fn count(&self, at_full_scale: u64, least: u64) -> u64 {
        ((at_full_scale as f64 * self.scale) as u64).max(least)
    }

    /// So long at scale 1.
    fn duration(&self, seconds_at_full_scale: f64) -> Duration {
        Duration::from_secs_f64(seconds_at_full_scale * self.scale).max(self.time_min)
    }

    /// A cache that keeps its ratio to data that is larger.
    fn scaled_cache_bytes(&self) -> u64 {
        self.count(CACHE_BYTES, CACHE_BYTES_MIN).min(CACHE_BYTES.max(CACHE_BYTES_MIN))
    }

    /// Setup of most sessions.
    const fn setup(is_durable: bool) -> Setup {
        Setup { cache_bytes: CACHE_BYTES, is_durable, writers: 1, value_bytes: VALUE_BYTES }
    }

    /// The same in every repetition would only repeat the order; the input stays the same.
    fn seed(&self, workload: u64) -> u64 {
        u64::from(self.repetition) << 8 | workload
    }

    /// An operation that takes long enough to time each time.
    fn timed(&self, threads: usize, seconds: f64, workload: u64) -> Spec {
        let (duration, seed) = (self.duration(seconds), self.seed(workload));
        Spec { threads, duration, timed_every: 1, seed }
    }

    /// Tells the parent of a row.
    fn emit(&self, row: &Row) -> Result<()> {
        let mut out = std::io::stdout().lock();
        serde_json::to_writer(&mut out, row)?;
        writeln!(out)?;
        Ok(out.flush()?)
    }

    fn dir(&self) -> &Path {
        &self.dir
    }
}

/// Runs a session on an engine. Rows go to standard output as they are measured.
pub(crate) fn run<E: Engine>(session: Session, context: &Context) -> Result<()> {
    match session {
        Session::Memory => memory::run::<E>(context),
        Session::Ycsb => ycsb::run_relaxed::<E>(context),
        Session::Durable => durable::run::<E>(context),
        Session::Kilobyte => memory::run_kilobyte::<E>(context),
        Session::BigOne => big::run_one::<E>(context),
        Session::BigBatches => big::run_batches::<E>(context),
        Session::LargeValues => large_values::run::<E>(context),
        Session::Confined => confined::run::<E>(context),
        Session::Steady => steady::run::<E>(context),
        Session::Recovery => recovery::run::<E>(context),
    }?;
    if let Some(bytes) = peak_memory_bytes() {
        context.emit(&Row::new(format!("{}-memory", session.name()), bytes as f64))?;
    }
    Ok(())
}
