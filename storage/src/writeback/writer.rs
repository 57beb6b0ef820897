//! The one place that writes pages into the page file. The steps, and what their errors mean, are
//! listed in `writeback`.
//!
//! What must hold: W1 (asserted right before the pages are issued), W2 (a failed write or sync
//! poisons and is never repeated), P2 and P3 (by the states of the dirty table), L1 (latches are held
//! for the copy, and for the look at completion by a try; never across I/O).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use seawall_wal::codec::to_u64;
use seawall_wal::disk::{AlignedBuf, Transfer};
use seawall_wal::log::Log;
use seawall_wal::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use seawall_wal::sync::{Mutex, RwLock, thread};
use seawall_wal::{Error, Lsn, PageId, Result};

use super::doublewrite::{Batch, Doublewrite, SlotImage};
use super::let_others_run;
use crate::page::{self, PageRead};
use crate::pagefile::PageFile;
use crate::planted::{Bug, is_planted};
use crate::pool::dirty::{Completion, DirtyTable};
use crate::pool::{Pool, SharedPage, assert_no_latch};

/// What writing pages needs of the log.
pub trait LogWatermark: fmt::Debug + Send + Sync {
    /// The log is on disk up to here.
    fn durable_lsn(&self) -> Lsn;

    /// End of the log reserved so far: no later record starts below.
    fn reserved_lsn(&self) -> Lsn;

    /// Whether somebody waits for a commit to be durable; momentary.
    fn is_commit_awaited(&self) -> bool;

    /// Returns when the log is durable up to `lsn`, writing it where nobody else does.
    ///
    /// # Errors
    /// [`Error::Poisoned`], or what made it so.
    fn wait_durable(&self, lsn: Lsn) -> Result<()>;

    /// No write is accepted from now on (W2).
    fn poison(&self, error: Error);

    /// The error that writes get since [`LogWatermark::poison`].
    fn poisoned(&self) -> Option<Error>;
}

impl LogWatermark for Log {
    fn durable_lsn(&self) -> Lsn {
        Self::durable_lsn(self)
    }

    fn reserved_lsn(&self) -> Lsn {
        Self::reserved_lsn(self)
    }

    fn is_commit_awaited(&self) -> bool {
        Self::is_commit_awaited(self)
    }

    fn wait_durable(&self, lsn: Lsn) -> Result<()> {
        Self::wait_durable(self, lsn)
    }

    fn poison(&self, error: Error) {
        Self::poison(self, error);
    }

    fn poisoned(&self) -> Option<Error> {
        Self::poisoned(self)
    }
}

/// Writes batches of dirty pages. Several threads may; at most two batches are in flight.
pub struct PageWriter {
    /// Held shared by each batch, so that none is under way once this is set.
    has_ended: RwLock<bool>,
    page_file: Arc<PageFile>,
    doublewrite: Doublewrite,
    dirty: Arc<DirtyTable>,
    log: Arc<dyn LogWatermark>,
    buffers: Mutex<Vec<AlignedBuf>>,
    /// Those who write pages without rests, or wait until they are written.
    hurried: AtomicUsize,
    bytes_written: AtomicU64,
}

/// A private copy of a page, on its way to disk.
#[derive(Debug)]
struct Image {
    page: PageId,
    page_lsn: Lsn,
    bytes: AlignedBuf,
    is_recreated: bool,
}

impl Image {
    fn slot(&self) -> SlotImage<'_> {
        SlotImage { page: self.page, page_lsn: self.page_lsn, bytes: &self.bytes }
    }
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Pages written and synced.
    pub pages: usize,
    /// Of these, the ones that are clean now.
    pub cleaned: usize,
}

impl PageWriter {
    /// A writer of the page file's pages.
    #[must_use]
    pub fn new(
        page_file: Arc<PageFile>,
        doublewrite: Doublewrite,
        dirty: Arc<DirtyTable>,
        log: Arc<dyn LogWatermark>,
    ) -> Self {
        Self {
            has_ended: RwLock::new(false),
            page_file,
            doublewrite,
            dirty,
            log,
            buffers: Mutex::new(Vec::new()),
            hurried: AtomicUsize::new(0),
            bytes_written: AtomicU64::new(0),
        }
    }

    /// Most pages of a batch.
    #[must_use]
    pub const fn batch_max(&self) -> usize {
        self.doublewrite.slots()
    }

    /// Whether pages go past a page cache, so that the disk has a part of them before they are synced.
    pub(super) fn is_direct(&self) -> bool {
        self.page_file.is_direct()
    }

