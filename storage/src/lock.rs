//! Keeping everybody else out of a database's directory: one process at a time has a database open, or
//! looks at its files.
//!
//! Where there is no `LOCK`, in a copy that nobody has opened where it lies, a process that only reads
//! must not make one: it locks `control` in its place, and looks whether a `LOCK` has come meanwhile. A
//! process that has a `LOCK` looks whether `control` is locked. Of two that come at once one at least
//! sees the other.

use std::io::{self, ErrorKind};
use std::path::Path;

use seawall_wal::control::CONTROL_NAME;
use seawall_wal::disk::{DirectoryLock, Disk, OpenMode};
use seawall_wal::{Error, Result};

use crate::names::LOCK_NAME;

/// Takes the lock of the database in `dir`, until the answer is dropped. For [`OpenMode::ReadOnly`] it
/// changes no byte, and needs a database to be there.
///
/// # Errors
/// [`Error::Locked`] where somebody else has it; [`Error::Io`].
pub fn take_lock(disk: &dyn Disk, dir: &Path, mode: OpenMode) -> Result<Box<dyn DirectoryLock>> {
    let to_read = mode == OpenMode::ReadOnly;
    let refused = |path: &Path, error: io::Error| match error.kind() {
        ErrorKind::WouldBlock => Error::Locked { path: path.to_path_buf() },
        _ => Error::io(path, error),
    };
    let is_missing = |error: &io::Error| error.kind() == ErrorKind::NotFound;
    let (path, control) = (&dir.join(LOCK_NAME), dir.join(CONTROL_NAME));
    loop {
        let lock = if to_read { disk.lock_to_read(path) } else { disk.lock(path) };
        match lock {
            Ok(lock) => match disk.lock_to_read(&control) {
                Err(error) if !is_missing(&error) => return Err(refused(&control, error)),
                _ => return Ok(lock),
            },
            Err(error) if to_read && is_missing(&error) => {}
            Err(error) => return Err(refused(path, error)),
        }
        let lock = disk.lock_to_read(&control).map_err(|error| refused(&control, error))?;
        match disk.size(path) {
            Err(error) if is_missing(&error) => return Ok(lock),
            Err(error) => return Err(refused(path, error)),
            Ok(_) => {}
        }
    }
}
