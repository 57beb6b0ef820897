//! What a record says: the same fields for people and for machines.

use std::fmt;

use seawall::Lsn;
use seawall_wal::record::{
    Body, Cell, CommitInfo, Extent, Kind, Op, PageRef, TreeDelta, WriteKind,
};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use crate::bytes;
use crate::output::{cell_marks, shortened};

/// Named values, in order.
#[derive(Debug, Default)]
pub(super) struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    fn with(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.0.push((name, value.into()));
        self
    }

    fn with_lsn(self, name: &'static str, lsn: Lsn) -> Self {
        if lsn.is_none() { self } else { self.with(name, lsn.get()) }
    }
}

impl Serialize for Fields {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl fmt::Display for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.0 {
            match value {
                Value::String(text) => write!(f, "  {name} {text}")?,
                other => write!(f, "  {name} {other}")?,
            }
        }
        Ok(())
    }
}

/// A record.
#[derive(Debug, Serialize)]
pub(super) struct Description {
    pub(super) lsn: u64,
    pub(super) epoch: u64,
    pub(super) kind: &'static str,
    pub(super) bytes: usize,
    pub(super) txn: u64,
    pub(super) prev_lsn: u64,
    pub(super) fields: Fields,
    pub(super) pages: Vec<PageDescription>,
}

/// A reference to a page.
#[derive(Debug, Serialize)]
pub(super) struct PageDescription {
    page: u64,
    page_prev_lsn: u64,
    is_init: bool,
    ops: Vec<OpDescription>,
}

/// An operation on a page.
#[derive(Debug, Serialize)]
pub(super) struct OpDescription {
    op: &'static str,
    fields: Fields,
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lsn, kind, bytes, txn, prev_lsn, fields, .. } = self;
        write!(f, "{lsn:>16}  {kind:<16} {bytes:>6} B")?;
        if *txn != 0 {
            write!(f, "  txn {txn}")?;
        }
        if *prev_lsn != 0 {
            write!(f, "  prev {prev_lsn}")?;
        }
        write!(f, "{fields}")?;
        self.pages.iter().try_for_each(|page| write!(f, "\n{page}"))
    }
}

impl fmt::Display for PageDescription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let init = if self.is_init { ", initialised" } else { "" };
        write!(f, "{:>18}page {} (was at {}{init})", "", self.page, self.page_prev_lsn)?;
        self.ops.iter().try_for_each(|op| write!(f, "\n{:>20}{}{}", "", op.op, op.fields))
    }
}

/// Name of a kind of record.
pub(super) fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Update => "update",
        Kind::AutoCommit => "auto-commit",
        Kind::Structure => "structure",
        Kind::Compensation => "compensation",
        Kind::Commit => "commit",
        Kind::CommitPart => "commit-part",
        Kind::RollbackEnd => "rollback-end",
        Kind::Purge => "purge",
        Kind::Free => "free",
        Kind::EpochStart => "epoch-start",
        Kind::CheckpointBegin => "checkpoint-begin",
        Kind::CheckpointChunk => "checkpoint-chunk",
        Kind::CheckpointEnd => "checkpoint-end",
        Kind::Note => "note",
    }
}

/// Fields of a body beside its page references.
pub(super) fn body(body: &Body<'_>) -> Fields {
    let fields = Fields::default();
    match body {
        Body::Update { .. } | Body::Structure { .. } => fields,
        Body::RollbackEnd | Body::CheckpointBegin => fields,
        Body::AutoCommit { commit: info, .. } | Body::Commit(info) => commit(info),
        Body::Compensation { undo_next_lsn, .. } => {
            fields.with("undo_next_lsn", undo_next_lsn.get())
        }
        Body::CommitPart { deltas, freed } => lists(fields, deltas, freed),
        Body::Purge { horizon, .. } | Body::Free { horizon, .. } => {
            fields.with("horizon", horizon.get())
        }
        Body::EpochStart(entry) => fields
            .with("epoch", entry.epoch.get())
            .with("start_lsn", entry.start_lsn.get())
            .with_lsn("continues_from_lsn", entry.continues_from_lsn)
            .with("segment", entry.segment)
            .with("offset", entry.offset),
        Body::CheckpointChunk(chunk) => fields
            .with("section", chunk.section)
            .with("index", chunk.index)
            .with("data_bytes", chunk.data.len()),
        Body::CheckpointEnd(end) => fields
            .with("begin_lsn", end.begin_lsn.get())
            .with("redo_lsn", end.redo_lsn.get())
            .with_lsn("undo_lsn", end.undo_lsn)
            .with_lsn("first_chunk_lsn", end.first_chunk_lsn)
            .with("chunks", end.chunks)
            .with("doublewrite_batch", end.doublewrite_batch),
        Body::Note(text) => fields.with("text", shortened(text)),
    }
}

