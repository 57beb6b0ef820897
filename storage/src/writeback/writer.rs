//! The one place that writes pages into the page file: batches of copies, at once or in pieces with rests
//! between them, neighbours together. The steps, and what their errors mean, are listed in `writeback`.
//!
//! What must hold: W1 (asserted right before the pages are issued), W2 (a failed write or sync
//! poisons and is never repeated), P2 and P3 (by the states of the dirty table), L1 (latches are held
//! for the copy, and for the look at completion by a try; never across I/O).

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use seawall_wal::codec::{to_u64, to_usize};
use seawall_wal::disk::{AlignedBuf, Transfer};
use seawall_wal::log::Log;
use seawall_wal::sync::atomic::{AtomicU64, Ordering};
use seawall_wal::sync::{Mutex, RwLock};
use seawall_wal::{Error, Lsn, PageId, Result};

use super::doublewrite::{AREAS, Batch, Doublewrite, SlotImage};
use super::let_others_run;
use super::rests::{Hurried, Hurry, Rests};
use crate::armed::Armed;
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

/// Writes batches of dirty pages. Several threads may; at most two batches with images are in flight.
pub struct PageWriter {
    /// Held shared by each batch, so that none is under way once this is set.
    has_ended: RwLock<bool>,
    page_file: Arc<PageFile>,
    doublewrite: Doublewrite,
    dirty: Arc<DirtyTable>,
    log: Arc<dyn LogWatermark>,
    /// For the copies of whole batches, as many as there are areas.
    buffers: Mutex<Vec<AlignedBuf>>,
    hurried: Hurried,
    bytes_written: AtomicU64,
}

/// A page on its way to disk.
#[derive(Debug)]
struct Image {
    page: PageId,
    page_lsn: Lsn,
    is_recreated: bool,
}

/// Private copies of a batch's pages, in the order of their ids and one behind another, so that neighbours
/// go to the disk in one write.
#[derive(Debug)]
struct Images {
    page_bytes: usize,
    bytes: AlignedBuf,
    pages: Vec<Image>,
}

impl Images {
    /// The image at this place.
    fn bytes(&self, index: usize) -> &[u8] {
        &self.bytes[index * self.page_bytes..][..self.page_bytes]
    }

