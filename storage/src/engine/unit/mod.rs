//! A transaction's unit of work: what it has written, what it has read, and how it ends.
//!
//! ```text
//!            unit_write()            commit_unit()
//!  (empty) --------------> (writing) -------------> committed
//!                            |  ^
//!     undo_unit_to_mark() of |  | a savepoint
//!                            v  |
//!                         (undoing) --------------> rolled back
//!                                   roll_back_unit()
//! ```
//!
//! This file owns the unit and its reading; `write` has the first arrow, `commit` the second,
//! `rollback` the others. `inserts` keeps what is written later.
//!
//! A unit whose versions would take more memory than its budget becomes *bulk*: what it writes from
//! then on are stamps in the pages ("A transaction becomes huge" and "Stamps" in ARCHITECTURE.md).
//! What it wrote before stays in the store.
//!
//! Before the first write a unit has no slot in the transaction table and no record in the log; a
//! unit that never writes never has. The transaction id, the chain of `prev_lsn` and the commit or
//! rollback record are what recovery sees of it.
//!
//! What a unit reads may not be durable yet. Its end waits for that, whether it has written or not
//! (T1): so its snapshot's position is what the end of a unit that only reads returns.

mod commit;
mod inserts;
mod rollback;
mod write;

use std::collections::BTreeMap;
use std::sync::Arc;

use seawall_wal::codec::to_u64;
use seawall_wal::record::{Cell, Extent, Stamp, TreeDelta};
use seawall_wal::sync::Mutex;
use seawall_wal::sync::atomic::{AtomicBool, Ordering};
use seawall_wal::{Lsn, Result, TreeId, TxnId};

use self::inserts::Inserts;
use super::Engine;
use super::append::Chain;
use super::auto_commit::CHANGE_RECORD_BYTES;
use super::read::{Found, ReadAt, View};
use crate::Isolation;
use crate::catalogue::{ExclusiveTree, SharedTree, TreeInfo};
use crate::txn::{CommitCell, ReadSet, RollbackRoom, SnapshotSlot, TxnSlot, Written};
use crate::version::{Bulk, KeySpan, VERSION_BYTES, VersionKey};

/// A transaction's unit of work.
#[derive(Debug)]
pub(crate) struct Unit {
    pub(crate) writer: Arc<CommitCell>,
    isolation: Isolation,
    slot: Option<TxnSlot>,
    /// START of the newest record that is not undone.
    last_lsn: Lsn,
    snapshot: Option<UnitSnapshot>,
    /// The newest commit that was overwritten before there was a snapshot.
    overwritten_lsn: Lsn,
    /// Shared with the ranges that are open on the transaction.
    pub(crate) reads: Arc<Mutex<ReadSet>>,
    inserts: Inserts,
    /// Keys whose heads in the version store are this unit's.
    written: Vec<VersionKey>,
    /// Memory of those versions, in bytes, estimated.
    version_bytes: u64,
    /// Once the unit has become bulk.
    bulk: Option<Arc<Bulk>>,
    deltas: BTreeMap<TreeId, i64>,
    /// Extents that are freed when this unit commits, each with the START of the record that lets go
    /// of it.
    freed: Vec<(Lsn, Extent)>,
    shared: BTreeMap<TreeId, SharedTree>,
    exclusive: Vec<ExclusiveTree>,
    /// Trees that are dropped when this unit commits, each with the START of the record that says so.
    dropped: Vec<(Lsn, Arc<TreeInfo>)>,
    /// Stretches of log whose records were undone, oldest first: behind the first position, up to the
    /// second. No savepoint within them stands any more.
    undone: Vec<(Lsn, Lsn)>,
    /// Log room for the compensation records of everything written so far (T2). A checkpoint that
    /// spills the unit's undo information gives it back.
    room: Arc<Mutex<RollbackRoom>>,
}

/// The registered snapshot of a unit.
#[derive(Debug)]
struct UnitSnapshot {
    slot: SnapshotSlot,
    read_lsn: Lsn,
    low_lsn: Lsn,
}

/// A point in a unit to which it can be undone.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct UnitMark {
    /// START of the newest record that was not undone then.
    last_lsn: Lsn,
}

