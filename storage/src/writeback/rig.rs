//! Pool, page file, doublewrite file and cleaner over a simulated disk, with a log that is a
//! number.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use seawall_wal::codec::to_u64;
use seawall_wal::disk::sim::{OperationKind, SimOperation};
use seawall_wal::disk::{Access, Disk, OpenMode, SimDisk};
use seawall_wal::{DatabaseId, Epoch, Error, Lsn, PageId, Result, TreeId};

use super::cleaner::{Cleaner, CleanerTarget, StepProvider};
use super::doublewrite::{DoublewriteFile, Slot};
use super::writer::{LogWatermark, PageWriter};
use crate::page::{self, OverflowView, PageView, PageWrite};
use crate::pagefile::{PageFile, PageFormat};
use crate::pool::dirty::DirtyTable;
use crate::pool::{ExclusivePage, Pool};

pub(crate) const PAGE_BYTES: usize = 4096;
pub(crate) const DATABASE: DatabaseId = DatabaseId::new(*b"a test database.");
/// Bytes of log per record.
const RECORD_BYTES: u64 = 100;

/// A log without records: a reserved end, and a durable one that follows when somebody waits.
#[derive(Debug, Default)]
pub(crate) struct NumberLog {
    reserved: AtomicU64,
    durable: AtomicU64,
    /// How often somebody looked at `durable`.
    pub(crate) looks: AtomicU64,
    /// Whether it is durable a byte further whenever somebody looks.
    pub(crate) flushes_when_looked_at: AtomicBool,
    pub(crate) fails: AtomicBool,
    pub(crate) is_awaited: AtomicBool,
    pub(crate) poisoned: AtomicBool,
}

impl NumberLog {
    pub(crate) fn starting_at(lsn: u64) -> Self {
        Self { reserved: lsn.into(), durable: lsn.into(), ..Self::default() }
    }

    /// END of a new record.
    pub(crate) fn reserve(&self) -> Lsn {
        Lsn::new(self.reserved.fetch_add(RECORD_BYTES, Ordering::SeqCst) + RECORD_BYTES)
    }
}

impl LogWatermark for NumberLog {
    fn durable_lsn(&self) -> Lsn {
        self.looks.fetch_add(1, Ordering::SeqCst);
        if self.flushes_when_looked_at.load(Ordering::SeqCst) {
            self.durable.fetch_add(1, Ordering::SeqCst);
        }
        Lsn::new(self.durable.load(Ordering::SeqCst))
    }

    fn reserved_lsn(&self) -> Lsn {
        Lsn::new(self.reserved.load(Ordering::SeqCst))
    }

    fn is_commit_awaited(&self) -> bool {
        self.is_awaited.load(Ordering::SeqCst)
    }

    fn wait_durable(&self, lsn: Lsn) -> Result<()> {
        if self.fails.load(Ordering::SeqCst) {
            return Err(Error::Poisoned { source: None });
        }
        assert!(lsn <= self.reserved_lsn(), "waits for a record that nobody reserved");
        self.durable.fetch_max(lsn.get(), Ordering::SeqCst);
        Ok(())
    }

    fn poison(&self, _error: Error) {
        self.poisoned.store(true, Ordering::SeqCst);
    }

    fn poisoned(&self) -> Option<Error> {
        self.poisoned.load(Ordering::SeqCst).then_some(Error::Poisoned { source: None })
    }
}

pub(crate) struct Rig {
    pub(crate) disk: SimDisk,
    pub(crate) log: Arc<NumberLog>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) cleaner: Arc<Cleaner>,
}

impl Rig {
    /// A new database with room for `pages` pages, a pool of `frames`, batches of `slots` pages.
    pub(crate) fn new(frames: usize, pages: u64, slots: usize) -> Self {
        let disk = SimDisk::new();
        doublewrite_file(&disk).create(slots).unwrap();
        let page_file = open_pages(&disk, OpenMode::Create);
        page_file.grow_to(pages).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        let log = Arc::new(NumberLog::starting_at(1000));
        watch_w1(&disk, &log);
        let dirty = Arc::new(DirtyTable::new(frames));
        let page_file = Arc::new(page_file);
        let doublewrite = doublewrite_file(&disk).open(Epoch::new(1)).unwrap();
        let writer = PageWriter::new(
            Arc::clone(&page_file),
            doublewrite,
            Arc::clone(&dirty),
            Arc::clone(&log) as Arc<dyn LogWatermark>,
        );
        let pool = Arc::new(Pool::new(page_file, frames, dirty).unwrap());
        let cleaner = Arc::new(Cleaner::new(Arc::clone(&pool), writer));
        pool.set_provider(Box::new(StepProvider::new(&cleaner)));
        Self { disk, log, pool, cleaner }
    }

