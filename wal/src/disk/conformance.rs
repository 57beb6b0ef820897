//! The behaviours every disk must show, run against each of the three.

use std::path::{Path, PathBuf};

use super::{
    Access, AlignedBuf, BLOCK_BYTES, BlockingDisk, Disk, DiskFile, OpenMode, SimDisk, Transfer,
};
use crate::codec::to_u64;

/// Calls a check with each disk and an empty directory on it.
fn on_each_disk(check: impl Fn(&dyn Disk, &Path)) {
    let directory = tempfile::tempdir().unwrap();
    check(&BlockingDisk::new(), directory.path());

    let sim = SimDisk::new();
    let path = PathBuf::from("/db");
    sim.create_dir(&path).unwrap();
    check(&sim, &path);

    // Where the kernel or a sandbox forbids io_uring there is nothing to check.
    #[cfg(all(target_os = "linux", feature = "io-uring"))]
    if let Ok(uring) = super::UringDisk::probe() {
        let directory = tempfile::tempdir().unwrap();
        check(&uring, directory.path());
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