impl Unit {
    /// Its slot in the transaction table, from its first record on.
    pub(super) const fn slot(&self) -> Option<&TxnSlot> {
        self.slot.as_ref()
    }

    pub(crate) fn new(isolation: Isolation) -> Self {
        Self {
            writer: Arc::new(CommitCell::new()),
            isolation,
            slot: None,
            last_lsn: Lsn::NONE,
            snapshot: None,
            overwritten_lsn: Lsn::NONE,
            reads: Arc::default(),
            inserts: Inserts::default(),
            written: Vec::new(),
            version_bytes: 0,
            bulk: None,
            deltas: BTreeMap::new(),
            freed: Vec::new(),
            shared: BTreeMap::new(),
            exclusive: Vec::new(),
            dropped: Vec::new(),
            undone: Vec::new(),
            room: Arc::default(),
        }
    }

    /// The unit's transaction, once it has written.
    pub(crate) fn txn(&self) -> Option<TxnId> {
        self.slot.as_ref().map(|slot| slot.id)
    }

    /// Whether anything was logged, or will be before the unit commits.
    pub(crate) const fn has_written(&self) -> bool {
        self.slot.is_some() || self.keeps_inserts()
    }

    /// Whether there are inserts that the unit has not written yet.
    pub(crate) const fn keeps_inserts(&self) -> bool {
        !self.inserts.is_empty()
    }

    pub(crate) const fn is_serializable(&self) -> bool {
        matches!(self.isolation, Isolation::Serializable)
    }

    /// Where the unit is now.
    pub(crate) const fn mark(&self) -> UnitMark {
        UnitMark { last_lsn: self.last_lsn }
    }

    /// Whether the unit was undone to a point before this mark, since that was set.
    fn has_undone(&self, mark: UnitMark) -> bool {
        self.undone.iter().any(|&(kept, newest)| kept < mark.last_lsn && mark.last_lsn <= newest)
    }

    /// Notes that the records behind `kept`, up to `newest`, were undone.
    fn note_undone(&mut self, kept: Lsn, newest: Lsn) {
        if kept < newest {
            while self.undone.last().is_some_and(|&(older, _)| older >= kept) {
                self.undone.pop();
            }
            self.undone.push((kept, newest));
        }
    }

