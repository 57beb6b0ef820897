//! Memory that direct I/O accepts.
//!
//! The argument for the `unsafe` here: an [`AlignedBuf`] owns one allocation of `len` bytes made with
//! the layout of [`layout`], or no allocation where `len` is 0. Nothing else ever holds its pointer,
//! all `len` bytes are initialised from the start (zeroed), and neither pointer nor length changes
//! until the drop, which frees with the same layout. So the slices given out are valid for as long as
//! they borrow the buffer, and the buffer may move between threads like a `Box<[u8]>`.

use std::alloc::{self, Layout};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::{self, NonNull};
use std::slice;

use super::BLOCK_BYTES;

/// Zeroed heap bytes whose address and length are multiples of [`BLOCK_BYTES`].
pub struct AlignedBuf {
    start: NonNull<u8>,
    len: usize,
}

impl AlignedBuf {
    /// `len_bytes` zeros.
    ///
    /// # Panics
    /// When `len_bytes` is not a multiple of [`BLOCK_BYTES`].
    #[must_use]
    pub fn new(len_bytes: usize) -> Self {
        let layout = layout(len_bytes);
        if len_bytes == 0 {
            let aligned = NonNull::new(ptr::without_provenance_mut(BLOCK_BYTES))
                .expect("the block size is not zero");
            return Self { start: aligned, len: 0 };
        }
        // SAFETY: the layout's size is not zero.
        let start = unsafe { alloc::alloc_zeroed(layout) };
        let Some(start) = NonNull::new(start) else { alloc::handle_alloc_error(layout) };
        Self { start, len: len_bytes }
    }
}

/// Layout of a buffer of `len_bytes`.
fn layout(len_bytes: usize) -> Layout {
    assert!(
        len_bytes.is_multiple_of(BLOCK_BYTES),
        "length {len_bytes} of an aligned buffer is not a multiple of {BLOCK_BYTES}"
    );
    Layout::from_size_align(len_bytes, BLOCK_BYTES).expect("no buffer is as large as isize::MAX")
}

impl Drop for AlignedBuf {
    fn drop(&mut self) {
        if self.len != 0 {
            // SAFETY: the allocation was made with this layout, and is owned by this buffer alone.
            unsafe { alloc::dealloc(self.start.as_ptr(), layout(self.len)) }
        }
    }
}

impl Deref for AlignedBuf {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `start` has `len` initialised bytes (or `len` is 0 and `start` not null), and the
        // borrow of `self` keeps anyone from writing them.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl DerefMut for AlignedBuf {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and the exclusive borrow of `self` makes this the only slice.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl fmt::Debug for AlignedBuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The bytes are a user's data, which has no place in a log.
        f.debug_struct("AlignedBuf").field("len_bytes", &self.len).finish()
    }
}

// SAFETY: the buffer owns its bytes like a `Box<[u8]>` does; see the module's argument.
unsafe impl Send for AlignedBuf {}
// SAFETY: a shared buffer gives out shared slices only.
unsafe impl Sync for AlignedBuf {}

#[cfg(test)]
mod tests {
    use super::{AlignedBuf, BLOCK_BYTES};

    #[test]
    fn buffer_is_zeroed_and_aligned() {
        let mut buf = AlignedBuf::new(3 * BLOCK_BYTES);
        assert!(buf.as_ptr().addr().is_multiple_of(BLOCK_BYTES));
        assert_eq!(buf.len(), 3 * BLOCK_BYTES);
        assert!(buf.iter().all(|&byte| byte == 0));
        buf[BLOCK_BYTES] = 7;
        buf.fill(0);
        assert!(buf.iter().all(|&byte| byte == 0));
    }

    #[test]
    fn empty_buffer_needs_no_memory() {
        let buf = AlignedBuf::new(0);
        assert!(buf.is_empty());
        assert!(buf.as_ptr().addr().is_multiple_of(BLOCK_BYTES));
    }

    #[test]
    #[should_panic(expected = "not a multiple")]
    fn odd_length_is_refused() {
        drop(AlignedBuf::new(BLOCK_BYTES + 1));
    }

    #[test]
    fn debug_output_does_not_show_contents() {
        assert_eq!(format!("{:?}", AlignedBuf::new(4096)), "AlignedBuf { len_bytes: 4096 }");
    }
}
