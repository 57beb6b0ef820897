//! A disk that keeps a log of what is really written, and what a power cut behind any of it leaves on a
//! real file system.
//!
//! [`RecordingDisk`] passes every operation on to the blocking disk, and notes those that change
//! something, in the order in which they return: one thread does everything, so that is the order in
//! which they are made. [`Recording::replay`] makes a first part of them again in another directory, with
//! the same system calls. When the power of *that* file system is cut then, what is left is what the
//! real one makes of those writes, names and syncs: the simulated disk's idea of it is not asked.

use std::any::Any;
use std::collections::HashMap;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use seawall_wal::disk::{
    Access, AlignedBuf, BlockingDisk, DirectoryLock, Disk, DiskFile, FileSize, OpenMode, Transfer,
    TransferKind,
};

use crate::failure::{Failure, Outcome};

/// One operation that changed something. Paths are relative to the directory that is recorded.
#[derive(Clone, Debug)]
enum Entry {
    Open {
        file: usize,
        path: PathBuf,
        mode: OpenMode,
        access: Access,
    },
    Write {
        file: usize,
        offset: u64,
        bytes: Vec<u8>,
        is_sync: bool,
    },
    Sync {
        file: usize,
    },
    SetLen {
        file: usize,
        length: u64,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
    },
    Remove {
        path: PathBuf,
    },
    CreateDir {
        path: PathBuf,
    },
    SyncDir {
        path: PathBuf,
    },
    Lock {
        path: PathBuf,
    },
    /// So many operations of the workload are acknowledged.
    Acknowledged(u64),
}

/// What was done, in order.
#[derive(Debug, Default)]
struct Entries {
    entries: Vec<Entry>,
    files: usize,
}

/// The log of a [`RecordingDisk`].
#[derive(Clone, Debug)]
pub struct Recording {
    root: PathBuf,
    entries: Arc<Mutex<Entries>>,
}

/// Passes everything on, and keeps a log.
#[derive(Debug)]
pub struct RecordingDisk {
    disk: BlockingDisk,
    recording: Recording,
}

#[derive(Debug)]
struct RecordedFile {
    file: Arc<dyn DiskFile>,
    number: usize,
    recording: Recording,
}

impl Recording {
    fn note(&self, entry: Entry) {
        self.entries.lock().expect("nothing panics under the lock").entries.push(entry);
    }

    fn relative(&self, path: &Path) -> PathBuf {
        path.strip_prefix(&self.root).unwrap_or(path).to_path_buf()
    }

    /// Operation number `number` of the workload has been acknowledged.
    pub fn acknowledge(&self, number: u64) {
        self.note(Entry::Acknowledged(number));
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.lock().expect("nothing panics under the lock").entries.len()
    }

    /// Whether nothing was done.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a power cut behind the first `count` entries tells something: the last of them is no
    /// acknowledgement.
    #[must_use]
    pub fn is_cut(&self, count: usize) -> bool {
        let entries = self.entries.lock().expect("nothing panics under the lock");
        let last = count.checked_sub(1).and_then(|last| entries.entries.get(last));
        last.is_some_and(|entry| !matches!(entry, Entry::Acknowledged(_) | Entry::Open { .. }))
    }

    /// Does the first `count` entries again below `root`, which exists. Gives how many operations of the
    /// workload had been acknowledged by then.
    ///
    /// # Errors
    /// When the file system refuses one.
    pub fn replay(&self, count: usize, root: &Path) -> Outcome<u64> {
        let entries = self.entries.lock().expect("nothing panics under the lock");
        let mut replay = Replay { disk: BlockingDisk::new(), root, files: HashMap::new(), done: 0 };
        for (number, entry) in entries.entries.iter().take(count).enumerate() {
            let done = replay.apply(entry);
            done.map_err(|error| Failure::new(format!("{error}: {number}, {entry}")))?;
        }
        Ok(replay.done)
    }

    /// What entry `number` is.
    #[must_use]
    pub fn describe(&self, number: usize) -> String {
        let entries = self.entries.lock().expect("nothing panics under the lock");
        entries.entries.get(number).map_or_else(|| "the end".to_owned(), ToString::to_string)
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open { path, mode, .. } => write!(f, "open {} {mode:?}", path.display()),
            Self::Write { file, offset, bytes, is_sync } => {
                let sync = if *is_sync { " and sync" } else { "" };
                write!(f, "write{sync} {} bytes at {offset} of file {file}", bytes.len())
            }
            Self::Sync { file } => write!(f, "sync file {file}"),
            Self::SetLen { file, length } => write!(f, "set the length of file {file} to {length}"),
            Self::Rename { from, to } => write!(f, "rename {} to {}", from.display(), to.display()),
            Self::Remove { path } => write!(f, "remove {}", path.display()),
            Self::CreateDir { path } => write!(f, "create {}", path.display()),
            Self::SyncDir { path } => write!(f, "sync the names in {}", path.display()),
            Self::Lock { path } => write!(f, "lock {}", path.display()),
            Self::Acknowledged(number) => write!(f, "acknowledged {number}"),
        }
    }
}

/// A repetition under way.
struct Replay<'r> {
    disk: BlockingDisk,
    root: &'r Path,
    files: HashMap<usize, Arc<dyn DiskFile>>,
    done: u64,
}

