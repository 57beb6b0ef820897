//! The disk over io_uring: a batch of transfers runs side by side.
//!
//! Only [`Disk::transfer`] goes through a ring, and there only what gains by it; everything else is
//! the plain call of [`BlockingDisk`], whose files these are. Measured on a virtual disk with ext4,
//! medians, plain call against ring:
//!
//! | transfer | plain call | ring |
//! |---|---|---|
//! | one direct write of 4 KiB | 47 us | 50 us |
//! | one direct write-and-sync of 4 KiB | 118 us | 119 us |
//! | one direct write-and-sync of 64 KiB | 128 us | 131 us |
//! | 2 direct reads of 4 KiB | 103 us | 66 us |
//! | 8 direct writes of 4 KiB | 353 us | 124 us |
//! | 64 direct reads of 4 KiB | 4.2 ms | 0.8 ms |
//! | 64 direct writes of 4 KiB | 3.5 ms | 0.5 ms |
//! | one buffered write of 4 KiB | 5 us | 56 us |
//!
//! So a single transfer is a plain call. So is a write through the page cache, which the kernel
//! hands to a worker thread when it comes from a ring.
//!
//! A batch takes a ring from a small pool. Rings are made when they are first needed. When a ring
//! cannot be made, or fails, this disk goes on with plain calls.
//!
//! When the kernel closes a ring it interrupts, a moment later, whatever call each thread waits in that
//! has used it, and those may be threads of the program around: a read with a timeout fails with EINTR
//! then. So rings that work are not closed: the next disk of the process gets them (`idle`).
//!
//! The lock of a database is in every ring's file table. The kernel closes a killed process's rings
//! only when their last write is done, and so holds the lock until then; otherwise an old image
//! could land after the next opener's recovery. A ring that cannot take a lock into its table is
//! not used.

#[expect(
    unsafe_code,
    reason = "the kernel reads and writes buffers; the module says why it is sound"
)]
mod ring;

mod idle;

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;
use std::sync::Arc;

use self::ring::{LOCKS_MAX, Ring};
use super::blocking::BlockingDisk;
use super::lock::FileLock;
use super::{Access, DirectoryLock, Disk, DiskFile, FileSize, OpenMode, Transfer};
use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use crate::sync::{Mutex, MutexGuard};

/// Batches that run at the same time without waiting for each other.
const RINGS_MAX: usize = 4;

/// The file system, through io_uring.
#[derive(Debug)]
pub struct UringDisk {
    blocking: BlockingDisk,
    pool: Arc<Pool>,
}

impl UringDisk {
    /// A disk, where the kernel and the sandbox allow io_uring; otherwise what refused it.
    pub fn probe() -> io::Result<Self> {
        let pool = Pool::default();
        *pool.rings[0].lock() = Some(idle::ring(&[NO_LOCK; LOCKS_MAX])?);
        Ok(Self { blocking: BlockingDisk::new(), pool: Arc::new(pool) })
    }
}

/// An empty place in a ring's file table.
const NO_LOCK: RawFd = -1;

/// The rings, and the locks that each of them must hold.
#[derive(Default)]
struct Pool {
    /// Taken before a ring's mutex, never after it.
    locks: Mutex<LockTable>,
    rings: [Mutex<Option<Ring>>; RINGS_MAX],
    /// Where the next batch that finds every ring busy waits.
    next: AtomicUsize,
    /// Set for good when a ring could not be made or used, or could not take a lock.
    is_disabled: AtomicBool,
}

/// Descriptors of the held locks, by place in the rings' file tables.
struct LockTable([RawFd; LOCKS_MAX]);

impl Default for LockTable {
    fn default() -> Self {
        Self([NO_LOCK; LOCKS_MAX])
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("is_disabled", &self.is_disabled).finish_non_exhaustive()
    }
}

