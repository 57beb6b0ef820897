//! A disk in memory that can crash, fail and lie, the same way each time.
//!
//! It keeps what the running program sees apart from what is durable, contents apart from names.
//! Every operation that changes something has a number, from 1. [`SimDisk::crash`] gives the disk as
//! found after a power cut at this moment, by a [`CrashPlan`]; [`SimDisk::record_forks`] keeps a copy
//! before each operation, so that one run yields a crash at every one of them. A synced write counts
//! as two operations, the write and the sync, so that it can tear. Faults come by plan ([`Fault`]).
//!
//! It is harsher than a file system where a file system promises nothing: syncing a file does not
//! make its name durable, and unsynced sectors survive in any combination.

mod crash;
mod fault;
mod image;
mod inode;
mod names;
mod operation;
mod random;
mod state;

use std::collections::HashSet;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::image::Image;
use self::names::{Entry, InodeId, normal};
use self::state::State;
use super::{
    Access, DirectoryLock, Disk, DiskFile, FileSize, OpenMode, Transfer, assert_block_aligned,
};
use crate::codec::{to_u64, to_usize};
use crate::sync::{Mutex, MutexGuard};

pub use self::crash::{CrashPlan, SECTOR_BYTES};
pub use self::fault::{EIO, ENOSPC, Fault, FaultEffect};
pub use self::operation::{OperationKind, SimOperation};

/// Called before each operation.
pub type Monitor = Arc<dyn Fn(&SimOperation<'_>) + Send + Sync>;

/// What a failed sync does to the writes it should have made durable.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FailedSync {
    /// They are lost, and the next sync succeeds without them. Where there is a page cache, the program
    /// goes on seeing them until the crash: so does ext4.
    #[default]
    LosesWrites,
    /// They stay unsynced.
    KeepsWrites,
}

/// A disk in memory. Clones are the same disk; [`SimDisk::fork`] makes another.
#[derive(Clone, Default)]
pub struct SimDisk {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    monitor: Mutex<Option<Monitor>>,
}

/// A copy of the disk from before an operation; see [`SimDisk::record_forks`].
#[derive(Debug)]
pub struct SimFork {
    operation: u64,
    record: operation::Record,
    disk: SimDisk,
}

impl SimFork {
    /// Number of the operation that was about to run.
    #[must_use]
    pub fn operation(&self) -> u64 {
        self.operation
    }

    /// What the operation was.
    #[must_use]
    pub fn describe(&self) -> String {
        self.record.to_string()
    }

    /// The disk before it.
    #[must_use]
    pub fn disk(&self) -> &SimDisk {
        &self.disk
    }
}

