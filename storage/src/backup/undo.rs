//! Copying the undo files that the checkpoint of the copy names.
//!
//! A file may be longer by now than the checkpoint says, which opening the copy does not mind. It
//! may be gone: then its transaction is over, durably, and the log that is copied afterwards says
//! so.

use std::path::Path;

use seawall_wal::Result;
use seawall_wal::disk::Disk;

use super::target::{CopiedFile, TargetFile};
use crate::engine::Engine;
use crate::names::UNDO_NAME;
use crate::spill::path;

/// Copies the undo files of transactions that are running into the folder of the copy at `dir`.
pub(super) fn copy_undo_files(
    engine: &Engine,
    disk: &dyn Disk,
    dir: &Path,
) -> Result<Vec<CopiedFile>> {
    let mut copied = Vec::new();
    for file in engine.spills.all() {
        if copied.is_empty() {
            super::create_dir(disk, &dir.join(UNDO_NAME))?;
        }
        let mut target = TargetFile::create(disk, &path(dir, file.txn()))?;
        match engine.spills.copy(&file, |bytes| target.append(bytes)) {
            Err(_) if !engine.spills.has(&file) => {}
            done => done?,
        }
        let name = path(Path::new(""), file.txn()).display().to_string();
        copied.push(target.finish(name)?);
    }
    if !copied.is_empty() {
        let folder = dir.join(UNDO_NAME);
        disk.sync_dir(&folder).map_err(|error| seawall_wal::Error::io(&folder, error))?;
    }
    Ok(copied)
}