    /// Has all batches go on without rests, for as long as it is kept.
    pub(super) fn hurry(&self) -> Hurry<'_> {
        self.hurried.fetch_add(1, Ordering::Relaxed);
        Hurry(&self.hurried)
    }

    /// End of the log reserved so far.
    pub(super) fn reserved_lsn(&self) -> Lsn {
        self.log.reserved_lsn()
    }

    /// See [`LogWatermark::is_commit_awaited`].
    pub(super) fn is_commit_awaited(&self) -> bool {
        self.log.is_commit_awaited()
    }

    /// Bytes of pages written in place so far.
    #[must_use]
    pub fn bytes_written(&self) -> u64 {
        self.bytes_written.load(Ordering::Relaxed)
    }

    /// See [`Doublewrite::last_synced_batch`].
    #[must_use]
    pub fn last_synced_batch(&self) -> u64 {
        self.doublewrite.last_synced_batch()
    }

    /// Waits until no batch is under way; none begins after this. Whoever has the files next must not
    /// find pages of this writer's above its own.
    pub fn end(&self) {
        *self.has_ended.write() = true;
    }

    /// Writes those of `pages` that are dirty and not being written, as they are now, and returns when
    /// they are synced: in pieces of so many pages, with rests behind them while others commit. Not with
    /// a latch held (L1).
    ///
    /// # Errors
    /// [`Error::Closed`] after [`Self::end`], and those of the log, with nothing written;
    /// [`Error::Poisoned`] when a write or sync failed.
    ///
    /// # Panics
    /// When there are more than [`Self::batch_max`] pages, or pieces of no pages.
    pub fn write_batch(
        &self,
        pool: &Pool,
        pages: &[PageId],
        piece_pages: usize,
    ) -> Result<Written> {
        assert_no_latch();
        assert!(pages.len() <= self.batch_max(), "a batch of {} pages", pages.len());
        let has_ended = self.has_ended.read();
        if *has_ended {
            return Err(Error::Closed);
        }
        let images: Vec<_> = pages.iter().filter_map(|&page| self.copy(pool, page)).collect();
        if images.is_empty() {
            return Ok(Written::default());
        }
        // A failure elsewhere, while the images are written, may cost what the disk has of them and nobody has
        // synced. One from before does not: pages are still cleaned then, for readers.
        let was_poisoned = self.log.poisoned().is_some();
        if let Err(error) = self.flush_log(&images) {
            self.cancel(images);
            return Err(error);
        }
        // From here on an error leaves the entries in flight: nobody may write those pages again. Who waits
        // for the batch to end learns that it failed from the log.
        let poison = |error: Error| {
            self.log.poison(error.clone());
            Error::Poisoned { source: Some(Arc::new(error)) }
        };
        let mut rests = Rests { writer: self, seen: self.log.durable_lsn() };
        let mut batch = None;
        self.write_slots(&images, piece_pages, &mut rests, &mut batch).map_err(poison)?;
        if !was_poisoned && let Err(error) = self.check() {
            release(batch);
            self.cancel(images);
            return Err(error);
        }
        if is_planted(Bug::ReleaseDoublewriteEarly) {
            release(batch.take());
        }
        self.write_pages(&images, piece_pages, &mut rests).map_err(poison)?;
        release(batch);
        let mut written = Written { pages: images.len(), cleaned: 0 };
        for image in images {
            if self.complete(pool, &image) == Completion::Clean {
                written.cleaned += 1;
            }
            let_others_run();
            self.keep_buffer(image.bytes);
        }
        Ok(written)
    }

    /// Whether pages are still written: those of a write that failed stay in flight.
    ///
    /// # Errors
    /// What poisoned the log.
    pub(super) fn check(&self) -> Result<()> {
        self.log.poisoned().map_or(Ok(()), Err)
    }

    /// Takes a page for writing and copies it under its shared latch.
    fn copy(&self, pool: &Pool, page: PageId) -> Option<Image> {
        let begun = self.dirty.begin_write(page)?;
        let pin = pool.pin_resident(page).expect("a dirty page stays in its frame");
        let kept = self.buffers.lock().pop();
        let mut bytes = kept.unwrap_or_else(|| AlignedBuf::new(self.page_file.page_bytes()));
        let shared = pin.shared();
        bytes.copy_from_slice(shared.bytes());
        let page_lsn = shared.page_lsn();
        drop(shared);
        page::seal(self.page_file.format().seed, page, &mut bytes);
        let_others_run();
        Some(Image { page, page_lsn, bytes, is_recreated: begun.is_recreated })
    }

    /// The log first (W1).
    fn flush_log(&self, images: &[Image]) -> Result<()> {
        if is_planted(Bug::SkipLogFlushBeforePageWrite) {
            return Ok(());
        }
        self.log.wait_durable(highest_page_lsn(images))
    }

    /// Makes the images durable. The batch is left where one was begun.
    fn write_slots<'w>(
        &'w self,
        images: &[Image],
        piece_pages: usize,
        rests: &mut Rests<'_>,
        begun: &mut Option<Batch<'w>>,
    ) -> Result<()> {
        // A page that redo re-creates whole needs no image.
        let in_need = images.iter().filter(|image| !image.is_recreated);
        let slots: Vec<_> = in_need.map(Image::slot).collect();
        if slots.is_empty() {
            return Ok(());
        }
        let batch = begun.insert(self.doublewrite.begin()?);
        batch.write_in_pieces(&slots, piece_pages, || rests.rest())
    }

    /// The pages in their places, and the data sync.
    fn write_pages(
        &self,
        images: &[Image],
        piece_pages: usize,
        rests: &mut Rests<'_>,
    ) -> Result<()> {
        if !is_planted(Bug::SkipLogFlushBeforePageWrite) {
            let (page_lsn, durable_lsn) = (highest_page_lsn(images), self.log.durable_lsn());
            assert!(page_lsn <= durable_lsn, "W1: page_lsn {page_lsn}, durable {durable_lsn}");
        }
        let mut pages: Vec<_> = images.iter().map(|image| (image.page, &image.bytes)).collect();
        pages.sort_unstable_by_key(|(page, _)| *page);
        if pages.len() <= piece_pages {
            write_in_place(&self.page_file, &pages)?;
        } else {
            for piece in pages.chunks(piece_pages) {
                let mut parts = piece.chunks(piece_pages.div_ceil(PIECE_PARTS));
                parts.try_for_each(|part| write_in_place(&self.page_file, part))?;
                rests.rest();
            }
        }
        for image in images {
            self.dirty.written(image.page, image.page_lsn);
        }
        self.page_file.sync()?;
        let bytes = to_u64(images.len() * self.page_file.page_bytes());
        self.bytes_written.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Gives the pages up, none of which was written in place: they are dirty as before.
    fn cancel(&self, images: Vec<Image>) {
        for image in images {
            self.dirty.cancel_write(image.page);
            self.keep_buffer(image.bytes);
        }
    }

    /// Decides, now that the image is durable, whether the page is clean.
    fn complete(&self, pool: &Pool, image: &Image) -> Completion {
        let pin = pool.pin_resident(image.page).expect("a dirty page stays in its frame");
        // Held until the entry is changed: in between the page could be changed, and would count
        // on an entry that goes.
        let shared = pin.try_shared();
        self.dirty.complete(image.page, shared.as_ref().map(SharedPage::page_lsn))
    }

    fn keep_buffer(&self, buffer: AlignedBuf) {
        let mut buffers = self.buffers.lock();
        if buffers.len() < self.batch_max() {
            buffers.push(buffer);
        }
    }
}

