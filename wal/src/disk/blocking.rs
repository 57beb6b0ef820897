//! The disk over positional system calls: one call, one transfer.
//!
//! It keeps the rules of [`super`]: short transfers are continued, an interrupted call is repeated,
//! an error is reported once. Bytes of a file travel one way, decided when it is opened: past the
//! page cache where the file system took an aligned transfer once (asked per device, remembered),
//! through it otherwise.
//!
//! Syncs are `fdatasync`, and on macOS the full sync that reaches the medium. `write_sync_at` is one
//! `pwritev2` with `RWF_DSYNC` on Linux, and a write with a sync after it elsewhere.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::lock::FileLock;
use super::{
    Access, AlignedBuf, BLOCK_BYTES, DirectoryLock, Disk, DiskFile, FileSize, OpenMode, Transfer,
    assert_block_aligned,
};
use crate::codec::to_u64;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, Ordering};

/// What `stat` calls a block, whatever the file system's block is.
const STAT_BLOCK_BYTES: u64 = 512;
/// Where a direct write that stopped short goes on. File systems with blocks this small stop inside
/// one of ours when they are full, and only the next call says so; a device with larger blocks never
/// stops inside one of its own.
const LOGICAL_BLOCK_BYTES: usize = 512;

/// Directories that are kept open: those of a database, and one more.
const DIRECTORIES_MAX: usize = 4;

/// The file system, through positional system calls.
#[derive(Debug, Default)]
pub struct BlockingDisk {
    /// Whether a device's file system takes direct transfers, where known.
    takes_direct: Mutex<BTreeMap<u64, bool>>,
    /// Set once the kernel refused to write and sync in one call.
    no_write_sync: Arc<AtomicBool>,
    /// The directories that were synced last, by device and inode: a process that runs short of
    /// descriptors for a moment can sync them all the same.
    directories: Mutex<Vec<(Inode, Arc<File>)>>,
}

/// Device and inode.
type Inode = (u64, u64);

impl BlockingDisk {
    /// A disk that knows nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens or creates a file.
    pub(super) fn open_file(
        &self,
        path: &Path,
        mode: OpenMode,
        access: Access,
    ) -> io::Result<BlockingFile> {
        let direct = match access {
            Access::Direct => self.open_direct(path, mode)?,
            Access::Buffered => None,
        };
        let (file, is_direct) = match direct {
            Some(file) => (file, true),
            None => (options(mode).open(path)?, false),
        };
        Ok(BlockingFile {
            path: path.to_path_buf(),
            file,
            is_aligned: access == Access::Direct,
            is_direct,
            no_write_sync: Arc::clone(&self.no_write_sync),
        })
    }

