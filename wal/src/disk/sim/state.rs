//! Everything a simulated disk knows, behind its one mutex, and what each operation does to it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::super::Access;
use super::crash::{self, CrashPlan, Mark, SECTOR_BYTES, sectors};
use super::fault::{ENOSPC, FaultEffect, Faults};
use super::image::Image;
use super::inode::Inode;
use super::names::{Entry, InodeId, Names};
use super::operation::{Record, SimOperation};
use super::{FailedSync, SimDisk, SimFork};
use crate::codec::{to_u64, to_usize};
use crate::disk::FileSize;

/// Everything a simulated disk knows.
#[derive(Default)]
pub(super) struct State {
    inodes: BTreeMap<InodeId, Arc<Inode>>,
    /// Shared by forks until one of them changes a name.
    pub(super) names: Arc<Names>,
    next_inode: InodeId,
    /// Open handles, where there are any.
    handles: BTreeMap<InodeId, usize>,
    pub(super) locks: BTreeSet<PathBuf>,
    pub(super) operations: u64,
    pub(super) reads: u64,
    /// Tells disks that have crashed in different ways, or at different times, from each other.
    pub(super) lineage: u64,
    /// Descriptions of the last operations, up to number `operations`.
    records: Vec<Record>,
    pub(super) capacity_bytes: Option<u64>,
    pub(super) failed_sync: FailedSync,
    /// Files opened for direct access go through the page cache all the same.
    pub(super) refuses_direct: bool,
    pub(super) faults: Faults,
    recording: Option<Box<dyn Fn(u64) -> bool + Send>>,
    forks: Vec<SimFork>,
}

impl State {
    /// Contents, names, and what is known of them; no locks, handles, faults, forks or records.
    pub(super) fn fork(&self) -> Self {
        Self {
            inodes: self.inodes.clone(),
            names: Arc::clone(&self.names),
            next_inode: self.next_inode,
            operations: self.operations,
            reads: self.reads,
            lineage: self.lineage,
            capacity_bytes: self.capacity_bytes,
            failed_sync: self.failed_sync,
            refuses_direct: self.refuses_direct,
            ..Self::default()
        }
    }

    pub(super) fn crash(&self, plan: CrashPlan) -> (Self, Mark) {
        let (inodes, names, mark) = crash::crash(&self.inodes, &self.names, plan);
        let mut lineage = DefaultHasher::new();
        (self.lineage, self.operations, mark).hash(&mut lineage);
        let left = Self {
            lineage: lineage.finish(),
            inodes,
            names: Arc::new(names),
            next_inode: self.next_inode,
            capacity_bytes: self.capacity_bytes,
            failed_sync: self.failed_sync,
            refuses_direct: self.refuses_direct,
            ..Self::default()
        };
        (left, mark)
    }

    pub(super) fn unsynced_changes(&self) -> usize {
        let unsynced = |inode: &Inode| inode.pending().iter().filter(|it| !it.is_durable).count();
        self.names.pending() + self.inodes.values().map(|inode| unsynced(inode)).sum::<usize>()
    }

    pub(super) fn describe(&self, number: u64) -> Option<String> {
        let back = to_usize(self.operations.checked_sub(number)?);
        let index = self.records.len().checked_sub(back + 1)?;
        Some(self.records[index].to_string())
    }

    pub(super) fn record_forks(&mut self, wanted: Box<dyn Fn(u64) -> bool + Send>) {
        self.recording = Some(wanted);
    }

    pub(super) fn take_forks(&mut self) -> Vec<SimFork> {
        self.recording = None;
        std::mem::take(&mut self.forks)
    }

    /// Numbers an operation that changes something, and says what goes wrong with it.
    pub(super) fn begin(&mut self, operation: &SimOperation<'_>) -> (u64, Option<FaultEffect>) {
        let number = self.operations + 1;
        let record = operation.record();
        if self.recording.as_ref().is_some_and(|wanted| wanted(number)) {
            let disk = SimDisk::with_state(self.fork());
            self.forks.push(SimFork { operation: number, record: record.clone(), disk });
        }
        self.operations = number;
        self.records.push(record);
        (number, self.faults.strike(number, operation))
    }

