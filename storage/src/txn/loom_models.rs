//! Models of what transactions, snapshots, checkpoints and commits do to each other. The types are
//! the real ones; the log is its watermark, a number.
//!
//! Run with `cargo suite "models of the engine"`.

use std::sync::Arc;

use loom::model::Builder;
use seawall_wal::record::{Cell, Stamp};
use seawall_wal::sync::atomic::{AtomicU64, Ordering};
use seawall_wal::sync::thread;
use seawall_wal::{Lsn, TreeId, TxnId};

use super::{Appenders, CommitCell, CommitGate, Fate, Snapshots, TxnTable, Written};
use crate::page::Key;
use crate::pool::latch::{Latch, Parking};
use crate::version::{Bulk, BulkTable, Head, KeyHash, Reader, Seen, VersionKey, VersionStore};

/// Context switches forced upon a model: three find every bug that was planted here.
const PREEMPTIONS: usize = 3;

fn model(run: impl Fn() + Send + Sync + 'static) {
    let mut builder = Builder::new();
    builder.preemption_bound = Some(PREEMPTIONS);
    builder.check(run);
}

/// The log's reserved end; each record takes 8 bytes.
struct Reserved(AtomicU64);

impl Reserved {
    fn new() -> Self {
        Self(AtomicU64::new(8))
    }

    fn get(&self) -> Lsn {
        Lsn::new(self.0.load(Ordering::SeqCst))
    }

    /// START and END of the next record.
    fn reserve(&self) -> (Lsn, Lsn) {
        let start = Lsn::new(self.0.fetch_add(8, Ordering::SeqCst));
        (start, start.advance(8))
    }
}

#[test]
fn a_checkpoint_misses_no_record_below_its_begin_and_lists_no_commit_below_it() {
    model(|| {
        let reserved = Arc::new(Reserved::new());
        let appenders = Arc::new(Appenders::new());
        let txns = Arc::new(TxnTable::with_slots(TxnId::new(1), 1));
        let writer = {
            let (reserved, appenders, txns) =
                (Arc::clone(&reserved), Arc::clone(&appenders), Arc::clone(&txns));
            thread::spawn(move || {
                let slot = txns.begin(reserved.get()).unwrap();
                let append = |store: &dyn Fn(Lsn, Lsn)| {
                    let appender = appenders.acquire();
                    let sequence = appender.sequence();
                    sequence.begin();
                    let (start, end) = reserved.reserve();
                    store(start, end);
                    sequence.end();
                    start
                };
                let update = append(&|start, _| txns.set_last_lsn(&slot, start));
                let commit = append(&|_, end| txns.set_commit_lsn(&slot, end));
                (update, commit)
            })
        };
        let (begin_lsn, _) = reserved.reserve();
        appenders.wait_for_appends();
        let active = txns.active();
        let (update, commit) = writer.join().unwrap();
        if commit < begin_lsn {
            assert!(active.is_empty(), "a commit below the begin record is not listed as active");
        } else if update < begin_lsn && !active.is_empty() {
            assert_eq!(active[0].last_lsn, update);
            assert!(active[0].first_lsn <= update);
        } else if update < begin_lsn {
            // Committed beyond the begin record, but before the capture: analysis sees the commit.
            assert!(commit > begin_lsn);
        }
    });
}

#[test]
fn no_version_that_a_registered_reader_needs_is_collected() {
    model(|| {
        let visible = Arc::new(AtomicU64::new(10));
        let snapshots = Arc::new(Snapshots::default());
        let versions = Arc::new(VersionStore::new());
        let key = VersionKey::new(TreeId::new(1), b"k");
        let writer = Arc::new(CommitCell::new());
        versions.push(&key, &writer, Some(Cell::inline(b"old")), false, Lsn::NONE);
        writer.commit(Lsn::new(20));
        let mark = |visible: &AtomicU64| Lsn::new(visible.load(Ordering::SeqCst));
        let collector = {
            let (visible, snapshots, versions) =
                (Arc::clone(&visible), Arc::clone(&snapshots), Arc::clone(&versions));
            thread::spawn(move || {
                visible.store(20, Ordering::SeqCst);
                let horizon = snapshots.horizon(|| mark(&visible));
                versions.collect(horizon, 4);
            })
        };
        let (slot, read_lsn) = snapshots.register(|| mark(&visible));
        let reader = Reader { read_lsn, own: None };
        let seen = versions.see(&key, &reader, |_| unreachable!("there is no stamp"));
        if read_lsn < Lsn::new(20) {
            assert!(matches!(seen, Seen::Before(Some(_))), "the reader needs the old value");
        } else {
            assert!(matches!(seen, Seen::Page));
        }
        snapshots.release(slot);
        collector.join().unwrap();
    });
}

