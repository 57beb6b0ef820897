//! A run of keys, as clients write it, and where it stands in the tree of keys.
//!
//! The start belongs to it, the end does not; no start and no end are written as the empty key, which
//! is the lowest of all, and which no end can exclude anything by. So every key can be a bound, whatever
//! its bytes, and the last key of an answer with a zero byte behind it is where the next one begins.

use std::ops::Bound;

use super::engine_key;

/// Bounds in the tree of keys.
pub(crate) type TreeBounds = (Bound<Vec<u8>>, Bound<Vec<u8>>);

/// Keys from a start up to an end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeySpan {
    start: Vec<u8>,
    /// `None`: up to the last key.
    end: Option<Vec<u8>>,
}

impl KeySpan {
    /// The keys at or behind `start` and before `end`, where that is not empty.
    pub(crate) fn between(start: &[u8], end: &[u8]) -> Self {
        Self { start: start.to_vec(), end: (!end.is_empty()).then(|| end.to_vec()) }
    }

    /// The keys that begin with `prefix`.
    pub(crate) fn of_prefix(prefix: &[u8]) -> Self {
        // The lowest key above all of them: none where every byte is the highest.
        let end = prefix.iter().rposition(|&byte| byte != u8::MAX).map(|at| {
            let mut end = prefix[..=at].to_vec();
            end[at] += 1;
            end
        });
        Self { start: prefix.to_vec(), end }
    }

    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        key >= &self.start[..] && self.end.as_deref().is_none_or(|end| key < end)
    }

    /// Where it stands in the tree of keys.
    pub(crate) fn bounds(&self) -> TreeBounds {
        let place = |key: &[u8]| engine_key(key).into_owned();
        let end = self.end.as_deref();
        let upper = end.map_or(Bound::Unbounded, |end| Bound::Excluded(place(end)));
        (Bound::Included(place(&self.start)), upper)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// Few distinct bytes, so that equal bounds, prefixes and runs of zeros are common.
    fn key() -> impl Strategy<Value = Vec<u8>> {
        vec(prop_oneof![Just(0), Just(1), Just(0xfe), Just(0xff)], 0..4)
    }

    fn is_in_tree(span: &KeySpan, key: &[u8]) -> bool {
        use std::ops::RangeBounds as _;
        span.bounds().contains(&engine_key(key).into_owned())
    }

    proptest! {
        #[test]
        fn a_span_holds_the_same_keys_in_the_tree_as_on_paper(start in key(), end in key(), key in key()) {
            let span = KeySpan::between(&start, &end);
            let is_in = key >= start && (end.is_empty() || key < end);
            prop_assert_eq!(span.contains(&key), is_in);
            prop_assert_eq!(is_in_tree(&span, &key), is_in);
        }

        #[test]
        fn the_span_of_a_prefix_holds_what_begins_with_it(prefix in key(), key in key()) {
            let span = KeySpan::of_prefix(&prefix);
            prop_assert_eq!(span.contains(&key), key.starts_with(&prefix));
            prop_assert_eq!(is_in_tree(&span, &key), key.starts_with(&prefix));
        }
    }
}
