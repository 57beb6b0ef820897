//! Locks for read-modify-writes of engines that are used without transactions of their own: cheaper for
//! them than their optimistic transactions, and what an application would do.

use parking_lot::{Mutex, MutexGuard};

/// More than threads by far.
const STRIPES: usize = 1024;

pub(crate) struct KeyLocks(Vec<Mutex<()>>);

impl KeyLocks {
    pub(crate) fn new() -> Self {
        Self((0..STRIPES).map(|_| Mutex::new(())).collect())
    }

    /// Locks a key, and others with it. Keys are random bytes.
    pub(crate) fn lock(&self, key: &[u8]) -> MutexGuard<'_, ()> {
        let stripe = usize::from(key[0]) << 8 | usize::from(key[1]);
        self.0[stripe % STRIPES].lock()
    }
}
