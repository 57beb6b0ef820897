//! The `pages` file: page `id` stands at byte `id * page_bytes`.
//!
//! What must hold: every read is verified (P4), and refuses a page whose `page_lsn` lies where the log
//! never was, in a gap between two epochs of the history: that page was written before a crash, and
//! the log that changed it, which had been called durable, is gone. Space is real before anything refers to it: growth
//! writes zeros and syncs, so a page write in place never meets a full disk, and its failure leaves
//! everything as it was, to be tried again (W2). Pages are written by `writeback::writer` alone.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fmt, io};

use seawall_wal::codec::{to_u64, to_usize};
use seawall_wal::control::EpochEntry;
use seawall_wal::disk::{Access, AlignedBuf, Disk, DiskFile, OpenMode, Transfer};
use seawall_wal::sync::Mutex;
use seawall_wal::sync::atomic::{AtomicU64, Ordering};
use seawall_wal::{DatabaseId, Error, Lsn, PageId, Result};

use crate::page::{self, PageView, Verified};
use crate::sync_gate::SyncGate;

/// Least growth of the file, in bytes; it doubles the file up to [`GROWTH_BYTES_MAX`] at a time.
const GROWTH_BYTES_MIN: u64 = 1 << 20;
/// Most growth of the file beyond what is asked for, in bytes.
const GROWTH_BYTES_MAX: u64 = 64 << 20;
/// Zeros written by one call while the file grows.
const ZEROS_BYTES: usize = 1 << 20;

/// What pages of a database have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageFormat {
    /// Bytes of a page, one of [`page::PAGE_BYTES`].
    pub page_bytes: usize,
    /// Seed of the checksums: [`DatabaseId::checksum_seed`].
    pub seed: u32,
}

impl PageFormat {
    /// Pages of `page_bytes` of this database.
    #[must_use]
    pub fn new(database: DatabaseId, page_bytes: usize) -> Self {
        Self { page_bytes, seed: database.checksum_seed() }
    }
}

/// The open file.
pub struct PageFile {
    disk: Arc<dyn Disk>,
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    format: PageFormat,
    /// The history of epochs, as far as it is known.
    epochs: Vec<EpochEntry>,
    pages: AtomicU64,
    growing: Mutex<()>,
    sync_gate: SyncGate,
}

