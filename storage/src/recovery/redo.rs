//! Redo: repeats history from the redo point, page by page (ARIES, Mohan et al. 1992).
//!
//! A reference is applied if and only if the page lacks it (`page_lsn` below the record's END), and
//! then the page must be in the very state that the record was written for (`page_prev_lsn`):
//! otherwise a write was lost, and the page is named. A page at a position behind the end of the log
//! has outlived log that was durable when it was written: that is corruption too. A page whose first needed record creates it
//! whole is not read; what stands on disk does not matter (invariant R1).

use std::collections::HashSet;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use seawall_wal::codec::{to_u64, to_usize};
use seawall_wal::control::LogPosition;
use seawall_wal::log::{LogFiles, LogReader, LogRecord};
use seawall_wal::record::{self, Header, Op, PageRef};
use seawall_wal::{Error, Lsn, PageId, Result};

use super::analysis::Analysis;
use crate::page::{ApplyError, PageRead, PageView, PageWrite, apply, set_page_lsn};
use crate::planted::{Bug, is_planted};
use crate::pool::{ExclusivePage, Pool};

/// Records worked off together, at most.
const BATCH_RECORDS: usize = 4096;
/// Bytes of their bodies from which on a batch is large enough.
const BATCH_BYTES: usize = 4 << 20;
/// The pages of a batch that are read ahead take at most one part in this many of the pool.
const POOL_SHARE: usize = 4;
/// One worker for so many frames at most: each pins some.
const FRAMES_PER_WORKER: usize = 64;

/// Threads that redo: some wait for pages while others apply.
pub(crate) const WORKERS: usize = 4;

/// What redo did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Redone {
    /// References applied.
    pub(crate) applied: u64,
    /// The part of the time that went into reading pages.
    pub(crate) reading: Duration,
}

/// What workers did.
#[derive(Clone, Copy, Debug, Default)]
struct Work {
    applied: u64,
    /// The workers' times added up: for reading pages, and in all.
    reading: Duration,
    busy: Duration,
    /// How long all of them together took for their batches.
    elapsed: Duration,
}

/// A reference that a page may lack, and the record that it is from.
type Needed<'b> = (&'b Entry, &'b PageRef<'b>);

/// Applies what pages lack. Calls `progress` with the bytes of log that are done.
///
/// Pages are shared out among the workers by id, since the redo of a page needs no other one (R1);
/// the next batch is read meanwhile. With one worker everything happens in the order of the log, on
/// this thread.
pub(crate) fn redo(
    files: &Arc<LogFiles>,
    analysis: &Analysis,
    pool: &Pool,
    workers: usize,
    mut progress: impl FnMut(u64),
) -> Result<Redone> {
    let workers = workers.min(pool.frames() / FRAMES_PER_WORKER).max(1);
    let redo = Redo { files, analysis, pool, workers };
    let mut work = Work::default();
    let mut done = 0;
    let mut reader = files.reader(analysis.redo_lsn, None, Some(analysis.end_lsn))?;
    let mut batch = redo.read_batch(&mut reader)?;
    while !batch.is_empty() {
        let (worked, next) = if workers == 1 {
            (redo.batch(&batch), redo.read_batch(&mut reader))
        } else {
            thread::scope(|scope| {
                let next = spawn(scope, pool, || redo.read_batch(&mut reader))?;
                Ok((redo.batch(&batch), join(next)))
            })?
        };
        work = work.and(worked?);
        done += batch.iter().map(|entry| entry.end.since(entry.start)).sum::<u64>();
        batch = next?;
        progress(done);
    }
    Ok(Redone { applied: work.applied, reading: work.reading_share() })
}

/// A record of a batch, its body decompressed.
struct Entry {
    start: Lsn,
    end: Lsn,
    /// The frame of the log that holds it.
    frame_at: LogPosition,
    header: Header,
    body: Vec<u8>,
}

/// What all batches have in common.
struct Redo<'r> {
    files: &'r LogFiles,
    analysis: &'r Analysis,
    pool: &'r Pool,
    workers: usize,
}

