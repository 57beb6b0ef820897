//! Undo, for rollback, savepoints and recovery alike: logical, compensated, resumable.
//!
//! Undo walks a transaction's records backwards. For each change it finds the key's leaf, wherever
//! splits and merges have moved it, puts the before-image back, and logs that as a compensation
//! record whose `undo_next_lsn` names the next record to undo. If we crash here, the walk goes on
//! behind the last compensation record: no change is undone twice, none is left out (ARIES, Mohan et
//! al. 1992; the difference is that structure modifications are records of no transaction, so there
//! are no nested top actions to skip).
//!
//! Records link to those before them that are not undone, not to compensation records: so no
//! compensation record is ever read for undo, and they need not be spilled.
//!
//! Undo never needs room that is not there (T2): a shortened cell keeps its old length, and the log
//! room of the compensation record was set aside with the change. What was spilled needs no log to be
//! kept, and so waits for a checkpoint instead.

use seawall_wal::codec::{DecodeError, to_u64};
use seawall_wal::log::{Credit, CreditRequest, Purpose};
use seawall_wal::record::{Body, Cell, Extent, Op, PageRef, WriteKind};
use seawall_wal::sync::Mutex;
use seawall_wal::{Error, Lsn, Result, TreeId, TxnId};

use super::Engine;
use super::append::Chain;
use super::auto_commit::CHANGE_RECORD_BYTES;
use super::structure::page_ref;
use crate::catalogue::row::tree_of;
use crate::catalogue::{TreeRow, TreeState};
use crate::page::{LeafView, PageRead};
use crate::planted::{Bug, is_planted};
use crate::pool::ExclusivePage;
use crate::tree::Seek;
use crate::txn::RollbackRoom;
use crate::version::CellBuf;

/// Where the undo of a transaction stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Undo {
    pub(crate) txn: TxnId,
    /// START of the transaction's newest record.
    pub(crate) last_lsn: Lsn,
    /// The record to look at next; [`Lsn::NONE`] when everything is undone.
    pub(crate) undo_next_lsn: Lsn,
}

impl Undo {
    /// What holds the next record of the transaction to those before.
    pub(crate) const fn chain(&self) -> Chain {
        Chain { txn: self.txn, prev_lsn: self.last_lsn }
    }
}

/// A write that was undone.
#[derive(Debug)]
pub(crate) struct UndoneWrite {
    pub(crate) tree: TreeId,
    pub(crate) kind: WriteKind,
    pub(crate) key: Vec<u8>,
}

/// One change to undo.
struct Change<'a> {
    tree: TreeId,
    key: &'a [u8],
    kind: WriteKind,
    before: Option<Cell<'a>>,
    /// Its record, and the one before that.
    lsn: Lsn,
    prev_lsn: Lsn,
}

impl Engine {
    /// Undoes, or steps over, the record at `undo.undo_next_lsn`. Returns the write that was undone.
    /// `store` notes the compensation record, and what is to be undone next, in
    /// the transaction table.
    pub(crate) fn undo_step(
        &self,
        undo: &mut Undo,
        room: Option<&Mutex<RollbackRoom>>,
        store: impl Fn(Lsn, Lsn),
    ) -> Result<Option<UndoneWrite>> {
        let read = self.read_undo(undo.txn, undo.undo_next_lsn)?;
        let damaged = |error: DecodeError| self.damaged_record(&read, error);
        let body = read.body().map_err(damaged)?;
        let record = read.decode(&body).map_err(damaged)?;
        if record.txn != undo.txn {
            let expected = format!("a record of transaction {}", undo.txn);
            let found = format!("one of transaction {}", record.txn);
            return Err(self.wrong_record(&read, expected, found));
        }
        match record.body {
            Body::Compensation { undo_next_lsn, .. } => {
                undo.undo_next_lsn = undo_next_lsn;
                Ok(None)
            }
            Body::CommitPart { .. } => {
                undo.undo_next_lsn = record.prev_lsn;
                Ok(None)
            }
            Body::Update { ref refs } => {
                let ops = refs.iter().flat_map(|page_ref| page_ref.ops.iter());
                let change = ops.filter_map(|op| match *op {
                    Op::Put { tree, key, kind, before, .. } => {
                        let (lsn, prev_lsn) = (read.lsn, record.prev_lsn);
                        Some(Change { tree, key, kind, before, lsn, prev_lsn })
                    }
                    _ => None,
                });
                let Some(change) = change.into_iter().next() else {
                    if let Some(extent) = allocated(refs) {
                        self.compensate_pages(undo, extent, record.prev_lsn, room, store)?;
                        return Ok(None);
                    }
                    return Err(self.wrong_record(&read, "a write in an update record", "none"));
                };
                self.compensate(undo, &change, room, store)?;
                let (tree, kind, key) = (change.tree, change.kind, change.key.to_vec());
                Ok(Some(UndoneWrite { tree, kind, key }))
            }
            other => {
                let found = format!("a record of kind {:?}", other.kind());
                Err(self.wrong_record(&read, "a record that can be undone", found))
            }
        }
    }

