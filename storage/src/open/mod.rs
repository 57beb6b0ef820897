//! Opening a database: creating it, or recovering it, and putting the engine together.
//!
//! Recovery, and what an error or a crash at each step means:
//!
//! 1. The control file is looked at: what is not a database, or is one of a newer format, is not
//!    even locked. The lock is taken; the control file says where to begin. Nothing is changed.
//! 2. Analysis: the end of the log is decided, transactions and pages are taken stock of. Nothing
//!    is changed; an error here is damage.
//! 3. The tail is made safe, then the new epoch durable. From here on the log's old end is decreed:
//!    a crash leads to the same decision.
//! 4. Pages that were torn are put back from the doublewrite file. Repeatable.
//! 5. Redo. Pages are written by the usual way; a crash repeats it from the same checkpoint.
//!    Where many openings were cut in a row, a checkpoint follows that needs no log of theirs.
//! 6. Undo of what had not committed, with compensation records. A crash goes on behind the last
//!    one.
//! 7. A checkpoint. The next recovery begins there.

mod create;
mod layout;
mod look;
mod recover;
mod replay;
mod sizing;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use seawall_wal::control::{Control, EPOCHS_SHORTEN_AT, EpochEntry, Shutdown};
use seawall_wal::disk::{Access, DirectoryLock, Disk, OpenMode, select};
use seawall_wal::log::{Log, LogOptions, Segments};
use seawall_wal::{DatabaseId, Error, Result, TreeId};

use crate::catalogue::Registry;
use crate::checkpoint::{Checkpointer, Spill};
use crate::engine::{Engine, Hooks, Parts, Spills, TellingProvider};
use crate::fork::ForkGuard;
use crate::lock::take_lock;
use crate::pagefile::{PageFile, PageFormat};
use crate::pool::Pool;
use crate::pool::dirty::DirtyTable;
use crate::space::Allocator;
use crate::writeback::cleaner::{Cleaner, CleanerTarget, StepProvider};
use crate::writeback::doublewrite::DoublewriteFile;
use crate::writeback::writer::PageWriter;
use crate::{Options, RecoveryReport};

use layout::Place;
pub(crate) use layout::{Layout, create_dir};
pub(crate) use replay::replay;
use sizing::Sizing;

/// An open database, without its threads.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) engine: Arc<Engine>,
    pub(crate) checkpointer: Arc<Checkpointer>,
    pub(crate) report: RecoveryReport,
    pub(crate) lock: Box<dyn DirectoryLock>,
    pub(crate) clean_frames: usize,
    /// Recovery's undo takes a checkpoint when the log has less room than this.
    undo_room_bytes: u64,
}

/// Recovery's undo keeps one part in this many of the log free.
const UNDO_ROOM_SHARE: u64 = 4;

/// Where and how a database is opened.
struct Opening<'o> {
    options: &'o Options,
    disk: Arc<dyn Disk>,
    layout: Layout,
    started: Instant,
}

/// Opens the database in `dir` as `options` say.
pub(crate) fn open(options: &Options, dir: &Path) -> Result<Opened> {
    options.validate()?;
    let disk = options.select_disk(dir)?;
    let opening = Opening { options, disk, layout: Layout::new(dir), started: Instant::now() };
    let disk = &*opening.disk;
    let layout = &opening.layout;
    match layout.look(disk)? {
        // Even taking the lock writes. A `control` that is none, or of a newer format, is left
        // alone.
        Place::Database => drop(Control::open(disk, dir, true)?),
        _ if options.read_only || !options.create_if_missing => {
            let what = format!("a database in {}", dir.display());
            return Err(Error::NotFound { what });
        }
        // An empty one may be what a creation left that was killed before it had synced any name.
        Place::Missing | Place::Empty => create_dir(disk, dir)?,
    }
    let mode = if options.read_only { OpenMode::ReadOnly } else { OpenMode::ReadWrite };
    let lock = take_lock(disk, dir, mode)?;
    // Somebody else may have created it between the look and the lock.
    layout.look(disk)?;
    match Control::open(disk, dir, options.read_only)? {
        None => opening.create(lock),
        Some(control) if control.state().shutdown == Shutdown::Creating => {
            if options.read_only {
                return Err(Error::RecoveryNeeded);
            }
            opening.create(lock)
        }
        Some(control) => opening.recover(control, lock),
    }
}

