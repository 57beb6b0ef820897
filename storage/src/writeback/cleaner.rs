//! The page cleaner: which dirty pages are written next. A state machine without a thread of its own;
//! any number of threads may call [`Cleaner::step`].

use std::sync::{Arc, Weak};
use std::time::Duration;

use seawall_wal::sync::thread;
use seawall_wal::{Lsn, PageId, Result};

use super::writer::PageWriter;
use crate::pool::{FrameProvider, Pool};

/// What a step works towards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CleanerTarget {
    /// No dirty page has a `rec_lsn` below this.
    RedoLsn(Lsn),
    /// At least so many frames hold no dirty page.
    CleanFrames(usize),
}

/// Pages of a piece of a gentle step, between which the cleaner rests while others commit. Measured beside
/// one thread of durable commits, of which some 24,000 fell into a window: above 0.3 and 0.4 ms were 180 and
/// 18 of them, 40 and 16 without the cleaner, 870 and 65 with pieces of 4 and rests of two flushes.
const GENTLE_PAGES: usize = 2;
/// Pages of a whole batch while somebody waits for a commit, where a larger one keeps the disk from it for
/// longer than it saves; and of a gentle one, until its pieces are larger.
const SHARED_PAGES: usize = 64;

/// A gentle batch behind a page cache has so many times the pages of a piece.
const CACHED_TIMES: usize = 4;

/// How long to wait for a batch of pages that somebody else is writing.
const BATCH_POLL: Duration = Duration::from_micros(200);

/// How much a step writes at most, and how much of it at a time.
#[derive(Clone, Copy, Debug)]
struct Portion {
    pages: usize,
    piece_pages: usize,
}

/// What a step did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CleanerStep {
    /// Pages written and synced.
    pub pages_written: usize,
    /// Whether the target is reached. If not, and nothing was written, others are writing the pages
    /// in question.
    pub is_reached: bool,
}

/// The cleaner.
#[derive(Debug)]
pub struct Cleaner {
    pool: Arc<Pool>,
    writer: PageWriter,
}

impl Cleaner {
    /// A cleaner of the pool's pages.
    #[must_use]
    pub const fn new(pool: Arc<Pool>, writer: PageWriter) -> Self {
        Self { pool, writer }
    }

    /// The pool it cleans.
    #[must_use]
    pub const fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// The writer it uses.
    #[must_use]
    pub const fn writer(&self) -> &PageWriter {
        &self.writer
    }

    /// Writes at most one batch, oldest `rec_lsn` first, unless the target is reached. Not with a
    /// latch held (L1).
    ///
    /// # Errors
    /// Those of [`PageWriter::write_batch`].
    pub fn step(&self, target: CleanerTarget) -> Result<CleanerStep> {
        let _hurry = self.writer.hurry();
        let pages = self.batch_max();
        self.step_of(target, Portion { pages, piece_pages: pages })
    }

    /// [`Cleaner::step`] in pieces of so few pages that commits hardly meet them on the disk, doubled so
    /// many times, with rests between them while others commit.
    ///
    /// # Errors
    /// Those of [`PageWriter::write_batch`].
    pub fn step_gently(&self, target: CleanerTarget, doublings: u32) -> Result<CleanerStep> {
        self.step_of(target, self.gentle(GENTLE_PAGES << doublings))
    }

    /// Steps until the target is reached. Not with a latch held (L1).
    ///
    /// # Errors
    /// Those of [`PageWriter::write_batch`].
    pub fn reach(&self, target: CleanerTarget) -> Result<()> {
        let _hurry = self.writer.hurry();
        loop {
            let step = self.step(target)?;
            if step.is_reached {
                return Ok(());
            }
            if step.pages_written == 0 {
                // All pages in question are others' to write.
                thread::park_timeout(BATCH_POLL);
            }
        }
    }

