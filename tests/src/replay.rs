//! Redo equals live: the log, redone on an old copy of the pages, gives the very bytes that the live
//! database has written (R1, P1, and that redo repeats history).
//!
//! The old copy is the disk as it was when somebody asked for it, with the checkpoint that held then;
//! the log since is kept as it is written, whatever becomes of its segments. When the database has
//! been closed, and so has written every page, both are compared.
//!
//! Two things are not: the checksum, which redo leaves to whoever writes the page; and pages that are
//! free, of which redo leaves out everything below the record that freed them.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use seawall::page::{BitmapView, PAGE_BYTES, PageView, index_of, page_of};
use seawall_wal::PageId;
use seawall_wal::codec::to_usize;
use seawall_wal::disk::SimDisk;
use seawall_wal::disk::sim::{OperationKind, SimOperation};
use seawall_wal::log::segment::{SEGMENT_HEADER_BYTES, SegmentHeader};

use crate::ensure;
use crate::failure::{Failure, Outcome};
use crate::settings::{PATH, Settings};

/// What the cache of the one who redoes has beside twice the page file: every page stays in it.
const BUFFERS_BYTES: u64 = 4 << 20;
/// Where a page's checksum lies.
const CHECKSUM: Range<usize> = 0..4;

/// An old copy, and the log since.
#[derive(Debug, Default)]
pub struct Replay {
    kept: Mutex<Option<Kept>>,
}

#[derive(Debug)]
struct Kept {
    old: SimDisk,
    /// Segments that were written since, under the name they had then.
    log: BTreeMap<PathBuf, Vec<u8>>,
}

impl Replay {
    /// Keeps the disk as it is, and the log from here on.
    pub fn keep(&self, disk: &SimDisk) {
        *self.kept.lock().expect("nothing panics under the lock") =
            Some(Kept { old: disk.fork(), log: BTreeMap::new() });
    }

    /// Whether there is an old copy.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.kept.lock().expect("nothing panics under the lock").is_some()
    }

    /// The disk is about to run an operation.
    pub fn see(&self, operation: &SimOperation<'_>) {
        if operation.kind != OperationKind::Write || !is_segment(operation.path) {
            return;
        }
        let mut kept = self.kept.lock().expect("nothing panics under the lock");
        let Some(kept) = &mut *kept else { return };
        if !kept.log.contains_key(operation.path) {
            let bytes = kept.old.read_file(operation.path).unwrap_or_default();
            kept.log.insert(operation.path.to_owned(), bytes);
        }
        let bytes = kept.log.get_mut(operation.path).expect("it was just put there");
        let start = to_usize(operation.offset);
        let end = start + operation.length;
        if bytes.len() < end {
            bytes.resize(end, 0);
        }
        bytes[start..end].copy_from_slice(operation.bytes);
    }

    /// Redoes the log on the old copy, and compares with the disk of the database that has been
    /// closed. Gives the number of pages that were the same; 0 where there is no old copy.
    ///
    /// # Errors
    /// Where they differ, or redo fails.
    pub fn compare(&self, closed: &SimDisk, settings: &Settings) -> Outcome<u64> {
        let kept = self.kept.lock().expect("nothing panics under the lock");
        let Some(kept) = &*kept else { return Ok(0) };
        let live = live_pages(closed, settings)?;
        let page_file_bytes = u64::from(settings.page_bytes) * (1 + highest(&live));
        let redone = kept
            .redo(settings, BUFFERS_BYTES + 2 * page_file_bytes)
            .map_err(|why| why.at("redo on the old copy"))?;
        let mut same = 0;
        for (&page, bytes) in &live {
            if !is_allocated(&live, page, settings) {
                continue;
            }
            let Some(again) = redone.get(&page) else {
                return Err(Failure::new(format!("redo has no page {page}")));
            };
            let differs =
                (0..bytes.len()).find(|at| !CHECKSUM.contains(at) && bytes[*at] != again[*at]);
            if let Some(at) = differs {
                let lsn = |bytes: &[u8]| PageView::new(bytes).page_lsn();
                return Err(Failure::new(format!(
                    "redo makes page {page} another one: byte {at} is {}, live {}; page_lsn {}, live {}",
                    again[at],
                    bytes[at],
                    lsn(again),
                    lsn(bytes)
                )));
            }
            same += 1;
        }
        Ok(same)
    }
}

