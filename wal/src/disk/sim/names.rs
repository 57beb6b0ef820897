//! Directory entries: those the program sees, those on the medium, and the changes between.
//!
//! What a crash may leave is what a journalling file system may: of the changes in one directory a
//! prefix, in their order. A change that touches two directories (a rename from one to the other)
//! survives whole or not at all, and is in both orders. Syncing a directory makes all its changes
//! durable, with the earlier ones of other directories that they hang on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// Number of a file without its name.
pub(super) type InodeId = u64;

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Directory,
    File(InodeId),
}

/// Names and what they stand for.
pub(super) type Entries = BTreeMap<Arc<Path>, Entry>;

/// A change of names.
#[derive(Clone, Debug)]
enum NameChange {
    Link { path: Arc<Path>, entry: Entry },
    Unlink { path: Arc<Path> },
    Rename { from: Arc<Path>, to: Arc<Path> },
}

impl NameChange {
    fn apply(&self, entries: &mut Entries) {
        match self {
            Self::Link { path, entry } => {
                entries.insert(Arc::clone(path), *entry);
            }
            Self::Unlink { path } => {
                entries.remove(path);
            }
            Self::Rename { from, to } => {
                if let Some(entry) = entries.remove(from) {
                    entries.insert(Arc::clone(to), entry);
                }
            }
        }
    }

    /// The directories whose entries it changes.
    fn directories(&self) -> impl Iterator<Item = &Path> {
        let (first, second) = match self {
            Self::Link { path, .. } | Self::Unlink { path } => (path, None),
            Self::Rename { from, to } => (from, Some(to)),
        };
        [Some(first), second].into_iter().flatten().filter_map(|path| path.parent())
    }

    fn file(&self) -> Option<InodeId> {
        match self {
            Self::Link { entry: Entry::File(inode), .. } => Some(*inode),
            _ => None,
        }
    }
}

/// All directory entries of a disk.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    current: Entries,
    durable: Entries,
    pending: Vec<NameChange>,
}

/// A path as the disk keeps it: no trailing slash, no `.` inside.
pub(super) fn normal(path: &Path) -> PathBuf {
    path.components().filter(|part| *part != Component::CurDir).collect()
}

/// Whether a path is there without an entry.
fn is_root(path: &Path) -> bool {
    path.parent().is_none()
}

impl Names {
    /// Names that are all durable.
    pub(super) fn settled(entries: Entries) -> Self {
        Self { durable: entries.clone(), current: entries, pending: Vec::new() }
    }

    /// What the program sees.
    pub(super) fn current(&self) -> &Entries {
        &self.current
    }

    pub(super) fn file(&self, path: &Path) -> Option<InodeId> {
        match self.current.get(path) {
            Some(Entry::File(inode)) => Some(*inode),
            Some(Entry::Directory) | None => None,
        }
    }

    pub(super) fn is_directory(&self, path: &Path) -> bool {
        is_root(path) || self.current.get(path) == Some(&Entry::Directory)
    }

    /// Changes of names that are not synced.
    pub(super) fn pending(&self) -> usize {
        self.pending.len()
    }

    pub(super) fn link(&mut self, path: &Path, entry: Entry) {
        self.change(NameChange::Link { path: path.into(), entry });
    }

    pub(super) fn unlink(&mut self, path: &Path) {
        self.change(NameChange::Unlink { path: path.into() });
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) {
        self.change(NameChange::Rename { from: from.into(), to: to.into() });
    }

    fn change(&mut self, change: NameChange) {
        change.apply(&mut self.current);
        self.pending.push(change);
    }

    /// Puts a name into the durable entries as well, past the order of changes.
    pub(super) fn settle(&mut self, path: &Path, entry: Entry) {
        self.current.insert(path.into(), entry);
        self.durable.insert(path.into(), entry);
    }

    /// Makes the changes of one directory durable.
    pub(super) fn sync(&mut self, directory: &Path) {
        let mut synced = BTreeSet::from([directory.to_path_buf()]);
        let mut is_synced = vec![false; self.pending.len()];
        for (is_synced, change) in is_synced.iter_mut().zip(&self.pending).rev() {
            if change.directories().any(|touched| synced.contains(touched)) {
                *is_synced = true;
                synced.extend(change.directories().map(Path::to_path_buf));
            }
        }
        let mut is_synced = is_synced.into_iter();
        let durable = &mut self.durable;
        self.pending.retain(|change| {
            let is_synced = is_synced.next().is_some_and(|is_synced| is_synced);
            if is_synced {
                change.apply(durable);
            }
            !is_synced
        });
    }

