//! Inserts that a unit keeps before it writes them, in a database that is larger than its cache. They
//! ask for nothing that is in the tree, so they can wait for one another: sorted, the leaves that they
//! belong to are read side by side, where one by one each would be waited for.
//!
//! What must hold: whatever else the unit does comes behind them. So its reads and removals, its
//! savepoints, its changes of the catalogue and its commit write them first ([`Engine::flush_inserts`]).
//! What cannot be written is kept, and tried again by whatever comes next: a unit never commits without
//! it. A rollback forgets it.

use std::sync::Arc;

use seawall_wal::Result;
use seawall_wal::codec::to_u64;
use seawall_wal::sync::atomic::{AtomicUsize, Ordering};

use super::Unit;
use crate::catalogue::TreeInfo;
use crate::engine::{Decision, Engine};
use crate::pool::Pin;

/// Inserts in a row that are written at once, before more of them are kept: who inserts a few keys is
/// told of a conflict by the call that meets it.
const WRITTEN_AT_ONCE: usize = 16;
/// Memory from which on they are written.
const KEPT_BYTES_MAX: usize = 1 << 20;
/// Leaves that are read side by side, at most.
const FETCHED_MAX: usize = 32;
/// Of the pool's frames, one in this many may be pinned for that by one transaction,
const FETCHED_SHARE: usize = 16;
/// and one in this many by all: whoever has some and waits for more finds others to be free.
const FETCHED_BY_ALL_SHARE: usize = 4;

/// Inserts that are kept.
#[derive(Debug, Default)]
pub(super) struct Inserts {
    /// Since anything else was done.
    in_a_row: usize,
    kept: Vec<Insert>,
    /// Their keys and values.
    bytes: Vec<u8>,
}

#[derive(Debug)]
struct Insert {
    tree: Arc<TreeInfo>,
    start: usize,
    key_len: usize,
    value_len: usize,
}

impl Insert {
    fn key<'b>(&self, bytes: &'b [u8]) -> &'b [u8] {
        &bytes[self.start..][..self.key_len]
    }

    fn value<'b>(&self, bytes: &'b [u8]) -> &'b [u8] {
        &bytes[self.start + self.key_len..][..self.value_len]
    }
}

impl Inserts {
    pub(super) const fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    const fn memory_bytes(&self) -> usize {
        self.bytes.len() + self.kept.len() * size_of::<Insert>()
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    fn keep(&mut self, tree: &Arc<TreeInfo>, key: &[u8], value: &[u8]) {
        let (key_len, value_len) = (key.len(), value.len());
        let (tree, start) = (Arc::clone(tree), self.bytes.len());
        self.kept.push(Insert { tree, start, key_len, value_len });
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
    }

    /// Puts them in the order of trees and keys, with the last one of each key alone.
    fn sort(&mut self) {
        let bytes = &self.bytes;
        // Equal keys by age, the newest first; it is the one that stays.
        self.kept.sort_unstable_by(|a, b| {
            let of_keys = || a.key(bytes).cmp(b.key(bytes));
            a.tree.id.cmp(&b.tree.id).then_with(of_keys).then(b.start.cmp(&a.start))
        });
        self.kept.dedup_by(|later, kept| {
            later.tree.id == kept.tree.id && later.key(bytes) == kept.key(bytes)
        });
    }
}

impl Engine {
    /// Puts an inline value under a key, now or later.
    pub(crate) fn unit_insert(
        &self,
        unit: &mut Unit,
        tree: &Arc<TreeInfo>,
        key: &[u8],
        value: &[u8],
    ) -> Result<()> {
        let is_kept = unit.inserts.in_a_row >= WRITTEN_AT_ONCE && !self.fits_pool();
        if !is_kept && !unit.keeps_inserts() {
            unit.inserts.in_a_row += 1;
            return self.put(unit, tree, key, value);
        }
        // Before this one is kept: where they cannot be written it is refused, and memory stays bounded.
        if unit.inserts.memory_bytes() >= KEPT_BYTES_MAX {
            let in_a_row = unit.inserts.in_a_row;
            self.flush_inserts(unit)?;
            unit.inserts.in_a_row = in_a_row;
        }
        // Held from now on, so that the tree is there when they are written.
        self.share_with(unit, tree)?;
        unit.inserts.keep(tree, key, value);
        Ok(())
    }

