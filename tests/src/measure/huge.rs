//! One transaction far larger than cache and log: how long inserts, updates and deletes take, their
//! commit and their rollback, and how much memory and disk they need at most.
//!
//! Each transaction is run twice, rolled back first and then committed; after each the tree is
//! counted. Fails when the count is wrong.

use std::fs;
use std::io::Write;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use clap::builder::RangedU64ValueParser;
use seawall::{Database, Transaction, Tree};

use super::loaded::{KEY_BYTES, TREE, VALUE_BYTES, key, value};
use super::setup::Setup;
use super::table::{Table, mib, per_second, time};
use super::{print, progress};
use crate::failure::{Failure, Outcome};
use crate::random::Random;

/// Between two looks at what the database takes.
const LOOK: Duration = Duration::from_millis(50);

/// Options of the measurement.
#[derive(Args, Debug)]
pub struct Huge {
    #[command(flatten)]
    setup: Setup,
    /// Pairs that one transaction inserts, and one updates; half of them are deleted
    #[arg(long, value_name = "N", default_value_t = 5_000_000,
          value_parser = RangedU64ValueParser::<u64>::new().range(2..=1 << 32))]
    pairs: u64,
    /// Bound of the log
    #[arg(long, value_name = "MIB", default_value_t = 256,
          value_parser = RangedU64ValueParser::<u64>::new().range(16..=1 << 20))]
    max_wal_mib: u64,
    /// Keys in random order instead of ascending: every write then reads and writes a page of its own
    #[arg(long)]
    random: bool,
}

/// What a transaction does.
#[derive(Clone, Copy, Debug)]
enum Work {
    Insert,
    Update,
    Delete,
}

impl Work {
    const ALL: [Self; 3] = [Self::Insert, Self::Update, Self::Delete];

    const fn name(self) -> &'static str {
        match self {
            Self::Insert => "inserts",
            Self::Update => "updates",
            Self::Delete => "deletes",
        }
    }

    /// Writes of the transaction over a tree of `pairs`.
    const fn writes(self, pairs: u64) -> u64 {
        match self {
            Self::Insert | Self::Update => pairs,
            Self::Delete => pairs / 2,
        }
    }

    /// Pairs in the tree before it and, once it has committed, after it.
    const fn pairs(self, pairs: u64) -> (u64, u64) {
        match self {
            Self::Insert => (0, pairs),
            Self::Update => (pairs, pairs),
            Self::Delete => (pairs, pairs - pairs / 2),
        }
    }
}

/// The most that was seen since the last look back.
#[derive(Debug, Default)]
struct Peaks {
    wal_bytes: AtomicU64,
    undo_bytes: AtomicU64,
    resident_bytes: AtomicU64,
}

impl Peaks {
    fn watch(&self, database: &Database, is_done: &AtomicBool) {
        while !is_done.load(Ordering::Relaxed) {
            let stats = database.stats();
            self.wal_bytes.fetch_max(stats.wal_bytes, Ordering::Relaxed);
            self.undo_bytes.fetch_max(stats.undo_bytes, Ordering::Relaxed);
            self.resident_bytes.fetch_max(resident_bytes().unwrap_or(0), Ordering::Relaxed);
            thread::park_timeout(LOOK);
        }
    }

    fn take(peak: &AtomicU64) -> u64 {
        peak.swap(0, Ordering::Relaxed)
    }
}

/// Memory of this process that is resident now, in bytes.
fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

impl Huge {
    pub(super) fn run(&self, out: &mut dyn Write) -> Outcome {
        let folder = self.setup.folder()?;
        let options = self.setup.options().max_wal_bytes(self.max_wal_mib << 20);
        let database = options.open(folder.path().join("db"))?;
        let tree = database.tree(TREE)?;
        let heading = ["writes", "number", "a second", "end", "took", "memory", "log", "undo"];
        let mut table = Table::new(heading);
        let (peaks, is_done) = (Peaks::default(), AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| peaks.watch(&database, &is_done));
            let mut turns = Work::ALL.iter().flat_map(|&work| [(work, false), (work, true)]);
            let done = turns.try_for_each(|(work, commits)| -> Outcome {
                table.row(self.transaction(&database, &tree, work, commits, &peaks)?);
                Ok(())
            });
            is_done.store(true, Ordering::Relaxed);
            done
        })?;
        let about = format!(
            "## One huge transaction\n\n{} `max_wal_bytes` {} MiB; keys in {} order. Memory, log and \
             undo files: the most that was seen from one row to the next.",
            self.setup.describe(self.pairs, VALUE_BYTES),
            self.max_wal_mib,
            if self.random { "random" } else { "ascending" },
        );
        print(out, &about)?;
        print(out, &table)
    }

    fn transaction(
        &self,
        database: &Database,
        tree: &Tree,
        work: Work,
        commits: bool,
        peaks: &Peaks,
    ) -> Outcome<[String; 8]> {
        let end = if commits { "commit" } else { "rollback" };
        progress(&format!("{} {}, {end}", work.writes(self.pairs), work.name()));
        let started = Instant::now();
        let mut transaction = database.begin()?;
        self.write(&mut transaction, tree, work)?;
        let written = started.elapsed();
        let ending = Instant::now();
        if commits {
            transaction.commit()?;
        } else {
            transaction.rollback()?;
        }
        let ended = ending.elapsed();
        let (before, after) = work.pairs(self.pairs);
        let expected = if commits { after } else { before };
        let mut found = 0_u64;
        tree.scan(.., |_, _| {
            found += 1;
            ControlFlow::<()>::Continue(())
        })?;
        if (found, tree.len()?) != (expected, expected) {
            return Err(Failure::new(format!("{found} pairs where {expected} should be")));
        }
        let writes = work.writes(self.pairs);
        Ok([
            work.name().to_owned(),
            writes.to_string(),
            format!("{:.0}", per_second(writes, written)),
            end.to_owned(),
            time(ended),
            mib(Peaks::take(&peaks.resident_bytes)),
            mib(Peaks::take(&peaks.wal_bytes)),
            mib(Peaks::take(&peaks.undo_bytes)),
        ])
    }

    fn write(&self, transaction: &mut Transaction, tree: &Tree, work: Work) -> Outcome {
        let mut random = Random::new(1);
        for number in 0..work.writes(self.pairs) {
            let key = self.key(number);
            match work {
                Work::Insert | Work::Update => {
                    transaction.insert(tree, key, value(&mut random))?;
                }
                Work::Delete => {
                    if !transaction.remove(tree, key)? {
                        return Err(Failure::new(format!("pair {number} is not there")));
                    }
                }
            }
        }
        Ok(())
    }

    /// The key of a number: [`key`]'s are in no order.
    fn key(&self, number: u64) -> [u8; KEY_BYTES] {
        let mut bytes = key(number);
        if !self.random {
            bytes[..8].copy_from_slice(&number.to_be_bytes());
        }
        bytes
    }
}
