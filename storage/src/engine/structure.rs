//! Structure modifications: splits, merges, root growth and root collapse.
//!
//! Each is one redo-only record over a handful of pages, never undone. First everything that may
//! wait or fail: the new page is reserved, its frame and its bitmap page are pinned, credit is taken.
//! Only then latches, top down and left to right: parent, child, right sibling, bitmap page. What was
//! found before the latches is looked at again under them; where it no longer holds, nothing was
//! done, and the caller tries again. A parent without room is split first, as a modification of its
//! own, so no record ever needs more than two levels.

use std::borrow::Cow;

use seawall_wal::codec::to_u64;
use seawall_wal::log::{Credit, CreditRequest, Purpose};
use seawall_wal::record::{Body, Extent, Op, PageRef};
use seawall_wal::{Lsn, PageId, Result};

use super::Engine;
use super::append::{Chain, page_lsn};
use crate::catalogue::TreeInfo;
use crate::page::{
    Incoming, InnerView, LeafView, PageBuf, PageRead, can_merge, collapse_root, empty_bitmap,
    grow_root, image_of, is_sparse, right_half, split_plan,
};
use crate::planted::{Bug, is_planted};
use crate::pool::{ExclusivePage, Pin};
use crate::space::{Reservation, Reserved, ReservedRun};
use crate::tree::Seek;
use crate::txn::TxnSlot;

/// How one try at a modification ended.
enum Try {
    /// It was made, or is not needed any more.
    Done,
    /// The parent has no room for this separator.
    ParentFull(Vec<u8>),
    /// Load this page, and try again.
    Missing(PageId),
    /// The tree changed in between; try again.
    Again,
}

/// A page to be taken by the next record, and its bitmap page, both pinned.
#[derive(Debug)]
struct NewPage<'e> {
    reservation: Reservation<'e>,
    frame: Pin<'e>,
    bitmap: Pin<'e>,
}

/// A new page whose content is ready; the record that links it allocates and initialises it too.
#[derive(Debug)]
pub(super) struct LinkedPage<'e> {
    new_page: NewPage<'e>,
    image: PageBuf,
}

impl LinkedPage<'_> {
    pub(super) const fn id(&self) -> PageId {
        self.new_page.reservation.page
    }

    /// Latches the new page and its bitmap page.
    pub(super) fn latch(&self) -> (ExclusivePage<'_>, ExclusivePage<'_>) {
        (self.new_page.frame.exclusive(), self.new_page.bitmap.exclusive())
    }

    /// The references of both.
    pub(super) fn refs(&self, bitmap: &ExclusivePage<'_>) -> [PageRef<'_>; 2] {
        let (low, high) = image_of(self.image.bytes());
        let extent = Extent { first: self.id(), count: 1 };
        [init_ref(self.id(), Op::Image { low, high }), page_ref(bitmap, Op::Allocate(extent))]
    }
}

impl Engine {
    /// Splits the leaf that `incoming` belongs to, unless it has room by now. A transaction that
    /// waits for this, named by its slot, gives up when it is doomed.
    pub(crate) fn split_for(
        &self,
        tree: &TreeInfo,
        incoming: &Incoming<'_>,
        slot: Option<&TxnSlot>,
    ) -> Result<()> {
        self.split_level(tree, incoming, 0, slot)
    }

    fn split_level(
        &self,
        tree: &TreeInfo,
        incoming: &Incoming<'_>,
        level: u8,
        slot: Option<&TxnSlot>,
    ) -> Result<()> {
        let mut pins = Vec::new();
        loop {
            let new_page = self.new_page(slot)?;
            match self.try_split(tree, incoming, level, new_page, slot)? {
                Try::Done => return Ok(()),
                Try::Again => {}
                Try::Missing(page) => pins.push(self.pool.pin(page)?),
                Try::ParentFull(separator) => {
                    let incoming = Incoming::Child { separator: &separator };
                    self.split_level(tree, &incoming, level + 1, slot)?;
                }
            }
        }
    }

