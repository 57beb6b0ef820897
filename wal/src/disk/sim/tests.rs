//! One test for each rule of crashes and faults.

use std::io;
use std::path::Path;
use std::sync::Arc;

use super::{CrashPlan, EIO, ENOSPC, FailedSync, Fault, FaultEffect, OperationKind, SimDisk};
use crate::disk::{Access, Disk, DiskFile, OpenMode};
use crate::sync::Mutex;

const FILE: &str = "/db/file";

/// A disk with an empty directory `/db`, all durable, and nothing counted.
fn disk() -> SimDisk {
    let disk = SimDisk::new();
    disk.create_dir(Path::new("/db")).unwrap();
    disk.sync_dir(Path::new("/")).unwrap();
    disk.crash(CrashPlan::NothingUnsynced)
}

fn create(disk: &SimDisk, path: &str) -> Arc<dyn DiskFile> {
    disk.open(Path::new(path), OpenMode::Create, Access::Buffered).unwrap()
}

/// A file with its name and these bytes durable.
fn settled(disk: &SimDisk, bytes: &[u8]) -> Arc<dyn DiskFile> {
    disk.write_file(Path::new(FILE), bytes);
    disk.open(Path::new(FILE), OpenMode::ReadWrite, Access::Buffered).unwrap()
}

fn bytes(disk: &SimDisk) -> Vec<u8> {
    disk.read_file(Path::new(FILE)).unwrap()
}

fn names(disk: &SimDisk) -> Vec<String> {
    let files = disk.files().into_iter();
    files.map(|(path, _)| path.to_str().unwrap().to_owned()).collect()
}

fn after(disk: &SimDisk, plan: CrashPlan) -> Vec<u8> {
    bytes(&disk.crash(plan))
}

fn errno(outcome: io::Result<()>) -> Option<i32> {
    outcome.unwrap_err().raw_os_error()
}

#[test]
fn unsynced_write_is_lost_when_nothing_survives() {
    let disk = disk();
    let file = settled(&disk, b"old");
    file.write_at(b"new", 0).unwrap();
    assert_eq!(bytes(&disk), b"new");
    assert_eq!(after(&disk, CrashPlan::NothingUnsynced), b"old");
    assert_eq!(after(&disk, CrashPlan::Everything), b"new");
}

#[test]
fn synced_write_survives_every_crash() {
    let disk = disk();
    let file = settled(&disk, b"old");
    file.write_at(&[7; 3000], 0).unwrap();
    file.sync().unwrap();
    for plan in CrashPlan::all(0..20) {
        assert_eq!(after(&disk, plan), [7; 3000]);
    }
    assert_eq!(disk.unsynced_changes(), 0);
    assert_eq!(disk.crash_states(0..20).count(), 1);
}

#[test]
fn write_sync_makes_only_its_own_bytes_durable() {
    let disk = disk();
    let file = settled(&disk, b"aaaaaaaa");
    file.write_at(b"bb", 0).unwrap();
    file.write_sync_at(b"cc", 4).unwrap();
    assert_eq!(after(&disk, CrashPlan::NothingUnsynced), b"aaaaccaa");
    assert_eq!(after(&disk, CrashPlan::Everything), b"bbaaccaa");
}

#[test]
fn older_unsynced_bytes_never_cover_newer_synced_ones() {
    let disk = disk();
    let file = settled(&disk, b"aaaa");
    file.write_at(b"bbbb", 0).unwrap();
    file.write_sync_at(b"cc", 1).unwrap();
    for plan in CrashPlan::all(0..50) {
        let left = after(&disk, plan);
        assert!(left == b"acca" || left == b"bccb", "{plan:?} left {left:?}");
    }
}

#[test]
fn sync_of_one_file_does_nothing_for_another() {
    let disk = disk();
    let file = settled(&disk, b"old");
    let other = create(&disk, "/db/other");
    file.write_at(b"new", 0).unwrap();
    other.sync().unwrap();
    assert_eq!(after(&disk, CrashPlan::NothingUnsynced), b"old");
}

