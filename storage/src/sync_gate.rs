//! One durable write of a file at a time, and none after one has failed (W2).
//!
//! Of two threads that sync a file the kernel tells one what could not be written, and calls the other's
//! sync a success: with a page cache always, and without one where what a drive had cached is gone. Whoever
//! syncs next must not believe that its own writes are there.

use std::io;

use seawall_wal::sync::Mutex;

/// Where the syncs of a file pass.
#[derive(Debug)]
pub(crate) struct SyncGate {
    has_failed: Mutex<bool>,
}

impl SyncGate {
    pub(crate) fn new() -> Self {
        Self { has_failed: Mutex::new(false) }
    }

    /// Makes writes durable by `sync`, unless an earlier one has failed.
    pub(crate) fn pass(&self, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let mut has_failed = self.has_failed.lock();
        if *has_failed {
            return Err(io::Error::other("an earlier sync of this file failed"));
        }
        sync().inspect_err(|_| *has_failed = true)
    }
}