    /// An open directory.
    fn directory(&self, path: &Path) -> io::Result<Arc<File>> {
        let inode = |metadata: &Metadata| (metadata.dev(), metadata.ino());
        let wanted = inode(&std::fs::metadata(path)?);
        let mut kept = self.directories.lock();
        if let Some((_, file)) = kept.iter().find(|(inode, _)| *inode == wanted) {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(File::open(path)?);
        if kept.len() == DIRECTORIES_MAX {
            kept.remove(0);
        }
        kept.push((inode(&file.metadata()?), Arc::clone(&file)));
        Ok(file)
    }

    /// Opens a file past the page cache; `None` where its file system does not take that.
    #[cfg(target_os = "linux")]
    fn open_direct(&self, path: &Path, mode: OpenMode) -> io::Result<Option<File>> {
        use std::os::unix::fs::OpenOptionsExt;

        let flag = i32::try_from(rustix::fs::OFlags::DIRECT.bits())
            .expect("open flags are an int of the C interface");
        let file = match options(mode).custom_flags(flag).open(path) {
            Ok(file) => file,
            Err(error) if is_invalid_argument(&error) => return Ok(None),
            Err(error) => return Err(error),
        };
        let device = file.metadata()?.dev();
        let known = self.takes_direct.lock().get(&device).copied();
        let takes = match known {
            Some(takes) => takes,
            None => match probe_direct(&file, mode)? {
                Some(takes) => {
                    self.takes_direct.lock().insert(device, takes);
                    takes
                }
                // Nothing could be transferred; the caller's own transfer will tell.
                None => true,
            },
        };
        Ok(takes.then_some(file))
    }

    /// Opens a file past the page cache: not asked for on this system.
    #[cfg(not(target_os = "linux"))]
    fn open_direct(&self, _path: &Path, _mode: OpenMode) -> io::Result<Option<File>> {
        Ok(None)
    }
}

fn options(mode: OpenMode) -> OpenOptions {
    let mut options = File::options();
    options.read(true);
    match mode {
        OpenMode::ReadOnly => {}
        OpenMode::ReadWrite => {
            options.write(true);
        }
        OpenMode::Create => {
            options.write(true).create(true).truncate(true);
        }
    }
    options
}

/// Tries one aligned transfer on a file opened for direct I/O; `None` where that tells nothing. An
/// empty file that may be written is written and cut to nothing again.
#[cfg(target_os = "linux")]
fn probe_direct(file: &File, mode: OpenMode) -> io::Result<Option<bool>> {
    let mut block = AlignedBuf::new(BLOCK_BYTES);
    let is_empty = file.metadata()?.len() == 0;
    let outcome = match (is_empty, mode) {
        (false, _) => file.read_at(&mut block, 0),
        (true, OpenMode::ReadOnly) => return Ok(None),
        (true, OpenMode::ReadWrite | OpenMode::Create) => {
            let written = file.write_at(&block, 0);
            file.set_len(0)?;
            written
        }
    };
    Ok(match outcome {
        Ok(_) => Some(true),
        Err(error) if is_invalid_argument(&error) => Some(false),
        Err(_) => None,
    })
}

#[cfg(target_os = "linux")]
fn is_invalid_argument(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error())
}

fn file_size(metadata: &Metadata) -> FileSize {
    FileSize { length_bytes: metadata.len(), allocated_bytes: metadata.blocks() * STAT_BLOCK_BYTES }
}

impl Disk for BlockingDisk {
    fn open(&self, path: &Path, mode: OpenMode, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(self.open_file(path, mode, access)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        std::fs::create_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.directory(path)?.sync_all()
    }

    fn list(&self, path: &Path) -> io::Result<Vec<OsString>> {
        let mut names = std::fs::read_dir(path)?
            .map(|entry| Ok(entry?.file_name()))
            .collect::<io::Result<Vec<_>>>()?;
        names.sort_unstable();
        Ok(names)
    }

    fn size(&self, path: &Path) -> io::Result<FileSize> {
        Ok(file_size(&std::fs::metadata(path)?))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DirectoryLock>> {
        Ok(Box::new(FileLock::acquire(path)?))
    }

    fn lock_to_read(&self, path: &Path) -> io::Result<Box<dyn DirectoryLock>> {
        Ok(Box::new(FileLock::acquire_to_read(path)?))
    }

    fn transfer(&self, batch: &mut [Transfer<'_>]) {
        for transfer in batch {
            transfer.run();
        }
    }

    fn name(&self) -> &'static str {
        "blocking"
    }
}

/// A file opened by [`BlockingDisk`], or by the ring on top of it.
#[derive(Debug)]
pub(super) struct BlockingFile {
    path: PathBuf,
    file: File,
    /// Whether transfers must be aligned, bypass or not.
    is_aligned: bool,
    is_direct: bool,
    no_write_sync: Arc<AtomicBool>,
}

/// Which way the bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Read,
    Write,
}

impl Direction {
    /// What it is called when the system transfers no more: the file ends, or the write has no place
    /// to go and no error to show for it.
    pub(super) fn stuck(self) -> io::ErrorKind {
        match self {
            Self::Read => io::ErrorKind::UnexpectedEof,
            Self::Write => io::ErrorKind::WriteZero,
        }
    }
}

/// What a short transfer came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Everything was transferred.
    Whole,
    /// Go on with what lies behind so many bytes.
    More(usize),
    /// The system transfers no more.
    Stuck,
}