impl Redo<'_> {
    /// Reads the next records: so many that reading their pages side by side pays.
    fn read_batch(&self, reader: &mut LogReader) -> Result<Vec<Entry>> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < BATCH_RECORDS && bytes < BATCH_BYTES {
            let Some(found) = reader.next_record()? else { break };
            let LogRecord { lsn: start, end_lsn: end, header, frame_at, .. } = found;
            let body = found.body();
            let body = body.map_err(|error| self.files.damaged_record(start, frame_at, error))?;
            bytes += body.len();
            batch.push(Entry { start, end, frame_at, header, body: body.into_owned() });
        }
        Ok(batch)
    }

    /// Applies a batch.
    fn batch(&self, batch: &[Entry]) -> Result<Work> {
        let records = batch
            .iter()
            .map(|entry| {
                let decoded = record::decode(&entry.header, &entry.body);
                decoded.map_err(|e| self.files.damaged_record(entry.start, entry.frame_at, e))
            })
            .collect::<Result<Vec<_>>>()?;
        let mut shares: Vec<Vec<Needed<'_>>> = vec![Vec::new(); self.workers];
        for (entry, record) in batch.iter().zip(&records) {
            for page_ref in record.body.page_refs() {
                if is_needed(self.analysis, page_ref.page, entry.start) {
                    let worker = page_ref.page.get() % to_u64(self.workers);
                    shares[to_usize(worker)].push((entry, page_ref));
                }
            }
        }
        let started = Instant::now();
        let (own, others) = shares.split_first().expect("there is one worker at least");
        let work = thread::scope(|scope| {
            let others = others.iter().map(|share| spawn(scope, self.pool, || self.share(share)));
            let others = others.collect::<Result<Vec<_>>>()?;
            let own = self.share(own);
            others.into_iter().map(join).try_fold(own?, |sum, work| Ok::<_, Error>(sum.and(work?)))
        })?;
        Ok(Work { elapsed: started.elapsed(), ..work })
    }

    /// Applies one worker's share of a batch.
    fn share(&self, needed: &[Needed<'_>]) -> Result<Work> {
        let started = Instant::now();
        let pages_max = self.pool.frames() / POOL_SHARE / self.workers;
        let _pins = self.pool.load_many(&pages_to_read(needed, pages_max))?;
        let reading = started.elapsed();
        let mut applied = 0;
        for (entry, page_ref) in needed {
            applied += u64::from(redo_page(self.pool, page_ref, entry, self.analysis.end_lsn)?);
        }
        Ok(Work { applied, reading, busy: started.elapsed(), elapsed: Duration::ZERO })
    }
}

impl Work {
    fn and(self, other: Self) -> Self {
        Self {
            applied: self.applied + other.applied,
            reading: self.reading + other.reading,
            busy: self.busy + other.busy,
            elapsed: self.elapsed + other.elapsed,
        }
    }

    /// The part of the time for batches in which pages were read.
    fn reading_share(self) -> Duration {
        let busy = self.busy.as_secs_f64().max(f64::MIN_POSITIVE);
        self.elapsed.mul_f64(self.reading.as_secs_f64() / busy)
    }
}

fn spawn<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    pool: &Pool,
    job: impl FnOnce() -> T + Send + 'scope,
) -> Result<ScopedJoinHandle<'scope, T>> {
    let builder = thread::Builder::new().name("seawall-redo".to_owned());
    builder.spawn_scoped(scope, job).map_err(|refused| Error::io(pool.page_file().path(), refused))
}

/// What the job came to; its panic is this thread's, too.
fn join<T>(job: ScopedJoinHandle<'_, T>) -> T {
    job.join().unwrap_or_else(|panic| resume_unwind(panic))
}

/// Pages that have to be read for these references: those that no reference before creates whole.
fn pages_to_read(needed: &[Needed<'_>], most: usize) -> Vec<PageId> {
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
pub(super) fn is_needed(analysis: &Analysis, page: PageId, lsn: Lsn) -> bool {
    let is_dirty = analysis.dirty.get(&page).is_some_and(|&rec_lsn| rec_lsn <= lsn);
    let is_superseded = analysis.last_inits.get(&page).is_some_and(|&init_lsn| lsn < init_lsn);
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
    if let Err(error) = apply_all(&mut page, page_ref, entry) {
        let expected = format!("page {id} to which the record at {start} applies");
        return Err(damaged(pool, &page, expected, error.to_string()));
    }
    Ok(true)
}

/// Does to the page all that the reference says, or nothing: while this worker fails, another one may
/// need a frame, and write the page to get it.
fn apply_all(
    page: &mut ExclusivePage<'_>,
    page_ref: &PageRef<'_>,
    entry: &Entry,
) -> Result<(), ApplyError> {
    // One operation leaves the page unchanged where it fails.
    let is_divisible = page_ref.ops.len() > 1;
    let before = is_divisible.then(|| page.bytes().to_vec());
    let mut page = Undivided { page, before };
    for op in &*page_ref.ops {
        if is_planted(Bug::RedoWithoutSettling) && matches!(op, Op::Settle { .. }) {
            continue;
        }
        apply(page.page, page_ref.page, &op.in_record_at(entry.start))?;
    }
    set_page_lsn(page.page, entry.end);
    page.before = None;
    Ok(())
}

/// A page that gets back what it was, by return or by unwinding, unless everything is done.
struct Undivided<'p, 'l> {
    page: &'p mut ExclusivePage<'l>,
    before: Option<Vec<u8>>,
}

impl Drop for Undivided<'_, '_> {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            self.page.write(0, before);
        }
    }
}