impl Options {
    /// The disk that the files of the database in `dir` are on: the injected one, or the chosen one.
    pub(crate) fn select_disk(&self, dir: &Path) -> Result<Arc<dyn Disk>> {
        match &self.disk_injected {
            Some(disk) => Ok(Arc::clone(disk)),
            None => select(self.disk).map_err(|error| Error::io(dir, error)),
        }
    }
}

/// The parts that exist before the engine does.
struct Base {
    database: DatabaseId,
    log: Arc<Log>,
    pool: Arc<Pool>,
    file: Arc<PageFile>,
    cleaner: Arc<Cleaner>,
    hooks: Arc<Hooks>,
    sizing: Sizing,
}

impl Opening<'_> {
    fn sizing(&self, page_bytes: u32) -> Result<Sizing> {
        Sizing::new(self.options, seawall_wal::codec::to_usize(u64::from(page_bytes)))
    }

    fn fork_guard(&self) -> Result<ForkGuard> {
        ForkGuard::new().map_err(|error| Error::io(&self.layout.dir, error))
    }

    fn page_file(&self, mode: OpenMode, database: DatabaseId, sizing: &Sizing) -> Result<PageFile> {
        let format = PageFormat::new(database, sizing.page_bytes);
        let disk = Arc::clone(&self.disk);
        PageFile::open(disk, &self.layout.pages, mode, Access::Direct, format)
    }

    fn doublewrite(&self, database: DatabaseId, sizing: &Sizing) -> DoublewriteFile<'_> {
        DoublewriteFile {
            disk: &*self.disk,
            path: &self.layout.doublewrite,
            access: Access::Direct,
            database,
            page_bytes: sizing.page_bytes,
        }
    }

    /// Starts the log in a new epoch, and the pool above it.
    fn base(
        &self,
        segments: Segments,
        entry: EpochEntry,
        database: DatabaseId,
        file: PageFile,
        sizing: Sizing,
    ) -> Result<Base> {
        let options = LogOptions {
            page_bytes: sizing.page_bytes,
            ring_bytes: sizing.ring_bytes,
            flush_interval: self.options.flush_interval,
            segments: sizing.segments,
            reserve_bytes: sizing.reserve_bytes,
            is_stepped: self.options.manual_background,
            is_record_alone: self.options.is_record_alone,
        };
        let log = Arc::new(Log::start(Arc::clone(&self.disk), segments, entry, database, options)?);
        let file = Arc::new(file);
        let dirty = Arc::new(DirtyTable::new(sizing.frames));
        let pool = Arc::new(Pool::new(Arc::clone(&file), sizing.frames, Arc::clone(&dirty))?);
        let doublewrite = self.doublewrite(database, &sizing).open(entry.epoch)?;
        let watermark = Arc::clone(&log);
        let writer = PageWriter::new(Arc::clone(&file), doublewrite, dirty, watermark);
        let cleaner = Arc::new(Cleaner::new(Arc::clone(&pool), writer));
        let hooks = Arc::new(Hooks::default());
        let provider = StepProvider::new(&cleaner);
        pool.set_provider(Box::new(TellingProvider::new(provider, Arc::clone(&hooks))));
        Ok(Base { database, log, pool, file, cleaner, hooks, sizing })
    }

    /// The engine above `base`, for these trees, the catalogue among them; `bitmaps` bitmap pages
    /// exist, and no commit has a later wall time than `wall_ms`.
    fn put_together(
        &self,
        base: &Base,
        trees: Registry,
        bitmaps: u64,
        wall_ms: u64,
    ) -> Result<Engine> {
        Ok(Engine::new(Parts {
            log: Arc::clone(&base.log),
            pool: Arc::clone(&base.pool),
            file: Arc::clone(&base.file),
            cleaner: Arc::clone(&base.cleaner),
            space: Allocator::new(base.sizing.page_bytes, bitmaps),
            catalogue: trees.get(TreeId::CATALOGUE).expect("the caller has entered it"),
            trees,
            wal_dir: self.layout.wal.clone(),
            spills: Spills::new(&self.disk, &self.layout.dir, base.database),
            bulk_budget_bytes: base.sizing.bulk_budget_bytes,
            versions_bytes_max: base.sizing.versions_bytes_max,
            dirty_max: base.sizing.dirty_max,
            hooks: Arc::clone(&base.hooks),
            wall_ms,
            source: self.options.source,
            fork: self.fork_guard()?,
        }))
    }
}

