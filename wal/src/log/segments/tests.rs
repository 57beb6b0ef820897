use super::*;
use crate::disk::sim::{EIO, ENOSPC, Fault, FaultEffect, OperationKind, SimDisk};
use crate::log::testing::{self, OPTIONS, TestLog, noise, wal_dir};
use crate::log::{TailQuery, find_end};
use crate::{DatabaseId, EpochNonce};

fn allocated(disk: &SimDisk) -> u64 {
    disk.files().iter().filter(|(path, _)| path.starts_with(wal_dir())).map(|(_, len)| len).sum()
}

/// Places a frame as the append side does: cut to the room, or to a new segment's.
fn place_cut(segments: &mut Segments, wanted: u64, lsn: &mut Lsn) -> Result<u64> {
    let record = to_u64(frame_bytes(OPTIONS.record_bytes_max));
    let room = segments.current_room_bytes();
    let room = if room < record.min(wanted) { segments.segment_room_bytes() } else { room };
    let bytes = wanted.min(room);
    segments.place(bytes, *lsn, *lsn)?;
    *lsn = lsn.advance(bytes - 128);
    Ok(bytes)
}

fn in_epoch() -> (SimDisk, Segments, Lsn) {
    let TestLog { disk, state, segments, .. } = TestLog::create(OPTIONS);
    (disk, segments, state.last_epoch().start_lsn)
}

#[test]
fn the_bound_holds_at_every_operation() {
    let (disk, mut segments, mut lsn) = in_epoch();
    disk.record_forks();
    let mut kept = VecDeque::new();
    for i in 0..400_u64 {
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
        if i % 5 == 0 {
            segments.prepare_spare().unwrap();
        }
        assert!(segments.wal_bytes() >= allocated(&disk));
        assert!(segments.wal_bytes() <= OPTIONS.max_wal_bytes);
    }
    for fork in disk.take_forks() {
        assert!(allocated(fork.disk()) <= OPTIONS.max_wal_bytes, "{}", fork.describe());
    }
}

