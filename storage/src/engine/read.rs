//! Reading keys and leaves, with the versions that the reader is to see.
//!
//! A cell and its versions are read as of one state of the leaf (invariant T3): under its latch, or
//! between two looks at its version that agree. For a writer pushes the version before it changes the
//! cell, and holds the leaf exclusively for both. What is found is copied out, so that no user code
//! runs under a latch (L1). The read of a single key begins without one: it notes the leaf's version,
//! copies what it finds, and counts only if the leaf has not changed meanwhile. So it writes no cache
//! line that another reader of the page writes.
//!
//! A cell that bears the stamp of a huge transaction which the reader does not see leads to that
//! transaction's undo information, on disk. It is read after the latch is released; by then the
//! transaction may have been rolled back, and the reader looks at the leaf again.

use std::ops::{Bound, Range};

use seawall_wal::planted::{Bug, Point, is_planted, reach};
use seawall_wal::record::{Cell, Stamp};
use seawall_wal::sync::atomic::{AtomicBool, Ordering};
use seawall_wal::{Error, Lsn, PageId, Result};

use super::Engine;
use super::append::page_lsn;
use crate::catalogue::TreeInfo;
use crate::page::{Key, LeafView, OptimisticNode, PageRead};
use crate::pool::SharedPage;
use crate::tree::{Descent, Seek};
use crate::txn::CommitCell;
use crate::version::{CellBuf, KeyHash, Older, Reader, Seen, VersionKey};

/// What a reader sees.
#[derive(Clone, Copy, Debug)]
pub(crate) enum View<'a> {
    /// What is visible at the moment the leaf is latched, or its version noted. The reader is not
    /// registered: what it needs cannot be collected, since the horizon never passes `visible_lsn`.
    Latest,
    /// A registered reader's view.
    At(ReadAt<'a>),
}

/// A registered reader's position.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadAt<'a> {
    /// Commits at or below are seen.
    pub(crate) read_lsn: Lsn,
    /// A page at or below carries no change that is not seen.
    pub(crate) low_lsn: Lsn,
    /// The reading transaction, whose own writes are seen.
    pub(crate) own: Option<&'a CommitCell>,
    /// Set when what the reader needs may be gone.
    pub(crate) revoked: Option<&'a AtomicBool>,
}

impl ReadAt<'_> {
    /// Refuses what was read at this position, once what was to be read may be gone. To be asked
    /// behind the last look at a page, a version or undo information, whatever came of it.
    pub(crate) fn check(&self) -> Result<()> {
        let is_revoked = self.revoked.is_some_and(|revoked| revoked.load(Ordering::SeqCst));
        if is_revoked { Err(Error::SnapshotTooOld) } else { Ok(()) }
    }

    const fn reader(&self) -> Reader<'_> {
        Reader { read_lsn: self.read_lsn, own: self.own }
    }
}

/// What a reader sees of a cell lies behind a stamp, in undo information.
#[derive(Debug)]
pub(crate) struct Behind {
    stamp: StampSeen,
    older: Older,
}

/// A stamp on a page, and where its transaction stood then.
#[derive(Clone, Copy, Debug)]
pub(super) struct StampSeen {
    pub(super) stamp: Stamp,
    undo_next_lsn: Option<Lsn>,
}

/// What became of a read without a latch.
enum Look {
    /// What was asked for.
    Answer(Option<Found>),
    /// Somebody changed the leaf meanwhile.
    Again,
    /// This takes a latch, or a read from disk.
    Latch,
}

/// Reads without a latch, before one is taken: a writer that changes the leaf so often has it in its
/// cache.
const OPTIMISTIC_TRIES: usize = 4;

/// What a reader sees of a cell, as far as page and versions tell.
enum Sight {
    Seen(Seen),
    /// What lies behind this stamp, which the reader does not see.
    Behind(Stamp),
}

/// What was found behind a stamp.
pub(super) enum Looked {
    /// This content, or none.
    Cell(Option<CellBuf>),
    /// The transaction has been rolled back meanwhile: the page shows what was there before.
    Gone,
}

