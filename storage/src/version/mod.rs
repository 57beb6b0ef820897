//! Versions of cells that older readers still need.

mod bulk;
mod cell;
mod filter;
mod key;
mod store;

pub(crate) use bulk::{Bulk, BulkTable, KeySpan};
pub(crate) use cell::CellBuf;
pub(crate) use filter::KeyHash;
pub(crate) use key::VersionKey;
pub(crate) use store::{Head, Older, Reader, Seen, VERSION_BYTES, VersionStore};
