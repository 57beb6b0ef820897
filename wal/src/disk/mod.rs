//! The seam to the disk: every file operation of every crate goes through [`Disk`] and
//! [`DiskFile`].
//!
//! Three implementations pass the same tests: `BlockingDisk` (positional system calls), `UringDisk`
//! (io_uring, Linux) and [`SimDisk`] (memory, with faults and crashes by seed). The rules all of
//! them keep:
//!
//! * A read or write is whole or an error: short transfers are continued inside. Reaching the end
//!   of the file inside a read is [`io::ErrorKind::UnexpectedEof`], never a short answer.
//! * Nothing is durable before a sync. [`DiskFile::write_sync_at`] makes the bytes of that call
//!   durable, and no other unsynced bytes. [`DiskFile::sync`] makes every write durable that
//!   returned before the call, and the file's length. A file's *name* is durable only after
//!   [`Disk::sync_dir`] of its directory.
//! * A failed write or sync is reported once and never retried here: after a failed sync the kernel
//!   may drop the dirty pages and call the next sync a success (invariant W2).
//! * A file opened with [`Access::Direct`] bypasses the page cache where the file system takes that
//!   (probed once); offset, length and address of every transfer are multiples of [`BLOCK_BYTES`],
//!   on every implementation, asserted. Direct and buffered access are never mixed on one file.

use std::ffi::OsString;
use std::fmt::Debug;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::codec::to_usize;

#[cfg(not(loom))]
mod blocking;
#[expect(unsafe_code, reason = "memory with an alignment; the module says why it is sound")]
mod buffer;
mod kind;
#[cfg(not(loom))]
mod lock;
#[cfg(not(loom))]
mod select;
pub mod sim;
#[cfg(all(target_os = "linux", feature = "io-uring", not(loom)))]
mod uring;

#[cfg(test)]
#[cfg(not(loom))]
mod conformance;

#[cfg(not(loom))]
pub use blocking::BlockingDisk;
pub use buffer::AlignedBuf;
pub use kind::DiskKind;
#[cfg(not(loom))]
pub use select::select;
pub use sim::SimDisk;
#[cfg(all(target_os = "linux", feature = "io-uring", not(loom)))]
pub use uring::UringDisk;

/// Alignment of offset, length and address of transfers on [`Access::Direct`] files.
pub const BLOCK_BYTES: usize = 4096;

/// How the bytes of a file travel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Past the page cache where possible; transfers are aligned to [`BLOCK_BYTES`].
    Direct,
    /// Through the page cache, at any offset and length.
    Buffered,
}

/// What to do about a file that is there, or is not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// It must be there; opened for reading only.
    ReadOnly,
    /// It must be there.
    ReadWrite,
    /// Created, or truncated to nothing where it was there.
    Create,
}

/// Size of a file, as its directory entry tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileSize {
    /// Length in bytes.
    pub length_bytes: u64,
    /// Bytes of the blocks allocated to it.
    pub allocated_bytes: u64,
}

/// One transfer of a batch; see [`Disk::transfer`].
#[derive(Debug)]
pub struct Transfer<'a> {
    /// The file.
    pub file: &'a dyn DiskFile,
    /// Byte offset in it.
    pub offset: u64,
    /// Direction and bytes.
    pub kind: TransferKind<'a>,
    /// Set by [`Disk::transfer`]; `Ok` before.
    pub result: io::Result<()>,
}

