//! A transaction: reads of one moment and of its own writes, writes that take place together.
//!
//! What must hold:
//!
//! * T1: what it reads is provisional until its commit returns. Only the commit waits for what it
//!   rests on; no read inside it does.
//! * L4: a closure of the user runs outside of latches, so a panic in it unwinds, drops the
//!   transaction, and so rolls it back.
//! * The unit's mutex is held for a call and never while a flush is waited for: a commit takes the unit
//!   out, logs, and waits without it. Whoever closes the database takes the unit away under that mutex.

use std::cell::Cell as NotSync;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use seawall_wal::{Error, Lsn, Result};

use super::core::{LiveState, LiveUnit, Shared, check_key, check_value};
use super::future::CommitFuture;
use super::range::{Range, Reader, TrackedReads, TransactionReader};
use super::registered::resolve;
use super::snapshot::check_same;
use super::tree::Tree;
use crate::engine::{Unit, UnitMark, View, check_name};
use crate::key_range::{KeyBounds, KeyRange};
use crate::page::inline_value_bytes_max;
use crate::{Durability, TransactionOptions, Value};

/// Keys that `remove_range` collects before it removes them.
const REMOVE_BATCH: usize = 1024;

/// A transaction. Dropping it rolls it back.
///
/// It sees the database as it was at its first read, and its own writes. Values are provisional
/// until its commit returns. A write of a key that another transaction has written, and not ended,
/// or has committed since this one's first read, is [`Error::Conflict`]: roll back and run it
/// again, or use [`Database::transact`](crate::Database::transact), which does. (Nothing keeps one from
/// going on instead: the write that gave it is not made, all others are.)
///
/// Of many inserts in a row, with nothing else between them, into a database that is larger than its
/// cache, the later ones may be kept in memory, up to 1 MiB, and written together: when that is full, or by whatever the transaction does next. Their
/// errors, [`Error::Conflict`] among them, are then told by that call, and by every later one until they
/// are written or rolled back.
///
/// A transaction that stays open may have to be ended for the others' sake. Where it has written,
/// its records are moved out of the log when that fills; only where that is not possible, on a full
/// disk, its next call gives [`Error::TransactionTooOld`]. Where it has read, the versions it sees
/// may have to be dropped to bound memory: then reads, and a commit that has to validate them, give
/// [`Error::SnapshotTooOld`]. Roll back and run it again.
pub struct Transaction {
    shared: Arc<Shared>,
    unit: LiveUnit,
    live_id: u64,
    durability: Durability,
    /// Whether an operation gave `Conflict`. The cell also keeps the transaction to one thread at a
    /// time: what it reads depends on what it wrote before.
    has_conflicted: NotSync<bool>,
    /// Whether the unit keeps inserts that it has not written yet.
    keeps_inserts: NotSync<bool>,
}

/// A point in a transaction to which it can be rolled back, made by [`Transaction::savepoint`]. It says
/// nothing to another transaction.
#[derive(Clone, Debug)]
pub struct Savepoint {
    /// None behind inserts that could not be written.
    mark: Option<UnitMark>,
    live_id: u64,
}

impl Transaction {
    pub(super) fn begin(shared: &Arc<Shared>, options: &TransactionOptions) -> Result<Self> {
        let core = &shared.core;
        core.engine.check_open()?;
        let isolation = options.isolation.unwrap_or(core.options.isolation);
        let durability = options.durability.unwrap_or(core.options.durability);
        let (live_id, unit) = core.enlist(Unit::new(isolation));
        let shared = Arc::clone(shared);
        let (has_conflicted, keeps_inserts) = (NotSync::new(false), NotSync::new(false));
        Ok(Self { shared, unit, live_id, durability, has_conflicted, keeps_inserts })
    }

    /// Runs `act` on the unit, which closing the database takes away.
    fn with<T>(&self, act: impl FnOnce(&mut Unit) -> Result<T>) -> Result<T> {
        self.shared.core.engine.check_open()?;
        let mut unit = self.unit.lock();
        let result = match &mut *unit {
            LiveState::Active(unit) => {
                let result = act(unit);
                self.keeps_inserts.set(unit.keeps_inserts());
                result
            }
            LiveState::Ended(error) => Err(error.clone()),
        };
        if result.as_ref().is_err_and(Error::is_conflict) {
            self.has_conflicted.set(true);
        }
        result
    }

