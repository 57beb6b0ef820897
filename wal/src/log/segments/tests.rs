use std::sync::Mutex;

use super::*;
use crate::codec::{to_u64, to_usize};
use crate::disk::sim::{EIO, ENOSPC, Fault, FaultEffect, OperationKind, SimDisk};
use crate::disk::{AlignedBuf, BLOCK_BYTES, BlockingDisk, Disk};
use crate::log::frame::frame_bytes;
use crate::log::spares::Made;
use crate::log::testing::{self, OPTIONS, TestLog, TestSegments, noise, wal_dir};
use crate::log::{TailQuery, find_end, segment};
use crate::{DatabaseId, EpochNonce, Error, Result};

/// Files that double twice.
const GROWING: SegmentOptions = SegmentOptions {
    first_bytes: 128 << 10,
    segment_bytes: 512 << 10,
    max_wal_bytes: 4 << 20,
    ..OPTIONS
};

fn allocated(disk: &SimDisk) -> u64 {
    disk.files().iter().filter(|(path, _)| path.starts_with(wal_dir())).map(|(_, len)| len).sum()
}

/// Places a frame as the append side does: cut to the room, or to a new segment's.
fn place_cut(segments: &mut TestSegments, wanted: u64, lsn: &mut Lsn) -> Result<u64> {
    let record = to_u64(frame_bytes(OPTIONS.record_bytes_max));
    let mut room = segments.current_room_bytes();
    if room < record.min(wanted) {
        if segments.spare_count() == 0 && !segments.make_spare()? {
            return Err(crate::log::credit::no_space(segments.dir()));
        }
        room = segments.next_room_bytes().unwrap();
    }
    let bytes = wanted.min(room);
    segments.place(bytes, *lsn, *lsn);
    *lsn = lsn.advance(bytes - 128);
    Ok(bytes)
}

fn in_epoch(options: SegmentOptions) -> (SimDisk, TestSegments, Lsn) {
    let TestLog { disk, state, segments, .. } = TestLog::create(options);
    (disk, segments, state.last_epoch().start_lsn)
}

#[test]
fn the_bound_holds_at_every_operation() {
    for options in [OPTIONS, GROWING] {
        let (disk, mut segments, mut lsn) = in_epoch(options);
        disk.record_forks();
        let mut kept = VecDeque::new();
        for i in 0..800_u64 {
            let wanted = (i * 7919 % 30 + 1) * BLOCK_U64;
            match place_cut(&mut segments, wanted, &mut lsn) {
                Ok(_) => kept.push_back(lsn),
                Err(Error::NoSpace { .. }) => {
                    let half = kept.len() / 2;
                    let up_to = kept.drain(..half).next_back().unwrap();
                    assert!(segments.recycle_below(up_to).unwrap() > 0);
                }
                Err(error) => panic!("{error}"),
            }
            if i % 5 == 0 && segments.spare_count() == 0 {
                segments.make_spare().unwrap();
            }
            assert!(segments.wal_bytes() >= allocated(&disk));
            assert!(segments.wal_bytes() <= options.max_wal_bytes);
        }
        for fork in disk.take_forks() {
            assert!(allocated(fork.disk()) <= options.max_wal_bytes, "{}", fork.describe());
        }
    }
}

#[test]
fn what_is_said_to_be_available_can_be_placed_and_falls_only_by_what_is_placed() {
    for options in [OPTIONS, GROWING] {
        for seed in 0..20_u64 {
            let (_disk, mut segments, mut lsn) = in_epoch(options);
            let mut i = seed;
            let promised = segments.available_bytes();
            let (mut placed, mut frames) = (0, VecDeque::new());
            for round in 0..3 {
                loop {
                    i += 1;
                    let before = segments.available_bytes();
                    let wanted = (i * 7919 % 19 + 1) * BLOCK_U64;
                    match place_cut(&mut segments, wanted, &mut lsn) {
                        Ok(bytes) => {
                            placed += bytes;
                            frames.push_back(lsn);
                            let after = segments.available_bytes();
                            assert!(before.saturating_sub(after) <= bytes, "{before} {after}");
                        }
                        Err(Error::NoSpace { .. }) => {
                            assert_eq!(before, 0);
                            break;
                        }
                        Err(error) => panic!("{error}"),
                    }
                }
                assert!(round > 0 || placed >= promised, "{placed} of {promised}");
                // Whatever is given up, and whatever its files were, there is more room than before.
                let keep = to_usize(i % 40);
                while frames.len() > keep {
                    let before = segments.available_bytes();
                    let given_up = segments.recycle_below(frames.pop_front().unwrap()).unwrap();
                    let after = segments.available_bytes();
                    assert!(if given_up > 0 { after > before } else { after == before });
                }
            }
        }
    }
}

