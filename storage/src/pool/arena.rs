//! The memory of the page frames, and the only way to their bytes.
//!
//! The argument for the `unsafe` here:
//!
//! * The arena owns one private anonymous mapping of `frames * page_bytes`, zeroed by the kernel,
//!   made in `new` and unmapped in the drop; every reference into it borrows the arena.
//! * A store into a frame happens in one place, the function `store`, as a relaxed atomic store
//!   of an aligned word, while the frame's latch is held exclusively. No `&mut` to the mapping is ever
//!   made. Concurrent loads by optimistic readers are relaxed atomic loads of the same aligned
//!   words ([`OptimisticPage`]); so no access races with a store except atomically.
//! * A frame is read as `&[u8]` only through [`SharedBytes`] and [`ExclusiveBytes`], which hold the
//!   latch from their making to their drop and alone release it (the latches are private to this
//!   module). While the slice lives, shared mode keeps every writer out, and in exclusive mode the
//!   stores take `&mut self`, which the slice's borrow forbids. So the bytes behind a slice do not
//!   change while it lives.
//! * Forgetting a guard leaves its latch held for ever, which is a hang and not unsound.
//!
//! Under a model checker the words stay those of std: a checker's own cannot live in mapped memory. The
//! models of loom exercise [`Latch`] with model words of their own.

use std::marker::PhantomData;
use std::ops::Range;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64 as Word, Ordering};
use std::{io, slice};

use rustix::mm::{self, MapFlags, ProtFlags};
use seawall_wal::PageId;
use seawall_wal::planted::{Bug, is_planted};
use seawall_wal::sync::atomic::AtomicU64;

use super::frame::FrameState;
use super::held;
use super::latch::{Latch, Parking, Version};
use crate::page::PageLoad;

/// Bytes of a word; frames are stored to and optimistically loaded from in these.
const WORD: usize = size_of::<Word>();
/// Bytes moved at a time by [`ExclusiveBytes::copy_within`].
const CHUNK: usize = 256;
/// Owner of a frame that holds no page.
const NO_PAGE: u64 = u64::MAX;

/// Number of a frame.
pub type FrameIndex = u32;

/// Page frames of equal size, allocated once.
#[derive(Debug)]
pub struct Arena {
    start: NonNull<Word>,
    page_bytes: usize,
    headers: Box<[Header]>,
    parking: Parking,
    /// Whether the kernel took the advice to use huge pages.
    is_huge_advised: bool,
}

/// What the arena keeps beside the bytes of a frame; a cache line of its own. A reader without
/// pin and latch finds all that it asks in it, and writes nothing there once the page is in demand.
#[derive(Debug)]
#[repr(align(64))]
struct Header {
    latch: Latch,
    state: FrameState,
    /// The page in the frame. Changed only while the latch is held exclusively, so that the version
    /// covers it as it covers the bytes.
    page: AtomicU64,
}

impl Arena {
    /// `frames` frames of `page_bytes` zeros that hold no page.
    ///
    /// # Errors
    /// When the kernel gives no memory.
    ///
    /// # Panics
    /// When there is no frame, or the page size is no power of two from 4096 on.
    pub fn new(frames: usize, page_bytes: usize) -> io::Result<Self> {
        assert!(page_bytes.is_power_of_two() && page_bytes >= 4096, "page of {page_bytes} bytes");
        assert!(frames > 0 && FrameIndex::try_from(frames).is_ok(), "arena of {frames} frames");
        let length_bytes = frames.checked_mul(page_bytes).ok_or(io::ErrorKind::OutOfMemory)?;
        // SAFETY: a new private anonymous mapping at an address of the kernel's choice overlaps
        // nothing.
        let mapped = unsafe {
            mm::mmap_anonymous(
                ptr::null_mut(),
                length_bytes,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )
        }?;
        let start = NonNull::new(mapped.cast::<Word>()).ok_or(io::ErrorKind::OutOfMemory)?;
        let header = |_| Header {
            latch: Latch::new(),
            state: FrameState::new(),
            page: AtomicU64::new(NO_PAGE),
        };
        let mut arena = Self {
            start,
            page_bytes,
            headers: (0..frames).map(header).collect(),
            parking: Parking::new(),
            is_huge_advised: false,
        };
        arena.is_huge_advised = arena.advise_huge();
        Ok(arena)
    }

    /// How many frames there are.
    #[must_use]
    pub fn frames(&self) -> usize {
        self.headers.len()
    }

    /// Bytes of a frame.
    #[must_use]
    pub const fn page_bytes(&self) -> usize {
        self.page_bytes
    }

