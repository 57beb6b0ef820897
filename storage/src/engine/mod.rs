//! The engine: everything between the public interface and the parts below it.
//!
//! One struct holds the parts; its methods are spread over one file for each concern: appending a
//! record (`append`), reading (`read`), writes that commit by themselves (`auto_commit`),
//! transactions (`unit`, `undo`, `validate`), the shape of trees (`structure`), the catalogue
//! (`ddl`), and what runs in the background (`collect`, [`checkpoint`](crate::checkpoint)).
//!
//! Lock order, from the outside in; a thread that holds one may take only what stands below it:
//!
//! | rank | lock | waits for |
//! |---|---|---|
//! | 1 | tree lock, key head | never waited for while anything below is held |
//! | 2 | log credit, then the turn for a new bitmap page | file or ring room; growth of the page file |
//! | 3 | appender | an append under way |
//! | 4 | page latches: parent, child, right sibling, bitmap page | other holders |
//! | 5 | commit gate | reservations, comparisons |
//! | 6 | shards of versions, page table, dirty table; snapshots, tree sizes, allocator | nothing |
//!
//! Nothing below rank 4 waits for I/O, and no I/O happens at rank 4 or below (invariant L1).

mod admission;
mod append;
mod auto_commit;
mod collect;
mod counters;
mod damage;
mod ddl;
mod dismantle;
mod history;
mod overflow;
mod read;
mod spill;
mod structure;
mod sweep;
mod undo;
mod unit;
mod validate;
mod version_memory;

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use seawall_wal::log::{Log, RecordReader};
use seawall_wal::sync::Mutex;
use seawall_wal::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use seawall_wal::{Error, Lsn, PageId, Result, TreeId};

use crate::catalogue::{Registry, TreeInfo};
use crate::fork::ForkGuard;
use crate::pagefile::PageFile;
use crate::pool::Pool;
use crate::pool::dirty::DirtyTable;
use crate::source::Source;
use crate::space::Allocator;
use crate::txn::{Appenders, CommitGate, SnapshotSlot, Snapshots, TxnSlot, TxnTable};
use crate::version::{BulkTable, VersionStore};
use crate::writeback::cleaner::Cleaner;

pub(crate) use admission::{Hooks, TellingProvider};
pub(crate) use append::{Appended, Chain};
pub(crate) use auto_commit::{CONFLICT_WAIT, Decision, Outcome};
pub(crate) use collect::Collected;
pub(crate) use counters::Counters;
use damage::DamageTold;
pub(crate) use ddl::check_name;
use dismantle::Doomed;
pub(crate) use overflow::OverflowLink;
pub(crate) use read::{Behind, End, Found, LeafPairs, ReadAt, Rest, View};
pub(crate) use spill::{Spills, UndoFile};
use sweep::{Aside, Sweep};
pub(crate) use undo::Undo;
pub(crate) use unit::{Unit, UnitMark};

/// The parts of an open database.
#[derive(Debug)]
pub(crate) struct Engine {
    pub(crate) log: Arc<Log>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) dirty: Arc<DirtyTable>,
    pub(crate) file: Arc<PageFile>,
    pub(crate) cleaner: Arc<Cleaner>,
    pub(crate) space: Allocator,
    pub(crate) versions: VersionStore,
    pub(crate) bulks: BulkTable,
    /// Undo files.
    pub(crate) spills: Spills,
    /// Versions of one transaction may take this many bytes; beyond it writes stamps.
    bulk_budget_bytes: u64,
    /// Memory that versions may take.
    versions_bytes_max: u64,
    /// The raised bound while nothing could be dropped; 0 in general.
    versions_bytes_raised_max: AtomicU64,
    /// Leaves to be purged.
    sweeps: Mutex<VecDeque<Sweep>>,
    /// Garbage in trees that a change of the catalogue holds.
    aside: Mutex<BTreeMap<TreeId, Aside>>,
    /// How many checkpoints there were when garbage found no room last; [`u64::MAX`] when it never
    /// did.
    garbage_blocked_at_checkpoint: AtomicU64,
    damage_told: DamageTold,
    /// Pages that transactions have pinned, or are about to, for the inserts that they kept.
    fetched_pins: AtomicUsize,
    pub(crate) snapshots: Snapshots,
    pub(crate) txns: TxnTable,
    pub(crate) appenders: Appenders,
    pub(crate) gate: CommitGate,
    pub(crate) trees: Registry,
    pub(crate) catalogue: Arc<TreeInfo>,
    pub(crate) counters: Counters,
    pub(crate) hooks: Arc<Hooks>,
    /// Pages that may be dirty.
    dirty_max: usize,
    pub(crate) page_bytes: usize,
    wal_dir: PathBuf,
    /// Slots of committed transactions that readers may not see yet, oldest commit first.
    retired_slots: Mutex<VecDeque<(Lsn, TxnSlot)>>,
    /// Log that is kept beside the permanent reserve for what checkpoints list.
    listed_reserve_bytes: Mutex<u64>,
    /// The newest collection horizon that somebody worked out; older than the truth, never newer.
    horizon: AtomicU64,
    /// While a checkpoint copies tree sizes, none is folded beyond this.
    fold_cap: AtomicU64,
    /// Wall time of the newest commit, in milliseconds since 1970.
    wall_ms: AtomicU64,
    source: Source,
    /// Trees that are to be taken apart.
    doomed: Mutex<Vec<Doomed>>,
    /// Reads records of earlier epochs, for as long as recovery needs them.
    history: Mutex<Option<RecordReader>>,
    is_closed: AtomicBool,
    fork: ForkGuard,
}

