//! Versions of cells that older readers still need.

mod cell;
mod store;

pub(crate) use cell::CellBuf;
pub(crate) use store::{Head, Seen, VersionKey, VersionStore};