    /// The page in a frame. Without the latch the answer may be old when it arrives.
    #[inline]
    #[must_use]
    pub fn page(&self, frame: FrameIndex) -> Option<PageId> {
        // Relaxed: whoever relies on it holds a pin, the latch, or validates the version.
        let page = self.header(frame).page.load(Ordering::Relaxed);
        (page != NO_PAGE).then(|| PageId::new(page))
    }

    /// Pins and demand of a frame.
    ///
    /// # Panics
    /// When there is no such frame.
    #[inline]
    #[must_use]
    pub fn state(&self, frame: FrameIndex) -> &FrameState {
        &self.header(frame).state
    }

    /// Reads a frame; waits for the latch.
    #[inline]
    #[must_use]
    pub fn shared(&self, frame: FrameIndex) -> SharedBytes<'_> {
        self.header(frame).latch.shared(&self.parking);
        SharedBytes::latched(self, frame)
    }

    /// Reads a frame if the latch can be had at once.
    #[must_use]
    pub fn try_shared(&self, frame: FrameIndex) -> Option<SharedBytes<'_>> {
        let held = self.header(frame).latch.try_shared();
        held.then(|| SharedBytes::latched(self, frame))
    }

    /// Changes a frame; waits for the latch.
    #[inline]
    #[must_use]
    pub fn exclusive(&self, frame: FrameIndex) -> ExclusiveBytes<'_> {
        self.header(frame).latch.exclusive(&self.parking);
        ExclusiveBytes::latched(self, frame)
    }

    /// Changes a frame if the latch can be had at once.
    #[must_use]
    pub fn try_exclusive(&self, frame: FrameIndex) -> Option<ExclusiveBytes<'_>> {
        let held = self.header(frame).latch.try_exclusive();
        held.then(|| ExclusiveBytes::latched(self, frame))
    }

    /// Begins an optimistic read of `page` in `frame`; `None` while the frame is being changed or
    /// holds another page.
    #[inline]
    #[must_use]
    pub fn optimistic(&self, frame: FrameIndex, page: PageId) -> Option<OptimisticPage<'_>> {
        let header = self.headers.get(usize_of(frame))?;
        let version = header.latch.version()?;
        let is_there =
            header.page.load(Ordering::Relaxed) == page.get() || is_planted(Bug::TrustHint);
        is_there.then(|| OptimisticPage { header, words: self.words(frame), version })
    }

    #[inline]
    fn header(&self, frame: FrameIndex) -> &Header {
        &self.headers[usize_of(frame)]
    }

    #[inline]
    fn words(&self, frame: FrameIndex) -> &[Word] {
        let words = self.page_bytes / WORD;
        assert!(usize_of(frame) < self.headers.len(), "frame {frame} does not exist");
        // SAFETY: the frame lies in the mapping, by the line above.
        let start = unsafe { self.start.add(usize_of(frame) * words) };
        // SAFETY: the words are mapped, aligned and initialised until the arena is dropped, and
        // nothing but atomics stores to them.
        unsafe { slice::from_raw_parts(start.as_ptr(), words) }
    }

    /// The bytes of a frame.
    ///
    /// # Safety
    /// From now to the end of the slice the frame's latch is held, and nobody stores to the frame.
    unsafe fn bytes(&self, frame: FrameIndex) -> &[u8] {
        let words = self.words(frame);
        // SAFETY: a word has no padding and any of its bytes may be read as u8; the caller promises
        // that they do not change.
        unsafe { slice::from_raw_parts(words.as_ptr().cast(), self.page_bytes) }
    }

    #[cfg(target_os = "linux")]
    fn advise_huge(&self) -> bool {
        let length_bytes = self.frames() * self.page_bytes;
        // SAFETY: the range is the mapping that this arena owns; the advice changes no byte of it.
        let advised = unsafe {
            mm::madvise(self.start.as_ptr().cast(), length_bytes, mm::Advice::LinuxHugepage)
        };
        advised.is_ok()
    }

    #[cfg(not(target_os = "linux"))]
    fn advise_huge(&self) -> bool {
        false
    }
}

impl Drop for Arena {
    fn drop(&mut self) {
        let length_bytes = self.frames() * self.page_bytes;
        // SAFETY: the mapping is owned by this arena, and every reference into it borrowed the arena.
        let unmapped = unsafe { mm::munmap(self.start.as_ptr().cast(), length_bytes) };
        debug_assert!(unmapped.is_ok(), "the range is a mapping of this process");
    }
}

