//! What recovery makes of the doublewrite file: its images prove how far the log was durable, and
//! pages that a crash tore, or never let land, are put back from it. That is recovery's first act
//! on the page file.

use std::collections::BTreeMap;
use std::sync::Arc;

use seawall_wal::control::ControlState;
use seawall_wal::disk::AlignedBuf;
use seawall_wal::log::{LogEnd, LogFiles, TailQuery, find_end};
use seawall_wal::{Error, Lsn, PageId, Result};

use super::doublewrite::{BatchId, Slot};
use super::writer;
use crate::page::PageView;
use crate::pagefile::PageFile;

/// The highest `page_lsn` that the slots prove: the log was durable up to it before they were
/// written.
pub(super) fn known_durable_lsn(slots: &[Slot]) -> Lsn {
    slots.iter().map(|slot| slot.page_lsn).max().unwrap_or(Lsn::NONE)
}

/// Finds the end of the log by all that is known of it: what `control` says, the log itself, and
/// what these slots prove. It is the one decision of those who recover a database and those who
/// look at it.
///
/// # Errors
/// Those of [`find_end`].
pub fn find_log_end(files: &Arc<LogFiles>, state: &ControlState, slots: &[Slot]) -> Result<LogEnd> {
    let known_durable_lsn = known_durable_lsn(slots);
    find_end(files, &TailQuery { known_durable_lsn, ..TailQuery::new(state) })
}

/// Puts the newest image of each page back in place, where the page on disk is damaged or older,
/// and syncs. Slots up to batch `synced` are ignored: their pages are in place, or were not touched, and
/// may have been written since without an image. Returns the pages restored. May be cut short and repeated
/// (R2).
///
/// Once this has returned the areas may be used again: what it found in place is synced too, since
/// a process may have been killed between its write and its sync. With buffered access what was
/// found is written again as well: after a failed sync the page cache shows bytes that the disk
/// does not have.
///
/// # Errors
/// [`Error::Corrupt`] when an image, or a page in its place, is newer than the log, which ends at
/// `end_lsn`, or its page lies beyond the page file; those of reading and writing.
pub fn restore(
    slots: &[Slot],
    page_file: &PageFile,
    synced: Option<BatchId>,
    end_lsn: Lsn,
) -> Result<Vec<PageId>> {
    let newest = newest_of_each_page(slots, synced);
    let mut restored = Vec::new();
    let mut buffer = AlignedBuf::new(page_file.page_bytes());
    for slot in newest.values() {
        refuse_beyond(page_file, slot.page, slot.page_lsn, end_lsn)?;
        let is_in_place = is_in_place(slot, page_file, end_lsn, &mut buffer)?;
        if !is_in_place {
            buffer.copy_from_slice(&slot.image);
            restored.push(slot.page);
        }
        if !is_in_place || !page_file.is_direct() {
            writer::write_in_place(page_file, &[(slot.page, &buffer[..])])?;
        }
    }
    if !newest.is_empty() {
        page_file.sync()?;
    }
    Ok(restored)
}

/// The image of each page that [`restore`] would put back where the page needs it.
#[must_use]
pub fn newest_of_each_page(slots: &[Slot], synced: Option<BatchId>) -> BTreeMap<PageId, &Slot> {
    let mut newest: BTreeMap<PageId, &Slot> = BTreeMap::new();
    for slot in slots.iter().filter(|slot| Some(slot.batch) > synced) {
        let place = newest.entry(slot.page).or_insert(slot);
        if place.batch < slot.batch {
            *place = slot;
        }
    }
    newest
}

/// Whether the page on disk, read into `buffer`, is valid and at least as new as the image.
fn is_in_place(
    slot: &Slot,
    page_file: &PageFile,
    end_lsn: Lsn,
    buffer: &mut AlignedBuf,
) -> Result<bool> {
    let is_inside = slot.page.get() < page_file.pages();
    match page_file.read_page(slot.page, buffer) {
        // A page that was never written has page_lsn 0.
        Ok(_) => {
            let page_lsn = PageView::new(buffer).page_lsn();
            refuse_beyond(page_file, slot.page, page_lsn, end_lsn)?;
            Ok(page_lsn >= slot.page_lsn)
        }
        Err(Error::Corrupt { .. } | Error::UnsupportedFormat { .. }) if is_inside => Ok(false),
        Err(error) => Err(error),
    }
}

/// A page, or its image, is written only when the log that changed it is durable.
fn refuse_beyond(page_file: &PageFile, page: PageId, page_lsn: Lsn, end_lsn: Lsn) -> Result<()> {
    if page_lsn <= end_lsn {
        return Ok(());
    }
    let expected = format!("a log that reaches {page_lsn}, as page {page}");
    let found = format!("its end at {end_lsn}");
    Err(Error::corrupt(page_file.path(), page_file.offset(page), expected, found))
}
