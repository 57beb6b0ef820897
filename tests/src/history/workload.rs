//! Threads that read and write a few keys at once, on a disk whose power goes off under them.
//!
//! The keys in use move on, so that lists stay short and new keys keep appearing between those that
//! ranges have read. Reads and writes go by every way that the interface has: transactions that
//! commit, wait for their commit later or roll back, snapshots, ranges, and single operations.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use seawall::{
    Database, Error, Isolation, Options, Transaction as Open, TransactionOptions, Tree, Value,
};
use seawall_wal::disk::SimDisk;
use seawall_wal::disk::sim::CrashPlan;

use super::recorder::{Begun, Recorder};
use super::{Ending, History, Key, Kind, Step};
use crate::ensure;
use crate::failure::{Failure, Outcome};
use crate::random::Random;

/// Keys in use at a time.
const WINDOW: u32 = 5;
/// Elements after which the keys in use move on by one.
const ELEMENTS_PER_KEY: u32 = 8;
/// Most steps of a transaction.
const STEPS_MAX: u32 = 5;
/// Directory of the database.
const PATH: &str = "/db";

/// What is run.
#[derive(Clone, Copy, Debug)]
pub struct Workload {
    /// Decides about everything but how the threads come to run.
    pub seed: u64,
    /// What is kept under the keys.
    pub kind: Kind,
    /// Of the transactions.
    pub isolation: Isolation,
    /// Threads at a time.
    pub threads: u32,
    /// Lives, each but the last ended by a power cut.
    pub lives: u64,
    /// Transactions in each.
    pub transactions: usize,
}

impl Workload {
    /// Runs it. At the end a last transaction reads every key.
    ///
    /// # Errors
    /// Whatever goes wrong that is no conflict.
    pub fn run(&self) -> Outcome<History> {
        let mut disk = SimDisk::new();
        let mut transactions = Vec::new();
        let (mut next, elements) = (0, AtomicU32::new(1));
        for life in 0..self.lives {
            let plan = self.plan(life);
            let recorder = Recorder::new(disk.clone(), plan, next, self.transactions);
            let database = open(&disk)?;
            let tree = database.tree("history")?;
            std::thread::scope(|scope| {
                let spawn = |thread| {
                    let number = u32::try_from(life).unwrap_or(u32::MAX) * self.threads + thread;
                    let (database, tree) = (&database, &tree);
                    let (recorder, elements) = (&recorder, &elements);
                    let client = Client { workload: self, database, tree, recorder, elements };
                    scope.spawn(move || client.run(number))
                };
                let threads: Vec<_> = (0..self.threads).map(spawn).collect();
                threads.into_iter().try_for_each(|thread| {
                    thread.join().map_err(|_| Failure::new("a thread panicked"))?
                })
            })?;
            drop((database, tree));
            let (cut, done, place) = recorder.finish();
            transactions.extend(done);
            (disk, next) = (cut, place);
        }
        transactions.push(self.read_all(&disk, next, elements.into_inner())?);
        Ok(History { kind: self.kind, transactions })
    }

    fn plan(&self, life: u64) -> CrashPlan {
        let seed = Random::new(self.seed ^ life << 32).next();
        match seed % 4 {
            0 => CrashPlan::NothingUnsynced,
            1 => CrashPlan::Everything,
            2 => CrashPlan::Sectors { seed },
            _ => CrashPlan::Reordered { seed },
        }
    }

    /// What every key holds at the end.
    fn read_all(&self, disk: &SimDisk, next: u64, elements: u32) -> Outcome<super::Transaction> {
        let database = open(disk)?;
        let tree = database.tree("history")?;
        let keys = 0..elements / ELEMENTS_PER_KEY + WINDOW;
        let read = |key: Key| {
            let found = elements_of(tree.get(key.to_be_bytes())?.as_deref())?;
            Ok(Step::Read { key, found })
        };
        let steps = keys.map(read).collect::<Outcome<Vec<_>>>()?;
        let ending = Ending::Committed;
        let (thread, began, ended) = (u32::MAX, next, next + 1);
        Ok(super::Transaction { thread, began, ended, steps, ending, commit_lsn: None })
    }
}

fn open(disk: &SimDisk) -> Outcome<Database> {
    let options = Options::new().disk_injected(Arc::new(disk.clone())).unchecked_limits();
    let options = options.cache_bytes(1 << 20).max_wal_bytes(8 << 20).page_bytes(4096);
    Ok(options.open(PATH)?)
}

fn elements_of(value: Option<&[u8]>) -> Outcome<Vec<u32>> {
    let (elements, rest) = value.unwrap_or_default().as_chunks();
    ensure!(rest.is_empty(), "a value of {} bytes that nobody wrote", value.map_or(0, <[u8]>::len));
    Ok(elements.iter().map(|&bytes| u32::from_le_bytes(bytes)).collect())
}

/// What a thread works with.
struct Client<'w> {
    workload: &'w Workload,
    database: &'w Database,
    tree: &'w Tree,
    recorder: &'w Recorder,
    elements: &'w AtomicU32,
}