// SAFETY: the arena owns its mapping like a `Box<[AtomicU64]>`.
unsafe impl Send for Arena {}
// SAFETY: shared access to the mapping is by atomics, or under latches as the module argues.
unsafe impl Sync for Arena {}

/// Index of a frame number; both are bounded by the number of frames.
fn usize_of(frame: FrameIndex) -> usize {
    seawall_wal::codec::to_usize(u64::from(frame))
}

/// A frame whose latch is held shared. Stays on its thread: latches are counted per thread.
#[derive(Debug)]
pub struct SharedBytes<'a> {
    arena: &'a Arena,
    frame: FrameIndex,
    here: PhantomData<*const ()>,
}

impl<'a> SharedBytes<'a> {
    /// The guard of a latch just taken.
    fn latched(arena: &'a Arena, frame: FrameIndex) -> Self {
        held::latched();
        Self { arena, frame, here: PhantomData }
    }

    /// The page's bytes.
    #[inline]
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the latch is held shared until `self`, which the slice borrows, is dropped.
        unsafe { self.arena.bytes(self.frame) }
    }
}

impl Drop for SharedBytes<'_> {
    fn drop(&mut self) {
        held::unlatched();
        self.arena.header(self.frame).latch.release_shared(&self.arena.parking);
    }
}

/// A frame whose latch is held exclusively. Stays on its thread, too.
#[derive(Debug)]
pub struct ExclusiveBytes<'a> {
    arena: &'a Arena,
    frame: FrameIndex,
    here: PhantomData<*const ()>,
}

impl<'a> ExclusiveBytes<'a> {
    /// The guard of a latch just taken.
    fn latched(arena: &'a Arena, frame: FrameIndex) -> Self {
        held::latched();
        Self { arena, frame, here: PhantomData }
    }

    /// The page's bytes.
    #[inline]
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the latch is held exclusively until `self` is dropped, and the stores need
        // `&mut self`, which the slice's borrow forbids.
        unsafe { self.arena.bytes(self.frame) }
    }

    /// Says which page the frame holds from now on.
    pub fn set_page(&mut self, page: Option<PageId>) {
        let page = page.map_or(NO_PAGE, PageId::get);
        debug_assert!(self.arena.page(self.frame).is_none() || page == NO_PAGE, "frame in use");
        self.arena.header(self.frame).page.store(page, Ordering::Relaxed);
    }

    /// Stores `bytes` at `offset`.
    ///
    /// # Panics
    /// When they reach beyond the page.
    pub fn write(&mut self, offset: usize, bytes: &[u8]) {
        self.check(offset, bytes.len());
        let mut index = offset / WORD;
        let head_bytes = (offset.next_multiple_of(WORD) - offset).min(bytes.len());
        let (head, rest) = bytes.split_at(head_bytes);
        if !head.is_empty() {
            self.store_part(index, offset % WORD, head);
            index += 1;
        }
        let (whole, tail) = rest.as_chunks::<WORD>();
        for (word, &bytes) in self.arena.words(self.frame)[index..].iter().zip(whole) {
            store(word, u64::from_ne_bytes(bytes));
        }
        if !tail.is_empty() {
            self.store_part(index + whole.len(), 0, tail);
        }
    }

    /// Stores zeros over `range`.
    ///
    /// # Panics
    /// When it reaches beyond the page.
    pub fn fill_zero(&mut self, range: Range<usize>) {
        self.check(range.start, range.len());
        let zeros = [0; CHUNK];
        for at in range.clone().step_by(CHUNK) {
            self.write(at, &zeros[..CHUNK.min(range.end - at)]);
        }
    }

    /// Moves the bytes of `range` to `to`; the two may overlap.
    ///
    /// # Panics
    /// When one of them reaches beyond the page.
    pub fn copy_within(&mut self, range: Range<usize>, to: usize) {
        self.check(range.start, range.len());
        self.check(to, range.len());
        // In the direction in which no byte is overwritten before it was read.
        let chunks = range.len().div_ceil(CHUNK);
        let is_forward = to <= range.start;
        let mut carried = [0; CHUNK];
        for chunk in 0..chunks {
            let chunk = if is_forward { chunk } else { chunks - 1 - chunk };
            let from = range.start + chunk * CHUNK;
            let carried = &mut carried[..CHUNK.min(range.end - from)];
            carried.copy_from_slice(&self.bytes()[from..from + carried.len()]);
            self.write(to + chunk * CHUNK, carried);
        }
    }

    /// Stores `bytes` over a part of one word.
    fn store_part(&mut self, index: usize, offset: usize, bytes: &[u8]) {
        let word = &self.arena.words(self.frame)[index];
        let mut value = word.load(Ordering::Relaxed).to_ne_bytes();
        value[offset..offset + bytes.len()].copy_from_slice(bytes);
        store(word, u64::from_ne_bytes(value));
    }

    fn check(&self, offset: usize, length: usize) {
        let page_bytes = self.arena.page_bytes;
        assert!(
            offset <= page_bytes && length <= page_bytes - offset,
            "{length} bytes at {offset} of a page of {page_bytes}"
        );
    }
}

