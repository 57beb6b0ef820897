//! Latencies of durable commits at full speed, and how steady their rate is: with checkpoints one
//! after another, and without others than the engine's own.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use clap::builder::RangedU64ValueParser;
use seawall::{Database, Durability, Tree};
use seawall_wal::codec::to_usize;

use super::committers::{Commits, Stop, join};
use super::latencies::Latencies;
use super::loaded::{VALUE_BYTES, load};
use super::setup::Setup;
use super::table::{Table, median, per_second, ratio, time};
use super::{print, progress};
use crate::failure::Outcome;

/// Commits are counted in slots of this length.
const SLOT: Duration = Duration::from_millis(100);
/// Slots of a second.
const SLOTS_PER_SECOND: usize = 10;

/// Options of the measurement.
#[derive(Args, Debug)]
pub struct Latency {
    #[command(flatten)]
    setup: Setup,
    /// Length of each run
    #[arg(long, value_name = "N", default_value_t = 60,
          value_parser = RangedU64ValueParser::<u64>::new().range(2..=3600))]
    seconds: u64,
    /// Threads that commit: a run without checkpoints and one with them for each number
    #[arg(long, value_name = "N", value_delimiter = ',', default_values_t = [1, 16],
          value_parser = RangedU64ValueParser::<u64>::new().range(1..=256))]
    threads: Vec<u64>,
    /// Pairs in the database
    #[arg(long, value_name = "N", default_value_t = 500_000,
          value_parser = RangedU64ValueParser::<u64>::new().range(1..=1 << 30))]
    pairs: u64,
}

/// What a thread notes.
#[derive(Debug)]
struct Notes {
    latencies: Latencies,
    /// Commits by the slot in which they returned.
    slots: Vec<u64>,
    started: Instant,
}

impl Notes {
    fn new(started: Instant) -> Self {
        Self { latencies: Latencies::new(), slots: Vec::new(), started }
    }

    fn time(&mut self, commit: &mut dyn FnMut() -> seawall::Result<()>) -> seawall::Result<()> {
        self.latencies.time(commit)?;
        let slot = to_usize(ratio_floor(self.started.elapsed(), SLOT));
        if self.slots.len() <= slot {
            self.slots.resize(slot + 1, 0);
        }
        self.slots[slot] += 1;
        Ok(())
    }

    fn add(&mut self, other: &Self) {
        self.latencies.add(&other.latencies);
        self.slots.resize(self.slots.len().max(other.slots.len()), 0);
        self.slots.iter_mut().zip(&other.slots).for_each(|(sum, count)| *sum += count);
    }
}

/// How often `of` fits into a duration.
fn ratio_floor(duration: Duration, of: Duration) -> u64 {
    u64::try_from(duration.as_nanos() / of.as_nanos()).unwrap_or(u64::MAX)
}

/// The worst second, wherever it begins, and the median second: commits in each. Only of the whole
/// slots, which are those before the last.
fn worst_and_median_second(slots: &[u64]) -> (u64, f64) {
    let whole = &slots[..slots.len().saturating_sub(1)];
    let seconds: Vec<u64> =
        whole.windows(SLOTS_PER_SECOND).map(|second| second.iter().sum()).collect();
    let worst = seconds.iter().min().copied().unwrap_or(0);
    let second = Duration::from_secs(1);
    (worst, median(seconds.into_iter().map(|count| per_second(count, second)).collect()))
}

/// A run.
#[derive(Debug)]
struct Run {
    notes: Notes,
    elapsed: Duration,
    /// Those asked for here.
    checkpoints: u64,
    /// Those completed, the engine's own too.
    all_checkpoints: u64,
    stall_time: Duration,
}

