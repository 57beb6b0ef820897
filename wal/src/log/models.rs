//! Models of what the append side does without a lock, and of its wake-ups, explored by loom:
//!
//! ```text
//! RUSTFLAGS="--cfg loom" cargo test -p seawall-wal --release --lib loom
//! ```
//!
//! They run the real ring, frontier, pending set, waiters, credit and writer; only the file is a
//! stand-in, which keeps apart what was written and what is durable. A lost wake-up is a deadlock,
//! which loom reports.

use std::any::Any;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex as StdMutex};

use loom::thread;

use crate::codec::to_u64;
use crate::control::EpochEntry;
use crate::disk::{DiskFile, FileSize};
use crate::record::{Body, EncodedRecord, RecordEncoder};
use crate::{Epoch, EpochNonce, Error, Lsn, Result, TxnId};

use super::books::{CreditLimits, CreditRequest, Demand, Room};
use super::build::Space;
use super::credit::{CreditPool, CreditWait};
use super::flusher::Bell;
use super::frame::FrameHeader;
use super::frontier::Frontier;
use super::ring::Ring;
use super::segments::Place;
use super::waiters::Goal;
use super::writer::{Writer, Wrote};

const START: Lsn = Lsn::new(1 << 32);
const IDENTITY: u64 = 5;
/// Length of the records, envelope only.
const RECORD: usize = 32;

fn explore(preemptions: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 10_000;
    builder.check(model);
}

fn record_bytes() -> Vec<u8> {
    let mut encoder = RecordEncoder::new();
    encoder.encode(TxnId::NONE, Lsn::NONE, &Body::RollbackEnd).bytes.to_vec()
}

fn publish(frontier: &Frontier, ring: &Ring, at: Lsn) {
    let bytes = record_bytes();
    ring.write(at, EncodedRecord { bytes: &bytes, raw_length: 0, content_checksum: 0 }, mark(at));
    frontier.publish(ring, at, RECORD, false);
}

/// Stands in for the checksum, so that every record is another one.
fn mark(at: Lsn) -> u32 {
    u32::try_from(at.since(START)).unwrap() + 1
}

/// The record at `at` is whole.
fn check_record(ring: &Ring, at: Lsn) {
    let mut expected = record_bytes();
    expected[4..8].copy_from_slice(&mark(at).to_le_bytes());
    let mut found = [0; RECORD];
    ring.read(at, &mut found);
    assert_eq!(found[..], expected[..], "record at {at}");
}

#[test]
fn loom_contiguous_reaches_every_published_record_and_covers_only_whole_ones() {
    explore(2, || {
        let frontier = Arc::new(Frontier::new(START));
        let ring = Arc::new(Ring::new(4 * RECORD));
        let publishers: Vec<_> = (0..2)
            .map(|_| {
                let (frontier, ring) = (Arc::clone(&frontier), Arc::clone(&ring));
                thread::spawn(move || {
                    let at = frontier.reserve(RECORD);
                    publish(&frontier, &ring, at);
                })
            })
            .collect();
        let seen = frontier.contiguous();
        let mut at = START;
        while at < seen {
            check_record(&ring, at);
            at = at.advance(to_u64(RECORD));
        }
        for publisher in publishers {
            publisher.join().unwrap();
        }
        assert_eq!(frontier.contiguous(), frontier.reserved());
        assert_eq!(frontier.visible(), frontier.reserved());
    });
}

#[test]
fn loom_three_publishers_leave_nothing_behind() {
    explore(2, || {
        let frontier = Arc::new(Frontier::new(START));
        let ring = Arc::new(Ring::new(4 * RECORD));
        let places: Vec<_> = (0..3).map(|_| frontier.reserve(RECORD)).collect();
        let [first, second, third] = places[..] else { unreachable!() };
        let others: Vec<_> = [second, third]
            .into_iter()
            .map(|at| {
                let (frontier, ring) = (Arc::clone(&frontier), Arc::clone(&ring));
                thread::spawn(move || {
                    frontier.publish(&ring, at, RECORD, false);
                })
            })
            .collect();
        frontier.publish(&ring, first, RECORD, false);
        for other in others {
            other.join().unwrap();
        }
        assert_eq!(frontier.contiguous(), frontier.reserved());
    });
}

