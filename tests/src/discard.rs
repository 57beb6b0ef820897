//! A disk that takes nothing seriously: what is written to the log and to the doublewrite file (behind
//! its header) is thrown away, everything else is kept in memory, and syncs do nothing. The engine on it does all the
//! work that does not touch a device, so the difference to a real disk is what logging, paging and
//! checkpoints cost.
//!
//! A database on it can be used, and its pages evicted and read again. What reads the log back
//! (opening it again, long rollbacks, backups) finds zeros.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use seawall_wal::codec::{to_u64, to_usize};
use seawall_wal::disk::{
    Access, BLOCK_BYTES, DirectoryLock, Disk, DiskFile, FileSize, OpenMode, Transfer, TransferKind,
};

use crate::log_space::WAL_NAME;

/// Name of the doublewrite file in a database.
const DOUBLEWRITE_NAME: &str = "doublewrite";
/// Files are kept in pieces of this size.
const PIECE_BYTES: usize = 64 << 10;

/// A disk that throws log and doublewrite images away, see the module. Clones are the same disk.
#[derive(Clone, Debug, Default)]
pub struct DiscardDisk(Arc<Mutex<Names>>);

#[derive(Debug, Default)]
struct Names {
    files: BTreeMap<PathBuf, Arc<Content>>,
    folders: BTreeSet<PathBuf>,
    locked: BTreeSet<PathBuf>,
}

/// What a file contains.
#[derive(Debug)]
struct Content {
    length_bytes: AtomicU64,
    /// What is written behind is thrown away, and reads as zeros.
    kept_bytes: u64,
    /// By number; a missing piece is zeros.
    pieces: RwLock<HashMap<u64, Box<[u8]>>>,
}

impl Content {
    fn new(kept_bytes: u64) -> Self {
        Self { length_bytes: AtomicU64::new(0), kept_bytes, pieces: RwLock::default() }
    }

    fn length(&self) -> u64 {
        self.length_bytes.load(Ordering::SeqCst)
    }

    fn read(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        if offset + to_u64(buf.len()) > self.length() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let pieces = self.pieces.read().unwrap_or_else(PoisonError::into_inner);
        for part in parts(offset, buf.len()) {
            let target = &mut buf[part.in_buffer];
            match pieces.get(&part.piece) {
                Some(piece) => target.copy_from_slice(&piece[part.in_piece]),
                None => target.fill(0),
            }
        }
        Ok(())
    }

    fn write(&self, buf: &[u8], offset: u64) {
        let kept = to_usize(self.kept_bytes.saturating_sub(offset)).min(buf.len());
        if kept > 0 {
            let mut pieces = self.pieces.write().unwrap_or_else(PoisonError::into_inner);
            for part in parts(offset, kept) {
                let piece = pieces.entry(part.piece).or_insert_with(|| vec![0; PIECE_BYTES].into());
                piece[part.in_piece].copy_from_slice(&buf[part.in_buffer]);
            }
        }
        self.length_bytes.fetch_max(offset + to_u64(buf.len()), Ordering::SeqCst);
    }

    /// Cuts or extends; what is cut off reads as zeros when the file grows again.
    fn set_len(&self, length_bytes: u64) {
        if length_bytes < self.length() {
            let mut pieces = self.pieces.write().unwrap_or_else(PoisonError::into_inner);
            let piece_bytes = to_u64(PIECE_BYTES);
            let last = length_bytes / piece_bytes;
            pieces.retain(|number, _| *number <= last);
            if let Some(piece) = pieces.get_mut(&last) {
                piece[to_usize(length_bytes % piece_bytes)..].fill(0);
            }
        }
        self.length_bytes.store(length_bytes, Ordering::SeqCst);
    }

    fn size(&self) -> FileSize {
        let length_bytes = self.length();
        FileSize { length_bytes, allocated_bytes: length_bytes }
    }
}

/// A stretch of a transfer that lies in one piece.
struct Part {
    piece: u64,
    in_piece: std::ops::Range<usize>,
    in_buffer: std::ops::Range<usize>,
}

fn parts(offset: u64, length: usize) -> impl Iterator<Item = Part> {
    let piece_bytes = to_u64(PIECE_BYTES);
    let mut done = 0;
    std::iter::from_fn(move || {
        let at = offset + to_u64(done);
        let start = to_usize(at % piece_bytes);
        let count = (PIECE_BYTES - start).min(length - done);
        let part = Part {
            piece: at / piece_bytes,
            in_piece: start..start + count,
            in_buffer: done..done + count,
        };
        done += count;
        (count > 0).then_some(part)
    })
}

/// A file of a [`DiscardDisk`].
#[derive(Debug)]
struct DiscardFile {
    path: PathBuf,
    is_direct: bool,
    content: Arc<Content>,
}

/// A held lock of a [`DiscardDisk`].
#[derive(Debug)]
struct DiscardLock {
    disk: DiscardDisk,
    path: PathBuf,
}

impl DirectoryLock for DiscardLock {}

impl Drop for DiscardLock {
    fn drop(&mut self) {
        self.disk.names().locked.remove(&self.path);
    }
}

