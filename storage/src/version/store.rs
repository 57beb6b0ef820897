//! Before-images in memory. The newest version of a key stands in its page; what older readers
//! need stands here, keyed by tree and key, so that splits and evictions never touch it. The head of
//! a key's chain is also its write lock: a head whose writer is active belongs to that writer.
//!
//! Everything about one key happens under the latch of its leaf: a writer pushes its head while it
//! holds the leaf exclusively, and a reader takes cell and version under one shared latch. The shard
//! mutex ranks below latches and nothing is waited for under it (invariant L1).
//!
//! A version is dropped once its writer's commit is at or below the collection horizon, or when its
//! writer has been rolled back and the page shows the before-image again. A key without a chain is
//! therefore visible to everyone as it stands in the page; a ghost without a chain may be purged
//! (invariant T3).

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use seawall_wal::codec::to_u64;
use seawall_wal::record::Cell;
use seawall_wal::sync::Mutex;
use seawall_wal::sync::atomic::{AtomicU64, Ordering};
use seawall_wal::{Lsn, TreeId};

use super::cell::CellBuf;
use crate::txn::{CommitCell, Fate};

/// Shards of the store; a power of two.
const SHARDS: usize = if cfg!(loom) { 1 } else { 64 };
/// Retired entries that a writer looks at after each push: two for one keeps the store from growing.
const COLLECT_PER_PUSH: usize = 2;
/// What an entry takes beside its key and image: map slot, vector, cell, queue entry.
const ENTRY_BYTES: usize = 160;

/// Key of a chain: the tree's id, then the user's key.
type ChainKey = Arc<[u8]>;

#[derive(Debug)]
struct Version {
    writer: Arc<CommitCell>,
    /// Content of the cell before the write; `None` where there was no cell.
    before: Option<CellBuf>,
    /// The write left a ghost behind, or kept capacity: a purge is due once nobody needs it.
    needs_purge: bool,
}

impl Version {
    fn bytes(&self) -> usize {
        self.before.as_ref().map_or(0, |before| before.as_cell().value.len())
    }
}

/// Oldest first.
type Chain = Vec<Version>;

#[derive(Debug, Default)]
struct Shard {
    chains: HashMap<ChainKey, Chain>,
    /// One entry per version, in the order of their pushes.
    retire: VecDeque<(ChainKey, Arc<CommitCell>)>,
    /// Keys whose cells a purge may clean up.
    purge: VecDeque<ChainKey>,
}

/// The version store.
#[derive(Debug)]
pub(crate) struct VersionStore {
    shards: Box<[Mutex<Shard>]>,
    bytes: AtomicU64,
}

/// What a reader sees of a key.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// The cell in the page, or its absence.
    Page,
    /// This content, or none.
    Before(Option<CellBuf>),
}

/// Who wrote a key last, as far as it matters.
#[derive(Debug)]
pub(crate) enum Head {
    /// Nobody whom anyone could conflict with.
    None,
    /// The asking writer itself.
    Own,
    /// A writer that is not done.
    Active(Arc<CommitCell>),
    /// A commit that older readers may not see.
    Committed(Lsn),
}

