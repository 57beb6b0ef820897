//! Huge transactions: what they write beyond a budget stands in the pages as *stamped* cells, not in
//! the version store, so a transaction may be larger than memory.
//!
//! A stamp names the transaction, and the record that wrote the key first, whose before-image older
//! readers go back to. The table here tells what became of the transaction. It keeps an entry from
//! before the first stamp until
//!
//! * the collection horizon has passed the commit: a stamp that the table does not know is seen by
//!   everybody (ids never repeat); or
//! * the rollback has put every before-image back: then no page has a stamp to ask about, and who
//!   still holds one, having copied it from a page, looks at the page again.
//!
//! A stamp is looked up under the latch of its leaf, where the entry cannot go before the stamp; or
//! by one who validates the leaf afterwards: what the table does not know any more because of a
//! rollback, it forgot after the leaf was changed, and the look into the table is an `Acquire` of that.

use std::collections::BTreeMap;
use std::sync::Arc;

use seawall_wal::record::Stamp;
use seawall_wal::sync::Mutex;
use seawall_wal::sync::atomic::{AtomicUsize, Ordering};
use seawall_wal::{Lsn, TreeId, TxnId};

use crate::txn::{CommitCell, Fate};

/// A huge transaction.
#[derive(Debug)]
pub(crate) struct Bulk {
    pub(crate) id: TxnId,
    pub(crate) writer: Arc<CommitCell>,
    /// Undo information lies at or beyond this.
    pub(crate) first_lsn: Lsn,
    spans: Mutex<BTreeMap<TreeId, KeySpan>>,
}

/// The keys of a tree, from the lowest to the highest, that a transaction wrote as stamps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeySpan {
    pub(crate) low: Vec<u8>,
    pub(crate) high: Vec<u8>,
    /// Cells were deleted or keep capacity, so a commit leaves work behind as well.
    pub(crate) needs_purge: bool,
}

impl Bulk {
    pub(crate) fn new(id: TxnId, writer: &Arc<CommitCell>, first_lsn: Lsn) -> Self {
        Self { id, writer: Arc::clone(writer), first_lsn, spans: Mutex::default() }
    }

    /// Notes a stamp that is about to be written.
    pub(crate) fn note(&self, tree: TreeId, key: &[u8], needs_purge: bool) {
        let mut spans = self.spans.lock();
        let span = spans.entry(tree).or_insert_with(|| KeySpan::of(key));
        span.widen(key);
        span.needs_purge |= needs_purge;
    }

    /// The trees that have stamps of this transaction.
    pub(crate) fn trees(&self) -> Vec<TreeId> {
        self.spans.lock().keys().copied().collect()
    }

    /// The keys of trees in which a commit leaves work behind.
    pub(crate) fn trails(&self) -> Vec<(TreeId, KeySpan)> {
        let spans = self.spans.lock();
        let trails = spans.iter().filter(|(_, span)| span.needs_purge);
        trails.map(|(&tree, span)| (tree, span.clone())).collect()
    }

    /// What was written, by tree.
    pub(crate) fn take_spans(&self) -> BTreeMap<TreeId, KeySpan> {
        std::mem::take(&mut self.spans.lock())
    }
}

impl KeySpan {
    pub(crate) fn of(key: &[u8]) -> Self {
        Self { low: key.to_vec(), high: key.to_vec(), needs_purge: false }
    }

    /// Makes the span reach to `key`.
    pub(crate) fn widen(&mut self, key: &[u8]) {
        if key < &self.low[..] {
            self.low = key.to_vec();
        } else if key > &self.high[..] {
            self.high = key.to_vec();
        }
    }
}

/// The huge transactions whose stamps somebody may have to ask about.
#[derive(Debug, Default)]
pub(crate) struct BulkTable {
    entries: Mutex<Vec<Arc<Bulk>>>,
    /// Length of the list, to be looked at without its mutex.
    count: AtomicUsize,
}

impl BulkTable {
    /// Whether there is no stamp to ask about. The answer holds for the stamps of a leaf that the
    /// caller has latched, or validates afterwards.
    pub(crate) fn is_empty(&self) -> bool {
        self.count.load(Ordering::SeqCst) == 0
    }

    /// Enters a transaction, before its first stamp.
    pub(crate) fn enter(&self, bulk: Arc<Bulk>) {
        let mut entries = self.entries.lock();
        entries.push(bulk);
        self.count.store(entries.len(), Ordering::SeqCst);
    }

    /// Forgets a transaction that has been rolled back.
    pub(crate) fn remove(&self, id: TxnId) {
        self.retain(|bulk| bulk.id != id);
    }

