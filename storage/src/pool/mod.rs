//! The buffer pool: pages of the page file in a fixed arena of frames.
//!
//! What it owns: the frames and their latches (`arena`, `latch`), the page table (`table`) and the
//! hints that save the way to it (`hints`), the choice of the frame to use next (`eviction`), and
//! the table of pages that are newer here than on disk (`dirty`). It reads pages and never writes one: that is `writeback::writer`.
//!
//! What must hold:
//!
//! * P4: bytes from disk are verified in a private buffer before they are put into a frame.
//! * A page is in one frame at most; a pinned or dirty page stays where it is; a page under load is
//!   seen by nobody before it is whole.
//! * L1: [`Pool::pin`], [`Pool::pin_new`] and [`Pool::load_many`] may read and wait, so they are
//!   never called with a latch held (asserted in debug builds). [`Pool::pin_resident`] neither
//!   reads nor waits.
//!
//! Lock order: latch, then shard of the page table, then shard of the dirty table. The shards and
//! the free list are short mutexes. Eviction takes the latch of an unpinned frame under a shard, by
//! a try that cannot fail.

#[expect(unsafe_code, reason = "bytes shared by latches; the module says why it is sound")]
pub mod arena;
pub mod dirty;
mod eviction;
pub mod frame;
mod guard;
mod hash;
mod held;
mod hints;
mod hits;
pub mod latch;
mod table;

#[cfg(test)]
#[cfg(loom)]
mod loom_models;
#[cfg(test)]
#[cfg(not(loom))]
mod tests;

use std::sync::{Arc, OnceLock};

use seawall_wal::disk::AlignedBuf;
use seawall_wal::planted::{Bug, is_planted};
use seawall_wal::sync::Mutex;
use seawall_wal::{Error, PageId, Result};

use crate::page::Verified;
use crate::pagefile::PageFile;

use self::arena::{Arena, FrameIndex, OptimisticPage};
use self::dirty::DirtyTable;
use self::eviction::{ClaimedFrame, Clock};
use self::frame::FrameState;
use self::hints::FrameHints;
use self::hits::Hits;
use self::table::{Found, LoadTicket, PageTable};

pub use self::eviction::FrameProvider;
pub use self::guard::{ExclusivePage, Pin, SharedPage};
pub use self::held::assert_no_latch;

/// Most pages read in one batch; longer lists are read in several.
pub const LOAD_BATCH_MAX: usize = 64;

/// The pool. Shared by reference; it has threads of its own nowhere.
#[derive(Debug)]
pub struct Pool {
    page_file: Arc<PageFile>,
    arena: Arena,
    table: PageTable,
    hints: FrameHints,
    hits: Hits,
    clock: Clock,
    dirty: Arc<DirtyTable>,
    provider: OnceLock<Box<dyn FrameProvider>>,
    /// Buffers that pages are read into and verified in.
    buffers: Mutex<Vec<AlignedBuf>>,
}

/// What became of a look at a page without pin or latch.
#[derive(Debug)]
pub enum Optimistic<'p> {
    /// The page, to be validated.
    Page(OptimisticPage<'p>),
    /// It is being changed, or moved just now.
    Busy,
    /// It is not resident.
    Missing,
}

/// Figures of a pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolStats {
    /// Pins that found their page.
    pub hits: u64,
    /// Pins that had to read or create it.
    pub misses: u64,
}

impl Pool {
    /// A pool of `frames` frames over a page file. `dirty` has room for as many entries.
    ///
    /// # Errors
    /// [`Error::Io`] when the kernel gives no memory.
    ///
    /// # Panics
    /// When `frames` is zero or not a `u32`.
    pub fn new(page_file: Arc<PageFile>, frames: usize, dirty: Arc<DirtyTable>) -> Result<Self> {
        let arena = Arena::new(frames, page_file.page_bytes())
            .map_err(|error| Error::io(page_file.path(), error))?;
        let count = FrameIndex::try_from(frames).expect("the arena has refused more");
        Ok(Self {
            page_file,
            arena,
            table: PageTable::new(),
            hints: FrameHints::new(frames),
            hits: Hits::new(),
            clock: Clock::new(count),
            dirty,
            provider: OnceLock::new(),
            buffers: Mutex::new(Vec::new()),
        })
    }

    /// Says whom to ask when no frame is clean; the first one stays. The provider must not own the
    /// pool.
    pub fn set_provider(&self, provider: Box<dyn FrameProvider>) {
        self.provider.get_or_init(|| provider);
    }

    /// The page file below.
    #[must_use]
    pub fn page_file(&self) -> &Arc<PageFile> {
        &self.page_file
    }

    /// The dirty table.
    #[must_use]
    pub fn dirty(&self) -> &Arc<DirtyTable> {
        &self.dirty
    }

    /// Bytes of a page.
    #[must_use]
    pub const fn page_bytes(&self) -> usize {
        self.arena.page_bytes()
    }