impl VersionStore {
    pub(crate) fn new() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::new(Shard::default())).collect(),
            bytes: AtomicU64::new(0),
        }
    }

    fn shard(&self, key: &[u8]) -> &Mutex<Shard> {
        let hash = crc32c::crc32c(key);
        let count = u32::try_from(self.shards.len()).expect("a small constant");
        &self.shards[seawall_wal::codec::to_usize(u64::from(hash % count))]
    }

    /// Memory taken, in bytes, estimated.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// What a reader at `read_lsn` sees; `own` is the reading transaction's cell. The caller holds
    /// the leaf's latch.
    pub(crate) fn see(&self, key: &VersionKey, read_lsn: Lsn, own: Option<&CommitCell>) -> Seen {
        let shard = self.shard(&key.0).lock();
        let Some(chain) = shard.chains.get(&key.0[..]) else {
            return Seen::Page;
        };
        let is_seen = |version: &Version| {
            own.is_some_and(|own| std::ptr::eq(own, &*version.writer))
                || version.writer.is_visible_at(read_lsn)
        };
        // The oldest version that the reader does not see holds what it sees.
        let newer = chain.iter().rev().take_while(|version| !is_seen(version)).last();
        newer.map_or(Seen::Page, |version| Seen::Before(version.before.clone()))
    }

    /// Who wrote the key last. The caller holds the leaf's latch where the answer must last.
    pub(crate) fn head(&self, key: &VersionKey, own: Option<&CommitCell>) -> Head {
        let shard = self.shard(&key.0).lock();
        let Some(version) = shard.chains.get(&key.0[..]).and_then(|chain| chain.last()) else {
            return Head::None;
        };
        if own.is_some_and(|own| std::ptr::eq(own, &*version.writer)) {
            return Head::Own;
        }
        match version.writer.fate() {
            Fate::Active => Head::Active(Arc::clone(&version.writer)),
            Fate::Committed(lsn) => Head::Committed(lsn),
            Fate::RolledBack => Head::None,
        }
    }

    /// The newest commit of the key that is kept. It may stand below the head of a writer that is
    /// not done; versions beyond a registered snapshot are not collected.
    pub(crate) fn newest_commit(&self, key: &VersionKey) -> Option<Lsn> {
        let shard = self.shard(&key.0).lock();
        let chain = shard.chains.get(&key.0[..])?;
        chain.iter().rev().find_map(|version| match version.writer.fate() {
            Fate::Committed(lsn) => Some(lsn),
            Fate::Active | Fate::RolledBack => None,
        })
    }

    /// Makes `writer` the head of the key's chain, with the cell's content before its first write.
    /// The caller holds the leaf exclusively and has found no foreign active head.
    pub(crate) fn push(
        &self,
        key: &VersionKey,
        writer: &Arc<CommitCell>,
        before: Option<Cell<'_>>,
        needs_purge: bool,
        horizon: Lsn,
    ) {
        let mut shard = self.shard(&key.0).lock();
        let version =
            Version { writer: Arc::clone(writer), before: before.map(CellBuf::from), needs_purge };
        let bytes = version.bytes() + key.0.len() + ENTRY_BYTES;
        let chain_key = match shard.chains.get_key_value(&key.0[..]) {
            Some((shared, _)) => Arc::clone(shared),
            None => Arc::from(&key.0[..]),
        };
        shard.chains.entry(Arc::clone(&chain_key)).or_default().push(version);
        shard.retire.push_back((chain_key, Arc::clone(writer)));
        self.bytes.fetch_add(to_u64(bytes), Ordering::Relaxed);
        self.collect_in(&mut shard, horizon, COLLECT_PER_PUSH);
    }

    /// Notes that the owner of the head has deleted or shortened the cell.
    pub(crate) fn mark_for_purge(&self, key: &VersionKey) {
        let mut shard = self.shard(&key.0).lock();
        if let Some(version) = shard.chains.get_mut(&key.0[..]).and_then(|chain| chain.last_mut()) {
            version.needs_purge = true;
        }
    }

    /// Drops versions that no reader at or beyond `horizon` needs; looks at no more than
    /// `entries` per shard. Returns how many it dropped.
    pub(crate) fn collect(&self, horizon: Lsn, entries: usize) -> usize {
        let collect = |shard: &Mutex<Shard>| self.collect_in(&mut shard.lock(), horizon, entries);
        self.shards.iter().map(collect).sum()
    }

    fn collect_in(&self, shard: &mut Shard, horizon: Lsn, entries: usize) -> usize {
        let mut dropped = 0;
        for _ in 0..entries.min(shard.retire.len()) {
            let Some((key, writer)) = shard.retire.pop_front() else { break };
            match writer.fate() {
                Fate::Active => shard.retire.push_back((key, writer)),
                Fate::Committed(lsn) if lsn > horizon => {
                    // Commits retire about in order: what follows is hardly older.
                    shard.retire.push_front((key, writer));
                    break;
                }
                Fate::Committed(_) | Fate::RolledBack => {
                    self.drop_version(shard, &key, &writer);
                    dropped += 1;
                }
            }
        }
        dropped
    }

    fn drop_version(&self, shard: &mut Shard, key: &ChainKey, writer: &Arc<CommitCell>) {
        let Some(chain) = shard.chains.get_mut(key) else { return };
        let Some(at) = chain.iter().position(|version| Arc::ptr_eq(&version.writer, writer)) else {
            return;
        };
        let version = chain.remove(at);
        let bytes = version.bytes() + key.len() + ENTRY_BYTES;
        self.bytes.fetch_sub(to_u64(bytes), Ordering::Relaxed);
        if chain.is_empty() {
            shard.chains.remove(key);
            if version.needs_purge {
                shard.purge.push_back(Arc::clone(key));
            }
        } else if let (true, Some(next)) = (version.needs_purge, chain.last_mut()) {
            next.needs_purge = true;
        }
    }

    /// Removes the head of a writer that was rolled back, whose page shows the before-image again.
    pub(crate) fn remove_head(&self, key: &VersionKey, writer: &Arc<CommitCell>) {
        let mut shard = self.shard(&key.0).lock();
        let Some((chain_key, _)) = shard.chains.get_key_value(&key.0[..]) else { return };
        let chain_key = Arc::clone(chain_key);
        self.drop_version(&mut shard, &chain_key, writer);
    }

    /// Whether any version of the key is left: if not, its ghost may be purged. The caller holds
    /// the leaf's latch.
    pub(crate) fn is_needed(&self, key: &VersionKey) -> bool {
        self.shard(&key.0).lock().chains.contains_key(&key.0[..])
    }

    /// Takes up to `most` keys whose cells are due for a purge.
    pub(crate) fn take_purgeable(&self, most: usize) -> Vec<VersionKey> {
        let mut taken = Vec::new();
        for shard in &self.shards {
            let mut shard = shard.lock();
            let count = shard.purge.len().min(most - taken.len());
            taken.extend(shard.purge.drain(..count).map(|key| VersionKey(key.to_vec())));
            if taken.len() == most {
                break;
            }
        }
        taken
    }
}

