//! A tree: reads of what is visible, and writes that commit by themselves.
//!
//! No call returns on the strength of a synchronous commit that is not durable, its own or another's
//! (T1).

use std::cell::RefCell;
use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use seawall_wal::record::Cell;
use seawall_wal::sync::Instant;
use seawall_wal::{Lsn, Result};

use super::Patience;
use super::core::{Shared, check_key, check_value};
use super::future::CommitFuture;
use super::range::{Range, Reader};
use super::registered::Registered;
use super::transaction::Transaction;
use crate::catalogue::TreeInfo;
use crate::engine::{CONFLICT_WAIT, Decision, Found, Outcome, View};
use crate::key_range::{KeyBounds, KeyRange};
use crate::page::inline_value_bytes_max;
use crate::{Database, Durability, TransactionOptions, Value};

thread_local! {
    /// Values that `get_with` hands to its closure.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A tree of a database: an ordered map from keys to values. Cloning it is cheap.
///
/// Each write commits by itself, as one log record where the value is small, and is durable when it
/// returns unless asked otherwise. Reads see every commit that has returned. Keys have 1 to
/// [`MAX_KEY_BYTES`](crate::MAX_KEY_BYTES) bytes, values up to
/// [`MAX_VALUE_BYTES`](crate::MAX_VALUE_BYTES); anything else is
/// [`Error::InvalidArgument`](crate::Error::InvalidArgument). Operations on a dropped tree give
/// [`Error::NotFound`](crate::Error::NotFound).
#[derive(Clone)]
pub struct Tree {
    pub(super) shared: Arc<Shared>,
    pub(super) info: Arc<TreeInfo>,
    name: Arc<str>,
}

impl Tree {
    pub(super) fn new(shared: &Arc<Shared>, info: Arc<TreeInfo>, name: &str) -> Self {
        Self { shared: Arc::clone(shared), info, name: name.into() }
    }

    /// The name it was opened under.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// END of the commit that dropped it, seen by readers or not.
    pub(super) fn dropped_lsn(&self) -> Option<Lsn> {
        self.info.dropped_lsn()
    }

    /// Refuses to read a tree whose drop is visible.
    fn check(&self) -> Result<()> {
        let engine = &self.shared.core.engine;
        engine.check_open()?;
        match self.dropped_lsn() {
            Some(dropped_lsn) if dropped_lsn <= engine.log.visible_lsn() => {
                engine.check_tree(&self.info)
            }
            _ => Ok(()),
        }
    }

    fn durability(&self) -> Durability {
        self.shared.core.options.durability
    }

    /// Puts a value under a key, whatever stood there. It commits by itself, within a transaction of the
    /// same thread too: what belongs to one goes through [`Transaction::insert`](crate::Transaction::insert).
    ///
    /// # Errors
    /// Those of [every call](crate#errors-of-every-call) that uses a tree, writes and commits;
    /// [`Error::Conflict`](crate::Error::Conflict) when a transaction has held the key for a
    /// second.
    pub fn insert(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        self.insert_with(key, value, self.durability())
    }

    /// [`Tree::insert`] with another durability than the database's.
    ///
    /// # Errors
    /// Those of [`Tree::insert`].
    pub fn insert_with(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        durability: Durability,
    ) -> Result<()> {
        let lsn = self.put(key.as_ref(), value.as_ref(), durability)?;
        self.shared.core.wait_for(lsn)
    }

    /// [`Tree::insert`] without waiting for the disk.
    ///
    /// # Errors
    /// Those of [`Tree::insert`]; a failed flush shows in the future.
    pub fn insert_async(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<CommitFuture> {
        let durability = self.durability();
        let lsn = self.put(key.as_ref(), value.as_ref(), durability)?;
        Ok(CommitFuture::new(&self.shared, lsn, durability == Durability::Sync))
    }

    /// Logs an insert; returns the commit.
    fn put(&self, key: &[u8], value: &[u8], durability: Durability) -> Result<Lsn> {
        check_key(key)?;
        check_value(value)?;
        if value.len() > self.inline_max(key) {
            let insert = |transaction: &mut Transaction| transaction.insert(self, key, value);
            return self.transact_one(durability, insert).map(|((), lsn)| lsn);
        }
        let outcome = self.auto_commit(key, value.len(), durability, |_| Decision::Put(value))?;
        Ok(outcome.lsn)
    }

    /// Removes a key. Returns whether it was there.
    ///
    /// # Errors
    /// Those of [`Tree::insert`].
    pub fn remove(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.remove_with(key, self.durability())
    }

    /// [`Tree::remove`] with another durability than the database's.
    ///
    /// # Errors
    /// Those of [`Tree::insert`].
    pub fn remove_with(&self, key: impl AsRef<[u8]>, durability: Durability) -> Result<bool> {
        let key = key.as_ref();
        check_key(key)?;
        let outcome = self.auto_commit(key, 0, durability, |_| Decision::Delete)?;
        self.shared.core.wait_for(outcome.lsn)?;
        Ok(outcome.is_written)
    }

    /// For a server that answers for durability itself: a relaxed insert, seen by every reader when
    /// this returns. Returns its commit, for [`Database::durable_async`].
    ///
    /// # Errors
    /// Those of [`Tree::insert`].
    #[doc(hidden)]
    pub fn insert_visible(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<Lsn> {
        let lsn = self.put(key.as_ref(), value.as_ref(), Durability::Relaxed)?;
        self.shared.core.wait_for(lsn)?;
        Ok(lsn)
    }

    /// For a server that answers for durability itself: a relaxed removal, seen by every reader when
    /// this returns. Returns its commit; `None` where the key was not there.
    ///
    /// # Errors
    /// Those of [`Tree::insert`].
    #[doc(hidden)]
    pub fn remove_visible(&self, key: impl AsRef<[u8]>) -> Result<Option<Lsn>> {
        let key = key.as_ref();
        check_key(key)?;
        let outcome = self.auto_commit(key, 0, Durability::Relaxed, |_| Decision::Delete)?;
        self.shared.core.wait_for(outcome.lsn)?;
        Ok(outcome.is_written.then_some(outcome.lsn))
    }

    /// Replaces a key's value by `new` if it is `old`, as one step; `None` stands for absence.
    /// Returns whether it was.
    ///
    /// # Errors
    /// Those of [`Tree::insert`].
    pub fn compare_and_swap(
        &self,
        key: impl AsRef<[u8]>,
        old: Option<&[u8]>,
        new: Option<&[u8]>,
    ) -> Result<bool> {
        let key = key.as_ref();
        check_key(key)?;
        new.map_or(Ok(()), check_value)?;
        let durability = self.durability();
        let longest = old.map_or(0, <[u8]>::len).max(new.map_or(0, <[u8]>::len));
        if longest > self.inline_max(key) {
            return self.compare_and_swap_large(key, old, new);
        }
        let decide = |cell: Option<Cell<'_>>| {
            // An overflow value is longer than `old` can be.
            let is_old = match (cell, old) {
                (Some(cell), Some(old)) => !cell.is_overflow && cell.value == old,
                (None, None) => true,
                _ => false,
            };
            match new {
                _ if !is_old => Decision::Keep,
                Some(new) => Decision::Put(new),
                None => Decision::Delete,
            }
        };
        let is_no_change = old.is_none() && new.is_none();
        let new_bytes = new.map_or(0, <[u8]>::len);
        let outcome = self.auto_commit(key, new_bytes, durability, decide)?;
        self.shared.core.wait_for(outcome.lsn)?;
        if is_no_change {
            return Ok(!self.contains_key(key)?);
        }
        Ok(outcome.is_written)
    }

    fn compare_and_swap_large(
        &self,
        key: &[u8],
        old: Option<&[u8]>,
        new: Option<&[u8]>,
    ) -> Result<bool> {
        let (is_written, lsn) = self.transact_one(self.durability(), |transaction| {
            if transaction.get(self, key)?.as_deref() != old {
                return Ok(false);
            }
            match new {
                Some(new) => transaction.insert(self, key, new)?,
                None => {
                    transaction.remove(self, key)?;
                }
            }
            Ok(true)
        })?;
        self.shared.core.wait_for(lsn)?;
        Ok(is_written)
    }

    /// Longest value that stands in a leaf beside this key.
    fn inline_max(&self, key: &[u8]) -> usize {
        inline_value_bytes_max(self.shared.core.engine.page_bytes, key.len())
    }

    fn auto_commit<'v>(
        &self,
        key: &[u8],
        value_bytes: usize,
        durability: Durability,
        decide: impl Fn(Option<Cell<'_>>) -> Decision<'v>,
    ) -> Result<Outcome> {
        let _writing = self.shared.core.admit_write()?;
        self.check()?;
        self.shared.core.engine.auto_commit(&self.info, key, value_bytes, durability, decide)
    }

    /// Runs one operation as a transaction, for as long as other writers are waited for; returns what it
    /// gave, and its commit.
    fn transact_one<T>(
        &self,
        durability: Durability,
        mut run: impl FnMut(&mut Transaction) -> Result<T>,
    ) -> Result<(T, Lsn)> {
        let options = TransactionOptions::new().durability(durability);
        let patience = Patience::Until(Instant::now() + CONFLICT_WAIT);
        self.database().try_transact(&options, patience, &mut run)
    }

    fn database(&self) -> Database {
        Database::of(&self.shared)
    }

    /// Puts the value of a key into `out`. Returns whether there is one.
    fn get_into(&self, key: &[u8], out: &mut Vec<u8>) -> Result<bool> {
        check_key(key)?;
        self.check()?;
        match self.shared.core.engine.lookup(&self.info, key, View::Latest, out)? {
            None => Ok(false),
            Some(Found::Inline) => Ok(true),
            Some(Found::Overflow) => {
                // The pages of a large value stay only for those who are registered.
                out.clear();
                self.registered().get_into(&self.info, key, out)
            }
        }
    }

    fn registered(&self) -> Registered {
        Registered::new(&self.shared.core.engine)
    }

    /// The value of a key.
    ///
    /// # Errors
    /// Those of [every call](crate#errors-of-every-call) that uses a tree and reads.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Value>> {
        let mut out = Vec::new();
        let is_there = self.get_into(key.as_ref(), &mut out)?;
        Ok(is_there.then(|| Value::from(out)))
    }

    /// Whether a key is there.
    ///
    /// # Errors
    /// Those of [`Tree::get`].
    pub fn contains_key(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.get_with(key, |_| ()).map(|found| found.is_some())
    }

    /// Calls `read` with the value of a key, without allocating for it.
    ///
    /// # Errors
    /// Those of [`Tree::get`].
    pub fn get_with<R>(
        &self,
        key: impl AsRef<[u8]>,
        read: impl FnOnce(&[u8]) -> R,
    ) -> Result<Option<R>> {
        // Taken, so that `read` may call `get_with` itself.
        let mut scratch = SCRATCH.take();
        scratch.clear();
        let is_there = self.get_into(key.as_ref(), &mut scratch);
        let result = is_there.map(|is_there| is_there.then(|| read(&scratch)));
        SCRATCH.set(scratch);
        result
    }

    /// The pairs of a range, from either end.
    ///
    /// # Errors
    /// Those of [every call](crate#errors-of-every-call) that uses a tree; errors of reading, and
    /// [`Error::SnapshotTooOld`](crate::Error::SnapshotTooOld), come from the iterator.
    pub fn range(&self, range: impl KeyRange) -> Result<Range<'static>> {
        self.bounded(range.into_bounds())
    }

    /// The pairs whose keys begin with `prefix`.
    ///
    /// # Errors
    /// Those of [`Tree::range`].
    pub fn prefix(&self, prefix: impl AsRef<[u8]>) -> Result<Range<'static>> {
        self.bounded(KeyBounds::prefix(prefix.as_ref()))
    }

    fn bounded(&self, bounds: KeyBounds) -> Result<Range<'static>> {
        self.check()?;
        let reader = Reader::Snapshot(Arc::new(self.registered()));
        Ok(Range::new(&self.shared, &self.info, reader, bounds))
    }

    /// Calls `visit` with each pair of a range, in order, until it breaks; without allocating for
    /// each pair.
    ///
    /// # Errors
    /// Those of [every call](crate#errors-of-every-call) that uses a tree and reads one moment.
    pub fn scan<R>(
        &self,
        range: impl KeyRange,
        visit: impl FnMut(&[u8], &[u8]) -> ControlFlow<R>,
    ) -> Result<Option<R>> {
        self.bounded(range.into_bounds())?.visit(visit)
    }

    /// The pair with the lowest key.
    ///
    /// # Errors
    /// Those of [`Tree::scan`].
    pub fn first(&self) -> Result<Option<(Value, Value)>> {
        self.range(..)?.next().transpose()
    }

    /// The pair with the highest key.
    ///
    /// # Errors
    /// Those of [`Tree::scan`].
    pub fn last(&self) -> Result<Option<(Value, Value)>> {
        self.range(..)?.next_back().transpose()
    }

    /// How many keys the tree has. Takes constant time.
    ///
    /// # Errors
    /// Those of [every call](crate#errors-of-every-call) that uses a tree.
    pub fn len(&self) -> Result<u64> {
        self.check()?;
        Ok(self.info.size.at(self.shared.core.engine.log.visible_lsn()))
    }

    /// Whether the tree has no keys.
    ///
    /// # Errors
    /// Those of [`Tree::len`].
    pub fn is_empty(&self) -> Result<bool> {
        self.len().map(|len| len == 0)
    }
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tree").field("name", &self.name).field("id", &self.info.id).finish()
    }
}