    /// Number of frames.
    #[must_use]
    pub fn frames(&self) -> usize {
        self.arena.frames()
    }

    /// Frames that hold no dirty page; momentary.
    #[must_use]
    pub fn clean_frames(&self) -> usize {
        self.frames().saturating_sub(self.dirty.len())
    }

    /// Figures; momentary.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        let counts = self.table.counts();
        PoolStats { hits: counts.hits + self.hits.count(), misses: counts.misses }
    }

    /// Pins a page, reading and verifying it where it is not resident. Not with a latch held (L1).
    ///
    /// # Errors
    /// [`Error::Corrupt`] for a page that is damaged or was never written; those of reading and of
    /// the frame provider; [`Error::NoSpace`] when every frame is pinned.
    pub fn pin(&self, page: PageId) -> Result<Pin<'_>> {
        self.pin_or(page, |ticket| self.load(ticket))
    }

    /// Pins a frame for a page whose content will be created whole: nothing is read. The frame
    /// holds zeros, or the page's old content where it was resident.
    ///
    /// # Errors
    /// Those of the frame provider; [`Error::NoSpace`] when every frame is pinned.
    pub fn pin_new(&self, page: PageId) -> Result<Pin<'_>> {
        self.pin_or(page, |ticket| {
            let frame = self.claim_frame()?;
            Ok(self.publish(ticket, frame, None))
        })
    }

    /// Pins a page that is resident. Neither reads nor waits, so it may be called with a latch
    /// held.
    pub fn pin_resident(&self, page: PageId) -> Option<Pin<'_>> {
        let hinted = self.hints.find(page).and_then(|hint| self.pin_hinted(hint, page));
        if hinted.is_some() {
            self.hits.add(1);
            return hinted;
        }
        let pin = self.table.find(page, |frame| self.pin_frame(page, frame))?;
        self.hints.note(page, pin.frame());
        Some(pin)
    }

    /// Pins pages, in order, reading those that are not resident side by side. Not with a latch
    /// held.
    ///
    /// # Errors
    /// Those of [`Self::pin`], for any of the pages; none stays pinned then.
    pub fn load_many(&self, pages: &[PageId]) -> Result<Vec<Pin<'_>>> {
        assert_no_latch();
        let mut pins = Vec::with_capacity(pages.len());
        for batch in pages.chunks(LOAD_BATCH_MAX) {
            // The tickets of a batch are redeemed before anybody's load is waited for: two batches
            // that want each other's pages would wait for ever.
            let mut tickets = Vec::new();
            let mut found = Vec::with_capacity(batch.len());
            for &page in batch {
                match self.table.find_or_load(page, |frame| self.pin_frame(page, frame)) {
                    Found::Resident(pin) => found.push(Some(pin)),
                    Found::Loading => found.push(None),
                    Found::Missing(ticket) => {
                        tickets.push((found.len(), ticket));
                        found.push(None);
                    }
                }
            }
            for (index, pin) in self.load_batch(tickets)? {
                found[index] = Some(pin);
            }
            for (pin, &page) in found.into_iter().zip(batch) {
                pins.push(match pin {
                    Some(pin) => pin,
                    None => self.pin(page)?,
                });
            }
        }
        Ok(pins)
    }

    /// Reads a resident page without pin or latch; the answers count only once they are validated.
    /// Like [`Self::pin_resident`] it neither reads nor waits. [`Self::count_hits`] counts what was
    /// found, at the end of the way.
    #[inline]
    #[must_use]
    pub fn optimistic(&self, page: PageId) -> Optimistic<'_> {
        let hinted = self.hints.find(page).and_then(|hint| self.optimistic_hinted(hint, page));
        if let Some(page) = hinted {
            return Optimistic::Page(page);
        }
        let Some(frame) = self.hint(page) else { return Optimistic::Missing };
        self.hints.note(page, frame);
        self.optimistic_hinted(frame, page).map_or(Optimistic::Busy, Optimistic::Page)
    }

    /// Counts pages that were found by [`Self::optimistic`].
    #[inline]
    pub fn count_hits(&self, pages: u64) {
        self.hits.add(pages);
    }

    /// Reads `page` without pin or latch where a hint says it was; `None` where it is not there any
    /// more or is being changed.
    #[must_use]
    fn optimistic_hinted(&self, hint: FrameIndex, page: PageId) -> Option<OptimisticPage<'_>> {
        let found = self.arena.optimistic(hint, page)?;
        self.state(hint).warm();
        Some(found)
    }

    /// Whether a page is in the pool; momentary.
    #[must_use]
    pub fn is_resident(&self, page: PageId) -> bool {
        self.hint(page).is_some()
    }

    /// Where a resident page is, as a hint for [`Self::optimistic_hinted`].
    #[must_use]
    fn hint(&self, page: PageId) -> Option<FrameIndex> {
        self.table.find(page, |frame| frame)
    }

    /// Pins `page` by a hint, without the page table; `None` where it is not there any more.
    #[must_use]
    fn pin_hinted(&self, hint: FrameIndex, page: PageId) -> Option<Pin<'_>> {
        // A look first: a pin of a frame that has another page would write its line in vain.
        if !self.is_in(hint, page) || !self.state(hint).try_pin() {
            return None;
        }
        let pin = Pin::pinned(self, page, hint);
        self.state(hint).warm();
        // Pinned frames keep their page, so the answer is final.
        self.is_in(hint, page).then_some(pin)
    }

    fn is_in(&self, hint: FrameIndex, page: PageId) -> bool {
        seawall_wal::codec::to_usize(u64::from(hint)) < self.frames()
            && (self.arena.page(hint) == Some(page) || is_planted(Bug::TrustHint))
    }

    fn pin_or<'p>(
        &'p self,
        page: PageId,
        load: impl FnOnce(LoadTicket<'p>) -> Result<Pin<'p>>,
    ) -> Result<Pin<'p>> {
        assert_no_latch();
        loop {
            match self.table.find_or_load(page, |frame| self.pin_frame(page, frame)) {
                Found::Resident(pin) => return Ok(pin),
                Found::Missing(ticket) => return load(ticket),
                Found::Loading => self.table.wait_for_load(page),
            }
        }
    }

    /// Pins a frame found under its shard lock.
    fn pin_frame(&self, page: PageId, frame: FrameIndex) -> Pin<'_> {
        let state = self.state(frame);
        assert!(state.try_pin(), "a frame in the page table is not claimed");
        state.warm();
        Pin::pinned(self, page, frame)
    }

    fn load(&self, ticket: LoadTicket<'_>) -> Result<Pin<'_>> {
        let frame = self.claim_frame()?;
        let mut buffer = self.take_buffer();
        let verified = self.page_file.read_page(ticket.page(), &mut buffer);
        let pin = self
            .expect_written(ticket.page(), verified)
            .map(|()| self.publish(ticket, frame, Some(&buffer)));
        self.keep_buffer(buffer);
        pin
    }

    fn load_batch<'p>(
        &'p self,
        tickets: Vec<(usize, LoadTicket<'p>)>,
    ) -> Result<Vec<(usize, Pin<'p>)>> {
        let mut reads = Vec::with_capacity(tickets.len());
        let mut claimed = Vec::with_capacity(tickets.len());
        for (_, ticket) in &tickets {
            claimed.push(self.claim_frame()?);
            reads.push((ticket.page(), self.take_buffer()));
        }
        let verified = self.page_file.read_pages(&mut reads);
        let loads = tickets.into_iter().zip(claimed).zip(reads.iter().zip(verified));
        let pins = loads.map(|(((index, ticket), frame), ((page, buffer), verified))| {
            self.expect_written(*page, verified)?;
            Ok((index, self.publish(ticket, frame, Some(buffer))))
        });
        let pins = pins.collect();
        for (_, buffer) in reads {
            self.keep_buffer(buffer);
        }
        pins
    }

    /// Pages that somebody refers to have been written once, or their write was lost.
    fn expect_written(&self, page: PageId, verified: Result<Verified>) -> Result<()> {
        match verified? {
            Verified::Page(_) => Ok(()),
            Verified::NeverWritten => {
                let offset = self.page_file.offset(page);
                let expected = format!("page {page}");
                Err(Error::corrupt(self.page_file.path(), offset, expected, "zeros"))
            }
        }
    }

    /// Puts content, or zeros, into a claimed frame, and the frame into the page table.
    fn publish(
        &self,
        ticket: LoadTicket<'_>,
        claimed: ClaimedFrame<'_>,
        content: Option<&[u8]>,
    ) -> Pin<'_> {
        let (page, frame) = (ticket.page(), claimed.frame());
        // Nobody can have it latched: that takes a pin. Optimistic readers that came by a hint see
        // the version change.
        let mut bytes = self.arena.exclusive(frame);
        match content {
            Some(content) => bytes.write(0, content),
            None => bytes.fill_zero(0..self.page_bytes()),
        }
        bytes.set_page(Some(page));
        drop(bytes);
        ticket.publish(frame, || self.state(frame).publish());
        claimed.published();
        self.hints.note(page, frame);
        Pin::pinned(self, page, frame)
    }

    fn state(&self, frame: FrameIndex) -> &FrameState {
        self.arena.state(frame)
    }

    fn take_buffer(&self) -> AlignedBuf {
        let kept = self.buffers.lock().pop();
        kept.unwrap_or_else(|| AlignedBuf::new(self.page_bytes()))
    }

    fn keep_buffer(&self, buffer: AlignedBuf) {
        let mut buffers = self.buffers.lock();
        if buffers.len() < LOAD_BATCH_MAX {
            buffers.push(buffer);
        }
    }
}