#[test]
fn an_emptied_log_has_room_for_what_it_is_counted_for() {
    for options in [OPTIONS, GROWING] {
        let (_disk, mut segments, mut lsn) = in_epoch(options);
        for i in 0..600 {
            match place_cut(&mut segments, (i % 17 + 1) * BLOCK_U64, &mut lsn) {
                Ok(_) => {}
                Err(_) => drop(segments.recycle_below(lsn).unwrap()),
            }
            let before = (segments.live_count(), segments.spare_count());
            segments.recycle_below(lsn).unwrap();
            let available = segments.available_bytes();
            assert!(available >= options.capacity_bytes(), "{i}: {available}, {before:?}");
        }
    }
}

#[test]
fn a_young_log_is_short_and_each_file_that_it_needs_is_twice_as_long_as_the_one_before() {
    let (disk, mut segments, mut lsn) = in_epoch(GROWING);
    assert_eq!(allocated(&disk), 0);
    let mut lengths = Vec::new();
    while segments.live_count() < 5 {
        let before = segments.live_count();
        place_cut(&mut segments, 5 * BLOCK_U64, &mut lsn).unwrap();
        if segments.live_count() > before {
            let (path, length) = disk.files().pop().unwrap();
            let number = segment::parse_name(path.file_name().unwrap()).unwrap();
            lengths.push((number, length >> 10));
        }
    }
    assert_eq!(lengths, [(1, 128), (2, 256), (3, 512), (4, 512), (5, 512)]);
    // They are used again, however long they are.
    segments.recycle_below(lsn).unwrap();
    assert_eq!((segments.live_count(), segments.spare_count()), (1, 4));
    let lengths: Vec<_> = disk.files().iter().map(|(_, length)| length >> 10).collect();
    assert_eq!(lengths, [512, 128, 256, 512, 512]);
    for _ in 0..100 {
        place_cut(&mut segments, 5 * BLOCK_U64, &mut lsn).unwrap();
        segments.recycle_below(lsn).unwrap();
    }
    assert_eq!(disk.files().len(), 5, "no further file was needed");
}

#[test]
fn a_log_that_is_opened_again_grows_on_from_what_it_has() {
    let mut log = TestLog::create(GROWING);
    let mut lengths = Vec::new();
    for _ in 0..3 {
        let needed = log.segments.live_count() + 1;
        while log.segments.live_count() < needed {
            log.synced(&[&noise(30_000, 1)]);
        }
        let end = log.end().unwrap();
        log = TestLog::reopen(log.disk, log.state, GROWING, &end);
        lengths.push(log.disk.files().last().unwrap().1 >> 10);
    }
    assert_eq!(lengths, [128, 128, 256]);
}

#[test]
fn spares_beyond_half_of_the_bound_are_removed() {
    let (disk, mut segments, mut lsn) = in_epoch(OPTIONS);
    while place_cut(&mut segments, 5 * BLOCK_U64, &mut lsn).is_ok() {}
    let live = segments.live_count();
    assert_eq!(segments.recycle_below(lsn).unwrap(), to_u64(live - 1));
    assert_eq!(segments.spare_count(), 4);
    assert_eq!(disk.files().len(), 5);
    assert_eq!(segments.wal_bytes(), allocated(&disk));
}

