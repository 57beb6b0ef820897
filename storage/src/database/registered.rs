//! A reader that keeps the versions it sees from being collected, from its making to its drop (T3).

use std::sync::Arc;

use seawall_wal::{Lsn, Result};

use crate::catalogue::TreeInfo;
use crate::engine::{Engine, Found, ReadAt, View};
use crate::txn::{CommitCell, SnapshotSlot};

/// A registered reader; dropping it ends the registration.
#[derive(Debug)]
pub(super) struct Registered {
    pub(super) engine: Arc<Engine>,
    slot: Option<SnapshotSlot>,
    pub(super) read_lsn: Lsn,
    low_lsn: Lsn,
}

impl Registered {
    /// A reader of what is visible now.
    pub(super) fn new(engine: &Arc<Engine>) -> Self {
        let (slot, read_lsn, low_lsn) = engine.register(|| engine.log.visible_lsn());
        Self { engine: Arc::clone(engine), slot: Some(slot), read_lsn, low_lsn }
    }

    /// The position, with the writes of `own`.
    pub(super) fn at<'a>(&'a self, own: Option<&'a CommitCell>) -> ReadAt<'a> {
        let revoked = self.slot.as_ref().map(|slot| &**slot.revoked());
        ReadAt { read_lsn: self.read_lsn, low_lsn: self.low_lsn, own, revoked }
    }

    /// Puts the value of `key` into `out`, whatever it takes. Returns whether there is one.
    pub(super) fn get_into(&self, tree: &TreeInfo, key: &[u8], out: &mut Vec<u8>) -> Result<bool> {
        let at = self.at(None);
        let found = self.engine.lookup(tree, key, View::At(at), out)?;
        let is_there = resolve(&self.engine, found, out);
        self.engine.check_read(tree, View::At(at))?;
        is_there
    }
}

/// Replaces a link in `out` by its value. Returns whether there is a value.
pub(super) fn resolve(engine: &Engine, found: Option<Found>, out: &mut Vec<u8>) -> Result<bool> {
    match found {
        None => Ok(false),
        Some(Found::Inline) => Ok(true),
        Some(Found::Overflow) => {
            *out = engine.read_overflow(out)?;
            Ok(true)
        }
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            self.engine.snapshots.release(slot);
        }
    }
}