/// Where a value was put, and what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// The value itself.
    Inline,
    /// The link to its overflow extents.
    Overflow,
}

/// Pairs copied out of one leaf: the page as a whole where every cell of it is seen, or else value by
/// value.
#[derive(Debug, Default)]
pub(crate) struct LeafPairs {
    bytes: Vec<u8>,
    pairs: Vec<PairAt>,
}

#[derive(Clone, Debug)]
struct PairAt {
    key: Range<usize>,
    value: Range<usize>,
    /// `None` while it is not known whether there is a value.
    found: Option<Found>,
}

/// From so many cells on a page is copied whole: it takes as long as some of its values do.
const WHOLE_COPY_MIN: usize = 4;

/// The end of a range that is read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum End {
    Front,
    Back,
}

/// What remains of a range after one of its leaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    Done,
    /// The range continues at this key: forward from it on, backward below it.
    From(Vec<u8>),
}

impl LeafPairs {
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.pairs.clear();
    }

    pub(crate) fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Key, value or overflow link, and which of the two.
    pub(crate) fn get(&self, index: usize) -> (&[u8], &[u8], Found) {
        let pair = &self.pairs[index];
        let found = pair.found.expect("pairs without a value are removed before anyone asks");
        (&self.bytes[pair.key.clone()], &self.bytes[pair.value.clone()], found)
    }

    /// Adds a key whose value [`LeafPairs::set_value`] adds.
    fn push_key(&mut self, leaf: LeafView<'_>, slot: usize) {
        let start = self.bytes.len();
        leaf.key_at(slot).append_to(&mut self.bytes);
        let end = self.bytes.len();
        self.pairs.push(PairAt { key: start..end, value: end..end, found: None });
    }

    /// Copies a page with the cells of `slots` that are no ghosts.
    fn copy_page(&mut self, page: &[u8], slots: Range<usize>) {
        debug_assert!(self.bytes.is_empty(), "the places in the copy are those in the page");
        self.bytes.extend_from_slice(page);
        for (key, value, is_link) in LeafView::new(page).live_cells(slots) {
            let start = self.bytes.len();
            key.append_to(&mut self.bytes);
            let found = if is_link { Found::Overflow } else { Found::Inline };
            self.pairs.push(PairAt { key: start..self.bytes.len(), value, found: Some(found) });
        }
    }

    fn set_value(&mut self, index: usize, value: &[u8], found: Found) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(value);
        self.pairs[index].value = start..self.bytes.len();
        self.pairs[index].found = Some(found);
    }
}

