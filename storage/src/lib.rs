//! Seawall: an embedded transactional key-value database.
//!
//! ```
//! # fn main() -> seawall::Result<()> {
//! # let parent = tempfile::tempdir().expect("a directory");
//! # let dir = parent.path().join("db");
//! let database = seawall::Database::open(dir)?;
//! let accounts = database.tree("accounts")?;
//!
//! // A write that commits by itself is durable when it returns.
//! accounts.insert("alice", "100")?;
//!
//! // A transaction takes place whole or not at all, and is run again when it conflicts.
//! database.transact(|transaction| {
//!     transaction.insert(&accounts, "alice", "70")?;
//!     transaction.insert(&accounts, "bob", "30")
//! })?;
//!
//! // A snapshot sees one moment.
//! let snapshot = database.snapshot()?;
//! assert_eq!(snapshot.len(&accounts)?, 2);
//! database.close()
//! # }
//! ```
//!
//! * [`Database`] opens a directory and hands out trees, snapshots and transactions.
//! * [`Tree`] is an ordered map from keys to values; its writes commit by themselves.
//! * [`Transaction`] is serializable unless asked otherwise ([`Isolation`]); many may write at
//!   once.
//! * [`Snapshot`] and [`Range`] read while writers run.
//! * [`Durability`] says when a commit returns; [`CommitFuture`] is one that has not returned yet, to be
//!   awaited, or waited for with [`CommitFuture::wait`].
//! * [`Options`] bounds memory, the log's space and the time that recovery may take.
//!
//! A reader never sees a synchronous commit before it is durable. A relaxed commit
//! ([`Durability::Relaxed`]) is seen at once, and is among the last, which a crash can take back.
//! Handles may be used from any thread. A call that fails says by its [`Error`] what may be done;
//! after [`Error::Poisoned`] the database has to be opened again.
//!
//! # Errors of every call
//!
//! What a call does decides which of these it can give; the methods name what they add.
//!
//! | a call that | gives | when |
//! |---|---|---|
//! | does anything | [`Error::Closed`] | the database was closed, or this process is a forked child of the one that opened it |
//! | names a key, a value or a tree | [`Error::InvalidArgument`] | it is beyond its limits, or the tree is of another database |
//! | uses a tree | [`Error::NotFound`] | the tree was dropped |
//! | reads | [`Error::Corrupt`] | bytes on disk are not what was written |
//! | | [`Error::Io`] | the system refuses a file operation |
//! | | [`Error::NoSpace`], [`Error::Poisoned`] | a page has to leave the cache for the one that is read, and none can |
//! | reads one moment: in a [`Snapshot`], a [`Range`] or a [`Transaction`], or a large value | [`Error::SnapshotTooOld`] | the versions of that moment had to be dropped to bound memory |
//! | uses a [`Transaction`] that has written | [`Error::TransactionTooOld`] | the database had to end it, because it held back a full log |
//! | begins to write in a [`Transaction`] | [`Error::Conflict`] | [`MAX_WRITING_TRANSACTIONS`] others have written and not ended; run it again |
//! | writes | [`Error::ReadOnly`] | the database is open for reading only |
//! | | [`Error::NoSpace`] | the disk is full; nothing was lost, and the call may be repeated |
//! | | [`Error::Poisoned`] | an earlier failure forbids writing until the database is opened again |
//! | | those of reading | writing reads |
//! | waits for a commit, its own or one that its answer rests on | [`Error::CommitUnknown`] | the flush of the log failed |
//!
//! A closure of [`Database::transact_with`] may fail with any error that is made from an [`Error`]; where the
//! compiler cannot tell which, write `transact_with::<_, seawall::Error>(..)`.
//!
//! # Features
//!
//! | feature | what it adds |
//! |---|---|
//! | `io-uring` (default) | batches of reads and writes go through io_uring, on Linux, where it is allowed; without it, and elsewhere, through positional system calls |
//! | `serde` | `Serialize` for reports and [`Stats`] |
//! | `tracing` | events and spans, see below |
//!
//! Rust 1.95 or newer; Unix of 64 bits. The folder `examples` beside this crate's sources has a program for each
//! way of use.
//!
//! # Threads
//!
//! Threads of the database: the log's flusher, the page cleaner, the collector; one for each rollback
//! of a transaction that was ended because it held back a full log; and during recovery those of redo.
//! It prints nothing; [`Options::on_event`] tells what happens, and with the feature `tracing` so do
//! events and spans of the crate of that name, under the target `seawall`.
#![deny(unsafe_op_in_unsafe_fn)]
#![deny(unsafe_code)]
#![cfg_attr(
    loom,
    expect(
        dead_code,
        unused_imports,
        reason = "models drive the parts below the public interface"
    )
)]

mod armed;
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
#[expect(unsafe_code, reason = "a page that is wiped on fork; the module says why it is sound")]
pub mod fork;
mod key_range;
mod limits;
#[cfg(not(loom))]
#[doc(hidden)]
pub mod lock;
#[doc(hidden)]
pub mod names;
#[cfg(not(loom))]
mod open;
mod options;
#[doc(hidden)]
pub mod page;
#[doc(hidden)]
pub mod pagefile;
#[doc(hidden)]
pub mod pool;
#[cfg(not(loom))]
#[doc(hidden)]
pub mod recovery;
mod report;
#[cfg(not(loom))]
#[doc(hidden)]
pub mod salvage;
mod source;
mod space;
#[cfg(not(loom))]
mod spill;
mod sync_gate;
#[cfg(not(loom))]
#[doc(hidden)]
pub mod testing;
mod trace;
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
pub use limits::{MAX_KEY_BYTES, MAX_TREE_NAME_BYTES, MAX_VALUE_BYTES, MAX_WRITING_TRANSACTIONS};
pub use options::Options;
pub use report::{
    BackupReport, CheckpointReport, RecoveryReport, Stats, VerifyProgress, VerifyReport,
};
pub use seawall_wal::disk::DiskKind;
#[doc(hidden)]
pub use seawall_wal::planted;
pub use seawall_wal::{Error, Lsn, Result};
pub use transaction_options::TransactionOptions;
pub use value::Value;