impl Client<'_> {
    fn run(&self, thread: u32) -> Outcome {
        let mut random = Random::new(self.workload.seed ^ u64::from(thread) << 48);
        while let Some(mut begun) = self.recorder.begin(thread) {
            let done = match random.below(8) {
                0 => self.read_once(&mut begun, &mut random),
                1 => self.write_once(&mut begun, &mut random),
                2 => self.read_snapshot(&mut begun, &mut random),
                _ => self.transact(&mut begun, &mut random),
            };
            match done {
                Ok((ending, commit_lsn)) => self.recorder.end(begun, ending, commit_lsn),
                Err(why) if why.error().is_some_and(Error::is_conflict) => {
                    self.recorder.end(begun, Ending::Aborted, None);
                }
                Err(why) => return Err(why.at(format!("thread {thread}"))),
            }
        }
        Ok(())
    }

    /// Lowest key in use.
    fn first_key(&self) -> Key {
        self.elements.load(Ordering::Relaxed) / ELEMENTS_PER_KEY
    }

    fn key(&self, random: &mut Random) -> Key {
        self.first_key() + random.below_u32(WINDOW)
    }

    fn new_element(&self) -> u32 {
        self.elements.fetch_add(1, Ordering::Relaxed)
    }

    fn read_once(&self, begun: &mut Begun, random: &mut Random) -> Outcome<Ended> {
        let key = self.key(random);
        let found = elements_of(self.tree.get(key.to_be_bytes())?.as_deref())?;
        begun.steps.push(Step::Read { key, found });
        Ok((Ending::Committed, None))
    }

    /// One operation that commits by itself: a list is compared and swapped.
    fn write_once(&self, begun: &mut Begun, random: &mut Random) -> Outcome<Ended> {
        let (key, element) = (self.key(random), self.new_element());
        let bytes = key.to_be_bytes();
        begun.steps.push(Step::Write { key, element });
        match self.workload.kind {
            Kind::Registers => {
                let commit = self.tree.insert_async(bytes, element.to_le_bytes())?;
                Ok((Ending::Committed, Some(commit.wait()?.get())))
            }
            Kind::Lists => {
                let old = self.tree.get(bytes)?;
                let new = appended(old.as_deref(), element);
                let is_swapped = self.tree.compare_and_swap(bytes, old.as_deref(), Some(&new))?;
                Ok((if is_swapped { Ending::Committed } else { Ending::Aborted }, None))
            }
        }
    }

    fn read_snapshot(&self, begun: &mut Begun, random: &mut Random) -> Outcome<Ended> {
        let snapshot = self.database.snapshot()?;
        for _ in 0..=random.below(3) {
            let key = self.key(random);
            let found = elements_of(snapshot.get(self.tree, key.to_be_bytes())?.as_deref())?;
            begun.steps.push(Step::Read { key, found });
        }
        Ok((Ending::Committed, None))
    }

    fn transact(&self, begun: &mut Begun, random: &mut Random) -> Outcome<Ended> {
        let options = TransactionOptions::new().isolation(self.workload.isolation);
        let mut transaction = self.database.begin_with(options)?;
        for _ in 0..=random.below_u32(STEPS_MAX) {
            match random.below(7) {
                0..=2 => self.write(&mut transaction, begun, random)?,
                3 => self.read_range(&transaction, begun)?,
                _ => self.read(&transaction, begun, random)?,
            }
        }
        let commit_lsn = match random.below(16) {
            0 => {
                transaction.rollback()?;
                return Ok((Ending::Aborted, None));
            }
            1..=4 => transaction.commit_async()?.wait()?,
            _ => transaction.commit()?,
        };
        Ok((Ending::Committed, Some(commit_lsn.get())))
    }

    fn write(&self, open: &mut Open, begun: &mut Begun, random: &mut Random) -> Outcome {
        let (key, element) = (self.key(random), self.new_element());
        let bytes = key.to_be_bytes();
        let new = match self.workload.kind {
            Kind::Lists => appended(open.get(self.tree, bytes)?.as_deref(), element),
            Kind::Registers => element.to_le_bytes().to_vec(),
        };
        // Noted before it is done: what fails half-way must not be seen by anybody.
        begun.steps.push(Step::Write { key, element });
        Ok(open.insert(self.tree, bytes, new)?)
    }

    fn read(&self, open: &Open, begun: &mut Begun, random: &mut Random) -> Outcome {
        let key = self.key(random);
        let found = elements_of(open.get(self.tree, key.to_be_bytes())?.as_deref())?;
        begun.steps.push(Step::Read { key, found });
        Ok(())
    }

    /// All keys in use by a range: those that are not there were read as well.
    fn read_range(&self, open: &Open, begun: &mut Begun) -> Outcome {
        let keys = self.first_key()..self.first_key() + WINDOW;
        let range = open.range(self.tree, keys.start.to_be_bytes()..keys.end.to_be_bytes())?;
        let pairs = range.collect::<seawall::Result<Vec<(Value, Value)>>>()?;
        for key in keys {
            let pair = pairs.iter().find(|(found, _)| *found == key.to_be_bytes());
            let found = elements_of(pair.map(|(_, value)| &**value))?;
            begun.steps.push(Step::Read { key, found });
        }
        Ok(())
    }
}

/// How a transaction ended, and the position of its commit record.
type Ended = (Ending, Option<u64>);

fn appended(old: Option<&[u8]>, element: u32) -> Vec<u8> {
    let mut new = old.unwrap_or_default().to_vec();
    new.extend_from_slice(&element.to_le_bytes());
    new
}