    /// Gives a latched page the content `value`, as a logged change does.
    pub(crate) fn change(&self, page: &mut ExclusivePage<'_>, value: u64) -> Lsn {
        let dirty = self.pool.dirty();
        let mark = dirty.enter(page.id(), || self.log.reserved_lsn());
        let end = self.log.reserve();
        dirty.touched(mark, end);
        fill(page, value, end);
        end
    }

    /// Creates or overwrites a page.
    pub(crate) fn put(&self, page: u64, value: u64) -> Lsn {
        let pin = self.pool.pin_new(PageId::new(page)).unwrap();
        let mut latched = pin.exclusive();
        self.change(&mut latched, value)
    }

    /// Cleans every page.
    pub(crate) fn clean(&self) {
        let target = CleanerTarget::RedoLsn(Lsn::MAX);
        self.cleaner.reach(target).unwrap();
    }

    pub(crate) fn slots(&self) -> Vec<Slot> {
        doublewrite_file(&self.disk).scan().unwrap()
    }
}

pub(crate) fn doublewrite_file(disk: &SimDisk) -> DoublewriteFile<'_> {
    DoublewriteFile {
        disk,
        path: Path::new("/doublewrite"),
        access: Access::Direct,
        database: DATABASE,
        page_bytes: PAGE_BYTES,
    }
}

pub(crate) fn open_pages(disk: &SimDisk, mode: OpenMode) -> PageFile {
    let format = PageFormat::new(DATABASE, PAGE_BYTES);
    let disk = Arc::new(disk.clone());
    PageFile::open(disk, Path::new("/pages"), mode, Access::Direct, format).unwrap()
}

/// Words that nothing compresses, always the same.
pub(crate) fn noise() -> impl Iterator<Item = u64> {
    let step = |word: &u64| {
        Some(word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407))
    };
    std::iter::successors(Some(1), step)
}

/// A page of them.
pub(crate) fn noise_page() -> Vec<u8> {
    noise().flat_map(u64::to_le_bytes).take(PAGE_BYTES).collect()
}

/// What the words of a page are mixed with: one page in four can be compressed.
fn mixed_with(page: PageId) -> impl Iterator<Item = u64> {
    let keeps = page.get() % 4 != 3;
    noise().map(move |word| if keeps { word } else { 0 })
}

/// A valid page of `value`. One in four has zeros behind it that its image goes without.
fn fill(page: &mut ExclusivePage<'_>, value: u64, page_lsn: Lsn) {
    let words_max = page::payload_bytes_max(PAGE_BYTES, 0) / 8;
    let count = if page.id().get() % 4 == 1 { words_max * 5 / 8 } else { words_max };
    let words = mixed_with(page.id()).take(count).map(|word| word ^ value);
    let payload: Vec<_> = words.flat_map(u64::to_le_bytes).collect();
    let content = page::overflow_page(PAGE_BYTES, page.id(), TreeId::new(1), &[], &payload);
    page.write(0, page::PageRead::bytes(&content));
    page::set_page_lsn(page, page_lsn);
}

/// What `fill` wrote; fails on a mixture.
pub(crate) fn value_of(bytes: &[u8]) -> Result<u64, String> {
    let (words, _) = OverflowView::new(bytes).payload().as_chunks::<8>();
    let words = words.iter().map(|word| u64::from_le_bytes(*word));
    let mixed_with = mixed_with(PageView::new(bytes).page_id());
    let mut values = words.zip(mixed_with).map(|(word, with)| word ^ with);
    let first = values.next().ok_or("an empty page")?;
    if values.any(|value| value != first) {
        return Err(format!("page {} is a mixture", PageView::new(bytes).page_id()));
    }
    Ok(first)
}

/// Has the disk check W1 and P3 on every write of a page.
fn watch_w1(disk: &SimDisk, log: &Arc<NumberLog>) {
    let log = Arc::clone(log);
    let in_flight = std::sync::Mutex::new(BTreeMap::new());
    disk.set_monitor(Arc::new(move |operation: &SimOperation<'_>| {
        if operation.path != Path::new("/pages") {
            return;
        }
        let mut in_flight = in_flight.lock().unwrap();
        match operation.kind {
            OperationKind::Write => {
                assert_eq!(operation.bytes.len() % PAGE_BYTES, 0);
                assert_eq!(operation.offset % to_u64(PAGE_BYTES), 0);
                let mut offset = operation.offset;
                for page in operation.bytes.chunks(PAGE_BYTES) {
                    let page_lsn = PageView::new(page).page_lsn();
                    assert!(page_lsn <= log.durable_lsn(), "W1: page with {page_lsn} is written");
                    let written = in_flight.insert(offset, page_lsn);
                    assert_eq!(written, None, "P3: page at {offset} is being written");
                    offset += to_u64(PAGE_BYTES);
                }
            }
            // Only about to run, but with one writer at a time nobody else can tell.
            OperationKind::Sync => in_flight.clear(),
            _ => {}
        }
    }));
}
