//! The accepted tail is made safe before anything follows it.

use super::*;
use crate::codec::to_usize;
use crate::disk::sim::{CrashPlan, EIO, Fault, FaultEffect, OperationKind};
use crate::disk::{Access, Disk};
use crate::log::testing::{FIRST_OFFSET, OPTIONS, TestLog, Written, noise};

#[test]
fn the_accepted_tail_is_durable_after_it_was_rewritten() {
    let mut log = TestLog::create(OPTIONS);
    log.synced(&[b"one"]);
    for i in 0..20 {
        log.unsynced(&[&noise(9000, i)]);
    }
    assert!(log.segments.live_count() > 1);
    let end = log.end().unwrap();
    assert_eq!(end.end_lsn, log.end_lsn());
    assert_eq!(rewrite_tail(&log.files().unwrap(), &end).unwrap(), 0, "direct I/O needs a sync");
    let crashed = log.disk.crash(CrashPlan::NothingUnsynced);
    assert_eq!(testing::end(&crashed, &log.state).unwrap().end_lsn, end.end_lsn);
}

#[test]
fn frames_that_a_failed_sync_left_in_the_cache_only_are_written_again() {
    let mut log = TestLog::create(OPTIONS);
    log.disk.set_direct(false);
    let durable = log.synced(&[b"durable"]);
    let tail: Vec<_> = (0..20).map(|i| log.unsynced(&[&noise(9000, i)])).collect();
    let last = tail.last().unwrap();
    log.disk.add_fault(Fault::new(FaultEffect::Errno(EIO)).kind(OperationKind::Sync).lasting());
    for (path, _) in log.disk.files() {
        assert!(log.disk.open(&path, OpenMode::ReadWrite, Access::Direct).unwrap().sync().is_err());
    }
    // The process dies; the machine, and its cache, live on.
    let disk = log.disk.fork();
    let files = LogFiles::open(
        Arc::new(disk.clone()),
        &testing::wal_dir(),
        testing::DATABASE,
        &log.state.epochs,
        OPTIONS.record_bytes_max,
    );
    let files = files.unwrap();
    let end = find_end(&files, &TailQuery::new(&log.state)).unwrap();
    assert_eq!(end.end_lsn, last.end_lsn);
    assert_eq!(end.known_durable_lsn, durable.end_lsn);

    // A sync alone says that all is well, and is wrong.
    let lying = disk.fork();
    for (path, _) in lying.files() {
        lying.open(&path, OpenMode::ReadWrite, Access::Direct).unwrap().sync().unwrap();
    }
    let lost = testing::end(&lying.crash(CrashPlan::Everything), &log.state).unwrap();
    assert_eq!(lost.end_lsn, durable.end_lsn);

    let written = rewrite_tail(&files, &end).unwrap();
    let frame_bytes = |frame: &Written| {
        let header = if frame.at.offset == FIRST_OFFSET { FIRST_OFFSET } else { 0 };
        header + to_u64(frame_bytes(to_usize(frame.end_lsn.since(frame.lsn))))
    };
    assert_eq!(written, tail.iter().map(frame_bytes).sum::<u64>());
    let crashed = disk.crash(CrashPlan::NothingUnsynced);
    assert_eq!(testing::end(&crashed, &log.state).unwrap().end_lsn, last.end_lsn);
}
