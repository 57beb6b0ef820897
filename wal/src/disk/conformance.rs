//! The behaviours every disk must show, run against each of the three.

use std::path::{Path, PathBuf};

use proptest::collection::vec;
use proptest::prelude::*;

use super::sim::CrashPlan;
use super::{
    Access, AlignedBuf, BLOCK_BYTES, BlockingDisk, Disk, DiskFile, DiskKind, OpenMode, SimDisk,
    Transfer, select,
};
use crate::codec::{to_u64, to_usize};

/// Calls a check with each disk and an empty directory on it.
fn on_each_disk(check: impl Fn(&dyn Disk, &Path)) {
    let directory = tempfile::tempdir().unwrap();
    check(&BlockingDisk::new(), directory.path());

    let sim = SimDisk::new();
    let path = PathBuf::from("/db");
    sim.create_dir(&path).unwrap();
    check(&sim, &path);

    // Where the kernel or a sandbox forbids io_uring there is nothing to check, unless that must
    // not be.
    #[cfg(all(target_os = "linux", feature = "io-uring"))]
    match super::UringDisk::probe() {
        Ok(uring) => {
            let directory = tempfile::tempdir().unwrap();
            check(&uring, directory.path());
        }
        Err(why) => {
            let is_required = std::env::var_os("SEAWALL_REQUIRE_URING").is_some();
            assert!(!is_required, "no io_uring here, and SEAWALL_REQUIRE_URING is set: {why}");
        }
    }
}

fn block(fill: u8) -> AlignedBuf {
    let mut buf = AlignedBuf::new(BLOCK_BYTES);
    buf.fill(fill);
    buf
}

fn read(file: &dyn DiskFile, offset: u64, len: usize) -> Vec<u8> {
    let mut buf = vec![0; len];
    file.read_at(&mut buf, offset).unwrap();
    buf
}

#[test]
fn written_bytes_are_read_back_exactly() {
    on_each_disk(|disk, directory| {
        let file = disk.open(&directory.join("file"), OpenMode::Create, Access::Buffered).unwrap();
        assert_eq!(file.path(), directory.join("file"));
        assert!(!file.is_direct());
        file.write_at(b"hello", 3).unwrap();
        file.write_sync_at(b"LL", 5).unwrap();
        file.sync().unwrap();
        assert_eq!(read(&*file, 0, 8), b"\0\0\0heLLo");
        assert_eq!(file.size().unwrap().length_bytes, 8);
    });
}

#[test]
fn reading_past_the_end_is_unexpected_eof() {
    on_each_disk(|disk, directory| {
        for access in [Access::Buffered, Access::Direct] {
            let file = disk.open(&directory.join("file"), OpenMode::Create, access).unwrap();
            file.write_at(&block(1), 0).unwrap();
            let mut buf = AlignedBuf::new(2 * BLOCK_BYTES);
            let error = file.read_at(&mut buf, 0).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
            file.set_len(5000).unwrap();
            let error = file.read_at(&mut buf, 0).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
        }
    });
}

#[test]
fn empty_transfers_do_nothing() {
    on_each_disk(|disk, directory| {
        let file = disk.open(&directory.join("file"), OpenMode::Create, Access::Buffered).unwrap();
        file.write_at(&[], 100).unwrap();
        file.write_sync_at(&[], 100).unwrap();
        file.read_at(&mut [], 100).unwrap();
        let mut buf = [];
        let mut batch = [Transfer::write(&*file, 9, &[]), Transfer::read(&*file, 9, &mut buf)];
        disk.transfer(&mut batch);
        assert!(batch.iter().all(|transfer| transfer.result.is_ok()));
        disk.transfer(&mut []);
        assert_eq!(file.size().unwrap().length_bytes, 0);
    });
}