impl Kept {
    fn redo(&self, settings: &Settings, cache_bytes: u64) -> Outcome<Pages> {
        let disk = self.old.fork();
        for (path, bytes) in &self.log {
            let mut bytes = bytes.clone();
            bytes.resize(bytes.len().max(segment_bytes(&bytes)), 0);
            disk.write_file(path, &bytes);
        }
        // Several workers redo side by side here.
        let options = settings.options(&disk).cache_bytes(cache_bytes).manual_background(false);
        Ok(seawall::testing::replay(&options, PATH)?.into_iter().collect())
    }
}

/// How long the file is, as its header says; 0 where nothing was written since it was a spare.
fn segment_bytes(bytes: &[u8]) -> usize {
    let header = bytes.get(..SEGMENT_HEADER_BYTES).map(SegmentHeader::decode);
    header.and_then(Result::ok).map_or(0, |header| to_usize(header.segment_bytes))
}

type Pages = BTreeMap<u64, Vec<u8>>;

fn highest(pages: &Pages) -> u64 {
    pages.last_key_value().map_or(0, |(&page, _)| page)
}

/// Every page that was ever written.
fn live_pages(disk: &SimDisk, settings: &Settings) -> Outcome<Pages> {
    let path = Path::new(PATH).join("pages");
    let bytes = disk.read_file(&path).map_err(|_| Failure::new("no page file"))?;
    let page_bytes = usize::try_from(settings.page_bytes).expect("a page size");
    ensure!(PAGE_BYTES.contains(&page_bytes), "{page_bytes} is no page size");
    let pages = (0..).zip(bytes.chunks_exact(page_bytes));
    let written = pages.filter(|(_, page)| page.iter().any(|&byte| byte != 0));
    Ok(written.map(|(number, page)| (number, page.to_vec())).collect())
}

fn is_allocated(pages: &Pages, page: u64, settings: &Settings) -> bool {
    let page_bytes = usize::try_from(settings.page_bytes).expect("a page size");
    let page = PageId::new(page);
    let bitmap = pages.get(&page_of(page_bytes, page).get());
    bitmap.is_some_and(|bytes| BitmapView::new(bytes).is_allocated(index_of(page_bytes, page)))
}

fn is_segment(path: &Path) -> bool {
    path.parent().is_some_and(|parent| parent == Path::new(PATH).join("wal"))
        && path.extension().is_some_and(|extension| extension == "wal")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use seawall::Durability;
    use seawall_wal::codec::to_u64;

    use super::*;

    /// A small database that has been closed, with what is needed to redo it.
    fn closed(settings: &Settings) -> (SimDisk, Arc<Replay>) {
        let disk = SimDisk::new();
        let database = settings.open(&disk).unwrap();
        let replay = Arc::new(Replay::default());
        replay.keep(&disk);
        let seen = Arc::clone(&replay);
        disk.set_monitor(Arc::new(move |operation| seen.see(operation)));
        let tree = database.tree("t").unwrap();
        for number in 0..40_u32 {
            tree.insert_with(number.to_be_bytes(), [7; 300], Durability::Relaxed).unwrap();
        }
        tree.insert("large", vec![9; 10_000]).unwrap();
        tree.remove(3_u32.to_be_bytes()).unwrap();
        database.close().unwrap();
        (disk, replay)
    }

    #[test]
    fn a_bit_that_differs_is_found_on_every_page_and_in_the_checksum_is_of_no_account() {
        let settings = Settings::default();
        let (disk, replay) = closed(&settings);
        let same = replay.compare(&disk, &settings).unwrap();
        assert!(same >= 8, "{same} pages");
        let path = Path::new(PATH).join("pages");
        let page_bytes = u64::from(settings.page_bytes);
        let live = live_pages(&disk, &settings).unwrap();
        let places = [8, 24, 41, 64, 119, 121, page_bytes - 1];
        for page in live.keys().filter(|&&page| is_allocated(&live, page, &settings)) {
            let (start, bit) = (page * page_bytes, 3);
            for place in places {
                disk.flip_bit(&path, start + place, bit);
                let found = replay.compare(&disk, &settings).unwrap_err().to_string();
                assert!(found.contains(&format!("page {page} ")), "{page} {place}: {found}");
                disk.flip_bit(&path, start + place, bit);
            }
            for place in CHECKSUM {
                disk.flip_bit(&path, start + to_u64(place), bit);
                assert_eq!(replay.compare(&disk, &settings).unwrap(), same);
            }
        }
    }

    #[test]
    fn log_that_was_not_redone_is_missed() {
        let settings = Settings::default();
        let (disk, replay) = closed(&settings);
        let kept = replay.kept.lock().unwrap().take().unwrap();
        let old = Replay::default();
        old.keep(&kept.old);
        let found = old.compare(&disk, &settings).unwrap_err().to_string();
        assert!(found.contains("page"), "{found}");
    }
}