    fn try_split(
        &self,
        tree: &TreeInfo,
        incoming: &Incoming<'_>,
        level: u8,
        new_page: NewPage<'_>,
        slot: Option<&TxnSlot>,
    ) -> Result<Try> {
        let mut credit = self.structure_credit(slot)?;
        let mut appender = self.appenders.acquire();
        let seek = Seek::Key(incoming.key());
        let parent = self.descent(tree).at_level::<ExclusivePage<'_>>(seek, level + 1)?;
        let Some(mut parent) = parent else {
            // It takes its own: nobody waits for a credit or an appender while holding another.
            drop((appender, credit));
            return self.try_grow_root(tree, incoming, level, new_page, slot);
        };
        let child = InnerView::new(parent.bytes()).child_for(incoming.key());
        let child = child.expect("a parent's range holds the key").page;
        let Some(pin) = self.pool.pin_resident(child) else {
            return Ok(Try::Missing(child));
        };
        let mut left = pin.into_exclusive();
        if fits(&left, incoming) {
            return Ok(Try::Done);
        }
        let plan = split_plan(left.bytes(), incoming);
        if !InnerView::new(parent.bytes()).fits_insert_child(&plan.separator) {
            return Ok(Try::ParentFull(plan.separator));
        }
        let right_id = new_page.reservation.page;
        let image = right_half(left.bytes(), &plan, right_id);
        let (low, high) = image_of(image.bytes());
        let mut right = new_page.frame.into_exclusive();
        let mut bitmap = new_page.bitmap.into_exclusive();
        let separator = &plan.separator[..];
        let mut refs = vec![
            page_ref(&parent, Op::InsertChild { separator, child: right_id }),
            page_ref(&left, Op::SplitOff { separator, right: right_id }),
            init_ref(right_id, Op::Image { low, high }),
            page_ref(&bitmap, Op::Allocate(Extent { first: right_id, count: 1 })),
        ];
        let mut pages = vec![&mut parent, &mut left, &mut right, &mut bitmap];
        if is_planted(Bug::AllocateApartFromLink) {
            let (refs, pages) = (refs.split_off(3), &mut pages.split_off(3));
            let body = Body::Structure { refs };
            self.append(&mut appender, &mut credit, Chain::NONE, &body, pages, |_| {});
        }
        let body = Body::Structure { refs };
        self.append(&mut appender, &mut credit, Chain::NONE, &body, &mut pages, |_| {});
        Ok(Try::Done)
    }

    /// The root's content moves to a new child, and the root grows by one level above it. The child
    /// is split by the next try.
    fn try_grow_root(
        &self,
        tree: &TreeInfo,
        incoming: &Incoming<'_>,
        level: u8,
        new_page: NewPage<'_>,
        slot: Option<&TxnSlot>,
    ) -> Result<Try> {
        let mut credit = self.structure_credit(slot)?;
        let mut appender = self.appenders.acquire();
        let seek = Seek::Key(incoming.key());
        let root = self.descent(tree).at_level::<ExclusivePage<'_>>(seek, level)?;
        let Some(mut root) = root.filter(|page| page.id() == tree.root) else {
            return Ok(Try::Again);
        };
        if fits(&root, incoming) {
            return Ok(Try::Done);
        }
        let child_id = new_page.reservation.page;
        let (child_image, root_image) = grow_root(root.bytes(), child_id);
        let (child_low, child_high) = image_of(child_image.bytes());
        let (root_low, root_high) = image_of(root_image.bytes());
        let mut child = new_page.frame.into_exclusive();
        let mut bitmap = new_page.bitmap.into_exclusive();
        let body = Body::Structure {
            refs: vec![
                init_ref(tree.root, Op::Image { low: root_low, high: root_high }),
                init_ref(child_id, Op::Image { low: child_low, high: child_high }),
                page_ref(&bitmap, Op::Allocate(Extent { first: child_id, count: 1 })),
            ],
        };
        let pages = &mut [&mut root, &mut child, &mut bitmap];
        self.append(&mut appender, &mut credit, Chain::NONE, &body, pages, |_| {});
        Ok(Try::Again)
    }

    /// Merges the sparse page of `level` that holds `key` with a neighbour under the same parent,
    /// and goes on upwards where that leaves the parent sparse.
    ///
    /// # Errors
    /// [`Error::NoSpace`] where the log is full: a sparse page does no harm, and nobody waits for it to
    /// go.
    ///
    /// [`Error::NoSpace`]: seawall_wal::Error::NoSpace
    pub(crate) fn merge_sparse(&self, tree: &TreeInfo, key: &[u8]) -> Result<()> {
        let mut level = 0;
        let mut pins = Vec::new();
        loop {
            match self.try_merge(tree, key, level)? {
                Merge::None => return Ok(()),
                Merge::Done => level += 1,
                Merge::Missing(page) => pins.push(self.pool.pin(page)?),
            }
        }
    }