#[test]
fn cut_that_is_not_synced_can_be_undone() {
    let disk = disk();
    let file = settled(&disk, b"12345678");
    file.set_len(3).unwrap();
    assert_eq!(after(&disk, CrashPlan::NothingUnsynced), b"12345678");
    assert_eq!(after(&disk, CrashPlan::Everything), b"123");
    file.sync().unwrap();
    assert_eq!(after(&disk, CrashPlan::NothingUnsynced), b"123");
}

#[test]
fn sectors_survive_one_by_one() {
    let disk = disk();
    let file = settled(&disk, &[0; 4096]);
    file.write_at(&[1; 4096], 0).unwrap();
    let mut mixed = 0;
    for seed in 0..50 {
        let left = after(&disk, CrashPlan::Sectors { seed });
        assert_eq!(left, after(&disk, CrashPlan::Sectors { seed }), "a seed decides everything");
        for sector in left.chunks(512) {
            assert!(sector.iter().all(|&byte| byte == sector[0]), "a sector is whole");
        }
        mixed += usize::from(left.contains(&0) && left.contains(&1));
    }
    assert!(mixed > 25);
}

#[test]
fn lost_sectors_of_a_growing_write_may_read_as_zeros() {
    let disk = disk();
    let file = settled(&disk, b"");
    file.write_at(&[1; 4096], 0).unwrap();
    let lengths = (0..100).map(|seed| after(&disk, CrashPlan::Sectors { seed }));
    let found: Vec<_> = lengths.collect();
    assert!(found.iter().any(|left| left.len() < 4096));
    assert!(found.iter().any(|left| left.ends_with(&[0; 512])));
}

#[test]
fn only_the_last_write_tears() {
    let disk = disk();
    let file = settled(&disk, &[0; 8192]);
    file.write_at(&[1; 4096], 0).unwrap();
    file.write_at(&[2; 4096], 4096).unwrap();
    let (mut prefixes, mut suffixes) = (0, 0);
    for seed in 0..50 {
        let left = after(&disk, CrashPlan::Torn { seed });
        assert_eq!(left[..4096], [1; 4096]);
        assert_ne!(left[4096..], [2; 4096], "the last write is never whole");
        prefixes += usize::from(left[4096] == 2);
        suffixes += usize::from(left[8191] == 2);
    }
    assert!(prefixes > 5 && suffixes > 5);
}

#[test]
fn reordered_writes_survive_whole_in_any_combination() {
    let disk = disk();
    let file = settled(&disk, &[0; 2048]);
    file.write_at(&[1; 1024], 0).unwrap();
    file.write_at(&[2; 1024], 1024).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..100 {
        let left = after(&disk, CrashPlan::Reordered { seed });
        assert!(left[..1024].iter().all(|&byte| byte == left[0]));
        assert!(left[1024..].iter().all(|&byte| byte == left[1024]));
        seen.insert((left[0], left[1024]));
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [(0, 0), (0, 2), (1, 0), (1, 2)]);
}

#[test]
fn created_file_without_directory_sync_can_vanish() {
    let disk = disk();
    let file = create(&disk, FILE);
    file.write_at(b"data", 0).unwrap();
    file.sync().unwrap();
    assert!(names(&disk.crash(CrashPlan::NothingUnsynced)).is_empty());
    assert_eq!(after(&disk, CrashPlan::Everything), b"data");
    disk.sync_dir(Path::new("/db")).unwrap();
    assert_eq!(after(&disk, CrashPlan::NothingUnsynced), b"data");
}

#[test]
fn synced_name_does_not_bring_its_contents() {
    let disk = disk();
    let file = create(&disk, FILE);
    file.write_at(b"data", 0).unwrap();
    disk.sync_dir(Path::new("/db")).unwrap();
    assert_eq!(after(&disk, CrashPlan::NothingUnsynced), b"");
}

