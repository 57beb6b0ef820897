//! The dirty table: one entry per page *id* whose content on disk may be older than in memory.
//!
//! ```text
//!            enter                begin_write              written               complete
//!   (absent) ------> Dirty ------------------> Writing ---------------> Unsynced ----------> (absent)
//!                     ^ ^                         |                        |   page_lsn as in the image
//!                     | +------ cancel_write -----+                        |
//!                     +----------------------- complete -------------------+  changed, or latch busy
//! ```
//!
//! What must hold:
//!
//! * P1: `rec_lsn` is at or below the START of the first record of the dirty period. `enter` reads
//!   the log's reserved end under the shard lock, before the record is reserved; a copy of the
//!   shard therefore has the entry, or every record of its dirty period lies beyond what was
//!   reserved when the copy began (C1).
//! * P2, P3: between `begin_write` and `complete` nobody else can begin a write of the same id, and
//!   an entry goes only when the data sync has returned and the page is still what was written.
//! * A page with an entry, in any state, stays in its frame. So there are never more entries than
//!   frames, and the table allocates its slots once.
//!
//! Whoever holds a page's exclusive latch from `enter` to `touched` keeps its entry from going:
//! `complete` is told a `page_lsn` only by one who holds the latch shared.
//!
//! The shard locks are short mutexes, ranked below latches and below the page table's shards.

use std::collections::{BTreeSet, BinaryHeap, HashMap};

use seawall_wal::codec::{to_u64, to_usize};
use seawall_wal::planted::{Bug, is_planted};
use seawall_wal::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use seawall_wal::sync::{Mutex, MutexGuard};
use seawall_wal::{Lsn, PageId};

use super::hash::{ByPageId, spread};

/// Shards of a table, unless a model asks for fewer.
const SHARDS: usize = 64;

/// What became of an entry's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Changed in memory; nobody writes it.
    Dirty,
    /// An image is being made or written.
    Writing,
    /// The image is written in place; its data sync has not returned.
    Unsynced,
}

#[derive(Debug)]
struct Entry {
    state: State,
    rec_lsn: Lsn,
    /// `page_lsn` of the image in flight.
    image_lsn: Lsn,
    /// The first record of this dirty period re-creates the page whole, so a torn write is mended
    /// by redo alone and needs no doublewrite image.
    is_recreated: bool,
    slot: u32,
}

/// What a shard's lock guards.
#[derive(Debug, Default)]
struct Shard {
    entries: HashMap<PageId, Entry, ByPageId>,
    /// Every entry, oldest first.
    by_age: BTreeSet<(Lsn, PageId)>,
}

/// Aligned so that neighbours do not share a cache line, nor a pair of lines fetched together.
#[derive(Debug, Default)]
#[repr(align(128))]
struct LockedShard(Mutex<Shard>);

impl LockedShard {
    fn lock(&self) -> MutexGuard<'_, Shard> {
        self.0.lock()
    }
}

/// Where the END of the last record on a dirty page is noted; handed out by [`DirtyTable::enter`]
/// and good until the page's exclusive latch is let go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirtyMark {
    slot: u32,
}

/// An entry as the checkpoint writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirtyPage {
    /// The page.
    pub page: PageId,
    /// At or below the START of the first record that the page on disk may lack.
    pub rec_lsn: Lsn,
    /// END of the last record on the page; [`Lsn::NONE`] while the first one is being reserved.
    pub last_lsn: Lsn,
}

/// A page whose write has begun; see [`DirtyTable::begin_write`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WriteBegun {
    /// Whether redo mends a torn write of it without a doublewrite image.
    pub is_recreated: bool,
}

/// How a page's copy on disk stands to the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnDisk {
    /// It is the page.
    Current,
    /// It lacks changes; where redo would re-create the page whole, it may be anything.
    Older {
        /// Whether it may be anything.
        is_recreated: bool,
    },
    /// It is being written, and may be torn.
    BeingWritten,
}

/// How a write ended for its entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completion {
    /// The page is clean.
    Clean,
    /// The page was changed, or may have been: dirty again, with a higher `rec_lsn`.
    DirtyAgain,
}

/// The table.
#[derive(Debug)]
pub struct DirtyTable {
    shards: Box<[LockedShard]>,
    /// `last_lsn` of each entry, outside the shard locks: it is stored between reserve and publish,
    /// where nothing may wait (W3).
    last_lsns: Box<[AtomicU64]>,
    free_slots: Mutex<Vec<u32>>,
    len: AtomicUsize,
}

impl DirtyTable {
    /// A table for a pool of `frames`.
    #[must_use]
    pub fn new(frames: usize) -> Self {
        Self::with_shards(frames, SHARDS)
    }

