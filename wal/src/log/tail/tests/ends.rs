//! Ends that are found: of logs that were closed, torn, or are empty.

use super::*;
use crate::control::MasterRecord;
use crate::disk::sim::{EIO, Fault, FaultEffect, OperationKind};
use crate::log::testing::{FIRST_OFFSET, OPTIONS, TestLog, damage, noise};

#[test]
fn a_log_without_a_frame_ends_where_its_epoch_continues() {
    let log = TestLog::create(OPTIONS);
    let end = log.end().unwrap();
    assert_eq!(end.case, TailCase::OpenEnd);
    assert_eq!(end.end_lsn, log.state.last_epoch().continues_from_lsn);
    assert_eq!(end.last_accepted, None);
    assert_eq!(end.resume_at, LogPosition { segment: 1, offset: FIRST_OFFSET });
}

#[test]
fn a_clean_end_is_found_and_must_be_the_one_that_was_noted() {
    let mut log = TestLog::create(OPTIONS);
    log.synced(&[b"one"]);
    let last = log.synced(&[b"two"]);
    log.synced(&[]);
    log.close();
    let end = log.end().unwrap();
    assert_eq!((end.case, end.end_lsn), (TailCase::CleanEnd, last.end_lsn));
    assert_eq!(end.resume_at.offset, last.at.offset + 2 * BLOCK_U64);

    let behind = log.synced(&[b"written after the close"]);
    let after = LogPosition { offset: behind.at.offset + BLOCK_U64, ..behind.at };
    assert_corrupt(log.end(), after, "the end of the log");

    damage(&log.disk, &last.path, last.at.offset + 200, b"x");
    assert_corrupt(log.end(), last.at, "in a log that is durable");
}

#[test]
fn a_torn_frame_is_cut_at_every_sector() {
    let mut log = TestLog::create(OPTIONS);
    let kept = log.synced(&[b"kept"]);
    let before = log.disk.read_file(&kept.path).unwrap();
    let torn = log.unsynced(&[&noise(6000, 1), b"end"]);
    let after = log.disk.read_file(&torn.path).unwrap();
    let start = usize::try_from(torn.at.offset).unwrap();
    let frame = frame_bytes(usize::try_from(torn.end_lsn.since(torn.lsn)).unwrap());
    let written = after[start..start + frame].iter().rposition(|&byte| byte != 0).unwrap();
    for cut in (0..=written).step_by(512) {
        for keeps_front in [true, false] {
            let mut bytes = before.clone();
            let kept_range =
                if keeps_front { start..start + cut } else { start + cut + 512..start + frame };
            if kept_range.start < kept_range.end {
                bytes[kept_range.clone()].copy_from_slice(&after[kept_range]);
            }
            let disk = log.disk.fork();
            disk.write_file(&torn.path, &bytes);
            let end = testing::end(&disk, &log.state).unwrap();
            assert_eq!(end.end_lsn, kept.end_lsn, "cut at {cut}, {keeps_front}");
            let has_header = keeps_front && cut > 0;
            let case = if has_header { TailCase::TornTail } else { TailCase::OpenEnd };
            assert_eq!(end.case, case, "cut at {cut}, {keeps_front}");
            let cut_bytes = if has_header { torn.end_lsn.since(torn.lsn) } else { 0 };
            assert_eq!(end.cut_bytes, cut_bytes);
        }
    }
    assert_eq!(log.end().unwrap().end_lsn, torn.end_lsn);
}

#[test]
fn the_query_follows_the_control_file() {
    let mut log = TestLog::create(OPTIONS);
    let one = log.synced(&[b"one"]);
    let begin = log.synced(&[b"checkpoint begin"]);
    let end = log.synced(&[b"checkpoint end"]);
    log.state.master = Some(MasterRecord {
        begin_lsn: begin.lsn,
        end_lsn: end.end_lsn,
        redo_lsn: one.lsn,
        undo_lsn: Lsn::NONE,
        begin_at: begin.at,
        start_at: one.at,
    });
    assert_eq!(log.end().unwrap().end_lsn, end.end_lsn);
    // Redo finds this one, when it reads from the checkpoint's redo position.
    let disk = log.disk.fork();
    damage(&disk, &one.path, one.at.offset + 130, b"x");
    assert_eq!(testing::end(&disk, &log.state).unwrap().end_lsn, end.end_lsn);
    for lost in [&begin, &end] {
        let disk = log.disk.fork();
        damage(&disk, &lost.path, lost.at.offset + 130, b"x");
        let result = testing::end(&disk, &log.state);
        assert!(matches!(result, Err(Error::Corrupt { .. })), "{result:?}");
    }
}

#[test]
fn recycled_segments_with_old_frames_are_no_log() {
    let mut log = TestLog::create(OPTIONS);
    let mut last = log.synced(&[b"first"]);
    // Round and round: every segment holds frames of the same epoch from its earlier uses.
    for i in 0..200 {
        last = log.synced(&[&noise(20_000, i)]);
        log.segments.recycle_below(last.lsn).unwrap();
        assert!(log.segments.wal_bytes() <= OPTIONS.max_wal_bytes);
    }
    let query =
        TailQuery { start_lsn: last.lsn, start_at: Some(last.at), ..TailQuery::new(&log.state) };
    let end = find_end(&log.files().unwrap(), &query).unwrap();
    assert_eq!((end.case, end.end_lsn), (TailCase::OpenEnd, last.end_lsn));
    assert_eq!(end.resume_at, log.segments.next_position());
}

#[test]
fn a_read_error_behind_the_end_is_an_error() {
    let mut log = TestLog::create(OPTIONS);
    log.synced(&[b"one"]);
    let reads = log.disk.read_count();
    log.end().unwrap();
    let needed = log.disk.read_count() - reads;
    for number in 1..=needed {
        let disk = log.disk.fork();
        disk.add_fault(
            Fault::new(FaultEffect::Errno(EIO))
                .kind(OperationKind::Read)
                .at(disk.read_count() + number),
        );
        let result = testing::end(&disk, &log.state);
        assert!(matches!(result, Err(Error::Io { .. })), "read {number}: {result:?}");
    }
}
