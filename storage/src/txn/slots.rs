//! The transaction table: one slot for each transaction that has written.
//!
//! A slot is read by checkpoints (who is active, from where to undo) and by snapshots (below which
//! page LSN no active transaction has written). It is given back only when `visible_lsn` has reached
//! the commit, or the last compensation record is applied; until then it holds down `low_lsn`.

use std::sync::Arc;
use std::time::Duration;

use seawall_wal::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use seawall_wal::sync::{Condvar, Instant, Mutex};
use seawall_wal::{Error, Lsn, Result, TxnId};

use super::commit_cell::{CommitCell, Fate};
use super::rollback_room::RollbackRoom;
use crate::limits::MAX_WRITING_TRANSACTIONS;

/// Longest wait for an end that may have come already.
const END_POLL: Duration = Duration::from_millis(5);

#[derive(Debug, Default)]
#[repr(align(64))]
struct Slot {
    /// 0: free.
    id: AtomicU64,
    /// The START of its first record; before there is one, a position below it.
    first_lsn: AtomicU64,
    /// START of its last record, 0 before the first.
    last_lsn: AtomicU64,
    /// START of the newest record that is not undone, 0 when everything is.
    undo_next_lsn: AtomicU64,
    /// START of the first part of its commit, 0 before: recovery reads the parts from the log.
    parts_lsn: AtomicU64,
    /// END of its commit record, 0 before.
    commit_lsn: AtomicU64,
    /// It holds the log back, and must end without a commit.
    is_doomed: AtomicBool,
    /// Log room for its rollback.
    room: Mutex<Option<Arc<Mutex<RollbackRoom>>>>,
}

/// What a checkpoint notes of an active transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ActiveTxn {
    pub(crate) id: TxnId,
    pub(crate) first_lsn: Lsn,
    /// START of its newest record.
    pub(crate) last_lsn: Lsn,
    /// START of its newest record that is not undone; [`Lsn::NONE`] when everything is.
    pub(crate) undo_next_lsn: Lsn,
    /// Its records below are in its undo file, those that undo needs.
    pub(crate) spilled_upto: Lsn,
    /// Length of that file, of which nothing else tells.
    pub(crate) undo_file_bytes: u64,
}

impl ActiveTxn {
    /// A transaction whose first record begins at `lsn`.
    pub(crate) const fn beginning(id: TxnId, lsn: Lsn) -> Self {
        let spilled_upto = Lsn::NONE;
        let (first_lsn, last_lsn, undo_next_lsn) = (lsn, lsn, lsn);
        Self { id, first_lsn, last_lsn, undo_next_lsn, spilled_upto, undo_file_bytes: 0 }
    }

    /// Undo reads the log from here; [`Lsn::MAX`] where it needs none.
    pub(crate) fn needed_lsn(&self) -> Lsn {
        if self.undo_next_lsn < self.spilled_upto {
            Lsn::MAX
        } else {
            self.first_lsn.max(self.spilled_upto)
        }
    }
}

/// The transaction table.
#[derive(Debug)]
pub(crate) struct TxnTable {
    slots: Box<[Slot]>,
    free: Mutex<Vec<usize>>,
    /// Slots below this index have been used; scans stop here.
    used: AtomicUsize,
    next_id: AtomicU64,
    /// Counts ends of transactions, for those who wait for one.
    ends: Mutex<u64>,
    ended: Condvar,
}

/// A taken slot.
#[derive(Debug)]
pub(crate) struct TxnSlot {
    index: usize,
    pub(crate) id: TxnId,
}

impl TxnTable {
    /// A table whose first transaction gets the id `first_id`. Ids start at the epoch's first LSN:
    /// every id is followed by at least one record that is longer than one byte, so ids stay below
    /// the end of the epoch's log and never repeat across epochs.
    pub(crate) fn new(first_id: TxnId) -> Self {
        Self::with_slots(first_id, MAX_WRITING_TRANSACTIONS)
    }

    pub(super) fn with_slots(first_id: TxnId, slots: usize) -> Self {
        Self {
            slots: (0..slots).map(|_| Slot::default()).collect(),
            free: Mutex::new((0..slots).rev().collect()),
            used: AtomicUsize::new(0),
            next_id: AtomicU64::new(first_id.get()),
            ends: Mutex::new(0),
            ended: Condvar::new(),
        }
    }