#[test]
fn what_is_said_to_be_available_can_be_placed() {
    for seed in 0..20_u64 {
        let (_disk, mut segments, mut lsn) = in_epoch();
        let mut i = seed;
        let promised = segments.available_bytes();
        let mut placed = 0;
        loop {
            i += 1;
            let before = segments.available_bytes();
            let wanted = (i * 7919 % 19 + 1) * BLOCK_U64;
            match place_cut(&mut segments, wanted, &mut lsn) {
                Ok(bytes) => {
                    placed += bytes;
                    let after = segments.available_bytes();
                    assert!(before.saturating_sub(after) <= bytes, "{before} {after} {bytes}");
                }
                Err(Error::NoSpace { .. }) => {
                    assert_eq!(before, 0);
                    break;
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert!(placed >= promised, "{placed} of {promised}");
    }
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
            let (disk, mut segments, lsn) = in_epoch();
            disk.add_fault(Fault::new(FaultEffect::Errno(errno)).kind(kind));
            let available = segments.available_bytes();
            let error = segments.place(BLOCK_U64, lsn, lsn).unwrap_err();
            assert!(matches!(error, Error::NoSpace { .. }), "{kind:?}: {error}");
            assert_eq!(segments.available_bytes(), available);
            let names = disk.files();
            assert!(!names.iter().any(|(path, _)| path.ends_with("tmp")), "{names:?}");
            let place = segments.place(BLOCK_U64, lsn, lsn).unwrap();
            assert_eq!((place.segment, place.offset), (1, HEADER_U64));
        }
    }
}

#[test]
fn a_failure_on_a_segment_that_is_owned_is_never_no_space() {
    for errno in [ENOSPC, EIO] {
        let (disk, mut segments, lsn) = in_epoch();
        assert!(segments.prepare_spare().unwrap());
        assert!(!segments.prepare_spare().unwrap(), "one spare is enough");
        disk.add_fault(Fault::new(FaultEffect::Errno(errno)).kind(OperationKind::Write));
        let error = segments.place(BLOCK_U64, lsn, lsn).unwrap_err();
        assert!(matches!(error, Error::Io { .. }), "{error}");
    }
}

#[test]
fn leftovers_that_cannot_be_removed_stay_in_the_books() {
    let (disk, mut segments, lsn) = in_epoch();
    disk.add_fault(Fault::new(FaultEffect::Errno(ENOSPC)).kind(OperationKind::Write));
    disk.add_fault(Fault::new(FaultEffect::Errno(EIO)).kind(OperationKind::Remove));
    assert!(segments.place(BLOCK_U64, lsn, lsn).is_err());
    assert!(segments.wal_bytes() >= allocated(&disk));
    assert!(allocated(&disk) > 0);
    segments.place(BLOCK_U64, lsn, lsn).unwrap();
    assert_eq!(disk.files().len(), 1);
}

#[test]
fn opening_removes_what_was_left_half_made_and_keeps_spares_of_the_right_size() {
    let mut log = TestLog::create(OPTIONS);
    log.synced(&[b"one"]);
    let end = log.end().unwrap();
    let temporary = segment::temporary_path(&wal_dir(), 3);
    let whole = vec![0; to_usize(OPTIONS.segment_bytes)];
    log.disk.write_file(&temporary, &whole[..4096]);
    log.disk.write_file(&segment::path(&wal_dir(), 2), &whole);
    log.disk.write_file(&segment::path(&wal_dir(), 7), &whole);
    log.disk.write_file(&segment::path(&wal_dir(), 9), &whole[..8192]);
    let mut log = TestLog::reopen(log.disk, log.state, OPTIONS, &end);
    assert_eq!((log.segments.live_count(), log.segments.spare_count()), (1, 2));
    assert_eq!(log.disk.files().len(), 3);
    while log.segments.live_count() < 3 {
        log.synced(&[&noise(30_000, 1)]);
    }
    assert_eq!(log.segments.spare_count(), 0, "the spare with the far number was used as well");
    assert_eq!(log.end().unwrap().end_lsn, log.end_lsn());
}

#[test]
fn the_plan_of_a_spare_survives_what_happens_meanwhile() {
    let (disk, mut segments, mut lsn) = in_epoch();
    let plan = segments.plan_spare().unwrap();
    assert!(segments.plan_spare().is_none());
    for _ in 0..25 {
        place_cut(&mut segments, 5 * BLOCK_U64, &mut lsn).unwrap();
    }
    segments.recycle_below(lsn).unwrap();
    let built = plan.build();
    segments.finish_spare(plan, built).unwrap();
    assert_eq!(segments.spare_count(), segments.spares_max());
    for _ in 0..60 {
        place_cut(&mut segments, 5 * BLOCK_U64, &mut lsn).unwrap();
        segments.recycle_below(lsn).unwrap();
    }
    assert!(allocated(&disk) <= segments.wal_bytes());
}

#[test]
fn the_current_segment_is_never_given_up() {
    let (_disk, mut segments, mut lsn) = in_epoch();
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
fn after_a_crash_amid_recycling_the_log_that_is_needed_is_whole() {
    for seed in 0..3 {
        let mut log = TestLog::create(OPTIONS);
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
                log.segments.prepare_spare().unwrap();
            }
        }
        assert!(log.segments.next_position().segment > 8);
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
                assert!(allocated(&disk) <= OPTIONS.max_wal_bytes);
                let mut next = TestLog::reopen(disk, log.state.clone(), OPTIONS, &end);
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
        let (disk, mut segments, mut lsn) = in_epoch();
        let mut places = Vec::new();
        while segments.live_count() < segments_used || places.len() < 3 {
            let start = lsn;
            place_cut(&mut segments, 9 * BLOCK_U64, &mut lsn).unwrap();
            places.push((start, segments.live_count()));
        }
        let resume = segments.next_position();
        disk.flip_bit(&segment::path(&wal_dir(), 1), 5, 0);
        let (dir, index) = (wal_dir(), FrameIndex::new());
        let disk: Arc<dyn Disk> = Arc::new(disk);
        let segments = Segments::open(disk, &dir, OPTIONS, resume, index).unwrap();
        for (lsn, segment) in places {
            assert_eq!(segments.locate(lsn), Some((to_u64(segment), HEADER_U64)), "{lsn}");
        }
    }
}

#[test]
fn sizes_that_do_not_go_together_are_refused() {
    let disk: Arc<dyn Disk> = Arc::new(SimDisk::new());
    let refused = [
        SegmentOptions { segment_bytes: OPTIONS.segment_bytes + 1, ..OPTIONS },
        SegmentOptions { segment_bytes: 64 << 10, ..OPTIONS },
        SegmentOptions { max_wal_bytes: 3 * OPTIONS.segment_bytes, ..OPTIONS },
    ];
    for options in refused {
        let result = Segments::create(Arc::clone(&disk), &wal_dir(), options);
        assert!(matches!(result, Err(Error::InvalidArgument(_))), "{options:?}");
    }
    for (bound, segment) in [(1 << 20, 1 << 20), (160 << 20, 10 << 20), (64 << 30, 64 << 20)] {
        assert_eq!(SegmentOptions::for_bound(bound, 65536).segment_bytes, segment);
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
    log.segments.place(3 * BLOCK_U64, entry.start_lsn, entry.start_lsn).unwrap();
}

#[test]
fn on_a_real_file_system_the_blocks_allocated_stay_below_the_bound() {
    use crate::disk::BlockingDisk;
    let dir = tempfile::tempdir().unwrap();
    let wal = dir.path().join("wal");
    let mut segments = Segments::create(Arc::new(BlockingDisk::new()), &wal, OPTIONS).unwrap();
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
        match segments.place(to_u64(frame.len()), lsn, lsn) {
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
    assert!(segments.wal_bytes() <= OPTIONS.max_wal_bytes);
    assert!(segments.recycle_below(lsn).unwrap() > 0);
    segments.place(to_u64(frame.len()), lsn, lsn).unwrap();
}
