//! The append side as a whole, on the simulated disk.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::task::{Poll, Wake, Waker};
use std::thread;
use std::time::Duration;

use crate::codec::{to_u64, to_usize};
use crate::control::{ControlState, Identity, Shutdown};
use crate::disk::sim::{EIO, Fault, FaultEffect, OperationKind, SimFork};
use crate::disk::{Disk, SimDisk};
use crate::record::{Body, RecordEncoder};
use crate::sync::Mutex;
use crate::{EpochNonce, Error, Lsn, TxnId};

use super::frame::FRAME_PAYLOAD_BYTES_MAX;
use super::testing::{self, DATABASE, OPTIONS, PAGE_BYTES, wal_dir};
use super::{
    Credit, CreditRequest, CreditWait, Log, LogOptions, PendingSync, Purpose, SegmentOptions,
    Segments, TailCase,
};

fn options() -> LogOptions {
    LogOptions {
        page_bytes: PAGE_BYTES,
        ring_bytes: 1 << 18,
        flush_interval: Duration::from_millis(20),
        segments: SegmentOptions { segment_bytes: 1 << 18, max_wal_bytes: 16 << 20, ..OPTIONS },
        reserve_bytes: 1 << 18,
        is_stepped: true,
        is_record_alone: false,
    }
}

fn small_segments() -> LogOptions {
    let segments = SegmentOptions { max_wal_bytes: 4 << 20, ..OPTIONS };
    LogOptions { segments, ..options() }
}

