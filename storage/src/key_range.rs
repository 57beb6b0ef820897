//! Ranges of keys: what a caller may pass, and the one form in which the engine works with them.
//!
//! An inverted range (`b..a`) is empty, it is never an error and never a panic.

use std::ops::{Bound, Range, RangeFrom, RangeFull, RangeInclusive, RangeTo, RangeToInclusive};

use crate::Value;

mod sealed {
    /// Keeps [`KeyRange`](super::KeyRange) to the types listed there.
    pub trait Sealed {
        /// The range in the engine's form.
        fn into_bounds(self) -> super::KeyBounds;
    }
}

use sealed::Sealed;

/// A range of keys: `..`, `a..b`, `a..=b`, `a..`, `..b`, `..=b` over anything that is bytes, or a
/// pair of [`Bound`]s. Keys order as byte strings do.
///
/// The trait is sealed: ranges are always one of these.
pub trait KeyRange: Sealed {}

impl<T: Sealed> KeyRange for T {}

/// A range of keys in the engine's form. Both bounds are byte strings of any length, longer than a
/// key may be, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyBounds {
    /// Where the range begins.
    pub(crate) lower: Bound<Value>,
    /// Where it ends.
    pub(crate) upper: Bound<Value>,
}

impl KeyBounds {
    fn new<K: AsRef<[u8]>>(lower: Bound<K>, upper: Bound<K>) -> Self {
        let own = |bound: Bound<K>| bound.map(|key| Value::from(key.as_ref()));
        Self { lower: own(lower), upper: own(upper) }
    }

    /// All keys that begin with `prefix`.
    pub(crate) fn prefix(prefix: &[u8]) -> Self {
        let upper = match successor_of_prefix(prefix) {
            Some(successor) => Bound::Excluded(Value::from(successor)),
            None => Bound::Unbounded,
        };
        Self { lower: Bound::Included(Value::from(prefix)), upper }
    }

    /// Whether no key can lie inside because the bounds are inverted or exclude each other, or the upper
    /// one excludes even the lowest key.
    pub(crate) fn is_empty(&self) -> bool {
        match (&self.lower, &self.upper) {
            (_, Bound::Excluded(upper)) if upper.is_empty() => true,
            (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
            (Bound::Included(lower), Bound::Included(upper)) => lower > upper,
            (Bound::Included(lower) | Bound::Excluded(lower), Bound::Excluded(upper))
            | (Bound::Excluded(lower), Bound::Included(upper)) => lower >= upper,
        }
    }

    #[cfg(test)]
    /// Whether `key` lies at or behind the lower bound.
    pub(crate) fn is_above_lower(&self, key: &[u8]) -> bool {
        match &self.lower {
            Bound::Included(lower) => key >= lower.as_slice(),
            Bound::Excluded(lower) => key > lower.as_slice(),
            Bound::Unbounded => true,
        }
    }

    #[cfg(test)]
    /// Whether `key` lies at or before the upper bound.
    pub(crate) fn is_below_upper(&self, key: &[u8]) -> bool {
        match &self.upper {
            Bound::Included(upper) => key <= upper.as_slice(),
            Bound::Excluded(upper) => key < upper.as_slice(),
            Bound::Unbounded => true,
        }
    }

    #[cfg(test)]
    /// Whether `key` lies in the range.
    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        self.is_above_lower(key) && self.is_below_upper(key)
    }
}

/// The smallest byte string above every string that begins with `prefix`: the prefix up to its last
/// byte that is not 0xff, that byte raised by one. `None` when there is none, that is, when the
/// prefix is empty or all 0xff.
fn successor_of_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let at = prefix.iter().rposition(|&byte| byte != u8::MAX)?;
    let mut successor = prefix[..=at].to_vec();
    successor[at] += 1;
    Some(successor)
}

impl Sealed for RangeFull {
    fn into_bounds(self) -> KeyBounds {
        KeyBounds { lower: Bound::Unbounded, upper: Bound::Unbounded }
    }
}

impl<K: AsRef<[u8]>> Sealed for Range<K> {
    fn into_bounds(self) -> KeyBounds {
        KeyBounds::new(Bound::Included(self.start), Bound::Excluded(self.end))
    }
}

impl<K: AsRef<[u8]>> Sealed for RangeInclusive<K> {
    fn into_bounds(self) -> KeyBounds {
        let (start, end) = self.into_inner();
        KeyBounds::new(Bound::Included(start), Bound::Included(end))
    }
}

impl<K: AsRef<[u8]>> Sealed for RangeFrom<K> {
    fn into_bounds(self) -> KeyBounds {
        KeyBounds::new(Bound::Included(self.start), Bound::Unbounded)
    }
}