/// Pages are read without a latch: what a rollback has undone, and whose version it has dropped, must
/// not pass for what stands in the page.
#[test]
fn a_reader_without_a_latch_takes_no_value_that_was_rolled_back() {
    struct Leaf {
        latch: Latch,
        parking: Parking,
        value: AtomicU64,
    }
    impl Leaf {
        fn put(&self, before: impl FnOnce(), value: u64) {
            self.latch.exclusive(&self.parking);
            before();
            self.value.store(value, Ordering::Relaxed);
            self.latch.release_exclusive(&self.parking);
        }
    }
    model(|| {
        let leaf = Arc::new(Leaf {
            latch: Latch::new(),
            parking: Parking::new(),
            value: AtomicU64::new(1),
        });
        let versions = Arc::new(VersionStore::new());
        let writer = {
            let (leaf, versions) = (Arc::clone(&leaf), Arc::clone(&versions));
            thread::spawn(move || {
                let key = VersionKey::new(TreeId::new(1), b"k");
                let writer = Arc::new(CommitCell::new());
                let before = Some(Cell::inline(b"1"));
                leaf.put(|| versions.push(&key, &writer, before, false, Lsn::NONE), 2);
                leaf.put(|| {}, 1);
                versions.remove_head(&key, &writer);
                writer.roll_back();
            })
        };
        if let Some(version) = leaf.latch.version() {
            let value = leaf.value.load(Ordering::Relaxed);
            let hash = KeyHash::new(TreeId::new(1), Key::whole(b"k"));
            if !versions.may_have(hash) && leaf.latch.validate(version) {
                assert_eq!(value, 1, "an uncommitted value without a version");
            }
        }
        writer.join().unwrap();
    });
}

/// A huge transaction leaves the table when the horizon has passed its commit: a reader who finds
/// its stamp afterwards takes it for seen.
#[test]
fn a_stamp_is_seen_by_readers_at_its_commit_and_by_no_others() {
    model(|| {
        let visible = Arc::new(AtomicU64::new(10));
        let snapshots = Arc::new(Snapshots::default());
        let table = Arc::new(BulkTable::default());
        let writer = Arc::new(CommitCell::new());
        let stamp = Stamp { txn: TxnId::new(7), undo_lsn: Lsn::new(12) };
        table.enter(Arc::new(Bulk::new(stamp.txn, &writer, Lsn::new(12))));
        let mark = |visible: &AtomicU64| Lsn::new(visible.load(Ordering::SeqCst));
        let committer = {
            let (visible, snapshots, table) =
                (Arc::clone(&visible), Arc::clone(&snapshots), Arc::clone(&table));
            thread::spawn(move || {
                writer.commit(Lsn::new(20));
                visible.store(20, Ordering::SeqCst);
                let horizon = snapshots.horizon(|| mark(&visible));
                table.reap(horizon);
            })
        };
        let (slot, read_lsn) = snapshots.register(|| mark(&visible));
        let is_seen = table.sees(&stamp, read_lsn, None);
        assert_eq!(is_seen, read_lsn >= Lsn::new(20));
        snapshots.release(slot);
        committer.join().unwrap();
    });
}

#[test]
fn a_page_at_or_below_low_lsn_carries_nothing_that_the_reader_does_not_see() {
    model(|| {
        let reserved = Arc::new(Reserved::new());
        let txns = Arc::new(TxnTable::with_slots(TxnId::new(1), 1));
        let page_lsn = Arc::new(AtomicU64::new(0));
        let writer = {
            let (reserved, txns, page_lsn) =
                (Arc::clone(&reserved), Arc::clone(&txns), Arc::clone(&page_lsn));
            thread::spawn(move || {
                let slot = txns.begin(reserved.get()).unwrap();
                let (start, end) = reserved.reserve();
                txns.set_last_lsn(&slot, start);
                page_lsn.store(end.get(), Ordering::SeqCst);
                // It stays active: nobody may see the page's newest content.
            })
        };
        let visible = reserved.get();
        let low_lsn = txns.min_first_lsn().map_or(visible, |first| first.min(visible));
        let found = Lsn::new(page_lsn.load(Ordering::SeqCst));
        assert!(found.is_none() || found > low_lsn, "the page would be taken as seen");
        writer.join().unwrap();
    });
}