#[test]
fn batch_of_many_reads_and_writes_does_them_all() {
    on_each_disk(|disk, directory| {
        const BLOCKS: u8 = 200;
        let at = |index: u8| u64::from(index) * to_u64(BLOCK_BYTES);
        let old = disk.open(&directory.join("old"), OpenMode::Create, Access::Direct).unwrap();
        let new = disk.open(&directory.join("new"), OpenMode::Create, Access::Buffered).unwrap();
        let written: Vec<_> = (0..BLOCKS).map(block).collect();
        for (index, buf) in (0..BLOCKS).zip(&written) {
            old.write_at(buf, at(index)).unwrap();
        }

        let mut found: Vec<_> = (0..BLOCKS).map(|_| block(255)).collect();
        let mut batch = Vec::new();
        for ((index, buf), found) in (0..BLOCKS).zip(&written).zip(&mut found) {
            batch.push(Transfer::write(&*new, at(index), buf));
            batch.push(Transfer::read(&*old, at(index), found));
        }
        disk.transfer(&mut batch);
        assert!(batch.iter().all(|transfer| transfer.result.is_ok()));
        drop(batch);

        for (index, buf) in (0..BLOCKS).zip(&written) {
            assert_eq!(&found[usize::from(index)][..], &buf[..]);
            assert_eq!(read(&*new, at(index), BLOCK_BYTES), &buf[..]);
        }
    });
}

#[test]
fn failed_transfer_of_a_batch_fails_alone() {
    on_each_disk(|disk, directory| {
        let file = disk.open(&directory.join("file"), OpenMode::Create, Access::Direct).unwrap();
        file.write_at(&block(7), 0).unwrap();
        let (mut inside, mut outside) = (block(0), block(0));
        let mut batch =
            [Transfer::read(&*file, 1 << 20, &mut outside), Transfer::read(&*file, 0, &mut inside)];
        disk.transfer(&mut batch);
        let error = batch[0].result.as_ref().unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
        assert!(batch[1].result.is_ok());
        assert_eq!(&inside[..], &block(7)[..]);
    });
}

#[test]
fn batches_of_many_threads_do_not_mix() {
    on_each_disk(|disk, directory| {
        std::thread::scope(|scope| {
            for thread in 0..8 {
                scope.spawn(move || {
                    let path = directory.join(thread.to_string());
                    let file = disk.open(&path, OpenMode::Create, Access::Direct).unwrap();
                    let bytes = block(thread);
                    for round in 0..20 {
                        let at = |index: u64| (round * 4 + index) * to_u64(BLOCK_BYTES);
                        let mut batch: Vec<_> = (0..4)
                            .map(|index| Transfer::write(&*file, at(index), &bytes))
                            .collect();
                        disk.transfer(&mut batch);
                        assert!(batch.iter().all(|transfer| transfer.result.is_ok()));
                    }
                    let mut all = AlignedBuf::new(80 * BLOCK_BYTES);
                    file.read_at(&mut all, 0).unwrap();
                    assert!(all.iter().all(|&byte| byte == thread));
                });
            }
        });
    });
}

#[test]
fn renamed_file_replaces_its_target() {
    on_each_disk(|disk, directory| {
        let (from, to) = (directory.join("from"), directory.join("to"));
        for (path, text) in [(&from, b"new"), (&to, b"old")] {
            let file = disk.open(path, OpenMode::Create, Access::Buffered).unwrap();
            file.write_sync_at(text, 0).unwrap();
        }
        disk.rename(&from, &to).unwrap();
        disk.sync_dir(directory).unwrap();
        assert_eq!(disk.list(directory).unwrap(), ["to"]);
        let file = disk.open(&to, OpenMode::ReadOnly, Access::Buffered).unwrap();
        assert_eq!(read(&*file, 0, 3), b"new");
        disk.remove_file(&to).unwrap();
        assert!(disk.list(directory).unwrap().is_empty());
    });
}

#[test]
fn missing_file_is_not_found() {
    on_each_disk(|disk, directory| {
        let missing = directory.join("missing");
        for mode in [OpenMode::ReadOnly, OpenMode::ReadWrite] {
            let error = disk.open(&missing, mode, Access::Direct).unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
        }
        let nowhere = missing.join("file");
        let not_found = [
            disk.open(&nowhere, OpenMode::Create, Access::Direct).map(drop),
            disk.size(&missing).map(drop),
            disk.remove_file(&missing),
            disk.rename(&missing, &directory.join("to")),
            disk.list(&missing).map(drop),
            disk.sync_dir(&missing),
        ];
        for error in not_found {
            assert_eq!(error.unwrap_err().kind(), std::io::ErrorKind::NotFound);
        }
    });
}