#[test]
fn loom_a_link_of_the_next_lap_moves_nobody_who_looks_late() {
    explore(3, || {
        // Room for one record at a time: the third takes the words and the link of the first.
        let frontier = Arc::new(Frontier::new(START));
        let ring = Arc::new(Ring::new(2 * RECORD));
        let first = frontier.reserve(RECORD);
        let late = thread::spawn({
            let (frontier, ring) = (Arc::clone(&frontier), Arc::clone(&ring));
            move || publish(&frontier, &ring, first)
        });
        // What the builder does, and then an appender with the credit that came back.
        for _ in 0..2 {
            let framed = frontier.reserved();
            let oldest = Lsn::new(framed.get() - to_u64(RECORD));
            if frontier.contiguous() == framed {
                check_record(&ring, oldest);
                ring.clear(oldest);
                let next = frontier.reserve(RECORD);
                publish(&frontier, &ring, next);
            }
        }
        late.join().unwrap();
        assert_eq!(frontier.contiguous(), frontier.reserved());
    });
}

fn pool(ring_bytes: usize) -> Arc<CreditPool> {
    let limits =
        CreditLimits { ring_bytes: to_u64(ring_bytes), reserve_bytes: 0, capacity_bytes: 1 << 30 };
    CreditPool::new(limits, Room::whole(1 << 30), Bell::new(), std::path::Path::new("wal"))
}

#[test]
fn loom_no_reader_sees_a_synchronous_commit_that_is_not_durable() {
    explore(3, || {
        let frontier = Arc::new(Frontier::new(START));
        let ring = Arc::new(Ring::new(4 * RECORD));
        let relaxed = thread::spawn({
            let (frontier, ring) = (Arc::clone(&frontier), Arc::clone(&ring));
            move || {
                let at = frontier.reserve(RECORD);
                frontier.publish(&ring, at, RECORD, false);
            }
        });
        let end = Arc::new(loom::sync::atomic::AtomicU64::new(u64::MAX));
        let reader = thread::spawn({
            let (frontier, end) = (Arc::clone(&frontier), Arc::clone(&end));
            move || {
                let first = frontier.visible();
                let visible = frontier.visible();
                assert!(first <= visible, "visible fell from {first} to {visible}");
                // Release of `end` comes before the publication that `visible` has seen.
                let end = end.load(loom::sync::atomic::Ordering::Relaxed);
                if visible.get() >= end {
                    assert!(frontier.durable().get() >= end, "{visible} shows {end}");
                }
            }
        });
        let entry = frontier.enter_pending();
        let at = frontier.reserve(RECORD);
        let my_end = at.advance(to_u64(RECORD));
        end.store(my_end.get(), loom::sync::atomic::Ordering::Relaxed);
        entry.set_end(my_end);
        frontier.publish(&ring, at, RECORD, false);
        let contiguous = frontier.contiguous();
        if contiguous >= my_end {
            frontier.set_written(my_end);
            frontier.set_durable(my_end);
            frontier.refresh();
            assert!(frontier.visible() >= my_end);
        }
        relaxed.join().unwrap();
        reader.join().unwrap();
        let reserved = frontier.reserved();
        frontier.set_written(reserved);
        frontier.set_durable(reserved);
        frontier.refresh();
        assert_eq!(frontier.visible(), reserved);
    });
}

#[test]
fn loom_an_abandoned_commit_lets_the_waiter_behind_it_go() {
    explore(2, || {
        let frontier = Arc::new(Frontier::new(START));
        let ring = Arc::new(Ring::new(4 * RECORD));
        let entry = frontier.enter_pending();
        let at = frontier.reserve(RECORD);
        let waiter = thread::spawn({
            let (frontier, ring) = (Arc::clone(&frontier), Arc::clone(&ring));
            move || {
                frontier.publish(&ring, at, RECORD, false);
                frontier.wait(Goal::Visible, at.advance(to_u64(RECORD))).unwrap();
            }
        });
        frontier.abandon_pending(&entry);
        waiter.join().unwrap();
    });
}