    /// The same with a given number of shards, for models.
    ///
    /// # Panics
    /// When there are more frames than a `u32` counts, or no shards.
    #[must_use]
    pub fn with_shards(frames: usize, shards: usize) -> Self {
        assert!(shards > 0, "a table has shards");
        let slots = u32::try_from(frames).expect("frames are numbered by u32");
        Self {
            shards: (0..shards).map(|_| LockedShard::default()).collect(),
            last_lsns: (0..slots).map(|_| AtomicU64::new(0)).collect(),
            free_slots: Mutex::new((0..slots).rev().collect()),
            len: AtomicUsize::new(0),
        }
    }

    /// Makes sure that `page`, which the caller has latched exclusively, has an entry. Called
    /// before the record that changes it is reserved; `reserved` reads the log's reserved end.
    ///
    /// # Panics
    /// When the pool has no frame for another dirty page, which a latched page cannot mean.
    pub fn enter(&self, page: PageId, reserved: impl FnOnce() -> Lsn) -> DirtyMark {
        self.enter_as(page, false, reserved)
    }

    /// [`Self::enter`] for a record that gives the page its whole content, whatever stood there.
    pub fn enter_recreated(&self, page: PageId, reserved: impl FnOnce() -> Lsn) -> DirtyMark {
        self.enter_as(page, true, reserved)
    }

    fn enter_as(
        &self,
        page: PageId,
        is_recreated: bool,
        reserved: impl FnOnce() -> Lsn,
    ) -> DirtyMark {
        let mut shard = self.shard(page).lock();
        if let Some(entry) = shard.entries.get(&page) {
            return DirtyMark { slot: entry.slot };
        }
        let slot = self.free_slots.lock().pop().expect("no more dirty pages than frames");
        self.last_lsns[slot_index(slot)].store(0, Ordering::Relaxed);
        let rec_lsn = reserved();
        let entry =
            Entry { state: State::Dirty, rec_lsn, image_lsn: Lsn::NONE, is_recreated, slot };
        shard.entries.insert(page, entry);
        shard.by_age.insert((rec_lsn, page));
        self.len.fetch_add(1, Ordering::Relaxed);
        DirtyMark { slot }
    }

    /// Notes the END of a record just reserved for the marked page. Neither waits nor allocates
    /// (W3). `Release`, paired with the `Acquire` in [`Self::copy_shard`].
    #[inline]
    pub fn touched(&self, mark: DirtyMark, last_lsn: Lsn) {
        self.last_lsns[slot_index(mark.slot)].store(last_lsn.get(), Ordering::Release);
    }

    /// Whether the page has an entry, in any state.
    #[must_use]
    pub fn contains(&self, page: PageId) -> bool {
        self.shard(page).lock().entries.contains_key(&page)
    }

    /// Dirty -> Writing. `None`, and nothing done, where somebody writes the page or it is clean.
    pub fn begin_write(&self, page: PageId) -> Option<WriteBegun> {
        let mut shard = self.shard(page).lock();
        let entry = shard.entries.get_mut(&page)?;
        if entry.state != State::Dirty {
            return None;
        }
        entry.state = State::Writing;
        Some(WriteBegun { is_recreated: entry.is_recreated })
    }

    /// Writing -> Dirty, as it was: nothing was issued.
    ///
    /// # Panics
    /// When no write of the page has begun.
    pub fn cancel_write(&self, page: PageId) {
        self.change(page, State::Writing, |entry| entry.state = State::Dirty);
    }

    /// Writing -> Unsynced: the image with this `page_lsn` was written in place.
    ///
    /// # Panics
    /// When no write of the page has begun.
    pub fn written(&self, page: PageId, image_lsn: Lsn) {
        self.change(page, State::Writing, |entry| {
            entry.state = State::Unsynced;
            entry.image_lsn = image_lsn;
        });
    }

    /// Ends a write after its data sync has returned. `page_lsn` is the page's, read under its
    /// latch, which the caller still holds shared; `None` where the latch was busy.
    ///
    /// # Panics
    /// When no image of the page is waiting for its sync.
    pub fn complete(&self, page: PageId, page_lsn: Option<Lsn>) -> Completion {
        let mut shard = self.shard(page).lock();
        let Shard { entries, by_age } = &mut *shard;
        let entry = entries.get_mut(&page).expect("an entry stays while its write is in flight");
        assert_eq!(entry.state, State::Unsynced, "completion of {page} without a write");
        by_age.remove(&(entry.rec_lsn, page));
        if page_lsn == Some(entry.image_lsn) || is_planted(Bug::CleanThoughChanged) {
            let slot = entry.slot;
            entries.remove(&page);
            self.free_slots.lock().push(slot);
            self.len.fetch_sub(1, Ordering::Relaxed);
            return Completion::Clean;
        }
        // The sync made the image durable, so the disk lacks nothing up to its page_lsn. The image
        // is older than the entry where whoever entered it gave up before there was a record.
        entry.rec_lsn = entry.rec_lsn.max(entry.image_lsn);
        entry.state = State::Dirty;
        entry.is_recreated &= is_planted(Bug::KeepDoublewriteExemption);
        by_age.insert((entry.rec_lsn, page));
        Completion::DirtyAgain
    }