#[test]
fn read_only_file_takes_no_write() {
    on_each_disk(|disk, directory| {
        let path = directory.join("file");
        let file = disk.open(&path, OpenMode::Create, Access::Buffered).unwrap();
        file.write_at(b"kept", 0).unwrap();
        let file = disk.open(&path, OpenMode::ReadOnly, Access::Buffered).unwrap();
        assert!(file.write_at(b"gone", 0).is_err());
        assert!(file.write_sync_at(b"gone", 0).is_err());
        assert!(file.set_len(0).is_err());
        assert_eq!(read(&*file, 0, 4), b"kept");
    });
}

#[test]
fn create_empties_a_file_that_was_there() {
    on_each_disk(|disk, directory| {
        let path = directory.join("file");
        for _ in 0..2 {
            let file = disk.open(&path, OpenMode::Create, Access::Direct).unwrap();
            assert_eq!(file.size().unwrap().length_bytes, 0);
            file.write_at(&block(1), 0).unwrap();
        }
        let file = disk.open(&path, OpenMode::ReadWrite, Access::Direct).unwrap();
        assert_eq!(file.size().unwrap().length_bytes, to_u64(BLOCK_BYTES));
    });
}

#[test]
fn extension_reads_as_zeros_and_takes_no_blocks() {
    on_each_disk(|disk, directory| {
        let path = directory.join("file");
        let file = disk.open(&path, OpenMode::Create, Access::Buffered).unwrap();
        file.write_at(&[9; 100], 0).unwrap();
        file.set_len(50).unwrap();
        file.set_len(1 << 20).unwrap();
        file.sync().unwrap();
        let size = disk.size(&path).unwrap();
        assert_eq!(size, file.size().unwrap());
        assert_eq!(size.length_bytes, 1 << 20);
        assert!(size.allocated_bytes < 1 << 20);
        assert_eq!(read(&*file, 0, 50), [9; 50]);
        assert!(read(&*file, 50, 10_000).iter().all(|&byte| byte == 0));
    });
}

#[test]
fn directories_are_created_with_their_parents_and_listed_in_order() {
    on_each_disk(|disk, directory| {
        let inner = directory.join("a/b");
        disk.create_dir(&inner).unwrap();
        disk.create_dir(&inner).unwrap();
        disk.sync_dir(directory).unwrap();
        for name in ["2", "1", "10"] {
            disk.open(&inner.join(name), OpenMode::Create, Access::Buffered).unwrap();
        }
        assert_eq!(disk.list(&inner).unwrap(), ["1", "10", "2"]);
        assert_eq!(disk.list(directory).unwrap(), ["a"]);
    });
}

#[test]
fn second_lock_is_refused_until_the_first_is_dropped() {
    on_each_disk(|disk, directory| {
        let path = directory.join("LOCK");
        let lock = disk.lock(&path).unwrap();
        let refused = disk.lock(&path).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::WouldBlock);
        let other = disk.lock(&directory.join("OTHER")).unwrap();
        drop(lock);
        drop(disk.lock(&path).unwrap());
        drop(other);
    });
}

#[test]
fn lock_to_read_excludes_the_other_lock_and_needs_its_file() {
    on_each_disk(|disk, directory| {
        let path = directory.join("LOCK");
        let missing = disk.lock_to_read(&path).unwrap_err();
        assert_eq!(missing.kind(), std::io::ErrorKind::NotFound);
        let lock = disk.lock(&path).unwrap();
        let refused = disk.lock_to_read(&path).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::WouldBlock);
        drop(lock);
        let lock = disk.lock_to_read(&path).unwrap();
        let refused = disk.lock(&path).unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::WouldBlock);
        drop(lock);
        drop(disk.lock(&path).unwrap());
    });
}

