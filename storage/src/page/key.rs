//! A key as a page stores it: the prefix all its keys share, and the rest.

use std::cmp::Ordering;

/// A key in two pieces, borrowed from a page. Reads as the concatenation.
#[derive(Clone, Copy, Debug, Default)]
pub struct Key<'a> {
    /// What all keys of the page begin with.
    pub prefix: &'a [u8],
    /// What follows.
    pub suffix: &'a [u8],
}

impl<'a> Key<'a> {
    /// A key in one piece.
    #[must_use]
    pub const fn whole(key: &'a [u8]) -> Self {
        Self { prefix: &[], suffix: key }
    }

    /// Bytes of the key.
    #[must_use]
    pub const fn len(self) -> usize {
        self.prefix.len() + self.suffix.len()
    }

    /// Whether the key has no bytes: the lowest of all, the low fence of a leftmost page.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Order against a key in one piece.
    #[inline]
    #[must_use]
    pub fn compare(self, other: &[u8]) -> Ordering {
        let (head, rest) = other.split_at(self.prefix.len().min(other.len()));
        self.prefix.cmp(head).then_with(|| self.suffix.cmp(rest))
    }

    /// Order against another key.
    #[must_use]
    pub fn compare_key(self, other: Key<'_>) -> Ordering {
        let common = self.common_len(other);
        self.byte(common).cmp(&other.byte(common))
    }

    /// Puts the key at the end of `out`; a scan keeps one buffer for all its keys.
    pub fn append_to(self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.prefix);
        out.extend_from_slice(self.suffix);
    }

    /// A copy in one piece.
    #[must_use]
    pub fn to_vec(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.len());
        self.append_to(&mut out);
        out
    }

    /// The key without its first `count` bytes.
    #[must_use]
    pub(super) fn skip(self, count: usize) -> Self {
        let from_prefix = count.min(self.prefix.len());
        let from_suffix = (count - from_prefix).min(self.suffix.len());
        Self { prefix: &self.prefix[from_prefix..], suffix: &self.suffix[from_suffix..] }
    }

    /// The first `count` bytes of the key.
    #[must_use]
    pub(super) fn take(self, count: usize) -> Self {
        let from_prefix = count.min(self.prefix.len());
        let from_suffix = (count - from_prefix).min(self.suffix.len());
        Self { prefix: &self.prefix[..from_prefix], suffix: &self.suffix[..from_suffix] }
    }

    /// How many bytes both keys begin with.
    #[must_use]
    pub(super) fn common_len(self, other: Key<'_>) -> usize {
        let prefix_len = self.prefix.len();
        if prefix_len != other.prefix.len() {
            return self.iter().zip(other.iter()).take_while(|(a, b)| a == b).count();
        }
        match common_len(self.prefix, other.prefix) {
            common if common < prefix_len => common,
            _ => prefix_len + common_len(self.suffix, other.suffix),
        }
    }

    /// The byte at `index`; `None`, which sorts first, behind the end.
    fn byte(self, index: usize) -> Option<u8> {
        match index.checked_sub(self.prefix.len()) {
            None => self.prefix.get(index).copied(),
            Some(index) => self.suffix.get(index).copied(),
        }
    }

    fn iter(self) -> impl Iterator<Item = &'a u8> {
        self.prefix.iter().chain(self.suffix)
    }
}

/// How many bytes both slices begin with.
fn common_len(a: &[u8], b: &[u8]) -> usize {
    let chunks = a.as_chunks::<8>().0.iter().zip(b.as_chunks::<8>().0);
    let start = 8 * chunks.take_while(|(a, b)| a == b).count();
    start + a[start..].iter().zip(&b[start..]).take_while(|(a, b)| a == b).count()
}

impl PartialEq<[u8]> for Key<'_> {
    fn eq(&self, other: &[u8]) -> bool {
        self.compare(other).is_eq()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_compares_as_its_concatenation() {
        let keys: [&[u8]; 12] = [
            b"",
            b"a",
            b"ab",
            b"ab\0",
            b"abc",
            b"abd",
            b"b",
            b"ba",
            b"\xff",
            b"a key of some length",
            b"a key of some lengths",
            b"a key of the same length",
        ];
        for left in keys {
            for right in keys {
                for cut in 0..=left.len() {
                    let key = Key { prefix: &left[..cut], suffix: &left[cut..] };
                    assert_eq!(key.compare(right), left.cmp(right), "{left:?} {cut} {right:?}");
                    assert_eq!(key.compare_key(Key::whole(right)), left.cmp(right));
                    let common = left.iter().zip(right).take_while(|(a, b)| a == b).count();
                    assert_eq!(key.common_len(Key::whole(right)), common);
                    for other_cut in 0..=right.len() {
                        let (prefix, suffix) = right.split_at(other_cut);
                        assert_eq!(key.common_len(Key { prefix, suffix }), common);
                    }
                    for skip in 0..=left.len() {
                        assert_eq!(key.skip(skip).to_vec(), &left[skip..]);
                        assert_eq!(key.take(skip).to_vec(), &left[..skip]);
                    }
                }
            }
        }
    }
}