/// What an engine is put together from.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) log: Arc<Log>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) file: Arc<PageFile>,
    pub(crate) cleaner: Arc<Cleaner>,
    pub(crate) space: Allocator,
    pub(crate) trees: Registry,
    pub(crate) catalogue: Arc<TreeInfo>,
    pub(crate) wal_dir: PathBuf,
    pub(crate) spills: Spills,
    pub(crate) bulk_budget_bytes: u64,
    pub(crate) versions_bytes_max: u64,
    pub(crate) dirty_max: usize,
    pub(crate) hooks: Arc<Hooks>,
    /// Floor of the wall time of commits.
    pub(crate) wall_ms: u64,
    pub(crate) source: Source,
    pub(crate) fork: ForkGuard,
}

impl Engine {
    pub(crate) fn new(parts: Parts) -> Self {
        let first_txn = seawall_wal::TxnId::new(parts.log.epoch().start_lsn.get());
        Self {
            dirty: Arc::clone(parts.pool.dirty()),
            page_bytes: parts.file.page_bytes(),
            log: parts.log,
            pool: parts.pool,
            file: parts.file,
            cleaner: parts.cleaner,
            space: parts.space,
            wal_dir: parts.wal_dir,
            versions: VersionStore::new(),
            bulks: BulkTable::default(),
            spills: parts.spills,
            bulk_budget_bytes: parts.bulk_budget_bytes,
            versions_bytes_max: parts.versions_bytes_max,
            versions_bytes_raised_max: AtomicU64::new(0),
            sweeps: Mutex::default(),
            aside: Mutex::default(),
            garbage_blocked_at_checkpoint: AtomicU64::new(u64::MAX),
            damage_told: DamageTold::default(),
            fetched_pins: AtomicUsize::new(0),
            snapshots: Snapshots::default(),
            txns: TxnTable::new(first_txn),
            appenders: Appenders::new(),
            gate: CommitGate::default(),
            trees: parts.trees,
            catalogue: parts.catalogue,
            counters: Counters::default(),
            hooks: parts.hooks,
            dirty_max: parts.dirty_max,
            retired_slots: Mutex::default(),
            listed_reserve_bytes: Mutex::new(0),
            horizon: AtomicU64::new(0),
            fold_cap: AtomicU64::new(u64::MAX),
            wall_ms: AtomicU64::new(parts.wall_ms),
            source: parts.source,
            doomed: Mutex::default(),
            history: Mutex::new(None),
            is_closed: AtomicBool::new(false),
            fork: parts.fork,
        }
    }

    /// Registers a reader at what `watermark` says. Returns its slot, `read_lsn` and `low_lsn`.
    ///
    /// The order is what makes `low_lsn` safe: `visible_lsn` first, then the transaction table,
    /// then the position to read at. A transaction that the scan misses reserves its first record
    /// beyond that `visible_lsn`.
    pub(crate) fn register(&self, watermark: impl Fn() -> Lsn) -> (SnapshotSlot, Lsn, Lsn) {
        self.reap_slots();
        let visible = self.log.visible_lsn();
        let low_lsn = self.txns.min_first_lsn().map_or(visible, |first| first.min(visible));
        let (slot, read_lsn) = self.snapshots.register(watermark);
        (slot, read_lsn, low_lsn)
    }

    /// Keeps a committed transaction's slot until its commit is visible.
    fn retire_slot(&self, slot: TxnSlot, end: Lsn) {
        self.retired_slots.lock().push_back((end, slot));
        self.reap_slots();
    }

    /// Gives back the slots of commits that are visible by now.
    pub(crate) fn reap_slots(&self) {
        let visible = self.log.visible_lsn();
        let mut retired = self.retired_slots.lock();
        while retired.front().is_some_and(|(end, _)| *end <= visible) {
            if let Some((_, slot)) = retired.pop_front() {
                self.txns.release(slot);
            }
        }
    }

    /// Milliseconds since 1970, never decreasing from commit to commit.
    fn wall_ms(&self) -> u64 {
        let now = self.source.now_ms(self.wall_floor_ms());
        self.wall_ms.fetch_max(now, Ordering::SeqCst).max(now)
    }

    /// The floor of the wall time of later commits.
    pub(crate) fn wall_floor_ms(&self) -> u64 {
        self.wall_ms.load(Ordering::SeqCst)
    }

    /// Refuses what a closed or poisoned database cannot do.
    pub(crate) fn check_writable(&self) -> Result<()> {
        self.check_open()?;
        self.log.poisoned().map_or(Ok(()), Err)
    }

    pub(crate) fn check_open(&self) -> Result<()> {
        let is_closed = self.is_closed.load(Ordering::SeqCst) || self.is_forked();
        if is_closed { Err(Error::Closed) } else { Ok(()) }
    }

    /// Whether this process is a forked child of the one that opened the database. It has a copy of
    /// the memory and none of the threads: nothing here is its own.
    pub(crate) fn is_forked(&self) -> bool {
        self.fork.is_forked()
    }

    /// Refuses everything from now on. Returns whether this call was the first.
    pub(crate) fn close(&self) -> bool {
        let is_first = !self.is_closed.swap(true, Ordering::SeqCst);
        self.log.recheck_credit();
        is_first
    }

    /// A conflict, counted.
    fn conflict(&self) -> Error {
        self.counters.conflict();
        Error::Conflict
    }

    pub(crate) fn wal_dir(&self) -> &Path {
        &self.wal_dir
    }

    pub(crate) fn corrupt_page(
        &self,
        page: PageId,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Error {
        Error::corrupt(self.file.path(), self.file.offset(page), expected, found)
    }

    /// Refuses a tree that has been dropped.
    pub(crate) fn check_tree(&self, tree: &TreeInfo) -> Result<()> {
        match tree.dropped_lsn() {
            None => Ok(()),
            Some(_) => Err(Error::NotFound { what: "the tree, which was dropped,".into() }),
        }
    }
}
