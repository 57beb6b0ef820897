//! Pins and latches as values: a [`Pin`] keeps a page in its frame, a [`SharedPage`] or
//! [`ExclusivePage`] is the witness that its latch is held.

use std::fmt;
use std::ops::Range;

use seawall_wal::{Lsn, PageId};

use super::Pool;
use super::arena::{ExclusiveBytes, FrameIndex, SharedBytes};

use crate::page::{PageRead, PageView, PageWrite};

/// Keeps a page in its frame; dropping it lets go.
pub struct Pin<'p> {
    pool: &'p Pool,
    page: PageId,
    frame: FrameIndex,
}

impl<'p> Pin<'p> {
    /// The value of a pin already counted.
    pub(super) const fn pinned(pool: &'p Pool, page: PageId, frame: FrameIndex) -> Self {
        Self { pool, page, frame }
    }

    /// The page.
    #[inline]
    #[must_use]
    pub const fn id(&self) -> PageId {
        self.page
    }

    /// The frame, as a hint.
    pub(super) const fn frame(&self) -> FrameIndex {
        self.frame
    }

    /// Latches the page for reading; waits. A thread latches a page once: not again while it has
    /// it.
    #[inline]
    #[must_use]
    pub fn shared(&self) -> SharedPage<'_> {
        SharedPage { bytes: self.pool.arena.shared(self.frame), page: self.page, _pin: None }
    }

    /// Latches the page for reading if that needs no wait.
    #[must_use]
    pub fn try_shared(&self) -> Option<SharedPage<'_>> {
        let bytes = self.pool.arena.try_shared(self.frame)?;
        Some(SharedPage { bytes, page: self.page, _pin: None })
    }

    /// Latches the page for changing; waits.
    #[inline]
    #[must_use]
    pub fn exclusive(&self) -> ExclusivePage<'_> {
        ExclusivePage { bytes: self.pool.arena.exclusive(self.frame), page: self.page, _pin: None }
    }

    /// Latches the page for reading; the guard keeps the pin.
    #[must_use]
    pub fn into_shared(self) -> SharedPage<'p> {
        let (bytes, page) = (self.pool.arena.shared(self.frame), self.page);
        SharedPage { bytes, page, _pin: Some(self) }
    }

    /// Latches the page for changing; the guard keeps the pin.
    #[must_use]
    pub fn into_exclusive(self) -> ExclusivePage<'p> {
        let (bytes, page) = (self.pool.arena.exclusive(self.frame), self.page);
        ExclusivePage { bytes, page, _pin: Some(self) }
    }
}

impl Clone for Pin<'_> {
    fn clone(&self) -> Self {
        assert!(self.pool.state(self.frame).try_pin(), "a pinned frame is not claimed");
        Self::pinned(self.pool, self.page, self.frame)
    }
}

impl Drop for Pin<'_> {
    fn drop(&mut self) {
        self.pool.state(self.frame).unpin();
    }
}

impl fmt::Debug for Pin<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pin(page {} in frame {})", self.page, self.frame)
    }
}

/// A page latched for reading.
#[derive(Debug)]
pub struct SharedPage<'p> {
    // Dropped in this order: the latch goes before the pin.
    bytes: SharedBytes<'p>,
    page: PageId,
    _pin: Option<Pin<'p>>,
}

impl SharedPage<'_> {
    /// The page.
    #[inline]
    #[must_use]
    pub const fn id(&self) -> PageId {
        self.page
    }

    /// END of the last record applied to the page.
    #[must_use]
    pub fn page_lsn(&self) -> Lsn {
        PageView::new(self.bytes.bytes()).page_lsn()
    }
}

impl PageRead for SharedPage<'_> {
    #[inline]
    fn bytes(&self) -> &[u8] {
        self.bytes.bytes()
    }
}

/// A page latched for changing.
#[derive(Debug)]
pub struct ExclusivePage<'p> {
    bytes: ExclusiveBytes<'p>,
    page: PageId,
    _pin: Option<Pin<'p>>,
}

impl ExclusivePage<'_> {
    /// The page.
    #[inline]
    #[must_use]
    pub const fn id(&self) -> PageId {
        self.page
    }

    /// END of the last record applied to the page.
    #[must_use]
    pub fn page_lsn(&self) -> Lsn {
        PageView::new(self.bytes.bytes()).page_lsn()
    }
}

impl PageRead for ExclusivePage<'_> {
    #[inline]
    fn bytes(&self) -> &[u8] {
        self.bytes.bytes()
    }
}

impl PageWrite for ExclusivePage<'_> {
    fn write(&mut self, offset: usize, bytes: &[u8]) {
        self.bytes.write(offset, bytes);
    }

    fn copy_within(&mut self, from: Range<usize>, to: usize) {
        self.bytes.copy_within(from, to);
    }

    fn fill_zero(&mut self, range: Range<usize>) {
        self.bytes.fill_zero(range);
    }
}