impl Pool {
    /// Runs a batch on a ring; what no ring has run is left to the caller, by index.
    fn run(&self, batch: &mut [Transfer<'_>]) -> Vec<usize> {
        // Acquire, with the release in `disable`: who sees the flag uses no ring.
        if self.is_disabled.load(Ordering::Acquire) {
            return (0..batch.len()).collect();
        }
        let Some(mut place) = self.ring() else { return (0..batch.len()).collect() };
        // Taken out, so that a panic inside drops the ring with what is left in its queue.
        let Some(mut ring) = place.take() else { return (0..batch.len()).collect() };
        let left = ring.run(batch);
        if ring.is_broken() {
            self.is_disabled.store(true, Ordering::Release);
        } else {
            *place = Some(ring);
        }
        left
    }

    /// A ring of this thread's own for a while: an idle one, else a new one, else it waits.
    fn ring(&self) -> Option<MutexGuard<'_, Option<Ring>>> {
        let mut empty = false;
        for place in &self.rings {
            if let Some(ring) = place.try_lock() {
                if ring.is_some() {
                    return Some(ring);
                }
                empty = true;
            }
        }
        if empty && let Some(ring) = self.new_ring() {
            return Some(ring);
        }
        // Relaxed: any place will do.
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        self.rings.get(turn % RINGS_MAX).map(Mutex::lock)
    }

    /// Makes a ring in an empty place, with every held lock in its table.
    fn new_ring(&self) -> Option<MutexGuard<'_, Option<Ring>>> {
        // Held throughout, so that no lock is taken between the look at the table and the ring.
        let locks = self.locks.lock();
        for place in &self.rings {
            if let Some(mut place) = place.try_lock()
                && place.is_none()
            {
                match idle::ring(&locks.0) {
                    Ok(ring) => *place = Some(ring),
                    Err(_refused) => self.is_disabled.store(true, Ordering::Release),
                }
                return place.is_some().then_some(place);
            }
        }
        None
    }

    /// Puts a lock into every ring's table; `None` where the rings are not used any more.
    fn hold(&self, lock: &FileLock) -> Option<usize> {
        let mut locks = self.locks.lock();
        let slot = locks.0.iter().position(|&held| held == NO_LOCK);
        let held = slot.filter(|&slot| self.set(slot, lock.file().as_raw_fd()).is_ok());
        match held {
            Some(slot) => locks.0[slot] = lock.file().as_raw_fd(),
            None => self.is_disabled.store(true, Ordering::Release),
        }
        held
    }

    /// Takes a lock out of every ring's table.
    fn release(&self, slot: usize) {
        let mut locks = self.locks.lock();
        locks.0[slot] = NO_LOCK;
        if self.set(slot, NO_LOCK).is_err() {
            // The unlock releases it all the same; but a ring that refuses is not used further.
            self.is_disabled.store(true, Ordering::Release);
        }
    }

    /// Sets a place in every ring's table; waits for the batches that run.
    fn set(&self, slot: usize, lock: RawFd) -> io::Result<()> {
        for place in &self.rings {
            if let Some(ring) = place.lock().as_mut() {
                ring.set_lock(slot, lock)?;
            }
        }
        Ok(())
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // Every lock was taken out of their tables, or the pool disabled.
        if !self.is_disabled.load(Ordering::Acquire) {
            idle::keep(self.rings.iter().filter_map(|place| place.lock().take()));
        }
    }
}

/// A lock that the rings hold as well.
#[derive(Debug)]
struct UringLock {
    pool: Arc<Pool>,
    slot: Option<usize>,
    _lock: FileLock,
}

impl DirectoryLock for UringLock {}

impl Drop for UringLock {
    fn drop(&mut self) {
        // Before the file is unlocked and closed: its number may stand for another file then.
        if let Some(slot) = self.slot {
            self.pool.release(slot);
        }
    }
}

