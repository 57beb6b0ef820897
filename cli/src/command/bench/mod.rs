//! `seawall bench`: a load generator on the public interface.
//!
//! Keys have 24 bytes in random order, values 150 random bytes, both a function of a number
//! ([`pairs`]), so that readers know what was loaded. Everything happens in the tree [`BENCH_TREE`].

mod measure;
mod overwrite;
mod pairs;
mod workload;

use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use clap::{Args, ValueEnum};
use seawall::{DiskKind, Options};

use self::measure::{Measurement, Run};
use self::overwrite::with_overwriter;
use self::workload::Runner;
use crate::database::{DatabaseArg, Missing};
use crate::failure::Failure;
use crate::output::Output;

/// The tree that is written and read.
const BENCH_TREE: &str = "seawall.bench";

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Workload {
    /// Bare 4 KiB direct synced overwrites of a file beside the database, what a durable put cannot beat
    Overwrite,
    /// Durable puts of single random keys, one thread, in turns with overwrites
    Put,
    /// The same from 16 threads
    Put16,
    /// Durable transactions of 1000 puts, one thread
    Batch,
    /// All keys in random order, in relaxed transactions of 1000 puts, and a sync
    Load,
    /// Reads of single random keys, one thread
    Get,
    /// Reads of 100 keys in order from a random one, one thread
    Range,
    /// Reads and durable puts in turn, 16 threads
    Mixed,
}

/// Which disk the database is opened on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Disk {
    /// io_uring where it is allowed
    Auto,
    /// io_uring
    Uring,
    /// Positional system calls
    Blocking,
}

/// Measure rates and latencies of one workload, or of all in turn
///
/// Works in the tree seawall.bench, which is created anew. Latencies are of one operation: a put, a
/// get, a range or a transaction. The put workload takes turns with bare synced overwrites, with which
/// it is compared.
#[derive(Args, Debug)]
pub(crate) struct Bench {
    #[command(flatten)]
    database: DatabaseArg,
    /// What to measure; everything without it
    #[arg(value_enum)]
    workload: Option<Workload>,
    /// Keys to load
    #[arg(long, value_name = "N", default_value_t = 2_000_000,
          value_parser = RangedU64ValueParser::<u64>::new().range(1..=u64::from(u32::MAX)))]
    count: u64,
    /// How long each workload runs that is not bound by the number of keys
    #[arg(long, value_name = "N", default_value_t = 10,
          value_parser = RangedU64ValueParser::<u64>::new().range(1..=3600))]
    seconds: u64,
    /// Size of the cache
    #[arg(long, value_name = "MIB", default_value_t = 256,
          value_parser = RangedU64ValueParser::<u64>::new().range(1..=1 << 20))]
    cache_mib: u64,
    /// How files are accessed
    #[arg(long, value_enum, default_value_t = Disk::Auto)]
    disk: Disk,
}

impl From<Disk> for DiskKind {
    fn from(disk: Disk) -> Self {
        match disk {
            Disk::Auto => Self::Auto,
            Disk::Uring => Self::Uring,
            Disk::Blocking => Self::Blocking,
        }
    }
}

impl Bench {
    pub(crate) fn run(&self, out: &mut Output) -> Result<(), Failure> {
        let options = Options::new().cache_bytes(self.cache_mib << 20).disk(self.disk.into());
        let database = self.database.open_with(options, Missing::Create)?;
        database.drop_tree(BENCH_TREE)?;
        let tree = database.tree(BENCH_TREE)?;
        let duration = Duration::from_secs(self.seconds);
        let runner = Runner::new(&database, tree, self.count, duration);
        if !out.is_json() {
            out.text(&self.conditions())?;
            out.text(&measure::HEADING)?;
        }
        self.measure(&runner, out)?;
        drop(runner);
        database.close()?;
        Ok(())
    }

    /// What the figures were taken with.
    fn conditions(&self) -> String {
        format!(
            "{} keys of {} bytes in random order, values of {} bytes that do not compress; cache {} \
             MiB; {} s each, but for the load",
            self.count,
            pairs::KEY_BYTES,
            pairs::VALUE_BYTES,
            self.cache_mib,
            self.seconds,
        )
    }

    /// Rows appear one by one, so that one who waits sees something.
    fn measure(&self, runner: &Runner<'_>, out: &mut Output) -> Result<(), Failure> {
        for workload in self.workloads() {
            let measurements = match workload {
                Workload::Overwrite => vec![Measurement::new("overwrite", 1, &self.overwrite()?)],
                Workload::Put => self.put_beside_overwrites(runner)?,
                Workload::Put16 => vec![Measurement::new("put16", 16, &runner.put(16)?)],
                Workload::Batch => vec![Measurement::new("batch", 1, &runner.batch()?)],
                Workload::Load => vec![Measurement::new("load", 1, &runner.load()?)],
                Workload::Get => vec![Measurement::new("get", 1, &runner.get()?)],
                Workload::Range => vec![Measurement::new("range", 1, &runner.range()?)],
                Workload::Mixed => vec![Measurement::new("mixed", 16, &runner.mixed(16)?)],
            };
            for measurement in &measurements {
                out.result(measurement)?;
            }
            out.flush()?;
        }
        Ok(())
    }

    /// What is asked for, after what it needs: readers need something to read.
    fn workloads(&self) -> Vec<Workload> {
        match self.workload {
            // The overwrites are measured with the puts.
            None => Workload::value_variants()[1..].to_vec(),
            Some(reads @ (Workload::Get | Workload::Range | Workload::Mixed)) => {
                vec![Workload::Load, reads]
            }
            Some(other) => vec![other],
        }
    }

    fn overwrite(&self) -> Result<Run, Failure> {
        let duration = Duration::from_secs(self.seconds);
        with_overwriter(&self.database.dir, self.disk.into(), |overwriter| overwriter.run(duration))
    }

    fn put_beside_overwrites(&self, runner: &Runner<'_>) -> Result<Vec<Measurement>, Failure> {
        let [overwrites, puts] =
            with_overwriter(&self.database.dir, self.disk.into(), |overwriter| {
                runner.put_beside(overwriter)
            })?;
        let overwrites = Measurement::new("overwrite", 1, &overwrites);
        let mut puts = Measurement::new("put", 1, &puts);
        puts.compare_with_overwrites(&overwrites);
        Ok(vec![overwrites, puts])
    }
}
