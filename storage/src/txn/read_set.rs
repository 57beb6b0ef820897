//! What a serializable transaction has read, to be compared with what others committed since.
//!
//! A transaction that reads anything of a tree reads that it exists: the tree's row in the catalogue,
//! which a commit that drops the tree writes.

use std::collections::{BTreeSet, HashSet};
use std::ops::Bound;

use seawall_wal::TreeId;

use super::gate::Written;
use crate::catalogue::row::{tree_key, tree_of};
use crate::version::VersionKey;

/// Keys and ranges read.
#[derive(Debug, Default)]
pub(crate) struct ReadSet {
    points: HashSet<VersionKey>,
    ranges: Vec<ReadRange>,
    /// Trees of which something was read; not the catalogue.
    trees: BTreeSet<TreeId>,
}

/// A range of one tree, as far as it was read.
#[derive(Clone, Debug)]
pub(crate) struct ReadRange {
    pub(crate) tree: TreeId,
    pub(crate) lower: Bound<Vec<u8>>,
    pub(crate) upper: Bound<Vec<u8>>,
}

impl ReadSet {
    pub(crate) fn add_point(&mut self, key: VersionKey) {
        self.add_tree(key.tree());
        self.points.insert(key);
    }

    fn add_tree(&mut self, tree: TreeId) {
        if tree != TreeId::CATALOGUE {
            self.trees.insert(tree);
        }
    }

    /// Adds a range; the result names it to [`ReadSet::grow_range`].
    pub(crate) fn add_range(&mut self, range: ReadRange) -> usize {
        self.add_tree(range.tree);
        self.ranges.push(range);
        self.ranges.len() - 1
    }

    /// Makes a range reach as far as it has been read by now.
    pub(crate) fn grow_range(&mut self, index: usize, range: ReadRange) {
        self.ranges[index] = range;
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.points.is_empty() && self.ranges.is_empty()
    }

    pub(crate) fn points(&self) -> impl Iterator<Item = &VersionKey> {
        self.points.iter()
    }

    /// The catalogue's rows of the trees that were read.
    pub(crate) fn tree_rows(&self) -> impl Iterator<Item = VersionKey> {
        self.trees.iter().map(|&tree| VersionKey::new(TreeId::CATALOGUE, &tree_key(tree)))
    }

    pub(crate) fn ranges(&self) -> &[ReadRange] {
        &self.ranges
    }

    /// Whether anything was read that a commit has, or may have, written.
    pub(crate) fn meets(&self, written: &Written) -> bool {
        written.keys.iter().any(|key| self.contains(key))
            || written.trees.iter().any(|&tree| self.contains_any_of(tree))
    }

    fn contains_any_of(&self, tree: TreeId) -> bool {
        self.points.iter().any(|key| key.tree() == tree)
            || self.ranges.iter().any(|range| range.tree == tree)
    }

    /// Whether the key was read, alone or in a range, or is the row of a tree that was read.
    fn contains(&self, key: &VersionKey) -> bool {
        let is_row = || {
            let tree = if key.tree() == TreeId::CATALOGUE { tree_of(key.key()) } else { None };
            tree.is_some_and(|tree| self.trees.contains(&tree))
        };
        self.points.contains(key) || self.ranges.iter().any(|range| range.contains(key)) || is_row()
    }
}

impl ReadRange {
    /// Whether keys from `key` on may belong to the range.
    pub(crate) fn reaches(&self, key: &[u8]) -> bool {
        match &self.upper {
            Bound::Included(upper) => key <= &upper[..],
            Bound::Excluded(upper) => key < &upper[..],
            Bound::Unbounded => true,
        }
    }

    pub(crate) fn contains(&self, key: &VersionKey) -> bool {
        let from_lower = match &self.lower {
            Bound::Included(lower) => key.key() >= &lower[..],
            Bound::Excluded(lower) => key.key() > &lower[..],
            Bound::Unbounded => true,
        };
        let to_upper = match &self.upper {
            Bound::Included(upper) => key.key() <= &upper[..],
            Bound::Excluded(upper) => key.key() < &upper[..],
            Bound::Unbounded => true,
        };
        key.tree() == self.tree && from_lower && to_upper
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_read_set_contains_its_points_and_what_lies_in_its_ranges() {
        let (tree, other) = (TreeId::new(1), TreeId::new(2));
        let mut reads = ReadSet::default();
        assert!(reads.is_empty());
        reads.add_point(VersionKey::new(tree, b"point"));
        let lower = Bound::Included(b"b".to_vec());
        let range = ReadRange { tree, lower, upper: Bound::Excluded(b"d".to_vec()) };
        let index = reads.add_range(range.clone());
        for (tree, key, is_read) in [
            (tree, &b"point"[..], true),
            (other, b"point", false),
            (tree, b"b", true),
            (tree, b"czz", true),
            (tree, b"d", false),
            (tree, b"azz", false),
            (other, b"c", false),
        ] {
            assert_eq!(reads.contains(&VersionKey::new(tree, key)), is_read, "{tree} {key:?}");
        }
        let row = |tree| Written::keys(&[VersionKey::new(TreeId::CATALOGUE, &tree_key(tree))]);
        assert!(reads.meets(&row(tree)), "whoever drops the tree");
        assert!(!reads.meets(&row(other)));
        let of = |tree| Written { trees: [tree].into(), ..Written::keys(&[]) };
        assert!(reads.meets(&of(tree)) && !reads.meets(&of(other)));
        assert!(reads.meets(&Written::keys(&[VersionKey::new(tree, b"c")])));
        assert!(!reads.meets(&Written::keys(&[VersionKey::new(tree, b"d")])));
        reads.grow_range(index, ReadRange { upper: Bound::Unbounded, ..range });
        assert!(reads.contains(&VersionKey::new(tree, b"d")));
    }
}
