//! A database beside its oracle: does operations, and compares every answer.
//!
//! One thread does everything, so the order of commits is that of the calls. What would wait for
//! another transaction (an auto-commit write of a key that an open one holds) is skipped: nobody
//! would end the wait.

mod lives;
mod pairs;
mod reads;
mod steps;
mod window;
mod writes;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use seawall::{
    CommitFuture, Database, Durability, Lsn, Snapshot, Transaction, TransactionOptions, Tree,
};
use seawall_wal::disk::SimDisk;

use self::lives::Life;
use self::window::Windows;
use crate::ensure;
use crate::failure::Outcome;
use crate::log_space::check_bound_simulated;
use crate::operation::{Operation, SLOTS, tree_name};
use crate::oracle::{Forest, Oracle, TreeKey, TreeUid};
use crate::replay::Replay;
use crate::settings::{PATH, Settings};
use crate::trace::Trace;
use crate::transaction::{TransactionModel, Verdict};
use crate::watch::Watch;

/// Operations between two looks at the log's space.
const LOG_SPACE_EVERY: u64 = 8;

/// An open transaction and the oracle's idea of it.
struct Open {
    transaction: Transaction,
    model: TransactionModel,
    /// Trees that it has created.
    created: BTreeMap<TreeUid, Tree>,
}

/// A snapshot, and what it must show.
struct Taken {
    snapshot: Snapshot,
    forest: Forest,
    trees: BTreeMap<TreeUid, Tree>,
}

/// Everybody who sees each operation of the disk.
#[derive(Clone)]
struct Watchers {
    windows: Arc<Windows>,
    watch: Arc<Watch>,
    replay: Arc<Replay>,
    trace: Option<Arc<Trace>>,
}

impl Watchers {
    fn see(&self, disk: &SimDisk) {
        let watchers = self.clone();
        disk.set_monitor(Arc::new(move |operation| {
            watchers.windows.see(operation);
            watchers.watch.see(operation);
            watchers.replay.see(operation);
            if let Some(trace) = &watchers.trace {
                trace.see(operation);
            }
        }));
    }
}

/// A database beside its oracle.
pub struct Session {
    /// The disk the database is on.
    pub disk: SimDisk,
    /// What it must contain.
    pub oracle: Oracle,
    settings: Settings,
    database: Database,
    trees: BTreeMap<TreeUid, Tree>,
    open: [Option<Open>; SLOTS],
    snapshots: [Option<Taken>; SLOTS],
    futures: Vec<(CommitFuture, usize)>,
    backups: u64,
    life: Life,
    watchers: Watchers,
    /// Pages that redo has made again, to the byte.
    pub replayed: u64,
    /// Operations that were not skipped.
    pub done: u64,
}

