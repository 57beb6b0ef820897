//! A unit's writes: one record each, and the version or stamp that keeps what was there before.
//!
//! What must hold: credit is taken, and the slot in the transaction table, before the appender and
//! the latches (L1). Each record sets log room aside for the one that would undo it, and the first
//! one for the end of the rollback (T2). A key that a commit beyond the snapshot has written, or
//! another transaction that is open, is a conflict. Full leaves are split by records of no
//! transaction.

use std::sync::Arc;

use seawall_wal::codec::to_u64;
use seawall_wal::log::{Credit, CreditRequest, Purpose};
use seawall_wal::record::{Body, Cell, Extent, Op};
use seawall_wal::{Lsn, Result};

use super::Unit;
use crate::Error;
use crate::catalogue::TreeInfo;
use crate::engine::auto_commit::{CHANGE_RECORD_BYTES, delta_of};
use crate::engine::structure::{LinkedPage, init_ref, page_ref};
use crate::engine::{Appended, Chain, Decision, Engine};
use crate::page::{
    Incoming, LeafView, PageBuf, PageRead, footprint_bytes, image_of, inline_value_bytes_max,
    kept_capacity_bytes,
};
use crate::planted::{Bug, is_planted};
use crate::pool::{ExclusivePage, Pin};
use crate::tree::Seek;
use crate::txn::{CommitCell, Fate};
use crate::version::{Bulk, CellBuf, Head, VersionKey};

/// How one try to write ended.
enum Try {
    Done(bool),
    /// The leaf has no room for a cell with this footprint.
    Full(usize),
}

impl Engine {
    /// Writes one key as `decide` says when it sees the key's live cell; `value_bytes_max` bounds
    /// what it may put. Returns whether the key was there.
    pub(crate) fn unit_write<'v>(
        &self,
        unit: &mut Unit,
        tree: &Arc<TreeInfo>,
        key: &[u8],
        value_bytes_max: usize,
        decide: impl Fn(Option<Cell<'_>>) -> Decision<'v>,
    ) -> Result<bool> {
        self.unit_write_linking(unit, tree, key, value_bytes_max, decide, None)
    }

    /// Removes one key. Returns whether the unit saw it.
    pub(crate) fn unit_remove(
        &self,
        unit: &mut Unit,
        tree: &Arc<TreeInfo>,
        key: &[u8],
    ) -> Result<bool> {
        // The answer is a read, so the unit has a snapshot, and a newer commit is a conflict.
        self.unit_view(unit);
        let was_there = self.unit_write(unit, tree, key, 0, |_| Decision::Delete)?;
        if !was_there && unit.is_serializable() {
            unit.reads.lock().add_point(VersionKey::new(tree.id, key));
        }
        Ok(was_there)
    }

    /// [`Engine::unit_write`], with a new page that the same record allocates and initialises.
    pub(in crate::engine) fn unit_write_linking<'v>(
        &self,
        unit: &mut Unit,
        tree: &Arc<TreeInfo>,
        key: &[u8],
        value_bytes_max: usize,
        decide: impl Fn(Option<Cell<'_>>) -> Decision<'v>,
        linked: Option<&LinkedPage<'_>>,
    ) -> Result<bool> {
        self.share_with(unit, tree)?;
        if unit.slot.as_ref().is_some_and(|slot| self.txns.is_doomed(slot)) {
            return Err(Error::TransactionTooOld);
        }
        let version_key = VersionKey::new(tree.id, key);
        loop {
            let tried =
                self.try_unit_write(unit, tree, &version_key, value_bytes_max, &decide, linked)?;
            match tried {
                Try::Done(was_there) => return Ok(was_there),
                Try::Full(footprint) => {
                    let value = vec![0; footprint];
                    let cell = Cell::inline(&value);
                    self.split_for(tree, &Incoming::Cell { key, cell }, unit.slot.as_ref())?;
                }
            }
        }
    }

    /// Holds a tree shared to the unit's end.
    pub(super) fn share_with(&self, unit: &mut Unit, tree: &Arc<TreeInfo>) -> Result<()> {
        if !unit.shared.contains_key(&tree.id) {
            let shared = tree.share(Some(&unit.writer))?;
            // A drop may have come between the caller's look and this; from here on none can.
            self.check_tree(tree)?;
            unit.shared.insert(tree.id, shared);
        }
        Ok(())
    }

