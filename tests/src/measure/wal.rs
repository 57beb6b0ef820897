//! The space of the log under full load near its bound: what the file system has allocated to
//! `wal/`, looked at each second, whenever a segment was given its name, and every few milliseconds
//! in between.

use std::io::Write;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use clap::builder::RangedU64ValueParser;
use seawall::{Database, Durability, Event, StallReason};
use seawall_wal::codec::to_usize;
use seawall_wal::disk::{Disk, select};

use super::committers::{Stop, join};
use super::latencies::Latencies;
use super::loaded::{TREE, key};
use super::setup::Setup;
use super::table::{Table, mib, per_second, percent, time};
use super::{print, progress};
use crate::ensure;
use crate::failure::{Failure, Outcome};
use crate::log_space::{Watch, WatchedDisk};
use crate::random::Random;

/// Time between two looks.
const POLL: Duration = Duration::from_millis(5);
/// Time between two rows of the table.
const ROW: Duration = Duration::from_secs(1);

/// Options of the measurement.
#[derive(Args, Debug)]
pub struct Wal {
    #[command(flatten)]
    setup: Setup,
    /// How long it is written
    #[arg(long, value_name = "N", default_value_t = 30,
          value_parser = RangedU64ValueParser::<u64>::new().range(1..=3600))]
    seconds: u64,
    /// Bound of the log
    #[arg(long, value_name = "MIB", default_value_t = 32,
          value_parser = RangedU64ValueParser::<u64>::new().range(16..=1 << 20))]
    max_wal_mib: u64,
    /// Threads that write
    #[arg(long, value_name = "N", default_value_t = 8,
          value_parser = RangedU64ValueParser::<u64>::new().range(1..=256))]
    threads: u64,
    /// Bytes of a value
    #[arg(long, value_name = "N", default_value_t = 1000,
          value_parser = RangedU64ValueParser::<u64>::new().range(0..=1 << 20))]
    value_bytes: u64,
    /// Keys that are written, over and over
    #[arg(long, value_name = "N", default_value_t = 100_000,
          value_parser = RangedU64ValueParser::<u64>::new().range(1..=1 << 30))]
    pairs: u64,
    /// Wait until each write is durable; otherwise only every 64th
    #[arg(long)]
    durable: bool,
}

/// Times that writers were held back, and for how long, by reason: the time in which all are slowed
/// counts once, and each writer that has to wait at the bound counts for himself.
#[derive(Debug, Default)]
struct Stalls {
    bound: Stall,
    target: Stall,
}

#[derive(Clone, Copy, Debug, Default)]
struct Stall {
    count: u64,
    waited: Duration,
    longest: Duration,
}

impl Stalls {
    fn note(&mut self, event: &Event) {
        let Event::StallEnd { reason, waited } = event else { return };
        let stall = match reason {
            StallReason::WalBound => &mut self.bound,
            StallReason::RecoveryTarget => &mut self.target,
            _ => return,
        };
        stall.count += 1;
        stall.waited += *waited;
        stall.longest = stall.longest.max(*waited);
    }
}

/// What all threads share.
struct Load<'a> {
    database: &'a Database,
    writes: AtomicU64,
    stop: AtomicBool,
}