#[test]
fn loom_who_waits_for_publication_is_woken() {
    explore(3, || {
        let frontier = Arc::new(Frontier::new(START));
        let ring = Arc::new(Ring::new(4 * RECORD));
        let at = frontier.reserve(RECORD);
        let waiter = thread::spawn({
            let frontier = Arc::clone(&frontier);
            move || frontier.wait(Goal::Published, at.advance(to_u64(RECORD))).unwrap()
        });
        frontier.publish(&ring, at, RECORD, false);
        waiter.join().unwrap();
    });
}

/// A file that knows which bytes of the log were written to it, and which are durable.
#[derive(Debug, Default)]
struct Ledger {
    written: Vec<(Lsn, Lsn)>,
    durable: Vec<(Lsn, Lsn)>,
    writes: usize,
}

#[derive(Debug)]
struct LedgerFile {
    path: PathBuf,
    /// The first write that fails.
    fails_at: usize,
    /// Not part of the model: nothing else happens while it is held.
    ledger: StdMutex<Ledger>,
    /// Where the scheduler may switch, as it may during a real write.
    pause: loom::sync::atomic::AtomicBool,
}

impl LedgerFile {
    fn new(fails_at: usize) -> Arc<Self> {
        Arc::new(Self {
            path: PathBuf::from("ledger"),
            fails_at,
            ledger: StdMutex::default(),
            pause: loom::sync::atomic::AtomicBool::new(false),
        })
    }

    fn note(&self, buf: &[u8], is_synced: bool) -> io::Result<()> {
        self.pause.store(true, loom::sync::atomic::Ordering::Relaxed);
        let (frame, _) = FrameHeader::decode(buf, IDENTITY).unwrap();
        let mut ledger = self.ledger.lock().unwrap();
        ledger.writes += 1;
        if ledger.writes > self.fails_at {
            return Err(io::Error::other("planned"));
        }
        let range = (frame.frame_lsn, frame.end_lsn());
        if is_synced {
            ledger.durable.push(range)
        } else {
            ledger.written.push(range)
        }
        Ok(())
    }

    /// Whether the file's durable bytes reach from the start to `lsn` without a gap.
    fn is_durable(&self, lsn: Lsn) -> bool {
        let ledger = self.ledger.lock().unwrap();
        let mut ranges = ledger.durable.clone();
        ranges.sort();
        let reached = ranges.iter().fold(
            START,
            |at, (start, end)| {
                if *start <= at { at.max(*end) } else { at }
            },
        );
        reached >= lsn
    }
}