fn damaged(pool: &Pool, page: &ExclusivePage<'_>, expected: String, found: String) -> Error {
    let file = pool.page_file();
    Error::corrupt(file.path(), file.offset(page.id()), expected, found)
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use std::path::Path;
    use std::sync::Arc;
    use std::time::Duration;

    use seawall_wal::control::{EpochEntry, LogPosition};
    use seawall_wal::disk::Disk;
    use seawall_wal::log::{LogFiles, segment};
    use seawall_wal::record::{Cell, Header, Op, PageRef, WriteKind};
    use seawall_wal::{Epoch, EpochNonce, Error, Lsn, PageId, TreeId, TxnId};

    use super::{Analysis, Entry, Redo, Work, redo_page};
    use crate::page::{
        LeafView, NodeSpec, PageRead, PageView, PageWrite, empty_leaf, set_page_lsn,
    };
    use crate::writeback::rig::{DATABASE, PAGE_BYTES, Rig};

    const PAGE: PageId = PageId::new(5);
    const TREE: TreeId = TreeId::new(1);

    fn header_of_kind(kind: u8) -> Header {
        Header {
            kind,
            is_lz4: false,
            length: 0,
            raw_length: 0,
            checksum: 0,
            txn: TxnId::NONE,
            prev_lsn: Lsn::NONE,
        }
    }

    fn put(key: &'static [u8]) -> Op<'static> {
        let after = Cell { value: b"value", ..Cell::default() };
        Op::Put { tree: TREE, key, kind: WriteKind::Insert, after, before: None }
    }

    #[test]
    fn a_page_that_redo_fails_on_stays_as_it_was() {
        let rig = Rig::new(8, 16, 4);
        let end = rig.put(PAGE.get(), 0);
        {
            let pin = rig.pool.pin(PAGE).unwrap();
            let mut page = pin.exclusive();
            let leaf = empty_leaf(PAGE_BYTES, &NodeSpec::root(PAGE, TREE, 0));
            page.write(0, leaf.bytes());
            set_page_lsn(&mut page, end);
        }
        rig.clean();
        let before = rig.pool.pin(PAGE).unwrap().shared().bytes().to_vec();
        let (start, end) = (rig.log.reserve(), rig.log.reserve());
        let header = header_of_kind(0);
        let frame_at = LogPosition { segment: 1, offset: 4096 };
        let entry = Entry { start, end, frame_at, header, body: Vec::new() };
        let no_such_key = Op::Remove { tree: TREE, key: b"no such key" };
        let ops = vec![put(b"first"), no_such_key];
        let page_prev_lsn = PageView::new(&before).page_lsn();
        let page_ref = PageRef { page: PAGE, page_prev_lsn, is_init: false, ops: ops.into() };
        let failed = redo_page(&rig.pool, &page_ref, &entry, end);
        assert!(matches!(failed, Err(Error::Corrupt { .. })), "{failed:?}");
        // Another worker needs the frame.
        rig.clean();
        let pin = rig.pool.pin(PAGE).unwrap();
        let page = pin.shared();
        assert_eq!(LeafView::new(page.bytes()).count(), 0);
        assert_eq!(page.bytes()[4..], before[4..], "all but the checksum");
    }

    #[test]
    fn a_record_that_cannot_be_decoded_is_damage_of_its_segment_at_its_frame() {
        let rig = Rig::new(8, 16, 4);
        let dir = Path::new("/wal");
        rig.disk.create_dir(dir).unwrap();
        let epoch = EpochEntry {
            epoch: Epoch::new(1),
            nonce: EpochNonce::new(1),
            start_lsn: Lsn::new(8),
            continues_from_lsn: Lsn::NONE,
            segment: 1,
            offset: 4096,
        };
        let files =
            LogFiles::open(Arc::new(rig.disk.clone()), dir, DATABASE, &[epoch], 4096).unwrap();
        let analysis = Analysis::default();
        let redo = Redo { files: &files, analysis: &analysis, pool: &rig.pool, workers: 1 };
        let (start, end) = (Lsn::new(800), Lsn::new(900));
        let frame_at = LogPosition { segment: 7, offset: 12_288 };
        let entry = Entry { start, end, frame_at, header: header_of_kind(0), body: Vec::new() };
        match redo.batch(&[entry]) {
            Err(Error::Corrupt { file, offset, expected, .. }) => {
                assert_eq!((file, offset), (segment::path(dir, 7), 12_288));
                assert!(expected.contains(&format!("in the record at {start}")), "{expected}");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_time_for_reading_pages_is_a_share_of_that_for_batches() {
        let seconds = Duration::from_secs;
        let work = Work { applied: 1, reading: seconds(6), busy: seconds(8), elapsed: seconds(2) };
        assert_eq!(work.reading_share(), Duration::from_millis(1500));
        assert_eq!(Work::default().reading_share(), Duration::ZERO);
    }
}