impl PageFile {
    /// Opens the file at `path`, or makes an empty one; its name is durable once the caller has synced
    /// the directory. A rest behind the last whole page is what a crash left of a growth, and is not
    /// counted.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn open(
        disk: Arc<dyn Disk>,
        path: &Path,
        mode: OpenMode,
        access: Access,
        format: PageFormat,
    ) -> Result<Self> {
        let file = disk.open(path, mode, access).map_err(|error| Error::io(path, error))?;
        let size = file.size().map_err(|error| Error::io(path, error))?;
        Ok(Self {
            sync_gate: SyncGate::new(file.is_direct()),
            disk,
            file,
            path: path.to_path_buf(),
            format,
            epochs: Vec::new(),
            pages: AtomicU64::new(size.length_bytes / to_u64(format.page_bytes)),
            growing: Mutex::new(()),
        })
    }

    /// From here on pages are refused whose `page_lsn` lies between the logs of two epochs. `epochs` is
    /// the history in `control`, in ascending order.
    #[must_use]
    pub fn with_epochs(mut self, epochs: &[EpochEntry]) -> Self {
        self.epochs = epochs.to_vec();
        self
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether transfers bypass the page cache.
    #[must_use]
    pub fn is_direct(&self) -> bool {
        self.file.is_direct()
    }

    /// Bytes of a page.
    #[must_use]
    pub const fn page_bytes(&self) -> usize {
        self.format.page_bytes
    }

    /// What its pages have in common.
    #[must_use]
    pub const fn format(&self) -> PageFormat {
        self.format
    }

    /// How many pages the file has.
    #[must_use]
    pub fn pages(&self) -> u64 {
        self.pages.load(Ordering::Acquire)
    }

    /// Byte offset of a page.
    ///
    /// # Panics
    /// When it is beyond 2^64, which no file is.
    #[must_use]
    pub fn offset(&self, page: PageId) -> u64 {
        let offset = page.get().checked_mul(to_u64(self.format.page_bytes));
        offset.expect("the offset of a page fits a file offset")
    }

    /// Reads a page and verifies it (P4). `buf` is a page long, and aligned for direct access.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for a damaged page and for one beyond the end; [`Error::Io`].
    pub fn read_page(&self, page: PageId, buf: &mut [u8]) -> Result<Verified> {
        self.check_inside(page)?;
        let read = self.file.read_at(buf, self.offset(page));
        self.verify(page, buf, read)
    }

    /// Reads pages side by side and verifies each; the answers are in order.
    pub fn read_pages(&self, batch: &mut [(PageId, AlignedBuf)]) -> Vec<Result<Verified>> {
        let inside: Vec<_> = batch.iter().map(|(page, _)| self.check_inside(*page)).collect();
        let wanted = batch.iter_mut().zip(&inside).filter(|(_, inside)| inside.is_ok());
        let mut transfers: Vec<_> = wanted
            .map(|((page, buf), _)| Transfer::read(&*self.file, self.offset(*page), buf))
            .collect();
        self.disk.transfer(&mut transfers);
        let reads: Vec<_> = transfers.into_iter().map(|transfer| transfer.result).collect();
        let mut reads = reads.into_iter();
        let answers = batch.iter().zip(inside).map(|((page, buf), inside)| {
            inside?;
            self.verify(*page, buf, reads.next().expect("a transfer for each page inside"))
        });
        answers.collect()
    }

    /// Makes room for at least `pages` pages, durably, before anything refers to the space.
    ///
    /// # Errors
    /// [`Error::NoSpace`] or [`Error::Io`]; the file is as it was. The call may be repeated, and fails
    /// with [`Error::Io`] from then on where a sync failed.
    pub fn grow_to(&self, pages: u64) -> Result<()> {
        let _growing = self.growing.lock();
        let old = self.pages();
        if pages <= old {
            return Ok(());
        }
        let page_bytes = to_u64(self.format.page_bytes);
        let step_bytes = (old * page_bytes).clamp(GROWTH_BYTES_MIN, GROWTH_BYTES_MAX);
        let generous = pages.max(old + step_bytes / page_bytes);
        match self.extend(old, generous) {
            // Full: perhaps the little that is needed now is still there.
            Err(Error::NoSpace { .. }) if pages < generous => self.extend(old, pages),
            done => done,
        }
    }

    /// Makes durable every page write that has returned. Once a sync has failed, all later ones do (W2).
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn sync(&self) -> Result<()> {
        self.sync_gate.pass(|| self.file.sync()).map_err(|error| Error::io(&self.path, error))
    }

    /// Refuses the position of a page that lies between the logs of two of these epochs, which are in
    /// ascending order.
    ///
    /// # Errors
    /// [`Error::Corrupt`].
    pub fn refuse_newer_than_its_log(
        &self,
        page: PageId,
        page_lsn: Lsn,
        epochs: &[EpochEntry],
    ) -> Result<()> {
        let behind = epochs.partition_point(|epoch| epoch.start_lsn < page_lsn);
        match epochs.get(behind) {
            Some(next) if next.skips(page_lsn) => {
                let end = next.continues_from_lsn;
                let expected = format!("page {page} at or below {end}, where its log ended");
                let found = format!("the page at {page_lsn}: log that was durable is gone");
                Err(Error::corrupt(&self.path, self.offset(page), expected, found))
            }
            _ => Ok(()),
        }
    }

    /// The disk that it lies on.
    pub(crate) const fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// The file's handle and its disk, for the one who writes pages.
    pub(crate) fn handle(&self) -> (&dyn Disk, &dyn DiskFile) {
        (&*self.disk, &*self.file)
    }

    fn extend(&self, old: u64, pages: u64) -> Result<()> {
        let page_bytes = to_u64(self.format.page_bytes);
        let (start, end) = (old * page_bytes, pages * page_bytes);
        self.sync_gate.check().map_err(|error| Error::io(&self.path, error))?;
        let written = self.write_zeros(start, end).map_err(|error| Error::io(&self.path, error));
        match written.and_then(|()| self.sync()) {
            Ok(()) => {
                self.pages.store(pages, Ordering::Release);
                Ok(())
            }
            Err(error) => {
                // Gives the space back. Where that fails as well the next growth writes over it.
                match self.file.set_len(start) {
                    Ok(()) | Err(_) => Err(error),
                }
            }
        }
    }

    fn write_zeros(&self, start: u64, end: u64) -> io::Result<()> {
        let zeros = AlignedBuf::new(ZEROS_BYTES);
        let mut at = start;
        while at < end {
            let count = to_usize((end - at).min(to_u64(ZEROS_BYTES)));
            self.file.write_at(&zeros[..count], at)?;
            at += to_u64(count);
        }
        Ok(())
    }

    fn check_inside(&self, page: PageId) -> Result<()> {
        let pages = self.pages();
        if page.get() < pages {
            return Ok(());
        }
        let end = pages * to_u64(self.format.page_bytes);
        Err(Error::corrupt(&self.path, end, format!("page {page}"), format!("{pages} pages")))
    }

    fn verify(&self, page: PageId, bytes: &[u8], read: io::Result<()>) -> Result<Verified> {
        read.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                let expected = format!("page {page}");
                Error::corrupt(&self.path, self.offset(page), expected, "the end of the file")
            }
            _ => Error::io(&self.path, error),
        })?;
        let verified = page::verify(self.format.seed, page, &self.path, bytes)?;
        if verified != Verified::NeverWritten {
            self.refuse_newer_than_its_log(page, PageView::new(bytes).page_lsn(), &self.epochs)?;
        }
        Ok(verified)
    }
}

