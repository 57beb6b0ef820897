//! What a mark promised is there after a crash or a failure, and the writer goes on behind it.

use seawall_wal::disk::sim::{CrashPlan, EIO, ENOSPC, Fault, FaultEffect};

use super::*;

#[test]
fn a_torn_tail_beyond_the_mark_is_ignored_and_cut() {
    let disk = new_disk();
    let records = mixed(60);
    let (early, late) = records.split_at(30);
    let mut writer = create(&disk).unwrap();
    append(&mut writer, early).unwrap();
    let mark = writer.sync().unwrap();
    append(&mut writer, late).unwrap();
    writer.sync().unwrap();
    drop(writer);
    let mut bytes = disk.read_file(&file_path()).unwrap();
    bytes[to_usize(mark.length)..].fill(0x55);
    disk.write_file(&file_path(), &bytes);
    check_holds(&disk, mark, early).unwrap();
    let mut writer = resume(&disk, mark.length).unwrap();
    assert_eq!(writer.mark(), mark);
    assert_eq!(files(&disk, dir()).unwrap(), [(TXN, mark.length)]);
    // It may go on differently: the crash may have undone some of it.
    append(&mut writer, &late[..10]).unwrap();
    append(&mut writer, &late[20..]).unwrap();
    let mark = writer.sync().unwrap();
    let left = [early, &late[..10], &late[20..]].concat();
    check_holds(&disk, mark, &left).unwrap();
}

/// What a mark promised from some operation on.
struct Promise {
    operation: u64,
    mark: SpillMark,
    records: usize,
}

/// Writes the records with a sync behind every `step`, and says what was promised when.
fn run(disk: &SimDisk, records: &Records, step: usize) -> Vec<Promise> {
    let mut writer = create(disk).unwrap();
    let mut promises = Vec::new();
    let mut count = 0;
    for chunk in records.chunks(step) {
        append(&mut writer, chunk).unwrap();
        count += chunk.len();
        let mark = writer.sync().unwrap();
        promises.push(Promise { operation: disk.operation_count(), mark, records: count });
    }
    promises
}

#[test]
fn what_a_mark_promised_survives_a_crash_at_any_operation() {
    let disk = new_disk();
    let records = mixed(40);
    disk.record_forks();
    let promises = run(&disk, &records, 4);
    let mut cuts = 0;
    for fork in disk.take_forks() {
        let before = |promise: &&Promise| promise.operation < fork.operation();
        let promise = promises.iter().rev().find(before);
        for (plan, crashed) in fork.disk().crash_states(0..8) {
            let cut = format!("before {} ({plan:?})", fork.describe());
            cuts += 1;
            let (mut writer, count) = match promise {
                Some(&Promise { mark, records: count, .. }) => {
                    let held = check_holds(&crashed, mark, &records[..count]);
                    held.unwrap_or_else(|error| panic!("{error}; cut {cut}"));
                    let writer = resume(&crashed, mark.length).unwrap();
                    assert_eq!(writer.mark(), mark, "cut {cut}");
                    (writer, count)
                }
                None => (create(&crashed).unwrap(), 0),
            };
            // Whatever is left beyond, the next mark promises as much, and a crash keeps it.
            append(&mut writer, &records[count..]).unwrap();
            let mark = writer.sync().unwrap();
            let again = crashed.crash(CrashPlan::NothingUnsynced);
            let held = check_holds(&again, mark, &records);
            held.unwrap_or_else(|error| panic!("{error}; cut {cut} and again"));
        }
    }
    assert!(cuts > 200, "{cuts} cuts only");
}

#[test]
fn a_folder_that_a_killed_process_made_is_durable_with_the_first_file() {
    let disk = new_disk();
    disk.create_dir(&folder(dir())).unwrap();
    let killed = disk.fork();
    let records = small(5);
    let mark = filled(&killed, &records);
    check_holds(&killed.crash(CrashPlan::NothingUnsynced), mark, &records).unwrap();
}

#[test]
fn after_a_failure_at_any_operation_the_writer_goes_on_from_its_mark() {
    let records = mixed(30);
    let operations = {
        let disk = new_disk();
        run(&disk, &records, 9);
        disk.operation_count()
    };
    let effects = [
        FaultEffect::Errno(ENOSPC),
        FaultEffect::Errno(EIO),
        FaultEffect::TornWrite { sectors: 3, errno: ENOSPC },
    ];
    let before = new_disk().operation_count();
    let faults = (before + 1..=operations).flat_map(|at| effects.map(|effect| (at, effect)));
    for ((number, effect), is_direct) in faults.flat_map(|it| [(it, true), (it, false)]) {
        let disk = new_disk();
        disk.set_direct(is_direct);
        disk.add_fault(Fault::new(effect).at(number));
        let mut failures = 0;
        let mut check_kind = |error: &Error| {
            failures += 1;
            let is_full = matches!(error, Error::NoSpace { .. });
            assert_eq!(is_full, effect != FaultEffect::Errno(EIO), "{error} at {number}");
        };
        let mut writer = loop {
            match create(&disk) {
                Ok(writer) => break writer,
                Err(error) => check_kind(&error),
            }
        };
        let mut until = 0;
        while until < records.len() {
            until = (until + 9).min(records.len());
            loop {
                let upto = writer.mark().spilled_upto;
                let from = records.partition_point(|(lsn, _)| *lsn < upto);
                let appended = append(&mut writer, &records[from..until]);
                match appended.and_then(|()| writer.sync()) {
                    Ok(mark) => {
                        assert_eq!(mark.spilled_upto, records[until - 1].0.advance(1));
                        break;
                    }
                    Err(error) => {
                        check_kind(&error);
                        assert_eq!(writer.mark().spilled_upto, upto);
                    }
                }
            }
        }
        assert_eq!(failures, 1, "fault at {number}");
        let crashed = disk.crash(CrashPlan::NothingUnsynced);
        let held = check_holds(&crashed, writer.mark(), &records);
        held.unwrap_or_else(|error| panic!("{error}; {effect:?} at {number}"));
    }
}

#[test]
fn a_full_disk_gets_its_room_back_and_is_tried_again() {
    let disk = new_disk();
    let records = small(20_000);
    let (early, late) = records.split_at(2000);
    let mut writer = create(&disk).unwrap();
    append(&mut writer, early).unwrap();
    let mark = writer.sync().unwrap();
    disk.set_capacity(Some(mark.length + (1 << 20)));
    for _ in 0..2 {
        let full = append(&mut writer, late).and_then(|()| writer.sync());
        assert!(matches!(full, Err(Error::NoSpace { .. })), "{full:?}");
        assert_eq!((writer.mark(), disk.used_bytes()), (mark, mark.length));
        check_holds(&disk, mark, early).unwrap();
    }
    disk.set_capacity(None);
    append(&mut writer, late).unwrap();
    check_holds(&disk, writer.sync().unwrap(), &records).unwrap();
}