/// The one store to page memory. The latch is held exclusively by the caller. Relaxed: optimistic
/// readers find out through the version (pairings in `latch`), everyone else waits for the release.
fn store(word: &Word, value: u64) {
    word.store(value, Ordering::Relaxed);
}

impl Drop for ExclusiveBytes<'_> {
    fn drop(&mut self) {
        held::unlatched();
        self.arena.header(self.frame).latch.release_exclusive(&self.arena.parking);
    }
}

/// A page read without a latch: what it answers means something only once [`Self::validate`] has
/// said so. Every offset is clamped into the page, so that bytes torn by a writer lead nowhere else.
#[derive(Clone, Copy, Debug)]
pub struct OptimisticPage<'a> {
    header: &'a Header,
    words: &'a [Word],
    version: Version,
}

impl OptimisticPage<'_> {
    /// Whether everything loaded since the beginning belongs to one state of the page.
    #[inline]
    #[must_use]
    pub fn validate(&self) -> bool {
        self.header.latch.validate(self.version)
    }

    /// The word at an index; 0 behind the page.
    #[inline]
    fn word(&self, index: usize) -> u64 {
        self.words.get(index).map_or(0, |word| u64::from_le(word.load(Ordering::Relaxed)))
    }

    /// Eight bytes from `offset` on; what lies behind the page is 0.
    #[inline]
    fn eight(&self, offset: usize) -> u64 {
        let (index, skipped) = (offset / WORD, offset % WORD);
        let low = self.word(index);
        if skipped == 0 {
            return low;
        }
        let bits = skipped * 8;
        low >> bits | self.word(index + 1) << (64 - bits)
    }
}