impl BlockingFile {
    /// The open file, for the system calls of a ring.
    #[cfg(all(target_os = "linux", feature = "io-uring"))]
    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// Asserts the alignment of a transfer, where this file asks for it.
    pub(super) fn check(&self, buf: &[u8], offset: u64) {
        if self.is_aligned {
            assert_block_aligned(buf, offset);
        }
    }

    /// Where a transfer of `wanted` bytes stands when `done` bytes were followed by `count` more. An
    /// aligned transfer goes on at an aligned place, so some bytes are moved again.
    pub(super) fn progress(
        &self,
        direction: Direction,
        wanted: usize,
        done: usize,
        count: usize,
    ) -> Progress {
        let reached = done + count;
        if reached == wanted {
            return Progress::Whole;
        }
        let unit = match (self.is_aligned, direction) {
            (true, Direction::Read) => BLOCK_BYTES,
            (true, Direction::Write) => LOGICAL_BLOCK_BYTES,
            (false, _) => 1,
        };
        let resume = reached - reached % unit;
        if resume > done { Progress::More(resume) } else { Progress::Stuck }
    }

    /// Repeats `call(done)`, which transfers some of what lies behind `done`, up to `wanted` bytes.
    fn repeat(
        &self,
        direction: Direction,
        wanted: usize,
        mut call: impl FnMut(usize) -> io::Result<usize>,
    ) -> io::Result<()> {
        let mut done = 0;
        while done < wanted {
            let count = match call(done) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            match self.progress(direction, wanted, done, count) {
                Progress::Whole => break,
                Progress::More(resume) => done = resume,
                Progress::Stuck => return Err(direction.stuck().into()),
            }
        }
        Ok(())
    }

    /// Writes and syncs in one call; `Unsupported` where the kernel has none.
    #[cfg(target_os = "linux")]
    fn write_sync_call(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        use rustix::io::{Errno, ReadWriteFlags, pwritev2};

        self.repeat(Direction::Write, buf.len(), |done| {
            let rest = [io::IoSlice::new(&buf[done..])];
            pwritev2(&self.file, &rest, offset + to_u64(done), ReadWriteFlags::DSYNC).map_err(
                |errno| match errno {
                    Errno::NOSYS | Errno::OPNOTSUPP => io::ErrorKind::Unsupported.into(),
                    errno => errno.into(),
                },
            )
        })
    }