/// A committed transaction's snapshot and the END of its commit.
#[derive(Clone, Copy, Debug)]
struct Committed {
    read_lsn: Lsn,
    end: Lsn,
}

/// A transaction that reads `reads` and writes `writes`, validated as the engine does.
fn serializable(
    gate: &CommitGate,
    versions: &VersionStore,
    reserved: &Reserved,
    reads: &VersionKey,
    writes: &VersionKey,
) -> Option<Committed> {
    let read_lsn = reserved.get();
    let writer = Arc::new(CommitCell::new());
    versions.push(writes, &writer, None, false, Lsn::NONE);
    let mut validation = gate.validate();
    let is_newer =
        matches!(versions.head(reads, Some(&writer)), Head::Committed(lsn) if lsn > read_lsn);
    let is_read = |written: &Written| written.keys.contains(reads);
    let written = Written::keys(std::slice::from_ref(writes));
    let pass = if is_newer { None } else { validation.finish(is_read, written) };
    let Some(pass) = pass else {
        versions.remove_head(writes, &writer);
        writer.roll_back();
        return None;
    };
    let (_, end) = reserved.reserve();
    writer.commit(end);
    drop(pass);
    Some(Committed { read_lsn, end })
}

#[test]
fn of_two_concurrent_transactions_that_read_what_the_other_writes_one_fails() {
    model(|| {
        let gate = Arc::new(CommitGate::default());
        let versions = Arc::new(VersionStore::new());
        let reserved = Arc::new(Reserved::new());
        let key = |name: &[u8]| VersionKey::new(TreeId::new(1), name);
        let other = {
            let (gate, versions, reserved) =
                (Arc::clone(&gate), Arc::clone(&versions), Arc::clone(&reserved));
            thread::spawn(move || serializable(&gate, &versions, &reserved, &key(b"a"), &key(b"b")))
        };
        let first = serializable(&gate, &versions, &reserved, &key(b"b"), &key(b"a"));
        let second = other.join().unwrap();
        if let (Some(first), Some(second)) = (first, second) {
            let are_serial = first.end <= second.read_lsn || second.end <= first.read_lsn;
            assert!(are_serial, "write skew: {first:?} and {second:?}");
        }
    });
}

#[test]
fn a_blind_write_between_validation_and_reservation_is_noticed() {
    model(|| {
        let gate = Arc::new(CommitGate::default());
        let versions = Arc::new(VersionStore::new());
        let reserved = Arc::new(Reserved::new());
        let (read, written) =
            (VersionKey::new(TreeId::new(1), b"r"), VersionKey::new(TreeId::new(1), b"w"));
        let blind = {
            let (gate, versions, reserved, read) =
                (Arc::clone(&gate), Arc::clone(&versions), Arc::clone(&reserved), read.clone());
            thread::spawn(move || {
                let writer = Arc::new(CommitCell::new());
                versions.push(&read, &writer, None, false, Lsn::NONE);
                let pass = gate.pass(|| Written::keys(std::slice::from_ref(&read)));
                let (_, end) = reserved.reserve();
                writer.commit(end);
                drop(pass);
                end
            })
        };
        let validated = serializable(&gate, &versions, &reserved, &read, &written);
        let blind_end = blind.join().unwrap();
        if let Some(validated) = validated {
            let is_between = validated.read_lsn < blind_end && blind_end < validated.end;
            assert!(!is_between, "{validated:?} misses the write that ends at {blind_end}");
        }
    });
}

#[test]
fn a_fate_is_decided_once_for_everybody() {
    model(|| {
        let cell = Arc::new(CommitCell::new());
        let reader = {
            let cell = Arc::clone(&cell);
            thread::spawn(move || (cell.fate(), cell.fate()))
        };
        cell.commit(Lsn::new(8));
        let (first, second) = reader.join().unwrap();
        if first != Fate::Active {
            assert_eq!((first, second), (Fate::Committed(Lsn::new(8)), first));
        }
    });
}