impl<K: AsRef<[u8]>> Sealed for RangeTo<K> {
    fn into_bounds(self) -> KeyBounds {
        KeyBounds::new(Bound::Unbounded, Bound::Excluded(self.end))
    }
}

impl<K: AsRef<[u8]>> Sealed for RangeToInclusive<K> {
    fn into_bounds(self) -> KeyBounds {
        KeyBounds::new(Bound::Unbounded, Bound::Included(self.end))
    }
}

impl<K: AsRef<[u8]>> Sealed for (Bound<K>, Bound<K>) {
    fn into_bounds(self) -> KeyBounds {
        KeyBounds::new(self.0, self.1)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::ops::Bound;

    use proptest::collection::{btree_set, vec};
    use proptest::prelude::*;

    use super::{KeyBounds, KeyRange, successor_of_prefix};

    type Key = Vec<u8>;

    fn bounds(range: impl KeyRange) -> KeyBounds {
        range.into_bounds()
    }

    fn inside(keys: &BTreeSet<Key>, bounds: &KeyBounds) -> Vec<Key> {
        keys.iter().filter(|key| bounds.contains(key)).cloned().collect()
    }

    /// Few distinct bytes, so that equal bounds, prefixes and runs of 0xff are common.
    fn key() -> impl Strategy<Value = Key> {
        vec(prop_oneof![Just(0), Just(1), Just(0xfe), Just(0xff)], 0..4)
    }

    fn bound() -> impl Strategy<Value = Bound<Key>> {
        prop_oneof![
            key().prop_map(Bound::Included),
            key().prop_map(Bound::Excluded),
            Just(Bound::Unbounded),
        ]
    }

    proptest! {
        #[test]
        fn a_pair_of_bounds_holds_what_a_btree_range_gives(
            keys in btree_set(key(), 0..40), lower in bound(), upper in bound(),
        ) {
            let range = bounds((lower.clone(), upper.clone()));
            if range.is_empty() {
                prop_assert_eq!(inside(&keys, &range), Vec::<Key>::new());
            } else {
                // A BTreeSet panics exactly on the ranges called empty above.
                let expected: Vec<Key> = keys.range((lower, upper)).cloned().collect();
                prop_assert_eq!(inside(&keys, &range), expected);
            }
        }

        #[test]
        fn every_range_syntax_means_what_it_means_on_keys(
            keys in btree_set(key(), 0..40), a in key(), b in key(),
        ) {
            let all = |keep: &dyn Fn(&Key) -> bool| -> Vec<Key> {
                keys.iter().filter(|&key| keep(key)).cloned().collect()
            };
            let (a, b) = (&a, &b);
            prop_assert_eq!(inside(&keys, &bounds(..)), all(&|_| true));
            prop_assert_eq!(inside(&keys, &bounds(a..b)), all(&|key| key >= a && key < b));
            prop_assert_eq!(inside(&keys, &bounds(a..=b)), all(&|key| key >= a && key <= b));
            prop_assert_eq!(inside(&keys, &bounds(a..)), all(&|key| key >= a));
            prop_assert_eq!(inside(&keys, &bounds(..b)), all(&|key| key < b));
            prop_assert_eq!(inside(&keys, &bounds(..=b)), all(&|key| key <= b));
        }

        #[test]
        fn a_prefix_holds_exactly_the_keys_that_begin_with_it(
            keys in btree_set(key(), 0..40), prefix in key(),
        ) {
            let expected: Vec<Key> =
                keys.iter().filter(|key| key.starts_with(&prefix)).cloned().collect();
            prop_assert_eq!(inside(&keys, &KeyBounds::prefix(&prefix)), expected);
        }
    }

    #[test]
    fn an_inverted_range_is_empty() {
        assert!(bounds("b".."a").is_empty() && bounds("b"..="a").is_empty());
        assert!(bounds("a".."a").is_empty() && !bounds("a"..="a").is_empty());
        assert!(bounds((Bound::Excluded("a"), Bound::Excluded("a"))).is_empty());
    }

    #[test]
    fn a_prefix_of_0xff_has_no_successor() {
        assert_eq!(successor_of_prefix(b""), None);
        assert_eq!(successor_of_prefix(&[0xff, 0xff]), None);
        assert_eq!(successor_of_prefix(&[1, 0xff, 0xff]), Some(vec![2]));
        assert_eq!(successor_of_prefix(&[1, 2, 0xff]), Some(vec![1, 3]));
    }

    #[test]
    fn text_bytes_and_vectors_make_ranges() {
        let key = b"b";
        assert!(bounds("a".."c").contains(key));
        assert!(bounds(b"a".to_vec()..=b"c".to_vec()).contains(key));
        assert!(bounds(&b"a"[..]..).contains(key));
    }
}