impl Opened {
    /// Makes log room for compensation records where less than `wanted_bytes` are left; returns how
    /// many to want from now on. Nobody else writes yet.
    ///
    /// What a transaction holds that could not be spilled stays: a checkpoint that can give nothing up
    /// only takes of the room that the undo needs. Trying again, too, waits until half of what is left
    /// was used.
    fn make_room_for_undo(&self, wanted_bytes: u64) -> Result<u64> {
        let log = &self.engine.log;
        if log.available_bytes() >= wanted_bytes {
            return Ok(wanted_bytes);
        }
        self.clean_all()?;
        self.checkpointer.spill(Spill::BeyondShare)?;
        if self.checkpointer.can_give_log_up() {
            // Two, so that the older master record lets go as well.
            self.checkpointer.take(Spill::BeyondShare)?;
            self.checkpointer.take(Spill::BeyondShare)?;
        }
        Ok(self.undo_room_bytes.min(log.available_bytes() / 2))
    }

    /// Where the history of epochs has grown long, takes a checkpoint that needs the log of this epoch
    /// alone: every page is clean, and what is to be undone stands in undo files. However often
    /// openings are cut, by that the history stays bounded (R2).
    fn shorten_history(&self) -> Result<()> {
        if self.checkpointer.control().state().epochs.len() < EPOCHS_SHORTEN_AT {
            return Ok(());
        }
        self.clean_all()?;
        self.checkpointer.take(Spill::Everything)?;
        Ok(())
    }

    fn clean_all(&self) -> Result<()> {
        let engine = &*self.engine;
        let reserved = engine.log.reserved_lsn();
        engine.cleaner.reach(CleanerTarget::RedoLsn(reserved))
    }
}

impl Base {
    /// `report` is what is known by now of the recovery.
    fn opened(
        self,
        engine: Engine,
        control: Control,
        lock: Box<dyn DirectoryLock>,
        report: RecoveryReport,
    ) -> Opened {
        let engine = Arc::new(engine);
        let max_wal_bytes = self.sizing.segments.max_wal_bytes;
        let checkpointer = Arc::new(Checkpointer::new(
            Arc::clone(&engine),
            Arc::new(control),
            (max_wal_bytes, self.sizing.held_log_bytes),
            report.log_bytes,
        ));
        let clean_frames = self.sizing.clean_frames;
        let undo_room_bytes = max_wal_bytes / UNDO_ROOM_SHARE;
        Opened { engine, checkpointer, report, lock, clean_frames, undo_room_bytes }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::Arc;

    use seawall_wal::disk::SimDisk;

    use super::*;

    #[test]
    fn refused_options_create_nothing_and_the_largest_log_bound_works() {
        let disk = SimDisk::new();
        let options = || Options::new().disk_injected(Arc::new(disk.clone()));
        for refused in [options().cache_bytes(u64::MAX), options().max_wal_bytes(u64::MAX)] {
            assert!(matches!(refused.open("/db"), Err(Error::InvalidArgument(_))));
        }
        assert_eq!(disk.operation_count(), 0, "something was created");
        let database = options().max_wal_bytes(256 << 40).open("/db").unwrap();
        database.tree("t").unwrap().insert("k", "v").unwrap();
        database.close().unwrap();
    }

    #[test]
    fn what_is_not_a_control_file_is_not_even_locked() {
        let disk = SimDisk::new();
        disk.write_file(Path::new("/db/control"), b"of another program");
        disk.write_file(Path::new("/db/LOCK"), b"as well");
        let options = Options::new().disk_injected(Arc::new(disk.clone()));
        let before = disk.operation_count();
        let refused = options.open("/db");
        assert!(matches!(refused, Err(Error::Corrupt { .. })), "{refused:?}");
        assert_eq!(disk.operation_count(), before, "something was changed");
        assert_eq!(disk.read_file(Path::new("/db/LOCK")).unwrap(), b"as well");
    }
}