impl Session {
    /// Creates a database on an empty disk.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn create(settings: &Settings) -> Outcome<Self> {
        Self::create_on(SimDisk::new(), settings)
    }

    /// Creates a database on this disk.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn create_on(disk: SimDisk, settings: &Settings) -> Outcome<Self> {
        Self::open_on(disk, settings, Oracle::default(), Lsn::NONE)
    }

    /// The same, with every operation of the disk noted.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn create_traced(disk: SimDisk, settings: &Settings, trace: &Arc<Trace>) -> Outcome<Self> {
        Self::open(disk, settings, Oracle::default(), Lsn::NONE, Some(Arc::clone(trace)))
    }

    /// Opens the database on this disk, which must contain what the oracle's newest commit left.
    /// Earlier lives have written log up to `floor`.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open_on(
        disk: SimDisk,
        settings: &Settings,
        oracle: Oracle,
        floor: Lsn,
    ) -> Outcome<Self> {
        Self::open(disk, settings, oracle, floor, None)
    }

    fn open(
        disk: SimDisk,
        settings: &Settings,
        oracle: Oracle,
        floor: Lsn,
        trace: Option<Arc<Trace>>,
    ) -> Outcome<Self> {
        let watch = Arc::new(Watch::new(settings.page_bytes, disk.operation_count(), floor));
        let (windows, replay) = (Arc::default(), Arc::default());
        let watchers = Watchers { windows, watch, replay, trace };
        watchers.see(&disk);
        let database = settings.open(&disk)?;
        Ok(Self {
            disk,
            oracle,
            settings: settings.clone(),
            database,
            trees: BTreeMap::new(),
            open: [const { None }; SLOTS],
            snapshots: [const { None }; SLOTS],
            futures: Vec::new(),
            backups: 0,
            life: Life::Open,
            watchers,
            replayed: 0,
            done: 0,
        })
    }

    /// What sees every operation of the disk.
    #[must_use]
    pub fn watch(&self) -> &Arc<Watch> {
        &self.watchers.watch
    }

    /// Compares redo with the live database whenever that is closed, from a copy of the disk as it is
    /// now.
    pub fn keep_old_copy(&self) {
        self.watchers.replay.keep(&self.disk);
    }

    /// The database.
    #[must_use]
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// Does each operation.
    ///
    /// # Errors
    /// When an answer is not the oracle's; the failure names the operation.
    pub fn run(&mut self, operations: &[Operation]) -> Outcome {
        for (index, operation) in operations.iter().enumerate() {
            self.apply(operation).map_err(|why| why.at(format!("{index}: {operation:?}")))?;
        }
        Ok(())
    }

    /// Does an operation, unless it is not possible now.
    ///
    /// # Errors
    /// When an answer is not the oracle's.
    pub fn apply(&mut self, operation: &Operation) -> Outcome {
        let done = self.perform(operation);
        let mut taken_over = Ok(());
        if !matches!(operation, Operation::During(..)) {
            taken_over = self.take_over();
            self.shut_windows();
        }
        self.watchers.watch.check()?;
        self.done += u64::from(done?);
        if self.done.is_multiple_of(LOG_SPACE_EVERY) {
            self.check_log_space()?;
        }
        taken_over
    }

    /// Returns whether it was possible.
    fn perform(&mut self, operation: &Operation) -> Outcome<bool> {
        Ok(match *operation {
            Operation::Insert(tree, number, value, durability) => {
                self.insert(tree, number, value, durability)?
            }
            Operation::InsertAsync(tree, number, value) => {
                self.insert_async(tree, number, value)?
            }
            Operation::Remove(tree, number, durability) => self.remove(tree, number, durability)?,
            Operation::Swap(tree, number, is_right, new) => {
                self.swap(tree, number, is_right, new)?
            }
            Operation::Get(tree, number) => self.get(tree, number)?,
            Operation::Range(tree, span) => self.range(tree, span)?,
            Operation::Ends(tree) => self.ends(tree)?,
            Operation::CreateTree(tree) => self.create_tree(tree)?,
            Operation::DropTree(tree) => self.drop_tree(tree)?,
            Operation::RenameTree(from, to) => self.rename_tree(from, to)?,
            Operation::Begin(slot, isolation) => {
                if self.open[slot].is_some() || self.has_open_ddl() {
                    return Ok(false);
                }
                let options = TransactionOptions::new().isolation(isolation);
                let transaction = self.database.begin_with(options)?;
                let model = TransactionModel::new(isolation, Durability::Sync);
                let created = BTreeMap::new();
                self.open[slot] = Some(Open { transaction, model, created });
                true
            }
            Operation::Do(slot, step) => self.step(slot, step)?,
            Operation::Finish(slot, end) => self.finish(slot, end)?,
            Operation::Await => {
                for (future, commit) in std::mem::take(&mut self.futures) {
                    let lsn = future.lsn();
                    ensure!(future.wait()? == lsn, "a commit's LSN changed");
                    self.oracle.is_durable(commit, self.disk.operation_count());
                }
                true
            }
            Operation::TakeSnapshot(slot) => self.take_snapshot(slot)?,
            Operation::CompareSnapshot(slot) => self.compare_snapshot(slot)?,
            Operation::DropSnapshot(slot) => self.snapshots[slot].take().is_some(),
            Operation::Sync => {
                self.database.sync()?;
                self.everything_is_durable();
                true
            }
            Operation::Maintain => seawall::testing::maintain_step(&self.database)?,
            Operation::Collect => seawall::testing::collect_step(&self.database)?,
            Operation::Flush => {
                seawall::testing::flush_step(&self.database)?;
                true
            }
            Operation::TakeCheckpoint => {
                seawall::testing::take_checkpoint(&self.database)?;
                self.everything_is_durable();
                true
            }
            Operation::Checkpoint => {
                self.database.checkpoint()?;
                self.everything_is_durable();
                true
            }
            Operation::CompareAll => {
                self.compare_all()?;
                true
            }
            Operation::Backup => {
                self.back_up()?;
                true
            }
            Operation::Reopen => {
                self.reopen()?;
                true
            }
            Operation::Kill => {
                self.kill()?;
                true
            }
            Operation::During(window, inside) => self.queue(window, inside)?,
        })
    }

    /// The log's files take no more space than they may.
    fn check_log_space(&self) -> Outcome {
        check_bound_simulated(&self.disk, Path::new(PATH), self.settings.max_wal_bytes)
    }

    fn everything_is_durable(&mut self) {
        self.oracle.is_durable(self.oracle.newest(), self.disk.operation_count());
    }

    /// The tree of this number as everybody sees it, and its handle.
    fn tree(&mut self, number: u8) -> Outcome<Option<(TreeUid, Tree)>> {
        let name = tree_name(number);
        let Some(&uid) = self.oracle.latest().names.get(&name) else { return Ok(None) };
        if let Some(tree) = self.trees.get(&uid) {
            return Ok(Some((uid, tree.clone())));
        }
        // A commit that nobody has waited for may not be visible yet.
        let Some(tree) = self.database.open_tree(&name)? else {
            let visible = self.oracle.visible_at(self.database.stats().visible_lsn);
            ensure!(visible < self.oracle.newest(), "{name} is not there");
            return Ok(None);
        };
        self.trees.insert(uid, tree.clone());
        Ok(Some((uid, tree)))
    }

    fn has_open_ddl(&self) -> bool {
        self.open.iter().flatten().any(|open| open.model.holds_trees())
    }

    fn open_count(&self) -> usize {
        self.open.iter().flatten().count()
    }

    /// Whether an auto-commit write of the key would wait.
    fn would_wait(&self, key: &TreeKey) -> bool {
        let holds = |open: &Open| open.model.holds(key) != Verdict::MustNot;
        self.has_open_ddl() || self.open.iter().flatten().any(holds)
    }
}