/// Names the directory, and `blocking` or `uring`, for [`process_that_is_killed`].
const KILLED_PROCESS: [&str; 2] = ["SEAWALL_TEST_KILLED_DIRECTORY", "SEAWALL_TEST_KILLED_DISK"];

/// Where it is asked to, holds the lock and writes until it is killed.
#[test]
fn process_that_is_killed() {
    let [Ok(directory), Ok(kind)] = KILLED_PROCESS.map(std::env::var) else { return };
    let kind = if kind == "uring" { DiskKind::Uring } else { DiskKind::Blocking };
    let disk = select(kind).unwrap();
    let directory = Path::new(&directory);
    let lock = disk.lock(&directory.join("LOCK")).unwrap();
    let file = disk.open(&directory.join("file"), OpenMode::Create, Access::Direct).unwrap();
    let bytes = block(1);
    for index in 0_u64.. {
        let at = |part: u64| (index * 8 + part) % 1024 * to_u64(BLOCK_BYTES);
        let mut batch: Vec<_> =
            (0..8).map(|part| Transfer::write(&*file, at(part), &bytes)).collect();
        disk.transfer(&mut batch);
        // The parent waits for this file.
        if index == 20 {
            disk.open(&directory.join("ready"), OpenMode::Create, Access::Buffered).unwrap();
        }
    }
    drop(lock);
}

/// A process that does not outlive the test.
struct Child(std::process::Child);

impl Child {
    fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}

#[test]
fn lock_of_a_killed_process_is_taken_over() {
    on_each_disk(|disk, directory| {
        if disk.name() == "sim" {
            return;
        }
        let test = "disk::conformance::process_that_is_killed";
        let spawned = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test])
            .env(KILLED_PROCESS[0], directory)
            .env(KILLED_PROCESS[1], disk.name())
            .stdout(std::process::Stdio::null())
            .spawn();
        let mut child = Child(spawned.unwrap());
        while disk.size(&directory.join("ready")).is_err() {
            assert!(child.0.try_wait().unwrap().is_none(), "the process has failed");
            std::thread::yield_now();
        }
        let lock = directory.join("LOCK");
        assert_eq!(disk.lock(&lock).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
        child.kill();
        drop(disk.lock(&lock).unwrap());
    });
}

#[test]
fn direct_file_refuses_what_is_not_aligned() {
    on_each_disk(|disk, directory| {
        let file = disk.open(&directory.join("file"), OpenMode::Create, Access::Direct).unwrap();
        let buf = AlignedBuf::new(2 * BLOCK_BYTES);
        let refused = |call: &dyn Fn() -> std::io::Result<()>| {
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)).is_err()
        };
        assert!(refused(&|| file.write_at(&buf[..BLOCK_BYTES], 512)));
        assert!(refused(&|| file.write_at(&buf[..512], 0)));
        assert!(refused(&|| file.write_sync_at(&buf[512..BLOCK_BYTES + 512], 0)));
        assert!(refused(&|| {
            let mut batch = [Transfer::write(&*file, 0, &buf), Transfer::write(&*file, 1, &buf)];
            disk.transfer(&mut batch);
            Ok(())
        }));
        file.write_sync_at(&buf, 4096).unwrap();
    });
}

/// An operation on one of [`FILES`] files, by index.
#[derive(Clone, Debug)]
enum Step {
    Create(usize),
    Write { file: usize, offset: u64, fill: u8, len: usize, is_synced: bool },
    SetLen { file: usize, length: u64 },
    Sync(usize),
    Rename { from: usize, to: usize },
    Remove(usize),
    SyncDir,
}

const FILES: usize = 3;

