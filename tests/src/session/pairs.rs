//! Pairs of a range, as the engine gives them and as the oracle has them.

use crate::failure::Outcome;
use crate::operation::{Span, key};
use crate::oracle::{Bytes, Contents};

pub(super) fn count(contents: &Contents) -> u64 {
    u64::try_from(contents.len()).expect("usize has at most 64 bits")
}

pub(super) fn ends(span: Span) -> (Bytes, Bytes) {
    let (a, b) = (Bytes::from(key(span.from)), Bytes::from(key(span.to)));
    if a <= b { (a, b) } else { (b, a) }
}

pub(super) type Pairs = Vec<(Bytes, Bytes)>;

/// The part of a tree that a span names, in the order it is read.
pub(super) fn part(contents: &Contents, span: Span) -> Pairs {
    let (from, to) = ends(span);
    let range = contents.range(from..=to).map(|(key, value)| (key.clone(), value.clone()));
    let most = usize::from(span.pairs_max);
    if span.is_backwards { range.rev().take(most).collect() } else { range.take(most).collect() }
}

pub(super) fn collect(range: seawall::Range<'_>, span: Span) -> Outcome<Pairs> {
    let copy = |pair: seawall::Result<(seawall::Value, seawall::Value)>| -> Outcome<_> {
        let (key, value) = pair?;
        Ok((Bytes::from(&*key), Bytes::from(&*value)))
    };
    let most = usize::from(span.pairs_max);
    if span.is_backwards {
        range.rev().take(most).map(copy).collect()
    } else {
        range.take(most).map(copy).collect()
    }
}

pub(super) fn describe(got: &Pairs, expected: &Pairs) -> String {
    let at = got.iter().zip(expected).position(|(got, expected)| got != expected);
    let at = at.unwrap_or(got.len().min(expected.len()));
    let show = |pairs: &Pairs| {
        pairs.get(at).map(|(key, value)| (String::from_utf8_lossy(key).into_owned(), value.len()))
    };
    format!(
        "{} pairs, expected {}; at {at} {:?}, expected {:?}",
        got.len(),
        expected.len(),
        show(got),
        show(expected)
    )
}
