//! What every handle of a database shares, and how it is closed.
//!
//! Closing, in this order: no operation begins any more; live transactions are rolled back; writes
//! that are under way end; the background threads end; every dirty page is written, a checkpoint
//! taken, the log flushed; `control` notes the clean shutdown; the lock is released. A poisoned
//! database, or an error on the way, skips the note: the next open recovers.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Weak};
use std::time::Instant;

use seawall_wal::control::Shutdown;
use seawall_wal::disk::DirectoryLock;
use seawall_wal::sync::atomic::{AtomicBool, Ordering};
use seawall_wal::sync::{Mutex, RwLock, RwLockReadGuard};
use seawall_wal::{Error, Lsn, Result, TxnId};

use super::background::Background;
use super::rollbacks::Rollbacks;
use crate::checkpoint::pacing::Pacing;
use crate::checkpoint::{Checkpointer, Spill};
use crate::engine::{Engine, Unit};
use crate::limits::{MAX_KEY_BYTES, MAX_VALUE_BYTES};
use crate::open::{self, Opened};
use crate::writeback::cleaner::CleanerTarget;
use crate::{CheckpointReport, Event, Options, RecoveryReport, StallReason, trace};

/// A transaction's unit, shared with the database so that closing can roll it back.
pub(super) type LiveUnit = Arc<Mutex<LiveState>>;

/// What a transaction's handle finds.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "active for all but the end of its life")]
pub(super) enum LiveState {
    Active(Unit),
    /// It ended, by its handle or without it: later calls get this.
    Ended(Error),
}

impl LiveState {
    /// Whether there is anything to undo or to commit.
    pub(super) fn has_written(&self) -> bool {
        matches!(self, Self::Active(unit) if unit.has_written())
    }

    /// Takes the unit away; `error` is what later calls get.
    pub(super) fn end(&mut self, error: Error) -> Result<Unit> {
        match std::mem::replace(self, Self::Ended(error)) {
            Self::Active(unit) => Ok(unit),
            Self::Ended(earlier) => {
                *self = Self::Ended(earlier.clone());
                Err(earlier)
            }
        }
    }
}

/// An open database without its threads.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) engine: Arc<Engine>,
    pub(crate) checkpointer: Arc<Checkpointer>,
    pub(crate) options: Options,
    pub(super) path: PathBuf,
    pub(super) report: RecoveryReport,
    pub(super) clean_frames: usize,
    pub(super) pacing: Arc<Pacing>,
    /// Why and since when all writers are held back a little.
    pub(super) paced: Mutex<Option<(StallReason, Instant)>>,
    is_poison_told: AtomicBool,
    lock: Mutex<Option<Box<dyn DirectoryLock>>>,
    /// Held shared by every operation that may write; closing waits for them.
    writes: RwLock<()>,
    pub(super) live: Mutex<BTreeMap<u64, Weak<Mutex<LiveState>>>>,
    pub(super) rollbacks: Rollbacks,
    /// The transaction that was ended last because its undo holds the log back: from where on, and
    /// which.
    pub(super) doomed_last: Mutex<Option<(Lsn, TxnId)>>,
}

/// The next transaction's number. One count for all databases of the process: a savepoint of another
/// database's transaction is told by it.
static NEXT_LIVE: AtomicU64 = AtomicU64::new(0);

/// What all handles hold; the last one to go closes the database.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) core: Arc<Core>,
    background: Background,
}

impl Shared {
    pub(super) fn open(options: &Options, dir: &std::path::Path) -> Result<Arc<Self>> {
        let opened = {
            let _span = trace::open(dir);
            open::open(options, dir)?
        };
        let Opened { engine, checkpointer, report, lock, clean_frames, .. } = opened;
        let rates = checkpointer.control().state().rates;
        let (target, bound) = (options.recovery_target, options.max_wal_bytes);
        // Being wary lasts for a time, so only a clock can tell when it is over.
        let is_calm = report.clean || !options.source.has_clock();
        let pacing = Arc::new(Pacing::new(target, bound, rates, is_calm));
        let core = Arc::new(Core {
            engine,
            checkpointer,
            options: options.clone(),
            path: dir.to_path_buf(),
            report,
            clean_frames,
            pacing,
            paced: Mutex::new(None),
            is_poison_told: AtomicBool::new(false),
            lock: Mutex::new(Some(lock)),
            writes: RwLock::new(()),
            live: Mutex::default(),
            rollbacks: Rollbacks::default(),
            doomed_last: Mutex::default(),
        });
        let background = Background::start(&core);
        Ok(Arc::new(Self { core, background }))
    }

