//! What the database must contain: every committed state, in commit order.
//!
//! States share what they have in common. Which of them a crash may leave follows from when each
//! commit began and was acknowledged, counted in operations of the disk (R3): none that was
//! acknowledged may be missing, none that had not begun may be there, and what is there is a state
//! of the list, so a prefix of commit order.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use seawall::Lsn;

use crate::failure::{Failure, Outcome};

/// Bytes of a key or value.
pub type Bytes = Arc<[u8]>;
/// The pairs of a tree.
pub type Contents = BTreeMap<Bytes, Bytes>;
/// A tree's identity: a tree dropped and created again under its name is another one.
pub type TreeUid = u64;
/// A key of a tree.
pub type TreeKey = (TreeUid, Bytes);

/// All trees at one moment.
#[derive(Clone, Debug, Default)]
pub struct Forest {
    /// Trees by name.
    pub names: BTreeMap<String, TreeUid>,
    contents: BTreeMap<TreeUid, Arc<Contents>>,
}

/// What a change leaves of a key.
pub type Writes = BTreeMap<TreeKey, Option<Bytes>>;

impl Forest {
    /// The pairs of a tree; none for one that is not there.
    #[must_use]
    pub fn contents(&self, tree: TreeUid) -> Arc<Contents> {
        self.contents.get(&tree).cloned().unwrap_or_default()
    }

    /// The value of a key.
    #[must_use]
    pub fn get(&self, tree: TreeUid, key: &[u8]) -> Option<&Bytes> {
        self.contents.get(&tree)?.get(key)
    }

    /// Names and contents of all trees.
    pub fn trees(&self) -> impl Iterator<Item = (&str, Arc<Contents>)> {
        self.names.iter().map(|(name, &tree)| (name.as_str(), self.contents(tree)))
    }

    /// Whether the same trees have the same pairs.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        self.trees().eq(other.trees())
    }

    /// Adds a tree as read from a database.
    pub fn add(&mut self, name: &str, contents: Contents) {
        let tree = TreeUid::try_from(self.names.len()).expect("trees are few");
        self.names.insert(name.to_owned(), tree);
        self.contents.insert(tree, Arc::new(contents));
    }

    /// Applies a change.
    pub fn apply(&mut self, writes: &Writes) {
        for ((tree, key), value) in writes {
            let contents = Arc::make_mut(self.contents.entry(*tree).or_default());
            match value {
                Some(value) => contents.insert(key.clone(), value.clone()),
                None => contents.remove(key),
            };
        }
    }

    /// Forgets the pairs of trees that have no name.
    fn drop_nameless(&mut self) {
        let named: Vec<_> = self.names.values().copied().collect();
        self.contents.retain(|tree, _| named.contains(tree));
    }
}

/// A committed state.
#[derive(Clone, Debug)]
struct Commit {
    forest: Forest,
    /// Operations of the disk that had begun when the commit did.
    begun_at: u64,
    /// Operations of the disk that had begun when the commit was acknowledged as durable.
    durable_at: Option<u64>,
    /// END of the commit record, where nobody has waited for it.
    pending_lsn: Option<Lsn>,
    /// Whether it is not to be seen before it is durable.
    is_sync: bool,
    /// END of the commit record, where it is known.
    end_lsn: Option<Lsn>,
}

/// How far a commit has come.
#[derive(Clone, Copy, Debug)]
pub enum CommitState {
    /// It was acknowledged as durable when this many operations of the disk had begun.
    Durable {
        /// Count of operations.
        at: u64,
    },
    /// It was acknowledged, and is seen.
    Visible,
    /// It is in the log.
    Pending {
        /// END of its record.
        lsn: Lsn,
        /// Whether it is not to be seen before it is durable.
        is_sync: bool,
    },
    /// It was acknowledged as durable, and its place in the log is known.
    Awaited {
        /// Count of operations.
        at: u64,
        /// END of its record.
        lsn: Lsn,
    },
}

