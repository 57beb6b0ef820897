//! The databases as they were at one moment: what a connection sees that holds a snapshot.
//!
//! It is taken while nobody changes what databases are (SWAPDB, FLUSHDB, EXEC wait), so the spaces are
//! those of the snapshot's position. Time stands still in it: a key that was there is there, however
//! long the view lives, and so every look gives the same.
//!
//! It keeps old versions in memory, never the log. Where they fill their share the engine revokes it,
//! and every look through it fails.

use std::sync::Arc;

use seawall::{Lsn, Snapshot};

use super::{Keyspace, Space};

/// One moment of all databases.
#[derive(Debug)]
pub(crate) struct View {
    pub(super) snapshot: Snapshot,
    spaces: Vec<Arc<Space>>,
    pub(super) now_ms: u64,
}

impl View {
    /// The moment of the call. The caller holds the gate, shared at least.
    pub(crate) fn new(keyspace: &Keyspace, now_ms: u64) -> seawall::Result<Self> {
        let snapshot = keyspace.engine.snapshot()?;
        Ok(Self { snapshot, spaces: keyspace.spaces.read().clone(), now_ms })
    }

    /// Commits at or below are seen.
    pub(crate) fn lsn(&self) -> Lsn {
        self.snapshot.lsn()
    }

    pub(super) fn space(&self, database: usize) -> Arc<Space> {
        Arc::clone(&self.spaces[database])
    }
}