impl Disk for UringDisk {
    fn open(&self, path: &Path, mode: OpenMode, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        self.blocking.open(path, mode, access)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.blocking.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.blocking.remove_file(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.blocking.create_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.blocking.sync_dir(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<OsString>> {
        self.blocking.list(path)
    }

    fn size(&self, path: &Path) -> io::Result<FileSize> {
        self.blocking.size(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DirectoryLock>> {
        let lock = FileLock::acquire(path)?;
        let slot = self.pool.hold(&lock);
        Ok(Box::new(UringLock { pool: Arc::clone(&self.pool), slot, _lock: lock }))
    }

    fn lock_to_read(&self, path: &Path) -> io::Result<Box<dyn DirectoryLock>> {
        // Who only reads leaves no write in flight for the ring to guard.
        Ok(Box::new(FileLock::acquire_to_read(path)?))
    }

    fn transfer(&self, batch: &mut [Transfer<'_>]) {
        if let [single] = batch {
            single.run();
            return;
        }
        for index in self.pool.run(batch) {
            batch[index].run();
        }
    }

    fn name(&self) -> &'static str {
        "uring"
    }
}

#[cfg(test)]
mod tests {
    use super::{LOCKS_MAX, Ordering, UringDisk};
    use crate::disk::{Access, AlignedBuf, BLOCK_BYTES, Disk, OpenMode, Transfer};

    /// Writes two blocks side by side and reads them back.
    fn check_transfer(disk: &UringDisk, directory: &std::path::Path) {
        let file = disk.open(&directory.join("file"), OpenMode::Create, Access::Direct).unwrap();
        let mut block = AlignedBuf::new(BLOCK_BYTES);
        block.fill(7);
        let mut batch = [Transfer::write(&*file, 0, &block), Transfer::write(&*file, 4096, &block)];
        disk.transfer(&mut batch);
        assert!(batch.iter().all(|transfer| transfer.result.is_ok()));
        let mut found = AlignedBuf::new(2 * BLOCK_BYTES);
        file.read_at(&mut found, 0).unwrap();
        assert!(found.iter().all(|&byte| byte == 7));
    }

    #[test]
    fn a_disk_that_is_gone_interrupts_no_call_of_who_used_it() {
        let (socket, _other) = std::os::unix::net::UnixDatagram::pair().unwrap();
        socket.set_read_timeout(Some(std::time::Duration::from_millis(20))).unwrap();
        let directory = tempfile::tempdir().unwrap();
        for _ in 0..20 {
            let Ok(disk) = UringDisk::probe() else { return };
            let lock = disk.lock(&directory.path().join("LOCK")).unwrap();
            check_transfer(&disk, directory.path());
            drop((disk, lock));
            let nothing = socket.recv(&mut [0]).unwrap_err();
            assert_eq!(nothing.kind(), std::io::ErrorKind::WouldBlock);
        }
    }

    #[test]
    fn released_locks_make_room_in_the_tables() {
        let Ok(disk) = UringDisk::probe() else { return };
        let directory = tempfile::tempdir().unwrap();
        for _ in 0..=LOCKS_MAX {
            drop(disk.lock(&directory.path().join("LOCK")).unwrap());
        }
        assert!(!disk.pool.is_disabled.load(Ordering::Acquire));
        check_transfer(&disk, directory.path());
    }

    #[test]
    fn one_lock_too_many_for_the_tables_ends_the_use_of_rings() {
        let Ok(disk) = UringDisk::probe() else { return };
        let directory = tempfile::tempdir().unwrap();
        let lock = |index: usize| disk.lock(&directory.path().join(index.to_string())).unwrap();
        let held: Vec<_> = (0..LOCKS_MAX).map(lock).collect();
        assert!(!disk.pool.is_disabled.load(Ordering::Acquire));
        let beyond = lock(LOCKS_MAX);
        assert!(disk.pool.is_disabled.load(Ordering::Acquire));
        check_transfer(&disk, directory.path());
        drop((held, beyond));
    }

    #[test]
    fn batch_that_finds_a_ring_busy_gets_another() {
        let Ok(disk) = UringDisk::probe() else { return };
        let directory = tempfile::tempdir().unwrap();
        let lock = disk.lock(&directory.path().join("LOCK")).unwrap();
        let busy = disk.pool.ring().unwrap();
        let second = disk.pool.ring().unwrap();
        assert!(second.is_some());
        drop((busy, second));
        drop(lock);
        assert!(!disk.pool.is_disabled.load(Ordering::Acquire));
    }
}
