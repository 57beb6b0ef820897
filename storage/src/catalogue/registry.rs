//! Trees that are known in memory: root, size, and the tree lock.
//!
//! A writer holds its tree shared to its end; create, drop and rename hold it exclusive. Neither waits
//! for the other: whoever finds the lock taken gets `Conflict`. The collector holds a tree for as long as it
//! works on a leaf, and that a change of the catalogue waits for: its caller has no other transaction that
//! could be in the way. After a restart the lock is not needed, because
//! what was not committed is undone before anyone else writes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use seawall_wal::sync::atomic::{AtomicU64, Ordering};
use seawall_wal::sync::{Condvar, Mutex};
use seawall_wal::{Error, Lsn, PageId, Result, TreeId};

use super::size::TreeSize;
use crate::txn::CommitCell;

/// How long the collector may take for a leaf before it counts as another conflict.
const COLLECTING_MAX: Duration = Duration::from_secs(1);

/// A tree in memory.
#[derive(Debug)]
pub(crate) struct TreeInfo {
    pub(crate) id: TreeId,
    pub(crate) root: PageId,
    pub(crate) size: TreeSize,
    lock: Mutex<TreeLock>,
    /// The collector has let go.
    collected: Condvar,
    /// END of the commit that dropped it; 0 while it is live.
    dropped_lsn: AtomicU64,
}

#[derive(Debug, Default)]
struct TreeLock {
    shared: u64,
    /// Leaves that the collector works on.
    collecting: u64,
    /// Changes of the catalogue that wait for it: it begins on no other leaf.
    waiting: u64,
    exclusive: Option<Arc<CommitCell>>,
}

/// Witness that a writer holds a tree shared.
#[derive(Debug)]
pub(crate) struct SharedTree(Arc<TreeInfo>);

/// Witness that the collector works on a tree.
#[derive(Debug)]
pub(crate) struct CollectedTree(Arc<TreeInfo>);

/// Witness that a transaction holds a tree exclusive.
#[derive(Debug)]
pub(crate) struct ExclusiveTree(Arc<TreeInfo>);

impl TreeInfo {
    pub(crate) fn new(id: TreeId, root: PageId, size: i64) -> Self {
        Self {
            id,
            root,
            size: TreeSize::new(size),
            lock: Mutex::default(),
            collected: Condvar::new(),
            dropped_lsn: AtomicU64::new(0),
        }
    }

    /// Holds the tree for a writer; `own` is its transaction, which may hold it exclusive itself.
    pub(crate) fn share(self: &Arc<Self>, own: Option<&Arc<CommitCell>>) -> Result<SharedTree> {
        let mut lock = self.lock.lock();
        match (&lock.exclusive, own) {
            (Some(holder), Some(own)) if Arc::ptr_eq(holder, own) => {}
            (None, _) => {}
            (Some(_), _) => return Err(Error::Conflict),
        }
        lock.shared += 1;
        Ok(SharedTree(Arc::clone(self)))
    }

    /// Holds the tree for the collector, while it works on a leaf. `Conflict` while a change of the
    /// catalogue has it or waits for it.
    pub(crate) fn collect(self: &Arc<Self>) -> Result<CollectedTree> {
        let mut lock = self.lock.lock();
        if lock.exclusive.is_some() || lock.waiting > 0 {
            return Err(Error::Conflict);
        }
        lock.collecting += 1;
        Ok(CollectedTree(Arc::clone(self)))
    }

    /// Holds the tree for a change of its name or existence, once the collector has let go. `own_shared`
    /// says whether `own` holds it shared already. Not with a latch held (L1), unless the tree is new:
    /// nobody collects that.
    pub(crate) fn exclude(
        self: &Arc<Self>,
        own: &Arc<CommitCell>,
        own_shared: bool,
    ) -> Result<ExclusiveTree> {
        let mut lock = self.lock.lock();
        let deadline = Instant::now() + COLLECTING_MAX;
        loop {
            let is_held = lock.exclusive.is_some() || lock.shared > u64::from(own_shared);
            if is_held || (lock.collecting > 0 && Instant::now() >= deadline) {
                return Err(Error::Conflict);
            }
            if lock.collecting == 0 {
                break;
            }
            lock.waiting += 1;
            self.collected.wait_for(&mut lock, COLLECTING_MAX);
            lock.waiting -= 1;
        }
        lock.exclusive = Some(Arc::clone(own));
        Ok(ExclusiveTree(Arc::clone(self)))
    }

    /// END of the commit that dropped the tree.
    pub(crate) fn dropped_lsn(&self) -> Option<Lsn> {
        match self.dropped_lsn.load(Ordering::SeqCst) {
            0 => None,
            lsn => Some(Lsn::new(lsn)),
        }
    }

