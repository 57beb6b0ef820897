//! The accepted tail is made safe before anything follows it.

use std::ffi::OsString;
use std::io;
use std::path::Path;

use super::*;
use crate::codec::to_usize;
use crate::disk::sim::{CrashPlan, EIO, Fault, FaultEffect, OperationKind, SimDisk};
use crate::disk::{Access, DirectoryLock, Disk, FileSize, Transfer};
use crate::log::testing::{FIRST_OFFSET, OPTIONS, TestLog, Written, noise};

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