impl Latency {
    /// Measures; see [`super::Measurement::run`].
    pub(super) fn run(&self, out: &mut dyn Write) -> Outcome {
        let folder = self.setup.folder()?;
        let database = self.setup.options().open(folder.path().join("db"))?;
        let tree = load(&database, self.pairs)?;
        let seconds = self.seconds;
        let about = format!(
            "## Durable commits at full speed\n\n{} Single random keys, {seconds} s each.",
            self.setup.describe(self.pairs, VALUE_BYTES)
        );
        print(out, &about)?;
        let mut table = Table::new([
            "threads, checkpoints",
            "commits/s",
            "p50",
            "p99",
            "p99.9",
            "p99.99",
            "max",
            "median second",
            "worst second",
            "worst/median",
            "asked for",
            "taken in all",
            "writers held back",
        ]);
        for &threads in &self.threads {
            for has_checkpoints in [false, true] {
                let kind = if has_checkpoints { "one after another" } else { "the engine's own" };
                let name = format!("{threads}, {kind}");
                progress(&format!("{name}: {} s", self.seconds));
                database.checkpoint()?;
                let run = self.measure(&database, &tree, threads, has_checkpoints)?;
                let Run { notes, elapsed, .. } = &run;
                let latencies = &notes.latencies;
                let (worst, median) = worst_and_median_second(&notes.slots);
                let worst = per_second(worst, Duration::from_secs(1));
                table.row([
                    name,
                    format!("{:.0}", per_second(latencies.count(), *elapsed)),
                    time(latencies.quantile(0.5)),
                    time(latencies.quantile(0.99)),
                    time(latencies.quantile(0.999)),
                    time(latencies.quantile(0.9999)),
                    time(latencies.max()),
                    format!("{median:.0}"),
                    format!("{worst:.0}"),
                    format!("{:.2}", worst / median),
                    run.checkpoints.to_string(),
                    run.all_checkpoints.to_string(),
                    format!("{:.1} %", 100.0 * ratio(run.stall_time, *elapsed)),
                ]);
            }
        }
        print(out, &table)?;
        print(
            out,
            &"A checkpoint that is asked for cleans all pages and counts as two of those taken. \
              Seconds begin every tenth of one.",
        )?;
        Ok(database.close()?)
    }

    fn measure(
        &self,
        database: &Database,
        tree: &Tree,
        threads: u64,
        has_checkpoints: bool,
    ) -> Outcome<Run> {
        let stop = AtomicBool::new(false);
        let commits =
            Commits { tree, pairs: self.pairs, durability: Durability::Sync, stop: &stop };
        let before = database.stats();
        let started = Instant::now();
        thread::scope(|scope| {
            let stopping = Stop::new(&stop);
            let handles: Vec<_> = (1..=threads)
                .map(|seed| {
                    let timed =
                        |notes: &mut Notes, commit: &mut dyn FnMut() -> _| notes.time(commit);
                    commits.spawn(scope, seed, Notes::new(started), timed)
                })
                .collect();
            let checkpointer = has_checkpoints.then(|| {
                scope.spawn(|| -> Outcome<u64> {
                    let mut count = 0;
                    while !stop.load(Ordering::Relaxed) {
                        database.checkpoint()?;
                        count += 1;
                    }
                    Ok(count)
                })
            });
            thread::sleep(Duration::from_secs(self.seconds));
            let elapsed = started.elapsed();
            drop(stopping);
            let mut notes = Notes::new(started);
            for handle in handles {
                notes.add(&join(handle)?);
            }
            let checkpoints = checkpointer.map(join).transpose()?.unwrap_or(0);
            let after = database.stats();
            Ok(Run {
                notes,
                elapsed,
                checkpoints,
                all_checkpoints: after.checkpoints - before.checkpoints,
                stall_time: after.stall_time - before.stall_time,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::worst_and_median_second;

    #[test]
    fn the_worst_second_is_found_wherever_it_begins() {
        let mut slots = vec![10; 60];
        slots[25..30].fill(0);
        // The last slot is not whole.
        slots.push(1);
        let (worst, median) = worst_and_median_second(&slots);
        assert_eq!(worst, 50);
        assert!((median - 100.0).abs() < 1e-9, "{median}");
    }

    #[test]
    fn too_short_a_run_has_no_second() {
        assert_eq!(worst_and_median_second(&[1, 2]).0, 0);
    }
}
