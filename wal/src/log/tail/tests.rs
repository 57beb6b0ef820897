use std::ffi::OsString;
use std::io;
use std::path::Path;

use super::*;
use crate::EpochNonce;
use crate::codec::to_usize;
use crate::control::MasterRecord;
use crate::disk::sim::{CrashPlan, EIO, Fault, FaultEffect, OperationKind, SimDisk};
use crate::disk::{Access, DirectoryLock, Disk, FileSize, Transfer};
use crate::log::SegmentOptions;
use crate::log::segment;
use crate::log::testing::{self, FIRST_OFFSET, OPTIONS, TestLog, Written, damage, noise};

/// Evidence of a log that ends at 1000, where nothing else is known.
fn evidence() -> TailEvidence {
    TailEvidence {
        stop_lsn: Lsn::new(1000),
        known_durable_lsn: Lsn::new(1000),
        clean_lsn: None,
        is_newer_epoch_found: false,
        frames_beyond_end_lsn: None,
    }
}

#[test]
fn row_newer_epoch_wins_over_everything() {
    for clean_lsn in [None, Some(Lsn::new(1000))] {
        for known_durable_lsn in [Lsn::NONE, Lsn::new(1000), Lsn::new(2000)] {
            let case = TailCase::decide(&TailEvidence {
                is_newer_epoch_found: true,
                clean_lsn,
                known_durable_lsn,
                ..evidence()
            });
            assert_eq!(case, TailCase::NewerEpoch);
        }
    }
}

#[test]
fn row_lost_durable() {
    for frames_beyond_end_lsn in [None, Some(Lsn::new(2000))] {
        for clean_lsn in [None, Some(Lsn::new(1008))] {
            let case = TailCase::decide(&TailEvidence {
                known_durable_lsn: Lsn::new(1008),
                frames_beyond_end_lsn,
                clean_lsn,
                ..evidence()
            });
            assert_eq!(case, TailCase::LostDurable);
        }
    }
}

#[test]
fn row_beyond_clean_by_frames_that_fit() {
    let clean = Lsn::new(992);
    let case = TailCase::decide(&TailEvidence {
        known_durable_lsn: clean,
        clean_lsn: Some(clean),
        ..evidence()
    });
    assert_eq!(case, TailCase::BeyondClean);
}

#[test]
fn row_beyond_clean_by_frames_that_do_not_fit() {
    let case = TailCase::decide(&TailEvidence {
        clean_lsn: Some(Lsn::new(1000)),
        frames_beyond_end_lsn: Some(Lsn::new(1080)),
        ..evidence()
    });
    assert_eq!(case, TailCase::BeyondClean);
}

#[test]
fn row_clean_end() {
    let case = TailCase::decide(&TailEvidence { clean_lsn: Some(Lsn::new(1000)), ..evidence() });
    assert_eq!(case, TailCase::CleanEnd);
}

#[test]
fn row_torn_tail() {
    for known_durable_lsn in [Lsn::NONE, Lsn::new(1000)] {
        let case = TailCase::decide(&TailEvidence {
            known_durable_lsn,
            frames_beyond_end_lsn: Some(Lsn::new(1080)),
            ..evidence()
        });
        assert_eq!(case, TailCase::TornTail);
    }
}

#[test]
fn row_open_end() {
    assert_eq!(TailCase::decide(&evidence()), TailCase::OpenEnd);
}

fn assert_corrupt(result: Result<LogEnd>, at: LogPosition, expected_text: &str) {
    match result {
        Err(Error::Corrupt { file, offset, expected, .. }) => {
            assert_eq!(file, crate::log::segment::path(&testing::wal_dir(), at.segment));
            assert!((at.offset..at.offset + BLOCK_U64).contains(&offset), "{offset} {at}");
            assert!(expected.contains(expected_text), "{expected}");
        }
        other => panic!("corruption at {at} was taken for {other:?}"),
    }
}

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
fn damage_below_a_stamp_is_corruption_with_file_and_offset() {
    let mut log = TestLog::create(OPTIONS);
    let one = log.synced(&[b"one"]);
    log.synced(&[b"two"]);
    // The stamp of the second frame says that the first was durable.
    damage(&log.disk, &one.path, one.at.offset + 130, b"x");
    assert_corrupt(log.end(), one.at, "in a log that is durable");
}

#[test]
fn damage_of_the_last_frame_is_found_by_a_stamp_frame() {
    let mut log = TestLog::create(OPTIONS);
    log.synced(&[b"one"]);
    let last = log.synced(&[b"two"]);
    let disk = log.disk.fork();
    damage(&disk, &last.path, last.at.offset + 130, b"x");
    let end = testing::end(&disk, &log.state).unwrap();
    assert_eq!(end.end_lsn, last.lsn, "nothing on disk says that it was durable");

    log.unsynced(&[]);
    damage(&log.disk, &last.path, last.at.offset + 130, b"x");
    assert_corrupt(log.end(), last.at, "in a log that is durable");
}