fn step() -> impl Strategy<Value = Step> {
    let file = || 0..FILES;
    prop_oneof![
        2 => file().prop_map(Step::Create),
        6 => (file(), 0..20_000_u64, any::<u8>(), 0..9000_usize, any::<bool>()).prop_map(
            |(file, offset, fill, len, is_synced)| Step::Write { file, offset, fill, len, is_synced }
        ),
        2 => (file(), 0..20_000_u64).prop_map(|(file, length)| Step::SetLen { file, length }),
        1 => file().prop_map(Step::Sync),
        1 => (file(), file()).prop_map(|(from, to)| Step::Rename { from, to }),
        1 => file().prop_map(Step::Remove),
        1 => Just(Step::SyncDir),
    ]
}

/// Runs a step, and tells whether it succeeded.
fn run(disk: &dyn Disk, directory: &Path, step: &Step) -> Result<(), std::io::ErrorKind> {
    let path = |file: usize| directory.join(file.to_string());
    let open = |file, mode| disk.open(&path(file), mode, Access::Buffered);
    let outcome = match *step {
        Step::Create(file) => open(file, OpenMode::Create).map(drop),
        Step::Write { file, offset, fill, len, is_synced } => open(file, OpenMode::ReadWrite)
            .and_then(|file| {
                let bytes = vec![fill; len];
                if is_synced {
                    file.write_sync_at(&bytes, offset)
                } else {
                    file.write_at(&bytes, offset)
                }
            }),
        Step::SetLen { file, length } => {
            open(file, OpenMode::ReadWrite).and_then(|file| file.set_len(length))
        }
        Step::Sync(file) => open(file, OpenMode::ReadWrite).and_then(|file| file.sync()),
        Step::Rename { from, to } => disk.rename(&path(from), &path(to)),
        Step::Remove(file) => disk.remove_file(&path(file)),
        Step::SyncDir => disk.sync_dir(directory),
    };
    outcome.map_err(|error| error.kind())
}

/// Names and bytes of everything in a directory.
fn contents(disk: &dyn Disk, directory: &Path) -> Vec<(std::ffi::OsString, Vec<u8>)> {
    let names = disk.list(directory).unwrap().into_iter();
    let with_bytes = names.map(|name| {
        let file = disk.open(&directory.join(&name), OpenMode::ReadOnly, Access::Buffered).unwrap();
        let length = to_usize(file.size().unwrap().length_bytes);
        let bytes = read(&*file, 0, length);
        (name, bytes)
    });
    with_bytes.collect()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn simulated_disk_shows_what_the_file_system_shows(steps in vec(step(), 1..40)) {
        let temporary = tempfile::tempdir().unwrap();
        let (real, sim) = (BlockingDisk::new(), SimDisk::new());
        let on_sim = Path::new("/db");
        sim.create_dir(on_sim).unwrap();
        for step in &steps {
            let expected = run(&real, temporary.path(), step);
            prop_assert_eq!(run(&sim, on_sim, step), expected, "{:?}", step);
        }
        let expected = contents(&real, temporary.path());
        prop_assert_eq!(contents(&sim, on_sim), expected.clone());
        // A killed process loses nothing, and neither does a crash in which everything survives.
        prop_assert_eq!(contents(&sim.fork(), on_sim), expected.clone());
        prop_assert_eq!(contents(&sim.crash(CrashPlan::Everything), on_sim), expected);
    }

    #[test]
    fn what_was_synced_survives_every_crash(steps in vec(step(), 1..40), seed: u64) {
        let sim = SimDisk::new();
        let directory = Path::new("/db");
        sim.create_dir(directory).unwrap();
        sim.sync_dir(Path::new("/")).unwrap();
        for step in &steps {
            // Whether it succeeds is the other test's business.
            run(&sim, directory, step).ok();
        }
        for file in 0..FILES {
            run(&sim, directory, &Step::Sync(file)).ok();
        }
        sim.sync_dir(directory).unwrap();
        prop_assert_eq!(sim.unsynced_changes(), 0);
        let expected = contents(&sim, directory);
        let plans = [
            CrashPlan::NothingUnsynced,
            CrashPlan::Torn { seed },
            CrashPlan::Sectors { seed },
            CrashPlan::Reordered { seed },
        ];
        for plan in plans {
            prop_assert_eq!(contents(&sim.crash(plan), directory), expected.clone(), "{:?}", plan);
        }
    }
}