    /// Takes a slot for a transaction that is about to write its first record, at or beyond
    /// `first_lsn`. The caller reads `first_lsn` from the log's `reserved_lsn` before the call.
    ///
    /// # Errors
    /// [`Error::Conflict`] where every slot is taken: others have to end first.
    pub(crate) fn begin(&self, first_lsn: Lsn) -> Result<TxnSlot> {
        let id = TxnId::new(self.next_id.fetch_add(1, Ordering::Relaxed));
        let txn = ActiveTxn { last_lsn: Lsn::NONE, ..ActiveTxn::beginning(id, first_lsn) };
        self.take(&txn).ok_or(Error::Conflict)
    }

    /// Takes a slot for a transaction that recovery has to undo.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] where there are more of them than can have been.
    pub(crate) fn adopt(&self, txn: &ActiveTxn) -> Result<TxnSlot> {
        self.take(txn).ok_or_else(|| {
            let most = self.slots.len();
            Error::InvalidArgument(format!("more than {most} transactions are to be undone"))
        })
    }

    fn take(&self, txn: &ActiveTxn) -> Option<TxnSlot> {
        let index = self.free.lock().pop()?;
        let slot = &self.slots[index];
        slot.commit_lsn.store(0, Ordering::SeqCst);
        slot.is_doomed.store(false, Ordering::SeqCst);
        slot.parts_lsn.store(0, Ordering::SeqCst);
        slot.last_lsn.store(txn.last_lsn.get(), Ordering::SeqCst);
        slot.undo_next_lsn.store(txn.undo_next_lsn.get(), Ordering::SeqCst);
        slot.first_lsn.store(txn.first_lsn.get(), Ordering::SeqCst);
        slot.id.store(txn.id.get(), Ordering::SeqCst);
        self.used.fetch_max(index + 1, Ordering::SeqCst);
        Some(TxnSlot { index, id: txn.id })
    }

    /// Notes the transaction's newest record. Between reserve and publish (invariant W3).
    ///
    /// The first one is where undo ends. The slot may have been taken long before: log from that time
    /// may be gone, and no checkpoint may name it.
    pub(crate) fn set_last_lsn(&self, slot: &TxnSlot, start: Lsn) {
        self.set_undone(slot, start, start);
    }

    /// Notes the transaction's newest record, which undoes one, and the next one to be undone.
    /// Between reserve and publish (invariant W3).
    ///
    /// A checkpoint may copy one of the two without the other: then the record lies beyond its begin
    /// record, and analysis finds it.
    pub(crate) fn set_undone(&self, slot: &TxnSlot, start: Lsn, undo_next_lsn: Lsn) {
        let slot = &self.slots[slot.index];
        if slot.last_lsn.load(Ordering::SeqCst) == 0 {
            slot.first_lsn.store(start.get(), Ordering::SeqCst);
        }
        slot.last_lsn.store(start.get(), Ordering::SeqCst);
        slot.undo_next_lsn.store(undo_next_lsn.get(), Ordering::SeqCst);
    }

    /// Notes what is to be undone next, where no record says so.
    pub(crate) fn set_undo_next(&self, slot: &TxnSlot, undo_next_lsn: Lsn) {
        self.slots[slot.index].undo_next_lsn.store(undo_next_lsn.get(), Ordering::SeqCst);
    }

    /// Notes the first part of the transaction's commit: the log is kept from there until the commit,
    /// or until a rollback begins, which sets it to none. Between reserve and publish (invariant W3).
    pub(crate) fn set_parts_lsn(&self, slot: &TxnSlot, start: Lsn) {
        self.slots[slot.index].parts_lsn.store(start.get(), Ordering::SeqCst);
    }

    /// Notes the commit: from here on no checkpoint lists the transaction as active. Between
    /// reserve and publish (invariant W3).
    pub(crate) fn set_commit_lsn(&self, slot: &TxnSlot, end: Lsn) {
        self.slots[slot.index].commit_lsn.store(end.get(), Ordering::SeqCst);
    }

    /// Dooms an active transaction.
    pub(crate) fn doom(&self, id: TxnId) {
        if let Some(slot) = self.used_by(id) {
            slot.is_doomed.store(true, Ordering::SeqCst);
        }
    }

    /// The smallest position of a part of a commit that is still to come.
    pub(crate) fn min_parts_lsn(&self) -> Option<Lsn> {
        self.oldest_parts().map(|(lsn, _)| lsn)
    }

