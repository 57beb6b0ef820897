//! Damaged pages that work in the background meets. Bad bytes are errors and no poison (invariant L2):
//! what the work had to do with the page is left, and everything else goes on.
//!
//! | what | is left how |
//! |---|---|
//! | a leaf whose garbage is due | as it is: nobody misses garbage; a sweep goes on behind it |
//! | a sparse page, or its neighbour | unmerged |
//! | an extent whose bitmap page is damaged | pending, so that checkpoints still list it: the next open tries again |
//! | a dropped tree | as far as it is taken apart; its row says `dropping`: the next open tries again |

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use seawall_wal::Error;
use seawall_wal::sync::Mutex;

use super::Engine;
use crate::Event;

/// Pages that are told of.
const TOLD_MAX: usize = 64;

/// The damage that was told of: file, and offset in it.
#[derive(Debug, Default)]
pub(super) struct DamageTold(Mutex<BTreeSet<(PathBuf, u64)>>);

impl DamageTold {
    /// Whether this is to be told.
    fn is_new(&self, file: &Path, offset: u64) -> bool {
        let mut told = self.0.lock();
        told.len() < TOLD_MAX && told.insert((file.to_path_buf(), offset))
    }
}

impl Engine {
    /// Tells of damage that work in the background has met, and of each page once. Says whether the
    /// error is damage; any other is for the caller. Not to be called under a latch.
    pub(super) fn tell_damage(&self, error: &Error) -> bool {
        let Error::Corrupt { file, offset, .. } = error else { return false };
        self.tell_once(file, *offset, error);
        true
    }

    /// Tells of a file that can be done without and cannot be written, once.
    pub(crate) fn tell_unwritable(&self, error: &Error) {
        match error {
            Error::Io { path, .. } => self.tell_once(path, 0, error),
            other => drop(self.tell_damage(other)),
        }
    }

