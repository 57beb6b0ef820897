//! The name of a key across all trees, in an order that keeps a tree's keys together.

use seawall_wal::TreeId;
use smallvec::SmallVec;

/// Bytes of the tree id in front of the key; big-endian, so that keys sort by tree first.
const TREE_BYTES: usize = 8;
/// Shorter keys, as most are, need no memory of their own.
const INLINE_BYTES: usize = 48;

/// Tree and key in one buffer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct VersionKey(SmallVec<[u8; INLINE_BYTES]>);

impl VersionKey {
    pub(crate) fn new(tree: TreeId, key: &[u8]) -> Self {
        let mut bytes = SmallVec::with_capacity(TREE_BYTES + key.len());
        bytes.extend_from_slice(&tree.get().to_be_bytes());
        bytes.extend_from_slice(key);
        Self(bytes)
    }

    /// Tree and key as [`VersionKey::as_bytes`] gave them.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        Self(SmallVec::from_slice(bytes))
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn tree(&self) -> TreeId {
        TreeId::new(u64::from_be_bytes(std::array::from_fn(|i| self.0[i])))
    }

    pub(crate) fn key(&self) -> &[u8] {
        &self.0[TREE_BYTES..]
    }

    /// Makes this the key of another cell of the same tree.
    pub(crate) fn set_key(&mut self, key: &[u8]) {
        self.0.truncate(TREE_BYTES);
        self.0.extend_from_slice(key);
    }
}
