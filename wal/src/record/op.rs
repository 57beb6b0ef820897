//! References to pages inside a record, and the operations on them.
//!
//! | part | encoding |
//! |---|---|
//! | reference | page id, `page_prev_lsn` (varints), flags (1: initialising), count of operations, operations |
//! | operation | tag byte, fields in the order of [`Op`] |
//! | cell | flags (1 ghost, 2 overflow, 4 stamped, 8 capacity), [txn id, undo LSN], [capacity], value |
//!
//! Ids, positions, counts and lengths are varints. The undo LSN of a stamp is stored plus one,
//! modulo 2^64: 0 is [`Stamp::THIS_RECORD`], whose place is not known yet when the record is
//! encoded.

use std::borrow::Cow;

use crate::codec::{DecodeError, Encode, Reader, to_u64};
use crate::{Lsn, PageId, TreeId, TxnId};

use super::body::Extent;

/// Most pages one record may refer to.
const PAGE_REFS_MAX: usize = 4096;
/// Most operations one reference may carry.
const OPS_MAX: usize = 1 << 16;
/// Bound of any byte string in an operation: no record is longer.
const BYTES_MAX: usize = 1 << 18;

/// A page touched by a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRef<'a> {
    /// The page.
    pub page: PageId,
    /// The page's `page_lsn` before this record; [`Lsn::NONE`] on an initialising reference.
    pub page_prev_lsn: Lsn,
    /// Whether the first operation gives the page its whole content, whatever stood there.
    pub is_init: bool,
    /// What redo does to the page, in order.
    pub ops: Cow<'a, [Op<'a>]>,
}

/// The mark of a huge transaction on a cell, in place of a version in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The transaction that wrote the cell.
    pub txn: TxnId,
    /// START of its first record that wrote this key, or one of the two constants.
    pub undo_lsn: Lsn,
}

impl Stamp {
    /// Undo LSN of a key that had no cell before: there is nothing to look up.
    pub const NOTHING_BEFORE: Lsn = Lsn::NONE;
    /// Undo LSN, in a record only, that stands for the record's own START.
    pub const THIS_RECORD: Lsn = Lsn::MAX;
}

/// Logical content of a leaf cell, apart from its key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cell<'a> {
    /// The key was deleted; the cell stays for snapshots and for rollback.
    pub is_ghost: bool,
    /// The value is a link to an overflow extent.
    pub is_overflow: bool,
    /// Mark of the huge transaction that wrote it.
    pub stamp: Option<Stamp>,
    /// Bytes kept free behind the value, so that rollback to a longer one fits in place.
    pub capacity_bytes: usize,
    /// The value, or the overflow link.
    pub value: &'a [u8],
}

/// What a write did to its key, as the user sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteKind {
    /// The key was absent.
    Insert,
    /// The key was there.
    Replace,
    /// The key was there and is gone.
    Delete,
}

/// An operation on one page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op<'a> {
    /// The page's bytes from the start of the body up to a hole, and from behind the hole to the
    /// end. The hole is zero. Header fields that belong to the copy on disk (checksum, `page_lsn`)
    /// are not part of it.
    Image {
        /// Bytes in front of the hole.
        low: &'a [u8],
        /// Bytes behind the hole.
        high: &'a [u8],
    },
    /// A leaf's cell for `key` becomes `after`.
    Put {
        /// The tree, for undo, which finds the leaf by key.
        tree: TreeId,
        /// The whole key.
        key: &'a [u8],
        /// What the user did; compensation records repeat that of the record they undo.
        kind: WriteKind,
        /// The new content.
        after: Cell<'a>,
        /// The content before; `None` where there was no cell, and on redo-only records.
        before: Option<Cell<'a>>,
    },
    /// A leaf's cell for `key` goes: the purge of a ghost, or the undo of an insert.
    Remove {
        /// The tree.
        tree: TreeId,
        /// The whole key.
        key: &'a [u8],
    },
    /// A leaf's cell for `key` loses its stamp and its kept capacity.
    Settle {
        /// The tree.
        tree: TreeId,
        /// The whole key.
        key: &'a [u8],
    },
    /// The left half of a split: cells from `separator` on go, `separator` becomes the high fence
    /// and `right` the right sibling.
    SplitOff {
        /// First key of the right half, shortened.
        separator: &'a [u8],
        /// The new page.
        right: PageId,
    },
    /// The left half of a merge: the cells, high fence and right sibling of the right page, whose
    /// image this is, move here.
    Absorb {
        /// The right page's bytes in front of its hole.
        low: &'a [u8],
        /// The right page's bytes behind its hole.
        high: &'a [u8],
    },
    /// An inner page gains a child for the keys from `separator` on.
    InsertChild {
        /// Lowest key of the child's range.
        separator: &'a [u8],
        /// The child.
        child: PageId,
    },
    /// An inner page loses the child that began at `separator`.
    RemoveChild {
        /// Lowest key of the child's range.
        separator: &'a [u8],
    },
    /// A bitmap page marks pages as used.
    Allocate(Extent),
    /// A bitmap page marks pages as free.
    Release(Extent),
}

