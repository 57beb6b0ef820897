//! Where epochs begin: their first frames, with and without a segment's header, and frames of other
//! epochs behind the end.

use super::*;
use crate::EpochNonce;
use crate::disk::sim::{CrashPlan, SimDisk};
use crate::log::testing::{FIRST_OFFSET, OPTIONS, TestLog, damage, noise};

#[test]
fn an_epoch_that_began_a_segment_is_read_without_the_segments_header() {
    let mut log = TestLog::create(OPTIONS);
    let first = log.unsynced(&[b"first"]);
    let second = log.unsynced(&[b"second"]);
    damage(&log.disk, &first.path, 0, &[0; 512]);
    let end = log.end().unwrap();
    assert_eq!((end.case, end.end_lsn), (TailCase::OpenEnd, second.end_lsn));
    rewrite_tail(&log.files().unwrap(), &end).unwrap();
    let mut log = TestLog::reopen(log.disk, log.state, OPTIONS, &end);
    while log.synced(&[&noise(9000, 1)]).at.segment < 3 {}
    assert_eq!(log.end().unwrap().end_lsn, log.end_lsn());
    assert_eq!(log.segments.recycle_below(second.lsn).unwrap(), 0);
    assert_eq!(log.segments.recycle_below(log.end_lsn()).unwrap(), 2);
    assert_eq!(log.segments.spare_count(), 2);
}

#[test]
fn a_header_lost_in_front_of_an_epochs_first_frame_is_written_again() {
    let mut log = TestLog::create(OPTIONS);
    let first = log.unsynced(&[b"first"]);
    let kept = log.disk.read_file(&first.path).unwrap();
    let mend = |disk: &SimDisk, end: &LogEnd| {
        let mut state = log.state.clone();
        let nonce = EpochNonce::new(9);
        let (end_lsn, at) = (end.end_lsn, end.resume_at);
        let next = state.start_epoch(nonce, end_lsn, end.last_accepted, at).unwrap();
        let files = testing::files(disk, &log.state).unwrap();
        let identity = testing::DATABASE.log_identity(nonce);
        (write_lost_headers(&files, end, &next, identity).unwrap(), state)
    };
    let foreign = {
        let mut header = SegmentHeader::decode(&kept[..SEGMENT_HEADER_BYTES]).unwrap();
        header.number = 77;
        let mut block = vec![0; SEGMENT_HEADER_BYTES];
        header.encode(&mut block);
        block
    };
    for lost in [vec![0; SEGMENT_HEADER_BYTES], foreign] {
        let disk = log.disk.fork();
        damage(&disk, &first.path, 0, &lost);
        let end = testing::end(&disk, &log.state).unwrap();
        assert_eq!(mend(&disk, &end).0, 1);
        let mended = disk.crash(CrashPlan::NothingUnsynced).read_file(&first.path).unwrap();
        assert_eq!(mended[..SEGMENT_HEADER_BYTES], kept[..SEGMENT_HEADER_BYTES]);
        assert_eq!(mend(&disk, &end).0, 0, "it is there");
    }
    // Of the frame, the header alone: the next epoch begins behind it, in the same segment.
    let disk = log.disk.fork();
    damage(&disk, &first.path, 0, &[0; 512]);
    damage(&disk, &first.path, FIRST_OFFSET + 140, b"x");
    let end = testing::end(&disk, &log.state).unwrap();
    assert_eq!((end.case, end.last_accepted), (TailCase::TornTail, None));
    let (written, state) = mend(&disk, &end);
    assert_eq!(written, 1);
    let mended = disk.read_file(&first.path).unwrap();
    let header = SegmentHeader::decode(&mended[..SEGMENT_HEADER_BYTES]).unwrap();
    assert_eq!((header.number, header.first_lsn), (1, state.last_epoch().start_lsn));
}

#[test]
fn a_frame_of_an_epoch_above_the_control_file_is_corruption() {
    let mut log = TestLog::create(OPTIONS);
    log.synced(&[b"one"]);
    let old_state = log.state.clone();
    let end = log.end().unwrap();
    let mut log = TestLog::reopen(log.disk, log.state, OPTIONS, &end);
    let first = log.synced(&[b"two"]);
    assert_corrupt(testing::end(&log.disk, &old_state), first.at, "no epoch above 1");
}

