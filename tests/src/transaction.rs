//! The oracle's idea of an open transaction: what it sees, what it has written, and when the engine
//! must, may, or must not say `Conflict`.
//!
//! It sees one state of the oracle, fixed by its first read, under its own writes. A write conflicts
//! with another's open write of the key, and with a commit after its state; a commit of a
//! serializable transaction that has written conflicts with a commit that changed what it read.

use std::collections::{BTreeMap, BTreeSet};

use seawall::{Durability, Isolation, Savepoint};

use crate::oracle::{Bytes, Contents, Oracle, TreeKey, TreeUid, Writes};

/// Whether the engine says `Conflict`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It has to.
    Must,
    /// It may: keys were written and taken back, or written to the same value.
    May,
    /// It must not.
    MustNot,
}

/// A range that was read.
#[derive(Clone, Debug)]
struct RangeRead {
    tree: TreeUid,
    from: Bytes,
    to: Bytes,
    /// The part of it that was reached, where that is not all.
    reached: Option<(Bytes, Bytes)>,
}

/// A point in a transaction.
#[derive(Debug)]
struct Mark {
    savepoint: Savepoint,
    writes: Writes,
    names: Option<BTreeMap<String, TreeUid>>,
}

/// An open transaction.
#[derive(Debug)]
pub struct TransactionModel {
    /// What it was begun with.
    pub isolation: Isolation,
    /// What it was begun with.
    pub durability: Durability,
    /// The commit whose state it sees.
    state: Option<usize>,
    /// What it has written.
    pub writes: Writes,
    /// Keys that it has written and taken back.
    taken_back: BTreeSet<TreeKey>,
    /// Whether it has tried to write anything.
    has_written: bool,
    /// Whether it has created, dropped or renamed a tree, and taken it back or not: it holds that
    /// tree to its end.
    has_changed_names: bool,
    /// The trees' names, once it has changed one.
    pub names: Option<BTreeMap<String, TreeUid>>,
    points: BTreeSet<TreeKey>,
    ranges: Vec<RangeRead>,
    marks: Vec<Mark>,
}

impl TransactionModel {
    /// A transaction that has done nothing.
    #[must_use]
    pub fn new(isolation: Isolation, durability: Durability) -> Self {
        Self {
            isolation,
            durability,
            state: None,
            writes: Writes::new(),
            taken_back: BTreeSet::new(),
            has_written: false,
            has_changed_names: false,
            names: None,
            points: BTreeSet::new(),
            ranges: Vec::new(),
            marks: Vec::new(),
        }
    }

    /// Fixes the state that it sees, at its first read.
    pub fn fix_state(&mut self, oracle: &Oracle) -> usize {
        *self.state.get_or_insert_with(|| oracle.newest())
    }

    /// Fixes the state that it sees at this commit, unless it has read already.
    pub fn fix_state_at(&mut self, commit: usize) {
        self.state.get_or_insert(commit);
    }

    /// The commit whose state it sees, once it has read.
    #[must_use]
    pub const fn state(&self) -> Option<usize> {
        self.state
    }

    /// The names of trees as it sees them.
    pub fn names(&mut self, oracle: &Oracle) -> BTreeMap<String, TreeUid> {
        let state = self.fix_state(oracle);
        self.names.clone().unwrap_or_else(|| oracle.state(state).names.clone())
    }

    /// The value of a key as it sees it.
    pub fn get(&mut self, oracle: &Oracle, key: &TreeKey) -> Option<Bytes> {
        let state = self.fix_state(oracle);
        match self.writes.get(key) {
            Some(value) => value.clone(),
            None => oracle.state(state).get(key.0, &key.1).cloned(),
        }
    }

    /// The pairs of a tree as it sees them.
    pub fn contents(&mut self, oracle: &Oracle, tree: TreeUid) -> Contents {
        let state = self.fix_state(oracle);
        let mut contents = Contents::clone(&oracle.state(state).contents(tree));
        for ((of, key), value) in &self.writes {
            match value {
                _ if *of != tree => None,
                Some(value) => contents.insert(key.clone(), value.clone()),
                None => contents.remove(key),
            };
        }
        contents
    }

    /// Notes a read of a key.
    pub fn note_point(&mut self, key: &TreeKey) {
        self.points.insert(key.clone());
    }