#[test]
fn rename_without_directory_sync_can_be_undone() {
    let disk = disk();
    disk.write_file(Path::new("/db/from"), b"from");
    disk.write_file(Path::new("/db/to"), b"to");
    disk.rename(Path::new("/db/from"), Path::new("/db/to")).unwrap();
    assert_eq!(names(&disk), ["/db/to"]);
    let undone = disk.crash(CrashPlan::NothingUnsynced);
    assert_eq!(names(&undone), ["/db/from", "/db/to"]);
    assert_eq!(undone.read_file(Path::new("/db/to")).unwrap(), b"to");
    disk.sync_dir(Path::new("/db")).unwrap();
    let kept = disk.crash(CrashPlan::NothingUnsynced);
    assert_eq!(names(&kept), ["/db/to"]);
    assert_eq!(kept.read_file(Path::new("/db/to")).unwrap(), b"from");
}

#[test]
fn removed_file_can_come_back() {
    let disk = disk();
    settled(&disk, b"back");
    disk.remove_file(Path::new(FILE)).unwrap();
    assert!(names(&disk).is_empty());
    assert_eq!(after(&disk, CrashPlan::NothingUnsynced), b"back");
    disk.sync_dir(Path::new("/db")).unwrap();
    assert!(names(&disk.crash(CrashPlan::NothingUnsynced)).is_empty());
}

#[test]
fn removed_file_stays_readable_while_it_is_open() {
    let disk = disk();
    let file = settled(&disk, b"open");
    disk.remove_file(Path::new(FILE)).unwrap();
    disk.sync_dir(Path::new("/db")).unwrap();
    let mut buf = [0; 4];
    file.read_at(&mut buf, 0).unwrap();
    assert_eq!(&buf, b"open");
    drop(file);
    disk.sync_dir(Path::new("/db")).unwrap();
    assert_eq!(disk.used_bytes(), 0);
}

#[test]
fn directory_changes_survive_as_a_prefix() {
    let disk = disk();
    for name in ["/db/1", "/db/2", "/db/3", "/db/4"] {
        create(&disk, name);
    }
    let all = ["/db/1", "/db/2", "/db/3", "/db/4"];
    let mut lengths = std::collections::BTreeSet::new();
    for seed in 0..100 {
        let left = names(&disk.crash(CrashPlan::Reordered { seed }));
        assert_eq!(left, all[..left.len()]);
        lengths.insert(left.len());
    }
    assert_eq!(lengths.len(), 5);
}

#[test]
fn operations_are_counted_and_described() {
    let disk = disk();
    let file = create(&disk, FILE);
    file.write_at(b"12", 3).unwrap();
    file.write_sync_at(b"1", 0).unwrap();
    file.set_len(9).unwrap();
    file.sync().unwrap();
    disk.create_dir(Path::new("/db/a/b")).unwrap();
    disk.create_dir(Path::new("/db/a/b")).unwrap();
    disk.rename(Path::new(FILE), Path::new("/db/to")).unwrap();
    disk.remove_file(Path::new("/db/to")).unwrap();
    disk.sync_dir(Path::new("/db")).unwrap();
    let log: Vec<_> = (1..=disk.operation_count()).filter_map(|it| disk.describe(it)).collect();
    let expected = [
        "create /db/file",
        "write /db/file 3+2",
        "write /db/file 0+1",
        "write-sync /db/file 0+1",
        "set-len /db/file 9",
        "sync /db/file",
        "create-dir /db/a",
        "create-dir /db/a/b",
        "rename /db/file",
        "remove /db/to",
        "sync-dir /db",
    ];
    assert_eq!(log, expected);
    assert_eq!(disk.describe(0), None);
    assert_eq!(disk.describe(12), None);
}

#[test]
fn fork_is_independent() {
    let disk = disk();
    let file = settled(&disk, b"both");
    file.write_at(b"B", 0).unwrap();
    let fork = disk.fork();
    file.write_at(b"mine", 0).unwrap();
    assert_eq!(bytes(&fork), b"Both");
    assert_eq!(after(&fork, CrashPlan::NothingUnsynced), b"both");
    fork.remove_file(Path::new(FILE)).unwrap();
    assert_eq!(bytes(&disk), b"mine");
}