#[test]
fn a_file_is_made_in_steps_of_one_write_and_used_only_when_it_is_durable() {
    let options = SegmentOptions {
        first_bytes: 3 << 20,
        segment_bytes: 3 << 20,
        max_wal_bytes: 16 << 20,
        ..OPTIONS
    };
    let (disk, mut segments, _) = in_epoch(options);
    let mut steps = Vec::new();
    loop {
        let before = disk.operation_count();
        let made = segments.make_part().unwrap();
        let kinds = (before + 1..=disk.operation_count()).map(|number| {
            let description = disk.describe(number).unwrap();
            description.split_whitespace().next().unwrap().to_owned()
        });
        steps.push(kinds.collect::<Vec<_>>().join(" "));
        assert_eq!(segments.spare_count(), usize::from(made == Made::File));
        if made == Made::File {
            break;
        }
    }
    assert_eq!(steps, ["create set-len write", "write", "write", "sync rename sync-dir"]);
    assert_eq!(disk.unsynced_changes(), 0);
    // What is half made is gone when nobody makes on.
    segments.make_part().unwrap();
    assert_eq!(disk.files().len(), 2);
    let available = segments.available_bytes();
    segments.stop();
    assert_eq!((disk.files().len(), segments.available_bytes()), (1, available));
    assert_eq!(segments.wal_bytes(), allocated(&disk));
}

#[test]
fn the_move_to_the_next_segment_asks_the_disk_for_nothing() {
    let (disk, mut segments, mut lsn) = in_epoch(OPTIONS);
    segments.make_spare().unwrap();
    segments.make_spare().unwrap();
    let asked = Arc::new(Mutex::new(0));
    disk.set_monitor(Arc::new({
        let asked = Arc::clone(&asked);
        move |_| *asked.lock().unwrap() += 1
    }));
    let mut begun = Vec::new();
    for _ in 0..6 {
        let place = segments.place(8 * BLOCK_U64, lsn, lsn);
        begun.extend(place.begins.map(|header| header.number));
        lsn = lsn.advance(30_000);
    }
    assert_eq!(begun, [1, 2]);
    assert_eq!(*asked.lock().unwrap(), 0);
}

#[test]
fn a_new_segment_that_cannot_be_made_is_no_space_and_may_be_tried_again() {
    let kinds = [
        OperationKind::Create,
        OperationKind::SetLen,
        OperationKind::Write,
        OperationKind::Sync,
        OperationKind::Rename,
        OperationKind::SyncDir,
    ];
    for kind in kinds {
        for errno in [ENOSPC, EIO] {
            let (disk, mut segments, lsn) = in_epoch(GROWING);
            disk.add_fault(Fault::new(FaultEffect::Errno(errno)).kind(kind));
            let available = segments.available_bytes();
            let error = segments.make_spare().unwrap_err();
            assert!(matches!(error, Error::NoSpace { .. }), "{kind:?}: {error}");
            assert_eq!(segments.available_bytes(), available);
            assert_eq!(disk.files(), [], "{kind:?}: what was half made is removed");
            let place = segments.place_or_make(BLOCK_U64, lsn, lsn).unwrap();
            assert_eq!((place.segment, place.offset), (1, HEADER_U64));
            assert_eq!(allocated(&disk), GROWING.first_bytes);
        }
    }
}

#[test]
fn leftovers_that_cannot_be_removed_stay_in_the_books() {
    for kind in [OperationKind::Write, OperationKind::SyncDir] {
        let (disk, mut segments, lsn) = in_epoch(OPTIONS);
        disk.add_fault(Fault::new(FaultEffect::Errno(ENOSPC)).kind(kind));
        disk.add_fault(Fault::new(FaultEffect::Errno(EIO)).kind(OperationKind::Remove).lasting());
        assert!(segments.make_spare().is_err());
        assert!(segments.wal_bytes() >= allocated(&disk));
        assert!(allocated(&disk) > 0);
        // The next one may get the very name that could not be removed; it must not go with it.
        segments.make_spare().unwrap();
        assert!(segments.wal_bytes() >= allocated(&disk));
        disk.clear_faults();
        segments.place_or_make(BLOCK_U64, lsn, lsn).unwrap();
        assert!(segments.make_spare().unwrap());
        assert_eq!(segments.wal_bytes(), allocated(&disk));
        let names: Vec<_> = disk.files().into_iter().map(|(path, _)| path).collect();
        assert_eq!(names, [segment::path(&wal_dir(), 1), segment::path(&wal_dir(), 2)]);
    }
}