    /// What the doublewrite file needs: a page that redo re-creates whole needs no image.
    fn slots(&self) -> Vec<SlotImage<'_>> {
        let in_need = self.pages.iter().enumerate().filter(|(_, image)| !image.is_recreated);
        let slot = |(index, image): (usize, &Image)| SlotImage {
            page: image.page,
            page_lsn: image.page_lsn,
            bytes: self.bytes(index),
        };
        in_need.map(slot).collect()
    }

    /// The images at these places: neighbours together, named by the first of them.
    fn runs(&self, indexes: Range<usize>) -> Vec<(PageId, &[u8])> {
        let are_neighbours = |one: &Image, next: &Image| one.page.get() + 1 == next.page.get();
        let mut at = indexes.start * self.page_bytes;
        let run = |pages: &[Image]| {
            let bytes = &self.bytes[at..][..pages.len() * self.page_bytes];
            at += bytes.len();
            (pages[0].page, bytes)
        };
        self.pages[indexes].chunk_by(are_neighbours).map(run).collect()
    }

    fn highest_page_lsn(&self) -> Lsn {
        self.pages.iter().map(|image| image.page_lsn).max().unwrap_or(Lsn::NONE)
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
            hurried: Hurried::default(),
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
        self.hurried.hurry()
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
    /// [`Error::Closed`] after [`Self::end`], and those of the log, with nothing written; what poisoned the
    /// log while the images were written, with no page written in place, and all dirty as before;
    /// [`Error::Poisoned`], or what poisoned the log, when a write or sync failed, here or elsewhere behind
    /// the images.
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
        let _armed = Armed::new(&*self.log);
        let images = self.copy_all(pool, pages);
        if images.pages.is_empty() {
            self.keep_buffer(images.bytes);
            return Ok(Written::default());
        }
        // A failure elsewhere, while the images or the pages are written, may cost what the disk has of them and
        // nobody has synced. One from before does not: pages are still cleaned then, for readers.
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
        let mut rests = Rests::new(&*self.log, &self.hurried);
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
        if !was_poisoned {
            self.check()?;
        }
        release(batch);
        let mut written = Written { pages: images.pages.len(), cleaned: 0 };
        for image in &images.pages {
            if self.complete(pool, image) == Completion::Clean {
                written.cleaned += 1;
            }
            let_others_run();
        }
        self.keep_buffer(images.bytes);
        Ok(written)
    }

    /// Whether pages are still written: those of a write that failed stay in flight.
    ///
    /// # Errors
    /// What poisoned the log.
    pub(super) fn check(&self) -> Result<()> {
        self.log.poisoned().map_or(Ok(()), Err)
    }

    /// Takes those of the pages for writing that are dirty and not being written, and copies them.
    fn copy_all(&self, pool: &Pool, pages: &[PageId]) -> Images {
        let page_bytes = self.page_file.page_bytes();
        let mut in_order = pages.to_vec();
        in_order.sort_unstable();
        let bytes_max = pages.len() * page_bytes;
        let kept = self.buffers.lock().pop().filter(|kept| kept.len() >= bytes_max);
        let mut bytes = kept.unwrap_or_else(|| AlignedBuf::new(bytes_max));
        let mut copied = Vec::with_capacity(pages.len());
        for page in in_order {
            let place = &mut bytes[copied.len() * page_bytes..][..page_bytes];
            copied.extend(self.copy(pool, page, place));
        }
        Images { page_bytes, bytes, pages: copied }
    }

    /// Takes a page for writing and copies it under its shared latch.
    fn copy(&self, pool: &Pool, page: PageId, place: &mut [u8]) -> Option<Image> {
        let begun = self.dirty.begin_write(page)?;
        let pin = pool.pin_resident(page).expect("a dirty page stays in its frame");
        let shared = pin.shared();
        place.copy_from_slice(shared.bytes());
        let page_lsn = shared.page_lsn();
        drop(shared);
        page::seal(self.page_file.format().seed, page, place);
        let_others_run();
        Some(Image { page, page_lsn, is_recreated: begun.is_recreated })
    }

    /// The log first (W1).
    fn flush_log(&self, images: &Images) -> Result<()> {
        if is_planted(Bug::SkipLogFlushBeforePageWrite) {
            return Ok(());
        }
        self.log.wait_durable(images.highest_page_lsn())
    }

    /// Makes the images durable. The batch is left where one was begun.
    fn write_slots<'w>(
        &'w self,
        images: &Images,
        piece_pages: usize,
        rests: &mut Rests<'_>,
        begun: &mut Option<Batch<'w>>,
    ) -> Result<()> {
        let slots = images.slots();
        if slots.is_empty() {
            return Ok(());
        }
        let batch = begun.insert(self.doublewrite.begin()?);
        batch.write_in_pieces(&slots, piece_pages, || rests.rest())
    }

    /// The pages in their places, and the data sync.
    fn write_pages(
        &self,
        images: &Images,
        piece_pages: usize,
        rests: &mut Rests<'_>,
    ) -> Result<()> {
        if !is_planted(Bug::SkipLogFlushBeforePageWrite) {
            let (page_lsn, durable_lsn) = (images.highest_page_lsn(), self.log.durable_lsn());
            assert!(page_lsn <= durable_lsn, "W1: page_lsn {page_lsn}, durable {durable_lsn}");
        }
        let pages = images.pages.len();
        if pages <= piece_pages {
            write_in_place(&self.page_file, &images.runs(0..pages))?;
        } else {
            for start in (0..pages).step_by(piece_pages) {
                let runs = images.runs(start..pages.min(start + piece_pages));
                let mut parts = runs.chunks(runs.len().div_ceil(PIECE_PARTS));
                parts.try_for_each(|part| write_in_place(&self.page_file, part))?;
                rests.rest();
            }
        }
        for image in &images.pages {
            self.dirty.written(image.page, image.page_lsn);
        }
        self.page_file.sync()?;
        let bytes = to_u64(pages * images.page_bytes);
        self.bytes_written.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// Gives the pages up, none of which was written in place: they are dirty as before.
    fn cancel(&self, images: Images) {
        for image in &images.pages {
            self.dirty.cancel_write(image.page);
        }
        self.keep_buffer(images.bytes);
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
        if buffers.len() < to_usize(AREAS) {
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

/// Parts of a piece that are written one after another: all at once they would keep the disk from a
/// commit that comes between them.
const PIECE_PARTS: usize = 4;

/// Gives the area of a batch free, if it has one.
fn release(batch: Option<Batch<'_>>) {
    if let Some(batch) = batch {
        batch.synced();
    }
}

/// Writes runs of sealed pages, each named by its first one, to their places, side by side. The caller has
/// seen to W1 and to the images, and syncs.
///
/// # Panics
/// When a page lies beyond the file: it grows before anything refers to its pages.
pub(super) fn write_in_place(page_file: &PageFile, runs: &[(PageId, &[u8])]) -> Result<()> {
    let (disk, file) = page_file.handle();
    let end = page_file.pages();
    let transfers = runs.iter().map(|&(first, bytes)| {
        let pages_end = first.get() + to_u64(bytes.len() / page_file.page_bytes());
        assert!(pages_end <= end, "a page below {pages_end} is written into a file of {end} pages");
        Transfer::write(file, page_file.offset(first), bytes)
    });
    let mut transfers: Vec<_> = transfers.collect();
    disk.transfer(&mut transfers);
    let done = transfers.into_iter().try_for_each(|transfer| transfer.result);
    done.map_err(|error| Error::io(page_file.path(), error))
}
