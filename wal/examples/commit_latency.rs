//! How long commits take while the log moves from segment to segment, beside the time that the disk
//! itself takes for a write as long.
//!
//! ```text
//! cargo run --release -p seawall-wal --example commit_latency -- [DIR] [LOG_MIB] [THREADS]
//! ```
//!
//! DIR must be on the disk to be measured. Each commit appends a record that fills a frame of 16 KiB
//! and waits until it is durable and visible; LOG_MIB of log are written, first into segments that
//! have to be made, then into recycled ones. The
//! commits during which the log moved to another segment are shown apart. A thread does what a checkpoint does to the log: it
//! gives up what is older than a quarter of the bound. The bare line is one thread overwriting a file
//! with synced writes of that length while nothing else happens.

use std::error::Error;
use std::io::{Write, stdout};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use seawall_wal::codec::to_u64;
use seawall_wal::control::EpochEntry;
use seawall_wal::disk::{Access, AlignedBuf, BLOCK_BYTES, BlockingDisk, Disk, OpenMode};
use seawall_wal::log::{
    CreditRequest, CreditWait, Log, LogOptions, Purpose, SegmentOptions, Segments,
};
use seawall_wal::record::{Body, RecordEncoder, record_bytes_max};
use seawall_wal::{DatabaseId, Epoch, EpochNonce, Lsn, TxnId};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const PAGE_BYTES: usize = 8192;
const MAX_WAL_BYTES: u64 = 1 << 30;
const FRAME_BYTES: usize = 4 * BLOCK_BYTES;
/// A record of this body, its header, and the frame's header fill a frame.
const NOTE_BYTES: usize = FRAME_BYTES - 256;
const BARE_COUNT: u64 = 2000;
const TRUNCATE_STEP_BYTES: u64 = 32 << 20;

/// Bytes that do not compress.
fn noise() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..NOTE_BYTES).map(|_| next()).collect()
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
        reserve_bytes: 2 << 20,
        is_stepped: false,
        is_record_alone: false,
    };
    Ok(Log::start(disk, files, entry, DatabaseId::new([1; 16]), options)?)
}

fn commit(log: &Log, encoder: &mut RecordEncoder, note: &[u8]) -> Outcome<()> {
    let record = encoder.encode(TxnId::NONE, Lsn::NONE, &Body::Note(note));
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

/// How long commits took.
#[derive(Default)]
struct Taken {
    /// Those within one segment.
    staying: Vec<Duration>,
    /// Those during which another segment was begun.
    moving: Vec<Duration>,
}

/// Number of the segment that the log has reached.
fn segment(log: &Log) -> u64 {
    log.locate(log.durable_lsn()).map_or(0, |at| at.segment)
}

/// Writes log up to `until` and returns how long each commit took.
fn commits(log: &Log, threads: usize, until: Lsn) -> Outcome<Taken> {
    let (stop, given_up, note) = (AtomicBool::new(false), AtomicU64::new(0), noise());
    thread::scope(|scope| {
        let flusher = scope.spawn(|| -> Outcome<()> {
            while !stop.load(Ordering::Relaxed) {
                let step = log.step()?;
                log.wait_flusher(step.sleep);
            }
            Ok(())
        });
        let checkpointer = scope.spawn(|| -> Outcome<()> {
            while !stop.load(Ordering::Relaxed) {
                let low = log.durable_lsn().get().saturating_sub(MAX_WAL_BYTES / 4);
                if low >= given_up.load(Ordering::Relaxed) + TRUNCATE_STEP_BYTES {
                    given_up.store(low, Ordering::Relaxed);
                    log.truncate(Lsn::new(low))?;
                }
                thread::park_timeout(Duration::from_millis(1));
            }
            Ok(())
        });
        let committers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| -> Outcome<Taken> {
                    let mut encoder = RecordEncoder::new();
                    let mut taken = Taken::default();
                    let mut segment_before = segment(log);
                    while log.durable_lsn() < until {
                        let start = Instant::now();
                        commit(log, &mut encoder, &note)?;
                        let elapsed = start.elapsed();
                        let segment_after = segment(log);
                        if std::mem::replace(&mut segment_before, segment_after) == segment_after {
                            taken.staying.push(elapsed);
                        } else {
                            taken.moving.push(elapsed);
                        }
                    }
                    Ok(taken)
                })
            })
            .collect();
        let mut all = Taken::default();
        for committer in committers {
            let taken = committer.join().map_err(|_| "a committer panicked")??;
            all.staying.extend(taken.staying);
            all.moving.extend(taken.moving);
        }
        stop.store(true, Ordering::Relaxed);
        log.wake_flusher();
        flusher.join().map_err(|_| "the flusher panicked")??;
        checkpointer.join().map_err(|_| "the checkpointer panicked")??;
        Ok(all)
    })
}

/// Synced writes of a frame's length, over a file that has its blocks.
fn bare(disk: &dyn Disk, dir: &Path) -> Outcome<Vec<Duration>> {
    let file = disk.open(&dir.join("bare"), OpenMode::Create, Access::Direct)?;
    let length = to_u64(FRAME_BYTES) * BARE_COUNT;
    let frame = AlignedBuf::new(FRAME_BYTES);
    for offset in (0..length).step_by(FRAME_BYTES) {
        file.write_at(&frame, offset)?;
    }
    file.sync()?;
    let mut taken = Vec::new();
    for offset in (0..length).step_by(FRAME_BYTES) {
        let start = Instant::now();
        file.write_sync_at(&frame, offset)?;
        taken.push(start.elapsed());
    }
    Ok(taken)
}

fn show(name: &str, mut taken: Vec<Duration>) -> Outcome<()> {
    taken.sort_unstable();
    let at = |parts: usize| taken[(taken.len() - 1) * parts / 10_000].as_micros();
    let count = taken.len();
    writeln!(
        stdout(),
        "{name:22} {count:7} writes: median {} us, 99% {} us, 99.9% {} us, 99.99% {} us, longest {} us",
        at(5000),
        at(9900),
        at(9990),
        at(9999),
        at(10_000),
    )?;
    Ok(())
}

fn main() -> Outcome<()> {
    let mut args = std::env::args().skip(1);
    let parent = args.next().map_or_else(std::env::temp_dir, Into::into);
    let log_mib: u64 = args.next().map_or(Ok(1536), |mib| mib.parse())?;
    let threads: usize = args.next().map_or(Ok(1), |threads| threads.parse())?;
    let dir = parent.join(format!("seawall-commit-latency-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let disk: Arc<dyn Disk> = Arc::new(BlockingDisk::new());
    show("bare", bare(disk.as_ref(), &dir)?)?;
    let start = Instant::now();
    let log = start_log(Arc::clone(&disk), &dir.join("wal"))?;
    let mut encoder = RecordEncoder::new();
    commit(&log, &mut encoder, b"first")?;
    writeln!(stdout(), "first commit of a new log after {} us", start.elapsed().as_micros())?;
    let half = (log_mib << 20) / 2;
    let begin = log.reserved_lsn();
    for (name, until) in [("made", begin.advance(half)), ("recycled", begin.advance(2 * half))] {
        let taken = commits(&log, threads, until)?;
        show(&format!("segments {name}"), taken.staying)?;
        show("  moves to the next", taken.moving)?;
    }
    log.shutdown()?;
    std::fs::remove_dir_all(&dir)?;
    Ok(())
}
