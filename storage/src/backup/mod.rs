//! Online, full backup: a copy of the database, made while writers go on, whose opening is
//! recovery.
//!
//! 1. The target must be missing or empty. It gets a file `unfinished` that says what it is; if we
//!    crash or fail from here to step 6, opening the copy is refused.
//! 2. A checkpoint is taken. The log is held from where recovery from it would begin, and the undo
//!    files are copied (`undo`).
//! 3. Pages are copied (`pages`); between them the log is copied as far as it is durable (`log`),
//!    and the hold follows. It is revoked, and the backup fails, before a writer would have to
//!    wait.
//! 4. The log is made durable up to everything reserved so far, and copied up to there: that is
//!    `min_consistent_lsn`, at or behind every page copied.
//! 5. An empty doublewrite file and the manifest; everything is synced, names too.
//! 6. `control` last, renamed into place: from here on the copy is a database. It has the source's
//!    id and epochs, names the checkpoint of step 2, and says that it was not shut down. Then
//!    `unfinished` goes.
//!
//! Nothing of the source changes but the checkpoint. The copy and its original never mix: each
//! opening starts an epoch of its own.

mod log;
mod manifest;
mod pages;
mod target;
#[cfg(test)]
#[cfg(not(loom))]
mod tests;
mod undo;

use std::io;
use std::path::Path;
use std::time::Instant;

use seawall_wal::control::{Control, ControlState, MasterRecord, Shutdown};
use seawall_wal::disk::{Access, Disk};
use seawall_wal::{Error, Result};

use self::log::LogCopy;
use self::manifest::Manifest;
use self::pages::copy_pages;
use self::target::TargetFile;
use self::undo::copy_undo_files;
use crate::BackupReport;
use crate::checkpoint::{Checkpointer, Spill};
use crate::engine::Engine;
use crate::names::{PAGES_NAME, UNFINISHED_NAME};
use crate::open::{Layout, create_dir};
use crate::writeback::doublewrite::DoublewriteFile;

/// Log that may gather before it is copied between two batches of pages.
const LOG_STEP_BYTES: u64 = 256 << 10;
const MANIFEST_NAME: &str = "manifest";

/// Copies the database to `dir`; see the module.
///
/// # Errors
/// [`Error::InvalidArgument`] where `dir` is not empty, or lies in the database; [`Error::NoSpace`] where the target is
/// full, or writers needed the log that was held; [`Error::Corrupt`] for damage in the source.
pub(crate) fn backup(
    engine: &Engine,
    checkpointer: &Checkpointer,
    dir: &Path,
) -> Result<BackupReport> {
    let started = Instant::now();
    let disk = engine.file.disk();
    let layout = Layout::new(dir);
    refuse_own_directory(engine, dir)?;
    begin_target(&**disk, &layout)?;

    checkpointer.take(Spill::BeyondShare)?;
    let (hold, state) = checkpointer.hold_log();
    let master = state.master.expect("a checkpoint was taken");
    let wal_dir = engine.wal_dir();
    let mut log = LogCopy::new(disk, wal_dir, layout.wal.clone(), &state, &master, &hold);
    let mut files = copy_undo_files(engine, &**disk, dir)?;
    let mut pages = TargetFile::create(&**disk, &layout.pages)?;
    copy_pages(engine, &mut pages, || {
        engine.check_open()?;
        let durable_lsn = engine.log.durable_lsn();
        let is_due = durable_lsn.get().saturating_sub(log.end_lsn().get()) >= LOG_STEP_BYTES;
        if is_due { log.copy_to(durable_lsn) } else { Ok(()) }
    })?;
    engine.log.wait_durable(engine.log.reserved_lsn())?;
    log.copy_to(engine.log.durable_lsn())?;

    let (end_lsn, first_at) = (log.end_lsn(), log.first_at());
    files.push(pages.finish(PAGES_NAME.into())?);
    files.extend(log.finish()?);
    drop(hold);
    create_doublewrite(engine, &state, &layout)?;
    write_manifest(
        &**disk,
        dir,
        &Manifest { state: &state, master: &master, end_lsn, files: &files },
    )?;
    let master =
        MasterRecord { begin_at: master.begin_at.max(first_at), start_at: first_at, ..master };
    finish_target(&**disk, &layout, state, master)?;
    let bytes = files.iter().map(|file| file.bytes).sum();
    Ok(BackupReport { lsn: end_lsn, bytes, elapsed: started.elapsed() })
}

/// A copy inside the database would be lost with it, and be in the way of what opens it.
fn refuse_own_directory(engine: &Engine, dir: &Path) -> Result<()> {
    let own = engine.wal_dir().parent().expect("the log lies in the database's directory");
    let absolute = |path| std::path::absolute(path).map_err(|error| Error::io(path, error));
    if absolute(dir)?.starts_with(absolute(own)?) {
        let why = format!("{} lies in the database that is to be copied", dir.display());
        return Err(Error::InvalidArgument(why));
    }
    Ok(())
}

/// Step 1.
fn begin_target(disk: &dyn Disk, layout: &Layout) -> Result<()> {
    let dir = &layout.dir;
    match disk.list(dir) {
        Ok(names) if names.is_empty() => {}
        Ok(_) => {
            let why =
                format!("{} is not empty; a backup goes to an empty directory", dir.display());
            return Err(Error::InvalidArgument(why));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(Error::io(dir, error)),
    }
    create_dir(disk, dir)?;
    let mut mark = TargetFile::create(disk, &dir.join(UNFINISHED_NAME))?;
    mark.append(b"This backup was not finished.\n")?;
    mark.finish(UNFINISHED_NAME.into())?;
    disk.sync_dir(dir).map_err(|error| Error::io(dir, error))?;
    create_dir(disk, &layout.wal)
}

/// The copy has no doublewrite images, and needs none: its pages were verified one by one.
fn create_doublewrite(engine: &Engine, state: &ControlState, layout: &Layout) -> Result<()> {
    let file = DoublewriteFile {
        disk: &**engine.file.disk(),
        path: &layout.doublewrite,
        access: Access::Direct,
        database: state.identity.database,
        page_bytes: engine.page_bytes,
    };
    file.create(engine.cleaner.writer().batch_max())
}

fn write_manifest(disk: &dyn Disk, dir: &Path, manifest: &Manifest<'_>) -> Result<()> {
    let mut file = TargetFile::create(disk, &dir.join(MANIFEST_NAME))?;
    file.append(manifest.encode().as_bytes())?;
    file.finish(MANIFEST_NAME.into())?;
    disk.sync_dir(dir).map_err(|error| Error::io(dir, error))
}

/// Step 6.
fn finish_target(
    disk: &dyn Disk,
    layout: &Layout,
    state: ControlState,
    master: MasterRecord,
) -> Result<()> {
    let dir = &layout.dir;
    let state = ControlState { shutdown: Shutdown::Open, master: Some(master), ..state };
    Control::create(disk, dir, state)?;
    let mark = dir.join(UNFINISHED_NAME);
    disk.remove_file(&mark).map_err(|error| Error::io(&mark, error))?;
    disk.sync_dir(dir).map_err(|error| Error::io(dir, error))
}
