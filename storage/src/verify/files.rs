//! Checks that need only files: every page's checksum and place, and the log's records. They read
//! past the pool, so that damage under a resident page is found too, and they work as well where no
//! engine runs.

use std::sync::Arc;

use seawall_wal::control::{ControlState, MasterRecord};
use seawall_wal::disk::AlignedBuf;
use seawall_wal::log::{LogFiles, LogRecord};
use seawall_wal::record::Record;
use seawall_wal::sync::thread;
use seawall_wal::{Error, Lsn, PageId, Result};

use crate::page::{PageView, Verified};
use crate::pagefile::PageFile;
use crate::pool::dirty::OnDisk;

/// Pages read side by side.
const BATCH_PAGES: usize = 32;
/// Reads of a page that looks damaged, before it counts as damaged.
const TRIES: u32 = 8;

/// What is known about pages beside their copies on disk.
#[derive(Clone, Copy)]
pub(super) struct Memory<'m> {
    /// How a page's copy on disk stands to its newest content.
    pub(super) on_disk: &'m dyn Fn(PageId) -> OnDisk,
    /// The `page_lsn` of a page that is in memory, and clean.
    pub(super) clean_lsn: &'m dyn Fn(PageId) -> Option<Lsn>,
}

/// Checks pages of the page file as they are on disk, all of which are in use. One that is being
/// written is read again, and left out if it still is, since the doublewrite file covers it. A page
/// that is clean in memory must be the same one on disk (P2). Calls `found` with each finding, and
/// `progress` with the number of pages done since the last call. Unreadable pages are findings as
/// well.
pub(super) fn check_pages(
    file: &PageFile,
    pages: &[PageId],
    memory: Memory<'_>,
    mut found: impl FnMut(String),
    mut progress: impl FnMut(usize),
) {
    let buffer = || AlignedBuf::new(file.page_bytes());
    let mut buffers: Vec<_> = (0..BATCH_PAGES).map(|_| (PageId::NONE, buffer())).collect();
    for batch in pages.chunks(BATCH_PAGES) {
        for ((id, _), &page) in buffers.iter_mut().zip(batch) {
            *id = page;
        }
        let answers = file.read_pages(&mut buffers[..batch.len()]);
        for ((page, buffer), answer) in buffers.iter_mut().zip(answers) {
            if let Some(finding) = judge(file, *page, buffer, answer, memory) {
                found(finding);
            }
        }
        progress(batch.len());
    }
}

/// What is wrong with a page that was read: for good, if it is read twice and nobody writes it.
fn judge(
    file: &PageFile,
    page: PageId,
    buffer: &mut AlignedBuf,
    mut answer: Result<Verified>,
    memory: Memory<'_>,
) -> Option<String> {
    let mut last = None;
    for _ in 0..TRIES {
        let state = (memory.on_disk)(page);
        let error = complain(file, page, buffer, answer, state, memory)?;
        let now = Some((state, buffer.to_vec()));
        if state != OnDisk::BeingWritten && last == now {
            return Some(name_page(page, &error));
        }
        last = now;
        thread::yield_now();
        answer = file.read_page(page, buffer);
    }
    None
}

fn complain(
    file: &PageFile,
    page: PageId,
    bytes: &[u8],
    answer: Result<Verified>,
    state: OnDisk,
    memory: Memory<'_>,
) -> Option<Error> {
    let damaged = |expected: String, found: String| {
        Some(Error::corrupt(file.path(), file.offset(page), expected, found))
    };
    match (answer, state) {
        (Ok(Verified::Page(_)), OnDisk::Current) => {
            let found = PageView::new(bytes).page_lsn();
            let newest = (memory.clean_lsn)(page).filter(|&lsn| lsn != found)?;
            let expected = format!("page {page} at {newest}, as in memory: a write was lost");
            damaged(expected, format!("the page at {found}"))
        }
        (Ok(Verified::Page(_)), _) | (_, OnDisk::Older { is_recreated: true }) => None,
        (Ok(Verified::NeverWritten), _) => {
            damaged(format!("page {page}, which is in use"), "zeros".into())
        }
        (Err(error), _) => Some(error),
    }
}

/// A finding's sentence, which names the page.
fn name_page(page: PageId, error: &Error) -> String {
    format!("page {page}: {error}")
}

/// Decodes every record from where the last checkpoint's recovery would begin up to `until`, and
/// calls `each` with it.
///
/// # Errors
/// [`Error::Corrupt`] for the first record that cannot be read; those of reading.
pub(super) fn read_log(
    files: &Arc<LogFiles>,
    state: &ControlState,
    from: Lsn,
    until: Lsn,
    mut each: impl FnMut(&LogRecord<'_>, &Record<'_>),
) -> Result<()> {
    let start = state.master.as_ref().map(|master| (master.start_lsn(), master.start_at));
    let hint = start.filter(|(start_lsn, _)| *start_lsn <= from).map(|(_, start_at)| start_at);
    let mut reader = files.reader(from, hint, Some(until))?;
    while let Some(found) = reader.next_record()? {
        let damaged = |error| files.damaged_record(found.lsn, found.frame_at, error);
        let body = found.body().map_err(damaged)?;
        let decoded = found.decode(&body).map_err(damaged)?;
        each(&found, &decoded);
    }
    Ok(())
}

/// Where the log that the state in force needs begins.
pub(super) fn log_start(state: &ControlState) -> Lsn {
    let first = state.epochs.first().map_or(Lsn::NONE, |epoch| epoch.start_lsn);
    state.master.as_ref().map_or(first, MasterRecord::start_lsn).max(first)
}