impl DiscardDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How much is kept of a file, from its start.
fn kept_bytes(path: &Path) -> u64 {
    let is_log = path.parent().is_some_and(|folder| folder.ends_with(WAL_NAME));
    match (is_log, path.ends_with(DOUBLEWRITE_NAME)) {
        (true, _) => 0,
        (false, true) => to_u64(BLOCK_BYTES),
        (false, false) => u64::MAX,
    }
}

fn not_found(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{} is not there", path.display()))
}

impl Disk for DiscardDisk {
    fn open(&self, path: &Path, mode: OpenMode, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        let mut names = self.names();
        let content = match mode {
            OpenMode::Create => {
                let content = Arc::new(Content::new(kept_bytes(path)));
                names.files.insert(path.to_path_buf(), Arc::clone(&content));
                content
            }
            OpenMode::ReadOnly | OpenMode::ReadWrite => {
                Arc::clone(names.files.get(path).ok_or_else(|| not_found(path))?)
            }
        };
        let is_direct = access == Access::Direct;
        Ok(Arc::new(DiscardFile { path: path.to_path_buf(), is_direct, content }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut names = self.names();
        let content = names.files.remove(from).ok_or_else(|| not_found(from))?;
        names.files.insert(to.to_path_buf(), content);
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.names().files.remove(path).map(drop).ok_or_else(|| not_found(path))
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.names().folders.extend(path.ancestors().map(Path::to_path_buf));
        Ok(())
    }

    fn sync_dir(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<OsString>> {
        let names = self.names();
        if !names.folders.contains(path) {
            return Err(not_found(path));
        }
        let inside = |entry: &&PathBuf| entry.parent() == Some(path);
        let entries = names.files.keys().chain(&names.folders).filter(inside);
        let mut found: Vec<_> =
            entries.filter_map(|entry| entry.file_name().map(OsString::from)).collect();
        found.sort_unstable();
        Ok(found)
    }

    fn size(&self, path: &Path) -> io::Result<FileSize> {
        let names = self.names();
        names.files.get(path).map(|content| content.size()).ok_or_else(|| not_found(path))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DirectoryLock>> {
        if !self.names().locked.insert(path.to_path_buf()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(DiscardLock { disk: self.clone(), path: path.to_path_buf() }))
    }

    fn lock_to_read(&self, path: &Path) -> io::Result<Box<dyn DirectoryLock>> {
        self.lock(path)
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
        "discard"
    }
}

impl DiskFile for DiscardFile {
    fn path(&self) -> &Path {
        &self.path
    }

    fn is_direct(&self) -> bool {
        self.is_direct
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.content.read(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.content.write(buf, offset);
        Ok(())
    }

    fn write_sync_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.write_at(buf, offset)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn set_len(&self, length_bytes: u64) -> io::Result<()> {
        self.content.set_len(length_bytes);
        Ok(())
    }

    fn size(&self) -> io::Result<FileSize> {
        Ok(self.content.size())
    }

    fn as_any(&self) -> &dyn std::any::Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use seawall::{Durability, Options};
    use seawall_wal::disk::{Access, BLOCK_BYTES, Disk, OpenMode};

    use super::{DiscardDisk, PIECE_BYTES};

    #[test]
    fn pages_are_kept_and_log_and_doublewrite_images_thrown_away() {
        let disk = DiscardDisk::new();
        let length = 2 * PIECE_BYTES;
        for (path, kept) in
            [("/db/pages", length), ("/db/wal/1", 0), ("/db/doublewrite", BLOCK_BYTES - 100)]
        {
            let file = disk.open(Path::new(path), OpenMode::Create, Access::Buffered).unwrap();
            let mut bytes = vec![7; length];
            file.write_sync_at(&bytes, 100).unwrap();
            file.read_at(&mut bytes, 100).unwrap();
            assert!(bytes[..kept].iter().all(|byte| *byte == 7), "{path}");
            assert!(bytes[kept..].iter().all(|byte| *byte == 0), "{path}");
            assert!(file.read_at(&mut bytes, 101).is_err(), "{path} ends");
            file.set_len(200).unwrap();
            file.set_len(1000).unwrap();
            file.read_at(&mut bytes[..200], 100).unwrap();
            assert_eq!(bytes[150], 0, "what was cut off is gone");
        }
    }

    #[test]
    fn a_database_larger_than_its_cache_works_on_it() {
        let disk = DiscardDisk::new();
        let options = Options::new().disk_injected(Arc::new(disk.clone())).cache_bytes(2 << 20);
        let database = options.open("/db").unwrap();
        let tree = database.tree("t").unwrap();
        for i in 0..20_000_u32 {
            tree.insert_with(i.to_be_bytes(), [b'v'; 300], Durability::Relaxed).unwrap();
        }
        assert_eq!(tree.range(..).unwrap().count(), 20_000);
        assert!(database.stats().page_file_bytes > 2 << 20);
        assert!(database.stats().cache_misses > 0);
        database.close().unwrap();
    }
}
