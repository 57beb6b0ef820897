//! A database beside its oracle: does operations, and compares every answer.
//!
//! One thread does everything, so the order of commits is that of the calls. What would wait for
//! another transaction (an auto-commit write of a key that an open one holds) is skipped: nobody
//! would end the wait.

mod pairs;
mod steps;

use std::collections::BTreeMap;
use std::path::Path;

use seawall::{
    CommitFuture, Database, Durability, Snapshot, Transaction, TransactionOptions, Tree,
};
use seawall_wal::disk::SimDisk;

use self::pairs::{collect, count, describe, ends, part};
use crate::check::{compare_backwards, read_all, verify};
use crate::ensure;
use crate::failure::{Failure, Outcome};
use crate::log_space::check_bound_simulated;
use crate::operation::{Operation, SLOTS, Span, ValueSpec, key, tree_name};
use crate::oracle::{Bytes, CommitState, Forest, Oracle, TreeKey, TreeUid, Writes, difference};
use crate::settings::{PATH, Settings};
use crate::transaction::{TransactionModel, Verdict};

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
        let database = settings.open(&disk)?;
        Ok(Self {
            disk,
            oracle: Oracle::default(),
            settings: settings.clone(),
            database,
            trees: BTreeMap::new(),
            open: [const { None }; SLOTS],
            snapshots: [const { None }; SLOTS],
            futures: Vec::new(),
            backups: 0,
            done: 0,
        })
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
        let is_done = match *operation {
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
                    return Ok(());
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
        };
        self.done += u64::from(is_done);
        if self.done.is_multiple_of(LOG_SPACE_EVERY) {
            self.check_log_space()?;
        }
        Ok(())
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
            ensure!(!self.futures.is_empty(), "{name} is not there");
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

    /// The tree and key of an auto-commit write, unless it is impossible or would wait.
    fn target(&mut self, tree: u8, number: u16) -> Outcome<Option<(Tree, TreeKey)>> {
        let Some((uid, tree)) = self.tree(tree)? else { return Ok(None) };
        let key = (uid, Bytes::from(key(number)));
        Ok((!self.would_wait(&key)).then_some((tree, key)))
    }

    fn insert(
        &mut self,
        tree: u8,
        number: u16,
        value: ValueSpec,
        durability: Durability,
    ) -> Outcome<bool> {
        let Some((tree, key)) = self.target(tree, number)? else { return Ok(false) };
        let value = Bytes::from(value.make());
        let begun_at = self.disk.operation_count();
        tree.insert_with(&*key.1, &*value, durability)?;
        self.committed(begun_at, &Writes::from([(key, Some(value))]), None, durability);
        Ok(true)
    }

    fn insert_async(&mut self, tree: u8, number: u16, value: ValueSpec) -> Outcome<bool> {
        let Some((tree, key)) = self.target(tree, number)? else { return Ok(false) };
        let value = Bytes::from(value.make());
        let begun_at = self.disk.operation_count();
        let future = tree.insert_async(&*key.1, &*value)?;
        let writes = Writes::from([(key, Some(value))]);
        let state = CommitState::Pending { lsn: future.lsn() };
        let commit = self.oracle.commit(begun_at, &writes, None, state);
        self.futures.push((future, commit));
        Ok(true)
    }

    fn remove(&mut self, tree: u8, number: u16, durability: Durability) -> Outcome<bool> {
        let Some((tree, key)) = self.target(tree, number)? else { return Ok(false) };
        let begun_at = self.disk.operation_count();
        let was_there = tree.remove_with(&*key.1, durability)?;
        let expected = self.oracle.latest().get(key.0, &key.1).is_some();
        ensure!(was_there == expected, "remove says {was_there}");
        if was_there {
            self.committed(begun_at, &Writes::from([(key, None)]), None, durability);
        }
        Ok(true)
    }

    fn swap(
        &mut self,
        tree: u8,
        number: u16,
        is_right: bool,
        new: Option<ValueSpec>,
    ) -> Outcome<bool> {
        let Some((tree, key)) = self.target(tree, number)? else { return Ok(false) };
        let current = self.oracle.latest().get(key.0, &key.1).cloned();
        let old = if is_right {
            current.clone()
        } else {
            match &current {
                Some(value) if number.is_multiple_of(2) => Some([value, &b"x"[..]].concat().into()),
                Some(_) => None,
                None => Some(Bytes::from(&b"other"[..])),
            }
        };
        let new = new.map(|value| Bytes::from(value.make()));
        let begun_at = self.disk.operation_count();
        let is_swapped = tree.compare_and_swap(&*key.1, old.as_deref(), new.as_deref())?;
        let expected = old == current;
        ensure!(is_swapped == expected, "compare_and_swap says {is_swapped}");
        if is_swapped && !(old.is_none() && new.is_none()) {
            self.committed(begun_at, &Writes::from([(key, new)]), None, Durability::Sync);
        }
        Ok(true)
    }

    /// Notes a commit that has returned.
    fn committed(
        &mut self,
        begun_at: u64,
        writes: &Writes,
        names: Option<&BTreeMap<String, TreeUid>>,
        durability: Durability,
    ) {
        let state = match durability {
            Durability::Sync => CommitState::Durable { at: self.disk.operation_count() },
            _ => CommitState::Visible,
        };
        self.oracle.commit(begun_at, writes, names, state);
    }

    /// Compares what a read gave with what is visible: one of the states from before the read to
    /// after it, which are the same unless commits are pending.
    fn is_visible<T: PartialEq>(
        &self,
        visible_before: usize,
        got: &T,
        expected: impl Fn(&Forest) -> T,
    ) -> bool {
        let visible_after = self.visible();
        (visible_before..=visible_after).any(|commit| expected(self.oracle.state(commit)) == *got)
    }

    fn visible(&self) -> usize {
        self.oracle.visible_at(self.database.stats().visible_lsn)
    }

    fn get(&mut self, tree: u8, number: u16) -> Outcome<bool> {
        let Some((uid, tree)) = self.tree(tree)? else { return Ok(false) };
        let key = key(number);
        let before = self.visible();
        let got = tree.get(&key)?.map(|value| Bytes::from(&*value));
        let is_right = self.is_visible(before, &got, |forest| forest.get(uid, &key).cloned());
        ensure!(is_right, "get gives {:?}", got.map(|value| value.len()));
        let is_there = tree.contains_key(&key)?;
        let is_right = self.is_visible(before, &is_there, |it| it.get(uid, &key).is_some());
        ensure!(is_right, "contains_key gives {is_there}");
        Ok(true)
    }

    fn range(&mut self, tree: u8, span: Span) -> Outcome<bool> {
        let Some((uid, tree)) = self.tree(tree)? else { return Ok(false) };
        let (from, to) = ends(span);
        let before = self.visible();
        let range = tree.range(&*from..=&*to)?;
        let got = collect(range, span)?;
        let expected = |forest: &Forest| part(&forest.contents(uid), span);
        let is_right = self.is_visible(before, &got, expected);
        ensure!(is_right, "range gives {}", describe(&got, &expected(self.oracle.latest())));
        Ok(true)
    }

    fn ends(&mut self, tree: u8) -> Outcome<bool> {
        let Some((uid, tree)) = self.tree(tree)? else { return Ok(false) };
        let before = self.visible();
        let key_of = |pair: Option<(seawall::Value, _)>| pair.map(|(key, _)| Bytes::from(&*key));
        let (first, last) = (key_of(tree.first()?), key_of(tree.last()?));
        let is_right =
            self.is_visible(before, &first, |it| it.contents(uid).keys().next().cloned());
        ensure!(is_right, "first gives {first:?}");
        let is_right =
            self.is_visible(before, &last, |it| it.contents(uid).keys().next_back().cloned());
        ensure!(is_right, "last gives {last:?}");
        let len = tree.len()?;
        let is_right = self.is_visible(before, &len, |it| count(&it.contents(uid)));
        ensure!(is_right, "len gives {len}, expected {}", {
            count(&self.oracle.latest().contents(uid))
        });
        Ok(true)
    }

    fn create_tree(&mut self, number: u8) -> Outcome<bool> {
        let name = tree_name(number);
        if self.open_count() > 0 || self.oracle.latest().names.contains_key(&name) {
            return Ok(false);
        }
        let begun_at = self.disk.operation_count();
        let tree = self.database.tree(&name)?;
        ensure!(tree.name() == name, "the tree's name is {}", tree.name());
        let uid = self.oracle.new_tree();
        let mut names = self.oracle.latest().names.clone();
        names.insert(name, uid);
        self.committed(begun_at, &Writes::new(), Some(&names), Durability::Sync);
        self.trees.insert(uid, tree);
        Ok(true)
    }

    fn drop_tree(&mut self, number: u8) -> Outcome<bool> {
        if self.open_count() > 0 {
            return Ok(false);
        }
        let mut names = self.oracle.latest().names.clone();
        let uid = names.remove(&tree_name(number));
        let begun_at = self.disk.operation_count();
        let was_there = self.database.drop_tree(&tree_name(number))?;
        ensure!(was_there == uid.is_some(), "drop_tree says {was_there}");
        let Some(uid) = uid else { return Ok(true) };
        self.committed(begun_at, &Writes::new(), Some(&names), Durability::Sync);
        if let Some(tree) = self.trees.remove(&uid) {
            let answer = tree.get("k");
            let is_gone = matches!(answer, Err(seawall::Error::NotFound { .. }));
            ensure!(is_gone, "a dropped tree answers {answer:?}");
        }
        Ok(true)
    }

    fn rename_tree(&mut self, from: u8, to: u8) -> Outcome<bool> {
        let (from, to) = (tree_name(from), tree_name(to));
        let mut names = self.oracle.latest().names.clone();
        if self.open_count() > 0 || names.contains_key(&to) {
            return Ok(false);
        }
        let uid = names.remove(&from);
        let begun_at = self.disk.operation_count();
        let was_there = self.database.transact(|it| it.rename_tree(&from, &to))?;
        ensure!(was_there == uid.is_some(), "rename_tree says {was_there}");
        if let Some(uid) = uid {
            names.insert(to, uid);
            self.committed(begun_at, &Writes::new(), Some(&names), Durability::Sync);
        }
        Ok(true)
    }

    fn take_snapshot(&mut self, slot: usize) -> Outcome<bool> {
        let snapshot = self.database.snapshot()?;
        let commit = self.oracle.visible_at(snapshot.lsn());
        let forest = self.oracle.state(commit).clone();
        let trees = self.trees.clone();
        self.snapshots[slot] = Some(Taken { snapshot, forest, trees });
        Ok(true)
    }

    fn compare_snapshot(&mut self, slot: usize) -> Outcome<bool> {
        let Some(taken) = &self.snapshots[slot] else { return Ok(false) };
        let Taken { snapshot, forest, trees } = taken;
        for (name, uid) in &forest.names {
            let Some(tree) = trees.get(uid) else { continue };
            let expected = forest.contents(*uid);
            let at = |why: Failure| why.at(format!("snapshot of {name}"));
            let len = snapshot.len(tree)?;
            ensure!(len == count(&expected), "snapshot of {name}: len gives {len}");
            let whole = Span { from: 0, to: 0, is_backwards: false, pairs_max: u16::MAX };
            let got = collect(snapshot.range(tree, ..)?, whole).map_err(at)?;
            let all: Vec<_> =
                expected.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
            ensure!(got == all, "snapshot of {name} gives {}", describe(&got, &all));
            compare_backwards(snapshot.range(tree, ..)?, &expected).map_err(at)?;
            for (key, value) in expected.iter().step_by(7) {
                let got = snapshot.get(tree, key)?;
                ensure!(got.as_deref() == Some(&**value), "snapshot of {name}: get {key:?}");
            }
        }
        Ok(true)
    }

    /// Compares everything that is visible, and the structure.
    ///
    /// # Errors
    /// When it differs.
    pub fn compare_all(&mut self) -> Outcome {
        let before = self.visible();
        let found = read_all(&self.database)?;
        let after = self.visible();
        let is_right = (before..=after).any(|commit| self.oracle.state(commit).is_same(&found));
        ensure!(is_right, "contents: {}", difference(self.oracle.state(after), &found));
        let snapshot = self.database.snapshot()?;
        let forest = self.oracle.state(self.oracle.visible_at(snapshot.lsn())).clone();
        for (name, contents) in forest.trees() {
            if let Some(tree) = self.database.open_tree(name)? {
                compare_backwards(snapshot.range(&tree, ..)?, &contents)
                    .map_err(|why| why.at(format!("tree {name}")))?;
            }
        }
        verify(&self.database)
    }

    /// A backup holds every commit that was durable when it was begun, and no open transaction.
    fn back_up(&mut self) -> Outcome {
        self.backups += 1;
        let path = format!("/backup-{}", self.backups);
        let cut = self.disk.operation_count() + 1;
        self.database.backup(&path)?;
        let copy = self.settings.open_at(&self.disk, &path)?;
        let found = read_all(&copy)?;
        self.oracle.survivor(cut, &found).map_err(|why| why.at("the backup"))?;
        verify(&copy).map_err(|why| why.at("the backup"))?;
        copy.close()?;
        Ok(())
    }

    fn forget_handles(&mut self) {
        self.snapshots = [const { None }; SLOTS];
        self.trees.clear();
    }

    fn reopen(&mut self) -> Outcome {
        self.database.clone().close()?;
        self.open = [const { None }; SLOTS];
        self.forget_handles();
        self.futures.clear();
        self.database = self.settings.open(&self.disk)?;
        ensure!(self.database.recovery_report().clean, "it was closed, and not clean");
        let newest = self.oracle.newest();
        self.oracle.cut_after(newest, self.disk.operation_count());
        self.compare_all()
    }

    fn kill(&mut self) -> Outcome {
        let disk = self.disk.fork();
        let cut = disk.operation_count() + 1;
        let database = self.settings.open(&disk)?;
        let found = read_all(&database)?;
        let commit = self.oracle.survivor(cut, &found)?;
        self.oracle.cut_after(commit, disk.operation_count());
        self.open = [const { None }; SLOTS];
        self.forget_handles();
        self.futures.clear();
        self.database = database;
        self.disk = disk;
        self.compare_all()
    }
}
