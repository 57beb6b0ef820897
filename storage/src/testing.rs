//! Seams for the suites: the steps of the background work, called by hand.
//!
//! They are for a database opened with `manual_background`, where nobody else calls them, so that a
//! seed decides when each takes place.

use std::io::ErrorKind;
use std::path::Path;

use seawall_wal::codec::DecodeError;
use seawall_wal::disk::SimDisk;
use seawall_wal::disk::sim::{Fault, FaultEffect, OperationKind};

use crate::checkpoint::Spill;
use crate::checkpoint::tables::Tables;
use crate::names::UNDO_NAME;
use crate::{CheckpointReport, Database, Options, Result};

/// One step of page cleaner and checkpointer. Returns whether it did anything.
///
/// # Errors
/// What poisons the database when its own thread meets it.
pub fn maintain_step(database: &Database) -> Result<bool> {
    let done = database.shared_core().maintain_step()?;
    Ok(done.pages_written > 0 || done.has_checkpointed)
}

/// One step of the collector of versions, ghosts, freed pages and dropped trees. Returns whether
/// there may be more to do at once.
///
/// # Errors
/// What poisons the database when its own thread meets it.
pub fn collect_step(database: &Database) -> Result<bool> {
    database.shared_core().collect_step()
}

/// One step of the log's flusher.
///
/// # Errors
/// What poisons the database when its own thread meets it.
pub fn flush_step(database: &Database) -> Result<()> {
    database.shared_core().engine.log.step().map(|_| ())
}

/// Takes a checkpoint of the pages as they are: none is written for it.
///
/// # Errors
/// Those of [`Database::checkpoint`].
pub fn take_checkpoint(database: &Database) -> Result<CheckpointReport> {
    database.shared_core().take_checkpoint(Spill::BeyondShare)
}

/// Redoes the log in `dir` on the pages there, and nothing else: gives the number and the bytes of every
/// page that was ever written, checksums apart. All of them must fit the cache.
///
/// # Errors
/// Those of opening the database.
pub fn replay(options: &Options, dir: impl AsRef<Path>) -> Result<Vec<(u64, Vec<u8>)>> {
    let pages = crate::open::replay(options, dir.as_ref())?;
    Ok(pages.into_iter().map(|(page, bytes)| (page.get(), bytes)).collect())
}

/// From now on undo files find no room on the disk.
pub fn refuse_undo_files(disk: &SimDisk) {
    let full = Fault::new(FaultEffect::Kind(ErrorKind::StorageFull)).lasting();
    let is_undo = |path: &Path| path.parent().is_some_and(|parent| parent.ends_with(UNDO_NAME));
    disk.add_fault(full.kind(OperationKind::Write).path(is_undo));
}

/// Lets go of a database as a kill does: nothing is written any more. Every handle to it is of no
/// use afterwards.
pub fn abandon(database: Database) {
    database.shared_core().engine.log.poison(crate::Error::Poisoned { source: None });
    drop(database);
}

/// Whether no write is accepted any more.
pub fn is_poisoned(database: &Database) -> bool {
    database.shared_core().engine.log.poisoned().is_some()
}

/// Reads a chunk of a checkpoint's tables, and writes what it says again: chunks, each with its
/// section.
///
/// # Errors
/// Where it is no chunk of this section.
pub fn recode_chunk(section: u8, data: &[u8]) -> Result<Vec<(u8, Vec<u8>)>, DecodeError> {
    let mut tables = Tables::default();
    tables.decode_chunk(section, data)?;
    Ok(tables.encode().into_iter().map(|chunk| (chunk.section, chunk.data)).collect())
}