impl PageLoad for OptimisticPage<'_> {
    #[inline]
    fn page_bytes(&self) -> usize {
        self.words.len() * WORD
    }

    #[inline]
    fn load_u64(&self, offset: usize) -> u64 {
        self.eight(offset)
    }

    fn append_to(&self, offset: usize, length: usize, out: &mut Vec<u8>) {
        let length = length.min(self.page_bytes().saturating_sub(offset));
        let start = out.len();
        out.resize(start + length, 0);
        let (chunks, tail) = out[start..].as_chunks_mut::<WORD>();
        let words = self.words.get(offset / WORD..).unwrap_or_default();
        let load = |word: &Word| u64::from_le(word.load(Ordering::Relaxed));
        let tail_start = offset + chunks.len() * WORD;
        match offset % WORD * 8 {
            0 => {
                for (chunk, word) in chunks.iter_mut().zip(words) {
                    *chunk = load(word).to_le_bytes();
                }
            }
            bits => {
                let mut low = words.first().map_or(0, load);
                for (chunk, word) in chunks.iter_mut().zip(words.iter().skip(1)) {
                    let high = load(word);
                    *chunk = (low >> bits | high << (64 - bits)).to_le_bytes();
                    low = high;
                }
            }
        }
        let rest = self.eight(tail_start).to_le_bytes();
        tail.copy_from_slice(&rest[..tail.len()]);
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use std::cmp::Ordering;

    use proptest::prelude::*;

    use super::{Arena, PageId};
    use crate::page::PageLoad;

    const PAGE_BYTES: usize = 4096;

    fn range() -> impl Strategy<Value = (usize, usize)> {
        (0..PAGE_BYTES, 0..700_usize)
            .prop_map(|(start, count)| (start, count.min(PAGE_BYTES - start)))
    }

    proptest! {
        #[test]
        fn stores_do_what_they_do_to_a_plain_buffer(
            changes in proptest::collection::vec((0..3_u8, range(), any::<u8>(), 0..PAGE_BYTES), 1..20),
        ) {
            let arena = Arena::new(3, PAGE_BYTES).unwrap();
            let mut plain = vec![0; PAGE_BYTES];
            let mut page = arena.exclusive(1);
            for (kind, (start, count), byte, to) in changes {
                let bytes: Vec<_> = (byte..=u8::MAX).chain(0..=u8::MAX).cycle().take(count).collect();
                match kind {
                    0 => {
                        page.write(start, &bytes);
                        plain[start..start + count].copy_from_slice(&bytes);
                    }
                    1 => {
                        page.fill_zero(start..start + count);
                        plain[start..start + count].fill(0);
                    }
                    _ => {
                        let to = to.min(PAGE_BYTES - count);
                        page.copy_within(start..start + count, to);
                        plain.copy_within(start..start + count, to);
                    }
                }
                prop_assert!(page.bytes() == plain);
            }
            drop(page);
            prop_assert!(arena.shared(0).bytes().iter().all(|&byte| byte == 0));
            prop_assert!(arena.shared(2).bytes().iter().all(|&byte| byte == 0));
        }

        #[test]
        fn optimistic_loads_agree_with_the_latched_bytes(
            content in proptest::collection::vec(any::<u8>(), PAGE_BYTES),
            (start, count) in range(),
        ) {
            let arena = Arena::new(1, PAGE_BYTES).unwrap();
            let mut page = arena.exclusive(0);
            page.write(0, &content);
            page.set_page(Some(PageId::new(5)));
            drop(page);
            let page = arena.optimistic(0, PageId::new(5)).unwrap();
            prop_assert_eq!(page.page_bytes(), PAGE_BYTES);
            let mut copied = Vec::new();
            page.append_to(start, count, &mut copied);
            prop_assert!(copied == content[start..start + count]);
            prop_assert_eq!(page.compare(start, count, &copied), Ordering::Equal);
            copied.push(0);
            prop_assert_eq!(page.compare(start, count, &copied), Ordering::Less);
            if count > 0 {
                copied.truncate(count - 1);
                prop_assert_eq!(page.compare(start, count, &copied), Ordering::Greater);
                for at in [0, count / 2, count - 1] {
                    let mut other = content[start..start + count].to_vec();
                    other[at] = other[at].wrapping_add(1);
                    let order = content[start..start + count].cmp(&other);
                    prop_assert_eq!(page.compare(start, count, &other), order);
                }
            }
            let padded = [&content[start..], &[0; 8]].concat();
            prop_assert_eq!(page.load_u64(start), u64::from_le_bytes(*padded.first_chunk().unwrap()));
            prop_assert_eq!(page.load_u16(start), u16::from_le_bytes(*padded.first_chunk().unwrap()));
            prop_assert_eq!(page.load_u8(start), content[start]);
            prop_assert!(page.validate());
        }
    }

    #[test]
    fn what_lies_behind_the_page_is_zero_and_never_read() {
        let arena = Arena::new(2, PAGE_BYTES).unwrap();
        let mut page = arena.exclusive(0);
        page.write(PAGE_BYTES - 2, &[1, 2]);
        page.set_page(Some(PageId::new(5)));
        drop(page);
        arena.exclusive(1).write(0, &[3; 16]);
        let page = arena.optimistic(0, PageId::new(5)).unwrap();
        assert_eq!(page.load_u16(usize::MAX), 0);
        assert_eq!(page.load_u64(PAGE_BYTES), 0);
        assert_eq!(page.load_u64(PAGE_BYTES - 2), 0x0201);
        let mut copied = Vec::new();
        page.append_to(usize::MAX, 4, &mut copied);
        assert!(copied.is_empty());
        page.append_to(PAGE_BYTES - 1, usize::MAX, &mut copied);
        assert_eq!(copied, [2]);
        assert_eq!(page.compare(PAGE_BYTES - 2, usize::MAX, &[1, 2]), Ordering::Equal);
    }

    #[test]
    fn a_hint_to_another_page_or_frame_finds_nothing() {
        let arena = Arena::new(1, PAGE_BYTES).unwrap();
        assert!(arena.optimistic(0, PageId::new(5)).is_none());
        arena.exclusive(0).set_page(Some(PageId::new(5)));
        let page = arena.optimistic(0, PageId::new(5)).unwrap();
        assert!(arena.optimistic(0, PageId::new(6)).is_none());
        assert!(arena.optimistic(7, PageId::new(5)).is_none());
        let held = arena.exclusive(0);
        assert!(!page.validate() && arena.optimistic(0, PageId::new(5)).is_none());
        drop(held);
        assert!(!page.validate());
    }

    #[test]
    #[should_panic(expected = "of a page of 4096")]
    fn a_store_beyond_the_page_is_refused() {
        Arena::new(2, PAGE_BYTES).unwrap().exclusive(0).write(PAGE_BYTES - 1, &[1, 2]);
    }
}