fn start_with(disk: &SimDisk, options: LogOptions) -> (Log, ControlState) {
    disk.create_dir(Path::new("/db")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    let segments = Segments::create(disk.as_ref(), &wal_dir(), options.segments).unwrap();
    let identity = Identity {
        database: DATABASE,
        page_bytes: u32::try_from(PAGE_BYTES).unwrap(),
        created_ms: 1,
    };
    let state = ControlState::new(identity, EpochNonce::new(1), segments.next_position());
    let log = Log::start(disk, segments, *state.last_epoch(), DATABASE, options).unwrap();
    (log, state)
}

fn start(disk: &SimDisk) -> Log {
    start_with(disk, options()).0
}

/// Bytes that do not compress.
fn noise(length: usize, seed: usize) -> Vec<u8> {
    let mut state = to_u64(seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..length).map(|_| next()).collect()
}

/// Appends a note and returns where it lies.
fn append(log: &Log, bytes: &[u8], is_sync_commit: bool) -> (Lsn, Lsn, Option<PendingSync>) {
    append_or(log, bytes, is_sync_commit, &CreditWait::PATIENT)
}

/// The same, with a say in the wait for room.
fn append_or(
    log: &Log,
    bytes: &[u8],
    is_sync_commit: bool,
    wait: &CreditWait<'_>,
) -> (Lsn, Lsn, Option<PendingSync>) {
    let mut encoder = RecordEncoder::new();
    let record = encoder.encode(TxnId::NONE, Lsn::NONE, &Body::Note(bytes));
    let payload_bytes = to_u64(record.padded_length());
    let request = CreditRequest { payload_bytes, is_sync_commit, purpose: Purpose::Normal };
    let mut credit = log.credit(&request, wait).unwrap();
    let pending = is_sync_commit.then(|| log.begin_sync_commit());
    let reservation = log.reserve(&mut credit, record.padded_length());
    let (start, end) = (reservation.start(), reservation.end());
    if let Some(pending) = &pending {
        pending.set_end(end);
    }
    log.publish(reservation, record);
    (start, end, pending)
}

/// Credit for a test that has nothing to say while it waits.
fn credit(log: &Log, request: &CreditRequest) -> crate::Result<Credit> {
    log.credit(request, &CreditWait::PATIENT)
}

fn note(log: &Log, lsn: Lsn) -> Vec<u8> {
    let record = log.read(lsn).unwrap();
    let body = record.body().unwrap().into_owned();
    match record.decode(&body).unwrap().body {
        Body::Note(bytes) => bytes.to_vec(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_durable_record_is_read_back_from_the_file() {
    let disk = SimDisk::new();
    let log = start(&disk);
    let (lsn, end, _pending) = append(&log, b"hello", true);
    assert_eq!(note(&log, lsn), b"hello");
    assert!(log.visible_lsn() < end);
    log.wait_durable(end).unwrap();
    log.wait_visible(end).unwrap();
    assert_eq!(log.durable_lsn(), end);
    assert_eq!(log.visible_lsn(), end);
    assert_eq!(note(&log, lsn), b"hello");
    assert_eq!(log.shutdown().unwrap(), end);
    assert!(matches!(credit(&log, &CreditRequest::default()), Err(Error::Closed)));
}

#[test]
fn a_record_behind_one_that_is_not_published_yet_is_read_once_that_is() {
    let log = start(&SimDisk::new());
    let mut encoder = RecordEncoder::new();
    let record = encoder.encode(TxnId::NONE, Lsn::NONE, &Body::Note(b"in front"));
    let request =
        CreditRequest { payload_bytes: to_u64(record.padded_length()), ..CreditRequest::default() };
    let mut credit = credit(&log, &request).unwrap();
    let in_front = log.reserve(&mut credit, record.padded_length());
    let (lsn, ..) = append(&log, b"behind", false);
    assert!(log.contiguous_lsn() < lsn);
    thread::scope(|scope| {
        let reader = scope.spawn(|| note(&log, lsn));
        log.publish(in_front, record);
        assert_eq!(reader.join().unwrap(), b"behind");
    });
}

#[test]
fn records_of_all_sizes_survive_many_segments() {
    let disk = SimDisk::new();
    let log = start(&disk);
    let mut at = Vec::new();
    for index in 0..600_usize {
        let bytes = noise(index * 53 % 9000, index);
        let (lsn, end, _pending) = append(&log, &bytes, index % 3 == 0);
        at.push((lsn, bytes));
        if index % 7 == 0 {
            log.wait_durable(end).unwrap();
        }
        while log.step().unwrap().is_busy {}
    }
    for (lsn, bytes) in &at {
        assert_eq!(&note(&log, *lsn), bytes);
    }
    assert!(log.truncate(at[300].0).unwrap() > 0);
    assert!(matches!(log.read(at[0].0), Err(Error::InvalidArgument(_))));
    assert_eq!(note(&log, at[300].0), at[300].1);
}

fn request(payload_bytes: u64, purpose: Purpose) -> CreditRequest {
    CreditRequest { payload_bytes, is_sync_commit: false, purpose }
}

/// Steps until there is nothing left to do.
fn settle(log: &Log) {
    while log.step().unwrap().is_busy {}
}

#[test]
fn a_ring_full_to_its_last_word_ends_at_the_reserved_lsn() {
    let log = start(&SimDisk::new());
    let room = to_u64(options().ring_bytes) - 8 - log.reserved_lsn().since(log.epoch().start_lsn);
    let empty_note = 40;
    for _ in 0..room / empty_note - 1 {
        append(&log, b"", false);
    }
    let left = room - (room / empty_note - 1) * empty_note;
    append(&log, &noise(to_usize(left) - 33, 1), false);
    assert_eq!(log.contiguous_lsn(), log.reserved_lsn());
    assert_eq!(log.visible_lsn(), log.reserved_lsn());
    assert_eq!(log.stats().frames, 0);
    // The next appender makes room for itself.
    append(&log, b"", false);
    assert!(log.stats().frames > 0);
    log.wait_durable(log.reserved_lsn()).unwrap();
    assert_eq!(log.durable_lsn(), log.contiguous_lsn());
}

#[test]
fn a_relaxed_commit_flushes_the_synchronous_one_that_hides_it() {
    let log = start(&SimDisk::new());
    let (_, sync_end, _pending) = append(&log, b"sync", true);
    let (_, relaxed_end, _) = append(&log, b"relaxed", false);
    assert!(log.visible_lsn() < sync_end);
    log.wait_visible(relaxed_end).unwrap();
    assert!(log.visible_lsn() >= relaxed_end);
    assert!(log.durable_lsn() >= sync_end);
}

#[test]
fn a_relaxed_commit_alone_is_visible_at_once_and_written_by_the_flusher() {
    let disk = SimDisk::new();
    let log = start(&disk);
    let (_, end, _) = append(&log, b"relaxed", false);
    log.wait_visible(end).unwrap();
    assert_eq!(log.stats().frames, 0);
    settle(&log);
    assert_eq!(log.durable_lsn(), end);
}

#[test]
fn a_commit_that_never_got_a_place_hides_nothing() {
    let log = start(&SimDisk::new());
    let pending = log.begin_sync_commit();
    let (_, end, _) = append(&log, b"relaxed", false);
    assert!(log.visible_lsn() < end);
    drop(pending);
    assert_eq!(log.visible_lsn(), end);
}

#[derive(Default)]
struct CountingWake(AtomicUsize);

impl Wake for CountingWake {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn an_asynchronous_commit_is_flushed_by_a_step_and_woken_once() {
    let log = start(&SimDisk::new());
    let (_, end, _pending) = append(&log, b"sync", true);
    let count = Arc::new(CountingWake::default());
    let waker = Waker::from(Arc::clone(&count));
    for _ in 0..3 {
        assert!(log.poll_visible(end, true, &waker).is_pending());
    }
    settle(&log);
    assert_eq!(count.0.load(Ordering::SeqCst), 1);
    assert!(matches!(log.poll_visible(end, true, &waker), Poll::Ready(Ok(()))));
    let (_, end, _) = append(&log, b"relaxed", false);
    assert!(matches!(log.poll_visible(end, false, &waker), Poll::Ready(Ok(()))));
}

#[test]
fn an_idle_log_is_stamped_once_after_a_flush() {
    let log = start(&SimDisk::new());
    let (_, end, _) = append(&log, b"x", true);
    log.wait_durable(end).unwrap();
    let frames = log.stats().frames;
    settle(&log);
    assert_eq!(log.stats().frames, frames + 1);
    settle(&log);
    assert_eq!(log.stats().frames, frames + 1);
    append(&log, b"behind the stamp", true);
    assert_eq!(log.shutdown().unwrap(), log.durable_lsn());
}

#[test]
fn a_clean_shutdown_is_found_clean() {
    let disk = SimDisk::new();
    let options = small_segments();
    let (log, mut state) = start_with(&disk, options);
    append(&log, b"last words", false);
    let lsn = log.shutdown().unwrap();
    state.shutdown = Shutdown::Clean { lsn };
    let disk = disk.crash(crate::disk::sim::CrashPlan::NothingUnsynced);
    let end = testing::end(&disk, &state).unwrap();
    assert_eq!((end.case, end.end_lsn), (TailCase::CleanEnd, lsn));
}

#[test]
fn a_failed_write_or_sync_poisons_and_freezes_what_is_visible() {
    for kind in [OperationKind::Write, OperationKind::WriteSync, OperationKind::Sync] {
        let disk = SimDisk::new();
        let log = start(&disk);
        let (_, first, _) = append(&log, b"first", true);
        log.wait_durable(first).unwrap();
        disk.add_fault(Fault::new(FaultEffect::Errno(EIO)).kind(kind));
        let (_, second, _) = append(&log, b"second", true);
        if kind == OperationKind::Sync {
            log.write_out().unwrap();
        }
        assert!(matches!(log.wait_durable(second), Err(Error::Poisoned { source: Some(_) })));
        assert!(matches!(log.wait_visible(second), Err(Error::Poisoned { .. })));
        assert!(first <= log.visible_lsn() && log.visible_lsn() < second, "{kind:?}");
        assert!(log.wait_durable(first).is_ok());
        assert!(matches!(credit(&log, &CreditRequest::default()), Err(Error::Poisoned { .. })));
        assert!(log.step().is_err() && log.shutdown().is_err() && log.truncate(first).is_err());
        let waker = Waker::noop();
        assert!(matches!(log.poll_visible(second, true, waker), Poll::Ready(Err(_))));
    }
}

#[test]
fn a_segment_that_cannot_be_made_is_no_space_before_anything_is_appended() {
    let disk = SimDisk::new();
    let log = start(&disk);
    let mut at = Vec::new();
    disk.set_capacity(Some(disk.used_bytes() + (1 << 20)));
    let request =
        CreditRequest { payload_bytes: 51_000, is_sync_commit: true, ..CreditRequest::default() };
    let refused = loop {
        match credit(&log, &request) {
            Ok(credit) => drop(credit),
            Err(error) => break error,
        }
        let (lsn, end, pending) = append(&log, &noise(50_000, at.len()), true);
        log.wait_durable(end).unwrap();
        drop(pending);
        at.push(lsn);
        assert!(at.len() < 40, "the disk is full");
    };
    assert!(matches!(refused, Error::NoSpace { .. }), "{refused}");
    assert!(log.poisoned().is_none());
    assert_eq!(log.durable_lsn(), log.reserved_lsn(), "everything that was appended had its place");
    disk.set_capacity(None);
    let (lsn, end, _pending) = append(&log, &noise(50_000, at.len()), true);
    log.wait_durable(end).unwrap();
    at.push(lsn);
    for (index, &lsn) in at.iter().enumerate() {
        assert_eq!(note(&log, lsn), noise(50_000, index));
    }
}

/// Operations that a disk has been asked for, reads too, since it was last looked at.
struct Asked(Arc<AtomicUsize>);

impl Asked {
    fn of(disk: &SimDisk) -> Self {
        let count = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&count);
        disk.set_monitor(Arc::new(move |_| {
            seen.fetch_add(1, Ordering::SeqCst);
        }));
        Self(count)
    }

    fn take(&self) -> usize {
        self.0.swap(0, Ordering::SeqCst)
    }
}

#[test]
fn a_commit_that_moves_to_the_next_segment_asks_the_disk_for_one_synced_write_like_any_other() {
    let disk = SimDisk::new();
    let (log, _) = start_with(&disk, small_segments());
    let asked = Asked::of(&disk);
    let mut begun = BTreeMap::new();
    for index in 0..400 {
        settle(&log);
        asked.take();
        let (_, end, _pending) = append(&log, &noise(3000, index), true);
        log.wait_durable(end).unwrap();
        log.wait_visible(end).unwrap();
        // The simulated disk counts the write and its sync.
        assert_eq!(asked.take(), 2, "commit {index}");
        let segment = log.locate(log.durable_lsn()).unwrap().segment;
        begun.entry(segment).or_insert(index);
        if index % 50 == 49 {
            log.truncate(log.durable_lsn()).unwrap();
        }
    }
    assert!(begun.len() > 10, "new and recycled segments: {begun:?}");
}

#[test]
fn commits_go_on_while_files_are_made_and_recycled() {
    let disk = SimDisk::new();
    let segments = SegmentOptions { max_wal_bytes: 3 << 20, ..options().segments };
    let (log, _) = start_with(&disk, LogOptions { segments, ..options() });
    let log = Arc::new(log);
    settle(&log);
    let (commit, commits) = mpsc::channel::<()>();
    let (committed, is_committed) = mpsc::channel();
    let committer = thread::spawn({
        let log = Arc::clone(&log);
        move || {
            for () in commits {
                let (_, end, _pending) = append(&log, b"meanwhile", true);
                log.wait_durable(end).unwrap();
                committed.send(()).unwrap();
            }
        }
    });
    // In the midst of everything that this thread does to files, another one commits.
    let (own, meanwhile) = (thread::current().id(), Arc::new(Mutex::new(BTreeMap::new())));
    let turns = Mutex::new((commit, is_committed));
    disk.set_monitor(Arc::new({
        let meanwhile = Arc::clone(&meanwhile);
        move |operation| {
            let is_name = matches!(operation.kind, OperationKind::Rename | OperationKind::SyncDir);
            let is_file = operation.path.extension().is_some_and(|suffix| suffix == "tmp");
            if thread::current().id() == own && (is_name || is_file) {
                let (commit, is_committed) = &*turns.lock();
                commit.send(()).unwrap();
                let outcome = is_committed.recv_timeout(Duration::from_secs(20));
                assert!(outcome.is_ok(), "no commit during {:?}", operation.kind);
                *meanwhile.lock().entry(format!("{:?}", operation.kind)).or_insert(0) += 1;
            }
        }
    }));
    for _ in 0..3 {
        for index in 0..100 {
            append(&log, &noise(8000, index), false);
            settle(&log);
        }
        log.truncate(log.durable_lsn()).unwrap();
    }
    disk.set_monitor(Arc::new(|_| ()));
    let meanwhile = meanwhile.lock();
    for kind in ["Create", "SetLen", "Write", "Sync", "Rename", "SyncDir"] {
        assert!(meanwhile.contains_key(kind), "{meanwhile:?}");
    }
    committer.join().unwrap();
}

/// A log so small that its bound is met.
fn tight() -> LogOptions {
    let segments = SegmentOptions { segment_bytes: 1 << 18, max_wal_bytes: 3 << 19, ..OPTIONS };
    LogOptions { segments, reserve_bytes: 1 << 17, ..options() }
}

#[test]
fn a_full_log_leaves_the_reserve_and_goes_on_after_truncation() {
    let (full, is_full) = mpsc::channel();
    let (log, _) = start_with(&SimDisk::new(), tight());
    let log = &log;
    thread::scope(|scope| {
        let writer = scope.spawn(move || {
            let wait = CreditWait { on_full: &|| full.send(()).unwrap(), ..CreditWait::PATIENT };
            for index in 0..400 {
                let noise = noise(5000, index);
                let (_, end, _) = append_or(log, &noise, index % 5 == 0, &wait);
                if index % 5 == 0 {
                    log.wait_durable(end).unwrap();
                }
            }
        });
        while !writer.is_finished() {
            if is_full.recv_timeout(Duration::from_millis(20)).is_err() {
                continue;
            }
            // What a checkpoint does: records from the reserve, flushed, then truncation.
            let noise = noise(5000, 0);
            for _ in 0..20 {
                let mut encoder = RecordEncoder::new();
                let record = encoder.encode(TxnId::NONE, Lsn::NONE, &Body::Note(&noise));
                let length = record.padded_length();
                let request = request(to_u64(length), Purpose::Reserve);
                let mut credit = credit(log, &request).unwrap();
                let reservation = log.reserve(&mut credit, length);
                let end = reservation.end();
                log.publish(reservation, record);
                log.wait_durable(end).unwrap();
            }
            assert!(log.wal_bytes() <= tight().segments.max_wal_bytes);
            log.truncate(log.durable_lsn()).unwrap();
        }
        writer.join().unwrap();
    });
}

#[test]
fn the_reserve_is_refused_at_once_when_it_is_used_up() {
    let (log, _) = start_with(&SimDisk::new(), tight());
    let mut credits = Vec::new();
    let refused = loop {
        match credit(&log, &request(1 << 12, Purpose::Reserve)) {
            Ok(mut credit) => credits.push(credit.set_aside(1 << 12)),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, Error::NoSpace { .. }), "{refused}");
    drop(credits);
    assert!(credit(&log, &request(1 << 12, Purpose::Normal)).is_ok());
}

#[test]
fn a_request_that_can_never_fit_is_refused() {
    let (log, _) = start_with(&SimDisk::new(), tight());
    for payload_bytes in [1 << 18, 1 << 40] {
        let refused = credit(&log, &request(payload_bytes, Purpose::Normal));
        assert!(matches!(refused, Err(Error::InvalidArgument(_))));
    }
}

#[test]
fn what_was_set_aside_needs_only_the_ring_later() {
    let log = start(&SimDisk::new());
    let mut credit = credit(&log, &request(1 << 17, Purpose::Normal)).unwrap();
    let mut set_aside = credit.set_aside(1 << 16);
    set_aside.absorb(credit.set_aside(1 << 15));
    assert_eq!(set_aside.bytes(), 3 << 15);
    assert_eq!(credit.remaining_bytes(), 1 << 15);
    drop(credit);
    let credit = log.credit_from(&mut set_aside, 1 << 16).unwrap();
    assert_eq!((credit.remaining_bytes(), set_aside.bytes()), (1 << 16, 1 << 15));
}

/// Many threads, a flusher and a checkpointer on a small log; nobody is ever left behind.
#[test]
fn every_commit_of_many_threads_returns_durable_and_visible() {
    let (full, is_full) = mpsc::channel();
    let (log, _) = start_with(&SimDisk::new(), LogOptions { is_stepped: false, ..tight() });
    let log = &log;
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let is_over = &is_over;
        let committers: Vec<_> = (0..8_usize)
            .map(|number| {
                let full = full.clone();
                scope.spawn(move || {
                    let tell = || full.send(()).unwrap();
                    let wait = CreditWait { on_full: &tell, ..CreditWait::PATIENT };
                    for index in 0..300_usize {
                        let length = if index % 50 == number { 30_000 } else { 17 * (index % 60) };
                        let is_sync = (index + number) % 3 != 0;
                        let (_, end, _) = append_or(log, &noise(length, index), is_sync, &wait);
                        if is_sync {
                            log.wait_durable(end).unwrap();
                            assert!(log.durable_lsn() >= end);
                        }
                        log.wait_visible(end).unwrap();
                        assert!(log.visible_lsn() >= end);
                    }
                })
            })
            .collect();
        scope.spawn(move || {
            while !is_over.load(Ordering::SeqCst) {
                let step = log.step().unwrap();
                log.wait_flusher(step.sleep);
            }
        });
        scope.spawn(move || {
            while !is_over.load(Ordering::SeqCst) {
                if is_full.recv_timeout(Duration::from_millis(20)).is_ok() {
                    log.wait_durable(log.contiguous_lsn()).unwrap();
                    log.truncate(log.durable_lsn()).unwrap();
                }
            }
        });
        for committer in committers {
            committer.join().unwrap();
        }
        is_over.store(true, Ordering::SeqCst);
        log.wake_flusher();
    });
    assert_eq!(log.contiguous_lsn(), log.reserved_lsn());
    let end = log.shutdown().unwrap();
    assert_eq!(log.durable_lsn(), end);
}

/// A record whose appender was told that it is durable.
struct Acknowledged {
    /// Operations of the disk by then.
    operation: u64,
    lsn: Lsn,
    end: Lsn,
    bytes: Vec<u8>,
}

/// What survives a crash is a prefix of the log, with all that was acknowledged before.
fn check_crashes(forks: &[SimFork], state: &ControlState, acknowledged: &[Acknowledged]) {
    let start = state.epochs[0].start_lsn;
    for fork in forks {
        for (plan, crashed) in fork.disk().crash_states(0..2) {
            let context = format!("{} at {}: {plan:?}", fork.operation(), fork.describe());
            let end = testing::end(&crashed, state)
                .unwrap_or_else(|error| panic!("{context}: {error}"))
                .end_lsn;
            let files = testing::files(&crashed, state).unwrap();
            let mut reader = files.reader(start, None, Some(end)).unwrap();
            let mut survivors = BTreeMap::new();
            let mut at = start;
            while let Some(found) = reader.next_record().unwrap() {
                assert_eq!(found.lsn, at, "{context}");
                at = found.end_lsn;
                survivors.insert(found.lsn, found.bytes.to_vec());
            }
            assert_eq!(if at == start { Lsn::NONE } else { at }, end, "{context}");
            for known in acknowledged.iter().filter(|known| known.operation < fork.operation()) {
                let survivor = survivors.get(&known.lsn);
                let survivor =
                    survivor.unwrap_or_else(|| panic!("{context}: {} is lost", known.end));
                assert!(survivor == &known.bytes, "{context}: {} differs", known.lsn);
            }
        }
    }
}

fn acknowledge(disk: &SimDisk, log: &Log, lsn: Lsn, end: Lsn) -> Acknowledged {
    let operation = disk.operation_count();
    Acknowledged { operation, lsn, end, bytes: log.read(lsn).unwrap().bytes }
}

#[test]
fn every_acknowledged_record_survives_a_crash_at_any_operation() {
    let disk = SimDisk::new();
    let (log, state) = start_with(&disk, small_segments());
    disk.record_forks();
    let mut acknowledged = Vec::new();
    let mut unacknowledged = Vec::new();
    for index in 0..120 {
        let is_sync = index % 4 == 0;
        let (lsn, end, _) = append(&log, &noise(index * 97 % 3000, index), is_sync);
        unacknowledged.push((lsn, end));
        if is_sync {
            log.wait_durable(end).unwrap();
        } else if index % 5 == 0 {
            log.write_out().unwrap();
        } else if index % 7 == 0 {
            settle(&log);
        }
        let durable = unacknowledged.extract_if(.., |(_, end)| *end <= log.durable_lsn());
        acknowledged.extend(durable.map(|(lsn, end)| acknowledge(&disk, &log, lsn, end)));
    }
    assert!(acknowledged.len() > 100);
    check_crashes(&disk.take_forks(), &state, &acknowledged);
}

#[test]
fn every_commit_of_many_threads_survives_a_crash_after_its_return() {
    let disk = SimDisk::new();
    let (log, state) = start_with(&disk, LogOptions { is_stepped: false, ..small_segments() });
    disk.record_forks_where(|number| number % 5 == 0);
    let acknowledged = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for number in 0..6 {
            let (log, disk, acknowledged) = (&log, &disk, &acknowledged);
            scope.spawn(move || {
                for index in 0..30 {
                    let is_sync = (index + number) % 3 != 0;
                    let bytes = noise(index * 97 % 2000, index);
                    let (lsn, end, _) = append(log, &bytes, is_sync);
                    if is_sync {
                        log.wait_durable(end).unwrap();
                        let known = acknowledge(disk, log, lsn, end);
                        acknowledged.lock().push(known);
                    }
                    if index % 10 == number {
                        log.step().unwrap();
                    }
                }
            });
        }
    });
    check_crashes(&disk.take_forks(), &state, &acknowledged.lock());
}

#[test]
fn a_long_burst_is_cut_into_frames_within_the_window() {
    let options = LogOptions { ring_bytes: 8 << 20, ..options() };
    let segments = SegmentOptions { segment_bytes: 4 << 20, max_wal_bytes: 64 << 20, ..OPTIONS };
    let (log, _) = start_with(&SimDisk::new(), LogOptions { segments, ..options });
    let noise = noise(60_000, 1);
    for _ in 0..120 {
        append(&log, &noise, false);
    }
    log.write_out().unwrap();
    let payload = log.stats().payload_bytes;
    assert!(log.stats().frames >= payload / to_u64(FRAME_PAYLOAD_BYTES_MAX));
    // More than the window lies behind the first frame: a part had to be synced on the way.
    assert!(log.durable_lsn() > log.epoch().start_lsn);
    log.wait_durable(log.reserved_lsn()).unwrap();
}
