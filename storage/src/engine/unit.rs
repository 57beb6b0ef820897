//! A transaction's unit of work: what it has written, what it has read, and how it ends.
//!
//! ```text
//!            write()                 commit()
//!  (empty) ----------> (writing) ---------------> committed
//!                        |  ^
//!        undo_to() of a  |  | savepoint
//!                        v  |
//!                     (undoing) -- roll_back() --> rolled back
//! ```
//!
//! A unit whose versions would take more memory than its budget becomes *bulk*: what it writes from
//! then on are stamps in the pages ("A transaction becomes huge" and "Stamps" in ARCHITECTURE.md).
//! What it wrote before stays in the store.
//!
//! Before the first write a unit has no slot in the transaction table and no record in the log; a
//! unit that never writes never has. The transaction id, the chain of `prev_lsn` and the commit or
//! rollback record are what recovery sees of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use seawall_wal::codec::to_u64;
use seawall_wal::log::{Credit, CreditRequest, Purpose};
use seawall_wal::record::{Body, Cell, CommitInfo, Extent, Op, Stamp, TreeDelta, WriteKind};
use seawall_wal::sync::Mutex;
use seawall_wal::sync::atomic::AtomicBool;
use seawall_wal::{Lsn, Result, TreeId, TxnId};

use super::Engine;
use super::append::{Appended, Chain};
use super::auto_commit::{CHANGE_RECORD_BYTES, Decision, put_kind};
use super::read::{Found, ReadAt, View};
use super::structure::{LinkedPage, init_ref, page_ref};
use super::undo::Undo;
use crate::catalogue::{ExclusiveTree, SharedTree, TreeInfo};
use crate::page::{
    Incoming, LeafView, PageBuf, PageRead, footprint_bytes, image_of, inline_value_bytes_max,
    kept_capacity_bytes,
};
use crate::planted::{Bug, Point, is_planted, reach};
use crate::pool::{ExclusivePage, Pin};
use crate::tree::Seek;
use crate::txn::{
    CommitCell, CommitPass, Fate, ReadSet, RollbackRoom, SnapshotSlot, TxnSlot, ValidatedPass,
    Written,
};
use crate::version::{Bulk, CellBuf, Head, VERSION_BYTES, VersionKey};
use crate::{Durability, Error, Isolation};

/// Bytes of a tree's delta or a freed extent in a commit record, at most.
const COMMIT_ENTRY_BYTES: u64 = 20;
/// Freed extents, and trees' deltas, that one commit record carries; more go before it in parts.
const FREED_PER_RECORD: usize = 1024;
const DELTAS_PER_RECORD: usize = 1024;

/// A transaction's unit of work.
#[derive(Debug)]
pub(crate) struct Unit {
    pub(crate) writer: Arc<CommitCell>,
    isolation: Isolation,
    slot: Option<TxnSlot>,
    /// START of the newest record that is not undone.
    last_lsn: Lsn,
    snapshot: Option<UnitSnapshot>,
    /// Shared with the ranges that are open on the transaction.
    pub(crate) reads: Arc<Mutex<ReadSet>>,
    /// Keys whose heads in the version store are this unit's.
    written: Vec<VersionKey>,
    /// Memory of those versions, in bytes, estimated.
    version_bytes: u64,
    /// Once the unit has become bulk.
    bulk: Option<Arc<Bulk>>,
    deltas: BTreeMap<TreeId, i64>,
    freed: Vec<Extent>,
    shared: BTreeMap<TreeId, SharedTree>,
    exclusive: Vec<ExclusiveTree>,
    /// Trees that are dropped when this unit commits.
    dropped: Vec<Arc<TreeInfo>>,
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
#[derive(Clone, Debug, Default)]
pub(crate) struct UnitMark {
    last_lsn: Lsn,
    freed: usize,
    dropped: usize,
}

/// How one try to write ended.
enum Try {
    Done(bool),
    /// The leaf has no room for a cell with this footprint.
    Full(usize),
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
            reads: Arc::default(),
            written: Vec::new(),
            version_bytes: 0,
            bulk: None,
            deltas: BTreeMap::new(),
            freed: Vec::new(),
            shared: BTreeMap::new(),
            exclusive: Vec::new(),
            dropped: Vec::new(),
            room: Arc::default(),
        }
    }

    /// The unit's transaction, once it has written.
    pub(crate) fn txn(&self) -> Option<TxnId> {
        self.slot.as_ref().map(|slot| slot.id)
    }

    /// Whether anything was logged.
    pub(crate) const fn has_written(&self) -> bool {
        self.slot.is_some()
    }

    pub(crate) const fn is_serializable(&self) -> bool {
        matches!(self.isolation, Isolation::Serializable)
    }

    /// Where the unit is now.
    pub(crate) fn mark(&self) -> UnitMark {
        UnitMark { last_lsn: self.last_lsn, freed: self.freed.len(), dropped: self.dropped.len() }
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
        self.dropped.push(Arc::clone(tree));
    }

    /// Whether this unit has dropped the tree.
    pub(crate) fn has_dropped(&self, tree: &TreeInfo) -> bool {
        self.dropped.iter().any(|dropped| dropped.id == tree.id)
    }
}