    /// Writes and syncs in one call: not to be had on this system.
    #[cfg(not(target_os = "linux"))]
    fn write_sync_call(&self, _buf: &[u8], _offset: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl DiskFile for BlockingFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn is_direct(&self) -> bool {
        self.is_direct
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.check(buf, offset);
        self.repeat(Direction::Read, buf.len(), |done| {
            self.file.read_at(&mut buf[done..], offset + to_u64(done))
        })
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.check(buf, offset);
        self.repeat(Direction::Write, buf.len(), |done| {
            self.file.write_at(&buf[done..], offset + to_u64(done))
        })
    }

    fn write_sync_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.check(buf, offset);
        // Relaxed: the flag saves a system call that would be refused, and guards nothing.
        if !self.no_write_sync.load(Ordering::Relaxed) {
            match self.write_sync_call(buf, offset) {
                Err(error) if error.kind() == io::ErrorKind::Unsupported => {
                    self.no_write_sync.store(true, Ordering::Relaxed);
                }
                outcome => return outcome,
            }
        }
        self.write_at(buf, offset)?;
        self.sync()
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn set_len(&self, length_bytes: u64) -> io::Result<()> {
        self.file.set_len(length_bytes)
    }

    fn size(&self) -> io::Result<FileSize> {
        Ok(file_size(&self.file.metadata()?))
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;
    use std::sync::Arc;

    use super::{
        Access, BLOCK_BYTES, BlockingDisk, DIRECTORIES_MAX, Direction, Disk, DiskFile, OpenMode,
        Progress,
    };

    fn file(access: Access) -> (tempfile::TempDir, super::BlockingFile) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let file = BlockingDisk::new().open_file(&path, OpenMode::Create, access).unwrap();
        (directory, file)
    }

    #[test]
    fn a_directory_is_opened_once_until_another_one_has_its_name() {
        let directory = tempfile::tempdir().unwrap();
        let disk = BlockingDisk::new();
        let path = |number: usize| directory.path().join(number.to_string());
        (0..2 * DIRECTORIES_MAX).for_each(|number| disk.create_dir(&path(number)).unwrap());
        let first = disk.directory(&path(0)).unwrap();
        disk.sync_dir(&path(0)).unwrap();
        assert!(Arc::ptr_eq(&first, &disk.directory(&path(0)).unwrap()));
        std::fs::rename(path(0), directory.path().join("moved")).unwrap();
        disk.create_dir(&path(0)).unwrap();
        let second = disk.directory(&path(0)).unwrap();
        assert_ne!(first.metadata().unwrap().ino(), second.metadata().unwrap().ino());
        (0..2 * DIRECTORIES_MAX).for_each(|number| disk.sync_dir(&path(number)).unwrap());
        assert_eq!(disk.directories.lock().len(), DIRECTORIES_MAX);
    }

    #[test]
    fn aligned_transfer_goes_on_at_a_block() {
        let (_directory, file) = file(Access::Direct);
        let read = |done, count| file.progress(Direction::Read, 12288, done, count);
        assert_eq!(read(0, 12288), Progress::Whole);
        assert_eq!(read(0, 5000), Progress::More(4096));
        assert_eq!(read(4096, 4096), Progress::More(8192));
        assert_eq!(read(4096, 100), Progress::Stuck);
        let write = |done, count| file.progress(Direction::Write, 12288, done, count);
        assert_eq!(write(0, 5000), Progress::More(4608));
        assert_eq!(write(4608, 0), Progress::Stuck);
    }

    #[test]
    fn buffered_transfer_goes_on_where_it_stopped() {
        let (_directory, file) = file(Access::Buffered);
        for direction in [Direction::Read, Direction::Write] {
            assert_eq!(file.progress(direction, 10, 3, 4), Progress::More(7));
            assert_eq!(file.progress(direction, 10, 7, 3), Progress::Whole);
            assert_eq!(file.progress(direction, 10, 7, 0), Progress::Stuck);
        }
    }

    #[test]
    fn short_and_interrupted_transfers_go_on_until_every_byte_was_moved() {
        let source: Vec<u8> =
            (0..3 * BLOCK_BYTES).map(|at| u8::try_from(at % 251).unwrap()).collect();
        for (access, counts) in
            [(Access::Buffered, [1, 7, 4097]), (Access::Direct, [4096, 4097, 8191])]
        {
            let (_directory, file) = file(access);
            let both = |count| [(Direction::Read, count), (Direction::Write, count)];
            for (direction, count) in counts.into_iter().flat_map(both) {
                let mut moved = vec![0; source.len()];
                let mut calls = 0;
                let transfer = |done: usize| {
                    calls += 1;
                    if calls % 3 == 1 {
                        return Err(std::io::ErrorKind::Interrupted.into());
                    }
                    let end = source.len().min(done + count);
                    moved[done..end].copy_from_slice(&source[done..end]);
                    Ok(end - done)
                };
                file.repeat(direction, source.len(), transfer).unwrap();
                assert!(moved == source, "{access:?}, {direction:?}, {count} bytes a call");
            }
        }
    }

    #[test]
    fn probe_leaves_a_new_file_empty() {
        let (_directory, file) = file(Access::Direct);
        assert_eq!(file.size().unwrap().length_bytes, 0);
    }

    #[test]
    fn write_sync_works_without_the_single_call() {
        let (_directory, file) = file(Access::Buffered);
        file.no_write_sync.store(true, super::Ordering::Relaxed);
        file.write_sync_at(b"slow", 1).unwrap();
        let mut buf = [0; 4];
        file.read_at(&mut buf, 1).unwrap();
        assert_eq!(&buf, b"slow");
    }
}