#[test]
fn damage_below_the_checkpoint_or_what_the_caller_knows_is_corruption() {
    let mut log = TestLog::create(OPTIONS);
    log.synced(&[b"one"]);
    let last = log.synced(&[b"two"]);
    damage(&log.disk, &last.path, last.at.offset + 130, b"x");
    let files = log.files().unwrap();
    let query = TailQuery::new(&log.state);
    let by_checkpoint = TailQuery { checkpoint_end_lsn: last.end_lsn, ..query };
    assert_corrupt(find_end(&files, &by_checkpoint), last.at, "in a log that is durable");
    let by_caller = TailQuery { known_durable_lsn: last.end_lsn, ..query };
    assert_corrupt(find_end(&files, &by_caller), last.at, "in a log that is durable");
    let not_beyond = TailQuery { known_durable_lsn: last.lsn, ..query };
    assert_eq!(find_end(&files, &not_beyond).unwrap().end_lsn, last.lsn);
}

#[test]
fn a_segment_that_is_cut_short_is_corruption_even_between_frames() {
    let mut log = TestLog::create(OPTIONS);
    log.synced(&[b"one"]);
    let cut_at = log.synced(&[b"two"]).at;
    log.synced(&[b"three"]);
    let path = segment::path(&testing::wal_dir(), cut_at.segment);
    let bytes = log.disk.read_file(&path).unwrap();
    for length in [cut_at.offset, cut_at.offset + BLOCK_U64, to_u64(bytes.len()) - BLOCK_U64] {
        log.disk.write_file(&path, &bytes[..to_usize(length)]);
        let at = LogPosition { segment: cut_at.segment, offset: length };
        assert_corrupt(log.end(), at, &format!("a segment of {} bytes", bytes.len()));
    }
    log.disk.write_file(&path, &bytes);
    assert_eq!(log.end().unwrap().end_lsn, log.end_lsn());
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

/// Segments that hold the whole in-flight range, and more of them.
const LONG: SegmentOptions = SegmentOptions {
    first_bytes: 8 << 20,
    segment_bytes: 8 << 20,
    max_wal_bytes: 64 << 20,
    ..OPTIONS
};

#[test]
fn a_stamp_at_the_end_of_the_in_flight_range_counts() {
    let mut log = TestLog::create(LONG);
    log.synced(&[b"one"]);
    let lost = log.synced(&[b"lost"]);
    // Unsynced frames up to exactly the range, then one whose stamp covers the lost frame.
    let mut last = lost.clone();
    while last.at.offset + BLOCK_U64 < lost.at.offset + IN_FLIGHT_BYTES_MAX {
        last = log.unsynced(&[b"more"]);
    }
    for at in [lost.at.offset, lost.at.offset + BLOCK_U64] {
        damage(&log.disk, &lost.path, at, &[0; 4096]);
    }
    // All stamps in between go, so that only the last one tells.
    let fork = log.disk.fork();
    let length = usize::try_from(last.at.offset + BLOCK_U64 - lost.at.offset).unwrap();
    damage(&fork, &lost.path, lost.at.offset, &vec![0; length]);
    assert_eq!(testing::end(&fork, &log.state).unwrap().end_lsn, lost.lsn);
    let next = log.synced(&[b"behind the range"]);
    assert_eq!(next.at.offset, lost.at.offset + IN_FLIGHT_BYTES_MAX);
    damage(&log.disk, &lost.path, lost.at.offset, &vec![0; length]);
    assert_corrupt(log.end(), lost.at, "in a log that is durable");
}

#[test]
fn a_later_segment_tells_what_was_durable() {
    let mut log = TestLog::create(OPTIONS);
    let first = log.synced(&[b"first"]);
    while log.segments.live_count() < 3 {
        log.synced(&[&noise(30_000, 1)]);
    }
    let lost = first;
    damage(&log.disk, &lost.path, FIRST_OFFSET, &vec![0; (128 << 10) - BLOCK_BYTES]);
    assert_corrupt(log.end(), lost.at, "in a log that is durable");
    // A lost file too.
    log.disk.remove_file(&lost.path).unwrap();
    assert_corrupt(log.end(), lost.at, "in a log that is durable");
}

#[test]
fn frames_in_a_segment_whose_header_was_never_whole_do_not_count() {
    let mut log = TestLog::create(OPTIONS);
    let mut last = log.synced(&[b"first"]);
    let begun = loop {
        let written = log.synced(&[&noise(9000, 1)]);
        if written.at.segment == 2 {
            break written;
        }
        last = written;
    };
    let behind = log.unsynced(&[b"behind"]);
    // That write had not returned: of its sectors, the first one is not there.
    let disk = log.disk.fork();
    damage(&disk, &behind.path, behind.at.offset, &[0; 4096]);
    damage(&disk, &begun.path, 0, &[0; 512]);
    let end = testing::end(&disk, &log.state).unwrap();
    assert_eq!((end.case, end.end_lsn), (TailCase::TornTail, last.end_lsn));
    let mut next = TestLog::reopen(disk, log.state.clone(), OPTIONS, &end);
    while next.synced(&[&noise(9000, 1)]).at.segment < 2 {}
    assert_eq!(next.end().unwrap().end_lsn, next.end_lsn());
    // What stands behind says that it was durable: then the header was lost later.
    damage(&log.disk, &begun.path, 0, &[0; 512]);
    let after = LogPosition { segment: 1, offset: last.at.offset + 3 * BLOCK_U64 };
    assert_corrupt(log.end(), after, "in a log that is durable");
}

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

#[test]
fn after_every_crash_the_log_ends_between_what_was_synced_and_what_was_written() {
    for seed in 0..6 {
        let mut log = TestLog::create(OPTIONS);
        let mut synced_lsn = log.synced(&[b"first"]).end_lsn;
        log.disk.record_forks();
        let mut synced_at = vec![(0, synced_lsn)];
        for i in 0..24_u32 {
            let note = noise(usize::try_from((i * 977 + seed * 331) % 9000).unwrap(), i);
            if (i + seed).is_multiple_of(3) {
                log.unsynced(&[&note]);
            } else {
                // Syncs every frame in front of it as well, as the append side does.
                let written = log.unsynced(&[&note]);
                log.sync_all();
                synced_lsn = written.end_lsn;
                synced_at.push((log.disk.operation_count(), synced_lsn));
            }
        }
        for fork in log.disk.take_forks() {
            let promised = synced_at
                .iter()
                .rev()
                .find(|(operation, _)| *operation < fork.operation())
                .map_or(Lsn::NONE, |(_, lsn)| *lsn);
            for (plan, disk) in fork.disk().crash_states(0..3) {
                let what = format!("{} {} {plan:?}", seed, fork.describe());
                let end = testing::end(&disk, &log.state).unwrap_or_else(|error| {
                    panic!("{what}: {error}");
                });
                assert!(end.end_lsn >= promised, "{what}: lost {promised}");
                // And again after a new epoch has begun behind it.
                let mut next = TestLog::reopen(disk, log.state.clone(), OPTIONS, &end);
                let written = next.synced(&[b"next epoch"]);
                assert_eq!(next.end().unwrap().end_lsn, written.end_lsn, "{what}");
            }
        }
    }
}

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

/// A disk that says of its files that they are not direct.
#[derive(Debug)]
struct Buffered(SimDisk);

#[derive(Debug)]
struct BufferedFile(Arc<dyn DiskFile>);

impl Disk for Buffered {
    fn open(&self, path: &Path, mode: OpenMode, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(BufferedFile(self.0.open(path, mode, access)?)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.0.remove_file(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.0.create_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.0.sync_dir(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<OsString>> {
        self.0.list(path)
    }

    fn size(&self, path: &Path) -> io::Result<FileSize> {
        self.0.size(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DirectoryLock>> {
        self.0.lock(path)
    }

    fn lock_to_read(&self, path: &Path) -> io::Result<Box<dyn DirectoryLock>> {
        self.0.lock_to_read(path)
    }

    fn transfer(&self, batch: &mut [Transfer<'_>]) {
        self.0.transfer(batch);
    }

    fn name(&self) -> &'static str {
        "buffered"
    }
}

impl DiskFile for BufferedFile {
    fn path(&self) -> &Path {
        self.0.path()
    }

    fn is_direct(&self) -> bool {
        false
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_at(buf, offset)
    }

    fn write_sync_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_sync_at(buf, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }

    fn set_len(&self, length_bytes: u64) -> io::Result<()> {
        self.0.set_len(length_bytes)
    }

    fn size(&self) -> io::Result<FileSize> {
        self.0.size()
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

#[test]
fn frames_that_a_failed_sync_left_in_the_cache_only_are_written_again() {
    let mut log = TestLog::create(OPTIONS);
    let durable = log.synced(&[b"durable"]);
    let tail: Vec<_> = (0..20).map(|i| log.unsynced(&[&noise(9000, i)])).collect();
    let last = tail.last().unwrap();
    log.disk.add_fault(Fault::new(FaultEffect::Errno(EIO)).kind(OperationKind::Sync).lasting());
    for (path, _) in log.disk.files() {
        assert!(log.disk.open(&path, OpenMode::ReadWrite, Access::Direct).unwrap().sync().is_err());
    }
    // The process dies; the machine, and its cache, live on.
    let disk = log.disk.fork();
    let buffered = Arc::new(Buffered(disk.clone()));
    let files = LogFiles::open(
        buffered,
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

#[test]
fn no_flipped_bit_in_front_of_the_last_frame_shortens_the_log() {
    let mut log = TestLog::create(OPTIONS);
    let mut last = log.synced(&[b"first"]);
    for i in 0..25 {
        last = log.synced(&[&noise(usize::try_from(i * 1999 % 20_000).unwrap(), i), b"x"]);
    }
    let used = |path: &Path, offset: u64| path < last.path || offset < last.at.offset;
    let mut noticed = 0;
    for (path, length) in log.disk.files() {
        for (index, offset) in (0..length).step_by(1009).enumerate() {
            if path > last.path || !used(&path, offset) {
                continue;
            }
            let disk = log.disk.fork();
            disk.flip_bit(&path, offset, u8::try_from(index % 8).unwrap());
            match testing::end(&disk, &log.state) {
                Ok(end) => assert_eq!(end.end_lsn, last.end_lsn, "{} {offset}", path.display()),
                Err(Error::Corrupt { .. }) => noticed += 1,
                Err(error) => panic!("{error}"),
            }
        }
    }
    assert!(noticed > 150, "{noticed}");
}

/// A small generator of numbers.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

#[test]
fn over_many_crashes_the_log_is_a_prefix_of_each_epoch_and_keeps_what_was_synced() {
    for seed in 0..40 {
        let mut dice = Dice(seed);
        let mut log = TestLog::create(OPTIONS);
        // All records that should be there, from the master on.
        let mut records: Vec<(Lsn, Lsn)> = Vec::new();
        let mut master: Option<(Lsn, LogPosition)> = None;
        for round in 0..12 {
            let what = format!("seed {seed}, round {round}");
            let mut synced_lsn = Lsn::NONE;
            for i in 0..dice.below(30) {
                let length = usize::try_from(dice.below(9000)).unwrap();
                let note = noise(length, u32::try_from(i).unwrap());
                let written = if dice.below(8) == 0 {
                    log.unsynced(&[])
                } else {
                    log.unsynced(&[&note, b"second"])
                };
                records.extend(&written.spans);
                let is_full = log.segments.available_bytes() < 100 << 10;
                if is_full || dice.below(3) == 0 {
                    log.sync_all();
                    synced_lsn = written.end_lsn;
                    if is_full || dice.below(4) == 0 && !written.records.is_empty() {
                        master = Some((written.lsn, written.at));
                        log.segments.recycle_below(written.lsn).unwrap();
                        log.state.forget_epochs_below(written.lsn);
                        records.retain(|(lsn, _)| *lsn >= written.lsn);
                    }
                }
                if dice.below(6) == 0 {
                    log.segments.make_spare().unwrap();
                }
            }
            let plan = match dice.below(5) {
                0 => CrashPlan::NothingUnsynced,
                1 => CrashPlan::Everything,
                2 => CrashPlan::Sectors { seed: dice.below(1 << 20) },
                3 => CrashPlan::Reordered { seed: dice.below(1 << 20) },
                _ => CrashPlan::Torn { seed: dice.below(1 << 20) },
            };
            let disk = log.disk.crash(plan);
            let state = log.state.clone();
            let query = TailQuery {
                start_lsn: master.map_or(state.epochs[0].start_lsn, |(lsn, _)| lsn),
                start_at: master.map(|(_, at)| at),
                ..TailQuery::new(&state)
            };
            let files = testing::files(&disk, &state).unwrap();
            let end = find_end(&files, &query).unwrap_or_else(|error| panic!("{what}: {error}"));
            assert!(end.end_lsn >= synced_lsn, "{what}");
            assert_eq!(rewrite_tail(&files, &end).unwrap(), 0);
            records.retain(|(_, end_lsn)| *end_lsn <= end.end_lsn);

            log = TestLog::reopen(disk, state, OPTIONS, &end);
            let first = log.synced(&[b"first of its epoch"]);
            records.extend(&first.spans);
            let start = master.map_or(log.state.epochs[0].start_lsn, |(lsn, _)| lsn);
            let mut reader =
                log.files().unwrap().reader(start, query.start_at, Some(first.end_lsn)).unwrap();
            let mut found = Vec::new();
            while let Some(record) = reader.next_record().unwrap() {
                found.push((record.lsn, record.end_lsn));
            }
            assert_eq!(found, records, "{what}");
        }
    }
}