mod tag {
    pub(super) const IMAGE: u8 = 1;
    pub(super) const PUT: u8 = 2;
    pub(super) const REMOVE: u8 = 3;
    pub(super) const SETTLE: u8 = 4;
    pub(super) const SPLIT_OFF: u8 = 5;
    pub(super) const ABSORB: u8 = 6;
    pub(super) const INSERT_CHILD: u8 = 7;
    pub(super) const REMOVE_CHILD: u8 = 8;
    pub(super) const ALLOCATE: u8 = 9;
    pub(super) const RELEASE: u8 = 10;
}

const REF_INIT: u8 = 1;

const CELL_GHOST: u8 = 1;
const CELL_OVERFLOW: u8 = 2;
const CELL_STAMPED: u8 = 4;
const CELL_CAPACITY: u8 = 8;

/// The kind and the presence of a before-image share a byte.
const KIND_MASK: u8 = 3;
const HAS_BEFORE: u8 = 4;

impl WriteKind {
    const fn encode(self) -> u8 {
        match self {
            Self::Insert => 0,
            Self::Replace => 1,
            Self::Delete => 2,
        }
    }
}

impl<'a> Cell<'a> {
    /// A deleted key, without anything kept.
    pub const GHOST: Self =
        Self { is_ghost: true, is_overflow: false, stamp: None, capacity_bytes: 0, value: &[] };

    /// A live inline value.
    #[must_use]
    pub const fn inline(value: &'a [u8]) -> Self {
        Self { is_ghost: false, is_overflow: false, stamp: None, capacity_bytes: 0, value }
    }

    /// A live link to an overflow value.
    #[must_use]
    pub const fn overflow(link: &'a [u8]) -> Self {
        Self { is_overflow: true, ..Self::inline(link) }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        out.put_u8(
            flag(self.is_ghost, CELL_GHOST)
                | flag(self.is_overflow, CELL_OVERFLOW)
                | flag(self.stamp.is_some(), CELL_STAMPED)
                | flag(self.capacity_bytes > 0, CELL_CAPACITY),
        );
        if let Some(stamp) = self.stamp {
            out.put_varint(stamp.txn.get());
            out.put_varint(stamp.undo_lsn.get().wrapping_add(1));
        }
        if self.capacity_bytes > 0 {
            out.put_varint(to_u64(self.capacity_bytes));
        }
        out.put_bytes(self.value);
    }

    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let start = reader.offset();
        let flags = reader.u8()?;
        if flags & !(CELL_GHOST | CELL_OVERFLOW | CELL_STAMPED | CELL_CAPACITY) != 0 {
            return Err(DecodeError::new(start, "known cell flags", format!("{flags:#x}")));
        }
        let stamp = if flags & CELL_STAMPED == 0 {
            None
        } else {
            let txn = TxnId::new(reader.varint()?);
            Some(Stamp { txn, undo_lsn: Lsn::new(reader.varint()?.wrapping_sub(1)) })
        };
        let capacity_bytes = if flags & CELL_CAPACITY == 0 {
            0
        } else {
            match reader.count(BYTES_MAX)? {
                0 => return Err(DecodeError::new(start, "a capacity above 0", "0")),
                bytes => bytes,
            }
        };
        Ok(Self {
            is_ghost: flags & CELL_GHOST != 0,
            is_overflow: flags & CELL_OVERFLOW != 0,
            stamp,
            capacity_bytes,
            value: reader.bytes(BYTES_MAX)?,
        })
    }
}

