//! Before-images in memory. The newest version of a key stands in its page; what older readers
//! need stands here, keyed by tree and key, so that splits and evictions never touch it. The head of
//! a key's chain is also its write lock: a head whose writer is active belongs to that writer.
//!
//! Everything about one key happens under the latch of its leaf: a writer pushes its head while it
//! holds the leaf exclusively, and a reader takes cell and version under one shared latch, or under
//! one version of the leaf that it validates afterwards. The shard mutex ranks below latches and
//! nothing is waited for under it (invariant L1). Of most keys a reader knows without it that there
//! are no versions (`filter`).
//!
//! A version is dropped once its writer's commit is at or below the collection horizon, or when its
//! writer has been rolled back and the page shows the before-image again. A key without a chain is
//! therefore visible to everyone as it stands in the page; a ghost without a chain may be purged
//! (invariant T3).

use std::collections::VecDeque;
use std::sync::Arc;
use std::{iter, mem};

use hashbrown::HashMap;
use hashbrown::hash_map::EntryRef;
use seawall_wal::Lsn;
use seawall_wal::codec::to_u64;
use seawall_wal::record::{Cell, Stamp};
use seawall_wal::sync::Mutex;
use seawall_wal::sync::atomic::{AtomicU64, Ordering};

use super::cell::CellBuf;
use super::filter::{Filter, KeyHash};
use super::key::VersionKey;
use crate::txn::{CommitCell, Fate};

/// Shards of the store; a power of two.
const SHARDS: usize = if cfg!(loom) { 1 } else { 64 };
/// Retired entries that a writer looks at after each push: two for one keeps the store from growing.
const COLLECT_PER_PUSH: usize = 2;
/// What a version takes beside its key and image: map slot, vector, cell, queue entry.
pub(crate) const VERSION_BYTES: usize = 160;

/// Key of a chain: the tree's id, then the user's key.
type ChainKey = Arc<[u8]>;

#[derive(Clone, Debug)]
struct Version {
    writer: Arc<CommitCell>,
    /// Content of the cell before the write; `None` where there was no cell.
    before: Option<CellBuf>,
    /// The write left a ghost behind, or kept capacity: a purge is due once nobody needs it.
    needs_purge: bool,
}

impl Version {
    fn is_seen(&self, reader: &Reader<'_>) -> bool {
        reader.own.is_some_and(|own| std::ptr::eq(own, &*self.writer))
            || self.writer.is_visible_at(reader.read_lsn)
    }

    fn bytes(&self) -> usize {
        self.before.as_ref().map_or(0, |before| before.as_cell().value.len())
    }
}

/// The versions of a key. Of most keys that are written there is one at a time, which stands where the
/// chain does; those of a hot key come and go at both ends.
#[derive(Debug)]
struct Chain {
    newest: Version,
    /// Oldest first.
    older: VecDeque<Version>,
}

impl Chain {
    const fn new(version: Version) -> Self {
        Self { newest: version, older: VecDeque::new() }
    }

    fn push(&mut self, version: Version) {
        self.older.push_back(mem::replace(&mut self.newest, version));
    }

    fn newest_first(&self) -> impl Iterator<Item = &Version> + Clone {
        iter::once(&self.newest).chain(self.older.iter().rev())
    }

    /// Takes the version of a writer out. `Err` where it is the only one; the chain is to go then.
    fn take(&mut self, writer: &Arc<CommitCell>) -> Result<Option<Version>, ()> {
        let is_of_writer = |version: &Version| Arc::ptr_eq(&version.writer, writer);
        if is_of_writer(&self.newest) {
            let before = self.older.pop_back().ok_or(())?;
            return Ok(Some(mem::replace(&mut self.newest, before)));
        }
        // Mostly it is the first of them.
        let at = self.older.iter().position(is_of_writer);
        Ok(at.and_then(|at| self.older.remove(at)))
    }
}

#[derive(Debug, Default)]
struct Shard {
    chains: HashMap<ChainKey, Chain>,
    /// One entry per version, in the order of their pushes.
    retire: VecDeque<(ChainKey, Arc<CommitCell>)>,
    /// Of these, about so many whose version has been rolled back, and is gone.
    rolled_back: usize,
    /// Keys whose cells a purge may clean up.
    purge: VecDeque<ChainKey>,
}