#[test]
fn a_segment_that_cannot_be_recycled_is_left_out_and_the_log_goes_on() {
    for kind in [OperationKind::Rename, OperationKind::Remove] {
        let (disk, mut segments, mut lsn) = in_epoch(OPTIONS);
        while segments.live_count() < 4 {
            place_cut(&mut segments, 5 * BLOCK_U64, &mut lsn).unwrap();
        }
        disk.add_fault(Fault::new(FaultEffect::Errno(EIO)).kind(OperationKind::Rename));
        if kind == OperationKind::Remove {
            disk.add_fault(Fault::new(FaultEffect::Errno(EIO)).kind(kind));
        }
        assert_eq!(segments.recycle_below(lsn).unwrap(), 3);
        assert_eq!(segments.spare_count(), 2);
        assert_eq!(segments.wal_bytes(), allocated(&disk));
        assert_eq!(disk.files().len(), if kind == OperationKind::Remove { 4 } else { 3 });
        while segments.spare_count() < 4 {
            segments.make_spare().unwrap();
        }
        assert_eq!(disk.files().len(), 5, "the leftover is gone by now");
        assert_eq!(segments.wal_bytes(), allocated(&disk));
    }
}

#[test]
fn names_of_recycled_segments_that_cannot_be_made_durable_are_an_error() {
    for errno in [ENOSPC, EIO] {
        let (disk, mut segments, mut lsn) = in_epoch(OPTIONS);
        while segments.live_count() < 3 {
            place_cut(&mut segments, 5 * BLOCK_U64, &mut lsn).unwrap();
        }
        disk.add_fault(Fault::new(FaultEffect::Errno(errno)).kind(OperationKind::SyncDir));
        let error = segments.recycle_below(lsn).unwrap_err();
        assert!(matches!(error, Error::Io { .. }), "{error}");
        assert_eq!(segments.spare_count(), 0, "their names may be lost in a crash");
    }
}

#[test]
fn opening_removes_what_was_left_half_made_and_makes_spares_of_what_can_be_used() {
    let mut log = TestLog::create(GROWING);
    log.synced(&[b"one"]);
    let end = log.end().unwrap();
    let temporary = segment::temporary_path(&wal_dir(), 3);
    log.disk.write_file(&temporary, &[0; 4096]);
    for (number, length) in [(2, 128 << 10), (7, 512 << 10), (9, 8192), (11, 1 << 20)] {
        log.disk.write_file(&segment::path(&wal_dir(), number), &vec![0; length]);
    }
    let mut log = TestLog::reopen(log.disk, log.state, GROWING, &end);
    assert_eq!((log.segments.live_count(), log.segments.spare_count()), (1, 2));
    let names: Vec<_> = log.disk.files().into_iter().map(|(path, _)| path).collect();
    assert_eq!(names, [1, 2, 3].map(|number| segment::path(&wal_dir(), number)));
    assert_eq!(log.disk.unsynced_changes(), 0, "the names are durable before they are used");
    while log.segments.live_count() < 3 {
        log.synced(&[&noise(30_000, 1)]);
    }
    assert_eq!(log.segments.spare_count(), 0, "the spare with the far number was used as well");
    assert_eq!(log.end().unwrap().end_lsn, log.end_lsn());
}