/// Direction and bytes of a [`Transfer`].
#[derive(Debug)]
pub enum TransferKind<'a> {
    /// Fill the buffer.
    Read(&'a mut [u8]),
    /// Write the buffer.
    Write(&'a [u8]),
}

impl<'a> Transfer<'a> {
    /// Fills `buf` from `offset` of `file` on.
    pub fn read(file: &'a dyn DiskFile, offset: u64, buf: &'a mut [u8]) -> Self {
        Self { file, offset, kind: TransferKind::Read(buf), result: Ok(()) }
    }

    /// Writes `buf` at `offset` of `file`.
    pub fn write(file: &'a dyn DiskFile, offset: u64, buf: &'a [u8]) -> Self {
        Self { file, offset, kind: TransferKind::Write(buf), result: Ok(()) }
    }

    /// Runs the transfer alone and sets its result.
    pub(crate) fn run(&mut self) {
        self.result = match &mut self.kind {
            TransferKind::Read(buf) => self.file.read_at(buf, self.offset),
            TransferKind::Write(buf) => self.file.write_at(buf, self.offset),
        };
    }
}

/// A held database lock: released when dropped, and by the kernel when the process dies.
pub trait DirectoryLock: Debug + Send + Sync {}

/// A file system, or what stands in for one.
pub trait Disk: Debug + Send + Sync + 'static {
    /// Opens or creates a file.
    fn open(&self, path: &Path, mode: OpenMode, access: Access) -> io::Result<Arc<dyn DiskFile>>;

    /// Renames a file, replacing the target. Durable after [`Disk::sync_dir`].
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file. Durable after [`Disk::sync_dir`].
    fn remove_file(&self, path: &Path) -> io::Result<()>;

    /// Creates a directory, and its missing parents; one that is there is fine.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// Makes the directory's entries durable.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// Names in a directory, sorted.
    fn list(&self, path: &Path) -> io::Result<Vec<OsString>>;

    /// Size of a file; `NotFound` where there is none.
    fn size(&self, path: &Path) -> io::Result<FileSize>;

    /// Creates the file where needed and takes the exclusive lock on it, for this process alone
    /// (another handle in this process is refused as well). `WouldBlock` when it is held; a lock
    /// whose holder is dead is retried for up to five seconds, since the kernel releases it only
    /// when the dead process's last write in flight is done.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn DirectoryLock>>;

    /// Takes the same lock for one who only reads: no byte changes, and the disk may be read-only.
    /// `NotFound` where there is no file to lock.
    fn lock_to_read(&self, path: &Path) -> io::Result<Box<dyn DirectoryLock>>;

    /// Runs a batch of transfers side by side and returns when all are done, each with its result.
    /// The order in which they reach the device is not defined.
    fn transfer(&self, batch: &mut [Transfer<'_>]);

    /// Name for reports: `uring`, `blocking` or `sim`.
    fn name(&self) -> &'static str;
}

/// An open file.
pub trait DiskFile: Debug + Send + Sync {
    /// The path it was opened under.
    fn path(&self) -> &Path;

    /// Whether transfers really bypass the page cache.
    fn is_direct(&self) -> bool;

    /// Fills `buf` from `offset` on.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()>;

    /// Writes `buf` at `offset`.
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;

    /// Writes `buf` at `offset` and makes these bytes durable, in one call where the system has
    /// one.
    fn write_sync_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;

    /// Makes every write that has returned, and the length, durable.
    fn sync(&self) -> io::Result<()>;

    /// Cuts or extends the file. An extension reads as zeros and may not have blocks behind it.
    fn set_len(&self, length_bytes: u64) -> io::Result<()>;

    /// Current size.
    fn size(&self) -> io::Result<FileSize>;

    /// For an implementation to find its own kind of file in a batch.
    fn as_any(&self) -> &dyn std::any::Any;
}

/// Asserts what a transfer on an [`Access::Direct`] file must keep, whatever the disk takes.
fn assert_block_aligned(buf: &[u8], offset: u64) {
    let address = buf.as_ptr().addr();
    let length = buf.len();
    assert!(
        address.is_multiple_of(BLOCK_BYTES)
            && length.is_multiple_of(BLOCK_BYTES)
            && to_usize(offset).is_multiple_of(BLOCK_BYTES),
        "direct transfer of {length} bytes at offset {offset} from address {address:#x} \
         is not aligned to {BLOCK_BYTES}"
    );
}