impl Replay<'_> {
    fn apply(&mut self, entry: &Entry) -> io::Result<()> {
        let at = |path: &Path| self.root.join(path);
        match entry {
            Entry::Open { file, path, mode, access } => {
                let opened = self.disk.open(&at(path), *mode, *access)?;
                self.files.insert(*file, opened);
                Ok(())
            }
            Entry::Write { file, offset, bytes, is_sync } => {
                let mut aligned = AlignedBuf::new(bytes.len());
                aligned.copy_from_slice(bytes);
                let file = self.file(*file)?;
                if *is_sync {
                    file.write_sync_at(&aligned, *offset)
                } else {
                    file.write_at(&aligned, *offset)
                }
            }
            Entry::Sync { file } => self.file(*file)?.sync(),
            Entry::SetLen { file, length } => self.file(*file)?.set_len(*length),
            Entry::Rename { from, to } => self.disk.rename(&at(from), &at(to)),
            Entry::Remove { path } => self.disk.remove_file(&at(path)),
            Entry::CreateDir { path } => self.disk.create_dir(&at(path)),
            Entry::SyncDir { path } => self.disk.sync_dir(&at(path)),
            Entry::Lock { path } => self.disk.lock(&at(path)).map(drop),
            Entry::Acknowledged(number) => {
                self.done = *number;
                Ok(())
            }
        }
    }

    fn file(&self, number: usize) -> io::Result<&dyn DiskFile> {
        let file = self.files.get(&number).map(|file| &**file);
        file.ok_or_else(|| io::Error::other("a file that was never opened"))
    }
}

impl RecordingDisk {
    /// Records what is done below `root`.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        let recording = Recording { root: root.to_path_buf(), entries: Arc::default() };
        Self { disk: BlockingDisk::new(), recording }
    }

    /// The log that it keeps.
    #[must_use]
    pub fn recording(&self) -> Recording {
        self.recording.clone()
    }

    /// Notes what was done to a path, where it was done.
    fn noted<T>(
        &self,
        done: io::Result<T>,
        entry: impl FnOnce(&Recording) -> Entry,
    ) -> io::Result<T> {
        if done.is_ok() {
            self.recording.note(entry(&self.recording));
        }
        done
    }
}

impl Disk for RecordingDisk {
    fn open(&self, path: &Path, mode: OpenMode, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        let file = self.disk.open(path, mode, access)?;
        let recording = self.recording.clone();
        let number = {
            let mut entries = recording.entries.lock().expect("nothing panics under the lock");
            entries.files += 1;
            entries.files
        };
        let path = recording.relative(path);
        recording.note(Entry::Open { file: number, path, mode, access });
        Ok(Arc::new(RecordedFile { file, number, recording }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.noted(self.disk.rename(from, to), |recording| {
            let (from, to) = (recording.relative(from), recording.relative(to));
            Entry::Rename { from, to }
        })
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let removed = self.disk.remove_file(path);
        self.noted(removed, |recording| Entry::Remove { path: recording.relative(path) })
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let created = self.disk.create_dir(path);
        self.noted(created, |recording| Entry::CreateDir { path: recording.relative(path) })
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let synced = self.disk.sync_dir(path);
        // Those above the root are none of ours.
        if !path.starts_with(&self.recording.root) {
            return synced;
        }
        self.noted(synced, |recording| Entry::SyncDir { path: recording.relative(path) })
    }

    fn list(&self, path: &Path) -> io::Result<Vec<OsString>> {
        self.disk.list(path)
    }

    fn size(&self, path: &Path) -> io::Result<FileSize> {
        self.disk.size(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DirectoryLock>> {
        let locked = self.disk.lock(path);
        self.noted(locked, |recording| Entry::Lock { path: recording.relative(path) })
    }

    fn lock_to_read(&self, path: &Path) -> io::Result<Box<dyn DirectoryLock>> {
        self.disk.lock_to_read(path)
    }

    fn transfer(&self, batch: &mut [Transfer<'_>]) {
        for transfer in batch {
            transfer.result = match &mut transfer.kind {
                TransferKind::Read(buf) => transfer.file.read_at(buf, transfer.offset),
                TransferKind::Write(buf) => transfer.file.write_at(buf, transfer.offset),
            };
        }
    }

    fn name(&self) -> &'static str {
        "recording"
    }
}

impl RecordedFile {
    fn noted(&self, done: io::Result<()>, entry: impl FnOnce(usize) -> Entry) -> io::Result<()> {
        if done.is_ok() {
            self.recording.note(entry(self.number));
        }
        done
    }

    fn written(&self, buf: &[u8], offset: u64, is_sync: bool) -> impl FnOnce(usize) -> Entry {
        let bytes = buf.to_vec();
        move |file| Entry::Write { file, offset, bytes, is_sync }
    }
}

impl DiskFile for RecordedFile {
    fn path(&self) -> &Path {
        self.file.path()
    }

    fn is_direct(&self) -> bool {
        self.file.is_direct()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.noted(self.file.write_at(buf, offset), self.written(buf, offset, false))
    }

    fn write_sync_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.noted(self.file.write_sync_at(buf, offset), self.written(buf, offset, true))
    }

    fn sync(&self) -> io::Result<()> {
        self.noted(self.file.sync(), |file| Entry::Sync { file })
    }

    fn set_len(&self, length: u64) -> io::Result<()> {
        self.noted(self.file.set_len(length), |file| Entry::SetLen { file, length })
    }

    fn size(&self) -> io::Result<FileSize> {
        self.file.size()
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