/// Every committed state, in order; a commit is named by its index.
#[derive(Clone, Debug)]
pub struct Oracle {
    commits: Vec<Commit>,
    /// The newest commit that is known to be visible.
    visible: usize,
    /// The newest commit that wrote a key.
    written: HashMap<TreeKey, usize>,
    /// The newest commit that wrote a key and took it back.
    touched: HashMap<TreeKey, usize>,
    next_tree: TreeUid,
}

impl Default for Oracle {
    fn default() -> Self {
        let forest = Forest::default();
        let empty = Commit {
            forest,
            begun_at: 0,
            durable_at: Some(0),
            pending_lsn: None,
            is_sync: false,
            end_lsn: None,
        };
        Self {
            commits: vec![empty],
            visible: 0,
            written: HashMap::new(),
            touched: HashMap::new(),
            next_tree: 1,
        }
    }
}

impl Oracle {
    /// The newest commit.
    #[must_use]
    pub fn newest(&self) -> usize {
        self.commits.len() - 1
    }

    /// The newest state.
    #[must_use]
    pub fn latest(&self) -> &Forest {
        self.state(self.newest())
    }

    /// The state that a commit made.
    #[must_use]
    pub fn state(&self, commit: usize) -> &Forest {
        &self.commits[commit].forest
    }

    /// An identity for a new tree.
    pub fn new_tree(&mut self) -> TreeUid {
        self.next_tree += 1;
        self.next_tree
    }

    /// Whether a commit after `commit` wrote the key.
    #[must_use]
    pub fn is_written_after(&self, key: &TreeKey, commit: usize) -> bool {
        self.written.get(key).is_some_and(|&at| at > commit)
    }

    /// Whether a commit after `commit` wrote the key, or wrote it and took it back.
    #[must_use]
    pub fn is_touched_after(&self, key: &TreeKey, commit: usize) -> bool {
        self.is_written_after(key, commit) || self.touched.get(key).is_some_and(|&at| at > commit)
    }

    /// Whether a commit after `commit` wrote any key and took it back.
    #[must_use]
    pub fn any_touched(&self, commit: usize) -> bool {
        self.touched.values().any(|&at| at > commit)
    }

    /// The keys that commits after `commit` wrote.
    pub fn written_after(&self, commit: usize) -> impl Iterator<Item = &TreeKey> {
        self.written.iter().filter(move |(_, at)| **at > commit).map(|(key, _)| key)
    }

    /// Adds a commit that has returned, or is on its way: `begun_at` counts the operations of the
    /// disk before it.
    pub fn commit(
        &mut self,
        begun_at: u64,
        writes: &Writes,
        names: Option<&BTreeMap<String, TreeUid>>,
        state: CommitState,
    ) -> usize {
        let mut forest = self.latest().clone();
        forest.apply(writes);
        if let Some(names) = names {
            forest.names.clone_from(names);
            forest.drop_nameless();
        }
        let (durable_at, pending_lsn, is_sync, end_lsn) = match state {
            CommitState::Durable { at } => (Some(at), None, true, None),
            CommitState::Awaited { at, lsn } => (Some(at), None, true, Some(lsn)),
            CommitState::Visible => (None, None, false, None),
            CommitState::Pending { lsn, is_sync } => (None, Some(lsn), is_sync, Some(lsn)),
        };
        self.commits.push(Commit { forest, begun_at, durable_at, pending_lsn, is_sync, end_lsn });
        for key in writes.keys() {
            self.written.insert(key.clone(), self.newest());
        }
        if pending_lsn.is_none() {
            self.saw(self.newest());
        }
        self.newest()
    }