    fn try_unit_write<'v>(
        &self,
        unit: &mut Unit,
        tree: &Arc<TreeInfo>,
        version_key: &VersionKey,
        value_bytes_max: usize,
        decide: &impl Fn(Option<Cell<'_>>) -> Decision<'v>,
        linked: Option<&LinkedPage<'_>>,
    ) -> Result<Try> {
        let key = version_key.key();
        let mut credit = self.unit_credit(unit, key.len(), value_bytes_max, linked)?;
        self.unit_slot(unit, &mut credit)?;
        let mut appender = self.appenders.acquire();
        let mut page: ExclusivePage<'_> = self.descent(tree).leaf(Seek::Key(key))?;

        let leaf = LeafView::new(page.bytes());
        let before = leaf.get(key).map(CellBuf::from);
        let before = before.as_ref().map(CellBuf::as_cell);
        let head = self.head(version_key, before.as_ref(), Some(&unit.writer));
        // A commit that this one may not overwrite is known for as long as the snapshot stands.
        unit.view().map_or(Ok(()), |at| at.check())?;
        let mut overwritten_lsn = Lsn::NONE;
        let is_own = match head {
            Head::Active(_) => return Err(self.conflict()),
            Head::Committed(lsn) if unit.view().is_some_and(|at| at.read_lsn < lsn) => {
                return Err(self.conflict());
            }
            Head::Committed(lsn) => {
                overwritten_lsn = lsn;
                false
            }
            Head::None => false,
            Head::Own => true,
        };
        let live = before.filter(|cell| !cell.is_ghost);
        let Some((kind, mut after)) = decide(live).write(live) else {
            return Ok(Try::Done(live.is_some()));
        };
        after.stamp = unit.stamp(tree.id, before.as_ref(), is_own);
        if !is_planted(Bug::CapacityNotKept) {
            after.capacity_bytes = before.map_or(0, |before| kept_capacity_bytes(&before, &after));
        }
        if !leaf.fits_put(key, &after) {
            return Ok(Try::Full(footprint_bytes(&after)));
        }

        let freed = self.freed_with(live)?;
        let needs_purge = after.is_ghost || after.capacity_bytes > 0;
        match &unit.bulk {
            Some(bulk) if after.stamp.is_some() => bulk.note(tree.id, key, needs_purge),
            _ if is_own && needs_purge => self.versions.mark_for_purge(version_key),
            _ if is_own => {}
            _ => {
                let horizon = self.horizon_hint();
                self.versions.push(version_key, &unit.writer, before, needs_purge, horizon);
                unit.note_version(version_key, before.as_ref());
            }
        }
        let room = credit.set_aside(compensation_bytes(key, before.as_ref()));
        let op = Op::Put { tree: tree.id, key, kind, after, before };
        let mut linked_pages = linked.map(LinkedPage::latch);
        let mut refs = vec![page_ref(&page, op)];
        let mut pages = vec![&mut page];
        if let (Some(linked), Some((root, bitmap))) = (linked, &mut linked_pages) {
            refs.extend(linked.refs(bitmap));
            pages.extend([root, bitmap]);
        }
        let slot = unit.slot.as_ref().expect("taken above");
        let appended = self.append(
            &mut appender,
            &mut credit,
            Chain { txn: slot.id, prev_lsn: unit.last_lsn },
            &Body::Update { refs },
            &mut pages,
            |appended| self.txns.set_last_lsn(slot, appended.start),
        );
        unit.last_lsn = appended.start;
        unit.overwritten_lsn = unit.overwritten_lsn.max(overwritten_lsn);
        unit.room.lock().add(room, appended.start);
        unit.freed.extend(freed.into_iter().map(|extent| (appended.start, extent)));
        *unit.deltas.entry(tree.id).or_default() += delta_of(kind);
        let was_there = live.is_some();
        if unit.bulk.is_none() && unit.version_bytes > self.versions_budget_bytes() {
            self.make_bulk(unit);
        }
        Ok(Try::Done(was_there))
    }

    /// Has the unit write stamps from now on.
    fn make_bulk(&self, unit: &mut Unit) {
        let slot = unit.slot.as_ref().expect("a unit with versions has written");
        let first_lsn = self.txns.first_lsn(slot);
        let bulk = Arc::new(Bulk::new(slot.id, &unit.writer, first_lsn));
        self.bulks.enter(Arc::clone(&bulk));
        unit.bulk = Some(bulk);
    }