impl fmt::Debug for PageFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageFile").field("path", &self.path).field("pages", &self.pages()).finish()
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use std::path::Path;

    use seawall_wal::codec::to_u64;
    use seawall_wal::disk::sim::{CrashPlan, EIO, ENOSPC, Fault, FaultEffect, OperationKind};
    use seawall_wal::disk::{AlignedBuf, Disk, OpenMode, SimDisk};
    use seawall_wal::{Error, PageId};

    use super::{GROWTH_BYTES_MAX, GROWTH_BYTES_MIN};
    use crate::page::Verified;
    use crate::writeback::rig::{PAGE_BYTES, open_pages};

    const GROWTH_MIN: u64 = GROWTH_BYTES_MIN / 4096;

    fn created(disk: &SimDisk) -> super::PageFile {
        let file = open_pages(disk, OpenMode::Create);
        disk.sync_dir(Path::new("/")).unwrap();
        file
    }

    #[test]
    fn growth_doubles_up_to_its_maximum_and_is_durable() {
        let disk = SimDisk::new();
        let file = created(&disk);
        let mut sizes = Vec::new();
        for _ in 0..10 {
            file.grow_to(file.pages() + 1).unwrap();
            sizes.push(file.pages() / GROWTH_MIN);
        }
        assert_eq!(sizes, [1, 2, 4, 8, 16, 32, 64, 128, 192, 256]);
        file.grow_to(1).unwrap();
        assert_eq!(file.pages() / GROWTH_MIN, 256);
        let most = 1000 * GROWTH_MIN;
        file.grow_to(most).unwrap();
        assert_eq!(file.pages(), most);
        assert_eq!(GROWTH_BYTES_MAX / GROWTH_BYTES_MIN, 64);
        let found = open_pages(&disk.crash(CrashPlan::NothingUnsynced), OpenMode::ReadOnly);
        assert_eq!(found.pages(), most);
        let mut buffer = AlignedBuf::new(PAGE_BYTES);
        let last = PageId::new(most - 1);
        assert_eq!(found.read_page(last, &mut buffer).unwrap(), Verified::NeverWritten);
        let beyond = found.read_page(PageId::new(most), &mut buffer);
        assert!(matches!(beyond, Err(Error::Corrupt { .. })));
    }

    #[test]
    fn a_full_disk_is_no_space_and_growth_goes_on_when_there_is_some() {
        let disk = SimDisk::new();
        let file = created(&disk);
        disk.set_capacity(Some(10 * to_u64(PAGE_BYTES)));
        // The generous step does not fit, what is needed does.
        file.grow_to(8).unwrap();
        assert_eq!(file.pages(), 8);
        assert!(matches!(file.grow_to(20), Err(Error::NoSpace { .. })));
        assert_eq!((file.pages(), disk.used_bytes()), (8, 8 * to_u64(PAGE_BYTES)));
        disk.set_capacity(None);
        file.grow_to(20).unwrap();
        assert_eq!(file.pages(), 8 + GROWTH_MIN);
        file.sync().unwrap();
    }

    #[test]
    fn growth_cut_at_any_operation_leaves_the_old_pages() {
        let disk = SimDisk::new();
        let file = created(&disk);
        file.grow_to(GROWTH_MIN).unwrap();
        disk.record_forks();
        file.grow_to(GROWTH_MIN * 4).unwrap();
        for fork in disk.take_forks() {
            for (_, crashed) in fork.disk().crash_states(0..3) {
                assert!(open_pages(&crashed, OpenMode::ReadWrite).pages() >= GROWTH_MIN);
            }
        }
    }

    #[test]
    fn after_a_failed_sync_no_sync_succeeds() {
        let disk = SimDisk::new();
        let file = created(&disk);
        disk.add_fault(Fault::new(FaultEffect::Errno(EIO)).kind(OperationKind::Sync));
        assert!(matches!(file.grow_to(1), Err(Error::Io { .. })));
        assert!(matches!(file.sync(), Err(Error::Io { .. })));
        assert_eq!(file.pages(), 0);
        let disk = SimDisk::new();
        let file = created(&disk);
        disk.add_fault(Fault::new(FaultEffect::Errno(ENOSPC)).kind(OperationKind::Write));
        file.grow_to(1).unwrap();
    }

    #[test]
    fn pages_of_a_batch_fail_alone() {
        let disk = SimDisk::new();
        let file = created(&disk);
        file.grow_to(4).unwrap();
        disk.flip_bit(Path::new("/pages"), to_u64(PAGE_BYTES) + 9, 0);
        let pages = [0, 1, 2, 1 << 30].map(PageId::new);
        let mut batch: Vec<_> =
            pages.iter().map(|&page| (page, AlignedBuf::new(PAGE_BYTES))).collect();
        let answers = file.read_pages(&mut batch);
        let is_ok: Vec<_> = answers.iter().map(Result::is_ok).collect();
        assert_eq!(is_ok, [true, false, true, false]);
    }

    #[test]
    fn after_a_failed_sync_growth_neither_asks_for_space_nor_writes() {
        let disk = SimDisk::new();
        let file = created(&disk);
        let full = Fault::new(FaultEffect::Errno(ENOSPC)).kind(OperationKind::Sync);
        disk.add_fault(full);
        assert!(file.grow_to(1).is_err());
        let operations = disk.operation_count();
        let again = file.grow_to(1);
        assert!(matches!(again, Err(Error::Io { .. })), "{again:?}");
        assert_eq!(disk.operation_count(), operations);
    }
}