/// The version store.
#[derive(Debug)]
pub(crate) struct VersionStore {
    shards: Box<[Mutex<Shard>]>,
    /// Counts every version that a chain has.
    filter: Filter,
    bytes: AtomicU64,
}

/// What a reader sees of a key.
#[derive(Debug)]
pub(crate) enum Seen {
    /// The cell that the search began with, or its absence.
    Page,
    /// This content, or none.
    Before(Option<CellBuf>),
    /// What the transaction that stamped this content found, and behind that these versions.
    Stamped(Stamp, Older),
}

/// Versions of a key that are older than a state of its cell, the newest first.
#[derive(Debug)]
pub(crate) struct Older(Vec<Version>);

impl Older {
    /// What a reader sees who begins with a state of the cell that bears no stamp.
    pub(crate) fn see(&self, reader: &Reader<'_>, sees: impl Fn(&Stamp) -> bool) -> Seen {
        see(self.0.iter(), reader, sees)
    }
}

/// Who looks for a version.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a> {
    /// Commits at or below are seen.
    pub(crate) read_lsn: Lsn,
    /// The reading transaction, whose own writes are seen.
    pub(crate) own: Option<&'a CommitCell>,
}

/// Goes back from a state without a stamp: to the oldest version that the reader does not see, whose
/// before-image is what he sees, or to one that replaced a stamped cell. The newest version comes first.
fn see<'v>(
    mut versions: impl Iterator<Item = &'v Version>,
    reader: &Reader<'_>,
    sees: impl Fn(&Stamp) -> bool,
) -> Seen {
    let mut found = None;
    while let Some(version) = versions.next() {
        if version.is_seen(reader) {
            break;
        }
        let stamp = version.before.as_ref().and_then(|before| before.as_cell().stamp);
        if let Some(stamp) = stamp.filter(|stamp| !sees(stamp)) {
            return Seen::Stamped(stamp, Older(versions.cloned().collect()));
        }
        found = Some(version);
        if stamp.is_some() {
            break;
        }
    }
    found.map_or(Seen::Page, |version| Seen::Before(version.before.clone()))
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
            filter: Filter::new(),
            bytes: AtomicU64::new(0),
        }
    }

    fn shard(&self, key: &[u8]) -> &Mutex<Shard> {
        &self.shards[KeyHash::of_bytes(key).choose(self.shards.len())]
    }

    /// Whether a key may have versions. `false` says that it has none, to one who holds the leaf's
    /// latch, or validates the leaf afterwards: then the cell is what everybody sees.
    #[inline]
    pub(crate) fn may_have(&self, hash: KeyHash) -> bool {
        self.filter.may_have(hash)
    }

    /// Memory taken, in bytes, estimated.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether no key has versions; holds for the keys of a leaf under its latch.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes() == 0
    }

    /// What a reader sees who finds a cell without a stamp in the page, or none. `sees` answers for
    /// the stamps of replaced cells. The caller holds the leaf's latch.
    pub(crate) fn see(
        &self,
        key: &VersionKey,
        reader: &Reader<'_>,
        sees: impl Fn(&Stamp) -> bool,
    ) -> Seen {
        let shard = self.shard(key.as_bytes()).lock();
        let chain = shard.chains.get(key.as_bytes());
        chain.map_or(Seen::Page, |chain| see(chain.newest_first(), reader, sees))
    }

    /// Every version of the key. The caller holds the leaf's latch.
    pub(crate) fn older(&self, key: &VersionKey) -> Older {
        let shard = self.shard(key.as_bytes()).lock();
        let chain = shard.chains.get(key.as_bytes());
        Older(chain.into_iter().flat_map(Chain::newest_first).cloned().collect())
    }

    /// Who wrote the key last. The caller holds the leaf's latch where the answer must last.
    pub(crate) fn head(&self, key: &VersionKey, own: Option<&CommitCell>) -> Head {
        let hash = KeyHash::of_bytes(key.as_bytes());
        if !self.filter.may_have(hash) {
            return Head::None;
        }
        let shard = self.shards[hash.choose(self.shards.len())].lock();
        let Some(Chain { newest: version, .. }) = shard.chains.get(key.as_bytes()) else {
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
    /// not done; versions beyond a registered snapshot are not collected. `commit_of` tells which
    /// commit left a cell that was replaced as it was, where a stamp says so.
    pub(crate) fn newest_commit(
        &self,
        key: &VersionKey,
        commit_of: impl Fn(&Cell<'_>) -> Option<Lsn>,
    ) -> Option<Lsn> {
        let shard = self.shard(key.as_bytes()).lock();
        let chain = shard.chains.get(key.as_bytes())?;
        // Commits ascend in a chain.
        chain.newest_first().find_map(|version| match version.writer.fate() {
            Fate::Committed(lsn) => Some(lsn),
            Fate::Active | Fate::RolledBack => {
                version.before.as_ref().and_then(|before| commit_of(&before.as_cell()))
            }
        })
    }

    /// Makes `writer` the head of the key's chain, with the cell's content before its first write.
    /// What was due to be purged there is so again when nobody needs this version: a purge that comes
    /// by meanwhile finds the key in use. The caller holds the leaf exclusively and has found no foreign
    /// active head.
    pub(crate) fn push(
        &self,
        key: &VersionKey,
        writer: &Arc<CommitCell>,
        before: Option<Cell<'_>>,
        needs_purge: bool,
        horizon: Lsn,
    ) {
        let hash = KeyHash::of_bytes(key.as_bytes());
        let mut shard = self.shards[hash.choose(self.shards.len())].lock();
        self.filter.add(hash);
        let was_due = before.is_some_and(|cell| cell.is_ghost || cell.capacity_bytes > 0);
        let version = Version {
            writer: Arc::clone(writer),
            before: before.map(CellBuf::from),
            needs_purge: needs_purge || was_due,
        };
        let bytes = version.bytes() + key.as_bytes().len() + VERSION_BYTES;
        let chain_key = match shard.chains.entry_ref(key.as_bytes()) {
            EntryRef::Occupied(mut chain) => {
                chain.get_mut().push(version);
                Arc::clone(chain.key())
            }
            EntryRef::Vacant(place) => {
                let chain = Chain::new(version);
                let place = place.insert_entry_with_key(Arc::from(key.as_bytes()), chain);
                Arc::clone(place.key())
            }
        };
        shard.retire.push_back((chain_key, Arc::clone(writer)));
        self.bytes.fetch_add(to_u64(bytes), Ordering::Relaxed);
        self.collect_in(&mut shard, horizon, COLLECT_PER_PUSH);
    }

    /// Notes that the owner of the head has deleted or shortened the cell.
    pub(crate) fn mark_for_purge(&self, key: &VersionKey) {
        let mut shard = self.shard(key.as_bytes()).lock();
        if let Some(chain) = shard.chains.get_mut(key.as_bytes()) {
            chain.newest.needs_purge = true;
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
        let version = match chain.take(writer) {
            Ok(None) => return,
            Ok(Some(version)) => {
                chain.newest.needs_purge |= version.needs_purge;
                version
            }
            Err(()) => {
                let chain = shard.chains.remove(key).expect("found above");
                if chain.newest.needs_purge {
                    shard.purge.push_back(Arc::clone(key));
                }
                chain.newest
            }
        };
        self.filter.remove(KeyHash::of_bytes(key));
        let bytes = version.bytes() + key.len() + VERSION_BYTES;
        self.bytes.fetch_sub(to_u64(bytes), Ordering::Relaxed);
    }

    /// Removes the head of a writer that was rolled back, whose page shows the before-image again.
    pub(crate) fn remove_head(&self, key: &VersionKey, writer: &Arc<CommitCell>) {
        let mut shard = self.shard(key.as_bytes()).lock();
        let Some((chain_key, _)) = shard.chains.get_key_value(key.as_bytes()) else { return };
        let chain_key = Arc::clone(chain_key);
        self.drop_version(&mut shard, &chain_key, writer);
        // Its entry in the queue may stand behind a commit that a reader keeps there for long. That
        // this one is rolled back will be known when it is next looked at.
        shard.rolled_back += 1;
        if 2 * shard.rolled_back > shard.retire.len() {
            shard.retire.retain(|(_, writer)| writer.fate() != Fate::RolledBack);
            shard.rolled_back = 0;
        }
    }

    /// Whether any version of the key is left: if not, its ghost may be purged. The caller holds
    /// the leaf's latch.
    pub(crate) fn is_needed(&self, key: &VersionKey) -> bool {
        self.shard(key.as_bytes()).lock().chains.contains_key(key.as_bytes())
    }

    /// Takes up to `most` keys whose cells are due for a purge.
    pub(crate) fn take_purgeable(&self, most: usize) -> Vec<VersionKey> {
        let mut taken = Vec::new();
        for shard in &self.shards {
            let mut shard = shard.lock();
            let count = shard.purge.len().min(most - taken.len());
            taken.extend(shard.purge.drain(..count).map(|key| VersionKey::from_bytes(&key)));
            if taken.len() == most {
                break;
            }
        }
        taken
    }

    /// Has keys that were taken be taken again.
    pub(crate) fn put_back_purgeable(&self, keys: impl Iterator<Item = VersionKey>) {
        for key in keys {
            self.shard(key.as_bytes()).lock().purge.push_back(key.as_bytes().into());
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use seawall_wal::TreeId;

    const TREE: TreeId = TreeId::new(3);

    const fn reader(read_lsn: u64) -> Reader<'static> {
        Reader { read_lsn: Lsn::new(read_lsn), own: None }
    }

    /// What a reader sees of a key under which no stamped cell was replaced.
    fn see<'a>(store: &VersionStore, key: &VersionKey, reader: &Reader<'a>) -> Option<Vec<u8>> {
        match store.see(key, reader, |_| unreachable!("there is no stamp")) {
            Seen::Page => Some(b"in the page".to_vec()),
            Seen::Before(before) => before.map(|cell| cell.as_cell().value.to_vec()),
            Seen::Stamped(..) => unreachable!("there is no stamp"),
        }
    }

    const PAGE: Option<&[u8]> = Some(b"in the page");

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
        assert_eq!(see(&store, &key, &reader(99)), None);
        assert_eq!(see(&store, &key, &reader(100)).as_deref(), Some(&b"old"[..]));
        let own = Reader { own: Some(&second), ..reader(100) };
        assert_eq!(see(&store, &key, &own).as_deref(), PAGE);
        second.commit(Lsn::new(200));
        assert_eq!(see(&store, &key, &reader(199)).as_deref(), Some(&b"old"[..]));
        assert_eq!(see(&store, &key, &reader(200)).as_deref(), PAGE);
    }

    #[test]
    fn what_was_rolled_back_behind_a_kept_commit_leaves_nothing() {
        let store = VersionStore::new();
        let key = |number: u32| VersionKey::new(TREE, &number.to_be_bytes());
        let queued = || -> usize { store.shards.iter().map(|s| s.lock().retire.len()).sum() };
        // A reader at 50 keeps one commit or more at the front of each shard's queue.
        for number in 0..1000 {
            let writer = Arc::new(CommitCell::new());
            store.push(&key(number), &writer, None, false, Lsn::NONE);
            writer.commit(Lsn::new(100));
        }
        for number in 1000..21_000 {
            let writer = Arc::new(CommitCell::new());
            store.push(&key(number), &writer, None, false, Lsn::new(50));
            store.remove_head(&key(number), &writer);
            writer.roll_back();
        }
        assert!(queued() < 4000, "{} entries of 1000 versions", queued());
        assert!(store.collect(Lsn::MAX, usize::MAX) >= 1000);
        assert!(store.is_empty() && queued() == 0);
    }

    #[test]
    fn a_purge_that_came_while_a_ghost_was_written_over_is_due_again_when_that_is_undone() {
        let store = VersionStore::new();
        let key = VersionKey::new(TREE, b"k");
        let writer = Arc::new(CommitCell::new());
        store.push(&key, &writer, Some(Cell::GHOST), false, Lsn::NONE);
        assert!(store.take_purgeable(1).is_empty() && store.is_needed(&key));
        store.remove_head(&key, &writer);
        assert_eq!(store.take_purgeable(1), [key]);
    }

    #[test]
    fn versions_leave_a_chain_at_both_ends_and_from_within() {
        let store = VersionStore::new();
        let key = VersionKey::new(TREE, b"k");
        let writers: Vec<_> = (0..5_u8).map(|_| Arc::new(CommitCell::new())).collect();
        for (number, writer) in (0_u8..).zip(&writers) {
            store.push(&key, writer, Some(Cell::inline(&[number])), false, Lsn::NONE);
        }
        let seen = || see(&store, &key, &reader(0)).unwrap();
        let mut shard = store.shard(key.as_bytes()).lock();
        let chain_key = Arc::clone(shard.chains.get_key_value(key.as_bytes()).unwrap().0);
        let mut left = vec![0_u8, 1, 2, 3, 4];
        for gone in [2_u8, 0, 4, 1, 3] {
            store.drop_version(&mut shard, &chain_key, &writers[usize::from(gone)]);
            left.retain(|number| *number != gone);
            let chain = shard.chains.get(key.as_bytes());
            let values = chain.into_iter().flat_map(Chain::newest_first);
            let values: Vec<_> =
                values.map(|v| v.before.as_ref().unwrap().as_cell().value[0]).collect();
            assert!(values.iter().rev().eq(&left), "{values:?}");
        }
        drop(shard);
        assert_eq!(seen(), b"in the page");
        assert!(store.is_empty());
    }

    #[test]
    fn the_way_back_stops_at_a_stamp_that_the_reader_does_not_see() {
        let store = VersionStore::new();
        let key = VersionKey::new(TREE, b"k");
        let (first, second) = (Arc::new(CommitCell::new()), Arc::new(CommitCell::new()));
        store.push(&key, &first, None, false, Lsn::NONE);
        first.commit(Lsn::new(100));
        let stamp = Stamp { txn: seawall_wal::TxnId::new(9), undo_lsn: Lsn::new(150) };
        let stamped = Cell { stamp: Some(stamp), ..Cell::inline(b"bulk") };
        store.push(&key, &second, Some(stamped), false, Lsn::NONE);
        let Seen::Before(Some(before)) = store.see(&key, &reader(300), |_| true) else { panic!() };
        assert_eq!(before.as_cell(), stamped);
        let Seen::Stamped(found, older) = store.see(&key, &reader(120), |_| false) else {
            panic!()
        };
        assert_eq!(found, stamp);
        // Behind the stamp the state is what `first` wrote.
        assert!(matches!(older.see(&reader(120), |_| false), Seen::Page));
        assert!(matches!(older.see(&reader(99), |_| false), Seen::Before(None)));
        let commit_of = |cell: &Cell<'_>| cell.stamp.map(|_| Lsn::new(180));
        assert_eq!(store.newest_commit(&key, commit_of), Some(Lsn::new(180)));
    }

    #[test]
    fn versions_go_when_the_horizon_passes_their_commit_and_not_before() {
        let (store, key, second) = store_with_two_versions();
        second.commit(Lsn::new(200));
        assert_eq!(store.collect(Lsn::new(99), 10), 0);
        assert_eq!(store.collect(Lsn::new(100), 10), 1);
        assert_eq!(see(&store, &key, &reader(150)).as_deref(), Some(&b"old"[..]));
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
        // Asked of every cell below an open write; none of these bears a stamp.
        let newest = |key| store.newest_commit(key, |_| None);
        assert_eq!(newest(&key), Some(Lsn::new(100)));
        second.commit(Lsn::new(200));
        assert_eq!(newest(&key), Some(Lsn::new(200)));
        assert_eq!(newest(&VersionKey::new(TREE, b"other")), None);
    }

    #[test]
    fn removing_a_rolled_back_head_uncovers_the_version_below() {
        let (store, key, second) = store_with_two_versions();
        store.remove_head(&key, &second);
        second.roll_back();
        assert_eq!(see(&store, &key, &reader(100)).as_deref(), PAGE);
        assert_eq!(see(&store, &key, &reader(99)), None);
        assert!(matches!(store.head(&key, None), Head::Committed(lsn) if lsn == Lsn::new(100)));
    }
}