    /// Closes the database for every handle. Later calls do nothing.
    pub(super) fn close(&self) -> Result<()> {
        if self.core.engine.is_forked() {
            // The files and the lock are the parent's. Closing the copy of the lock's descriptor
            // releases nothing; only the threads must not be waited for, which are not here.
            return Ok(());
        }
        if !self.core.engine.close() {
            return Ok(());
        }
        let rolled_back = self.core.roll_back_live();
        let no_writes = self.core.writes.write();
        self.background.stop();
        let closed = rolled_back.and_then(|()| self.core.shut_down());
        // A reader that found no clean frame may still be writing pages: the lock must outlive that.
        self.core.engine.cleaner.writer().end();
        drop(self.core.lock.lock().take());
        drop(no_writes);
        self.core.tell_poisoned();
        closed
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            self.core.emit(&Event::CloseFailed { error });
        }
    }
}

impl Core {
    pub(crate) fn emit(&self, event: &Event) {
        self.options.tell(event);
    }

    /// Tells once that the log is poisoned, and what by. It is told where nothing is held: by the
    /// first of the database's threads that notices (the flusher is woken to), or by closing.
    pub(super) fn tell_poisoned(&self) {
        let Some(error) = self.engine.log.poisoned() else { return };
        if self.is_poison_told.swap(true, Ordering::SeqCst) {
            return;
        }
        let error = match error {
            Error::Poisoned { source: Some(source) } => Error::clone(&source),
            other => other,
        };
        self.emit(&Event::Poisoned { error });
    }

