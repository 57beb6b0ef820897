//! Rows of a tree in order, from one end, with rows laid over them that are not in the tree yet.

use std::cmp::Ordering;
use std::collections::{BTreeMap, btree_map};
use std::ops::Bound;

use seawall::{Range, Value};

use super::TreeBounds;
use crate::failure::Outcome;

/// A row of a tree, or the absence of one.
pub(super) type Change = Option<Vec<u8>>;
type Pair = (Value, Value);

/// From which end rows are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    Ascending,
    Descending,
}

/// An iterator over rows; an error ends it.
pub(crate) struct Rows<'u> {
    base: Range<'u>,
    changes: Option<btree_map::Range<'u, Vec<u8>, Change>>,
    order: Order,
    /// What was read of either and not given out yet.
    next_base: Option<Pair>,
    next_change: Option<(&'u Vec<u8>, &'u Change)>,
}

impl<'u> Rows<'u> {
    pub(super) const fn new(base: Range<'u>, order: Order) -> Self {
        Self { base, changes: None, order, next_base: None, next_change: None }
    }

    /// The same with changes laid over.
    pub(super) fn changed(
        base: Range<'u>,
        changes: &'u BTreeMap<Vec<u8>, Change>,
        bounds: &TreeBounds,
        order: Order,
    ) -> Self {
        let inside = (!is_empty(bounds)).then(|| changes.range::<[u8], _>(borrow(bounds)));
        Self { changes: inside, ..Self::new(base, order) }
    }

    fn fill(&mut self) -> Outcome {
        if self.next_base.is_none() {
            let next = match self.order {
                Order::Ascending => self.base.next(),
                Order::Descending => self.base.next_back(),
            };
            self.next_base = next.transpose()?;
        }
        if self.next_change.is_none()
            && let Some(changes) = &mut self.changes
        {
            self.next_change = match self.order {
                Order::Ascending => changes.next(),
                Order::Descending => changes.next_back(),
            };
        }
        Ok(())
    }

    /// Which of the two comes first: `Less` the row of the tree, `Equal` both.
    fn first(&self) -> Ordering {
        match (&self.next_base, self.next_change) {
            (_, None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((key, _)), Some((changed, _))) => {
                let key: &[u8] = key.as_ref();
                let ascending = key.cmp(changed);
                if self.order == Order::Ascending { ascending } else { ascending.reverse() }
            }
        }
    }
}

impl Iterator for Rows<'_> {
    type Item = Outcome<Pair>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Err(failure) = self.fill() {
                return Some(Err(failure));
            }
            let first = self.first();
            if first == Ordering::Less {
                return self.next_base.take().map(Ok);
            }
            if first == Ordering::Equal {
                self.next_base = None;
            }
            if let Some((key, Some(value))) = self.next_change.take() {
                return Some(Ok((Value::from(key.clone()), Value::from(value.clone()))));
            }
        }
    }
}

fn borrow(bounds: &TreeBounds) -> (Bound<&[u8]>, Bound<&[u8]>) {
    (bounds.0.as_ref().map(|key| &key[..]), bounds.1.as_ref().map(|key| &key[..]))
}

/// Whether no key can lie between them; a map has no such range.
fn is_empty(bounds: &TreeBounds) -> bool {
    match bounds {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        (Bound::Included(lower), Bound::Included(upper)) => lower > upper,
        (Bound::Included(lower) | Bound::Excluded(lower), Bound::Excluded(upper))
        | (Bound::Excluded(lower), Bound::Included(upper)) => lower >= upper,
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::btree_map;
    use proptest::option;
    use proptest::prelude::*;

    use super::*;

    fn key() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(b'a'..b'd', 1..3)
    }

    fn bound() -> impl Strategy<Value = Bound<Vec<u8>>> {
        prop_oneof![
            key().prop_map(Bound::Included),
            key().prop_map(Bound::Excluded),
            Just(Bound::Unbounded),
        ]
    }

    #[test]
    fn changes_laid_over_a_tree_read_as_if_they_were_made() {
        let dir = tempfile::tempdir().unwrap();
        let database = seawall::Options::new().cache_bytes(8 << 20).open(dir.path()).unwrap();
        let tree = database.tree("tree").unwrap();
        let base: BTreeMap<Vec<u8>, Vec<u8>> =
            ["a", "aa", "ab", "b", "bb", "c", "cc"].map(|key| (key.into(), b"old".into())).into();
        for (key, value) in &base {
            tree.insert(key, value).unwrap();
        }
        let changes = btree_map(key(), option::of(Just(b"new".to_vec())), 0..8);
        proptest!(|(changes in changes, lower in bound(), upper in bound())| {
            use std::ops::RangeBounds as _;
            let bounds = (lower, upper);
            let mut model = base.clone();
            for (key, change) in &changes {
                match change {
                    Some(value) => drop(model.insert(key.clone(), value.clone())),
                    None => drop(model.remove(key)),
                }
            }
            let mut expected: Vec<_> =
                model.into_iter().filter(|(key, _)| bounds.contains(key)).collect();
            for order in [Order::Ascending, Order::Descending] {
                let range = tree.range(bounds.clone()).unwrap();
                let rows = Rows::changed(range, &changes, &bounds, order);
                let found: Vec<(Vec<u8>, Vec<u8>)> = rows
                    .map(|pair| pair.map(|(key, value)| (key.into_vec(), value.into_vec())).unwrap())
                    .collect();
                prop_assert_eq!(&found, &expected);
                expected.reverse();
            }
        });
        database.close().unwrap();
    }
}