    fn try_merge(&self, tree: &TreeInfo, key: &[u8], level: u8) -> Result<Merge> {
        let mut credit = self.merge_credit()?;
        let mut appender = self.appenders.acquire();
        let seek = Seek::Key(key);
        let parent = self.descent(tree).at_level::<ExclusivePage<'_>>(seek, level + 1)?;
        let Some(mut parent) = parent else { return Ok(Merge::None) };
        let inner = InnerView::new(parent.bytes());
        if inner.count() == 1 && parent.id() == tree.root {
            let child = inner.child_page(0);
            drop(parent);
            drop((appender, credit));
            return self.try_collapse_root(tree, level, child);
        }
        let slot = inner.slot_for(key);
        // With the right neighbour, or, where that is too full, with the left one.
        let pairs = [(slot + 1 < inner.count()).then_some(slot), slot.checked_sub(1)];
        let mut pair = None;
        for left_slot in pairs.into_iter().flatten() {
            let children = [left_slot, left_slot + 1].map(|slot| inner.child_page(slot));
            let Some(left) = self.pool.pin_resident(children[0]) else {
                return Ok(Merge::Missing(children[0]));
            };
            let left = left.into_exclusive();
            let Some(right) = self.pool.pin_resident(children[1]) else {
                return Ok(Merge::Missing(children[1]));
            };
            let right = right.into_exclusive();
            let sparse = if left_slot == slot { left.bytes() } else { right.bytes() };
            if !is_sparse(sparse) {
                return Ok(Merge::None);
            }
            if can_merge(left.bytes(), right.bytes()) {
                pair = Some((left_slot, left, right));
                break;
            }
        }
        let Some((left_slot, mut left, right)) = pair else { return Ok(Merge::None) };
        let right_id = right.id();
        let separator = inner.separator(left_slot + 1).to_vec();
        let bitmap_id = self.space.bitmap_of(right_id);
        let Some(bitmap) = self.pool.pin_resident(bitmap_id) else {
            return Ok(Merge::Missing(bitmap_id));
        };
        let mut bitmap = bitmap.into_exclusive();
        let (low, high) = image_of(right.bytes());
        let body = Body::Structure {
            refs: vec![
                page_ref(&parent, Op::RemoveChild { separator: &separator }),
                page_ref(&left, Op::Absorb { low, high }),
                page_ref(&bitmap, Op::Release(Extent { first: right_id, count: 1 })),
            ],
        };
        let pages = &mut [&mut parent, &mut left, &mut bitmap];
        self.append(&mut appender, &mut credit, Chain::NONE, &body, pages, |_| {});
        self.space.freed(right_id);
        Ok(Merge::Done)
    }

    /// The root takes over the content of its only child.
    fn try_collapse_root(&self, tree: &TreeInfo, level: u8, child: PageId) -> Result<Merge> {
        let mut credit = self.merge_credit()?;
        let mut appender = self.appenders.acquire();
        let root = self.descent(tree).at_level::<ExclusivePage<'_>>(Seek::Last, level + 1)?;
        let Some(mut root) = root.filter(|page| page.id() == tree.root) else {
            return Ok(Merge::None);
        };
        let inner = InnerView::new(root.bytes());
        if inner.count() != 1 || inner.child_page(0) != child {
            return Ok(Merge::None);
        }
        let Some(pin) = self.pool.pin_resident(child) else { return Ok(Merge::Missing(child)) };
        let child_page = pin.into_exclusive();
        let bitmap_id = self.space.bitmap_of(child);
        let Some(pin) = self.pool.pin_resident(bitmap_id) else {
            return Ok(Merge::Missing(bitmap_id));
        };
        let mut bitmap = pin.into_exclusive();
        let image = collapse_root(child_page.bytes(), tree.root);
        let (low, high) = image_of(image.bytes());
        let body = Body::Structure {
            refs: vec![
                init_ref(tree.root, Op::Image { low, high }),
                page_ref(&bitmap, Op::Release(Extent { first: child, count: 1 })),
            ],
        };
        let pages = &mut [&mut root, &mut bitmap];
        self.append(&mut appender, &mut credit, Chain::NONE, &body, pages, |_| {});
        self.space.freed(child);
        Ok(Merge::Done)
    }