    /// What a crash leaves, where `survives` decides over each change that the order allows.
    pub(super) fn after_crash(&self, mut survives: impl FnMut() -> bool) -> Entries {
        let mut entries = self.durable.clone();
        let mut cut = BTreeSet::new();
        for change in &self.pending {
            if change.directories().any(|touched| cut.contains(touched)) || !survives() {
                cut.extend(change.directories());
            } else {
                change.apply(&mut entries);
            }
        }
        // What lay in a directory that is gone is out of reach.
        let reachable = |path: &Path| {
            let mut above = path.ancestors().skip(1);
            above.all(|above| is_root(above) || entries.get(above) == Some(&Entry::Directory))
        };
        let gone: Vec<_> = entries.keys().filter(|path| !reachable(path)).cloned().collect();
        for path in gone {
            entries.remove(&path);
        }
        entries
    }

    /// Files that some crash may leave under a name.
    pub(super) fn reachable_files(&self) -> BTreeSet<InodeId> {
        let named = self.current.values().chain(self.durable.values());
        let named = named.filter_map(|entry| match entry {
            Entry::File(inode) => Some(*inode),
            Entry::Directory => None,
        });
        named.chain(self.pending.iter().filter_map(NameChange::file)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Entry, Names, normal};

    fn listed(entries: &super::Entries) -> Vec<&str> {
        entries.keys().filter_map(|path| path.to_str()).collect()
    }

    fn two_directories() -> Names {
        let mut names = Names::default();
        names.settle(Path::new("/a"), Entry::Directory);
        names.settle(Path::new("/b"), Entry::Directory);
        names
    }

    #[test]
    fn a_prefix_of_each_directory_survives() {
        let mut names = two_directories();
        names.link(Path::new("/a/1"), Entry::File(1));
        names.link(Path::new("/b/1"), Entry::File(2));
        names.link(Path::new("/a/2"), Entry::File(3));
        names.link(Path::new("/b/2"), Entry::File(4));
        let mut verdicts = [false, true, true].into_iter();
        let left = names.after_crash(|| verdicts.next().unwrap());
        assert_eq!(listed(&left), ["/a", "/b", "/b/1", "/b/2"]);
    }

    #[test]
    fn rename_between_directories_needs_both_orders() {
        let mut names = two_directories();
        names.link(Path::new("/b/lost"), Entry::File(1));
        names.settle(Path::new("/a/1"), Entry::File(2));
        names.rename(Path::new("/a/1"), Path::new("/b/1"));
        names.link(Path::new("/a/2"), Entry::File(3));
        let mut verdicts = [false].into_iter();
        let left = names.after_crash(|| verdicts.next().unwrap());
        assert_eq!(listed(&left), ["/a", "/a/1", "/b"]);
    }

    #[test]
    fn sync_takes_along_what_it_hangs_on() {
        let mut names = two_directories();
        names.link(Path::new("/a/1"), Entry::File(1));
        names.rename(Path::new("/a/1"), Path::new("/b/1"));
        names.link(Path::new("/a/2"), Entry::File(2));
        names.sync(Path::new("/b"));
        assert_eq!(names.pending(), 1);
        assert_eq!(listed(&names.after_crash(|| false)), ["/a", "/b", "/b/1"]);
    }

    #[test]
    fn contents_of_a_lost_directory_are_lost() {
        let mut names = Names::default();
        names.link(Path::new("/new"), Entry::Directory);
        names.link(Path::new("/new/file"), Entry::File(1));
        names.sync(Path::new("/new"));
        assert!(names.after_crash(|| false).is_empty());
        assert_eq!(listed(&names.after_crash(|| true)), ["/new", "/new/file"]);
    }

    #[test]
    fn paths_are_compared_without_decoration() {
        assert_eq!(normal(Path::new("/a/./b/")), Path::new("/a/b"));
    }
}