#[test]
fn a_fork_is_kept_before_each_operation() {
    let disk = disk();
    let file = settled(&disk, b"0");
    disk.record_forks();
    file.write_at(b"1", 0).unwrap();
    file.sync().unwrap();
    file.write_at(b"2", 0).unwrap();
    let forks = disk.take_forks();
    let seen: Vec<_> = forks
        .iter()
        .map(|fork| {
            let left = after(fork.disk(), CrashPlan::NothingUnsynced)[0];
            (fork.operation(), fork.describe(), bytes(fork.disk())[0], left)
        })
        .collect();
    let expected = [
        (1, "write /db/file 0+1".to_owned(), b'0', b'0'),
        (2, "sync /db/file".to_owned(), b'1', b'0'),
        (3, "write /db/file 0+1".to_owned(), b'1', b'1'),
    ];
    assert_eq!(seen, expected);
    file.sync().unwrap();
    assert!(disk.take_forks().is_empty(), "recording has stopped");
}

#[test]
fn forks_are_kept_only_where_wanted() {
    let disk = disk();
    let file = settled(&disk, b"");
    disk.record_forks_where(|number| number == 2);
    for _ in 0..3 {
        file.sync().unwrap();
    }
    assert!(disk.take_forks().iter().map(super::SimFork::operation).eq([2]));
}

#[test]
fn synced_write_in_flight_can_tear() {
    let disk = disk();
    let file = settled(&disk, &[0; 4096]);
    disk.record_forks();
    file.write_sync_at(&[1; 4096], 0).unwrap();
    let forks = disk.take_forks();
    assert_eq!(forks.len(), 2);
    assert_eq!(after(forks[0].disk(), CrashPlan::Everything), [0; 4096]);
    let torn = after(forks[1].disk(), CrashPlan::Torn { seed: 1 });
    assert!(torn.contains(&0) && torn.contains(&1));
    assert_eq!(after(&disk, CrashPlan::NothingUnsynced), [1; 4096]);
}

