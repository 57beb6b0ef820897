//! The workloads on a database.

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use seawall::{Database, Durability, TransactionOptions, Tree};

use super::measure::Run;
use super::overwrite::Overwriter;
use super::pairs::{Random, key};
use crate::failure::Failure;

/// Pairs in a transaction of the batch and load workloads.
const BATCH_PAIRS: u64 = 1000;
/// Pairs read by one operation of the range workload.
const RANGE_PAIRS: u64 = 100;

/// How many times puts and overwrites take turns.
const TURNS: u32 = 10;

/// What all workloads need.
pub(super) struct Runner<'a> {
    database: &'a Database,
    tree: Tree,
    /// Keys that the load writes and the readers read: numbers below.
    count: u64,
    duration: Duration,
    /// Keys that the put workloads write: numbers from here on, so that all of them are new.
    next_number: AtomicU64,
}

impl<'a> Runner<'a> {
    pub(super) const fn new(
        database: &'a Database,
        tree: Tree,
        count: u64,
        duration: Duration,
    ) -> Self {
        Self { database, tree, count, duration, next_number: AtomicU64::new(1 << 32) }
    }

    /// Durable puts of new keys.
    pub(super) fn put(&self, threads: usize) -> Result<Run, Failure> {
        self.put_for(self.duration, threads)
    }

    /// Durable puts of new keys from one thread, and bare overwrites, in turns of a fraction of the
    /// time: so both meet the device in the same states. Overwrites come first.
    pub(super) fn put_beside(&self, overwriter: &mut Overwriter) -> Result<[Run; 2], Failure> {
        let (mut overwrites, mut puts) = (Run::new(), Run::new());
        for _ in 0..TURNS {
            overwrites.add(&overwriter.run(self.duration / TURNS)?);
            puts.add(&self.put_for(self.duration / TURNS, 1)?);
        }
        Ok([overwrites, puts])
    }

    fn put_for(&self, duration: Duration, threads: usize) -> Result<Run, Failure> {
        for_the_duration(duration, threads, 1, |random| {
            let number = self.next_number.fetch_add(1, Ordering::Relaxed);
            Ok(self.tree.insert_with(key(number), random.value(), Durability::Sync)?)
        })
    }

    /// Durable transactions of new keys.
    pub(super) fn batch(&self) -> Result<Run, Failure> {
        for_the_duration(self.duration, 1, BATCH_PAIRS, |random| {
            let first = self.next_number.fetch_add(BATCH_PAIRS, Ordering::Relaxed);
            self.write(first..first + BATCH_PAIRS, random, Durability::Sync)
        })
    }

    /// All keys that the readers read, once, and everything synced.
    pub(super) fn load(&self) -> Result<Run, Failure> {
        let mut run = Run { pairs: self.count, ..Run::new() };
        let mut random = Random::new(self.count);
        let started = Instant::now();
        let mut first = 0;
        while first < self.count {
            let end = self.count.min(first + BATCH_PAIRS);
            run.latencies.time(|| self.write(first..end, &mut random, Durability::Relaxed))?;
            first = end;
        }
        self.database.sync()?;
        run.elapsed = started.elapsed();
        Ok(run)
    }

    fn write(
        &self,
        numbers: std::ops::Range<u64>,
        random: &mut Random,
        durability: Durability,
    ) -> Result<(), Failure> {
        let options = TransactionOptions::new().durability(durability);
        Ok(self.database.transact_with(options, |transaction| -> seawall::Result<()> {
            numbers
                .clone()
                .try_for_each(|number| transaction.insert(&self.tree, key(number), random.value()))
        })?)
    }

    /// Reads of keys that are there.
    pub(super) fn get(&self) -> Result<Run, Failure> {
        for_the_duration(self.duration, 1, 1, |random| self.get_one(random))
    }

    fn get_one(&self, random: &mut Random) -> Result<(), Failure> {
        let key = key(random.below(self.count));
        match self.tree.get_with(key, |value| std::hint::black_box(value.len()))? {
            Some(_) => Ok(()),
            None => Err(Failure::Failed("a key that was loaded is not there".to_owned())),
        }
    }

    /// Reads of keys in order from one that is there; shorter at the end of the tree.
    pub(super) fn range(&self) -> Result<Run, Failure> {
        for_the_duration(self.duration, 1, RANGE_PAIRS, |random| {
            let mut left = RANGE_PAIRS;
            self.tree.scan(key(random.below(self.count)).., |key, value| {
                std::hint::black_box((key.len(), value.len()));
                left -= 1;
                if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })?;
            Ok(())
        })
    }

    /// Reads and durable overwrites of keys that are there, in turn.
    pub(super) fn mixed(&self, threads: usize) -> Result<Run, Failure> {
        for_the_duration(self.duration, threads, 1, |random| {
            if random.below(2) == 0 {
                return self.get_one(random);
            }
            let key = key(random.below(self.count));
            Ok(self.tree.insert_with(key, random.value(), Durability::Sync)?)
        })
    }
}

/// Runs `operation`, which touches `pairs` pairs, on each of `threads` until the time is over.
fn for_the_duration(
    duration: Duration,
    threads: usize,
    pairs: u64,
    operation: impl Fn(&mut Random) -> Result<(), Failure> + Sync,
) -> Result<Run, Failure> {
    let started = Instant::now();
    let run_one = |seed: u64| -> Result<Run, Failure> {
        let mut run = Run::new();
        let mut random = Random::new(seed << 32);
        while started.elapsed() < duration {
            run.latencies.time(|| operation(&mut random))?;
            run.pairs += pairs;
        }
        Ok(run)
    };
    let runs: Vec<_> = thread::scope(|scope| {
        let run_one = &run_one;
        let handles: Vec<_> =
            (1..).take(threads).map(|seed| scope.spawn(move || run_one(seed))).collect();
        handles.into_iter().map(|handle| handle.join().expect("no workload panics")).collect()
    });
    let elapsed = started.elapsed();
    let mut all = Run::new();
    for run in runs {
        all.add(&run?);
    }
    Ok(Run { elapsed, ..all })
}