    /// Admits an operation that may write, for as long as the guard lives.
    pub(crate) fn admit_write(&self) -> Result<RwLockReadGuard<'_, ()>> {
        if self.options.read_only {
            return Err(Error::ReadOnly);
        }
        // Once before the lock, which nobody would release in a forked child, and once under it,
        // where closing waits for us.
        self.engine.check_open()?;
        let guard = self.writes.read();
        self.engine.check_writable()?;
        Ok(guard)
    }

    /// Admits the end of a transaction. A database that is being closed waits for it; one that is
    /// closed has ended the transaction itself.
    pub(super) fn admit_end(&self) -> Result<RwLockReadGuard<'_, ()>> {
        if self.engine.is_forked() {
            return Err(Error::Closed);
        }
        let guard = self.writes.read();
        match self.engine.log.poisoned() {
            Some(error) => Err(error),
            None => Ok(guard),
        }
    }

    /// Keeps a new transaction's unit in reach of [`Shared::close`].
    pub(super) fn enlist(&self, unit: Unit) -> (u64, LiveUnit) {
        let unit = Arc::new(Mutex::new(LiveState::Active(unit)));
        let id = NEXT_LIVE.fetch_add(1, Ordering::Relaxed);
        self.live.lock().insert(id, Arc::downgrade(&unit));
        (id, unit)
    }

    pub(super) fn delist(&self, id: u64) {
        self.live.lock().remove(&id);
    }

    pub(super) fn live_count(&self) -> usize {
        self.live.lock().len()
    }

    /// Ends the transaction whose records hold the log back, if they begin below `lsn`: its handle
    /// gets `TransactionTooOld`. One that is in the middle of a call is left to that call, which
    /// gives up where it waits for the log. Returns whether one is rolled back; where there are
    /// threads, that only begins here.
    pub(super) fn doom_oldest(self: &Arc<Self>, lsn: Lsn) -> Result<bool> {
        let Some((needed_lsn, doomed)) = self.engine.doom_oldest(lsn) else { return Ok(false) };
        *self.doomed_last.lock() = Some((needed_lsn, doomed));
        self.engine.log.recheck_credit();
        let live: Vec<_> = self.live.lock().values().filter_map(Weak::upgrade).collect();
        for unit in live {
            let Some(mut state) = unit.try_lock() else { continue };
            if matches!(&*state, LiveState::Active(unit) if unit.txn() == Some(doomed)) {
                if !self.options.manual_background {
                    return self.rollbacks.begin(self, &mut state).map(|()| false);
                }
                let unit = state.end(Error::TransactionTooOld)?;
                return self.engine.roll_back_unit(unit).map(|()| true);
            }
        }
        Ok(false)
    }

    fn roll_back_live(&self) -> Result<()> {
        let live: Vec<_> = std::mem::take(&mut *self.live.lock())
            .into_values()
            .filter_map(|unit| unit.upgrade())
            .collect();
        live.iter().try_for_each(|unit| match unit.lock().end(Error::Closed) {
            Ok(unit) => self.engine.roll_back_unit(unit),
            Err(_ended) => Ok(()),
        })
    }

    fn shut_down(&self) -> Result<()> {
        if self.options.read_only {
            return Ok(());
        }
        if let Some(error) = self.engine.log.poisoned() {
            return Err(error);
        }
        let reserved = self.engine.log.reserved_lsn();
        self.engine.cleaner.reach(CleanerTarget::RedoLsn(reserved))?;
        self.checkpointer.take(Spill::BeyondShare)?;
        if !self.engine.active_txns().is_empty() {
            // It could not be rolled back: the next open does it.
            return Ok(());
        }
        let lsn = self.engine.log.shutdown()?;
        self.checkpointer.control().update(|state| state.shutdown = Shutdown::Clean { lsn })
    }

    /// [`Database::checkpoint`](crate::Database::checkpoint): cleans up to the position of the
    /// call, then takes a checkpoint and writes it into both slots of `control`, so that neither needs
    /// older log.
    pub(super) fn checkpoint(&self) -> Result<CheckpointReport> {
        let _writing = self.admit_write()?;
        let started = Instant::now();
        let reserved = self.engine.log.reserved_lsn();
        self.engine.cleaner.reach_gently(reserved)?;
        let taken = self.take_checkpoint(Spill::BeyondShare)?;
        let segments_recycled = taken.segments_recycled + self.checkpointer.confirm()?;
        Ok(CheckpointReport { segments_recycled, elapsed: started.elapsed(), ..taken })
    }

    /// Takes a checkpoint and tells of it.
    pub(crate) fn take_checkpoint(&self, spill: Spill) -> Result<CheckpointReport> {
        let _span = trace::checkpoint();
        let tell = |begin_lsn| self.emit(&Event::CheckpointBegin { begin_lsn });
        let report = self.checkpointer.take_and_tell(spill, tell)?;
        self.emit(&Event::CheckpointEnd(report.clone()));
        Ok(report)
    }

    /// Waits until what ends at `lsn` may be told, and turns a failed flush into "in doubt".
    pub(crate) fn wait_for(&self, lsn: Lsn) -> Result<()> {
        self.engine.log.wait_visible(lsn).map_err(|error| in_doubt(lsn, error))
    }
}

/// The error of a commit whose flush failed.
pub(super) fn in_doubt(lsn: Lsn, error: Error) -> Error {
    Error::CommitUnknown { lsn, source: Arc::new(error) }
}

/// Refuses keys that no tree can hold.
pub(crate) fn check_key(key: &[u8]) -> Result<()> {
    if key.is_empty() {
        return Err(Error::InvalidArgument("the key is empty".into()));
    }
    if key.len() > MAX_KEY_BYTES {
        let why = format!("the key has {} bytes; at most {MAX_KEY_BYTES} are allowed", key.len());
        return Err(Error::InvalidArgument(why));
    }
    Ok(())
}

