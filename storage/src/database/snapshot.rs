//! A view of one moment: every read is as of one position (T3), which is registered until the last
//! clone is dropped. It never holds log; where memory for versions is short it is revoked, and each read
//! asks for that behind its last look.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use seawall_wal::{Error, Lsn, Result};

use super::core::{Shared, check_key};
use super::range::{Range, Reader};
use super::registered::Registered;
use super::tree::Tree;
use crate::Value;
use crate::key_range::{KeyBounds, KeyRange};

/// The database as it was at one moment, for as long as this lives. Cloning it is cheap.
///
/// It keeps old versions in memory, never the log: an old snapshot costs the versions of what was
/// overwritten since. Where they fill their share of memory, writers wait a second for it to go;
/// then it is revoked, and every read gives [`Error::SnapshotTooOld`]: take a new one.
#[derive(Clone)]
pub struct Snapshot {
    shared: Arc<Shared>,
    registered: Arc<Registered>,
}

impl Snapshot {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        let registered = Arc::new(Registered::new(&shared.core.engine));
        Self { shared: Arc::clone(shared), registered }
    }

    /// Commits at or below are seen.
    #[must_use]
    pub fn lsn(&self) -> Lsn {
        self.registered.read_lsn
    }

    /// A tree that was dropped before this moment cannot be read; one dropped later can.
    fn check(&self, tree: &Tree) -> Result<()> {
        self.shared.core.engine.check_open()?;
        check_same(&self.shared, tree)?;
        match tree.info.dropped_lsn() {
            Some(dropped) if dropped <= self.lsn() => {
                self.shared.core.engine.check_tree(&tree.info)
            }
            _ => Ok(()),
        }
    }

    /// The value of a key.
    ///
    /// # Errors
    /// Those of [every call](crate#errors-of-every-call) that reads one moment.
    pub fn get(&self, tree: &Tree, key: impl AsRef<[u8]>) -> Result<Option<Value>> {
        Ok(self.read(tree, key.as_ref())?.map(Value::from))
    }

    fn read(&self, tree: &Tree, key: &[u8]) -> Result<Option<Vec<u8>>> {
        check_key(key)?;
        self.check(tree)?;
        let mut out = Vec::new();
        let is_there = self.registered.get_into(&tree.info, key, &mut out)?;
        Ok(is_there.then_some(out))
    }

    /// Whether a key is there.
    ///
    /// # Errors
    /// Those of [every call](crate#errors-of-every-call) that reads one moment.
    pub fn contains_key(&self, tree: &Tree, key: impl AsRef<[u8]>) -> Result<bool> {
        Ok(self.read(tree, key.as_ref())?.is_some())
    }

    /// Calls `read` with the value of a key.
    ///
    /// # Errors
    /// Those of [every call](crate#errors-of-every-call) that reads one moment.
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
    /// Those of [every call](crate#errors-of-every-call) that uses a tree; errors of reading, and
    /// [`Error::SnapshotTooOld`], come from the iterator.
    pub fn range(&self, tree: &Tree, range: impl KeyRange) -> Result<Range<'static>> {
        self.bounded(tree, range.into_bounds())
    }

    /// The pairs whose keys begin with `prefix`.
    ///
    /// # Errors
    /// Those of [every call](crate#errors-of-every-call) that uses a tree; errors of reading, and
    /// [`Error::SnapshotTooOld`], come from the iterator.
    pub fn prefix(&self, tree: &Tree, prefix: impl AsRef<[u8]>) -> Result<Range<'static>> {
        self.bounded(tree, KeyBounds::prefix(prefix.as_ref()))
    }

    fn bounded(&self, tree: &Tree, bounds: KeyBounds) -> Result<Range<'static>> {
        self.check(tree)?;
        let reader = Reader::Snapshot(Arc::clone(&self.registered));
        Ok(Range::new(&self.shared, &tree.info, reader, bounds))
    }

    /// Calls `visit` with each pair of a range, in order, until it breaks.
    ///
    /// # Errors
    /// Those of [every call](crate#errors-of-every-call) that reads one moment.
    pub fn scan<R>(
        &self,
        tree: &Tree,
        range: impl KeyRange,
        visit: impl FnMut(&[u8], &[u8]) -> ControlFlow<R>,
    ) -> Result<Option<R>> {
        self.bounded(tree, range.into_bounds())?.visit(visit)
    }

    /// The pair with the lowest key.
    ///
    /// # Errors
    /// Those of [every call](crate#errors-of-every-call) that reads one moment.
    pub fn first(&self, tree: &Tree) -> Result<Option<(Value, Value)>> {
        self.range(tree, ..)?.next().transpose()
    }

    /// The pair with the highest key.
    ///
    /// # Errors
    /// Those of [every call](crate#errors-of-every-call) that reads one moment.
    pub fn last(&self, tree: &Tree) -> Result<Option<(Value, Value)>> {
        self.range(tree, ..)?.next_back().transpose()
    }

    /// How many keys the tree has at this moment.
    ///
    /// # Errors
    /// Those of [every call](crate#errors-of-every-call) that reads one moment.
    pub fn len(&self, tree: &Tree) -> Result<u64> {
        self.check(tree)?;
        let len = tree.info.size.at(self.lsn());
        self.registered.at(None).check()?;
        Ok(len)
    }

    /// Whether the tree has no keys at this moment.
    ///
    /// # Errors
    /// Those of [every call](crate#errors-of-every-call) that reads one moment.
    pub fn is_empty(&self, tree: &Tree) -> Result<bool> {
        self.len(tree).map(|len| len == 0)
    }
}

/// Refuses a tree of another database.
pub(super) fn check_same(shared: &Arc<Shared>, tree: &Tree) -> Result<()> {
    if Arc::ptr_eq(shared, &tree.shared) {
        return Ok(());
    }
    Err(Error::InvalidArgument(format!("the tree `{}` is of another database", tree.name())))
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot").field("lsn", &self.lsn()).finish_non_exhaustive()
    }
}