/// Tree and key in one buffer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct VersionKey(Vec<u8>);

/// Bytes of the tree id in front of the key; big-endian, so that keys sort by tree first.
const TREE_BYTES: usize = 8;

impl VersionKey {
    pub(crate) fn new(tree: TreeId, key: &[u8]) -> Self {
        let mut bytes = Vec::with_capacity(TREE_BYTES + key.len());
        bytes.extend_from_slice(&tree.get().to_be_bytes());
        bytes.extend_from_slice(key);
        Self(bytes)
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

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    const TREE: TreeId = TreeId::new(3);

    fn value(cell: &Seen) -> Option<&[u8]> {
        match cell {
            Seen::Before(Some(cell)) => Some(cell.as_cell().value),
            _ => None,
        }
    }

    fn store_with_two_versions() -> (VersionStore, VersionKey, Arc<CommitCell>) {
        let store = VersionStore::new();
        let key = VersionKey::new(TREE, b"k");
        let (first, second) = (Arc::new(CommitCell::new()), Arc::new(CommitCell::new()));
        store.push(&key, &first, None, false, Lsn::NONE);
        first.commit(Lsn::new(100));
        store.push(&key, &second, Some(Cell::inline(b"old")), false, Lsn::NONE);
        (store, key, second)
    }

    #[test]
    fn each_reader_sees_the_newest_version_at_or_below_its_position() {
        let (store, key, second) = store_with_two_versions();
        assert_eq!(store.see(&key, Lsn::new(99), None), Seen::Before(None));
        assert_eq!(value(&store.see(&key, Lsn::new(100), None)), Some(&b"old"[..]));
        assert_eq!(store.see(&key, Lsn::new(100), Some(&second)), Seen::Page);
        second.commit(Lsn::new(200));
        assert_eq!(value(&store.see(&key, Lsn::new(199), None)), Some(&b"old"[..]));
        assert_eq!(store.see(&key, Lsn::new(200), None), Seen::Page);
    }

    #[test]
    fn versions_go_when_the_horizon_passes_their_commit_and_not_before() {
        let (store, key, second) = store_with_two_versions();
        second.commit(Lsn::new(200));
        assert_eq!(store.collect(Lsn::new(99), 10), 0);
        assert_eq!(store.collect(Lsn::new(100), 10), 1);
        assert_eq!(value(&store.see(&key, Lsn::new(150), None)), Some(&b"old"[..]));
        assert!(store.is_needed(&key));
        assert_eq!(store.collect(Lsn::new(200), 10), 1);
        assert!(!store.is_needed(&key));
        assert_eq!(store.bytes(), 0);
    }

    #[test]
    fn a_purge_falls_due_when_the_last_version_of_a_deleted_key_goes() {
        let (store, key, second) = store_with_two_versions();
        store.mark_for_purge(&key);
        second.commit(Lsn::new(200));
        assert_eq!(store.collect(Lsn::new(150), 10), 1);
        assert_eq!(store.take_purgeable(10), []);
        assert_eq!(store.collect(Lsn::new(200), 10), 1);
        let due = store.take_purgeable(10);
        assert_eq!(due, [key]);
        assert_eq!((due[0].tree(), due[0].key()), (TREE, &b"k"[..]));
    }

    #[test]
    fn a_commit_is_found_below_an_open_write() {
        let (store, key, second) = store_with_two_versions();
        assert_eq!(store.newest_commit(&key), Some(Lsn::new(100)));
        second.commit(Lsn::new(200));
        assert_eq!(store.newest_commit(&key), Some(Lsn::new(200)));
        assert_eq!(store.newest_commit(&VersionKey::new(TREE, b"other")), None);
    }

    #[test]
    fn removing_a_rolled_back_head_uncovers_the_version_below() {
        let (store, key, second) = store_with_two_versions();
        store.remove_head(&key, &second);
        second.roll_back();
        assert_eq!(store.see(&key, Lsn::new(100), None), Seen::Page);
        assert_eq!(store.see(&key, Lsn::new(99), None), Seen::Before(None));
        assert!(matches!(store.head(&key, None), Head::Committed(lsn) if lsn == Lsn::new(100)));
    }
}
