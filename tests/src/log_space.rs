//! The space that a log takes on disk, temporary files and spares included, and its bound: what the
//! file system has allocated is never more than `max_wal_bytes`, whatever the engine believes.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use seawall_wal::disk::{
    Access, DirectoryLock, Disk, DiskFile, FileSize, OpenMode, SimDisk, Transfer,
};

use crate::ensure;
use crate::failure::{Failure, Outcome};

/// Name of the log's folder in a database.
pub const WAL_NAME: &str = "wal";

/// Bytes of the blocks allocated to the files in a folder; 0 where there is no folder.
///
/// # Errors
/// When a file that is there cannot be asked.
pub fn allocated_bytes(disk: &dyn Disk, folder: &Path) -> io::Result<u64> {
    let or_none = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Ok(0),
        _ => Err(error),
    };
    let names = match disk.list(folder) {
        Ok(names) => names,
        Err(error) => return or_none(error),
    };
    // A file that goes meanwhile is not counted: none is counted twice under two names.
    let size = |name| disk.size(&folder.join(name)).map(|size| size.allocated_bytes);
    names.into_iter().map(|name| size(name).or_else(or_none)).sum()
}

/// Whether the log of the database in `dir` keeps its bound.
///
/// # Errors
/// When it does not, or its files cannot be asked.
pub fn check_bound(disk: &dyn Disk, dir: &Path, max_wal_bytes: u64) -> Outcome {
    let folder = dir.join(WAL_NAME);
    let allocated = allocated_bytes(disk, &folder)
        .map_err(|error| Failure::new(format!("{}: {error}", folder.display())))?;
    within(allocated, max_wal_bytes)
}

/// The same on a simulated disk, without an operation that counts there.
///
/// # Errors
/// When the log does not keep its bound.
pub fn check_bound_simulated(disk: &SimDisk, dir: &Path, max_wal_bytes: u64) -> Outcome {
    let folder = dir.join(WAL_NAME);
    let files = disk.files();
    let of_log = files.iter().filter(|(path, _)| path.starts_with(&folder));
    within(of_log.map(|(_, length)| length).sum(), max_wal_bytes)
}

fn within(allocated: u64, max_wal_bytes: u64) -> Outcome {
    ensure!(
        allocated <= max_wal_bytes,
        "the log's files take {allocated} bytes, more than the bound of {max_wal_bytes}"
    );
    Ok(())
}

/// What was seen of a log's space.
#[derive(Debug)]
pub struct Watch {
    folder: PathBuf,
    most_bytes: AtomicU64,
    samples: AtomicU64,
    named: AtomicU64,
}

impl Watch {
    /// Looks now.
    ///
    /// # Errors
    /// When a file that is there cannot be asked.
    pub fn sample(&self, disk: &dyn Disk) -> io::Result<u64> {
        let allocated = allocated_bytes(disk, &self.folder)?;
        self.most_bytes.fetch_max(allocated, Ordering::SeqCst);
        self.samples.fetch_add(1, Ordering::SeqCst);
        Ok(allocated)
    }

    /// The most that was allocated when somebody looked.
    #[must_use]
    pub fn most_bytes(&self) -> u64 {
        self.most_bytes.load(Ordering::SeqCst)
    }

    /// Times that somebody looked.
    #[must_use]
    pub fn samples(&self) -> u64 {
        self.samples.load(Ordering::SeqCst)
    }

    /// Segments that were given a name: new ones, and ones used again.
    #[must_use]
    pub fn segments_named(&self) -> u64 {
        self.named.load(Ordering::SeqCst)
    }
}

/// A disk that looks at the space of a database's log whenever one of its files was given a name: a
/// new one is whole then, and the log is never larger before it gives one up.
#[derive(Debug)]
pub struct WatchedDisk {
    inner: Arc<dyn Disk>,
    watch: Arc<Watch>,
}