    fn tell_once(&self, file: &Path, offset: u64, error: &Error) {
        if self.damage_told.is_new(file, offset) {
            self.hooks.emit(&Event::Damaged { error: error.clone() });
        }
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use std::path::Path;
    use std::sync::{Arc, Mutex, mpsc};

    use seawall_wal::codec::to_u64;
    use seawall_wal::disk::SimDisk;
    use seawall_wal::disk::sim::{EIO, Fault, FaultEffect, OperationKind};
    use seawall_wal::{Error, TreeId};

    use super::{DamageTold, TOLD_MAX};
    use crate::Durability::Relaxed;
    use crate::page::{LeafView, PageRead};
    use crate::pool::SharedPage;
    use crate::tree::Seek;
    use crate::version::KeySpan;
    use crate::{Database, Event, Options, Result};

    /// Where a page begins in the page file.
    type Offset = u64;

    /// A pool so small that a scan leaves nothing of what was there. Gives the places of the damage
    /// that is told.
    fn open(disk: &SimDisk) -> Result<(Database, mpsc::Receiver<Offset>)> {
        let (sender, told) = mpsc::channel();
        let sender = Mutex::new(sender);
        let tell = move |event: &Event| {
            if let Event::Damaged { error: Error::Corrupt { file, offset, .. } } = event {
                assert!(file.ends_with("pages"), "{event}");
                // Nobody listens any more once the test is over.
                let _is_heard = sender.lock().unwrap().send(*offset);
            }
        };
        let options = Options::new().disk_injected(Arc::new(disk.clone())).manual_background(true);
        let options = options.unchecked_limits().page_bytes(4096).cache_bytes(256 << 10);
        Ok((options.on_event(tell).open("/db")?, told))
    }

    fn key(i: u32) -> [u8; 4] {
        i.to_be_bytes()
    }

    fn leaf_of(database: &Database, key: &[u8]) -> Result<Offset> {
        let engine = &database.shared_core().engine;
        let tree = engine.trees.get(TreeId::new(1)).expect("the first one that was made");
        let leaf: SharedPage<'_> = engine.descent(&tree).leaf(Seek::Key(key))?;
        Ok(engine.file.offset(leaf.id()))
    }

    /// Writes everything, forgets it, and flips a bit of the page at `offset`.
    fn damage(disk: &SimDisk, database: &Database, offset: Offset) -> Result<()> {
        database.checkpoint()?;
        assert!(database.tree("filler")?.range(..)?.count() > 0);
        disk.flip_bit(Path::new("/db/pages"), offset + 100, 0);
        Ok(())
    }

    /// A database with a tree to be damaged, and one to fill the pool with.
    fn filled(disk: &SimDisk) -> Result<(Database, mpsc::Receiver<Offset>)> {
        let (database, told) = open(disk)?;
        for name in ["t", "filler"] {
            let tree = database.tree(name)?;
            for i in 0..2000 {
                tree.insert_with(key(i), [b'v'; 100], Relaxed)?;
            }
        }
        Ok((database, told))
    }

    fn check_goes_on(database: &Database) -> Result<()> {
        while database.shared_core().collect_step()? {}
        database.tree("filler")?.insert("after", "not poisoned")?;
        assert!(!database.verify(|_| {})?.findings.is_empty(), "and verification tells");
        Ok(())
    }

    #[test]
    fn a_damaged_leaf_of_a_live_tree_keeps_its_garbage_and_poisons_nothing() -> Result<()> {
        let disk = SimDisk::new();
        let (database, told) = filled(&disk)?;
        let tree = database.tree("t")?;
        let reader = database.snapshot()?;
        reader.contains_key(&tree, key(0))?;
        for i in (0..2000).step_by(2) {
            tree.remove_with(key(i), Relaxed)?;
        }
        let offset = leaf_of(&database, &key(1))?;
        damage(&disk, &database, offset)?;
        drop(reader);
        check_goes_on(&database)?;
        assert_eq!(told.try_iter().collect::<Vec<_>>(), [offset], "once");
        let read = tree.get(key(1));
        assert!(
            matches!(&read, Err(Error::Corrupt { offset: it, .. }) if *it == offset),
            "{read:?}"
        );
        assert_eq!(tree.get(key(1999))?.as_deref(), Some(&[b'v'; 100][..]));
        let due = database.shared_core().engine.versions.take_purgeable(1);
        assert!(due.is_empty(), "all other leaves are purged, and this one is not tried for ever");
        database.close()
    }

    #[test]
    fn a_page_that_cannot_be_read_for_a_while_is_collected_later() -> Result<()> {
        let disk = SimDisk::new();
        let (database, _told) = filled(&disk)?;
        let tree = database.tree("t")?;
        let reader = database.snapshot()?;
        reader.contains_key(&tree, key(0))?;
        for i in (0..2000).step_by(2) {
            tree.remove_with(key(i), Relaxed)?;
        }
        database.checkpoint()?;
        assert!(database.tree("filler")?.range(..)?.count() > 0);
        let of_pages = |path: &Path| path == Path::new("/db/pages");
        let fault = Fault::new(FaultEffect::Errno(EIO)).kind(OperationKind::Read);
        disk.add_fault(fault.path(of_pages).lasting());
        drop(reader);
        while database.shared_core().collect_step()? {}
        disk.clear_faults();
        database.tree("filler")?.insert("after", "not poisoned")?;
        database.checkpoint()?;
        while database.shared_core().collect_step()? {}
        let due = database.shared_core().engine.versions.take_purgeable(1);
        assert!(due.is_empty(), "everything is purged");
        assert!(database.verify(|_| {})?.findings.is_empty());
        database.close()
    }

    #[test]
    fn a_sweep_goes_on_behind_a_damaged_leaf() -> Result<()> {
        let disk = SimDisk::new();
        let (database, told) = filled(&disk)?;
        let tree = database.tree("t")?;
        let engine = &database.shared_core().engine;
        let info = engine.trees.get(TreeId::new(1)).expect("made first");
        for i in (0..2000).step_by(2) {
            tree.remove_with(key(i), Relaxed)?;
        }
        // Nobody needs the versions, and the sweep alone tells where the ghosts are.
        let horizon = engine.refresh_horizon();
        while engine.versions.collect(horizon, usize::MAX) > 0 {}
        drop(engine.versions.take_purgeable(usize::MAX));
        let (offset, last) = (leaf_of(&database, &key(1000))?, leaf_of(&database, &key(1998))?);
        damage(&disk, &database, offset)?;
        let span = KeySpan { low: key(0).into(), high: key(1998).into(), needs_purge: true };
        engine.sweep_all([(info.id, span)]);
        check_goes_on(&database)?;
        assert_eq!(told.try_iter().collect::<Vec<_>>(), [offset]);
        let leaf: SharedPage<'_> = engine.descent(&info).leaf(Seek::Key(&key(1998)))?;
        assert_eq!(engine.file.offset(leaf.id()), last);
        let leaf = LeafView::new(leaf.bytes());
        assert!(leaf.get(&key(1998)[..]).is_none(), "the ghost is gone");
        Ok(())
    }

    #[test]
    fn what_a_damaged_bitmap_page_covers_stays_pending() -> Result<()> {
        let disk = SimDisk::new();
        let (database, told) = filled(&disk)?;
        let tree = database.tree("t")?;
        tree.insert("large", vec![b'l'; 20_000])?;
        let reader = database.snapshot()?;
        reader.contains_key(&tree, "large")?;
        tree.remove("large")?;
        let engine = &database.shared_core().engine;
        let pending = engine.space.pending().committed();
        let bitmap = engine.file.offset(engine.space.bitmap_of(pending[0].extent.first));
        damage(&disk, &database, bitmap)?;
        drop(reader);
        check_goes_on(&database)?;
        assert_eq!(told.try_iter().collect::<Vec<_>>(), [bitmap]);
        assert_eq!(engine.space.pending().committed(), pending);
        drop(tree);
        database.close()?;
        disk.flip_bit(Path::new("/db/pages"), bitmap + 100, 0);
        let (database, _) = open(&disk)?;
        while database.shared_core().collect_step()? {}
        assert_eq!(database.shared_core().engine.space.pending().committed(), []);
        assert!(database.verify(|_| {})?.findings.is_empty());
        Ok(())
    }

    #[test]
    fn damage_is_told_once_for_each_page_up_to_a_bound() {
        let told = DamageTold::default();
        let pages = 0..to_u64(TOLD_MAX);
        assert!(pages.clone().all(|page| told.is_new(Path::new("pages"), page)));
        assert!(!pages.clone().any(|page| told.is_new(Path::new("pages"), page)));
        assert!(!told.is_new(Path::new("pages"), pages.end), "these are enough");
    }
}
