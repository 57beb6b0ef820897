//! What the log still says: changes of pages, and of transactions.
//!
//! A change that its page cannot take, because the page is lost or lacks earlier changes, is kept by
//! itself: the key is in the record, and so is its value. It is *loose*, and counts where no page knows
//! better, which is where no leaf of a later position holds the key's place.

use std::collections::{BTreeMap, HashMap};

use seawall_wal::control::MasterRecord;
use seawall_wal::log::{OwnedRecord, Survivors};
use seawall_wal::record::{self, Body, CheckpointEnd, Op, PageRef, Record, TreeDelta};
use seawall_wal::{Lsn, Result, TreeId, TxnId};

use super::pages::Pages;
use super::report::Sentences;
use crate::checkpoint::tables::{Tables, chunk_checksum};
use crate::page::{PageBuf, PageKind, PageRead, PageView, apply, set_page_lsn};
use crate::recovery::note_transaction;
use crate::txn::ActiveTxn;
use crate::version::CellBuf;
use crate::writeback::doublewrite::BatchId;

/// A key of a tree.
pub(super) type TreeKey = (TreeId, Vec<u8>);

/// A change without its page: the cell, `None` where that went, and the end of the record.
#[derive(Clone, Debug)]
pub(super) struct Loose {
    pub(super) cell: Option<CellBuf>,
    pub(super) lsn: Lsn,
}

/// The tables of the last checkpoint.
#[derive(Debug, Default)]
pub(super) struct Checkpoint {
    pub(super) active: BTreeMap<TxnId, ActiveTxn>,
    pub(super) sizes: HashMap<TreeId, i64>,
    pub(super) synced: Option<BatchId>,
}

/// What was read.
#[derive(Debug, Default)]
pub(super) struct Replayed {
    pub(super) records: u64,
    pub(super) loose: BTreeMap<TreeKey, Loose>,
    /// Leaves that were merged into ones that are lost.
    pub(super) leaves: Vec<PageBuf>,
    /// Transactions without an end.
    pub(super) open: BTreeMap<TxnId, ActiveTxn>,
    /// Records of each tree.
    pub(super) sizes: HashMap<TreeId, i64>,
    /// Changes of sizes by commits that have not ended yet.
    parts: HashMap<TxnId, Vec<TreeDelta>>,
}

/// Reads the tables that the master record names; an error says why they are not to be had.
pub(super) fn checkpoint(log: &mut Survivors, master: &MasterRecord) -> Result<Checkpoint, String> {
    let mut tables = Tables::default();
    let (mut chunks, mut checksum, mut ended) = (0, 0, None::<CheckpointEnd>);
    let mut wrong = None;
    log.each(master.begin_lsn, |found| {
        if found.lsn >= master.end_lsn {
            return Ok(());
        }
        let read = with_body(found, |record| match &record.body {
            Body::CheckpointChunk(chunk) => {
                chunks += 1;
                checksum = chunk_checksum(checksum, chunk.data);
                let decoded = tables.decode_chunk(chunk.section, chunk.data);
                wrong = wrong.take().or(decoded.err().map(|error| error.to_string()));
            }
            Body::CheckpointEnd(end) => ended = Some(end.clone()),
            _ => {}
        });
        wrong = wrong.take().or(read.err());
        Ok(())
    })
    .map_err(|error| error.to_string())?;
    let lost = || format!("the tables of the checkpoint at {} are not whole", master.begin_lsn);
    let end = ended.filter(|end| end.begin_lsn == master.begin_lsn).ok_or_else(lost)?;
    if (end.chunks, end.chunks_checksum) != (chunks, checksum) || wrong.is_some() {
        return Err(lost());
    }
    let signed = |keys: u64| i64::try_from(keys).unwrap_or(i64::MAX);
    Ok(Checkpoint {
        active: tables.active.into_iter().map(|txn| (txn.id, txn)).collect(),
        sizes: tables.sizes.into_iter().map(|(tree, keys)| (tree, signed(keys))).collect(),
        synced: Some(BatchId { epoch: end.epoch, number: end.doublewrite_batch }),
    })
}