    /// Runs `act` on the unit, behind the inserts that it keeps.
    fn settled<T>(&self, act: impl FnOnce(&mut Unit) -> Result<T>) -> Result<T> {
        let core = &self.shared.core;
        let _writing = if self.keeps_inserts.get() { Some(core.admit_write()?) } else { None };
        self.with(|unit| {
            core.engine.flush_inserts(unit)?;
            act(unit)
        })
    }

    /// The same for what writes.
    fn write<T>(&self, act: impl FnOnce(&mut Unit) -> Result<T>) -> Result<T> {
        let core = &self.shared.core;
        let _writing = core.admit_write()?;
        self.with(|unit| {
            core.engine.flush_inserts(unit)?;
            act(unit)
        })
    }

    /// Whether running it again may help, whatever became of the error.
    pub(super) fn has_conflicted(&self) -> bool {
        self.has_conflicted.get()
    }

    fn check(&self, unit: &Unit, tree: &Tree) -> Result<()> {
        check_same(&self.shared, tree)?;
        if unit.has_dropped(&tree.info) {
            return Err(Error::NotFound { what: "the tree, which was dropped,".into() });
        }
        self.shared.core.engine.check_tree(&tree.info)
    }

    /// Puts a value under a key, whatever stands there.
    ///
    /// # Errors
    /// Those of [every call](crate#errors-of-every-call) that uses a transaction and writes;
    /// [`Error::Conflict`] where another transaction has written the key. After [`Error::NoSpace`]
    /// the transaction may go on.
    pub fn insert(
        &mut self,
        tree: &Tree,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<()> {
        let (key, value) = (key.as_ref(), value.as_ref());
        check_key(key)?;
        check_value(value)?;
        let engine = &self.shared.core.engine;
        let _writing = self.shared.core.admit_write()?;
        self.with(|unit| {
            self.check(unit, tree)?;
            if value.len() > inline_value_bytes_max(engine.page_bytes, key.len()) {
                engine.flush_inserts(unit)?;
                return engine.unit_write_large(unit, &tree.info, key, value);
            }
            engine.unit_insert(unit, &tree.info, key, value)
        })
    }

    /// Removes a key. Returns whether it was there.
    ///
    /// # Errors
    /// Those of [`Transaction::insert`].
    pub fn remove(&mut self, tree: &Tree, key: impl AsRef<[u8]>) -> Result<bool> {
        let key = key.as_ref();
        check_key(key)?;
        self.write(|unit| {
            self.check(unit, tree)?;
            self.shared.core.engine.unit_remove(unit, &tree.info, key)
        })
    }

    /// Removes every key of a range, or, where that fails, none. Returns how many there were.
    ///
    /// # Errors
    /// Those of [`Transaction::insert`].
    pub fn remove_range(&mut self, tree: &Tree, range: impl KeyRange) -> Result<u64> {
        // Behind inserts that cannot be written a savepoint would be no way back.
        self.settled(|_| Ok(()))?;
        let savepoint = self.savepoint();
        let removed = self.remove_bounded(tree, range.into_bounds());
        if removed.is_err() {
            self.rollback_to(&savepoint)?;
        }
        removed
    }

    fn remove_bounded(&mut self, tree: &Tree, mut bounds: KeyBounds) -> Result<u64> {
        let mut removed = 0;
        loop {
            let mut keys = Vec::new();
            let mut range = self.bounded(tree, bounds.clone())?;
            while keys.len() < REMOVE_BATCH
                && let Some(key) = range.next_key()
            {
                keys.push(key?);
            }
            drop(range);
            for key in &keys {
                removed += u64::from(self.remove(tree, key)?);
            }
            match keys.pop() {
                Some(last) if keys.len() + 1 == REMOVE_BATCH => {
                    bounds.lower = std::ops::Bound::Excluded(last);
                }
                _ => return Ok(removed),
            }
        }
    }

    /// The tree of this name, created with this transaction where it is missing.
    ///
    /// # Errors
    /// Those of [`Transaction::insert`]; [`Error::InvalidArgument`] for an empty or too long name;
    /// [`Error::Conflict`] where another transaction creates or drops a tree of this name.
    pub fn tree(&mut self, name: &str) -> Result<Tree> {
        check_name(name)?;
        let core = &self.shared.core;
        if let Some(info) = self.settled(|unit| core.engine.unit_find_tree(unit, name))? {
            return Ok(Tree::new(&self.shared, info, name));
        }
        let info = self.write(|unit| core.engine.unit_open_tree(unit, name))?;
        Ok(Tree::new(&self.shared, info, name))
    }

    /// Drops a tree when this transaction commits. Returns whether there was one.
    ///
    /// # Errors
    /// Those of [`Transaction::insert`]; [`Error::InvalidArgument`] for an empty or too long name;
    /// [`Error::Conflict`] while another transaction writes to it.
    pub fn drop_tree(&mut self, name: &str) -> Result<bool> {
        self.write(|unit| self.shared.core.engine.unit_drop_tree(unit, name))
    }

    /// Renames a tree when this transaction commits. Returns whether there was one.
    ///
    /// # Errors
    /// Those of [`Transaction::insert`]; [`Error::InvalidArgument`] for an empty or too long name,
    /// and when there is a tree named `to`; [`Error::Conflict`] while another transaction writes to
    /// it.
    pub fn rename_tree(&mut self, from: &str, to: &str) -> Result<bool> {
        self.write(|unit| self.shared.core.engine.unit_rename_tree(unit, from, to))
    }

    /// The value of a key.
    ///
    /// # Errors
    /// Those of [every call](crate#errors-of-every-call) that uses a transaction and reads.
    pub fn get(&self, tree: &Tree, key: impl AsRef<[u8]>) -> Result<Option<Value>> {
        Ok(self.read(tree, key.as_ref())?.map(Value::from))
    }

    fn read(&self, tree: &Tree, key: &[u8]) -> Result<Option<Vec<u8>>> {
        check_key(key)?;
        let engine = &self.shared.core.engine;
        let mut out = Vec::new();
        let is_there = self.settled(|unit| {
            self.check(unit, tree)?;
            let found = engine.unit_lookup(unit, &tree.info, key, &mut out)?;
            let is_there = resolve(engine, found, &mut out);
            engine.check_read(&tree.info, View::At(engine.unit_view(unit)))?;
            is_there
        })?;
        Ok(is_there.then_some(out))
    }

    /// Whether a key is there.
    ///
    /// # Errors
    /// Those of [every call](crate#errors-of-every-call) that uses a transaction and reads.
    pub fn contains_key(&self, tree: &Tree, key: impl AsRef<[u8]>) -> Result<bool> {
        Ok(self.read(tree, key.as_ref())?.is_some())
    }

    /// Calls `read` with the value of a key.
    ///
    /// # Errors
    /// Those of [every call](crate#errors-of-every-call) that uses a transaction and reads.
    pub fn get_with<R>(
        &self,
        tree: &Tree,
        key: impl AsRef<[u8]>,
        read: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>> {
        Ok(self.read(tree, key.as_ref())?.map(|value| read(&value)))
    }

    /// The pairs of a range, from either end.
    ///
    /// # Errors
    /// Those of [every call](crate#errors-of-every-call) that uses a transaction; errors of reading
    /// come from the iterator.
    pub fn range(&self, tree: &Tree, range: impl KeyRange) -> Result<Range<'_>> {
        self.bounded(tree, range.into_bounds())
    }

    /// The pairs whose keys begin with `prefix`.
    ///
    /// # Errors
    /// Those of [every call](crate#errors-of-every-call) that uses a transaction; errors of reading
    /// come from the iterator.
    pub fn prefix(&self, tree: &Tree, prefix: impl AsRef<[u8]>) -> Result<Range<'_>> {
        self.bounded(tree, KeyBounds::prefix(prefix.as_ref()))
    }