impl Wal {
    /// Measures; see [`super::Measurement::run`]. Fails when the bound is broken, or a write fails.
    pub(super) fn run(&self, out: &mut dyn Write) -> Outcome {
        let folder = self.setup.folder()?;
        let path = folder.path().join("db");
        let real = select(self.setup.disk.into())
            .map_err(|error| Failure::new(format!("{}: {error}", path.display())))?;
        let watched = WatchedDisk::new(Arc::clone(&real), &path);
        let watch = watched.watch();
        let stalls = Arc::new(Mutex::new(Stalls::default()));
        let noted = Arc::clone(&stalls);
        let max_wal_bytes = self.max_wal_mib << 20;
        let options = self
            .setup
            .options()
            .max_wal_bytes(max_wal_bytes)
            .disk_injected(Arc::new(watched))
            .on_event(move |event| {
                noted.lock().unwrap_or_else(PoisonError::into_inner).note(event)
            });
        let database = options.open(&path)?;
        let load =
            Load { database: &database, writes: AtomicU64::new(0), stop: AtomicBool::new(false) };
        let started = Instant::now();
        let (table, latencies) = self.watch(&load, &watch, &*real)?;
        let elapsed = started.elapsed();
        let writes = load.writes.into_inner();
        let stats = database.stats();
        database.close()?;

        let about = format!(
            "## Space of the log\n\n{} `max_wal_bytes` {} MiB; {} threads write random keys, {}.",
            self.setup.describe(self.pairs, to_usize(self.value_bytes)),
            self.max_wal_mib,
            self.threads,
            if self.durable { "each durably" } else { "every 64th durably, the others relaxed" },
        );
        print(out, &about)?;
        print(out, &table)?;
        let stalls = stalls.lock().unwrap_or_else(PoisonError::into_inner);
        let mut table = Table::new(["held back for", "times", "in all", "longest"]);
        for (name, stall) in
            [("the log's bound", stalls.bound), ("the recovery target", stalls.target)]
        {
            let Stall { count, waited, longest } = stall;
            table.row([name.into(), count.to_string(), time(waited), time(longest)]);
        }
        print(out, &table)?;
        let mut table = Table::new(["a write took", "p50", "p99", "p99.9", "max"]);
        let quantiles = [0.5, 0.99, 0.999].map(|quantile| time(latencies.quantile(quantile)));
        let [p50, p99, p99_9] = quantiles;
        table.row([String::new(), p50, p99, p99_9, time(latencies.max())]);
        print(out, &table)?;
        let about = format!(
            "{writes} writes, {:.0} a second, none failed; {} of log; {} checkpoints. Looked {} \
             times, {} of them when a segment was given its name. The most that was allocated: {} \
             bytes, {} of the bound of {max_wal_bytes}.",
            per_second(writes, elapsed),
            mib(stats.wal_bytes_written),
            stats.checkpoints,
            watch.samples(),
            watch.segments_named(),
            watch.most_bytes(),
            percent(watch.most_bytes(), max_wal_bytes),
        );
        print(out, &about)?;
        ensure!(
            watch.most_bytes() <= max_wal_bytes,
            "the log took {} bytes, more than its bound of {max_wal_bytes}",
            watch.most_bytes()
        );
        Ok(())
    }

    /// Runs the load, and looks.
    fn watch(
        &self,
        load: &Load<'_>,
        watch: &Watch,
        disk: &dyn Disk,
    ) -> Outcome<(Table, Latencies)> {
        let mut table = Table::new(["second", "allocated", "writes/s", "checkpoints"]);
        thread::scope(|scope| {
            let stopping = Stop::new(&load.stop);
            let handles: Vec<_> = (1..=self.threads)
                .map(|seed| scope.spawn(move || self.write(load, seed)))
                .collect();
            let started = Instant::now();
            let (mut row, mut writes_before) = (1, 0);
            while row <= self.seconds && !handles.iter().any(|handle| handle.is_finished()) {
                thread::sleep(POLL);
                let allocated = watch.sample(disk);
                let allocated =
                    allocated.map_err(|error| Failure::new(format!("the log's files: {error}")))?;
                if started.elapsed() < ROW * u32::try_from(row).unwrap_or(u32::MAX) {
                    continue;
                }
                let writes = load.writes.load(Ordering::Relaxed);
                table.row([
                    row.to_string(),
                    mib(allocated),
                    (writes - writes_before).to_string(),
                    load.database.stats().checkpoints.to_string(),
                ]);
                progress(&format!("second {row}: {} allocated", mib(allocated)));
                writes_before = writes;
                row += 1;
            }
            drop(stopping);
            let mut latencies = Latencies::new();
            for handle in handles {
                latencies.add(&join(handle)?);
            }
            Ok((table, latencies))
        })
    }

    /// Writes until told to stop.
    fn write(&self, load: &Load<'_>, seed: u64) -> Outcome<Latencies> {
        let tree = load.database.tree(TREE)?;
        let mut latencies = Latencies::new();
        let mut random = Random::new(seed << 32);
        let mut value = vec![0; to_usize(self.value_bytes)];
        for number in 0_u64.. {
            if load.stop.load(Ordering::Relaxed) {
                break;
            }
            for chunk in value.chunks_mut(8) {
                chunk.copy_from_slice(&random.next().to_le_bytes()[..chunk.len()]);
            }
            let is_durable = self.durable || number.is_multiple_of(64);
            let durability = if is_durable { Durability::Sync } else { Durability::Relaxed };
            let key = key(random.below(self.pairs));
            latencies.time(|| tree.insert_with(key, &value, durability))?;
            load.writes.fetch_add(1, Ordering::Relaxed);
        }
        Ok(latencies)
    }
}