impl Replayed {
    /// Takes in the log from `from` on. Transactions and sizes are those of the checkpoint that began at
    /// `begin_lsn`, up to there.
    pub(super) fn replay(
        log: &mut Survivors,
        from: Lsn,
        begin_lsn: Lsn,
        checkpoint: Checkpoint,
        pages: &mut Pages,
        damage: &mut Sentences,
    ) -> Result<Self> {
        let Checkpoint { active, sizes, .. } = checkpoint;
        let mut replayed = Self { open: active, sizes, ..Self::default() };
        log.each(from, |found| {
            replayed.records += 1;
            let read = with_body(found, |record| {
                for page_ref in record.body.page_refs() {
                    replayed.take_ref(page_ref, found, pages);
                }
                if found.lsn >= begin_lsn {
                    note_transaction(&mut replayed.open, found.lsn, record);
                    replayed.note_sizes(record);
                }
            });
            if let Err(why) = read {
                damage.add(format!("the record at {}: {why}", found.lsn));
            }
            Ok(())
        })?;
        Ok(replayed)
    }

    fn take_ref(&mut self, page_ref: &PageRef<'_>, found: &OwnedRecord, pages: &mut Pages) {
        for op in &*page_ref.ops {
            if let Op::Release(extent) = op {
                pages.free(extent, found.end);
            }
        }
        if pages.redo(page_ref, found.lsn, found.end) {
            return;
        }
        for op in &*page_ref.ops {
            let lsn = found.end;
            match &*op.in_record_at(found.lsn) {
                Op::Put { tree, key, after, .. } => {
                    let cell = Some(CellBuf::from(*after));
                    self.loose.insert((*tree, key.to_vec()), Loose { cell, lsn });
                }
                Op::Remove { tree, key } => {
                    self.loose.insert((*tree, key.to_vec()), Loose { cell: None, lsn });
                }
                Op::Absorb { low, high } => self.leaves.extend(leaf_of(pages, low, high, lsn)),
                _ => {}
            }
        }
    }

    fn note_sizes(&mut self, record: &Record<'_>) {
        match &record.body {
            Body::Commit(commit) => {
                let parts = self.parts.remove(&record.txn).unwrap_or_default();
                add(&mut self.sizes, parts.iter().chain(&commit.deltas));
            }
            Body::AutoCommit { commit, .. } => add(&mut self.sizes, commit.deltas.iter()),
            Body::CommitPart { deltas, .. } => {
                self.parts.entry(record.txn).or_default().extend(deltas);
            }
            Body::RollbackEnd => drop(self.parts.remove(&record.txn)),
            _ => {}
        }
    }
}

fn add<'d>(sizes: &mut HashMap<TreeId, i64>, deltas: impl Iterator<Item = &'d TreeDelta>) {
    for delta in deltas {
        *sizes.entry(delta.tree).or_default() += delta.delta;
    }
}

/// The leaf of which this is the image, where it is one.
fn leaf_of(pages: &Pages, low: &[u8], high: &[u8], lsn: Lsn) -> Option<PageBuf> {
    // The image begins with the page's own id.
    let id = low.first_chunk().map(|id| seawall_wal::PageId::new(u64::from_le_bytes(*id)))?;
    let mut page = PageBuf::zeroed(pages.page_bytes());
    apply(&mut page, id, &Op::Image { low, high }).ok()?;
    set_page_lsn(&mut page, lsn);
    (PageView::new(page.bytes()).kind() == PageKind::Leaf).then_some(page)
}

/// Calls `use_it` with the decoded record; an error says what cannot be read of it.
pub(super) fn with_body<R>(
    found: &OwnedRecord,
    use_it: impl FnOnce(&Record<'_>) -> R,
) -> Result<R, String> {
    let body = found.body().map_err(|error| error.to_string())?;
    let record = record::decode(&found.header, &body).map_err(|error| error.to_string())?;
    Ok(use_it(&record))
}