#[test]
fn a_file_in_the_making_survives_what_happens_meanwhile() {
    let (disk, mut segments, mut lsn) = in_epoch(OPTIONS);
    for _ in 0..25 {
        place_cut(&mut segments, 5 * BLOCK_U64, &mut lsn).unwrap();
    }
    assert_eq!(segments.make_part().unwrap(), Made::Part);
    segments.recycle_below(lsn).unwrap();
    let spares = segments.spare_count();
    segments.make_spare().unwrap();
    assert_eq!(segments.spare_count(), spares + 1);
    for _ in 0..60 {
        place_cut(&mut segments, 5 * BLOCK_U64, &mut lsn).unwrap();
        segments.recycle_below(lsn).unwrap();
    }
    assert_eq!(allocated(&disk), segments.wal_bytes());
}

#[test]
fn the_current_segment_is_never_given_up() {
    let (_disk, mut segments, mut lsn) = in_epoch(OPTIONS);
    assert_eq!(segments.recycle_below(Lsn::MAX).unwrap(), 0);
    for _ in 0..40 {
        place_cut(&mut segments, 5 * BLOCK_U64, &mut lsn).unwrap();
    }
    let live = segments.live_count();
    assert!(live > 1);
    assert_eq!(segments.recycle_below(Lsn::MAX).unwrap(), to_u64(live - 1));
    assert_eq!(segments.live_count(), 1);
    assert!(segments.locate(lsn).is_some());
}

#[test]
fn a_last_segment_without_header_keeps_nothing_in_front_of_it_for_ever() {
    let mut log = TestLog::create(OPTIONS);
    while log.segments.live_count() < 3 {
        log.synced(&[&noise(30_000, 1)]);
    }
    let end = log.end().unwrap();
    let last = segment::path(&wal_dir(), 3);
    let mut bytes = log.disk.read_file(&last).unwrap();
    bytes[..BLOCK_BYTES].fill(0);
    log.disk.write_file(&last, &bytes);
    let mut log = TestLog::reopen(log.disk, log.state, OPTIONS, &end);
    assert_eq!(log.segments.recycle_below(Lsn::new(end.end_lsn.get() - 1)).unwrap(), 1);
    log.synced(&[b"on"]);
    assert_eq!(log.segments.recycle_below(log.end_lsn()).unwrap(), 1);
    assert_eq!(log.segments.live_count(), 1);
}

#[test]
fn after_a_crash_amid_recycling_the_log_that_is_needed_is_whole() {
    for (options, seed) in [(OPTIONS, 0), (OPTIONS, 1), (GROWING, 0), (GROWING, 2)] {
        let mut log = TestLog::create(options);
        // Where a durable master record says that reading begins, and what is promised.
        let mut masters = vec![(0, log.end_lsn(), None, log.end_lsn())];
        let mut frames = VecDeque::new();
        log.disk.record_forks_where(move |number| number % 3 == seed);
        for i in 0..150_u32 {
            let written = log.synced(&[&noise(usize::try_from(i * 977 % 20_000).unwrap(), i)]);
            frames.push_back(written.clone());
            let needed = frames.front().unwrap().clone();
            let operation = log.disk.operation_count();
            masters.push((operation, needed.lsn, Some(needed.at), written.end_lsn));
            if i % 4 == 3 {
                frames.drain(..frames.len() - 3);
                let needed = frames.front().unwrap();
                masters.push((operation, needed.lsn, Some(needed.at), written.end_lsn));
                log.segments.recycle_below(needed.lsn).unwrap();
                if log.segments.spare_count() == 0 {
                    log.segments.make_spare().unwrap();
                }
            }
        }
        assert!(log.segments.next_position().segment > 4);
        for fork in log.disk.take_forks() {
            let master = masters.iter().rev().find(|(operation, ..)| *operation < fork.operation());
            let &(_, start_lsn, start_at, promised) = master.unwrap();
            for (plan, disk) in fork.disk().crash_states(0..2) {
                let what = format!("{} {plan:?}", fork.describe());
                let files = testing::files(&disk, &log.state).unwrap();
                let query = TailQuery {
                    start_lsn,
                    start_at,
                    checkpoint_end_lsn: promised,
                    ..TailQuery::new(&log.state)
                };
                if promised == log.state.last_epoch().start_lsn {
                    continue;
                }
                let end =
                    find_end(&files, &query).unwrap_or_else(|error| panic!("{what}: {error}"));
                assert!(end.end_lsn >= promised, "{what}");
                assert!(allocated(&disk) <= options.max_wal_bytes);
                let mut next = TestLog::reopen(disk, log.state.clone(), options, &end);
                let last = next.synced(&[b"next"]);
                let files = next.files().unwrap();
                assert_eq!(find_end(&files, &query).unwrap().end_lsn, last.end_lsn, "{what}");
            }
        }
    }
}

