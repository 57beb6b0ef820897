//! Hashing of page ids: neighbours go to different shards, and a seed replays, since nothing here is
//! random. Page ids are given out by the engine, so nobody can aim at a bucket.

use std::hash::{BuildHasherDefault, Hasher};

use seawall_wal::PageId;

/// For maps keyed by page id.
pub(super) type ByPageId = BuildHasherDefault<PageIdHasher>;

/// Hash of one number; see the module.
#[derive(Debug, Default)]
pub(super) struct PageIdHasher {
    hash: u64,
}

impl Hasher for PageIdHasher {
    fn finish(&self) -> u64 {
        self.hash
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.hash = mix(self.hash ^ value);
    }
}

/// A number to choose a shard by. Uses other bits than the map inside the shard.
#[must_use]
pub(super) fn spread(page: PageId) -> u64 {
    mix(page.get()) >> 40
}

/// Multiplication by the golden ratio (Knuth), folded so that high bits reach the low ones.
const fn mix(value: u64) -> u64 {
    let product = value.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    product ^ product >> 32
}