#[test]
fn crashed_disk_holds_no_lock() {
    let disk = disk();
    let path = Path::new("/db/LOCK");
    let lock = disk.lock(path).unwrap();
    assert_eq!(disk.clone().lock(path).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    for crashed in [disk.crash(CrashPlan::Everything), disk.fork()] {
        crashed.lock(path).unwrap();
    }
    drop(lock);
    disk.lock(path).unwrap();
}

#[test]
fn nth_operation_fails_once() {
    let disk = disk();
    let file = settled(&disk, b"....");
    disk.add_fault(Fault::new(FaultEffect::Errno(EIO)).at(2));
    file.write_at(b"1", 0).unwrap();
    assert_eq!(errno(file.write_at(b"2", 1)), Some(EIO));
    file.write_at(b"3", 2).unwrap();
    assert_eq!(bytes(&disk), b"1.3.");
    assert_eq!(disk.operation_count(), 3);
}

#[test]
fn lasting_fault_strikes_its_kind_and_path_alone() {
    let disk = disk();
    let file = settled(&disk, b"");
    let other = create(&disk, "/db/other");
    let fault = Fault::new(FaultEffect::Kind(io::ErrorKind::TimedOut));
    let fault = fault.kind(OperationKind::Sync).path(|path| path.ends_with("other"));
    disk.add_fault(fault.lasting());
    for _ in 0..2 {
        file.sync().unwrap();
        other.write_at(b"1", 0).unwrap();
        assert_eq!(other.sync().unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
    disk.clear_faults();
    other.sync().unwrap();
}

#[test]
fn reads_are_counted_and_fail_apart() {
    let disk = disk();
    let file = settled(&disk, b"1");
    disk.add_fault(Fault::new(FaultEffect::Errno(EIO)).kind(OperationKind::Read).at(2));
    file.write_at(b"2", 0).unwrap();
    let mut buf = [0];
    file.read_at(&mut buf, 0).unwrap();
    assert_eq!(errno(file.read_at(&mut buf, 0)), Some(EIO));
    file.read_at(&mut buf, 0).unwrap();
    assert_eq!((disk.read_count(), disk.operation_count()), (3, 1));
}

#[test]
fn failed_name_changes_change_nothing() {
    let disk = disk();
    settled(&disk, b"kept");
    disk.add_fault(Fault::new(FaultEffect::Errno(EIO)).lasting());
    let (path, to) = (Path::new(FILE), Path::new("/db/to"));
    assert_eq!(errno(disk.rename(path, to)), Some(EIO));
    assert_eq!(errno(disk.remove_file(path)), Some(EIO));
    assert_eq!(errno(disk.create_dir(to)), Some(EIO));
    assert_eq!(errno(disk.sync_dir(Path::new("/db"))), Some(EIO));
    assert_eq!(errno(disk.open(to, OpenMode::Create, Access::Direct).map(drop)), Some(EIO));
    assert_eq!(names(&disk), [FILE]);
}

#[test]
fn growth_beyond_the_capacity_is_refused() {
    let disk = disk();
    let file = settled(&disk, b"1234");
    disk.set_capacity(Some(6));
    file.write_at(b"56", 4).unwrap();
    let refused = file.write_at(b"7", 6).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::StorageFull);
    assert_eq!(refused.raw_os_error(), Some(ENOSPC));
    assert_eq!(errno(file.set_len(7)), Some(ENOSPC));
    assert_eq!(errno(file.write_sync_at(b"7", 6)), Some(ENOSPC));
    file.write_at(b"abcdef", 0).unwrap();
    disk.set_capacity(Some(7));
    file.set_len(7).unwrap();
    disk.set_capacity(None);
    file.set_len(1 << 30).unwrap();
    assert_eq!(disk.used_bytes(), 1 << 30);
}

#[test]
fn torn_write_reports_its_error() {
    let disk = disk();
    let file = settled(&disk, &[0; 2048]);
    disk.add_fault(Fault::new(FaultEffect::TornWrite { sectors: 1, errno: EIO }));
    assert_eq!(errno(file.write_at(&[1; 2048], 0)), Some(EIO));
    assert_eq!(bytes(&disk), [[1; 512], [0; 512], [0; 512], [0; 512]].concat());
}

#[test]
fn dropped_write_never_lands() {
    let disk = disk();
    let file = settled(&disk, b"old");
    let dropped = Fault::new(FaultEffect::Ignored).kind(OperationKind::Write);
    disk.add_fault(dropped.clone());
    file.write_sync_at(b"new", 0).unwrap();
    file.sync().unwrap();
    assert_eq!(bytes(&disk), b"old");
    assert_eq!(after(&disk, CrashPlan::Everything), b"old");
    disk.add_fault(dropped);
    file.write_at(b"more", 2).unwrap();
    assert_eq!(bytes(&disk), b"old\0\0\0");
}

#[test]
fn misdirected_write_lands_elsewhere() {
    let disk = disk();
    let file = settled(&disk, b"........");
    disk.add_fault(Fault::new(FaultEffect::Misdirected { offset: 6 }));
    file.write_sync_at(b"xx", 0).unwrap();
    assert_eq!(bytes(&disk), b"......xx");
    assert_eq!(after(&disk, CrashPlan::NothingUnsynced), b"......xx");
}

#[test]
fn lying_sync_makes_nothing_durable() {
    let disk = disk();
    let file = settled(&disk, b"old");
    file.write_at(b"new", 0).unwrap();
    disk.add_fault(Fault::new(FaultEffect::Ignored).kind(OperationKind::Sync));
    file.sync().unwrap();
    assert_eq!(after(&disk, CrashPlan::NothingUnsynced), b"old");
    file.sync().unwrap();
    assert_eq!(after(&disk, CrashPlan::NothingUnsynced), b"new");
}

#[test]
fn failed_sync_loses_writes_that_stay_visible() {
    let disk = disk();
    let file = settled(&disk, b"old");
    file.write_at(b"new", 0).unwrap();
    disk.add_fault(Fault::new(FaultEffect::Errno(EIO)).kind(OperationKind::Sync));
    assert_eq!(errno(file.sync()), Some(EIO));
    assert_eq!(bytes(&disk), b"new");
    file.write_at(b"!", 3).unwrap();
    file.sync().unwrap();
    for plan in CrashPlan::all(0..3) {
        assert_eq!(after(&disk, plan), b"old!");
    }
    assert_eq!(bytes(&disk), b"new!");
    disk.drop_caches();
    assert_eq!(bytes(&disk), b"old!");
}

#[test]
fn failed_write_sync_loses_only_its_own_bytes() {
    let disk = disk();
    let file = settled(&disk, b"....");
    file.write_at(b"1", 0).unwrap();
    disk.add_fault(Fault::new(FaultEffect::Errno(EIO)).kind(OperationKind::WriteSync));
    assert_eq!(errno(file.write_sync_at(b"2", 1)), Some(EIO));
    file.sync().unwrap();
    assert_eq!(bytes(&disk), b"12..");
    assert_eq!(after(&disk, CrashPlan::Everything), b"1...");
}

#[test]
fn failed_sync_can_keep_the_writes_for_the_next() {
    let disk = disk();
    disk.set_failed_sync(FailedSync::KeepsWrites);
    let file = settled(&disk, b"old");
    file.write_at(b"new", 0).unwrap();
    disk.add_fault(Fault::new(FaultEffect::Errno(EIO)).kind(OperationKind::Sync));
    assert_eq!(errno(file.sync()), Some(EIO));
    assert_eq!(after(&disk, CrashPlan::NothingUnsynced), b"old");
    file.sync().unwrap();
    assert_eq!(after(&disk, CrashPlan::NothingUnsynced), b"new");
}

#[test]
fn flipped_bit_is_flipped_everywhere() {
    let disk = disk();
    let file = settled(&disk, b"aaaa");
    file.write_at(b"cc", 0).unwrap();
    disk.flip_bit(Path::new(FILE), 1, 0);
    disk.flip_bit(Path::new(FILE), 3, 1);
    assert_eq!(bytes(&disk), b"cbac");
    assert_eq!(after(&disk, CrashPlan::Everything), b"cbac");
    assert_eq!(after(&disk, CrashPlan::NothingUnsynced), b"a`ac");
}

#[test]
fn monitor_sees_each_operation_before_it_runs() {
    let disk = disk();
    let file = settled(&disk, b"0");
    let seen = Arc::new(Mutex::new(Vec::new()));
    disk.set_monitor(Arc::new({
        let (seen, disk) = (Arc::clone(&seen), disk.clone());
        move |operation| {
            assert_eq!(operation.path, Path::new(FILE));
            seen.lock().push((operation.kind, operation.bytes.to_vec(), bytes(&disk)));
        }
    }));
    file.write_sync_at(b"1", 0).unwrap();
    file.read_at(&mut [0], 0).unwrap();
    let expected = [
        (OperationKind::Write, b"1".to_vec(), b"0".to_vec()),
        (OperationKind::WriteSync, b"1".to_vec(), b"1".to_vec()),
        (OperationKind::Read, Vec::new(), b"1".to_vec()),
    ];
    assert_eq!(*seen.lock(), expected);
}

/// Everything that a disk holds.
fn holding(disk: &SimDisk) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let files = disk.files().into_iter();
    files.map(|(path, _)| (path.clone(), disk.read_file(&path).unwrap())).collect()
}

#[test]
fn crash_states_cover_every_plan_and_give_no_disk_twice() {
    let disk = disk();
    let file = settled(&disk, &[0; 4096]);
    let other = create(&disk, "/db/other");
    for number in 1..5 {
        file.write_at(&[number; 2048], u64::from(number) * 2048).unwrap();
        other.write_at(&[number; 700], u64::from(number) * 700).unwrap();
    }
    let states: Vec<_> = disk.crash_states(5..8).collect();
    for (index, (plan, one)) in states.iter().enumerate() {
        for (other_plan, other) in &states[..index] {
            assert!(holding(one) != holding(other), "{plan:?} and {other_plan:?}");
        }
    }
    let all: Vec<_> = CrashPlan::all(5..8).collect();
    assert_eq!(all.len(), 4 + 3 * 6);
    for plan in all {
        let left = holding(&disk.crash(plan));
        assert!(states.iter().any(|(_, state)| holding(state) == left), "{plan:?} is missing");
    }
}

#[test]
fn crashes_that_differ_have_lineages_that_differ_and_repeat() {
    let disk = disk();
    let file = settled(&disk, b"old");
    file.write_at(b"new", 0).unwrap();
    let lineages: Vec<_> =
        CrashPlan::all(0..0).take(2).map(|plan| disk.crash(plan).lineage()).collect();
    let again = CrashPlan::all(0..0).take(2).map(|plan| disk.crash(plan).lineage());
    assert!(lineages.iter().copied().eq(again));
    let twice = disk.crash(CrashPlan::Everything).crash(CrashPlan::Everything).lineage();
    let all = std::collections::BTreeSet::from([disk.lineage(), lineages[0], lineages[1], twice]);
    assert_eq!(all.len(), 4);
}

#[test]
fn all_writes_tear_with_a_prefix_each() {
    let disk = disk();
    let file = settled(&disk, &[0; 4096]);
    file.write_at(&[1; 2048], 0).unwrap();
    file.write_at(&[2; 2048], 2048).unwrap();
    let mut lengths = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let left = after(&disk, CrashPlan::AllTorn { seed });
        let kept = |half: &[u8], number| half.iter().filter(|&&byte| byte == number).count();
        let (first, second) = (kept(&left[..2048], 1), kept(&left[2048..], 2));
        assert!(left[..first].iter().all(|&byte| byte == 1));
        assert!(left[2048..2048 + second].iter().all(|&byte| byte == 2));
        lengths.insert((first / 512, second / 512));
    }
    assert_eq!(lengths.len(), 25);
}