impl DiskFile for LedgerFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn is_direct(&self) -> bool {
        true
    }

    fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn write_at(&self, buf: &[u8], _: u64) -> io::Result<()> {
        self.note(buf, false)
    }

    fn write_sync_at(&self, buf: &[u8], _: u64) -> io::Result<()> {
        self.note(buf, true)
    }

    fn sync(&self) -> io::Result<()> {
        let covered = std::mem::take(&mut self.ledger.lock().unwrap().written);
        self.pause.store(true, loom::sync::atomic::Ordering::Relaxed);
        self.ledger.lock().unwrap().durable.extend(covered);
        Ok(())
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn size(&self) -> io::Result<FileSize> {
        Ok(FileSize { length_bytes: 0, allocated_bytes: 0 })
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}

#[derive(Debug)]
struct Endless {
    file: Arc<LedgerFile>,
    offset: u64,
}

impl Space for Endless {
    fn place(&mut self, frame_bytes: u64, _: Lsn, _: Lsn) -> Place {
        let offset = self.offset;
        self.offset += frame_bytes;
        Place { file: Arc::clone(&self.file) as _, offset, segment: 1, begins: None }
    }

    fn current_room_bytes(&self) -> u64 {
        1 << 20
    }

    fn next_room_bytes(&self) -> Option<u64> {
        Some(1 << 20)
    }

    fn room(&self) -> Room {
        Room::whole(1 << 30)
    }
}

/// A log without front door.
struct Modelled {
    frontier: Arc<Frontier>,
    ring: Arc<Ring>,
    credits: Arc<CreditPool>,
    writer: Writer<Endless>,
    file: Arc<LedgerFile>,
}

fn modelled(slots: usize, fails_at: usize, ring_bytes: usize) -> Arc<Modelled> {
    let frontier = Arc::new(Frontier::new(START));
    let ring = Arc::new(Ring::new(ring_bytes));
    let credits = pool(ring.room_bytes());
    let file = LedgerFile::new(fails_at);
    let entry = EpochEntry {
        epoch: Epoch::new(1),
        nonce: EpochNonce::new(1),
        start_lsn: START,
        continues_from_lsn: Lsn::NONE,
        segment: 1,
        offset: 0,
    };
    let writer = Writer::new(
        Endless { file: Arc::clone(&file), offset: 0 },
        &entry,
        IDENTITY,
        Arc::clone(&frontier),
        Arc::clone(&ring),
        Arc::clone(&credits),
        Bell::new(),
    )
    .with_slots(slots);
    Arc::new(Modelled { frontier, ring, credits, writer, file })
}

impl Modelled {
    fn append(&self) -> Result<Lsn> {
        let request = CreditRequest { payload_bytes: to_u64(RECORD), ..Default::default() };
        let write = || self.writer.write_some().map(|wrote| wrote == Wrote::Frame);
        let mut credit = self.credits.take(&request, write, || Ok(false), &CreditWait::PATIENT)?;
        let is_prepaid = credit.spend(RECORD);
        let at = self.frontier.reserve(RECORD);
        if self.frontier.publish(&self.ring, at, RECORD, is_prepaid) {
            self.credits.nudge_ring_waiters();
        }
        Ok(at.advance(to_u64(RECORD)))
    }

    fn commit(&self) -> Result<()> {
        let end = self.append()?;
        self.frontier.wait(Goal::Published, end)?;
        self.writer.pursue(Goal::Durable, end, Demand::Waited)?;
        assert!(self.file.is_durable(end), "{end} is not durable");
        Ok(())
    }
}

#[test]
fn loom_three_committers_share_one_slot_and_all_return() {
    explore(2, || {
        let log = modelled(1, usize::MAX, 4 * RECORD);
        let others: Vec<_> = (0..2)
            .map(|_| {
                let log = Arc::clone(&log);
                thread::spawn(move || log.commit().unwrap())
            })
            .collect();
        log.commit().unwrap();
        for other in others {
            other.join().unwrap();
        }
    });
}

#[test]
fn loom_two_committers_with_two_slots_return_only_when_the_prefix_is_durable() {
    explore(3, || {
        let log = modelled(2, usize::MAX, 4 * RECORD);
        let other = thread::spawn({
            let log = Arc::clone(&log);
            move || log.commit().unwrap()
        });
        log.commit().unwrap();
        other.join().unwrap();
        assert_eq!(log.frontier.durable(), log.frontier.reserved());
    });
}

#[test]
fn loom_a_failed_write_wakes_every_waiter_with_an_error() {
    for fails_at in 0..2 {
        explore(2, move || {
            let log = modelled(1, fails_at, 4 * RECORD);
            let others: Vec<_> = (0..2)
                .map(|_| {
                    let log = Arc::clone(&log);
                    thread::spawn(move || log.commit())
                })
                .collect();
            let mut outcomes = vec![log.commit()];
            outcomes.extend(others.into_iter().map(|other| other.join().unwrap()));
            let is_expected =
                |outcome: &Result<()>| matches!(outcome, Ok(()) | Err(Error::Poisoned { .. }));
            assert!(outcomes.iter().all(is_expected), "{outcomes:?}");
        });
    }
}

#[test]
fn loom_a_commit_behind_relaxed_frames_waits_for_their_sync() {
    explore(3, || {
        let log = modelled(2, usize::MAX, 4 * RECORD);
        let flusher = thread::spawn({
            let log = Arc::clone(&log);
            move || {
                let end = log.append().unwrap();
                log.frontier.wait(Goal::Published, end).unwrap();
                log.writer.pursue(Goal::Written, end, Demand::Idle).unwrap();
                assert!(log.frontier.written() >= end);
            }
        });
        log.commit().unwrap();
        flusher.join().unwrap();
    });
}

#[test]
fn loom_appenders_that_wait_for_ring_room_write_frames_and_go_on() {
    explore(2, || {
        let log = modelled(1, usize::MAX, 2 * RECORD);
        let other = thread::spawn({
            let log = Arc::clone(&log);
            move || {
                log.append().unwrap();
            }
        });
        log.append().unwrap();
        other.join().unwrap();
        assert_eq!(log.frontier.contiguous(), log.frontier.reserved());
    });
}