    fn bounded(&self, tree: &Tree, bounds: KeyBounds) -> Result<Range<'_>> {
        let engine = &self.shared.core.engine;
        let reader = self.settled(|unit| {
            self.check(unit, tree)?;
            let at = engine.unit_view(unit);
            let (read_lsn, low_lsn) = (at.read_lsn, at.low_lsn);
            let revoked = unit.revoked();
            let is_tracked = unit.is_serializable();
            let reads = is_tracked.then(|| TrackedReads::new(&unit.reads, tree.info.id, &bounds));
            let own = Arc::clone(&unit.writer);
            Ok(TransactionReader { read_lsn, low_lsn, own, revoked, reads })
        })?;
        Ok(Range::new(&self.shared, &tree.info, Reader::Transaction(reader), bounds))
    }

    /// Calls `visit` with each pair of a range, in order, until it breaks.
    ///
    /// # Errors
    /// Those of [every call](crate#errors-of-every-call) that uses a transaction and reads.
    pub fn scan<R>(
        &self,
        tree: &Tree,
        range: impl KeyRange,
        visit: impl FnMut(&[u8], &[u8]) -> ControlFlow<R>,
    ) -> Result<Option<R>> {
        self.bounded(tree, range.into_bounds())?.visit(visit)
    }

    /// A point to which [`Transaction::rollback_to`] goes back. Of a transaction that the database has
    /// ended it is a point that says nothing: going back to it gives that end's error.
    #[must_use]
    pub fn savepoint(&mut self) -> Savepoint {
        // What cannot be written now comes behind the savepoint, and would be taken back with it.
        Savepoint { mark: self.settled(|unit| Ok(unit.mark())).ok(), live_id: self.live_id }
    }

    /// Undoes everything since the savepoint, which stays valid. Later savepoints do not.
    ///
    /// # Errors
    /// Those of [every call](crate#errors-of-every-call) that uses a transaction and writes;
    /// [`Error::InvalidArgument`] for a savepoint of another transaction, for one behind a savepoint that
    /// was gone back to, and for one behind inserts that were kept and could not be written. After any but
    /// the last, roll back: part of it may be undone.
    pub fn rollback_to(&mut self, savepoint: &Savepoint) -> Result<()> {
        if savepoint.live_id != self.live_id {
            let why = "the savepoint is of another transaction";
            return Err(Error::InvalidArgument(why.into()));
        }
        let _writing = self.shared.core.admit_write()?;
        self.with(|unit| {
            let why = "inserts before the savepoint could not be written";
            let mark = savepoint.mark.ok_or_else(|| Error::InvalidArgument(why.into()))?;
            self.shared.core.engine.undo_unit_to_mark(unit, mark)
        })
    }

    /// Undoes everything, as dropping does, and tells of errors.
    ///
    /// # Errors
    /// What kept a part of it from being undone, and so has poisoned the database: the next open
    /// undoes it. None for a transaction that the database has ended already.
    pub fn rollback(self) -> Result<()> {
        self.end()
    }

    fn end(&self) -> Result<()> {
        let core = &self.shared.core;
        // Before the unit goes out of the reach of whoever closes the database.
        let has_written = self.unit.lock().has_written();
        let ending = if has_written { core.admit_end().map(Some) } else { Ok(None) };
        core.delist(self.live_id);
        // Where it fails it was committed, or rolled back without this handle.
        let Ok(unit) = self.unit.lock().end(Error::Closed) else { return Ok(()) };
        let _ending = ending?;
        core.engine.roll_back_unit(unit)
    }

    /// Makes everything take place, with the durability that the transaction was begun with.
    ///
    /// # Errors
    /// [`Error::Conflict`] where a commit of another transaction has changed what this one has
    /// read; [`Error::TransactionTooOld`], [`Error::SnapshotTooOld`], and those of [every
    /// call](crate#errors-of-every-call) that writes: after all of these everything is undone, or
    /// will be by the next open. [`Error::CommitUnknown`]: it may have taken place.
    pub fn commit(self) -> Result<Lsn> {
        let durability = self.durability;
        self.commit_with(durability)
    }

    /// [`Transaction::commit`] with another durability.
    ///
    /// # Errors
    /// Those of [`Transaction::commit`].
    pub fn commit_with(self, durability: Durability) -> Result<Lsn> {
        let lsn = self.log_commit_with(durability)?;
        self.shared.core.wait_for(lsn)?;
        Ok(lsn)
    }

    /// [`Transaction::commit`] without waiting for the disk.
    ///
    /// # Errors
    /// Those of [`Transaction::commit`]; a failed flush shows in the future.
    pub fn commit_async(self) -> Result<CommitFuture> {
        let durability = self.durability;
        let lsn = self.log_commit_with(durability)?;
        Ok(CommitFuture::new(&self.shared, lsn, durability == Durability::Sync))
    }

    /// Logs the commit; the caller waits for it.
    pub(super) fn log_commit(&self) -> Result<Lsn> {
        self.log_commit_with(self.durability)
    }

    fn log_commit_with(&self, durability: Durability) -> Result<Lsn> {
        let core = &self.shared.core;
        core.engine.check_open()?;
        // Before the unit goes out of the reach of whoever closes the database.
        let has_written = self.unit.lock().has_written();
        let _writing = if has_written { Some(core.admit_write()?) } else { None };
        let unit = self.unit.lock().end(Error::Closed)?;
        core.delist(self.live_id);
        core.engine.commit_unit(unit, durability)
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            // Whoever wants to know calls `rollback`; recovery undoes what is left.
            drop(error);
        }
    }
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction").field("durability", &self.durability).finish_non_exhaustive()
    }
}
