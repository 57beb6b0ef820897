//! What logging, paging and checkpoints cost: the same work, on a disk and on one that discards
//! ([`crate::discard`]), in turns.
//!
//! On the discarding disk the engine does everything that it does elsewhere, but nothing reaches a
//! device, and nothing makes it write pages: its recovery target and its bound of the log are as
//! high as they go. So the difference is all that being durable costs, but for making the records.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use clap::builder::RangedU64ValueParser;
use seawall::{Database, Durability, Options, Tree};

use super::loaded::{VALUE_BYTES, key, load, value, write_batch};
use super::setup::Setup;
use super::table::{Table, median, mib, per_second};
use super::{print, progress};
use crate::discard::DiscardDisk;
use crate::failure::Outcome;
use crate::random::Random;

/// Time with a disk over that without, less one: the aim.
const AIM: f64 = 0.4;
/// Pairs in a transaction of the batches.
const BATCH_PAIRS: u64 = 1000;
/// Operations between two looks at the clock.
const PUTS_PER_LOOK: u64 = 100;
/// On the discarding disk nothing is to be cleaned for the sake of recovery, or of the log's bound.
const NO_TARGET: Duration = Duration::from_secs(3600);
const NO_BOUND_BYTES: u64 = 256 << 30;

/// Options of the measurement.
#[derive(Args, Debug)]
pub struct Overhead {
    #[command(flatten)]
    setup: Setup,
    /// Length of each run
    #[arg(long, value_name = "N", default_value_t = 8,
          value_parser = RangedU64ValueParser::<u64>::new().range(1..=600))]
    seconds: u64,
    /// Runs of each workload on each disk
    #[arg(long, value_name = "N", default_value_t = 7,
          value_parser = RangedU64ValueParser::<u64>::new().range(1..=100))]
    repetitions: u64,
    /// Pairs in the tree, which should fit into the cache
    #[arg(long, value_name = "N", default_value_t = 500_000,
          value_parser = RangedU64ValueParser::<u64>::new().range(1..=1 << 30))]
    pairs: u64,
    /// How long recovery may take on the disk that keeps what is written
    #[arg(long, value_name = "MS", default_value_t = 2000,
          value_parser = RangedU64ValueParser::<u64>::new().range(100..=600_000))]
    recovery_target_ms: u64,
}

/// What is done.
#[derive(Clone, Copy, Debug)]
enum Workload {
    Puts,
    Batches,
}

impl Workload {
    const ALL: [Self; 2] = [Self::Puts, Self::Batches];

    const fn index(self) -> usize {
        match self {
            Self::Puts => 0,
            Self::Batches => 1,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Puts => "single puts",
            Self::Batches => "batches of 1000",
        }
    }
}

/// A database that the work is done on.
#[derive(Debug)]
struct Bed {
    database: Database,
    tree: Tree,
    random: Random,
    /// Pairs a second of each run, by workload.
    rates: [Vec<f64>; 2],
    /// While runs were going on.
    page_bytes_written: u64,
    misses: u64,
}

impl Bed {
    fn open(options: Options, dir: &Path, pairs: u64) -> Outcome<Self> {
        let database = options.open(dir)?;
        let tree = load(&database, pairs)?;
        let rates = [Vec::new(), Vec::new()];
        Ok(Self { database, tree, random: Random::new(1), rates, page_bytes_written: 0, misses: 0 })
    }

    /// Works for `duration`; everything written is synced at the end, which counts as well.
    fn run(&mut self, workload: Workload, pairs: u64, duration: Duration) -> Outcome {
        let before = self.database.stats();
        let started = Instant::now();
        let mut count = 0;
        while started.elapsed() < duration {
            match workload {
                Workload::Puts => {
                    for _ in 0..PUTS_PER_LOOK {
                        let key = key(self.random.below(pairs));
                        let value = value(&mut self.random);
                        self.tree.insert_with(key, value, Durability::Relaxed)?;
                    }
                    count += PUTS_PER_LOOK;
                }
                Workload::Batches => {
                    let mut numbers = self.random.clone();
                    let numbers = (0..BATCH_PAIRS).map(move |_| numbers.below(pairs));
                    let (database, tree) = (&self.database, &self.tree);
                    write_batch(database, tree, numbers, &mut self.random)?;
                    count += BATCH_PAIRS;
                }
            }
        }
        self.database.sync()?;
        self.rates[workload.index()].push(per_second(count, started.elapsed()));
        let after = self.database.stats();
        self.page_bytes_written += after.page_bytes_written - before.page_bytes_written;
        self.misses += after.cache_misses - before.cache_misses;
        Ok(())
    }
}

impl Overhead {
    /// Measures; see [`super::Measurement::run`].
    pub(super) fn run(&self, out: &mut dyn Write) -> Outcome {
        let folder = self.setup.folder()?;
        let path = folder.path().join("db");
        let options = self.setup.options();
        let target = Duration::from_millis(self.recovery_target_ms);
        let mut real = Bed::open(options.clone().recovery_target(target), &path, self.pairs)?;
        let discarding = options
            .disk_injected(Arc::new(DiscardDisk::new()))
            .recovery_target(NO_TARGET)
            .max_wal_bytes(NO_BOUND_BYTES);
        let mut bare = Bed::open(discarding, &path, self.pairs)?;
        let duration = Duration::from_secs(self.seconds);
        for repetition in 1..=self.repetitions {
            progress(&format!("repetition {repetition} of {}", self.repetitions));
            for workload in Workload::ALL {
                let mut beds = [&mut real, &mut bare];
                if repetition % 2 == 0 {
                    beds.reverse();
                }
                for bed in beds {
                    bed.run(workload, self.pairs, duration)?;
                    // Not measured: nothing of it shall run on in the other's turn.
                    bed.database.checkpoint()?;
                }
            }
        }
        self.report(&real, &bare, out)?;
        real.database.close()?;
        Ok(bare.database.close()?)
    }

    fn report(&self, real: &Bed, bare: &Bed, out: &mut dyn Write) -> Outcome {
        let about = format!(
            "## What being durable costs\n\n{} One thread overwrites random keys, relaxed; recovery \
             may take {} ms. {} runs of {} s on each disk, in turns; medians.",
            self.setup.describe(self.pairs, VALUE_BYTES),
            self.recovery_target_ms,
            self.repetitions,
            self.seconds,
        );
        print(out, &about)?;
        let mut table = Table::new([
            "workload",
            "pairs/s, disk",
            "pairs/s, discarding",
            "time for the same work",
            "cost",
            "aim",
        ]);
        for workload in Workload::ALL {
            let [disk, discarding] =
                [real, bare].map(|bed| median(bed.rates[workload.index()].clone()));
            let times = discarding / disk;
            table.row([
                workload.name().into(),
                format!("{disk:.0}"),
                format!("{discarding:.0}"),
                format!("{times:.2} times"),
                format!("{:.0} %", 100.0 * (times - 1.0)),
                format!("<= {:.0} %", 100.0 * AIM),
            ]);
        }
        print(out, &table)?;
        let about = format!(
            "Pages written while the clock ran: {} on the disk, {} on the discarding one. Cache \
             misses: {} and {}.",
            mib(real.page_bytes_written),
            mib(bare.page_bytes_written),
            real.misses,
            bare.misses,
        );
        print(out, &about)
    }
}