    /// Drops the entry of a page that was freed, unless a write of it is in flight; that one ends
    /// in [`Self::complete`]. The caller holds the page's latch exclusively.
    pub fn forget(&self, page: PageId) {
        let mut shard = self.shard(page).lock();
        let Some(entry) = shard.entries.get(&page) else { return };
        if entry.state != State::Dirty {
            return;
        }
        let (rec_lsn, slot) = (entry.rec_lsn, entry.slot);
        shard.entries.remove(&page);
        shard.by_age.remove(&(rec_lsn, page));
        self.free_slots.lock().push(slot);
        self.len.fetch_sub(1, Ordering::Relaxed);
    }

    /// The lowest `rec_lsn`. Entries made while this looks are not in it, but lie at or above what
    /// was reserved before the call: for a `redo_lsn` take the smaller of the two.
    #[must_use]
    pub fn min_rec_lsn(&self) -> Option<Lsn> {
        self.shards.iter().filter_map(|shard| Some(shard.lock().by_age.first()?.0)).min()
    }

    /// Up to `count` pages in state Dirty, lowest `rec_lsn` first.
    #[must_use]
    pub fn oldest(&self, count: usize) -> Vec<(Lsn, PageId)> {
        // The oldest so far; the youngest of them on top, which the next older one displaces.
        let mut found = BinaryHeap::with_capacity(count + 1);
        for shard in &self.shards {
            let shard = shard.lock();
            for &aged in &shard.by_age {
                if found.len() == count && found.peek().is_none_or(|youngest| aged > *youngest) {
                    break;
                }
                let entry = shard.entries.get(&aged.1);
                if entry.is_some_and(|entry| entry.state == State::Dirty) {
                    found.push(aged);
                    if found.len() > count {
                        found.pop();
                    }
                }
            }
        }
        found.into_sorted_vec()
    }

    /// All pages in state Dirty with a `rec_lsn` below `lsn`, in the order of their ids.
    #[must_use]
    pub fn below(&self, lsn: Lsn) -> Vec<PageId> {
        let mut found = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock();
            let older = shard.by_age.range(..(lsn, PageId::new(0)));
            found.extend(older.map(|&(_, page)| page).filter(|page| {
                shard.entries.get(page).is_some_and(|entry| entry.state == State::Dirty)
            }));
        }
        found.sort_unstable();
        found
    }

    /// Number of entries; momentary.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// Whether there is no entry; momentary.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of shards, for [`Self::copy_shard`].
    #[must_use]
    pub fn shards(&self) -> usize {
        self.shards.len()
    }

    /// How the page's copy on disk stands to the page; momentary.
    #[must_use]
    pub fn on_disk(&self, page: PageId) -> OnDisk {
        let shard = self.shard(page).lock();
        match shard.entries.get(&page) {
            None => OnDisk::Current,
            Some(Entry { state: State::Dirty, is_recreated, .. }) => {
                OnDisk::Older { is_recreated: *is_recreated }
            }
            Some(_) => OnDisk::BeingWritten,
        }
    }

    /// Every entry of a shard, in any state, oldest first.
    #[must_use]
    pub fn copy_shard(&self, index: usize) -> Vec<DirtyPage> {
        let shard = self.shards[index].lock();
        let entry = |&(rec_lsn, page): &(Lsn, PageId)| {
            let slot = shard.entries.get(&page).expect("by_age lists the entries").slot;
            let last_lsn = self.last_lsns[slot_index(slot)].load(Ordering::Acquire);
            DirtyPage { page, rec_lsn, last_lsn: Lsn::new(last_lsn) }
        };
        let is_listed = |&&(_, page): &&(Lsn, PageId)| {
            !is_planted(Bug::MissPagesBeingWritten) || shard.entries[&page].state == State::Dirty
        };
        shard.by_age.iter().filter(is_listed).map(entry).collect()
    }

    fn shard(&self, page: PageId) -> &LockedShard {
        &self.shards[to_usize(spread(page) % to_u64(self.shards.len()))]
    }

    fn change(&self, page: PageId, from: State, how: impl FnOnce(&mut Entry)) {
        let mut shard = self.shard(page).lock();
        let entry = shard.entries.get_mut(&page).expect("an entry stays while it is written");
        assert_eq!(entry.state, from, "state of dirty page {page}");
        how(entry);
    }
}

/// Index of a slot; bounded by the number of frames.
fn slot_index(slot: u32) -> usize {
    to_usize(u64::from(slot))
}