#[test]
fn log_in_a_first_segment_whose_header_is_damaged_has_a_place() {
    for segments_used in 1..4 {
        let mut log = TestLog::create(OPTIONS);
        let mut places = Vec::new();
        while log.segments.live_count() < segments_used || places.len() < 3 {
            let written = log.synced(&[&noise(30_000, 1)]);
            places.push((written.lsn, written.at.segment));
        }
        let resume = log.segments.next_position();
        log.disk.flip_bit(&segment::path(&wal_dir(), 1), 5, 0);
        let segments =
            Segments::open(&log.disk, &wal_dir(), OPTIONS, resume, FrameIndex::new()).unwrap();
        for (lsn, segment) in places {
            let at = LogPosition { segment, offset: HEADER_U64 };
            assert_eq!(segments.locate(lsn), Some(at), "{lsn}");
        }
    }
}

#[test]
#[should_panic(expected = "the first frame of an epoch goes where its entry says")]
fn the_first_frame_of_an_epoch_must_be_cut_to_the_room() {
    let mut log = TestLog::create(OPTIONS);
    log.synced(&[b"one"]);
    while log.segments.current_room_bytes() > 2 * BLOCK_U64 {
        log.synced(&[b"more"]);
    }
    let end = log.end().unwrap();
    let entry = EpochEntry {
        epoch: Epoch::new(2),
        nonce: EpochNonce::new(2),
        start_lsn: log.end_lsn().advance(1 << 32),
        continues_from_lsn: log.end_lsn(),
        segment: end.resume_at.segment,
        offset: end.resume_at.offset,
    };
    log.segments.start_epoch(&entry, DatabaseId::new([1; 16]).log_identity(entry.nonce));
    log.segments.place_or_make(3 * BLOCK_U64, entry.start_lsn, entry.start_lsn).unwrap();
}

#[test]
fn on_a_real_file_system_the_blocks_allocated_stay_below_the_bound() {
    let dir = tempfile::tempdir().unwrap();
    let wal = dir.path().join("wal");
    let mut segments = TestSegments::create(Arc::new(BlockingDisk::new()), &wal, GROWING);
    let entry = EpochEntry {
        epoch: Epoch::new(1),
        nonce: EpochNonce::new(1),
        start_lsn: Lsn::new(1 << 32),
        continues_from_lsn: Lsn::NONE,
        segment: 1,
        offset: HEADER_U64,
    };
    segments.start_epoch(&entry, 1);
    let frame = AlignedBuf::new(3 * BLOCK_BYTES);
    let mut lsn = entry.start_lsn;
    loop {
        match segments.place_or_make(to_u64(frame.len()), lsn, lsn) {
            Ok(place) => place.file.write_sync_at(&frame, place.offset).unwrap(),
            Err(Error::NoSpace { .. }) => break,
            Err(error) => panic!("{error}"),
        }
        lsn = lsn.advance(8);
    }
    let disk = BlockingDisk::new();
    let sizes =
        disk.list(&wal).unwrap().into_iter().map(|name| disk.size(&wal.join(name)).unwrap());
    let allocated: u64 = sizes.map(|size| size.allocated_bytes).sum();
    assert!(allocated <= segments.wal_bytes(), "{allocated} of {}", segments.wal_bytes());
    assert!(segments.wal_bytes() <= GROWING.max_wal_bytes);
    assert!(segments.recycle_below(lsn).unwrap() > 0);
    segments.place_or_make(to_u64(frame.len()), lsn, lsn).unwrap();
}