impl SimDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock()
    }

    fn with_state(state: State) -> Self {
        Self { inner: Arc::new(Inner { state: Mutex::new(state), monitor: Mutex::new(None) }) }
    }

    /// An independent copy as it is now, with what is not synced. It has no locks held, no faults
    /// planned and no monitor, and goes on counting. It is also what a program finds after it was
    /// killed on a machine that went on.
    #[must_use]
    pub fn fork(&self) -> Self {
        Self::with_state(self.state().fork())
    }

    /// The disk as found after a power cut now, counting from 1 again. This one goes on.
    #[must_use]
    pub fn crash(&self, plan: CrashPlan) -> Self {
        Self::with_state(self.state().crash(plan).0)
    }

    /// The disks as found after a power cut now, by every plan, those with a seed once for each of
    /// these. No two of them have kept the same changes; the plan is the first that keeps them.
    pub fn crash_states(
        &self,
        seeds: std::ops::Range<u64>,
    ) -> impl Iterator<Item = (CrashPlan, Self)> + use<'_> {
        let mut seen = HashSet::new();
        CrashPlan::all(seeds).filter_map(move |plan| {
            let (state, mark) = self.state().crash(plan);
            seen.insert(mark).then(|| (plan, Self::with_state(state)))
        })
    }

    /// Changes of contents and names that a crash may lose.
    #[must_use]
    pub fn unsynced_changes(&self) -> usize {
        self.state().unsynced_changes()
    }

    /// Operations so far that change something, failed ones too.
    #[must_use]
    pub fn operation_count(&self) -> u64 {
        self.state().operations
    }

    /// A number that is another one after each crash, by when it came and what it left; for whoever
    /// wants different numbers in different lives, and the same in a repetition.
    #[must_use]
    pub fn lineage(&self) -> u64 {
        self.state().lineage
    }

    /// Reads so far, failed ones too.
    #[must_use]
    pub fn read_count(&self) -> u64 {
        self.state().reads
    }

    /// What operation `number` was; `None` where it has not run on this disk (a fork knows its own).
    #[must_use]
    pub fn describe(&self, number: u64) -> Option<String> {
        self.state().describe(number)
    }

    /// Keeps a fork before each operation from here on.
    pub fn record_forks(&self) {
        self.state().record_forks(Box::new(|_number| true));
    }

    /// Keeps a fork before those operations whose number `wanted` accepts.
    pub fn record_forks_where(&self, wanted: impl Fn(u64) -> bool + Send + 'static) {
        self.state().record_forks(Box::new(wanted));
    }

    /// Stops recording, and gives out the forks in order.
    #[must_use]
    pub fn take_forks(&self) -> Vec<SimFork> {
        self.state().take_forks()
    }

    /// Plans a fault. Of several that match, the one planned first strikes.
    pub fn add_fault(&self, fault: Fault) {
        self.state().faults.add(fault);
    }

    /// Forgets the faults that have not struck, and the lasting ones.
    pub fn clear_faults(&self) {
        self.state().faults.clear();
    }

    /// What a failed sync does from here on.
    pub fn set_failed_sync(&self, behaviour: FailedSync) {
        self.state().failed_sync = behaviour;
    }

    /// Whether files opened for direct access bypass the page cache (they do, at first). Where they do
    /// not, a failed sync leaves bytes in the cache that the disk does not have.
    pub fn set_direct(&self, is_direct: bool) {
        self.state().refuses_direct = !is_direct;
    }

    /// Bounds the sum of the files' lengths; a change that would exceed it fails with ENOSPC. `None`
    /// takes the bound away.
    pub fn set_capacity(&self, capacity_bytes: Option<u64>) {
        self.state().capacity_bytes = capacity_bytes;
    }

    /// Sum of the files' lengths.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.state().used_bytes()
    }

    /// Has `monitor` called before each operation, reads too, in the thread that runs it. The disk's
    /// state is not locked meanwhile.
    pub fn set_monitor(&self, monitor: Monitor) {
        *self.inner.monitor.lock() = Some(monitor);
    }

    /// Evicts what the program sees and the medium does not have: lost writes become visible as lost.
    pub fn drop_caches(&self) {
        self.state().drop_caches();
    }

    /// Flips a bit of a file, on the medium and in the cache.
    ///
    /// # Panics
    /// When there is no such file or byte, or `bit` is above 7.
    pub fn flip_bit(&self, path: &Path, offset: u64, bit: u8) {
        assert!(bit < 8, "a byte has no bit {bit}");
        let mut state = self.state();
        let id = state.names.file(&normal(path)).expect("the file to damage is there");
        let inode = state.inode_mut(id);
        assert!(offset < inode.current().length(), "the byte to damage is there");
        inode.flip_bit(offset, bit);
    }

    /// Paths and lengths in bytes of all files, sorted by path.
    #[must_use]
    pub fn files(&self) -> Vec<(PathBuf, u64)> {
        let state = self.state();
        let files = state.names.current().iter().filter_map(|(path, entry)| match entry {
            Entry::File(id) => Some((path.to_path_buf(), state.inode(*id).current().length())),
            Entry::Directory => None,
        });
        files.collect()
    }

    /// The whole of a file as the program sees it. Neither counted nor subject to faults.
    pub fn read_file(&self, path: &Path) -> io::Result<Vec<u8>> {
        let state = self.state();
        let image = state.inode(state.file(&normal(path))?).current();
        let mut bytes = vec![0; to_usize(image.length())];
        image.read(0, &mut bytes);
        Ok(bytes)
    }

    /// Puts a file there with these bytes, durable with its name and the directories above it.
    /// Neither counted nor subject to faults.
    pub fn write_file(&self, path: &Path, bytes: &[u8]) {
        let mut image = Image::default();
        image.write(0, bytes);
        self.state().put_file(&normal(path), image);
    }

    /// Calls the monitor.
    fn announce(&self, operation: &SimOperation<'_>) {
        let monitor = self.inner.monitor.lock().clone();
        if let Some(monitor) = monitor {
            monitor(operation);
        }
    }

    /// Holds the lock on `path`, which the drop of what is returned releases.
    fn claim(&self, path: &Path) -> io::Result<SimLock> {
        let path = normal(path);
        if !self.state().locks.insert(path.clone()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(SimLock { disk: self.clone(), path })
    }

    /// Runs an operation that neither transfers bytes nor can go wrong in more than two ways.
    fn plain(
        &self,
        operation: SimOperation<'_>,
        run: impl FnOnce(&mut State, u64) -> io::Result<()>,
    ) -> io::Result<()> {
        self.announce(&operation);
        let mut state = self.state();
        let (number, effect) = state.begin(&operation);
        match effect {
            None => run(&mut state, number),
            Some(effect) => effect.error().map_or(Ok(()), Err),
        }
    }
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimDisk { .. }")
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &Path, mode: OpenMode, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        let path = normal(path);
        if mode == OpenMode::Create {
            let operation = SimOperation::on(OperationKind::Create, &path);
            self.plain(operation, |state, number| state.create(number, &path))?;
        }
        let mut state = self.state();
        let inode = state.file(&path)?;
        state.add_handle(inode);
        drop(state);
        let is_writable = mode != OpenMode::ReadOnly;
        Ok(Arc::new(SimFile { disk: self.clone(), inode, path, access, is_writable }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (normal(from), normal(to));
        let operation = SimOperation::on(OperationKind::Rename, &from);
        self.plain(operation, |state, _number| state.rename(&from, &to))
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let path = normal(path);
        let operation = SimOperation::on(OperationKind::Remove, &path);
        self.plain(operation, |state, _number| state.remove(&path))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let path = normal(path);
        let mut missing: Vec<_> = path.ancestors().collect();
        missing.retain(|above| !self.state().names.is_directory(above));
        for directory in missing.into_iter().rev() {
            let operation = SimOperation::on(OperationKind::CreateDir, directory);
            self.plain(operation, |state, _number| state.create_dir(directory))?;
        }
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let path = normal(path);
        let operation = SimOperation::on(OperationKind::SyncDir, &path);
        self.plain(operation, |state, _number| state.sync_dir(&path))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<OsString>> {
        self.state().list(&normal(path))
    }

    fn size(&self, path: &Path) -> io::Result<FileSize> {
        let state = self.state();
        let inode = state.file(&normal(path))?;
        Ok(state.size(inode))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DirectoryLock>> {
        let lock = self.claim(path)?;
        if self.state().names.file(&lock.path).is_none() {
            let operation = SimOperation::on(OperationKind::Create, &lock.path);
            self.plain(operation, |state, number| state.create(number, &lock.path))?;
        }
        Ok(Box::new(lock))
    }

    fn lock_to_read(&self, path: &Path) -> io::Result<Box<dyn DirectoryLock>> {
        let lock = self.claim(path)?;
        let is_there = self.state().names.file(&lock.path).is_some();
        if is_there { Ok(Box::new(lock)) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    fn transfer(&self, batch: &mut [Transfer<'_>]) {
        for transfer in batch {
            transfer.run();
        }
    }

    fn name(&self) -> &'static str {
        "sim"
    }
}

/// A held lock.
#[derive(Debug)]
struct SimLock {
    disk: SimDisk,
    path: PathBuf,
}

impl DirectoryLock for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.disk.state().locks.remove(&self.path);
    }
}

/// An open file.
#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    inode: InodeId,
    path: PathBuf,
    access: Access,
    is_writable: bool,
}

impl Drop for SimFile {
    fn drop(&mut self) {
        self.disk.state().drop_handle(self.inode);
    }
}

impl SimFile {
    fn check(&self, buf: &[u8], offset: u64) {
        if self.access == Access::Direct {
            assert_block_aligned(buf, offset);
        }
    }

    fn check_writable(&self) -> io::Result<()> {
        if self.is_writable { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
    }

    /// The write, and the number of its operation.
    fn write(&self, buf: &[u8], offset: u64) -> io::Result<u64> {
        self.check(buf, offset);
        self.check_writable()?;
        let operation = SimOperation::write(OperationKind::Write, &self.path, offset, buf);
        self.disk.announce(&operation);
        let mut state = self.disk.state();
        let (number, effect) = state.begin(&operation);
        state.write(number, self.inode, offset, buf, effect)?;
        Ok(number)
    }
}

impl DiskFile for SimFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn is_direct(&self) -> bool {
        self.access == Access::Direct && !self.disk.state().refuses_direct
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.check(buf, offset);
        let mut operation = SimOperation::on(OperationKind::Read, &self.path);
        operation.offset = offset;
        operation.length = buf.len();
        self.disk.announce(&operation);
        let mut state = self.disk.state();
        if let Some(error) = state.begin_read(&operation) {
            return Err(error);
        }
        let image = state.inode(self.inode).current();
        if buf.is_empty() {
            return Ok(());
        }
        if offset.checked_add(to_u64(buf.len())).is_none_or(|end| end > image.length()) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        image.read(offset, buf);
        Ok(())
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.write(buf, offset).map(drop)
    }

    fn write_sync_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        let written = self.write(buf, offset)?;
        let operation = SimOperation::write(OperationKind::WriteSync, &self.path, offset, buf);
        self.disk.announce(&operation);
        let mut state = self.disk.state();
        let (_number, effect) = state.begin(&operation);
        state.sync((self.inode, self.access), Some(written), effect)
    }

    fn sync(&self) -> io::Result<()> {
        let operation = SimOperation::on(OperationKind::Sync, &self.path);
        self.disk.announce(&operation);
        let mut state = self.disk.state();
        let (_number, effect) = state.begin(&operation);
        state.sync((self.inode, self.access), None, effect)
    }

    fn set_len(&self, length_bytes: u64) -> io::Result<()> {
        self.check_writable()?;
        let mut operation = SimOperation::on(OperationKind::SetLen, &self.path);
        operation.offset = length_bytes;
        self.disk.plain(operation, |state, number| {
            state.check_growth(self.inode, length_bytes)?;
            state.inode_mut(self.inode).set_len(number, length_bytes);
            Ok(())
        })
    }

    fn size(&self) -> io::Result<FileSize> {
        Ok(self.disk.state().size(self.inode))
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests;
