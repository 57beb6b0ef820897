//! Versions of cells that older readers still need.

mod bulk;
mod cell;
mod key;
mod store;

pub(crate) use bulk::{Bulk, BulkTable, KeySpan};
pub(crate) use cell::CellBuf;
pub(crate) use key::VersionKey;
pub(crate) use store::{Head, Older, Reader, Seen, VERSION_BYTES, VersionStore};