impl<'a> Op<'a> {
    /// The operation as it is carried out for a record that begins at `start`.
    #[must_use]
    pub fn in_record_at(&self, start: Lsn) -> Cow<'_, Self> {
        let mut op = Cow::Borrowed(self);
        if let Self::Put { after: Cell { stamp: Some(stamp), .. }, .. } = self
            && stamp.undo_lsn == Stamp::THIS_RECORD
            && let Self::Put { after, .. } = op.to_mut()
        {
            after.stamp = Some(Stamp { undo_lsn: start, ..*stamp });
        }
        op
    }

    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Image { low, high } => {
                out.put_u8(tag::IMAGE);
                out.put_bytes(low);
                out.put_bytes(high);
            }
            Self::Put { tree, key, kind, after, before } => {
                out.put_u8(tag::PUT);
                out.put_varint(tree.get());
                out.put_bytes(key);
                out.put_u8(kind.encode() | if before.is_some() { HAS_BEFORE } else { 0 });
                after.encode(out);
                if let Some(before) = before {
                    before.encode(out);
                }
            }
            Self::Remove { tree, key } => encode_keyed(out, tag::REMOVE, *tree, key),
            Self::Settle { tree, key } => encode_keyed(out, tag::SETTLE, *tree, key),
            Self::SplitOff { separator, right } => {
                encode_child(out, tag::SPLIT_OFF, separator, *right);
            }
            Self::Absorb { low, high } => {
                out.put_u8(tag::ABSORB);
                out.put_bytes(low);
                out.put_bytes(high);
            }
            Self::InsertChild { separator, child } => {
                encode_child(out, tag::INSERT_CHILD, separator, *child);
            }
            Self::RemoveChild { separator } => {
                out.put_u8(tag::REMOVE_CHILD);
                out.put_bytes(separator);
            }
            Self::Allocate(extent) => {
                out.put_u8(tag::ALLOCATE);
                extent.encode(out);
            }
            Self::Release(extent) => {
                out.put_u8(tag::RELEASE);
                extent.encode(out);
            }
        }
    }

    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let start = reader.offset();
        Ok(match reader.u8()? {
            tag::IMAGE => {
                Self::Image { low: reader.bytes(BYTES_MAX)?, high: reader.bytes(BYTES_MAX)? }
            }
            tag::PUT => Self::decode_put(reader)?,
            tag::REMOVE => {
                Self::Remove { tree: TreeId::new(reader.varint()?), key: reader.bytes(BYTES_MAX)? }
            }
            tag::SETTLE => {
                Self::Settle { tree: TreeId::new(reader.varint()?), key: reader.bytes(BYTES_MAX)? }
            }
            tag::SPLIT_OFF => Self::SplitOff {
                separator: reader.bytes(BYTES_MAX)?,
                right: PageId::new(reader.varint()?),
            },
            tag::ABSORB => {
                Self::Absorb { low: reader.bytes(BYTES_MAX)?, high: reader.bytes(BYTES_MAX)? }
            }
            tag::INSERT_CHILD => Self::InsertChild {
                separator: reader.bytes(BYTES_MAX)?,
                child: PageId::new(reader.varint()?),
            },
            tag::REMOVE_CHILD => Self::RemoveChild { separator: reader.bytes(BYTES_MAX)? },
            tag::ALLOCATE => Self::Allocate(Extent::decode(reader)?),
            tag::RELEASE => Self::Release(Extent::decode(reader)?),
            other => {
                return Err(DecodeError::new(start, "a known operation", other.to_string()));
            }
        })
    }

    fn decode_put(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let tree = TreeId::new(reader.varint()?);
        let key = reader.bytes(BYTES_MAX)?;
        let start = reader.offset();
        let byte = reader.u8()?;
        let kind = match byte & KIND_MASK {
            0 => WriteKind::Insert,
            1 => WriteKind::Replace,
            2 => WriteKind::Delete,
            _ => return Err(DecodeError::new(start, "a known kind of write", byte.to_string())),
        };
        if byte & !(KIND_MASK | HAS_BEFORE) != 0 {
            return Err(DecodeError::new(start, "known flags of a write", format!("{byte:#x}")));
        }
        let after = Cell::decode(reader)?;
        let before = if byte & HAS_BEFORE == 0 { None } else { Some(Cell::decode(reader)?) };
        Ok(Self::Put { tree, key, kind, after, before })
    }
}

fn encode_keyed(out: &mut Vec<u8>, tag: u8, tree: TreeId, key: &[u8]) {
    out.put_u8(tag);
    out.put_varint(tree.get());
    out.put_bytes(key);
}

fn encode_child(out: &mut Vec<u8>, tag: u8, separator: &[u8], child: PageId) {
    out.put_u8(tag);
    out.put_bytes(separator);
    out.put_varint(child.get());
}

impl<'a> PageRef<'a> {
    pub(super) fn encode_all(refs: &[Self], out: &mut Vec<u8>) {
        assert!(refs.len() <= PAGE_REFS_MAX, "a record refers to at most {PAGE_REFS_MAX} pages");
        out.put_varint(to_u64(refs.len()));
        for page_ref in refs {
            out.put_varint(page_ref.page.get());
            out.put_varint(page_ref.page_prev_lsn.get());
            out.put_u8(if page_ref.is_init { REF_INIT } else { 0 });
            out.put_varint(to_u64(page_ref.ops.len()));
            for op in &*page_ref.ops {
                op.encode(out);
            }
        }
    }

    pub(super) fn decode_all(reader: &mut Reader<'a>) -> Result<Vec<Self>, DecodeError> {
        let count = reader.count(PAGE_REFS_MAX.min(reader.remaining()))?;
        (0..count).map(|_| Self::decode(reader)).collect()
    }

    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let page = PageId::new(reader.varint()?);
        let page_prev_lsn = Lsn::new(reader.varint()?);
        let start = reader.offset();
        let flags = reader.u8()?;
        if flags & !REF_INIT != 0 {
            return Err(DecodeError::new(start, "known reference flags", format!("{flags:#x}")));
        }
        let count = reader.count(OPS_MAX.min(reader.remaining()))?;
        let ops = (0..count).map(|_| Op::decode(reader)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { page, page_prev_lsn, is_init: flags & REF_INIT != 0, ops: Cow::Owned(ops) })
    }
}