    /// Notes keys that the newest commit wrote and took back.
    pub fn touch<'a>(&mut self, keys: impl Iterator<Item = &'a TreeKey>) {
        for key in keys {
            self.touched.insert(key.clone(), self.newest());
        }
    }

    /// A commit, and all before it, were seen.
    fn saw(&mut self, commit: usize) {
        self.visible = self.visible.max(commit);
    }

    /// A commit, and all before it, are durable.
    pub fn is_durable(&mut self, commit: usize, at: u64) {
        self.saw(commit);
        let durable_at = &mut self.commits[commit].durable_at;
        *durable_at = Some(durable_at.map_or(at, |before| before.min(at)));
    }

    /// The newest commit that readers see at `visible_lsn`.
    #[must_use]
    pub fn visible_at(&self, visible_lsn: Lsn) -> usize {
        let pending = &self.commits[self.visible + 1..];
        let is_seen = |commit: &&Commit| commit.pending_lsn.is_some_and(|lsn| lsn <= visible_lsn);
        let newest = self.visible + pending.iter().take_while(is_seen).count();
        // A position from before commits that have become visible since.
        let is_beyond = |commit: &&Commit| commit.end_lsn.is_some_and(|lsn| lsn > visible_lsn);
        newest - self.commits[..=newest].iter().rev().take_while(is_beyond).count()
    }

    /// Readers see this commit. The synchronous ones up to it are durable, whether anybody has waited
    /// for them or not (T1).
    pub fn is_read(&mut self, commit: usize, at: u64) {
        let is_owed = |commit: &Commit| commit.is_sync && commit.durable_at.is_none();
        if let Some(newest) = self.commits[..=commit].iter().rposition(is_owed) {
            self.is_durable(newest, at);
        }
    }

    /// Which commit a crash left, that found all operations of the disk below number `cut`.
    ///
    /// # Errors
    /// When it is none of those that it may be.
    pub fn survivor(&self, cut: u64, found: &Forest) -> Outcome<usize> {
        let (oldest, newest) = self.may_survive(cut);
        let fits = (oldest..=newest).rev().find(|&commit| self.state(commit).is_same(found));
        fits.ok_or_else(|| {
            let elsewhere =
                (0..self.commits.len()).find(|&commit| self.state(commit).is_same(found));
            let but = match elsewhere {
                Some(commit) => format!("it is commit {commit}"),
                None => {
                    let why = difference(self.state(newest), found);
                    format!("it is none; against {newest}: {why}")
                }
            };
            Failure::new(format!("not a state of commits {oldest} to {newest}: {but}"))
        })
    }

    /// The oldest and the newest commit that a crash may leave.
    #[must_use]
    pub fn may_survive(&self, cut: u64) -> (usize, usize) {
        let is_durable = |commit: &Commit| commit.durable_at.is_some_and(|at| at < cut);
        let has_begun = |commit: &Commit| commit.begun_at < cut;
        let oldest = self.commits.iter().rposition(is_durable).unwrap_or(0);
        let newest = self.commits.iter().rposition(has_begun).unwrap_or(0);
        (oldest, newest.max(oldest))
    }

    /// Forgets every commit after this one: a crash has.
    pub fn cut_after(&mut self, commit: usize, at: u64) {
        self.commits.truncate(commit + 1);
        self.visible = commit;
        self.commits[commit].pending_lsn = None;
        self.commits[commit].end_lsn = None;
        self.commits[commit].durable_at = Some(at);
        self.written.retain(|_, by| *by <= commit);
        self.touched.retain(|_, by| *by <= commit);
    }
}

/// Where two states differ first.
#[must_use]
pub fn difference(expected: &Forest, found: &Forest) -> String {
    let names = |forest: &Forest| forest.names.keys().cloned().collect::<Vec<_>>();
    if names(expected) != names(found) {
        return format!("trees {:?}, expected {:?}", names(found), names(expected));
    }
    for ((name, expected), (_, found)) in expected.trees().zip(found.trees()) {
        if expected == found {
            continue;
        }
        let missing = expected.keys().filter(|key| !found.contains_key(*key)).count();
        let extra = found.keys().filter(|key| !expected.contains_key(*key)).count();
        let keys = expected.keys().chain(found.keys());
        let first = keys.filter(|key| expected.get(*key) != found.get(*key)).min();
        let key = first.map(|key| String::from_utf8_lossy(key).into_owned()).unwrap_or_default();
        let lengths = first.map(|key| {
            (expected.get(key).map(|value| value.len()), found.get(key).map(|value| value.len()))
        });
        return format!(
            "tree {name}: {missing} keys missing, {extra} too many; first at {key:?}, lengths \
             expected and found {lengths:?}"
        );
    }
    "none".into()
}