#[test]
fn a_frame_inside_a_users_value_of_an_earlier_use_is_no_newer_epoch() {
    let mut log = TestLog::create(OPTIONS);
    log.synced(&[b"one"]);
    let last = log.synced(&[b"two"]);
    let end = log.end().unwrap();
    let forged = FrameHeader {
        identity: 7,
        epoch: Epoch::new(99),
        frame_lsn: end.end_lsn.advance(9 << 32),
        payload_bytes: 0,
        prev_frame_lsn: end.end_lsn.advance(8),
        prev_checksum: 0,
        durable_lsn: Lsn::NONE,
        record_count: 0,
    };
    // One that names the end of the log, which nobody knew when the value was stored.
    let at_end = |end_lsn| FrameHeader { prev_frame_lsn: end_lsn, prev_checksum: 7, ..forged };
    for header in [forged, at_end(end.end_lsn), at_end(last.lsn)] {
        let disk = log.disk.fork();
        let mut block = [0; BLOCK_BYTES];
        header.encode(&mut block);
        damage(&disk, &last.path, end.end_at.offset, &block);
        let found = testing::end(&disk, &log.state).unwrap();
        assert_eq!((found.case, found.end_lsn), (TailCase::OpenEnd, end.end_lsn));
        // Behind the end as well, in front of which the next epoch would begin.
        let torn = log.disk.fork();
        damage(&torn, &last.path, last.at.offset + 140, b"x");
        damage(&torn, &last.path, end.end_at.offset, &block);
        let found = testing::end(&torn, &log.state).unwrap();
        assert_eq!((found.case, found.end_lsn), (TailCase::TornTail, last.lsn));
        assert_eq!(found.resume_at, end.end_at);
    }
    // The frame that another process has really begun its epoch with is found.
    let mut next = TestLog::reopen(log.disk.fork(), log.state.clone(), OPTIONS, &end);
    let first = next.synced(&[b"three"]);
    assert_eq!(first.at, end.end_at);
    assert_corrupt(testing::end(&next.disk, &log.state), first.at, "no epoch above 1");
}

#[test]
fn a_crash_loop_takes_no_log_while_epochs_end_without_a_frame() {
    let mut log = TestLog::create(OPTIONS);
    let kept = log.synced(&[b"kept"]);
    log.unsynced(&[b"torn"]);
    damage(&log.disk, &kept.path, kept.at.offset + BLOCK_U64 + 140, &[9; 8]);
    let mut end = log.end().unwrap();
    assert_eq!(end.case, TailCase::TornTail);
    let resume_at = end.resume_at;
    for round in 0..100 {
        log = TestLog::reopen(log.disk, log.state, OPTIONS, &end);
        end = log.end().unwrap();
        assert_eq!(end.end_lsn, kept.end_lsn, "round {round}");
        assert_eq!(end.resume_at, resume_at);
        assert_eq!(log.state.epochs.len(), 2);
    }
    let first = log.synced(&[b"at last"]);
    assert_eq!(first.at, resume_at);
    assert_eq!(log.end().unwrap().end_lsn, first.end_lsn);
}

#[test]
fn stale_bytes_of_an_earlier_epoch_behind_the_end_are_no_log() {
    let mut log = TestLog::create(OPTIONS);
    let kept = log.synced(&[b"kept"]);
    let lost = log.unsynced(&[b"lost"]);
    for _ in 0..5 {
        log.unsynced(&[b"stale"]);
    }
    damage(&log.disk, &lost.path, lost.at.offset, &[0; 512]);
    let end = log.end().unwrap();
    assert_eq!((end.case, end.end_lsn), (TailCase::TornTail, kept.end_lsn));
    assert_eq!(end.resume_at.offset, lost.at.offset + 6 * BLOCK_U64);
    // Even where the next epoch is placed in front of them.
    let in_front = LogEnd { resume_at: lost.at, ..end };
    let mut log = TestLog::reopen(log.disk, log.state, OPTIONS, &in_front);
    let first = log.synced(&[b"second epoch"]);
    assert_eq!(first.at, lost.at);
    let end = log.end().unwrap();
    assert_eq!((end.case, end.end_lsn), (TailCase::OpenEnd, first.end_lsn));
}
