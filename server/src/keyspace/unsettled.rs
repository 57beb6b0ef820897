//! What a reply rests on (invariant T1): the newest commit of each key, until it is durable.
//!
//! All writes are relaxed commits to the engine, so that every command sees what was done before it;
//! the server itself holds replies back until the log is flushed far enough. A write's reply waits for
//! its commit. A read's reply waits for the newest synchronous commit of the keys it has looked at,
//! found or not, if that is not durable yet; all other reads wait for nothing.
//!
//! A table of fixed size, by hash of the key: two keys of one slot make a read wait that need not, for
//! one flush; no read ever misses a wait. Who writes stores under the key's lock, before it is released;
//! who reads looks under the same lock.

use std::sync::atomic::{AtomicU64, Ordering};

use seawall::Lsn;

const SLOTS: usize = 1 << 16;

/// Newest synchronous commit of every slot.
#[derive(Debug)]
pub(crate) struct Unsettled {
    slots: Box<[AtomicU64]>,
    /// Of whole databases.
    all: AtomicU64,
}

impl Unsettled {
    pub(crate) fn new() -> Self {
        Self { slots: (0..SLOTS).map(|_| AtomicU64::new(0)).collect(), all: AtomicU64::new(0) }
    }

    fn slot(&self, hash: u64) -> &AtomicU64 {
        let index = (hash >> 32) % SLOTS as u64;
        &self.slots[usize::try_from(index).expect("below the number of slots")]
    }

    /// Notes a commit of a key.
    pub(crate) fn note(&self, hash: u64, lsn: Lsn) {
        self.slot(hash).fetch_max(lsn.get(), Ordering::Relaxed);
    }

    /// Notes a commit that every read rests on.
    pub(crate) fn note_all(&self, lsn: Lsn) {
        self.all.fetch_max(lsn.get(), Ordering::Relaxed);
    }

    /// The commit that a look at the key rests on.
    pub(crate) fn newest(&self, hash: u64) -> Lsn {
        let slot = self.slot(hash).load(Ordering::Relaxed);
        Lsn::new(slot.max(self.all.load(Ordering::Relaxed)))
    }
}
