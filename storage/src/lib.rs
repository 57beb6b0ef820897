//! Seawall: an embedded transactional key-value database.
#![deny(unsafe_op_in_unsafe_fn)]
#![cfg_attr(
    loom,
    expect(
        dead_code,
        unused_imports,
        reason = "models drive the parts below the public interface"
    )
)]

#[cfg(not(loom))]
mod backup;
#[doc(hidden)]
pub mod catalogue;
mod checkpoint;
#[cfg(not(loom))]
mod database;
mod durability;
#[cfg(not(loom))]
mod engine;
mod event;
#[doc(hidden)]
pub mod fork;
mod key_range;
mod limits;
#[cfg(not(loom))]
mod open;
mod options;
#[doc(hidden)]
pub mod page;
#[doc(hidden)]
pub mod pagefile;
#[doc(hidden)]
pub mod planted;
#[doc(hidden)]
pub mod pool;
#[cfg(not(loom))]
mod recovery;
mod report;
mod space;
#[cfg(not(loom))]
#[doc(hidden)]
pub mod testing;
mod transaction_options;
mod tree;
mod txn;
mod value;
#[cfg(not(loom))]
mod verify;
mod version;
#[doc(hidden)]
pub mod writeback;

#[cfg(not(loom))]
pub use database::{CommitFuture, Database, Range, Savepoint, Snapshot, Transaction, Tree};
pub use durability::{Durability, Isolation};
pub use event::{Event, RecoveryPhase, StallReason};
pub use key_range::KeyRange;
pub use limits::{MAX_KEY_BYTES, MAX_TREE_NAME_BYTES, MAX_VALUE_BYTES};
pub use options::Options;
pub use report::{
    BackupReport, CheckpointReport, RecoveryReport, Stats, VerifyProgress, VerifyReport,
};
pub use seawall_wal::disk::DiskKind;
pub use seawall_wal::{Error, Lsn, Result};
pub use transaction_options::TransactionOptions;
pub use value::Value;
