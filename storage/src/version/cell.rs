//! A leaf cell's content outside of its page: what versions keep, and what is read back from undo
//! information. Its layout on a page is `page::leaf`'s.

use seawall_wal::record::{Cell, Stamp};

/// Owned content of a leaf cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CellBuf {
    is_ghost: bool,
    is_overflow: bool,
    stamp: Option<Stamp>,
    capacity_bytes: usize,
    value: Box<[u8]>,
}

impl CellBuf {
    pub(crate) fn as_cell(&self) -> Cell<'_> {
        Cell {
            is_ghost: self.is_ghost,
            is_overflow: self.is_overflow,
            stamp: self.stamp,
            capacity_bytes: self.capacity_bytes,
            value: &self.value,
        }
    }
}

impl From<Cell<'_>> for CellBuf {
    fn from(cell: Cell<'_>) -> Self {
        Self {
            is_ghost: cell.is_ghost,
            is_overflow: cell.is_overflow,
            stamp: cell.stamp,
            capacity_bytes: cell.capacity_bytes,
            value: cell.value.into(),
        }
    }
}
