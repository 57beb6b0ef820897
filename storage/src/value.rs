//! A value or key handed out by the engine: bytes that are cheap to clone.
//!
//! Up to [`INLINE_BYTES_MAX`] bytes lie in the value itself; longer ones are shared behind a
//! reference count. Which of the forms a value has is never visible: comparison, order and hash are
//! those of the bytes.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

/// Longest value that is stored without an allocation: fills 32 bytes with length and form.
const INLINE_BYTES_MAX: usize = 30;

/// Bytes of a key or value. Cloning is O(1) and never copies more than 32 bytes.
///
/// It dereferences to `[u8]`, compares, orders and hashes as its bytes do, and so stands in for them
/// in maps.
///
/// ```
/// use seawall::Value;
///
/// let value = Value::from(b"some bytes");
/// assert_eq!(value, b"some bytes");
/// assert_eq!(value.len(), 10);
/// assert_eq!(value.into_vec(), b"some bytes".to_vec());
/// ```
#[derive(Clone)]
pub struct Value(Repr);

#[derive(Clone)]
enum Repr {
    Inline {
        length: u8,
        bytes: [u8; INLINE_BYTES_MAX],
    },
    /// Made from a slice: one allocation holds count and bytes.
    Slice(Arc<[u8]>),
    /// Made from a vector: its bytes stay where they are, however many.
    Vec(Arc<Vec<u8>>),
}

const _: () = assert!(size_of::<Value>() == 32);

impl Value {
    fn inline(bytes: &[u8]) -> Option<Self> {
        let mut inline = [0; INLINE_BYTES_MAX];
        inline.get_mut(..bytes.len())?.copy_from_slice(bytes);
        let length = u8::try_from(bytes.len()).expect("at most INLINE_BYTES_MAX");
        Some(Self(Repr::Inline { length, bytes: inline }))
    }

    /// The bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        match &self.0 {
            Repr::Inline { length, bytes } => &bytes[..usize::from(*length)],
            Repr::Slice(bytes) => bytes,
            Repr::Vec(bytes) => bytes,
        }
    }

    /// The bytes as a vector; without a copy where this is the only handle on a vector.
    #[must_use]
    pub fn into_vec(self) -> Vec<u8> {
        match self.0 {
            Repr::Vec(bytes) => Arc::unwrap_or_clone(bytes),
            _ => self.as_slice().to_vec(),
        }
    }
}

impl Default for Value {
    fn default() -> Self {
        Self(Repr::Inline { length: 0, bytes: [0; INLINE_BYTES_MAX] })
    }
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Self {
        Self::inline(bytes).unwrap_or_else(|| Self(Repr::Slice(Arc::from(bytes))))
    }
}

impl<const N: usize> From<&[u8; N]> for Value {
    fn from(bytes: &[u8; N]) -> Self {
        Self::from(bytes.as_slice())
    }
}

impl From<Vec<u8>> for Value {
    fn from(bytes: Vec<u8>) -> Self {
        Self::inline(&bytes).unwrap_or_else(|| Self(Repr::Vec(Arc::new(bytes))))
    }
}

impl From<Value> for Vec<u8> {
    fn from(value: Value) -> Self {
        value.into_vec()
    }
}

impl Deref for Value {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl AsRef<[u8]> for Value {
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl Borrow<[u8]> for Value {
    fn borrow(&self) -> &[u8] {
        self.as_slice()
    }
}

/// As text where the bytes are printable ASCII, with escapes elsewhere: `b"a\x00"`.
impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.as_slice().escape_ascii())
    }
}

impl Hash for Value {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_slice().hash(state);
    }
}

impl Eq for Value {}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Ord for Value {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_slice().cmp(other.as_slice())
    }
}

impl PartialOrd for Value {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

macro_rules! compare_with {
    ($([$($generics:tt)*] $other:ty),* $(,)?) => {
        $(
            impl<$($generics)*> PartialEq<$other> for Value {
                fn eq(&self, other: &$other) -> bool {
                    self.as_slice() == &other[..]
                }
            }

            impl<$($generics)*> PartialEq<Value> for $other {
                fn eq(&self, other: &Value) -> bool {
                    &self[..] == other.as_slice()
                }
            }
        )*
    };
}

compare_with! {
    [] [u8],
    [] &[u8],
    [] Vec<u8>,
    [const N: usize] [u8; N],
    [const N: usize] &[u8; N],
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, HashSet};

    use super::{INLINE_BYTES_MAX, Value};

    /// Lengths on both sides of every change of form.
    const LENGTHS: [usize; 6] =
        [0, 1, INLINE_BYTES_MAX - 1, INLINE_BYTES_MAX, INLINE_BYTES_MAX + 1, 5000];

    fn sample(length: usize) -> Vec<u8> {
        (0..=u8::MAX).cycle().take(length).collect()
    }

    #[test]
    fn every_form_gives_back_its_bytes() {
        for length in LENGTHS {
            let bytes = sample(length);
            assert_eq!(Value::from(&bytes[..]).as_slice(), bytes);
            assert_eq!(Value::from(&bytes[..]).into_vec(), bytes);
            assert_eq!(Vec::from(Value::from(bytes.clone())), bytes);
        }
    }

    #[test]
    fn forms_with_the_same_bytes_are_the_same_value() {
        for length in LENGTHS {
            let bytes = sample(length);
            let (slice, vec) = (Value::from(&bytes[..]), Value::from(bytes.clone()));
            assert_eq!(slice, vec);
            assert_eq!(slice.cmp(&vec), std::cmp::Ordering::Equal);
            assert!(HashSet::from([slice]).contains(&bytes[..]));
            assert!(BTreeSet::from([vec]).contains(&bytes[..]));
        }
    }

    #[test]
    fn values_order_as_their_bytes() {
        let sorted = [&b""[..], b"a", b"a\0", &[b'a'; 40], b"b", &[0xff; 31]];
        for pair in sorted.windows(2) {
            let (low, high) = (Value::from(pair[0]), Value::from(pair[1]));
            assert!(low < high, "{low:?} {high:?}");
        }
    }

    #[test]
    fn values_compare_with_slices_arrays_and_vectors() {
        let value = Value::from(b"abc");
        assert!(value == b"abc" && value == *b"abc" && value == b"abc"[..]);
        assert_eq!(value, &b"abc"[..]);
        assert!(value == b"abc".to_vec() && b"abc".to_vec() == value);
        assert!(value != b"abd" && value != b"ab".to_vec());
    }

    #[test]
    fn a_unique_vector_comes_back_without_a_copy() {
        let bytes = sample(1 << 16);
        let address = bytes.as_ptr();
        let value = Value::from(bytes);
        let clone = value.clone();
        drop(clone);
        let bytes = value.into_vec();
        assert_eq!(bytes.as_ptr(), address);
    }

    #[test]
    fn debug_shows_text_and_escapes() {
        assert_eq!(format!("{:?}", Value::from(b"a\0\"")), r#"b"a\x00\"""#);
    }
}