impl WatchedDisk {
    /// Watches the log of the database in `dir`, which is opened on this disk.
    #[must_use]
    pub fn new(inner: Arc<dyn Disk>, dir: &Path) -> Self {
        let watch = Watch {
            folder: dir.join(WAL_NAME),
            most_bytes: AtomicU64::new(0),
            samples: AtomicU64::new(0),
            named: AtomicU64::new(0),
        };
        Self { inner, watch: Arc::new(watch) }
    }

    /// What is seen.
    #[must_use]
    pub fn watch(&self) -> Arc<Watch> {
        Arc::clone(&self.watch)
    }
}

impl Disk for WatchedDisk {
    fn open(&self, path: &Path, mode: OpenMode, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        self.inner.open(path, mode, access)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner.rename(from, to)?;
        if to.parent() == Some(&self.watch.folder) {
            self.watch.named.fetch_add(1, Ordering::SeqCst);
            self.watch.sample(&*self.inner)?;
        }
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.inner.remove_file(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.inner.create_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.inner.sync_dir(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<OsString>> {
        self.inner.list(path)
    }

    fn size(&self, path: &Path) -> io::Result<FileSize> {
        self.inner.size(path)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn DirectoryLock>> {
        self.inner.lock(path)
    }

    fn lock_to_read(&self, path: &Path) -> io::Result<Box<dyn DirectoryLock>> {
        self.inner.lock_to_read(path)
    }

    fn transfer(&self, batch: &mut [Transfer<'_>]) {
        self.inner.transfer(batch);
    }

    fn name(&self) -> &'static str {
        self.inner.name()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use seawall_wal::disk::{Access, AlignedBuf, BlockingDisk, Disk, OpenMode, SimDisk};

    use super::{WatchedDisk, allocated_bytes, check_bound, check_bound_simulated};

    fn write(disk: &dyn Disk, path: &Path, bytes: usize) {
        let file = disk.open(path, OpenMode::Create, Access::Buffered).unwrap();
        file.write_at(&AlignedBuf::new(bytes), 0).unwrap();
        file.sync().unwrap();
    }

    #[test]
    fn blocks_count_and_not_lengths() {
        let dir = tempfile::tempdir().unwrap();
        let disk = BlockingDisk::new();
        let folder = dir.path().join("wal");
        assert_eq!(allocated_bytes(&disk, &folder).unwrap(), 0);
        disk.create_dir(&folder).unwrap();
        write(&disk, &folder.join("a"), 8192);
        let sparse = disk.open(&folder.join("b"), OpenMode::Create, Access::Buffered).unwrap();
        sparse.set_len(1 << 30).unwrap();
        let allocated = allocated_bytes(&disk, &folder).unwrap();
        assert!((8192..1 << 20).contains(&allocated), "{allocated}");
        assert!(check_bound(&disk, dir.path(), 1 << 20).is_ok());
        assert!(check_bound(&disk, dir.path(), 4096).is_err());
    }

    #[test]
    fn the_most_is_seen_when_a_file_is_named_and_stays() {
        let disk = SimDisk::new();
        let dir = Path::new("/db");
        disk.create_dir(&dir.join("wal")).unwrap();
        let watched = WatchedDisk::new(Arc::new(disk.clone()), dir);
        let watch = watched.watch();
        write(&watched, Path::new("/db/wal/1.tmp"), 8192);
        write(&watched, Path::new("/db/pages"), 1 << 20);
        assert_eq!(watch.samples(), 0);
        watched.rename(Path::new("/db/wal/1.tmp"), Path::new("/db/wal/1.wal")).unwrap();
        assert!(check_bound_simulated(&disk, dir, 8192).is_ok());
        assert!(check_bound_simulated(&disk, dir, 8191).is_err());
        watched.remove_file(Path::new("/db/wal/1.wal")).unwrap();
        assert_eq!((watch.most_bytes(), watch.segments_named()), (8192, 1));
        assert_eq!(watch.sample(&disk).unwrap(), 0);
        assert_eq!(watch.most_bytes(), 8192);
    }
}