    pub(crate) fn set_dropped(&self, commit: Lsn) {
        self.dropped_lsn.store(commit.get(), Ordering::SeqCst);
    }
}

impl ExclusiveTree {
    pub(crate) fn tree(&self) -> &Arc<TreeInfo> {
        &self.0
    }
}

impl Drop for CollectedTree {
    fn drop(&mut self) {
        self.0.lock.lock().collecting -= 1;
        self.0.collected.notify_all();
    }
}

impl Drop for SharedTree {
    fn drop(&mut self) {
        self.0.lock.lock().shared -= 1;
    }
}

impl Drop for ExclusiveTree {
    fn drop(&mut self) {
        self.0.lock.lock().exclusive = None;
    }
}

/// Every tree whose row has been seen.
#[derive(Debug)]
pub(crate) struct Registry {
    trees: Mutex<BTreeMap<TreeId, Arc<TreeInfo>>>,
    next_tree: AtomicU64,
}

impl Registry {
    pub(crate) fn new(next_tree: TreeId, trees: Vec<TreeInfo>) -> Self {
        let trees = trees.into_iter().map(|tree| (tree.id, Arc::new(tree))).collect();
        Self { trees: Mutex::new(trees), next_tree: AtomicU64::new(next_tree.get()) }
    }

    /// An id that no tree has had.
    pub(crate) fn next_id(&self) -> TreeId {
        TreeId::new(self.next_tree.fetch_add(1, Ordering::SeqCst))
    }

    /// What [`Registry::next_id`] would give, for a checkpoint.
    pub(crate) fn peek_next_id(&self) -> TreeId {
        TreeId::new(self.next_tree.load(Ordering::SeqCst))
    }

    /// The tree, entered with size 0 where it is new.
    pub(crate) fn get_or_insert(&self, id: TreeId, root: PageId) -> Arc<TreeInfo> {
        let mut trees = self.trees.lock();
        Arc::clone(trees.entry(id).or_insert_with(|| Arc::new(TreeInfo::new(id, root, 0))))
    }

    pub(crate) fn get(&self, id: TreeId) -> Option<Arc<TreeInfo>> {
        self.trees.lock().get(&id).cloned()
    }

    /// Forgets a tree that has been dismantled or whose creation was undone.
    pub(crate) fn remove(&self, id: TreeId) {
        self.trees.lock().remove(&id);
    }

    /// How many trees there are.
    pub(crate) fn len(&self) -> usize {
        self.trees.lock().len()
    }

    pub(crate) fn all(&self) -> Vec<Arc<TreeInfo>> {
        self.trees.lock().values().cloned().collect()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_tree_is_shared_by_writers_or_held_by_one_change_of_the_catalogue() {
        let registry = Registry::new(TreeId::new(1), Vec::new());
        let tree = registry.get_or_insert(registry.next_id(), PageId::new(9));
        let (dropper, writer) = (Arc::new(CommitCell::new()), Arc::new(CommitCell::new()));
        let shared = tree.share(Some(&writer)).unwrap();
        assert!(tree.exclude(&dropper, false).unwrap_err().is_conflict());
        drop(shared);
        let exclusive = tree.exclude(&dropper, false).unwrap();
        assert!(tree.share(Some(&writer)).unwrap_err().is_conflict());
        assert!(tree.share(None).unwrap_err().is_conflict());
        assert!(tree.share(Some(&dropper)).is_ok(), "the holder may write its own tree");
        drop(exclusive);
        assert!(tree.share(None).is_ok());
        assert_eq!(registry.next_id(), TreeId::new(2));
    }

    #[test]
    fn a_change_of_the_catalogue_waits_for_the_collector_and_for_nobody_else() {
        let registry = Registry::new(TreeId::new(1), Vec::new());
        let tree = registry.get_or_insert(registry.next_id(), PageId::new(9));
        let (dropper, writer) = (Arc::new(CommitCell::new()), Arc::new(CommitCell::new()));
        let collected = tree.collect().unwrap();
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| tree.exclude(&dropper, false).map(drop));
            while tree.lock.lock().waiting == 0 {
                std::thread::yield_now();
            }
            assert!(!waits.is_finished(), "the collector works on it");
            assert!(tree.collect().is_err(), "it begins on another leaf first");
            drop(collected);
            waits.join().unwrap().unwrap();
        });
        let (_collected, _shared) = (tree.collect().unwrap(), tree.share(Some(&writer)).unwrap());
        assert!(tree.exclude(&dropper, false).unwrap_err().is_conflict());
    }
}