fn commit(info: &CommitInfo) -> Fields {
    let mut fields = Fields::default().with("wall_ms", info.wall_ms);
    if info.origin != 0 {
        fields = fields.with("origin", info.origin);
    }
    if info.parts > 0 {
        fields = fields.with("parts", info.parts).with("first_part_lsn", info.first_part_lsn.get());
    }
    lists(fields, &info.deltas, &info.freed)
}

fn lists(mut fields: Fields, deltas: &[TreeDelta], freed: &[Extent]) -> Fields {
    if !deltas.is_empty() {
        let deltas = deltas.iter().map(|delta| json!([delta.tree.get(), delta.delta]));
        fields = fields.with("tree_deltas", deltas.collect::<Vec<_>>());
    }
    if !freed.is_empty() {
        let freed = freed.iter().map(|extent| json!([extent.first.get(), extent.count]));
        fields = fields.with("freed", freed.collect::<Vec<_>>());
    }
    fields
}

/// A page reference and its operations.
pub(super) fn page(page: &PageRef<'_>) -> PageDescription {
    PageDescription {
        page: page.page.get(),
        page_prev_lsn: page.page_prev_lsn.get(),
        is_init: page.is_init,
        ops: page.ops.iter().map(op).collect(),
    }
}

fn op(op: &Op<'_>) -> OpDescription {
    let fields = Fields::default();
    let (op, fields) = match op {
        Op::Image { low, high } => ("image", fields.with("image_bytes", low.len() + high.len())),
        Op::Absorb { low, high } => ("absorb", fields.with("image_bytes", low.len() + high.len())),
        Op::Put { tree, key, kind, after, before } => {
            let fields = fields
                .with("tree", tree.get())
                .with("key", bytes::show(key))
                .with("write", write_name(*kind))
                .with("after", cell(after));
            let fields = match before {
                Some(before) => fields.with("before", cell(before)),
                None => fields,
            };
            ("put", fields)
        }
        Op::Remove { tree, key } => {
            ("remove", fields.with("tree", tree.get()).with("key", bytes::show(key)))
        }
        Op::Settle { tree, key } => {
            ("settle", fields.with("tree", tree.get()).with("key", bytes::show(key)))
        }
        Op::SplitOff { separator, right } => {
            let fields = fields.with("separator", bytes::show(separator));
            ("split-off", fields.with("right", right.get()))
        }
        Op::InsertChild { separator, child } => {
            let fields = fields.with("separator", bytes::show(separator));
            ("insert-child", fields.with("child", child.get()))
        }
        Op::RemoveChild { separator } => {
            ("remove-child", fields.with("separator", bytes::show(separator)))
        }
        Op::Allocate(extent) => ("allocate", pages(fields, extent)),
        Op::Release(extent) => ("release", pages(fields, extent)),
    };
    OpDescription { op, fields }
}

fn pages(fields: Fields, extent: &Extent) -> Fields {
    fields.with("first", extent.first.get()).with("count", extent.count)
}

fn write_name(kind: WriteKind) -> &'static str {
    match kind {
        WriteKind::Insert => "insert",
        WriteKind::Replace => "replace",
        WriteKind::Delete => "delete",
    }
}

fn cell(cell: &Cell<'_>) -> String {
    let mut parts = vec![shortened(cell.value)];
    parts.extend(cell_marks(cell));
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use seawall_wal::{PageId, TreeId};

    use super::*;

    fn sample() -> Description {
        let put = Op::Put {
            tree: TreeId::new(3),
            key: b"k",
            kind: WriteKind::Replace,
            after: Cell { value: b"new", ..Cell::default() },
            before: Some(Cell { value: b"\x00", is_ghost: true, ..Cell::default() }),
        };
        let page_ref = PageRef {
            page: PageId::new(7),
            page_prev_lsn: Lsn::new(40),
            is_init: false,
            ops: Cow::Owned(vec![put]),
        };
        let update = Body::Update { refs: vec![page_ref] };
        Description {
            lsn: 4096,
            epoch: 1,
            kind: kind_name(update.kind()),
            bytes: 88,
            txn: 5,
            prev_lsn: 0,
            fields: body(&update),
            pages: update.page_refs().iter().map(page).collect(),
        }
    }

    #[test]
    fn a_record_shows_its_pages_and_operations_below_it() {
        let expected = "            4096  update               88 B  txn 5\n\
                        \x20                 page 7 (was at 40)\n\
                        \x20                   put  tree 3  key k  write replace  after new  \
                        before hex:00, ghost";
        assert_eq!(sample().to_string(), expected);
    }

    #[test]
    fn machines_get_the_same_fields() {
        let json = serde_json::to_value(sample()).unwrap();
        assert_eq!(json["kind"], "update");
        assert_eq!(json["pages"][0]["ops"][0]["fields"]["key"], "k");
    }
}
