//! Damage of what something on disk says was durable is corruption, never the end of the log.

use std::path::Path;

use super::*;
use crate::codec::to_usize;
use crate::disk::Disk;
use crate::log::SegmentOptions;
use crate::log::testing::{FIRST_OFFSET, OPTIONS, TestLog, damage, noise};

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
