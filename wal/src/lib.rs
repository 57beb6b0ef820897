//! Write-ahead log of the Seawall database.
//!
//! Everything here stands below the pages: ids and positions, the seam to the disk, the seam to the
//! thread primitives, the formats of log records and frames, group commit, and the decision where a
//! log ends. The log never looks inside a page.
//!
//! Imports run one way: `ids`, `error`, `codec` <- `sync`, `disk` <- `record` <- `control` <-
//! `log`.
#![deny(unsafe_code)]

#[cfg(not(unix))]
compile_error!(
    "Seawall runs on Unix only: it relies on positional reads and writes, flock and mmap"
);
#[cfg(not(target_pointer_width = "64"))]
compile_error!("Seawall runs on 64-bit systems only: positions in the log must fit into a usize");

pub mod codec;
pub mod control;
pub mod disk;
mod error;
mod ids;
pub mod log;
#[doc(hidden)]
pub mod planted;
pub mod record;
pub mod sync;

pub use error::{Error, Result};
pub use ids::{DatabaseId, Epoch, EpochNonce, Lsn, PageId, TreeId, TxnId};