    /// That position, and whose commit it is.
    pub(crate) fn oldest_parts(&self) -> Option<(Lsn, TxnId)> {
        let part = |slot: &Slot| {
            let id = slot.id.load(Ordering::SeqCst);
            let lsn = Lsn::new(slot.parts_lsn.load(Ordering::SeqCst));
            let is_pending = id != 0 && slot.commit_lsn.load(Ordering::SeqCst) == 0;
            (is_pending && !lsn.is_none()).then_some((lsn, TxnId::new(id)))
        };
        self.used().iter().filter_map(part).min()
    }

    /// What the transaction would undo next; `None` when it has no slot any more. Changes with each
    /// record that it writes or undoes.
    pub(crate) fn undo_next_lsn(&self, id: TxnId) -> Option<Lsn> {
        let slot = self.used_by(id)?;
        Some(Lsn::new(slot.undo_next_lsn.load(Ordering::SeqCst)))
    }

    /// Whether the transaction has a slot still.
    pub(crate) fn is_listed(&self, id: TxnId) -> bool {
        self.used_by(id).is_some()
    }

    /// At or below the START of the transaction's first record.
    pub(crate) fn first_lsn(&self, slot: &TxnSlot) -> Lsn {
        Lsn::new(self.slots[slot.index].first_lsn.load(Ordering::SeqCst))
    }

    pub(crate) fn is_doomed(&self, slot: &TxnSlot) -> bool {
        self.slots[slot.index].is_doomed.load(Ordering::SeqCst)
    }

    /// Has checkpoints know of the log room that the transaction keeps for its rollback.
    pub(crate) fn set_room(&self, slot: &TxnSlot, room: &Arc<Mutex<RollbackRoom>>) {
        *self.slots[slot.index].room.lock() = Some(Arc::clone(room));
    }

    /// The log room for a transaction's rollback.
    pub(crate) fn room(&self, id: TxnId) -> Option<Arc<Mutex<RollbackRoom>>> {
        self.used_by(id)?.room.lock().clone()
    }

    /// Gives the slot back.
    pub(crate) fn release(&self, slot: TxnSlot) {
        *self.slots[slot.index].room.lock() = None;
        self.slots[slot.index].id.store(0, Ordering::SeqCst);
        self.free.lock().push(slot.index);
    }

    /// Wakes those who wait for a transaction to end.
    pub(crate) fn announce_end(&self) {
        *self.ends.lock() += 1;
        self.ended.notify_all();
    }

    /// Waits until the writer is done, without any latch. `false` when the deadline passes first.
    pub(crate) fn wait_for(&self, writer: &CommitCell, deadline: Instant) -> bool {
        let mut ends = self.ends.lock();
        while writer.fate() == Fate::Active {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            self.ended.wait_for(&mut ends, left);
        }
        true
    }

    /// Waits until a transaction ends, or for a moment: the end that the caller hopes for may have
    /// come before the call.
    pub(crate) fn wait_for_an_end(&self, deadline: Instant) {
        let left = deadline.saturating_duration_since(Instant::now()).min(END_POLL);
        let mut ends = self.ends.lock();
        self.ended.wait_for(&mut ends, left);
    }

    /// The slot of a transaction; it may change hands at any time.
    fn used_by(&self, id: TxnId) -> Option<&Slot> {
        self.used().iter().find(|slot| slot.id.load(Ordering::SeqCst) == id.get())
    }

    fn used(&self) -> &[Slot] {
        &self.slots[..self.used.load(Ordering::SeqCst)]
    }

    /// The smallest `first_lsn` of any slot. A snapshot reads `visible_lsn` BEFORE this scan: a
    /// transaction that the scan misses reserves its first record later, so beyond that.
    pub(crate) fn min_first_lsn(&self) -> Option<Lsn> {
        let taken = |slot: &&Slot| slot.id.load(Ordering::SeqCst) != 0;
        let first = |slot: &Slot| Lsn::new(slot.first_lsn.load(Ordering::SeqCst));
        self.used().iter().filter(taken).map(first).min()
    }