    /// [`Cleaner::reach`] of [`CleanerTarget::RedoLsn`] while others commit: by gentle steps, and in larger
    /// pieces only as long as the log does not grow between them, each twice as large as the one before. One
    /// look does not tell: the only one who commits may be waiting for this very step.
    ///
    /// All pages in question have to be written, so they are in the order of their ids, where neighbours go
    /// to the disk together, and not in that of their age.
    ///
    /// # Errors
    /// Those of [`PageWriter::write_batch`].
    pub fn reach_gently(&self, redo_lsn: Lsn) -> Result<()> {
        let (mut seen, mut piece_pages) = (Lsn::NONE, GENTLE_PAGES);
        let mut pending = Vec::new().into_iter();
        let target = CleanerTarget::RedoLsn(redo_lsn);
        while !self.is_reached(target) {
            let reserved = self.writer.reserved_lsn();
            let is_quiet = std::mem::replace(&mut seen, reserved) == reserved;
            piece_pages = if is_quiet { 2 * piece_pages } else { GENTLE_PAGES };
            piece_pages = piece_pages.min(self.batch_max());
            let portion = self.gentle(piece_pages);
            if pending.len() == 0 {
                pending = self.pool.dirty().below(redo_lsn).into_iter();
            }
            let batch: Vec<_> = pending.by_ref().take(portion.pages).collect();
            let step = self.write(target, &batch, portion.piece_pages)?;
            if step.pages_written == 0 && pending.len() == 0 && !step.is_reached {
                thread::park_timeout(BATCH_POLL);
            }
        }
        Ok(())
    }

    fn batch_max(&self) -> usize {
        let most = self.writer.batch_max();
        if self.writer.is_commit_awaited() { most.min(SHARED_PAGES) } else { most }
    }

    /// What a gentle step with pieces of so many pages writes. Behind a page cache nothing reaches the disk
    /// before the sync, however it is written: there the batch is smaller, and one piece.
    fn gentle(&self, piece_pages: usize) -> Portion {
        let batch_max = self.batch_max();
        if self.writer.is_direct() {
            Portion { pages: piece_pages.max(SHARED_PAGES).min(batch_max), piece_pages }
        } else {
            let pages = batch_max.min(CACHED_TIMES * piece_pages);
            Portion { pages, piece_pages: pages }
        }
    }

    fn step_of(&self, target: CleanerTarget, portion: Portion) -> Result<CleanerStep> {
        if self.is_reached(target) {
            return Ok(CleanerStep { pages_written: 0, is_reached: true });
        }
        self.write(target, &self.candidates(target, portion.pages), portion.piece_pages)
    }

    fn write(
        &self,
        target: CleanerTarget,
        batch: &[PageId],
        piece_pages: usize,
    ) -> Result<CleanerStep> {
        let written = self.writer.write_batch(&self.pool, batch, piece_pages)?;
        if written.pages == 0 {
            // Others have written these, or are about to; unless they have failed, and nobody ever will.
            self.writer.check()?;
        }
        Ok(CleanerStep { pages_written: written.pages, is_reached: self.is_reached(target) })
    }

    /// Whether the target holds now.
    #[must_use]
    pub fn is_reached(&self, target: CleanerTarget) -> bool {
        match target {
            CleanerTarget::RedoLsn(lsn) => {
                self.pool.dirty().min_rec_lsn().is_none_or(|rec_lsn| rec_lsn >= lsn)
            }
            CleanerTarget::CleanFrames(frames) => {
                self.pool.clean_frames() >= frames.min(self.pool.frames())
            }
        }
    }

    fn candidates(&self, target: CleanerTarget, pages_max: usize) -> Vec<PageId> {
        let oldest = self.pool.dirty().oldest(pages_max);
        let below = match target {
            CleanerTarget::RedoLsn(lsn) => lsn,
            CleanerTarget::CleanFrames(_) => Lsn::MAX,
        };
        oldest.into_iter().filter(|(rec_lsn, _)| *rec_lsn < below).map(|(_, page)| page).collect()
    }
}

/// The provider that needs no thread: the thread that needs a clean frame runs a step.
#[derive(Debug)]
pub struct StepProvider {
    // The pool keeps the provider, and the cleaner the pool.
    cleaner: Weak<Cleaner>,
}

impl StepProvider {
    /// Steps this cleaner.
    #[must_use]
    pub fn new(cleaner: &Arc<Cleaner>) -> Self {
        Self { cleaner: Arc::downgrade(cleaner) }
    }
}

impl FrameProvider for StepProvider {
    fn provide(&self) -> Result<()> {
        let Some(cleaner) = self.cleaner.upgrade() else { return Ok(()) };
        // Whoever asks has found no frame, however many are clean: those are pinned.
        cleaner.step(CleanerTarget::CleanFrames(usize::MAX)).map(drop)
    }
}