    fn compensate(
        &self,
        undo: &mut Undo,
        change: &Change<'_>,
        room: Option<&Mutex<RollbackRoom>>,
        store: impl Fn(Lsn, Lsn),
    ) -> Result<()> {
        let Some(tree) = self.trees.get(change.tree) else {
            let what = format!("tree {} of a change to undo", change.tree);
            return Err(Error::NotFound { what });
        };
        let value_bytes = change.before.map_or(0, |before| before.value.len());
        let bytes = CHANGE_RECORD_BYTES + to_u64(change.key.len() + value_bytes);
        let mut credit = self.compensation_credit(room, change.lsn, bytes)?;
        let mut appender = self.appenders.acquire();
        let found = self.descent(&tree).leaf(Seek::Key(change.key));
        let mut page: ExclusivePage<'_> =
            found.inspect_err(|_| give_back(&mut credit, room, change.lsn))?;
        let row = self.dropping_row(&page, change);
        let op = match (&row, change.before) {
            (Some(row), _) => put(change, Cell::inline(row)),
            (None, Some(before)) => put(change, before),
            (None, None) => Op::Remove { tree: change.tree, key: change.key },
        };
        let undo_next_lsn = match is_planted(Bug::CompensationWithoutUndoNext) {
            true => Lsn::NONE,
            false => change.prev_lsn,
        };
        let body = Body::Compensation { undo_next_lsn, refs: vec![page_ref(&page, op)] };
        let chain = undo.chain();
        let pages = &mut [&mut page];
        let appended = self.append(&mut appender, &mut credit, chain, &body, pages, |appended| {
            store(appended.start, change.prev_lsn);
        });
        drop(page);
        if row.is_some() {
            self.doom_created(change.key);
        }
        undo.last_lsn = appended.start;
        undo.undo_next_lsn = change.prev_lsn;
        Ok(())
    }

    /// Frees the pages of an overflow value again.
    fn compensate_pages(
        &self,
        undo: &mut Undo,
        extent: Extent,
        prev_lsn: Lsn,
        room: Option<&Mutex<RollbackRoom>>,
        store: impl Fn(Lsn, Lsn),
    ) -> Result<()> {
        let lsn = undo.undo_next_lsn;
        let mut credit = self.compensation_credit(room, lsn, CHANGE_RECORD_BYTES)?;
        let mut appender = self.appenders.acquire();
        let found = self.pool.pin(self.space.bitmap_of(extent.first));
        let mut bitmap = found.inspect_err(|_| give_back(&mut credit, room, lsn))?.into_exclusive();
        let body = Body::Compensation {
            undo_next_lsn: prev_lsn,
            refs: vec![page_ref(&bitmap, Op::Release(extent))],
        };
        let pages = &mut [&mut bitmap];
        let appended =
            self.append(&mut appender, &mut credit, undo.chain(), &body, pages, |appended| {
                store(appended.start, prev_lsn);
            });
        self.space.freed(extent.first);
        undo.last_lsn = appended.start;
        undo.undo_next_lsn = prev_lsn;
        Ok(())
    }

    /// Credit to undo the record at `lsn`: of the room that was set aside with it, or as a checkpoint
    /// can make it once the record is spilled, or, in recovery, of the reserve.
    fn compensation_credit(
        &self,
        room: Option<&Mutex<RollbackRoom>>,
        lsn: Lsn,
        bytes: u64,
    ) -> Result<Credit> {
        let credit = |purpose| {
            self.credit(&CreditRequest { payload_bytes: bytes, is_sync_commit: false, purpose })
        };
        let Some(room) = room else { return credit(Purpose::Reserve) };
        let held = room.lock().take(&self.log, lsn, bytes);
        held.unwrap_or_else(|| credit(Purpose::Rollback))
    }

    /// Has a tree taken apart whose creation was undone.
    fn doom_created(&self, row_key: &[u8]) {
        if let Some(tree) = tree_of(row_key).and_then(|id| self.trees.get(id)) {
            self.doom_now(tree);
        }
    }

    /// The undo of a tree's creation does not take its row away: the tree may have grown pages, and
    /// only dismantling finds them all.
    fn dropping_row(&self, page: &ExclusivePage<'_>, change: &Change<'_>) -> Option<Vec<u8>> {
        let is_creation = change.tree == TreeId::CATALOGUE && change.kind == WriteKind::Insert;
        if !is_creation || tree_of(change.key).is_none() {
            return None;
        }
        let cell = LeafView::new(page.bytes()).get(change.key).map(CellBuf::from);
        let cell = cell.expect("a row that is being undone is on its leaf");
        let row = TreeRow::decode(cell.as_cell().value).expect("the engine wrote the row itself");
        Some(TreeRow { state: TreeState::Dropping, ..row }.encode())
    }
}

/// Puts credit that was not spent back where it came from: the record at `lsn` is to be undone yet.
fn give_back(credit: &mut Credit, room: Option<&Mutex<RollbackRoom>>, lsn: Lsn) {
    if let Some(room) = room {
        room.lock().give_back(credit, lsn);
    }
}

fn put<'a>(change: &Change<'a>, after: Cell<'a>) -> Op<'a> {
    Op::Put { tree: change.tree, key: change.key, kind: change.kind, after, before: None }
}

/// The pages that a record allocates.
fn allocated(refs: &[PageRef<'_>]) -> Option<Extent> {
    refs.iter().flat_map(|page_ref| page_ref.ops.iter()).find_map(|op| match op {
        Op::Allocate(extent) => Some(*extent),
        _ => None,
    })
}
