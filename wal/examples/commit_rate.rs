//! Durable commits per second, beside bare synced writes of the same size.
//!
//! ```text
//! cargo run --release -p seawall-wal --example commit_rate -- [DIR] [SLICE_MS]
//! ```
//!
//! DIR must be on the disk to be measured; the default is a temporary directory there where the
//! system keeps those. The bare rate is that of one thread overwriting 4 KiB blocks of a file in
//! turn, each in one synced write past the page cache. A commit appends a record of about 150 bytes
//! and waits until it is durable and visible. Both are measured in turns, since a disk is not as fast
//! at one time as at another; what is shown is the middle of the rounds.

use std::error::Error;
use std::io::{Write, stdout};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use seawall_wal::codec::to_u64;
use seawall_wal::control::EpochEntry;
use seawall_wal::disk::{Access, AlignedBuf, BLOCK_BYTES, BlockingDisk, Disk, DiskFile, OpenMode};
use seawall_wal::log::{
    CreditRequest, CreditWait, Log, LogOptions, Purpose, SegmentOptions, Segments,
};
use seawall_wal::record::{Body, RecordEncoder, record_bytes_max};
use seawall_wal::{DatabaseId, Epoch, EpochNonce, Lsn, TxnId};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const PAGE_BYTES: usize = 4096;
const NOTE: [u8; 110] = [b'x'; 110];
const BARE_BYTES: usize = 64 << 20;
const MAX_WAL_BYTES: u64 = 512 << 20;
const ROUNDS: usize = 11;

/// A file to overwrite.
struct Bare {
    file: Arc<dyn DiskFile>,
    block: AlignedBuf,
    count: u64,
}

impl Bare {
    fn create(disk: &dyn Disk, dir: &Path) -> Outcome<Self> {
        let file = disk.open(&dir.join("bare"), OpenMode::Create, Access::Direct)?;
        file.write_at(&AlignedBuf::new(BARE_BYTES), 0)?;
        file.sync()?;
        Ok(Self { file, block: AlignedBuf::new(BLOCK_BYTES), count: 0 })
    }

    fn rate(&mut self, time: Duration) -> Outcome<f64> {
        let start = Instant::now();
        let before = self.count;
        while start.elapsed() < time {
            let offset = self.count * to_u64(BLOCK_BYTES) % to_u64(BARE_BYTES);
            self.file.write_sync_at(&self.block, offset)?;
            self.count += 1;
        }
        Ok(rate(self.count - before, start.elapsed()))
    }
}

fn rate(count: u64, elapsed: Duration) -> f64 {
    let count = u32::try_from(count).map_or(f64::INFINITY, f64::from);
    count / elapsed.as_secs_f64()
}

fn start_log(disk: Arc<dyn Disk>, dir: &Path) -> Outcome<Log> {
    let segments = SegmentOptions::for_bound(MAX_WAL_BYTES, record_bytes_max(PAGE_BYTES));
    let files = Segments::create(disk.as_ref(), dir, segments)?;
    let at = files.next_position();
    let entry = EpochEntry {
        epoch: Epoch::new(1),
        nonce: EpochNonce::new(1),
        start_lsn: Lsn::new(1 << 32),
        continues_from_lsn: Lsn::NONE,
        segment: at.segment,
        offset: at.offset,
    };
    let options = LogOptions {
        page_bytes: PAGE_BYTES,
        ring_bytes: 4 << 20,
        flush_interval: Duration::from_millis(50),
        segments,
        reserve_bytes: 1 << 20,
        is_stepped: false,
        is_record_alone: false,
    };
    Ok(Log::start(disk, files, entry, DatabaseId::new([1; 16]), options)?)
}

fn commit(log: &Log, encoder: &mut RecordEncoder) -> Outcome<()> {
    let record = encoder.encode(TxnId::NONE, Lsn::NONE, &Body::Note(&NOTE));
    let length = record.padded_length();
    let request = CreditRequest {
        payload_bytes: to_u64(length),
        is_sync_commit: true,
        purpose: Purpose::Normal,
    };
    let mut credit = log.credit(&request, &CreditWait::PATIENT)?;
    let pending = log.begin_sync_commit();
    let place = log.reserve(&mut credit, length);
    let end = place.end();
    pending.set_end(end);
    log.publish(place, record);
    drop(credit);
    log.wait_durable(end)?;
    log.wait_visible(end)?;
    Ok(())
}

fn commit_rate(log: &Arc<Log>, threads: u32, time: Duration) -> Outcome<f64> {
    let stop = AtomicBool::new(false);
    let commits = AtomicU64::new(0);
    let start = Instant::now();
    thread::scope(|scope| {
        let flusher = scope.spawn(|| -> Outcome<()> {
            while !stop.load(Ordering::Relaxed) {
                let step = log.step()?;
                // A checkpoint would do this: nothing is needed any more.
                log.truncate(log.durable_lsn())?;
                log.wait_flusher(step.sleep);
            }
            Ok(())
        });
        let committers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| -> Outcome<()> {
                    let mut encoder = RecordEncoder::new();
                    while start.elapsed() < time {
                        commit(log, &mut encoder)?;
                        commits.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(())
                })
            })
            .collect();
        let joined: Vec<_> = committers.into_iter().map(thread::ScopedJoinHandle::join).collect();
        let elapsed = start.elapsed();
        stop.store(true, Ordering::Relaxed);
        log.wake_flusher();
        let flushed = flusher.join();
        for outcome in joined.into_iter().chain([flushed]) {
            outcome.map_err(|_| "a thread panicked")??;
        }
        Ok(rate(commits.load(Ordering::Relaxed), elapsed))
    })
}

fn middle(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() -> Outcome<()> {
    let mut args = std::env::args().skip(1);
    let parent = args.next().map_or_else(std::env::temp_dir, Into::into);
    let slice_ms = args.next().map_or(Ok(200), |slice| slice.parse())?;
    let slice = Duration::from_millis(slice_ms);
    let dir = parent.join(format!("seawall-commit-rate-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let disk: Arc<dyn Disk> = Arc::new(BlockingDisk::new());
    let log = Arc::new(start_log(Arc::clone(&disk), &dir.join("wal"))?);
    let mut bare = Bare::create(disk.as_ref(), &dir)?;
    let mut out = stdout();
    for threads in [1, 4, 16, 64] {
        let before = log.stats();
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            rounds.push((bare.rate(slice)?, commit_rate(&log, threads, slice)?));
        }
        let after = log.stats();
        let commits = middle(rounds.iter().map(|(_, commits)| *commits).collect());
        let ratio = middle(rounds.iter().map(|(bare, commits)| commits / bare).collect());
        let frames = after.frames - before.frames;
        writeln!(
            out,
            "{threads:3} threads: {commits:8.0} commits/s, {ratio:6.2} of bare, {frames} frames"
        )?;
    }
    log.shutdown()?;
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}