    /// Reserves a page whose content is what `image` makes for its id.
    pub(super) fn linked_page(
        &self,
        image: impl FnOnce(PageId) -> PageBuf,
        slot: Option<&TxnSlot>,
    ) -> Result<LinkedPage<'_>> {
        let new_page = self.new_page(slot)?;
        let image = image(new_page.reservation.page);
        Ok(LinkedPage { new_page, image })
    }

    /// Reserves a page and pins what marking it needs.
    fn new_page(&self, slot: Option<&TxnSlot>) -> Result<NewPage<'_>> {
        let reservation = loop {
            match self.space.reserve(&self.pool, &self.file)? {
                Reserved::Page(reservation) => break reservation,
                Reserved::NeedsBitmap(bitmap) => self.add_bitmap(bitmap, slot)?,
            }
        };
        let bitmap = self.pool.pin(reservation.bitmap)?;
        let frame = self.pool.pin_new(reservation.page)?;
        Ok(NewPage { reservation, frame, bitmap })
    }

    /// Reserves a run of up to `count` pages.
    pub(super) fn reserve_run(
        &self,
        count: usize,
        slot: Option<&TxnSlot>,
    ) -> Result<ReservedRun<'_>> {
        loop {
            match self.space.reserve_run(&self.pool, &self.file, count)? {
                Ok(run) => return Ok(run),
                Err(bitmap) => self.add_bitmap(bitmap, slot)?,
            }
        }
    }

    /// Logs the next bitmap page.
    fn add_bitmap(&self, bitmap: PageId, slot: Option<&TxnSlot>) -> Result<()> {
        // Before the turn: whoever waits for that would not learn that it is to give up, and may be
        // the one who holds the log back.
        let mut credit = self.structure_credit(slot)?;
        let _turn = self.space.bitmap_turn();
        if self.space.has_bitmap(bitmap) {
            return Ok(());
        }
        self.file.grow_to(bitmap.get() + 1)?;
        let mut appender = self.appenders.acquire();
        let mut page = self.pool.pin_new(bitmap)?.into_exclusive();
        let image = empty_bitmap(self.page_bytes, bitmap);
        let (low, high) = image_of(image.bytes());
        let body = Body::Structure { refs: vec![init_ref(bitmap, Op::Image { low, high })] };
        self.append(&mut appender, &mut credit, Chain::NONE, &body, &mut [&mut page], |_| {});
        self.space.add_bitmap(bitmap);
        Ok(())
    }

    /// Credit for one structure record that a write needs.
    fn structure_credit(&self, slot: Option<&TxnSlot>) -> Result<Credit> {
        self.credit_for(&self.structure_request(Purpose::Normal), slot)
    }

    /// Credit for one structure record that nobody waits for.
    fn merge_credit(&self) -> Result<Credit> {
        self.credit(&self.structure_request(Purpose::Garbage))
    }

    /// Two page images and change.
    fn structure_request(&self, purpose: Purpose) -> CreditRequest {
        CreditRequest {
            payload_bytes: to_u64(2 * self.page_bytes)
                + super::auto_commit::CHANGE_RECORD_BYTES
                + 2 * to_u64(crate::MAX_KEY_BYTES),
            is_sync_commit: false,
            purpose,
        }
    }
}

/// How one try at a merge ended.
enum Merge {
    /// There is nothing to merge.
    None,
    Done,
    /// Load this page, and try again.
    Missing(PageId),
}

fn fits(page: &ExclusivePage<'_>, incoming: &Incoming<'_>) -> bool {
    match incoming {
        Incoming::Cell { key, cell } => LeafView::new(page.bytes()).fits_put(key, cell),
        Incoming::Child { separator } => InnerView::new(page.bytes()).fits_insert_child(separator),
    }
}

/// A reference with one operation to a latched page.
pub(super) fn page_ref<'a>(page: &ExclusivePage<'_>, op: Op<'a>) -> PageRef<'a> {
    PageRef {
        page: page.id(),
        page_prev_lsn: page_lsn(page),
        is_init: false,
        ops: Cow::Owned(vec![op]),
    }
}

/// A reference that gives a page its whole content.
pub(super) fn init_ref(page: PageId, op: Op<'_>) -> PageRef<'_> {
    PageRef { page, page_prev_lsn: Lsn::NONE, is_init: true, ops: Cow::Owned(vec![op]) }
}
