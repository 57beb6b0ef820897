use super::*;
use crate::EpochNonce;
use crate::disk::Disk;
use crate::log::testing::{FIRST_OFFSET, OPTIONS, TestLog, damage, noise};
use crate::log::{RecordReader, TailQuery, find_end};
use crate::record::Body;

fn notes_of(log: &TestLog, from: Lsn, hint: Option<LogPosition>) -> Vec<Vec<u8>> {
    let mut reader = log.files().unwrap().reader(from, hint, None).unwrap();
    let mut notes = Vec::new();
    while let Some(record) = reader.next_record().unwrap() {
        let body = record.body().unwrap();
        match record.decode(&body).unwrap().body {
            Body::Note(note) => notes.push(note.to_vec()),
            Body::EpochStart(_) => {}
            other => panic!("{other:?}"),
        }
    }
    notes
}

/// Frames of several sizes over several segments.
fn long_log() -> (TestLog, Vec<(Lsn, Vec<u8>)>) {
    let mut log = TestLog::create(OPTIONS);
    let mut all = Vec::new();
    for i in 0..60_u32 {
        let one = noise(100 + to_len(i) * 700, i);
        let two = noise(10, i);
        let written = log.synced(&[&one, &two]);
        all.push((written.records[0], one));
        all.push((written.records[1], two));
        if i % 7 == 0 {
            log.synced(&[]);
        }
    }
    assert!(log.segments.live_count() > 4);
    (log, all)
}

fn to_len(i: u32) -> usize {
    usize::try_from(i % 40).unwrap()
}

#[test]
fn every_record_is_read_in_order_across_segments() {
    let (log, all) = long_log();
    let notes: Vec<_> = all.iter().map(|(_, note)| note.clone()).collect();
    assert_eq!(notes_of(&log, all[0].0, None), notes);
}

#[test]
fn reading_begins_at_any_record_with_and_without_a_hint() {
    let (log, all) = long_log();
    for (index, (lsn, _)) in all.iter().enumerate() {
        let notes: Vec<_> = all[index..].iter().map(|(_, note)| note.clone()).collect();
        let hint = log.segments.locate(*lsn);
        assert!(hint.is_some());
        assert_eq!(notes_of(&log, *lsn, hint), notes);
        assert_eq!(notes_of(&log, *lsn, None), notes);
    }
}

#[test]
fn single_records_are_found_backwards_and_cached() {
    let (log, all) = long_log();
    let mut reader = RecordReader::new(log.files().unwrap());
    for (lsn, note) in all.iter().rev() {
        let record = reader.read_record(*lsn, log.segments.locate(*lsn)).unwrap();
        let body = record.body().unwrap();
        assert_eq!(record.decode(&body).unwrap().body, Body::Note(note));
        let reads = log.disk.read_count();
        assert_eq!(reader.read_record(*lsn, None).unwrap(), record);
        assert_eq!(log.disk.read_count(), reads, "the frame just read is kept");
    }
    let between = Lsn::new(all[0].0.get() + 8);
    assert!(matches!(reader.read_record(between, None), Err(Error::Corrupt { .. })));
    assert!(reader.read_record(log.end_lsn(), None).is_err());
}