impl Engine {
    pub(crate) fn descent(&self, tree: &TreeInfo) -> Descent<'_> {
        Descent { pool: &self.pool, tree: tree.id, root: tree.root }
    }

    /// Looks up `key`; appends its value, or the link to it, to `out`.
    pub(crate) fn lookup(
        &self,
        tree: &TreeInfo,
        key: &[u8],
        view: View<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Option<Found>> {
        let found = self.look_up(tree, key, view, out);
        self.check_read(tree, view)?;
        found
    }

    /// Refuses what was read of a tree once what was to be read may be gone: the registration was
    /// revoked, or the tree was dropped at or below the reader's position, so that nobody keeps its pages
    /// for it. To be asked behind the last look at a page, a version, a value or undo information,
    /// whatever came of it.
    pub(crate) fn check_read(&self, tree: &TreeInfo, view: View<'_>) -> Result<()> {
        if let View::At(at) = view {
            at.check()?;
        }
        let Some(dropped_lsn) = tree.dropped_lsn() else { return Ok(()) };
        let position = match view {
            View::At(at) => at.read_lsn,
            View::Latest => self.log.visible_lsn(),
        };
        if dropped_lsn <= position { self.check_tree(tree) } else { Ok(()) }
    }

    fn look_up(
        &self,
        tree: &TreeInfo,
        key: &[u8],
        view: View<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Option<Found>> {
        for _ in 0..OPTIMISTIC_TRIES {
            match self.look_up_optimistically(tree, key, view, out)? {
                Look::Answer(found) => return Ok(found),
                Look::Again => {}
                Look::Latch => break,
            }
        }
        loop {
            let page: SharedPage<'_> = self.descent(tree).leaf(Seek::Key(key))?;
            let leaf = LeafView::new(page.bytes());
            let Ok(slot) = leaf.find(key) else { return Ok(None) };
            let mut found = None;
            let show = |value: &[u8], kind| {
                out.extend_from_slice(value);
                found = Some(kind);
            };
            let Some(behind) = self.see_cell(tree, &page, slot, self.read_at(view), show) else {
                return Ok(found);
            };
            drop(page);
            match view {
                View::Latest => return self.lookup_registered(tree, key, out),
                View::At(at) => {
                    if let Looked::Cell(cell) = self.look_behind(behind, at)? {
                        return Ok(cell.and_then(|cell| put_shown(&cell.as_cell(), out)));
                    }
                }
            }
        }
    }

    /// One try without a latch. `out` is as it was unless there is an answer.
    fn look_up_optimistically(
        &self,
        tree: &TreeInfo,
        key: &[u8],
        view: View<'_>,
        out: &mut Vec<u8>,
    ) -> Result<Look> {
        let Some(page) = self.descent(tree).optimistic_leaf(Seek::Key(key))? else {
            return Ok(Look::Latch);
        };
        let leaf = OptimisticNode::new(&page);
        // Behind the leaf's version, before anything else of it: as if it had been latched then.
        let at = self.read_at(view);
        let start = out.len();
        let found = match leaf.cell(key) {
            None => None,
            Some(cell) => {
                // The cell before its versions: whoever changes it pushes the version first.
                let sight = self.see(tree, Key::whole(key), leaf.page_lsn(), cell.stamp, at);
                reach(Point::CellSeen);
                match sight {
                    Sight::Seen(Seen::Page) if cell.is_ghost => None,
                    Sight::Seen(Seen::Page) => {
                        leaf.append_value(&cell, out);
                        Some(if cell.is_overflow { Found::Overflow } else { Found::Inline })
                    }
                    Sight::Seen(Seen::Before(before)) => {
                        before.and_then(|before| put_shown(&before.as_cell(), out))
                    }
                    Sight::Seen(Seen::Stamped(..)) | Sight::Behind(_) => return Ok(Look::Latch),
                }
            }
        };
        if page.validate() || is_planted(Bug::ReadWithoutValidation) {
            return Ok(Look::Answer(found));
        }
        out.truncate(start);
        Ok(Look::Again)
    }

    /// [`Engine::lookup`] of what is visible now, by a reader whose undo information stays.
    fn lookup_registered(
        &self,
        tree: &TreeInfo,
        key: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<Option<Found>> {
        let (slot, read_lsn, low_lsn) = self.register(|| self.log.visible_lsn());
        let at = ReadAt { read_lsn, low_lsn, own: None, revoked: Some(slot.revoked()) };
        let found = self.lookup(tree, key, View::At(at), out);
        self.snapshots.release(slot);
        found
    }

    /// The position that a view means once its leaf is latched, or its version noted.
    fn read_at<'a>(&self, view: View<'a>) -> ReadAt<'a> {
        match view {
            View::At(at) => at,
            View::Latest => {
                let read_lsn = self.log.visible_lsn();
                ReadAt { read_lsn, low_lsn: Lsn::NONE, own: None, revoked: None }
            }
        }
    }

    /// Calls `found` with what the reader sees in `slot`, if it sees a live cell. What is not to be
    /// found under the latch is returned.
    fn see_cell(
        &self,
        tree: &TreeInfo,
        page: &SharedPage<'_>,
        slot: usize,
        at: ReadAt<'_>,
        found: impl FnOnce(&[u8], Found),
    ) -> Option<Behind> {
        let leaf = LeafView::new(page.bytes());
        let (key, cell) = (leaf.key_at(slot), leaf.cell_at(slot));
        let seen = match self.see(tree, key, page_lsn(page), cell.stamp, at) {
            Sight::Seen(seen) => seen,
            Sight::Behind(stamp) => {
                let key = VersionKey::new(tree.id, &key.to_vec());
                Seen::Stamped(stamp, self.versions.older(&key))
            }
        };
        match seen {
            Seen::Page => show(&cell, found),
            Seen::Before(before) => {
                if let Some(before) = before {
                    show(&before.as_cell(), found);
                }
            }
            Seen::Stamped(stamp, older) => {
                return Some(Behind { stamp: self.stamp_seen(stamp), older });
            }
        }
        None
    }

    /// What a reader sees that finds a cell with this stamp, or without one, on a leaf at `page_lsn`,
    /// which it has latched or validates afterwards. A stamp in the page is the newest write of the key:
    /// whoever writes after it puts a cell without it, or with another.
    #[inline]
    fn see(
        &self,
        tree: &TreeInfo,
        key: Key<'_>,
        page_lsn: Lsn,
        stamp: Option<Stamp>,
        at: ReadAt<'_>,
    ) -> Sight {
        match stamp {
            _ if page_lsn <= at.low_lsn => Sight::Seen(Seen::Page),
            None => Sight::Seen(self.see_unstamped(tree, key, at)),
            Some(stamp) if self.sees(&stamp, at) => Sight::Seen(Seen::Page),
            Some(stamp) if stamp.undo_lsn == Stamp::NOTHING_BEFORE => {
                Sight::Seen(Seen::Before(None))
            }
            Some(stamp) => Sight::Behind(stamp),
        }
    }

    /// What a reader sees that finds a cell without a stamp.
    fn see_unstamped(&self, tree: &TreeInfo, key: Key<'_>, at: ReadAt<'_>) -> Seen {
        if !self.versions.may_have(KeyHash::new(tree.id, key)) {
            return Seen::Page;
        }
        let key = VersionKey::new(tree.id, &key.to_vec());
        self.versions.see(&key, &at.reader(), |stamp| self.sees(stamp, at))
    }

    fn sees(&self, stamp: &Stamp, at: ReadAt<'_>) -> bool {
        self.bulks.sees(stamp, at.read_lsn, at.own)
    }

    /// For a caller that has the latch of the page that shows `stamp`.
    pub(super) fn stamp_seen(&self, stamp: Stamp) -> StampSeen {
        StampSeen { stamp, undo_next_lsn: self.txns.undo_next_lsn(stamp.txn) }
    }

    /// Whether the write behind a stamp may have been undone since the stamp was seen. Its record, and
    /// those behind it, may be gone then: the page has to be looked at again.
    pub(super) fn may_be_undone(&self, seen: &StampSeen) -> bool {
        self.txns.undo_next_lsn(seen.stamp.txn) != seen.undo_next_lsn
    }

    /// Goes back behind stamps that the reader, who is registered and holds no latch, does not see.
    fn look_behind(&self, behind: Behind, at: ReadAt<'_>) -> Result<Looked> {
        let Behind { stamp: seen, mut older } = behind;
        let mut stamp = seen.stamp;
        loop {
            let before = match self.before_stamp(&stamp, &seen)? {
                Looked::Cell(Some(before)) => before,
                nothing => return Ok(nothing),
            };
            let seen = match before.as_cell().stamp {
                Some(next) if self.sees(&next, at) => Seen::Page,
                Some(next) => Seen::Stamped(next, older),
                None => older.see(&at.reader(), |stamp| self.sees(stamp, at)),
            };
            match seen {
                Seen::Page => return Ok(Looked::Cell(Some(before))),
                Seen::Before(before) => return Ok(Looked::Cell(before)),
                Seen::Stamped(next, behind_next) => (stamp, older) = (next, behind_next),
            }
        }
    }

    /// How many keys of a leaf, from `from` on, the reader sees, and the cells of which
    /// [`Engine::count_behind`] tells when the latch is released.
    pub(crate) fn count_seen(
        &self,
        tree: &TreeInfo,
        page: &SharedPage<'_>,
        from: &[u8],
        at: ReadAt<'_>,
    ) -> (u64, Vec<Behind>) {
        let leaf = LeafView::new(page.bytes());
        let (mut count, mut behind) = (0, Vec::new());
        for slot in leaf.lower_bound(from)..leaf.count() {
            behind.extend(self.see_cell(tree, page, slot, at, |_, _| count += 1));
        }
        (count, behind)
    }

    /// How many of these the reader sees. `None`: a transaction was rolled back meanwhile, and the
    /// leaf has to be looked at again.
    pub(crate) fn count_behind(&self, behind: Vec<Behind>, at: ReadAt<'_>) -> Result<Option<u64>> {
        let mut count = 0;
        at.check()?;
        for behind in behind {
            match self.look_behind(behind, at)? {
                Looked::Cell(cell) => {
                    count += u64::from(cell.is_some_and(|cell| !cell.as_cell().is_ghost));
                }
                Looked::Gone => return Ok(None),
            }
        }
        Ok(Some(count))
    }

    /// Copies what the reader sees of the leaf at this end of the range, in ascending order, to `out`,
    /// which is empty.
    pub(crate) fn copy_leaf(
        &self,
        tree: &TreeInfo,
        end: End,
        bounds: (Bound<&[u8]>, Bound<&[u8]>),
        at: ReadAt<'_>,
        out: &mut LeafPairs,
    ) -> Result<Rest> {
        let copied = match end {
            End::Front => self.copy_first(tree, bounds, at, out),
            End::Back => self.copy_last(tree, bounds, at, out),
        };
        self.check_read(tree, View::At(at))?;
        copied
    }

    fn copy_first(
        &self,
        tree: &TreeInfo,
        (lower, upper): (Bound<&[u8]>, Bound<&[u8]>),
        at: ReadAt<'_>,
        out: &mut LeafPairs,
    ) -> Result<Rest> {
        let start = match lower {
            Bound::Included(key) | Bound::Excluded(key) => key,
            Bound::Unbounded => &[],
        };
        loop {
            let page: SharedPage<'_> = self.descent(tree).leaf(Seek::Key(start))?;
            let leaf = LeafView::new(page.bytes());
            let first = match (lower, leaf.find(start)) {
                (Bound::Excluded(_), Ok(slot)) => slot + 1,
                (_, Ok(slot) | Err(slot)) => slot,
            };
            let end = end_slot(leaf, upper);
            let behind = self.copy_slots(tree, &page, first..end, at, out);
            let id = page.id();
            let rest = match leaf.high_fence() {
                Some(fence) if end == leaf.count() && is_below(&fence.to_vec(), upper) => {
                    Rest::From(fence.to_vec())
                }
                _ => Rest::Done,
            };
            drop(page);
            if matches!(&rest, Rest::From(fence) if &fence[..] <= start) {
                return Err(self.no_way_on(id));
            }
            if self.fill_in(behind, at, out)? {
                return Ok(rest);
            }
        }
    }

    fn copy_last(
        &self,
        tree: &TreeInfo,
        (lower, upper): (Bound<&[u8]>, Bound<&[u8]>),
        at: ReadAt<'_>,
        out: &mut LeafPairs,
    ) -> Result<Rest> {
        let seek = match upper {
            Bound::Included(key) => Seek::Key(key),
            Bound::Excluded(key) => Seek::Below(key),
            Bound::Unbounded => Seek::Last,
        };
        loop {
            let page: SharedPage<'_> = self.descent(tree).leaf(seek)?;
            let leaf = LeafView::new(page.bytes());
            let first = match lower {
                Bound::Included(key) => leaf.lower_bound(key),
                Bound::Excluded(key) => leaf.find(key).map_or_else(|slot| slot, |slot| slot + 1),
                Bound::Unbounded => 0,
            };
            let behind = self.copy_slots(tree, &page, first..end_slot(leaf, upper), at, out);
            let (id, fence) = (page.id(), leaf.low_fence().to_vec());
            drop(page);
            if matches!(upper, Bound::Excluded(key) if key <= &fence[..]) {
                return Err(self.no_way_on(id));
            }
            if !self.fill_in(behind, at, out)? {
                continue;
            }
            let is_more = match lower {
                Bound::Included(key) | Bound::Excluded(key) => key < &fence[..],
                Bound::Unbounded => !fence.is_empty(),
            };
            return Ok(if is_more { Rest::From(fence) } else { Rest::Done });
        }
    }

    /// The error for a leaf that a range would come back to for ever.
    #[cold]
    fn no_way_on(&self, page: PageId) -> Error {
        self.corrupt_page(page, "a leaf whose fences hold the key that led to it", "other fences")
    }

    /// Copies what the reader sees in `slots`. Returns the pairs whose values are behind stamps.
    fn copy_slots(
        &self,
        tree: &TreeInfo,
        page: &SharedPage<'_>,
        slots: Range<usize>,
        at: ReadAt<'_>,
        out: &mut LeafPairs,
    ) -> Vec<(usize, Behind)> {
        let leaf = LeafView::new(page.bytes());
        let mut all_behind = Vec::new();
        let is_all_seen =
            page_lsn(page) <= at.low_lsn || self.versions.is_empty() && self.bulks.is_empty();
        if is_all_seen && slots.len() >= WHOLE_COPY_MIN {
            out.copy_page(page.bytes(), slots);
            return all_behind;
        }
        for slot in slots {
            let index = out.len();
            let show = |value: &[u8], found| {
                out.push_key(leaf, slot);
                out.set_value(index, value, found);
            };
            if let Some(behind) = self.see_cell(tree, page, slot, at, show) {
                out.push_key(leaf, slot);
                all_behind.push((index, behind));
            }
        }
        all_behind
    }

    /// Adds the values that are behind stamps. `false`: a transaction was rolled back meanwhile, the
    /// leaf has to be copied again, and `out` is empty.
    fn fill_in(
        &self,
        behind: Vec<(usize, Behind)>,
        at: ReadAt<'_>,
        out: &mut LeafPairs,
    ) -> Result<bool> {
        if behind.is_empty() {
            return Ok(true);
        }
        for (index, behind) in behind {
            match self.look_behind(behind, at)? {
                Looked::Cell(None) => {}
                Looked::Cell(Some(cell)) => {
                    show(&cell.as_cell(), |value, found| out.set_value(index, value, found));
                }
                Looked::Gone => {
                    out.clear();
                    return Ok(false);
                }
            }
        }
        out.pairs.retain(|pair| pair.found.is_some());
        Ok(true)
    }
}

/// Calls `found` with a live cell's value or link.
fn show(cell: &Cell<'_>, found: impl FnOnce(&[u8], Found)) {
    if !cell.is_ghost {
        found(cell.value, if cell.is_overflow { Found::Overflow } else { Found::Inline });
    }
}

/// Appends a live cell's value or link to `out`, and says which.
fn put_shown(cell: &Cell<'_>, out: &mut Vec<u8>) -> Option<Found> {
    let mut kind = None;
    show(cell, |value, found| {
        out.extend_from_slice(value);
        kind = Some(found);
    });
    kind
}

/// The slot behind the last one within `upper`.
fn end_slot(leaf: LeafView<'_>, upper: Bound<&[u8]>) -> usize {
    match upper {
        Bound::Included(key) => leaf.find(key).map_or_else(|slot| slot, |slot| slot + 1),
        Bound::Excluded(key) => leaf.lower_bound(key),
        Bound::Unbounded => leaf.count(),
    }
}

fn is_below(key: &[u8], upper: Bound<&[u8]>) -> bool {
    match upper {
        Bound::Included(upper) => key <= upper,
        Bound::Excluded(upper) => key < upper,
        Bound::Unbounded => true,
    }
}