    /// Transactions that have written and not committed, for a checkpoint that has waited for the
    /// appends under way. A slot that changes hands while it is read is left out: its old owner has
    /// ended, and the new one's first record lies beyond the begin record.
    pub(crate) fn active(&self) -> Vec<ActiveTxn> {
        let read = |slot: &Slot| {
            let id = slot.id.load(Ordering::SeqCst);
            // In this order: a transaction that has a last record has said where its first one is.
            let last_lsn = Lsn::new(slot.last_lsn.load(Ordering::SeqCst));
            let undo_next_lsn = Lsn::new(slot.undo_next_lsn.load(Ordering::SeqCst));
            let first_lsn = Lsn::new(slot.first_lsn.load(Ordering::SeqCst));
            let is_active = slot.commit_lsn.load(Ordering::SeqCst) == 0 && !last_lsn.is_none();
            let is_same = slot.id.load(Ordering::SeqCst) == id;
            (id != 0 && is_active && is_same).then_some(ActiveTxn {
                last_lsn,
                undo_next_lsn,
                ..ActiveTxn::beginning(TxnId::new(id), first_lsn)
            })
        };
        self.used().iter().filter_map(read).collect()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_committed_transaction_is_not_active_but_still_holds_down_the_low_mark() {
        let table = TxnTable::with_slots(TxnId::new(7), 4);
        let slot = table.begin(Lsn::new(100)).unwrap();
        assert_eq!(slot.id, TxnId::new(7));
        assert_eq!(table.active(), [], "nothing written yet");
        table.set_last_lsn(&slot, Lsn::new(104));
        let active = ActiveTxn {
            last_lsn: Lsn::new(104),
            undo_next_lsn: Lsn::new(104),
            ..ActiveTxn::beginning(slot.id, Lsn::new(104))
        };
        assert_eq!(table.active(), [active]);
        table.set_undone(&slot, Lsn::new(120), Lsn::NONE);
        let undone = ActiveTxn { last_lsn: Lsn::new(120), undo_next_lsn: Lsn::NONE, ..active };
        assert_eq!(table.active(), [undone]);
        table.set_commit_lsn(&slot, Lsn::new(200));
        assert_eq!(table.active(), []);
        assert_eq!(table.min_first_lsn(), Some(Lsn::new(104)));
        table.release(slot);
        assert_eq!(table.min_first_lsn(), None);
    }

    #[test]
    fn undo_needs_the_log_from_what_was_spilled_and_none_once_it_is_below_that() {
        let whole = ActiveTxn {
            last_lsn: Lsn::new(900),
            undo_next_lsn: Lsn::new(900),
            ..ActiveTxn::beginning(TxnId::new(7), Lsn::new(100))
        };
        assert_eq!(whole.needed_lsn(), Lsn::new(100));
        let spilled = ActiveTxn { spilled_upto: Lsn::new(500), ..whole };
        assert_eq!(spilled.needed_lsn(), Lsn::new(500));
        let undone = ActiveTxn { undo_next_lsn: Lsn::new(492), ..spilled };
        assert_eq!(undone.needed_lsn(), Lsn::MAX);
    }

    #[test]
    fn parts_of_a_commit_count_until_the_commit() {
        let table = TxnTable::with_slots(TxnId::new(7), 4);
        let slot = table.begin(Lsn::new(100)).unwrap();
        assert_eq!(table.min_parts_lsn(), None);
        table.set_parts_lsn(&slot, Lsn::new(160));
        assert_eq!(table.min_parts_lsn(), Some(Lsn::new(160)));
        table.set_commit_lsn(&slot, Lsn::new(200));
        assert_eq!(table.min_parts_lsn(), None);
        assert!(table.is_listed(slot.id));
    }

    #[test]
    fn a_transaction_that_writes_late_needs_no_log_from_before_its_first_record() {
        let table = TxnTable::with_slots(TxnId::new(1), 1);
        let slot = table.begin(Lsn::new(100)).unwrap();
        assert_eq!(table.min_first_lsn(), Some(Lsn::new(100)), "a record may come at any time");
        table.set_last_lsn(&slot, Lsn::new(5000));
        table.set_last_lsn(&slot, Lsn::new(5100));
        let active = ActiveTxn {
            last_lsn: Lsn::new(5100),
            undo_next_lsn: Lsn::new(5100),
            ..ActiveTxn::beginning(slot.id, Lsn::new(5000))
        };
        assert_eq!(table.active(), [active]);
    }

    #[test]
    fn the_table_refuses_more_transactions_than_it_has_slots_and_recovers() {
        let table = TxnTable::with_slots(TxnId::new(1), 2);
        let first = table.begin(Lsn::new(8)).unwrap();
        let second = table.begin(Lsn::new(8)).unwrap();
        assert!(matches!(table.begin(Lsn::new(8)), Err(Error::Conflict)));
        table.release(first);
        let third = table.begin(Lsn::new(16)).unwrap();
        assert!(third.id > second.id, "ids never repeat, not even after a refusal");
    }
}