    fn put(&self, unit: &mut Unit, tree: &Arc<TreeInfo>, key: &[u8], value: &[u8]) -> Result<()> {
        self.unit_write(unit, tree, key, value.len(), |_| Decision::Put(value)).map(drop)
    }

    /// Writes the inserts that are kept. To be called before the unit does anything else.
    ///
    /// # Errors
    /// Those of writing. What was not written is still kept.
    pub(crate) fn flush_inserts(&self, unit: &mut Unit) -> Result<()> {
        unit.inserts.in_a_row = 0;
        if unit.inserts.is_empty() {
            return Ok(());
        }
        let mut inserts = std::mem::take(&mut unit.inserts);
        inserts.sort();
        let mut written = 0;
        let done = self.write_sorted(unit, &inserts, &mut written);
        inserts.kept.drain(..written);
        if inserts.is_empty() {
            inserts.bytes.clear();
        }
        unit.inserts = inserts;
        done
    }

    fn write_sorted(&self, unit: &mut Unit, inserts: &Inserts, written: &mut usize) -> Result<()> {
        let bytes = &inserts.bytes;
        let at_a_time = FETCHED_MAX.min(self.pool.frames() / FETCHED_SHARE).max(1);
        for some in inserts.kept.chunks(at_a_time) {
            // While others have all of it, the leaves are read one by one.
            let room = self.fetch_room(some.len());
            let _pins = room.as_ref().map(|_| self.fetch_leaves(some, bytes));
            for insert in some {
                self.put(unit, &insert.tree, insert.key(bytes), insert.value(bytes))?;
                *written += 1;
            }
        }
        Ok(())
    }

    /// Leave to pin so many pages.
    fn fetch_room(&self, pins: usize) -> Option<FetchRoom<'_>> {
        let most = self.pool.frames() / FETCHED_BY_ALL_SHARE;
        let with_these = |pinned: usize| (pinned + pins <= most).then_some(pinned + pins);
        let (set, fetch) = (Ordering::Relaxed, Ordering::Relaxed);
        let taken = self.fetched_pins.fetch_update(set, fetch, with_these);
        taken.ok().map(|_| FetchRoom { pinned: &self.fetched_pins, pins })
    }

    /// Whether every page has a frame: then nothing has to be read more than once.
    fn fits_pool(&self) -> bool {
        self.file.pages() <= to_u64(self.pool.frames())
    }

    /// Reads the leaves of these inserts that are not in the pool. What goes wrong is told to the one
    /// who writes.
    fn fetch_leaves(&self, inserts: &[Insert], bytes: &[u8]) -> Vec<Pin<'_>> {
        if inserts.len() == 1 {
            return Vec::new();
        }
        let absent = |insert: &Insert| {
            self.descent(&insert.tree).absent_leaf(insert.key(bytes)).ok().flatten()
        };
        let mut pages: Vec<_> = inserts.iter().filter_map(absent).collect();
        pages.dedup();
        self.pool.load_many(&pages).unwrap_or_default()
    }
}

/// A part of what all transactions may pin.
#[derive(Debug)]
struct FetchRoom<'e> {
    pinned: &'e AtomicUsize,
    pins: usize,
}