    /// Who wrote a key last, whose cell in the page is `cell`. The caller holds the leaf's latch.
    ///
    /// A stamp in the page is newer than all versions in the store but one: that of a writer who
    /// has put the stamped cell back and is not done with his rollback.
    pub(in crate::engine) fn head(
        &self,
        key: &VersionKey,
        cell: Option<&Cell<'_>>,
        own: Option<&CommitCell>,
    ) -> Head {
        let head = self.versions.head(key, own);
        let stamp = cell.and_then(|cell| cell.stamp);
        let bulk = match (&head, stamp) {
            (Head::Own | Head::Active(_), _) | (_, None) => return head,
            (_, Some(stamp)) => self.bulks.get(stamp.txn),
        };
        bulk.map_or(head, |bulk| match bulk.writer.fate() {
            _ if own.is_some_and(|own| std::ptr::eq(own, &*bulk.writer)) => Head::Own,
            Fate::Active => Head::Active(Arc::clone(&bulk.writer)),
            Fate::Committed(lsn) => Head::Committed(lsn),
            Fate::RolledBack => Head::None,
        })
    }

    /// Logs new pages of an overflow value, which `extent` names, as part of the unit.
    pub(in crate::engine) fn unit_log_pages(
        &self,
        unit: &mut Unit,
        frames: &[Pin<'_>],
        bitmap: &Pin<'_>,
        images: &[PageBuf],
        extent: Extent,
    ) -> Result<Lsn> {
        let image_bytes = images.iter().map(|image| image.bytes().len()).sum::<usize>();
        let request = CreditRequest {
            payload_bytes: 2 * CHANGE_RECORD_BYTES + to_u64(image_bytes) + unit.end_bytes(),
            is_sync_commit: false,
            purpose: Purpose::Normal,
        };
        let mut credit = self.credit_for(&request, unit.slot.as_ref())?;
        self.unit_slot(unit, &mut credit)?;
        let room = credit.set_aside(CHANGE_RECORD_BYTES);
        let mut appender = self.appenders.acquire();
        let mut pages: Vec<_> = frames.iter().map(Pin::exclusive).collect();
        let mut bitmap = bitmap.exclusive();
        let image_ref = |(page, image): (&ExclusivePage<'_>, _)| {
            let (low, high) = image_of(PageRead::bytes(image));
            init_ref(page.id(), Op::Image { low, high })
        };
        let mut refs: Vec<_> = pages.iter().zip(images).map(image_ref).collect();
        refs.push(page_ref(&bitmap, Op::Allocate(extent)));
        let mut latched: Vec<_> = pages.iter_mut().chain([&mut bitmap]).collect();
        let slot = unit.slot.as_ref().expect("taken above");
        let store = |appended: Appended| self.txns.set_last_lsn(slot, appended.start);
        let body = Body::Update { refs };
        let appended =
            self.append(&mut appender, &mut credit, unit.chain(), &body, &mut latched, store);
        unit.last_lsn = appended.start;
        unit.room.lock().add(room, appended.start);
        Ok(appended.start)
    }

    /// Gives the unit a slot in the transaction table, before its first record. The room of the record
    /// that would end its rollback comes of the credit for that one.
    fn unit_slot(&self, unit: &mut Unit, credit: &mut Credit) -> Result<()> {
        if unit.slot.is_none() {
            let slot = self.txns.begin(self.log.reserved_lsn())?;
            unit.room.lock().keep_end(credit.set_aside(CHANGE_RECORD_BYTES));
            self.txns.set_room(&slot, &unit.room);
            unit.slot = Some(slot);
        }
        Ok(())
    }

    fn unit_credit(
        &self,
        unit: &Unit,
        key_bytes: usize,
        value_bytes_max: usize,
        linked: Option<&LinkedPage<'_>>,
    ) -> Result<Credit> {
        let before_bytes_max = inline_value_bytes_max(self.page_bytes, key_bytes);
        let image_bytes = if linked.is_some() { self.page_bytes } else { 0 };
        let change = key_bytes + value_bytes_max + before_bytes_max + image_bytes;
        let compensation = key_bytes + before_bytes_max;
        let record_bytes = 2 * CHANGE_RECORD_BYTES + to_u64(change + compensation);
        let request = CreditRequest {
            payload_bytes: record_bytes + unit.end_bytes(),
            is_sync_commit: false,
            purpose: Purpose::Normal,
        };
        self.credit_for(&request, unit.slot.as_ref())
    }
}

/// Log bytes of the record that undoes a write.
fn compensation_bytes(key: &[u8], before: Option<&Cell<'_>>) -> u64 {
    CHANGE_RECORD_BYTES + to_u64(key.len() + before.map_or(0, |before| before.value.len()))
}
