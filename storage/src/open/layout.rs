//! What a database directory holds, and which directories become one.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use seawall_wal::control::CONTROL_NAME;
use seawall_wal::disk::Disk;
use seawall_wal::{Error, Result};

use crate::names::{DOUBLEWRITE_NAME, LOCK_NAME, PAGES_NAME, UNFINISHED_NAME, WAL_NAME};

/// Paths of a database's files.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) dir: PathBuf,
    pub(crate) pages: PathBuf,
    pub(crate) doublewrite: PathBuf,
    pub(crate) wal: PathBuf,
}

/// What a directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// There is no such directory.
    Missing,
    /// It holds nothing, or what a creation leaves that ended before it wrote `control`.
    Empty,
    /// It holds a `control` file.
    Database,
}

impl Layout {
    pub(crate) fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_path_buf(),
            pages: dir.join(PAGES_NAME),
            doublewrite: dir.join(DOUBLEWRITE_NAME),
            wal: dir.join(WAL_NAME),
        }
    }

    /// Looks at the directory without touching it.
    ///
    /// A directory with anything else in it than a creation's first traces is refused: it is not a
    /// database, or one whose `control` is gone, and neither may be overwritten.
    pub(crate) fn look(&self, disk: &dyn Disk) -> Result<Place> {
        let names = match disk.list(&self.dir) {
            Ok(names) => names,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Place::Missing),
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                return Err(self.not_a_database("it is not a directory"));
            }
            Err(error) => return Err(Error::io(&self.dir, error)),
        };
        if names.iter().any(|name| name == CONTROL_NAME) {
            return Ok(Place::Database);
        }
        if names.iter().any(|name| name == UNFINISHED_NAME) {
            return Err(self.not_a_database("it is a backup that was not finished"));
        }
        let is_trace =
            |name: &OsStr| name == LOCK_NAME || name.to_str().is_some_and(is_temporary_control);
        match names.iter().find(|name| !is_trace(name)) {
            None => Ok(Place::Empty),
            Some(name) => {
                let why = format!("it holds `{}` and no `{CONTROL_NAME}`", name.display());
                Err(self.not_a_database(&why))
            }
        }
    }

    pub(crate) fn not_a_database(&self, why: &str) -> Error {
        Error::InvalidArgument(format!("{} is not a Seawall database: {why}", self.dir.display()))
    }
}

/// Creates a directory, and those above it that are missing. On return every name on the way to it is
/// durable, those that were there before too: whoever made them may have been killed before a sync.
///
/// # Errors
/// Those of the disk. A directory that was there before and cannot be synced, for want of permission
/// or on a file system that is not written, is passed over.
pub(crate) fn create_dir(disk: &dyn Disk, dir: &Path) -> Result<()> {
    let is_missing = |dir: &&Path| {
        let listed = disk.list(dir);
        listed.is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    };
    let missing = dir.ancestors().take_while(is_missing).count();
    if missing > 0 {
        disk.create_dir(dir).map_err(|error| Error::io(dir, error))?;
    }
    let above: Vec<_> = dir.ancestors().skip(1).collect();
    for (index, above) in above.into_iter().enumerate().rev() {
        let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
        match disk.sync_dir(above) {
            Err(error) if index >= missing && cannot_be_synced(error.kind()) => {}
            synced => synced.map_err(|error| Error::io(above, error))?,
        }
    }
    Ok(())
}

const fn cannot_be_synced(why: io::ErrorKind) -> bool {
    matches!(
        why,
        io::ErrorKind::PermissionDenied
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::Unsupported
            | io::ErrorKind::InvalidInput
    )
}

fn is_temporary_control(name: &str) -> bool {
    name.strip_prefix(CONTROL_NAME).is_some_and(|rest| rest.starts_with('.'))
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use seawall_wal::disk::SimDisk;

    #[test]
    fn only_an_empty_directory_or_a_database_is_accepted() {
        let disk = SimDisk::new();
        let layout = Layout::new(Path::new("/db"));
        assert_eq!(layout.look(&disk).unwrap(), Place::Missing);
        disk.create_dir(&layout.dir).unwrap();
        assert_eq!(layout.look(&disk).unwrap(), Place::Empty);
        disk.write_file(&layout.dir.join(LOCK_NAME), b"1");
        disk.write_file(&layout.dir.join("control.tmp"), b"");
        assert_eq!(layout.look(&disk).unwrap(), Place::Empty);
        disk.write_file(&layout.pages, b"");
        assert!(matches!(layout.look(&disk), Err(Error::InvalidArgument(_))), "control is gone");
        disk.write_file(&layout.dir.join("control"), b"");
        assert_eq!(layout.look(&disk).unwrap(), Place::Database);
    }
}