    /// Numbers a read, and says how it fails.
    pub(super) fn begin_read(&mut self, operation: &SimOperation<'_>) -> Option<io::Error> {
        self.reads += 1;
        self.faults.strike(self.reads, operation)?.error()
    }

    /// The file of this name.
    pub(super) fn file(&self, path: &Path) -> io::Result<InodeId> {
        if self.names.is_directory(path) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        self.names.file(path).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn inode(&self, id: InodeId) -> &Inode {
        self.inodes.get(&id).expect("a file that is named or open is kept")
    }

    pub(super) fn inode_mut(&mut self, id: InodeId) -> &mut Inode {
        let inode = self.inodes.get_mut(&id).expect("a file that is named or open is kept");
        Arc::make_mut(inode)
    }

    pub(super) fn size(&self, id: InodeId) -> FileSize {
        let image = self.inode(id).current();
        FileSize { length_bytes: image.length(), allocated_bytes: image.allocated_bytes() }
    }

    pub(super) fn add_handle(&mut self, id: InodeId) {
        *self.handles.entry(id).or_default() += 1;
    }

    pub(super) fn drop_handle(&mut self, id: InodeId) {
        let count = self.handles.get_mut(&id).expect("the handle was counted when it was made");
        *count -= 1;
        if *count == 0 {
            self.handles.remove(&id);
        }
    }

    pub(super) fn used_bytes(&self) -> u64 {
        self.inodes.values().map(|inode| inode.current().length()).sum()
    }

    /// Whether a file may become this long.
    pub(super) fn check_growth(&self, id: InodeId, length: u64) -> io::Result<()> {
        let growth = length.saturating_sub(self.inode(id).current().length());
        match self.capacity_bytes {
            Some(capacity) if growth > 0 && self.used_bytes() + growth > capacity => {
                Err(io::Error::from_raw_os_error(ENOSPC))
            }
            _ => Ok(()),
        }
    }

    pub(super) fn create(&mut self, number: u64, path: &Path) -> io::Result<()> {
        if let Some(id) = self.names.file(path) {
            self.inode_mut(id).set_len(number, 0);
            return Ok(());
        }
        self.check_parent(path)?;
        if self.names.is_directory(path) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let id = self.new_inode(Inode::default());
        self.names_mut().link(path, Entry::File(id));
        Ok(())
    }

    /// A write with what goes wrong with it.
    pub(super) fn write(
        &mut self,
        number: u64,
        id: InodeId,
        offset: u64,
        bytes: &[u8],
        effect: Option<FaultEffect>,
    ) -> io::Result<()> {
        if bytes.is_empty() {
            return effect.and_then(FaultEffect::error).map_or(Ok(()), Err);
        }
        let end = offset.checked_add(to_u64(bytes.len()));
        let end = end.ok_or(io::ErrorKind::FileTooLarge)?;
        self.check_growth(id, end)?;
        let inode = self.inode_mut(id);
        match effect {
            None => inode.write(number, offset, bytes),
            Some(FaultEffect::Ignored | FaultEffect::Misdirected { .. }) => {
                if end > inode.current().length() {
                    inode.set_len(number, end);
                }
            }
            Some(FaultEffect::TornWrite { sectors: count, .. }) => {
                let written = sectors(offset, bytes).take(count).map(|(_, sector)| sector.len());
                inode.write(number, offset, &bytes[..written.sum()]);
            }
            Some(FaultEffect::Errno(_) | FaultEffect::Kind(_)) => {}
        }
        if let Some(FaultEffect::Misdirected { offset }) = effect {
            inode.write(number, offset, bytes);
        }
        effect.and_then(FaultEffect::error).map_or(Ok(()), Err)
    }

    /// A sync of one operation's write, or of the whole file, with what goes wrong with it. Where `access`
    /// bypasses the page cache, nobody goes on seeing what is lost.
    pub(super) fn sync(
        &mut self,
        (id, access): (InodeId, Access),
        written: Option<u64>,
        effect: Option<FaultEffect>,
    ) -> io::Result<()> {
        let failed_sync = self.failed_sync;
        let is_cached = access != Access::Direct || self.refuses_direct;
        let inode = self.inode_mut(id);
        let Some(effect) = effect else {
            match written {
                Some(operation) => inode.sync_operation(operation),
                None => inode.sync(),
            }
            return Ok(());
        };
        let Some(error) = effect.error() else { return Ok(()) };
        if failed_sync == FailedSync::LosesWrites {
            inode.lose(written);
            if !is_cached {
                inode.drop_cache();
            }
        }
        Err(error)
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.file(from)?;
        self.check_parent(to)?;
        if self.names.is_directory(to) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        if from != to {
            self.names_mut().rename(from, to);
        }
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.file(path)?;
        self.names_mut().unlink(path);
        Ok(())
    }

    pub(super) fn create_dir(&mut self, path: &Path) -> io::Result<()> {
        if self.names.file(path).is_some() {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        if !self.names.is_directory(path) {
            self.names_mut().link(path, Entry::Directory);
        }
        Ok(())
    }

    pub(super) fn sync_dir(&mut self, path: &Path) -> io::Result<()> {
        self.check_directory(path)?;
        self.names_mut().sync(path);
        self.forget_unreachable();
        Ok(())
    }

    pub(super) fn list(&self, path: &Path) -> io::Result<Vec<OsString>> {
        self.check_directory(path)?;
        let inside = self.names.current().keys().filter(|entry| entry.parent() == Some(path));
        let mut names: Vec<_> =
            inside.filter_map(|entry| entry.file_name()).map(OsString::from).collect();
        names.sort_unstable();
        Ok(names)
    }

    pub(super) fn drop_caches(&mut self) {
        for inode in self.inodes.values_mut() {
            Arc::make_mut(inode).drop_cache();
        }
    }

    /// Puts a durable file under a durable name.
    pub(super) fn put_file(&mut self, path: &Path, image: Image) {
        let inode = Inode::settled(image);
        let id = match self.names.file(path) {
            Some(id) => {
                self.inodes.insert(id, Arc::new(inode));
                id
            }
            None => self.new_inode(inode),
        };
        let names = self.names_mut();
        for above in path.ancestors().skip(1) {
            if above.parent().is_some() {
                names.settle(above, Entry::Directory);
            }
        }
        names.settle(path, Entry::File(id));
    }

    fn new_inode(&mut self, inode: Inode) -> InodeId {
        let id = self.next_inode;
        self.next_inode += 1;
        self.inodes.insert(id, Arc::new(inode));
        id
    }

    fn names_mut(&mut self) -> &mut Names {
        Arc::make_mut(&mut self.names)
    }

    fn check_directory(&self, path: &Path) -> io::Result<()> {
        if self.names.is_directory(path) {
            Ok(())
        } else if self.names.file(path).is_some() {
            Err(io::ErrorKind::NotADirectory.into())
        } else {
            Err(io::ErrorKind::NotFound.into())
        }
    }

    fn check_parent(&self, path: &Path) -> io::Result<()> {
        path.parent().map_or(Ok(()), |parent| self.check_directory(parent))
    }

    /// Frees files that no name can lead to any more and nobody has open.
    fn forget_unreachable(&mut self) {
        let named = self.names.reachable_files();
        let handles = &self.handles;
        self.inodes.retain(|id, _| named.contains(id) || handles.contains_key(id));
    }
}

const _: () = assert!(crate::disk::BLOCK_BYTES.is_multiple_of(SECTOR_BYTES));