impl Drop for FetchRoom<'_> {
    fn drop(&mut self) {
        self.pinned.fetch_sub(self.pins, Ordering::Relaxed);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use seawall_wal::disk::SimDisk;

    use super::*;
    use crate::{Database, Error, Isolation, Options, Transaction, TransactionOptions, Tree};

    /// A database that is larger than its cache.
    fn open() -> Result<(Database, Tree)> {
        let options = Options::new().disk_injected(Arc::new(SimDisk::new())).unchecked_limits();
        let options = options.manual_background(true).page_bytes(4096).cache_bytes(512 << 10);
        let database = options.open("/db")?;
        let ballast = database.tree("ballast")?;
        for number in 0..200_u8 {
            ballast.insert([number], [number; 900])?;
        }
        assert!(!database.shared_core().engine.fits_pool());
        let tree = database.tree("t")?;
        Ok((database, tree))
    }

    /// A transaction with so many inserts that the next ones are kept.
    fn that_keeps(database: &Database, tree: &Tree) -> Result<Transaction> {
        let isolation = TransactionOptions::new().isolation(Isolation::Snapshot);
        let mut transaction = database.begin_with(isolation)?;
        for number in 0..WRITTEN_AT_ONCE {
            transaction.insert(tree, format!("at once {number}"), "")?;
        }
        Ok(transaction)
    }

    /// A transaction that has written a key, and one that keeps an insert of it, among others.
    fn in_conflict(database: &Database, tree: &Tree) -> Result<(Transaction, Transaction)> {
        let mut first = database.begin()?;
        first.insert(tree, "m", "first")?;
        let mut second = that_keeps(database, tree)?;
        for key in ["a", "m", "z"] {
            second.insert(tree, key, "second")?;
        }
        Ok((first, second))
    }

    #[test]
    fn what_cannot_be_written_takes_no_more_memory_than_its_bound() -> Result<()> {
        let (database, tree) = open()?;
        let (first, mut second) = in_conflict(&database, &tree)?;
        let mut refused = 0;
        for number in 0..4000_u32 {
            match second.insert(&tree, format!("m{number}"), [7; 500]) {
                Ok(()) => assert_eq!(refused, 0, "{number} is kept beyond the bound"),
                Err(error) => refused += u32::from(error.is_conflict()),
            }
        }
        assert!(refused > 1000, "{refused}");
        first.rollback()?;
        second.commit()?;
        let kept = u64::from(4000 - refused) + 3 + to_u64(WRITTEN_AT_ONCE);
        assert_eq!(tree.len()?, kept, "those that were refused were not made");
        Ok(())
    }

    #[test]
    fn removing_a_range_behind_a_kept_insert_that_conflicts_is_that_conflict() -> Result<()> {
        let (database, tree) = open()?;
        let (first, mut second) = in_conflict(&database, &tree)?;
        assert!(second.remove_range(&tree, ..).is_err_and(|error| error.is_conflict()));
        drop(first);
        Ok(())
    }

    #[test]
    fn all_transactions_together_pin_a_part_of_the_pool() -> Result<()> {
        let (database, _) = open()?;
        let engine = &database.shared_core().engine;
        let most = engine.pool.frames() / FETCHED_BY_ALL_SHARE;
        let first = engine.fetch_room(most - 1);
        assert!(first.is_some() && engine.fetch_room(2).is_none());
        let second = engine.fetch_room(1);
        assert!(second.is_some() && engine.fetch_room(1).is_none());
        drop(first);
        assert!(engine.fetch_room(most).is_none() && engine.fetch_room(most - 1).is_some());
        Ok(())
    }

    #[test]
    fn of_inserts_of_a_key_the_last_one_counts() -> Result<()> {
        let (database, tree) = open()?;
        let mut transaction = that_keeps(&database, &tree)?;
        for number in 0..5_u8 {
            transaction.insert(&tree, "key", [number])?;
            transaction.insert(&tree, [number], "other")?;
        }
        transaction.commit()?;
        assert_eq!(tree.get("key")?.as_deref(), Some(&[4][..]));
        assert_eq!(tree.len()?, 6 + u64::try_from(WRITTEN_AT_ONCE).expect("a few"));
        Ok(())
    }

    #[test]
    fn a_conflict_of_a_kept_insert_is_told_and_told_again_and_nothing_is_committed() -> Result<()> {
        let (database, tree) = open()?;
        let (first, second) = in_conflict(&database, &tree)?;
        assert!(second.get(&tree, "a").is_err_and(|error| error.is_conflict()));
        assert!(second.range(&tree, ..).is_err_and(|error| error.is_conflict()));
        assert!(second.commit().is_err_and(|error| error.is_conflict()));
        assert_eq!(tree.len()?, 0);
        first.commit()?;
        assert_eq!(tree.len()?, 1);
        Ok(())
    }

    #[test]
    fn what_could_not_be_written_is_written_once_nothing_stands_in_its_way() -> Result<()> {
        let (database, tree) = open()?;
        let (first, mut second) = in_conflict(&database, &tree)?;
        assert!(second.get(&tree, "z").is_err_and(|error| error.is_conflict()));
        let savepoint = second.savepoint();
        assert!(matches!(second.rollback_to(&savepoint), Err(Error::InvalidArgument(_))));
        first.rollback()?;
        assert_eq!(second.get(&tree, "z")?.as_deref(), Some(&b"second"[..]));
        second.commit()?;
        assert_eq!(tree.get("m")?.as_deref(), Some(&b"second"[..]));
        Ok(())
    }

    #[test]
    fn a_tree_with_kept_inserts_is_not_dropped_by_others() -> Result<()> {
        let (database, tree) = open()?;
        let other = database.tree("other")?;
        let mut transaction = that_keeps(&database, &tree)?;
        transaction.insert(&other, "key", "kept")?;
        assert!(database.begin()?.drop_tree("other").is_err_and(|error| error.is_conflict()));
        transaction.commit()?;
        assert_eq!(other.len()?, 1);
        Ok(())
    }

    #[derive(Clone, Debug)]
    enum Action {
        Inserts(Vec<(u8, u8)>),
        Remove(u8),
        Get(u8),
        Range(u8, u8),
        Savepoint,
        RollBackTo,
        Reopen(bool),
    }

    fn actions() -> impl Strategy<Value = Vec<Action>> {
        let inserts = proptest::collection::vec((any::<u8>(), any::<u8>()), 0..60);
        let action = prop_oneof![
            4 => inserts.prop_map(Action::Inserts),
            1 => any::<u8>().prop_map(Action::Remove),
            1 => any::<u8>().prop_map(Action::Get),
            1 => any::<(u8, u8)>().prop_map(|(from, to)| Action::Range(from, to)),
            1 => Just(Action::Savepoint),
            1 => Just(Action::RollBackTo),
            1 => any::<bool>().prop_map(Action::Reopen),
        ];
        proptest::collection::vec(action, 1..20)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, cases: 64, ..ProptestConfig::default() })]

        /// Whatever lies between them, inserts are seen and taken back as if each were written at once.
        #[test]
        fn transactions_with_kept_inserts_are_those_of_a_map(actions in actions()) {
            let (database, tree) = open().unwrap();
            let mut committed = BTreeMap::new();
            let mut now = committed.clone();
            let mut saved = None;
            let mut open = database.begin().unwrap();
            for action in actions {
                match action {
                    Action::Inserts(pairs) => for (key, value) in pairs {
                        open.insert(&tree, [key], [value; 40]).unwrap();
                        now.insert(vec![key], vec![value; 40]);
                    },
                    Action::Remove(key) => {
                        let was_there = now.remove(&vec![key]).is_some();
                        prop_assert_eq!(open.remove(&tree, [key]).unwrap(), was_there);
                    }
                    Action::Get(key) => {
                        let found = open.get(&tree, [key]).unwrap().map(|value| value.into_vec());
                        prop_assert_eq!(found.as_ref(), now.get(&vec![key]));
                    }
                    Action::Range(from, to) => {
                        let (from, to) = (vec![from.min(to)], vec![from.max(to)]);
                        let found = open.range(&tree, &from[..]..&to[..]).unwrap();
                        let found: Vec<_> = found.map(|pair| {
                            let (key, value) = pair.unwrap();
                            (key.into_vec(), value.into_vec())
                        }).collect();
                        let expected: Vec<_> = now.range(from..to)
                            .map(|(key, value)| (key.clone(), value.clone())).collect();
                        prop_assert_eq!(found, expected);
                    }
                    Action::Savepoint => saved = Some((open.savepoint(), now.clone())),
                    Action::RollBackTo => if let Some((savepoint, then)) = &saved {
                        open.rollback_to(savepoint).unwrap();
                        now = then.clone();
                    },
                    Action::Reopen(is_commit) => {
                        if is_commit {
                            open.commit().unwrap();
                            committed = now;
                        } else {
                            open.rollback().unwrap();
                        }
                        (open, now, saved) = (database.begin().unwrap(), committed.clone(), None);
                    }
                }
            }
            open.commit().unwrap();
            let all: BTreeMap<_, _> = tree.range(..).unwrap().map(|pair| {
                let (key, value) = pair.unwrap();
                (key.into_vec(), value.into_vec())
            }).collect();
            prop_assert_eq!(&all, &now);
            prop_assert_eq!(tree.len().unwrap(), u64::try_from(now.len()).unwrap());
        }
    }
}