#[test]
fn a_prefix_of_the_writes_survives_across_files() {
    let disk = disk();
    let file = settled(&disk, &[0; 512]);
    let other = create(&disk, "/db/other");
    for number in 1..6 {
        file.write_at(&[number], 0).unwrap();
        other.write_at(&[number], 0).unwrap();
    }
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let crashed = disk.crash(CrashPlan::Prefix { seed });
        let other = crashed.read_file(Path::new("/db/other")).unwrap();
        seen.insert((bytes(&crashed)[0], other.first().copied().unwrap_or(0)));
    }
    let expected = (1..6).flat_map(|number| [(number, number - 1), (number, number)]);
    assert!(seen.into_iter().eq(expected));
}

#[test]
fn one_file_survives_whole_and_alone() {
    let disk = disk();
    let file = settled(&disk, b"0");
    let other = create(&disk, "/db/other");
    file.write_at(b"1", 0).unwrap();
    other.write_at(b"1", 0).unwrap();
    let left = |seed| {
        let crashed = disk.crash(CrashPlan::OneFile { seed });
        (bytes(&crashed), crashed.read_file(Path::new("/db/other")).unwrap())
    };
    let seen: std::collections::BTreeSet<_> = (0..50).map(left).collect();
    let expected = [(b"0".to_vec(), b"1".to_vec()), (b"1".to_vec(), Vec::new())];
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn names_and_bytes_are_lost_apart() {
    let disk = disk();
    let file = settled(&disk, b"old");
    create(&disk, "/db/other").write_at(b"x", 0).unwrap();
    file.write_at(b"new", 0).unwrap();
    let without_names = disk.crash(CrashPlan::NamesLost);
    assert_eq!(
        (names(&without_names), bytes(&without_names)),
        (vec![FILE.into()], b"new".to_vec())
    );
    let without_bytes = disk.crash(CrashPlan::BytesLost);
    assert_eq!(bytes(&without_bytes), b"old");
    assert_eq!(without_bytes.read_file(Path::new("/db/other")).unwrap(), b"");
}

#[test]
fn written_file_is_durable_at_once() {
    let disk = SimDisk::new();
    disk.write_file(Path::new("/a/b/c"), b"x");
    let crashed = disk.crash(CrashPlan::NothingUnsynced);
    assert_eq!(crashed.files(), [(Path::new("/a/b/c").to_path_buf(), 1)]);
    assert_eq!(crashed.list(Path::new("/a/b")).unwrap(), ["c"]);
    assert_eq!(crashed.operation_count(), 0);
}