    /// The reader's position, once the unit has a snapshot.
    pub(crate) fn view(&self) -> Option<ReadAt<'_>> {
        self.snapshot.as_ref().map(|snapshot| ReadAt {
            read_lsn: snapshot.read_lsn,
            low_lsn: snapshot.low_lsn,
            own: Some(&self.writer),
            revoked: Some(snapshot.slot.revoked()),
        })
    }

    /// Set when what the unit's snapshot needs may be gone; `None` before it has one.
    pub(crate) fn revoked(&self) -> Option<Arc<AtomicBool>> {
        self.snapshot.as_ref().map(|snapshot| Arc::clone(snapshot.slot.revoked()))
    }

    /// Log bytes to be kept for the end of the unit's rollback, with its first record.
    const fn end_bytes(&self) -> u64 {
        if self.slot.is_none() { CHANGE_RECORD_BYTES } else { 0 }
    }

    fn chain(&self) -> Chain {
        let txn = self.slot.as_ref().map_or(TxnId::NONE, |slot| slot.id);
        Chain { txn, prev_lsn: self.last_lsn }
    }

    /// How the sizes of trees change by the unit.
    fn changed_sizes(&self) -> impl Iterator<Item = TreeDelta> {
        let changed = self.deltas.iter().filter(|&(_, &delta)| delta != 0);
        changed.map(|(&tree, &delta)| TreeDelta { tree, delta })
    }

    /// What the unit has written, for validators.
    fn written(&self) -> Written {
        let trees = self.bulk.as_ref().map_or_else(Vec::new, |bulk| bulk.trees());
        Written { trees: trees.into(), ..Written::keys(&self.written) }
    }

    /// What the unit's commit leaves to be swept: its transaction, and keys of trees.
    pub(super) fn trails(&self) -> Vec<(TxnId, TreeId, KeySpan)> {
        let Some(bulk) = &self.bulk else { return Vec::new() };
        let is_left = |tree| !self.dropped.iter().any(|(_, dropped)| dropped.id == tree);
        let trails = bulk.trails().into_iter().filter(|&(tree, _)| is_left(tree));
        trails.map(|(tree, span)| (bulk.id, tree, span)).collect()
    }

    /// The stamp for the unit's write of a key: that of its first write, a new one, or none where
    /// the version store keeps what was there before. The catalogue's rows never bear one.
    fn stamp(&self, tree: TreeId, before: Option<&Cell<'_>>, is_own: bool) -> Option<Stamp> {
        let bulk = self.bulk.as_ref().filter(|_| tree != TreeId::CATALOGUE)?;
        let found = before.and_then(|before| before.stamp).filter(|stamp| stamp.txn == bulk.id);
        if is_own {
            return found;
        }
        let undo_lsn = if before.is_some() { Stamp::THIS_RECORD } else { Stamp::NOTHING_BEFORE };
        Some(Stamp { txn: bulk.id, undo_lsn })
    }

    /// Notes a version that the store keeps for this unit.
    fn note_version(&mut self, key: &VersionKey, before: Option<&Cell<'_>>) {
        let value_bytes = before.map_or(0, |before| before.value.len());
        self.version_bytes += to_u64(key.as_bytes().len() + value_bytes + VERSION_BYTES);
        self.written.push(key.clone());
    }

    /// Holds the tree exclusive to the end of the unit.
    pub(crate) fn exclude(&mut self, tree: &Arc<TreeInfo>) -> Result<()> {
        if self.exclusive.iter().any(|held| Arc::ptr_eq(held.tree(), tree)) {
            return Ok(());
        }
        let own_shared = self.shared.contains_key(&tree.id);
        self.exclusive.push(tree.exclude(&self.writer, own_shared)?);
        Ok(())
    }

    /// Notes that the tree is gone once the unit has committed.
    pub(crate) fn drop_at_commit(&mut self, tree: &Arc<TreeInfo>) {
        self.dropped.push((self.last_lsn, Arc::clone(tree)));
    }

    /// Whether this unit has dropped the tree.
    pub(crate) fn has_dropped(&self, tree: &TreeInfo) -> bool {
        self.dropped.iter().any(|(_, dropped)| dropped.id == tree.id)
    }
}

impl Engine {
    /// The unit's view, registered at its first use: it may read up to `contiguous_lsn`, and waits
    /// at its end for what it has read (T1). Once the log is poisoned it would wait for ever, and has
    /// nothing to write: it reads what is visible, as everybody else does (W2).
    ///
    /// What the unit has overwritten, it sees: a commit that is reserved may lie beyond
    /// `contiguous_lsn`, for as long as somebody copies a record before it.
    pub(crate) fn unit_view<'u>(&self, unit: &'u mut Unit) -> ReadAt<'u> {
        if unit.snapshot.is_none() {
            self.log.wait_contiguous(unit.overwritten_lsn);
            let is_poisoned = self.log.poisoned().is_some();
            let (slot, read_lsn, low_lsn) = self.register(|| match is_poisoned {
                true => self.log.visible_lsn(),
                false => self.log.contiguous_lsn(),
            });
            unit.snapshot = Some(UnitSnapshot { slot, read_lsn, low_lsn });
        }
        unit.view().expect("registered above")
    }

    /// Looks up `key` as the unit sees it.
    pub(crate) fn unit_lookup(
        &self,
        unit: &mut Unit,
        tree: &TreeInfo,
        key: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Option<Found>> {
        if unit.is_serializable() {
            unit.reads.lock().add_point(VersionKey::new(tree.id, key));
        }
        let view = View::At(self.unit_view(unit));
        self.lookup(tree, key, view, out)
    }

    fn end_reading(&self, unit: &mut Unit) {
        if let Some(snapshot) = unit.snapshot.take() {
            // A range of the transaction may still be read, where the database has ended it.
            snapshot.slot.revoked().store(true, Ordering::SeqCst);
            self.snapshots.release(snapshot.slot);
        }
    }
}