/// Refuses values that no tree can hold.
pub(crate) fn check_value(value: &[u8]) -> Result<()> {
    if value.len() > MAX_VALUE_BYTES {
        let why =
            format!("the value has {} bytes; at most {MAX_VALUE_BYTES} are allowed", value.len());
        return Err(Error::InvalidArgument(why));
    }
    Ok(())
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::sync::mpsc;

    use seawall_wal::disk::SimDisk;
    use seawall_wal::disk::sim::{OperationKind, SimOperation};

    use super::*;
    use crate::Database;

    type Closing = Arc<std::sync::Mutex<Option<std::thread::JoinHandle<Result<()>>>>>;

    fn options(disk: &SimDisk) -> Options {
        Options::new().disk_injected(Arc::new(disk.clone())).cache_bytes(2 << 20)
    }

    #[test]
    fn a_transaction_that_nobody_could_roll_back_is_no_clean_shutdown() -> Result<()> {
        let disk = SimDisk::new();
        let database = options(&disk).open("/db")?;
        let tree = database.tree("t")?;
        let mut open = database.begin()?;
        open.insert(&tree, "open", "")?;
        let live = database.shared_core().live.lock().values().find_map(Weak::upgrade);
        let unit = live.expect("one is live").lock().end(Error::Closed)?;
        database.close()?;
        drop((open, unit));
        let read_only = options(&disk).read_only(true).open("/db");
        assert!(matches!(read_only, Err(Error::RecoveryNeeded)), "{read_only:?}");
        let database = options(&disk).open("/db")?;
        assert_eq!(database.recovery_report().losers, 1);
        assert!(!database.tree("t")?.contains_key("open")?);
        Ok(())
    }

    #[test]
    fn one_checkpoint_gives_up_the_log_behind_it() -> Result<()> {
        let disk = SimDisk::new();
        let database = options(&disk).manual_background(true).open("/db")?;
        let tree = database.tree("t")?;
        for number in 0..2000_u32 {
            tree.insert_with(number.to_be_bytes(), vec![b'a'; 1000], crate::Durability::Relaxed)?;
        }
        database.checkpoint()?;
        let core = database.shared_core();
        let control = core.checkpointer.control();
        let last = control.state().master.map(|master| master.start_lsn());
        assert_eq!(Some(control.needed_lsn()), last, "a slot needs older log");
        Ok(())
    }

    /// Has another thread close the database at the first operation that `is_it` is about, and that
    /// operation go on only after a while in which the closing must not end.
    fn close_in_the_middle(
        disk: &SimDisk,
        database: &Database,
        is_it: impl Fn(&SimOperation<'_>) -> bool + Send + Sync + 'static,
    ) -> Closing {
        let closing = Closing::default();
        let (closed_sender, closed) = mpsc::channel();
        let (closed, is_begun) = (std::sync::Mutex::new(closed), AtomicBool::new(false));
        let (other, handle) = (database.clone(), Arc::clone(&closing));
        disk.set_monitor(Arc::new(move |operation| {
            if !is_it(operation) || is_begun.swap(true, Ordering::SeqCst) {
                return;
            }
            let (database, sender) = (other.clone(), closed_sender.clone());
            *handle.lock().unwrap() = Some(std::thread::spawn(move || {
                let outcome = database.close();
                sender.send(()).unwrap();
                outcome
            }));
            let waited = closed.lock().unwrap().recv_timeout(std::time::Duration::from_millis(200));
            assert!(waited.is_err(), "closed in the middle of it");
        }));
        closing
    }

    /// What came of it.
    fn outcome(closing: &Closing) -> Result<()> {
        let handle = closing.lock().unwrap().take().expect("the operation has begun");
        handle.join().unwrap()
    }

    #[test]
    fn closing_waits_for_a_backup() -> Result<()> {
        let disk = SimDisk::new();
        let database = options(&disk).open("/db")?;
        database.tree("t")?.insert("key", "value")?;
        let closing =
            close_in_the_middle(&disk, &database, |operation| operation.path.starts_with("/copy"));
        let copied = database.backup("/copy");
        outcome(&closing)?;
        assert!(copied.is_ok() || matches!(copied, Err(Error::Closed)), "{copied:?}");
        options(&disk).open("/db")?.close()
    }

    /// Whoever finds no clean frame writes pages himself, readers too. Nobody waits for pages of a
    /// poisoned database; but once it is closed, another may open it and write the same ones.
    #[test]
    fn closing_a_poisoned_database_waits_for_the_pages_that_a_reader_writes() -> Result<()> {
        let disk = SimDisk::new();
        let options = || options(&disk).manual_background(true);
        let database = options().open("/db")?;
        database.tree("t")?.insert("key", "value")?;
        let core = Arc::clone(&database.shared.core);
        core.engine.log.poison(Error::Closed);
        let step = || core.engine.cleaner.step(CleanerTarget::CleanFrames(usize::MAX));
        let closing = close_in_the_middle(&disk, &database, |operation| {
            operation.kind == OperationKind::Write && operation.path.ends_with("pages")
        });
        assert!(step()?.pages_written > 0);
        assert!(matches!(outcome(&closing), Err(Error::Poisoned { .. })));
        let reopened = options().open("/db")?;
        assert_eq!(reopened.tree("t")?.get("key")?.as_deref(), Some(&b"value"[..]));
        reopened.close()
    }
}