impl Engine {
    /// The unit's view, registered at its first use: it may read up to `contiguous_lsn`, and waits
    /// at its end for what it has read (T1).
    pub(crate) fn unit_view<'u>(&self, unit: &'u mut Unit) -> ReadAt<'u> {
        if unit.snapshot.is_none() {
            let (slot, read_lsn, low_lsn) = self.register(|| self.log.contiguous_lsn());
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
    pub(super) fn unit_write_linking<'v>(
        &self,
        unit: &mut Unit,
        tree: &Arc<TreeInfo>,
        key: &[u8],
        value_bytes_max: usize,
        decide: impl Fn(Option<Cell<'_>>) -> Decision<'v>,
        linked: Option<&LinkedPage<'_>>,
    ) -> Result<bool> {
        if !unit.shared.contains_key(&tree.id) {
            let shared = tree.share(Some(&unit.writer))?;
            unit.shared.insert(tree.id, shared);
        }
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
        let is_own = match head {
            Head::Active(_) => return Err(self.conflict()),
            Head::Committed(lsn) if unit.view().is_some_and(|at| at.read_lsn < lsn) => {
                return Err(self.conflict());
            }
            Head::Committed(_) | Head::None => false,
            Head::Own => true,
        };
        let live = before.filter(|cell| !cell.is_ghost);
        let (kind, mut after) = match (decide(live), live) {
            (Decision::Put(value), live) => (put_kind(live), Cell::inline(value)),
            (Decision::PutLink(link), live) => (put_kind(live), Cell::overflow(link)),
            (Decision::Delete, Some(_)) => (WriteKind::Delete, Cell::GHOST),
            (Decision::Keep, _) | (Decision::Delete, None) => {
                return Ok(Try::Done(live.is_some()));
            }
        };
        after.stamp = unit.stamp(tree.id, before.as_ref(), is_own);
        if !is_planted(Bug::CapacityNotKept) {
            after.capacity_bytes = before.map_or(0, |before| kept_capacity_bytes(&before, &after));
        }
        if !leaf.fits_put(key, &after) {
            return Ok(Try::Full(footprint_bytes(&after)));
        }

        let replaced = live.filter(|cell| cell.is_overflow).map(|cell| cell.value);
        let freed = replaced.map(|link| self.link_extents(link)).transpose()?.unwrap_or_default();
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
        unit.room.lock().add(room, appended.start);
        unit.freed.extend(freed);
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
    pub(super) fn head(
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
    pub(super) fn unit_log_pages(
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

    pub(super) fn conflict(&self) -> Error {
        self.counters.conflict();
        Error::Conflict
    }

    /// Commits the unit. Returns the position that has to be visible before anyone is told.
    pub(crate) fn commit_unit(&self, mut unit: Unit, durability: Durability) -> Result<Lsn> {
        if !unit.has_written() {
            let read_lsn = unit.snapshot.as_ref().map_or(Lsn::NONE, |snapshot| snapshot.read_lsn);
            self.end_reading(&mut unit);
            return Ok(read_lsn);
        }
        match self.log_commit(&mut unit, durability) {
            Ok(end) => {
                self.counters.commit();
                self.end_committed(unit, end);
                Ok(end)
            }
            Err(error) => {
                self.roll_back_unit(unit)?;
                Err(error)
            }
        }
    }

    fn log_commit(&self, unit: &mut Unit, durability: Durability) -> Result<Lsn> {
        let is_sync = durability == Durability::Sync;
        let (parts, first_part_lsn, deltas) = self.log_commit_parts(unit)?;
        let entries = deltas.len() + unit.freed.len();
        let request = CreditRequest {
            payload_bytes: CHANGE_RECORD_BYTES + COMMIT_ENTRY_BYTES * to_u64(entries),
            is_sync_commit: is_sync,
            purpose: Purpose::Normal,
        };
        let mut credit = self.credit_for(&request, unit.slot.as_ref())?;
        let validation = self.validate(unit)?;
        reach(Point::Validated);
        let mut appender = self.appenders.acquire();
        for TreeDelta { tree, delta } in unit.changed_sizes() {
            if let Some(tree) = self.trees.get(tree) {
                tree.size.push(&unit.writer, delta, self.fold_limit());
            }
        }
        let commit = CommitInfo {
            wall_ms: self.wall_ms(),
            origin: 0,
            deltas,
            freed: std::mem::take(&mut unit.freed),
            parts,
            first_part_lsn,
        };
        self.space.pending().enter(&commit.freed, &unit.writer);
        let body = Body::Commit(commit);
        let pass = match &validation {
            Some(validation) => {
                let reads = unit.reads.lock();
                let pass = validation.finish(|written| reads.meets(written), unit.written());
                Pass::Validated(pass.ok_or_else(|| self.conflict())?)
            }
            None => Pass::Plain(self.gate.pass(|| unit.written())),
        };
        let mut pending = is_sync.then(|| self.log.begin_sync_commit());
        let slot = unit.slot.as_ref().expect("a unit that has written has a slot");
        let appended =
            self.append(&mut appender, &mut credit, unit.chain(), &body, &mut [], |appended| {
                unit.writer.commit(appended.end);
                if !is_planted(Bug::CommitStaysActive) {
                    self.txns.set_commit_lsn(slot, appended.end);
                }
                if let Some(pending) = &mut pending {
                    pending.set_end(appended.end);
                }
            });
        drop(pass);
        Ok(appended.end)
    }

    /// Logs all but the last of the freed extents and of the trees' deltas, where they are too many for
    /// one record. Returns how many parts there are, where the first begins, and the deltas left.
    fn log_commit_parts(&self, unit: &mut Unit) -> Result<(u64, Lsn, Vec<TreeDelta>)> {
        let (mut parts, mut first_part_lsn) = (0, Lsn::NONE);
        let mut deltas: Vec<_> = unit.changed_sizes().collect();
        deltas.sort_unstable_by_key(|delta| delta.tree);
        while unit.freed.len() > FREED_PER_RECORD || deltas.len() > DELTAS_PER_RECORD {
            let freed: Vec<_> = first_of(&mut unit.freed, FREED_PER_RECORD);
            let part_deltas = first_of(&mut deltas, DELTAS_PER_RECORD);
            let entries = to_u64(freed.len() + part_deltas.len());
            let request = CreditRequest {
                payload_bytes: CHANGE_RECORD_BYTES + COMMIT_ENTRY_BYTES * entries,
                is_sync_commit: false,
                purpose: Purpose::Normal,
            };
            let mut credit = self.credit_for(&request, unit.slot.as_ref())?;
            let mut appender = self.appenders.acquire();
            self.space.pending().enter(&freed, &unit.writer);
            let body = Body::CommitPart { deltas: part_deltas, freed };
            let slot = unit.slot.as_ref().expect("a unit that has written has a slot");
            let store = |appended: Appended| {
                self.txns.set_last_lsn(slot, appended.start);
                if parts == 0 {
                    self.txns.set_parts_lsn(slot, appended.start);
                }
            };
            let appended =
                self.append(&mut appender, &mut credit, unit.chain(), &body, &mut [], store);
            unit.last_lsn = appended.start;
            if parts == 0 {
                first_part_lsn = appended.start;
            }
            parts += 1;
        }
        Ok((parts, first_part_lsn, deltas))
    }

    /// Lets go of everything a committed unit holds but its slot, which keeps down `low_lsn` until
    /// the commit is visible.
    fn end_committed(&self, mut unit: Unit, end: Lsn) {
        for tree in &unit.dropped {
            tree.set_dropped(end);
            self.doom(Arc::clone(tree), end);
        }
        self.end_reading(&mut unit);
        if let Some(slot) = unit.slot.take() {
            self.retire_slot(slot, end);
        }
        drop(unit);
        self.txns.announce_end();
    }

    fn end_reading(&self, unit: &mut Unit) {
        if let Some(snapshot) = unit.snapshot.take() {
            self.snapshots.release(snapshot.slot);
        }
    }

    /// Undoes the unit and lets go of everything it holds. What cannot be undone now, because the
    /// database is poisoned, recovery undoes.
    pub(crate) fn roll_back_unit(&self, mut unit: Unit) -> Result<()> {
        self.end_reading(&mut unit);
        let Some(slot) = &unit.slot else { return Ok(()) };
        // Nobody will look for the parts of a commit that does not come.
        self.txns.set_parts_lsn(slot, Lsn::NONE);
        let undone = self
            .undo_unit_to(&mut unit, Lsn::NONE)
            .and_then(|()| self.log_rollback_end(unit.chain(), Some(&unit.room)));
        if undone.is_ok() {
            for key in &unit.written {
                self.versions.remove_head(key, &unit.writer);
            }
            unit.writer.roll_back();
            if let Some(bulk) = unit.bulk.take() {
                self.bulks.remove(bulk.id);
                self.sweep_all(bulk.take_spans());
            }
            if let Some(slot) = unit.slot.take() {
                self.txns.release(slot);
            }
            self.counters.rollback();
        }
        drop(unit);
        self.txns.announce_end();
        // Its keys stay locked, and nobody but recovery can undo what it wrote.
        undone.inspect_err(|error| self.log.poison(error.clone()))
    }

    /// Undoes what the unit wrote since `mark`. Its keys stay its own.
    pub(crate) fn undo_unit_to_mark(&self, unit: &mut Unit, mark: &UnitMark) -> Result<()> {
        self.undo_unit_to(unit, mark.last_lsn)?;
        unit.freed.truncate(mark.freed);
        unit.dropped.truncate(mark.dropped);
        Ok(())
    }

    /// Undoes the unit's records from the newest back to, and without, the one at `until`.
    fn undo_unit_to(&self, unit: &mut Unit, until: Lsn) -> Result<()> {
        let Some(slot) = unit.slot.as_ref() else { return Ok(()) };
        let mut undo = Undo { txn: slot.id, last_lsn: unit.last_lsn, undo_next_lsn: unit.last_lsn };
        while undo.undo_next_lsn > until {
            let store = |start, undo_next| self.txns.set_undone(slot, start, undo_next);
            let undone = self.undo_step(&mut undo, Some(&unit.room), store);
            unit.last_lsn = undo.undo_next_lsn;
            // Of a record that was stepped over nothing else tells.
            self.txns.set_undo_next(slot, undo.undo_next_lsn);
            if let Some(write) = undone? {
                *unit.deltas.entry(write.tree).or_default() -= delta_of(write.kind);
            }
        }
        Ok(())
    }

    /// Logs that a transaction is undone: in the room that was kept for it, or, in recovery, of the
    /// reserve.
    pub(crate) fn log_rollback_end(
        &self,
        chain: Chain,
        room: Option<&Mutex<RollbackRoom>>,
    ) -> Result<()> {
        let kept = room.and_then(|room| room.lock().take_end(&self.log));
        let mut credit = kept.unwrap_or_else(|| {
            self.credit(&CreditRequest {
                payload_bytes: CHANGE_RECORD_BYTES,
                is_sync_commit: false,
                purpose: Purpose::Reserve,
            })
        })?;
        let mut appender = self.appenders.acquire();
        let body = Body::RollbackEnd;
        self.append(&mut appender, &mut credit, chain, &body, &mut [], |_| {});
        Ok(())
    }
}

/// How a commit holds the gate.
enum Pass<'a> {
    #[expect(dead_code, reason = "held for its drop")]
    Plain(CommitPass<'a>),
    #[expect(dead_code, reason = "held for its drop")]
    Validated(ValidatedPass<'a>),
}

/// Takes the first `count` away where there are more.
fn first_of<T>(list: &mut Vec<T>, count: usize) -> Vec<T> {
    if list.len() > count { list.drain(..count).collect() } else { Vec::new() }
}

/// Change of a tree's size by one write.
fn delta_of(kind: WriteKind) -> i64 {
    match kind {
        WriteKind::Insert => 1,
        WriteKind::Replace => 0,
        WriteKind::Delete => -1,
    }
}

/// Log bytes of the record that undoes a write.
fn compensation_bytes(key: &[u8], before: Option<&Cell<'_>>) -> u64 {
    CHANGE_RECORD_BYTES + to_u64(key.len() + before.map_or(0, |before| before.value.len()))
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use seawall_wal::disk::SimDisk;
    use seawall_wal::disk::sim::CrashPlan;

    use super::*;
    use crate::{Database, Options};

    fn open(disk: &SimDisk) -> Result<Database> {
        let options = Options::new().disk_injected(Arc::new(disk.clone())).manual_background(true);
        options.cache_bytes(2 << 20).open("/db")
    }

    #[test]
    fn a_commit_in_more_trees_than_one_record_names_keeps_all_their_sizes() -> Result<()> {
        let disk = SimDisk::new();
        let database = open(&disk)?;
        let tree = database.tree("t")?;
        let engine = &database.shared_core().engine;
        let mut unit = Unit::new(Isolation::Snapshot);
        let info = engine.trees.get(TreeId::new(1)).expect("made above");
        engine.unit_write(&mut unit, &info, b"key", 5, |_| Decision::Put(b"value"))?;
        // As if it had written to so many other trees as well.
        unit.deltas.extend((0..20_000).map(|i| (TreeId::new(1000 + i), 1_i64 << 20)));
        engine.commit_unit(unit, Durability::Sync)?;
        database.sync()?;
        assert_eq!(tree.len()?, 1);
        drop(tree);
        let crashed = disk.crash(CrashPlan::NothingUnsynced);
        drop(database);
        let database = open(&crashed)?;
        assert_eq!(database.tree("t")?.len()?, 1);
        assert!(database.verify(|_| {})?.findings.is_empty());
        Ok(())
    }
}