impl fmt::Debug for PageWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageWriter")
            .field("doublewrite", &self.doublewrite)
            .field("bytes_written", &self.bytes_written())
            .finish_non_exhaustive()
    }
}

/// A rest looks so often whether the log has been flushed, and so many times: a millisecond, as
/// schedulers give it.
const REST_POLL: Duration = Duration::from_micros(10);
const REST_POLLS: usize = if cfg!(any(loom, seawall_shuttle)) { 1 } else { 16 };

/// Parts of a piece that are written one after another: all at once they would keep the disk from a
/// commit that comes between them.
const PIECE_PARTS: usize = 4;

/// Ends of flushes for which a rest waits: the first may be of one that had begun before the disk had the
/// piece, and the next flush would carry two of them.
const REST_FLUSHES: usize = 2;

/// The rests of a batch. What a piece has given the disk goes with the next flush of the log, and the
/// commit behind that hardly notices one piece: so there is to be a whole flush between two of them,
/// where one comes soon.
struct Rests<'w> {
    writer: &'w PageWriter,
    /// Where the log was durable when the last one began.
    seen: Lsn,
}

impl Rests<'_> {
    /// Lets a whole flush of the log pass while others commit.
    fn rest(&mut self) {
        let PageWriter { log, hurried, .. } = self.writer;
        let mut durable = log.durable_lsn();
        let is_quiet = std::mem::replace(&mut self.seen, durable) == durable;
        if is_quiet && !log.is_commit_awaited() {
            return;
        }
        let mut flushes = 0;
        for _ in 0..REST_POLLS {
            let now = log.durable_lsn();
            flushes += usize::from(now != durable);
            durable = now;
            if hurried.load(Ordering::Relaxed) > 0 || flushes == REST_FLUSHES {
                return;
            }
            thread::park_timeout(REST_POLL);
        }
    }
}

/// No batch rests while one of these is there.
#[derive(Debug)]
pub(super) struct Hurry<'w>(&'w AtomicUsize);

impl Drop for Hurry<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Gives the area of a batch free, if it has one.
fn release(batch: Option<Batch<'_>>) {
    if let Some(batch) = batch {
        batch.synced();
    }
}

fn highest_page_lsn(images: &[Image]) -> Lsn {
    images.iter().map(|image| image.page_lsn).max().unwrap_or(Lsn::NONE)
}

/// Writes sealed pages to their places, side by side. The caller has seen to W1 and to the images, and
/// syncs.
///
/// # Panics
/// When a page lies beyond the file: it grows before anything refers to its pages.
pub(super) fn write_in_place(page_file: &PageFile, pages: &[(PageId, &AlignedBuf)]) -> Result<()> {
    let (disk, file) = page_file.handle();
    let end = page_file.pages();
    let transfers = pages.iter().map(|&(page, bytes)| {
        assert!(page.get() < end, "page {page} is written into a file of {end} pages");
        Transfer::write(file, page_file.offset(page), bytes)
    });
    let mut transfers: Vec<_> = transfers.collect();
    disk.transfer(&mut transfers);
    let done = transfers.into_iter().try_for_each(|transfer| transfer.result);
    done.map_err(|error| Error::io(page_file.path(), error))
}