#[test]
fn a_reader_with_a_bound_refuses_a_log_that_ends_before() {
    let (log, all) = long_log();
    let files = log.files().unwrap();
    let mut reader = files.reader(all[0].0, None, Some(log.end_lsn())).unwrap();
    while reader.next_record().unwrap().is_some() {}
    let mut reader = files.reader(all[0].0, None, Some(log.end_lsn().advance(8))).unwrap();
    let error = loop {
        match reader.next_record() {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the log does not reach that far"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Corrupt { .. }));
    let until = all[5].0;
    let mut reader = files.reader(all[0].0, None, Some(until)).unwrap();
    let mut count = 0;
    while let Some(record) = reader.next_record().unwrap() {
        assert!(record.end_lsn <= until);
        count += 1;
    }
    assert_eq!(count, 5);
}

#[test]
fn a_read_error_is_an_error_and_not_the_end() {
    use crate::disk::sim::{EIO, Fault, FaultEffect, OperationKind};
    let (log, all) = long_log();
    let files = log.files().unwrap();
    log.disk.add_fault(
        Fault::new(FaultEffect::Errno(EIO)).kind(OperationKind::Read).at(log.disk.read_count() + 2),
    );
    let mut reader = files.reader(all[0].0, None, None).unwrap();
    let error = loop {
        match reader.next_record() {
            Ok(Some(_)) => {}
            Ok(None) => panic!("a read error was taken for the end"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, Error::Io { .. }), "{error}");
}

#[test]
fn frames_behind_the_decreed_end_do_not_count_even_if_they_come_back() {
    let mut log = TestLog::create(OPTIONS);
    let kept = log.synced(&[b"kept"]);
    let lost = log.unsynced(&[b"lost"]);
    let behind = log.unsynced(&[b"behind"]);
    let whole = log.disk.read_file(&lost.path).unwrap();
    damage(&log.disk, &lost.path, lost.at.offset, &[0; 4096]);
    let end = log.end().unwrap();
    assert_eq!(end.end_lsn, kept.end_lsn);
    assert!(end.resume_at > behind.at);

    let mut log = TestLog::reopen(log.disk, log.state, OPTIONS, &end);
    let first = log.synced(&[b"second epoch"]);
    assert_eq!(first.at, end.resume_at);
    let start = usize::try_from(lost.at.offset).unwrap();
    damage(&log.disk, &lost.path, lost.at.offset, &whole[start..start + 4096]);
    assert_eq!(notes_of(&log, kept.lsn, None), [b"kept".to_vec(), b"second epoch".to_vec()]);
    assert_eq!(log.end().unwrap().end_lsn, first.end_lsn);
}

#[test]
fn damage_in_front_of_a_decreed_end_is_corruption() {
    let mut log = TestLog::create(OPTIONS);
    let one = log.synced(&[b"one"]);
    let two = log.synced(&[b"two"]);
    let end = log.end().unwrap();
    let mut log = TestLog::reopen(log.disk, log.state, OPTIONS, &end);
    log.synced(&[b"three"]);
    damage(&log.disk, &two.path, two.at.offset + 140, b"x");
    let mut reader = log.files().unwrap().reader(one.records[0], None, None).unwrap();
    assert!(reader.next_record().unwrap().is_some());
    match reader.next_record() {
        Err(Error::Corrupt { file, offset, .. }) => {
            assert_eq!(file, two.path);
            assert!((two.at.offset..two.at.offset + 4096).contains(&offset));
        }
        other => panic!("{other:?}"),
    }
}

/// What is said of an epoch's first record that does not repeat the entry in `control`.
fn refused_epoch(lie: Option<EpochEntry>) -> (u64, String, String) {
    let mut log = TestLog::create(OPTIONS);
    log.synced(&[b"one"]);
    let end = log.end().unwrap();
    let mut log = TestLog::reopen(log.disk, log.state, OPTIONS, &end);
    log.lie_about_epoch(lie);
    let first = log.synced(&[b"two"]);
    let mut reader =
        log.files().unwrap().reader(log.state.epochs[0].start_lsn, None, None).unwrap();
    let while_reading = loop {
        match reader.next_record() {
            Ok(Some(record)) => assert!(record.lsn < first.lsn, "read as if it were right"),
            Ok(None) => panic!("taken for the end of the log"),
            Err(error) => break error,
        }
    };
    // Whoever decides where the log ends meets it as well.
    assert_eq!(log.end().unwrap_err().to_string(), while_reading.to_string());
    match while_reading {
        Error::Corrupt { file, offset, expected, found } => {
            assert_eq!(file, first.path);
            (offset - first.at.offset, expected, found)
        }
        other => panic!("{other}"),
    }
}

#[test]
fn an_epoch_whose_first_record_does_not_repeat_its_entry_in_control_is_corruption() {
    let mut log = TestLog::create(OPTIONS);
    log.synced(&[b"one"]);
    let end = log.end().unwrap();
    let entry = *TestLog::reopen(log.disk, log.state, OPTIONS, &end).state.last_epoch();
    let body_at = to_u64(FRAME_HEADER_BYTES + RECORD_HEADER_BYTES);
    let lies = [
        EpochEntry { epoch: Epoch::new(7), ..entry },
        EpochEntry { nonce: EpochNonce::new(7), ..entry },
        EpochEntry { start_lsn: entry.start_lsn.advance(8), ..entry },
        EpochEntry { continues_from_lsn: entry.continues_from_lsn.advance(8), ..entry },
        EpochEntry { segment: 7, ..entry },
        EpochEntry { offset: 7 * 4096, ..entry },
    ];
    for lie in lies {
        let (offset, expected, found) = refused_epoch(Some(lie));
        assert_eq!(offset, body_at);
        assert_eq!(expected, format!("{entry}, as `control` says"));
        assert_eq!(found, lie.to_string());
    }
    let (offset, _, found) = refused_epoch(None);
    assert_eq!((offset, found.as_str()), (body_at, "a record of kind Note"));
}

#[test]
fn the_start_of_an_epoch_is_compared_when_reading_begins_behind_it_unless_it_is_lost() {
    let mut log = TestLog::create(OPTIONS);
    let lie = EpochEntry { nonce: EpochNonce::new(7), ..log.state.epochs[0] };
    log.lie_about_epoch(Some(lie));
    let first = log.synced(&[b"one"]);
    let second = log.synced(&[b"two"]);
    let query = TailQuery {
        start_lsn: second.lsn,
        start_at: Some(second.at),
        ..TailQuery::new(&log.state)
    };
    let refused = find_end(&log.files().unwrap(), &query).unwrap_err();
    assert!(refused.to_string().contains("nonce 0x0000000000000007"), "{refused}");
    // Nothing needs a frame in front of the begin: whether it is whole is no matter.
    damage(&log.disk, &first.path, first.at.offset + 130, b"x");
    assert_eq!(find_end(&log.files().unwrap(), &query).unwrap().end_lsn, second.end_lsn);
    log.disk.remove_file(&first.path).unwrap();
    let missing = find_end(&log.files().unwrap(), &query).unwrap_err();
    assert!(missing.to_string().contains("no such file"), "{missing}");
}

#[test]
fn a_position_before_the_log_is_refused() {
    let log = TestLog::create(OPTIONS);
    let files = log.files().unwrap();
    assert!(matches!(files.reader(Lsn::new(8), None, None), Err(Error::Corrupt { .. })));
    let start = LogPosition { segment: 1, offset: FIRST_OFFSET };
    assert_eq!(files.last_epoch().first_at(), start);
}

#[test]
fn a_frame_fits_only_behind_the_very_frame_it_was_built_behind() {
    let mut log = TestLog::create(OPTIONS);
    let mut twin = TestLog::create(OPTIONS);
    // The second frame's stamps differ; positions and lengths are the same everywhere.
    log.synced(&[b"one"]);
    twin.unsynced(&[b"one"]);
    log.unsynced(&[b"two"]);
    twin.unsynced(&[b"two"]);
    let last = log.unsynced(&[b"three"]);
    twin.unsynced(&[b"three"]);
    let start = usize::try_from(last.at.offset).unwrap();
    let foreign = twin.disk.read_file(&last.path).unwrap();
    damage(&log.disk, &last.path, last.at.offset, &foreign[start..start + 4096]);
    let files = log.files().unwrap();
    let mut reader = files.reader(log.state.epochs[0].start_lsn, None, None).unwrap();
    while reader.next_record().unwrap().is_some() {}
    assert_eq!(reader.stop().unwrap().lsn, last.lsn);
}