    /// Notes a read of a range, of which `reached` was read where not all was.
    pub fn note_range(
        &mut self,
        tree: TreeUid,
        from: Bytes,
        to: Bytes,
        reached: Option<(Bytes, Bytes)>,
    ) {
        self.ranges.push(RangeRead { tree, from, to, reached });
    }

    /// Whether it holds the key against others.
    #[must_use]
    pub fn holds(&self, key: &TreeKey) -> Verdict {
        if self.writes.contains_key(key) {
            Verdict::Must
        } else if self.taken_back.contains(key) {
            Verdict::May
        } else {
            Verdict::MustNot
        }
    }

    /// Whether a write of the key conflicts with a commit after its state.
    #[must_use]
    pub fn write_verdict(&self, oracle: &Oracle, key: &TreeKey) -> Verdict {
        match self.state {
            _ if self.writes.contains_key(key) => Verdict::MustNot,
            Some(state) if oracle.is_written_after(key, state) => Verdict::Must,
            Some(state) if oracle.is_touched_after(key, state) => Verdict::May,
            _ => Verdict::MustNot,
        }
    }

    /// Notes that it tried to write.
    pub fn note_write(&mut self) {
        self.has_written = true;
    }

    /// Creates, drops or renames a tree.
    pub fn change_names(&mut self, names: BTreeMap<String, TreeUid>) {
        self.has_written = true;
        self.has_changed_names = true;
        self.names = Some(names);
    }

    /// Whether it holds trees against others.
    #[must_use]
    pub const fn holds_trees(&self) -> bool {
        self.has_changed_names
    }

    /// Writes a key.
    pub fn write(&mut self, key: TreeKey, value: Option<Bytes>) {
        self.taken_back.remove(&key);
        self.writes.insert(key, value);
    }

    /// Keys that it has written and taken back.
    pub fn taken_back(&self) -> impl Iterator<Item = &TreeKey> {
        self.taken_back.iter()
    }

    /// Remembers this point.
    pub fn mark(&mut self, savepoint: Savepoint) {
        self.marks.push(Mark { savepoint, writes: self.writes.clone(), names: self.names.clone() });
    }

    /// Goes back to a point; the ones after it are forgotten.
    pub fn go_back(&mut self, before_newest: u8) -> Option<Savepoint> {
        let index = self.marks.len().checked_sub(usize::from(before_newest) + 1)?;
        self.marks.truncate(index + 1);
        let mark = &self.marks[index];
        let kept = &mark.writes;
        self.taken_back.extend(self.writes.keys().filter(|key| !kept.contains_key(*key)).cloned());
        self.writes.clone_from(kept);
        self.names.clone_from(&mark.names);
        Some(mark.savepoint.clone())
    }

    /// Whether its commit conflicts.
    #[must_use]
    pub fn commit_verdict(&self, oracle: &Oracle) -> Verdict {
        let Some(state) = self.state else { return Verdict::MustNot };
        if self.isolation != Isolation::Serializable || !self.has_written {
            return Verdict::MustNot;
        }
        let is_changed = |key: &TreeKey| {
            oracle.state(state).get(key.0, &key.1) != oracle.latest().get(key.0, &key.1)
        };
        let mut verdict = Verdict::MustNot;
        for key in oracle.written_after(state) {
            let is_point = self.points.contains(key);
            let in_reach = self.ranges.iter().any(|range| range.reached(key));
            if !self.writes.contains_key(key) && (is_point || in_reach) && is_changed(key) {
                return Verdict::Must;
            }
            if is_point || self.ranges.iter().any(|range| range.covers(key)) {
                verdict = Verdict::May;
            }
        }
        let is_touched = |key: &TreeKey| oracle.is_touched_after(key, state);
        if self.points.iter().any(is_touched)
            || !self.ranges.is_empty() && oracle.any_touched(state)
        {
            verdict = Verdict::May;
        }
        verdict
    }
}

impl RangeRead {
    fn covers(&self, key: &TreeKey) -> bool {
        key.0 == self.tree && (&self.from..=&self.to).contains(&&key.1)
    }

    fn reached(&self, key: &TreeKey) -> bool {
        self.covers(key)
            && self.reached.as_ref().is_none_or(|(from, to)| (from..=to).contains(&&key.1))
    }
}
