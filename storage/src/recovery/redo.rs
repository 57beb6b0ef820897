//! Redo: repeats history from the redo point, page by page (ARIES, Mohan et al. 1992).
//!
//! A reference is applied if and only if the page lacks it (`page_lsn` below the record's END), and
//! then the page must be in the very state that the record was written for (`page_prev_lsn`):
//! otherwise a write was lost, and the page is named. A page at a position behind the end of the log
//! has outlived log that was durable when it was written: that is corruption too. A page whose first needed record creates it
//! whole is not read; what stands on disk does not matter (invariant R1).

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use seawall_wal::log::{LogFiles, LogReader};
use seawall_wal::record::{self, Header, Op, PageRef};
use seawall_wal::{Error, Lsn, PageId, Result};

use super::analysis::Analysis;
use crate::page::{PageRead, PageView, apply, set_page_lsn};
use crate::planted::{Bug, is_planted};
use crate::pool::{ExclusivePage, Pool};

/// Records worked off together.
const BATCH_RECORDS: usize = 1024;
/// The pages of a batch that are read ahead take at most one part in this many of the pool.
const POOL_SHARE: usize = 4;

/// What redo did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Redone {
    /// References applied.
    pub(crate) applied: u64,
    /// Time spent on reading pages.
    pub(crate) reading: Duration,
}

/// Applies what pages lack. Calls `progress` with the bytes of log that are done.
pub(crate) fn redo(
    files: &Arc<LogFiles>,
    analysis: &Analysis,
    pool: &Pool,
    mut progress: impl FnMut(u64),
) -> Result<Redone> {
    let mut redone = Redone::default();
    let mut reader = files.reader(analysis.redo_lsn, None, Some(analysis.end_lsn))?;
    let mut done = 0;
    loop {
        let batch = read_batch(&mut reader, pool)?;
        if batch.is_empty() {
            return Ok(redone);
        }
        redo_batch(&batch, analysis, pool, &mut redone)?;
        done += batch.iter().map(|entry| entry.end.since(entry.start)).sum::<u64>();
        progress(done);
    }
}

/// A record of a batch, its body decompressed.
struct Entry {
    start: Lsn,
    end: Lsn,
    header: Header,
    body: Vec<u8>,
}

/// Reads the next records: so many that reading their pages side by side pays.
fn read_batch(reader: &mut LogReader, pool: &Pool) -> Result<Vec<Entry>> {
    let mut batch = Vec::new();
    while batch.len() < BATCH_RECORDS {
        let Some(found) = reader.next_record()? else { break };
        let body = record::body_bytes(&found.header, found.bytes)
            .map_err(|error| error.in_file(pool.page_file().path(), 0))?;
        let (start, end, header) = (found.lsn, found.end_lsn, found.header);
        batch.push(Entry { start, end, header, body: body.into_owned() });
    }
    Ok(batch)
}

/// Applies a batch.
fn redo_batch(
    batch: &[Entry],
    analysis: &Analysis,
    pool: &Pool,
    redone: &mut Redone,
) -> Result<()> {
    let records = batch
        .iter()
        .map(|entry| record::decode(&entry.header, &entry.body))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| error.in_file(pool.page_file().path(), 0))?;
    let needed: Vec<_> = batch
        .iter()
        .zip(&records)
        .flat_map(|(entry, record)| record.body.page_refs().iter().map(move |refs| (entry, refs)))
        .filter(|(entry, page_ref)| is_needed(analysis, page_ref, entry.start))
        .collect();
    let started = Instant::now();
    let _pins = pool.load_many(&pages_to_read(&needed, pool.frames() / POOL_SHARE))?;
    redone.reading += started.elapsed();
    for (entry, page_ref) in needed {
        redone.applied += u64::from(redo_page(pool, page_ref, entry, analysis.end_lsn)?);
    }
    Ok(())
}

/// Pages that have to be read for these references: those that no reference before creates whole.
fn pages_to_read(needed: &[(&Entry, &PageRef<'_>)], most: usize) -> Vec<PageId> {
    let mut seen = HashSet::new();
    let mut is_read = |page_ref: &PageRef<'_>| seen.insert(page_ref.page) && !page_ref.is_init;
    let refs = needed.iter().map(|(_, page_ref)| *page_ref);
    let mut pages: Vec<_> =
        refs.filter(|page_ref| is_read(page_ref)).map(|page_ref| page_ref.page).collect();
    pages.truncate(most);
    pages.sort_unstable();
    pages
}

/// Whether the page may lack the record at `lsn`, as far as the tables tell.
fn is_needed(analysis: &Analysis, page_ref: &PageRef<'_>, lsn: Lsn) -> bool {
    let is_dirty = analysis.dirty.get(&page_ref.page).is_some_and(|&rec_lsn| rec_lsn <= lsn);
    let is_superseded =
        analysis.last_inits.get(&page_ref.page).is_some_and(|&init_lsn| lsn < init_lsn);
    is_dirty && !is_superseded
}

fn redo_page(pool: &Pool, page_ref: &PageRef<'_>, entry: &Entry, log_end: Lsn) -> Result<bool> {
    let Entry { start, end, .. } = *entry;
    let id = page_ref.page;
    let mut page = if page_ref.is_init {
        pool.page_file().grow_to(id.get() + 1)?;
        pool.pin_new(id)?.into_exclusive()
    } else {
        let page = pool.pin(id)?.into_exclusive();
        let found = PageView::new(page.bytes()).page_lsn();
        if found > log_end {
            let expected = format!("page {id} at or below {log_end}, where the log ends");
            return Err(damaged(pool, &page, expected, format!("the page at {found}")));
        }
        if found >= end && !is_planted(Bug::RedoWithoutPageLsnTest) {
            return Ok(false);
        }
        if found != page_ref.page_prev_lsn {
            let expected = format!(
                "page {id} at {}, for the record at {start}: a write of the page was lost",
                page_ref.page_prev_lsn
            );
            return Err(damaged(pool, &page, expected, format!("the page at {found}")));
        }
        page
    };
    let mark = if page_ref.is_init {
        pool.dirty().enter_recreated(id, || start)
    } else {
        pool.dirty().enter(id, || start)
    };
    pool.dirty().touched(mark, end);
    for op in &*page_ref.ops {
        if is_planted(Bug::RedoWithoutSettling) && matches!(op, Op::Settle { .. }) {
            continue;
        }
        if let Err(error) = apply(&mut page, id, &op.in_record_at(start)) {
            let expected = format!("page {id} to which the record at {start} applies");
            return Err(damaged(pool, &page, expected, error.to_string()));
        }
    }
    set_page_lsn(&mut page, end);
    Ok(true)
}

fn damaged(pool: &Pool, page: &ExclusivePage<'_>, expected: String, found: String) -> Error {
    let file = pool.page_file();
    Error::corrupt(file.path(), file.offset(page.id()), expected, found)
}
