//! Which keys may have versions: counters by the hash of a key, so that readers of keys that nobody
//! has written lately look at one word and take no lock.
//!
//! A counter grows before the version can be needed, and shrinks when it is gone: both happen under
//! the mutex of the version's shard. What a reader concludes from a zero:
//!
//! * A writer's push comes before its change of the cell, under the leaf's exclusive latch. A reader
//!   that has latched the leaf behind it, or began to read it behind it, sees the counter grown.
//! * The shrinking store is `Release`. A reader without a latch that loads what it stored, and then
//!   validates the leaf behind an `Acquire` fence, also sees what came before it: a rollback's change
//!   of the leaf makes its validation fail. What was collected behind a commit is visible to all.

use seawall_wal::TreeId;
use seawall_wal::codec::to_usize;
use seawall_wal::sync::atomic::{AtomicU32, Ordering};

use crate::page::Key;

/// Counters; a power of two. Few are not zero while fewer versions are kept than a large transaction
/// has.
const COUNTERS: usize = if cfg!(loom) {
    2
} else if cfg!(seawall_shuttle) {
    64
} else {
    1 << 13
};

/// The hash of a key across all trees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeyHash(u32);

impl KeyHash {
    #[inline]
    pub(crate) fn new(tree: TreeId, key: Key<'_>) -> Self {
        let tree = crc32c::crc32c(&tree.get().to_be_bytes());
        Self(crc32c::crc32c_append(crc32c::crc32c_append(tree, key.prefix), key.suffix))
    }

    /// Of a version key's bytes: the same, in one piece.
    pub(super) fn of_bytes(bytes: &[u8]) -> Self {
        Self(crc32c::crc32c(bytes))
    }

    /// A number below `count`, a power of two.
    pub(super) fn choose(self, count: usize) -> usize {
        to_usize(u64::from(self.0)) & (count - 1)
    }
}

/// The counters.
#[derive(Debug)]
pub(super) struct Filter {
    counters: Box<[AtomicU32]>,
}

impl Filter {
    pub(super) fn new() -> Self {
        Self { counters: (0..COUNTERS).map(|_| AtomicU32::new(0)).collect() }
    }

    /// A version of the key is about to be kept.
    pub(super) fn add(&self, hash: KeyHash) {
        self.counter(hash).fetch_add(1, Ordering::Relaxed);
    }

    /// A version of the key is gone.
    pub(super) fn remove(&self, hash: KeyHash) {
        let before = self.counter(hash).fetch_sub(1, Ordering::Release);
        debug_assert_ne!(before, 0, "a version goes once");
    }

    /// Whether a version of the key may be kept; see the module for what `false` means to whom.
    #[inline]
    pub(super) fn may_have(&self, hash: KeyHash) -> bool {
        self.counter(hash).load(Ordering::Relaxed) != 0
    }

    fn counter(&self, hash: KeyHash) -> &AtomicU32 {
        // Other bits than those that choose the shard.
        &self.counters[to_usize(u64::from(hash.0 >> 8)) & (COUNTERS - 1)]
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_key_hashes_the_same_in_pieces_and_as_a_version_key() {
        let tree = TreeId::new(77);
        let whole = b"some key of a leaf";
        let expected = KeyHash::of_bytes(crate::version::VersionKey::new(tree, whole).as_bytes());
        for cut in 0..=whole.len() {
            let (prefix, suffix) = whole.split_at(cut);
            assert_eq!(KeyHash::new(tree, Key { prefix, suffix }), expected);
        }
    }

    #[test]
    fn a_key_may_have_versions_until_the_last_is_gone() {
        let filter = Filter::new();
        let hash = KeyHash::new(TreeId::new(1), Key::whole(b"key"));
        assert!(!filter.may_have(hash));
        filter.add(hash);
        filter.add(hash);
        filter.remove(hash);
        assert!(filter.may_have(hash));
        filter.remove(hash);
        assert!(!filter.may_have(hash));
    }
}
