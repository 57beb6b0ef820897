//! Where a page's bytes live: the seam between the page formats and the memory that holds a page.
//!
//! A plain buffer is [`PageBuf`]; the buffer pool has the other implementation, whose bytes are
//! atomic words, so nobody ever gets a `&mut [u8]` to a resident page. Reads of numbers are clamped:
//! beyond the end they give 0, so that a view over bytes that were not verified gives a wrong answer
//! and never a panic. (A reader without a latch takes no view: it loads words by [`PageLoad`].)

use std::cmp::Ordering;
use std::fmt;
use std::ops::Range;

/// Bytes of a page that may be read.
pub trait PageRead {
    /// The whole page, header first. The length is the database's page size.
    fn bytes(&self) -> &[u8];
}

/// Bytes of a page that may change while they are loaded: whoever loads them finds out afterwards
/// whether the answers belong together. Behind the page there are zeros.
pub trait PageLoad {
    /// Length of the page.
    fn page_bytes(&self) -> usize;

    /// Eight bytes, little-endian; `offset` may be anything.
    fn load_u64(&self, offset: usize) -> u64;

    /// Two bytes, little-endian.
    #[inline]
    fn load_u16(&self, offset: usize) -> u16 {
        let [a, b, ..] = self.load_u64(offset).to_le_bytes();
        u16::from_le_bytes([a, b])
    }

    /// One byte.
    #[inline]
    fn load_u8(&self, offset: usize) -> u8 {
        self.load_u64(offset).to_le_bytes()[0]
    }

    /// Appends `length` bytes from `offset` on to `out`, or as many as the page has.
    fn append_to(&self, offset: usize, length: usize, out: &mut Vec<u8>);

    /// Compares `length` bytes from `offset` on with `key`, as slices compare.
    #[inline]
    fn compare(&self, offset: usize, length: usize, key: &[u8]) -> Ordering {
        // The page's end cuts off what a torn length promised.
        let length = length.min(self.page_bytes().saturating_sub(offset));
        let (words, rest) = key[..length.min(key.len())].as_chunks::<WORD>();
        let mut at = offset;
        for &word in words {
            let (ours, theirs) = (self.load_u64(at).swap_bytes(), u64::from_be_bytes(word));
            if ours != theirs {
                return ours.cmp(&theirs);
            }
            at += WORD;
        }
        let ours = self.load_u64(at).to_le_bytes();
        ours[..rest.len()].cmp(rest).then(length.cmp(&key.len()))
    }
}

/// Bytes that are loaded at once.
const WORD: usize = size_of::<u64>();

/// Bytes of a page that may be changed.
///
/// # Panics
/// Every method panics when a range lies outside the page.
pub trait PageWrite: PageRead {
    /// Puts `bytes` at `offset`.
    fn write(&mut self, offset: usize, bytes: &[u8]);
    /// Moves the bytes of `from` to `to`; the ranges may overlap.
    fn copy_within(&mut self, from: Range<usize>, to: usize);
    /// Makes every byte of `range` zero.
    fn fill_zero(&mut self, range: Range<usize>);
}

/// A page in memory of its own, not shared with anyone.
#[derive(Clone, PartialEq, Eq)]
pub struct PageBuf(Box<[u8]>);

impl PageBuf {
    /// A page of `page_bytes` zeros.
    #[must_use]
    pub fn zeroed(page_bytes: usize) -> Self {
        Self(vec![0; page_bytes].into_boxed_slice())
    }

    /// A copy of a page.
    #[must_use]
    pub fn copy_of(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    /// The bytes, to read a page into or to seal it.
    #[must_use]
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl PageRead for PageBuf {
    fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl PageWrite for PageBuf {
    fn write(&mut self, offset: usize, bytes: &[u8]) {
        self.0[offset..][..bytes.len()].copy_from_slice(bytes);
    }

    fn copy_within(&mut self, from: Range<usize>, to: usize) {
        self.0.copy_within(from, to);
    }

    fn fill_zero(&mut self, range: Range<usize>) {
        self.0[range].fill(0);
    }
}

impl fmt::Debug for PageBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PageBuf({} bytes)", self.0.len())
    }
}

#[inline]
fn array_at<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    bytes.get(offset..).and_then(<[u8]>::first_chunk::<N>).copied().unwrap_or([0; N])
}

/// The byte at `offset`.
#[inline]
pub(super) fn u8_at(bytes: &[u8], offset: usize) -> u8 {
    bytes.get(offset).copied().unwrap_or(0)
}

/// The two-byte number at `offset`: a length or an offset inside the page.
#[inline]
pub(super) fn short_at(bytes: &[u8], offset: usize) -> usize {
    usize::from(u16::from_le_bytes(array_at(bytes, offset)))
}

/// The four-byte number at `offset`.
#[inline]
pub(super) fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, offset))
}

/// The four bytes at `offset` as a number that compares as they do.
#[inline]
pub(super) fn u32_be_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_be_bytes(array_at(bytes, offset))
}

/// The eight-byte number at `offset`.
#[inline]
pub(super) fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(array_at(bytes, offset))
}

/// The bytes of `range`, none where it is not inside the page.
#[inline]
pub(super) fn slice_at(bytes: &[u8], range: Range<usize>) -> &[u8] {
    bytes.get(range).unwrap_or_default()
}

/// A length or an offset inside a page as it is stored.
#[inline]
pub(super) fn short(number: usize) -> [u8; 2] {
    u16::try_from(number).expect("a page has at most 32 KiB").to_le_bytes()
}