    /// Forgets transactions whose commits the horizon has passed; returns them.
    pub(crate) fn reap(&self, horizon: Lsn) -> Vec<Arc<Bulk>> {
        if self.is_empty() {
            return Vec::new();
        }
        let mut passed = Vec::new();
        self.retain(|bulk| {
            let is_passed = bulk.writer.is_visible_at(horizon);
            if is_passed {
                passed.push(Arc::clone(bulk));
            }
            !is_passed
        });
        passed
    }

    fn retain(&self, keep: impl FnMut(&Arc<Bulk>) -> bool) {
        let mut entries = self.entries.lock();
        entries.retain(keep);
        self.count.store(entries.len(), Ordering::SeqCst);
    }

    pub(crate) fn get(&self, id: TxnId) -> Option<Arc<Bulk>> {
        if self.is_empty() {
            return None;
        }
        self.entries.lock().iter().find(|bulk| bulk.id == id).cloned()
    }

    /// Everybody in the table.
    pub(crate) fn all(&self) -> Vec<Arc<Bulk>> {
        self.entries.lock().clone()
    }

    /// Whether a reader at `read_lsn` sees what the stamp is on; `own` is the reading transaction's
    /// cell.
    pub(crate) fn sees(&self, stamp: &Stamp, read_lsn: Lsn, own: Option<&CommitCell>) -> bool {
        self.get(stamp.txn).is_none_or(|bulk| {
            own.is_some_and(|own| std::ptr::eq(own, &*bulk.writer))
                || bulk.writer.is_visible_at(read_lsn)
        })
    }

    /// The commit that wrote the stamp, where an older reader may not see it.
    pub(crate) fn commit_of(&self, stamp: &Stamp) -> Option<Lsn> {
        match self.get(stamp.txn)?.writer.fate() {
            Fate::Committed(lsn) => Some(lsn),
            Fate::Active | Fate::RolledBack => None,
        }
    }

    /// Whether a commit beyond `lsn` wrote stamps.
    pub(crate) fn has_commit_beyond(&self, lsn: Lsn) -> bool {
        let is_beyond = |bulk: &Arc<Bulk>| matches!(bulk.writer.fate(), Fate::Committed(commit_lsn) if commit_lsn > lsn);
        !self.is_empty() && self.entries.lock().iter().any(is_beyond)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn enter(table: &BulkTable, id: u64) -> (Arc<CommitCell>, Stamp) {
        let writer = Arc::new(CommitCell::new());
        let id = TxnId::new(id);
        table.enter(Arc::new(Bulk::new(id, &writer, Lsn::new(8))));
        (writer, Stamp { txn: id, undo_lsn: Lsn::new(16) })
    }

    #[test]
    fn a_stamp_is_seen_by_its_writer_by_readers_behind_its_commit_and_then_by_everybody() {
        let table = BulkTable::default();
        let (writer, stamp) = enter(&table, 7);
        assert!(!table.sees(&stamp, Lsn::MAX, None));
        assert!(table.sees(&stamp, Lsn::NONE, Some(&writer)));
        writer.commit(Lsn::new(100));
        assert_eq!(table.commit_of(&stamp), Some(Lsn::new(100)));
        assert!(table.sees(&stamp, Lsn::new(100), None) && !table.sees(&stamp, Lsn::new(99), None));
        assert!(table.has_commit_beyond(Lsn::new(99)) && !table.has_commit_beyond(Lsn::new(100)));
        assert!(table.reap(Lsn::new(99)).is_empty() && !table.is_empty());
        assert_eq!(table.reap(Lsn::new(100)).len(), 1);
        assert!(table.is_empty() && table.sees(&stamp, Lsn::NONE, None));
    }

    #[test]
    fn a_transaction_that_was_rolled_back_is_forgotten_alone() {
        let table = BulkTable::default();
        let (_first, stamp) = enter(&table, 7);
        let (_second, other) = enter(&table, 9);
        table.remove(stamp.txn);
        assert!(table.get(stamp.txn).is_none() && table.get(other.txn).is_some());
    }

    #[test]
    fn a_span_reaches_from_the_lowest_key_to_the_highest() {
        let table = BulkTable::default();
        let (_writer, stamp) = enter(&table, 7);
        let bulk = table.get(stamp.txn).unwrap();
        let tree = TreeId::new(3);
        for (key, needs_purge) in [(b"m", false), (b"c", true), (b"x", false), (b"d", false)] {
            bulk.note(tree, key, needs_purge);
        }
        assert_eq!(bulk.trees(), [tree]);
        let span = KeySpan { low: b"c".to_vec(), high: b"x".to_vec(), needs_purge: true };
        assert_eq!(bulk.take_spans(), BTreeMap::from([(tree, span)]));
    }
}
