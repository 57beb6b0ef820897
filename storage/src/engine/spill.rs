//! The undo files in use: who has one, up to where, and when it may go.
//!
//! Checkpoints write them (`checkpoint/spill.rs`); rollback, recovery and readers of what stamps
//! replaced read them, at the same time. A file goes when nobody can need it any more: its
//! transaction has ended, durably, and no reader is left who might look behind its stamps. If we
//! crash before it is gone, the next open finds a file whose transaction is in no table.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use seawall_wal::codec::{DecodeError, to_u64, to_usize};
use seawall_wal::disk::{Access, AlignedBuf, Disk, OpenMode};
use seawall_wal::log::{OwnedRecord, RecordPlace};
use seawall_wal::sync::Mutex;
use seawall_wal::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use seawall_wal::{DatabaseId, Error, Lsn, Result, TxnId};

use super::Engine;
use crate::spill::{self, SpillMark, SpillReader, SpillWriter};
use crate::txn::{ActiveTxn, Fate};
use crate::version::Bulk;

/// Bytes copied at once.
const COPY_BYTES: usize = 256 << 10;

/// The undo files of a database.
#[derive(Debug)]
pub(crate) struct Spills {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    database: DatabaseId,
    files: Mutex<BTreeMap<TxnId, Arc<UndoFile>>>,
    /// Number of files, to be looked at without the mutex.
    count: AtomicUsize,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct UndoFile {
    txn: TxnId,
    /// What is durable: whatever of the transaction begins below `spilled_upto` and may have to be
    /// undone.
    mark: Mutex<SpillMark>,
    writer: Mutex<Option<SpillWriter>>,
    /// The reader, and the length that it was opened with.
    reader: Mutex<Option<(u64, SpillReader)>>,
    /// The end of the log when the transaction was found to be over; 0 before.
    over_at: AtomicU64,
}

impl Spills {
    pub(crate) fn new(disk: &Arc<dyn Disk>, dir: &Path, database: DatabaseId) -> Self {
        Self {
            disk: Arc::clone(disk),
            dir: dir.to_path_buf(),
            database,
            files: Mutex::default(),
            count: AtomicUsize::new(0),
        }
    }

    pub(crate) fn disk(&self) -> Arc<dyn Disk> {
        Arc::clone(&self.disk)
    }

    /// Takes over the file of a transaction that recovery has to undo.
    pub(crate) fn adopt(&self, txn: &ActiveTxn) {
        if !txn.spilled_upto.is_none() {
            let (spilled_upto, length) = (txn.spilled_upto, txn.undo_file_bytes);
            *self.file(txn.id).mark.lock() = SpillMark { spilled_upto, length };
        }
    }

    /// The entry of a transaction, made where there is none.
    pub(crate) fn file(&self, txn: TxnId) -> Arc<UndoFile> {
        let mut files = self.files.lock();
        let file = files.entry(txn).or_insert_with(|| {
            Arc::new(UndoFile {
                txn,
                mark: Mutex::new(SpillMark { spilled_upto: Lsn::NONE, length: 0 }),
                writer: Mutex::default(),
                reader: Mutex::default(),
                over_at: AtomicU64::new(0),
            })
        });
        let file = Arc::clone(file);
        self.count.store(files.len(), Ordering::SeqCst);
        file
    }

    fn get(&self, txn: TxnId) -> Option<Arc<UndoFile>> {
        if self.count.load(Ordering::SeqCst) == 0 {
            return None;
        }
        self.files.lock().get(&txn).cloned()
    }

    /// What of a transaction's undo information is in its file.
    fn mark(&self, txn: TxnId) -> Option<SpillMark> {
        let mark = *self.get(txn)?.mark.lock();
        (!mark.spilled_upto.is_none()).then_some(mark)
    }

    /// Appends a record to a transaction's file.
    pub(crate) fn append(&self, file: &UndoFile, lsn: Lsn, record: &[u8]) -> Result<()> {
        let mut writer = file.writer.lock();
        if writer.is_none() {
            let mark = *file.mark.lock();
            let (disk, dir, database) = (&self.disk, &self.dir, self.database);
            *writer = Some(if mark.length == 0 {
                SpillWriter::create(disk, dir, database, file.txn)?
            } else {
                SpillWriter::resume(disk, dir, database, file.txn, mark.length)?
            });
        }
        let writer = writer.as_mut().expect("made above");
        writer.append(lsn, record)
    }

    /// Forgets what was appended and not synced: it is appended again, behind the mark.
    pub(crate) fn forget_unsynced(&self, file: &UndoFile) {
        // The next writer cuts the file at its mark.
        *file.writer.lock() = None;
    }

    /// Makes what was appended durable, and known: everything of the transaction that begins below
    /// `upto`.
    pub(crate) fn sync(&self, file: &UndoFile, upto: Lsn) -> Result<()> {
        let length = match file.writer.lock().as_mut() {
            Some(writer) => writer.sync()?.length,
            None => file.mark.lock().length,
        };
        *file.mark.lock() = SpillMark { spilled_upto: upto, length };
        Ok(())
    }

    /// The record at `lsn`, where the transaction's file has it.
    pub(super) fn read(&self, txn: TxnId, lsn: Lsn) -> Result<Option<OwnedRecord>> {
        let Some(file) = self.get(txn) else { return Ok(None) };
        let mark = *file.mark.lock();
        if lsn >= mark.spilled_upto || mark.length == 0 {
            return Ok(None);
        }
        let mut reader = file.reader.lock();
        if reader.as_ref().is_none_or(|(length, _)| *length < mark.length) {
            let (disk, dir) = (&*self.disk, &self.dir);
            let opened = SpillReader::open(disk, dir, self.database, txn, mark.length)?;
            *reader = Some((mark.length, opened));
        }
        let (_, reader) = reader.as_mut().expect("opened above");
        reader.read(lsn).map(Some)
    }

    /// Path of a transaction's file.
    fn path(&self, txn: TxnId) -> PathBuf {
        spill::path(&self.dir, txn)
    }

    /// A record of a transaction's file whose checksum holds and whose content does not.
    pub(crate) fn damaged_record(&self, read: &OwnedRecord, error: DecodeError) -> Error {
        let RecordPlace::TxnFile(offset) = read.place else {
            unreachable!("it was read from the file");
        };
        error.in_record(read.lsn).in_file(&self.path(read.header.txn), offset)
    }

    /// Bytes of all undo files.
    pub(crate) fn bytes(&self) -> u64 {
        self.files.lock().values().map(|file| file.mark.lock().length).sum()
    }

    /// The files that hold anything.
    pub(crate) fn all(&self) -> Vec<Arc<UndoFile>> {
        let files = self.files.lock();
        files.values().filter(|file| file.mark.lock().length > 0).cloned().collect()
    }

    /// Whether the file is there still: a reader that finds it damaged may have found it gone.
    pub(crate) fn has(&self, file: &UndoFile) -> bool {
        self.get(file.txn).is_some()
    }

    /// Reads a whole file, and calls `each` with its records. Returns how many there are.
    ///
    /// # Errors
    /// [`seawall_wal::Error::Corrupt`] for the first damage; those of `each`; those of reading.
    pub(crate) fn check(
        &self,
        file: &UndoFile,
        each: impl FnMut(&OwnedRecord) -> Result<()>,
    ) -> Result<u64> {
        let length = file.mark.lock().length;
        let (disk, dir, database) = (&*self.disk, &self.dir, self.database);
        Ok(spill::check(disk, dir, database, file.txn, length, each)?.records)
    }

    /// Copies a whole file: `each` gets its bytes, in pieces.
    pub(crate) fn copy(
        &self,
        file: &UndoFile,
        mut each: impl FnMut(&[u8]) -> Result<()>,
    ) -> Result<()> {
        let length = file.mark.lock().length;
        let path = self.path(file.txn);
        let opened = self.disk.open(&path, OpenMode::ReadOnly, Access::Direct);
        let opened = opened.map_err(|error| Error::io(&path, error))?;
        let mut buffer = AlignedBuf::new(COPY_BYTES);
        let mut offset = 0;
        while offset < length {
            let count = to_usize((length - offset).min(to_u64(COPY_BYTES)));
            let read = opened.read_at(&mut buffer[..count], offset);
            read.map_err(|error| Error::io(&path, error))?;
            each(&buffer[..count])?;
            offset += to_u64(count);
        }
        Ok(())
    }

    /// Takes away the files of transactions that the tables do not name.
    pub(crate) fn remove_unknown(&self) -> Result<u64> {
        spill::remove_unknown(&*self.disk, &self.dir, |txn| {
            self.mark(txn).is_some_and(|mark| mark.length > 0)
        })
    }
}

impl UndoFile {
    pub(crate) const fn txn(&self) -> TxnId {
        self.txn
    }
}

impl Engine {
    /// Transactions that have written and not committed, for a checkpoint that has waited for the
    /// appends under way.
    pub(crate) fn active_txns(&self) -> Vec<ActiveTxn> {
        let mut active = self.txns.active();
        for txn in &mut active {
            if let Some(mark) = self.spills.mark(txn.id) {
                (txn.spilled_upto, txn.undo_file_bytes) = (mark.spilled_upto, mark.length);
            }
        }
        active
    }

    /// Huge transactions that have committed, whose undo information older readers may look up in
    /// the log: which, and from where on.
    pub(crate) fn committed_in_log(&self) -> Vec<(TxnId, Lsn)> {
        let needed = |bulk: &Bulk| {
            let Fate::Committed(commit_lsn) = bulk.writer.fate() else { return None };
            let spilled_upto = self.spills.mark(bulk.id).map_or(Lsn::NONE, |it| it.spilled_upto);
            (spilled_upto < commit_lsn).then(|| (bulk.id, bulk.first_lsn.max(spilled_upto)))
        };
        self.bulks.all().iter().filter_map(|bulk| needed(bulk)).collect()
    }

    /// Dooms the active transaction that needs the oldest log, for its undo or for the parts of its
    /// commit, if it needs any below `lsn`.
    pub(crate) fn doom_oldest(&self, lsn: Lsn) -> Option<(Lsn, TxnId)> {
        let oldest = self.oldest_undo().filter(|(needed_lsn, _)| *needed_lsn < lsn);
        oldest.inspect(|(_, txn)| self.txns.doom(*txn))
    }

    /// The active transaction that needs the oldest log, for its undo or for the parts of its commit,
    /// and from where on.
    pub(crate) fn oldest_undo(&self) -> Option<(Lsn, TxnId)> {
        let for_undo = self.active_txns().into_iter().map(|txn| (txn.needed_lsn(), txn.id));
        for_undo.chain(self.txns.oldest_parts()).min()
    }

    /// Takes away undo files that nobody needs any more.
    pub(crate) fn reap_undo_files(&self) -> Result<()> {
        if self.spills.count.load(Ordering::SeqCst) == 0 {
            return Ok(());
        }
        let files: Vec<_> = self.spills.files.lock().values().cloned().collect();
        for file in files {
            if self.txns.is_listed(file.txn) || self.bulks.get(file.txn).is_some() {
                continue;
            }
            // Its last record lies below the end of the log as it is now. Until that is durable, a
            // crash brings the transaction back.
            let reserved = self.log.reserved_lsn().get();
            let over_at = match file.over_at.compare_exchange(
                0,
                reserved,
                Ordering::SeqCst,
                Ordering::SeqCst,
            ) {
                Ok(_) => reserved,
                Err(over_at) => over_at,
            };
            if self.log.durable_lsn() < Lsn::new(over_at) {
                continue;
            }
            let mut files = self.spills.files.lock();
            files.remove(&file.txn);
            self.spills.count.store(files.len(), Ordering::SeqCst);
            drop(files);
            if let Err(error) = spill::remove(&*self.spills.disk, &self.spills.dir, file.txn) {
                // Nothing depends on it; the next opening takes it away.
                self.tell_unwritable(&error);
            }
        }
        Ok(())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use seawall_wal::disk::SimDisk;

    use super::*;
    use crate::checkpoint::Spill;
    use crate::engine::{Decision, Unit};
    use crate::{Isolation, Options};

    #[test]
    fn the_first_part_of_a_commit_holds_the_log_whatever_was_spilled() -> Result<()> {
        let options = Options::new().disk_injected(Arc::new(SimDisk::new()));
        let database = options.manual_background(true).open("/db")?;
        drop(database.tree("t")?);
        let core = database.shared_core();
        let engine = &core.engine;
        let tree = engine.trees.all().pop().expect("it was made");
        let mut unit = Unit::new(Isolation::Snapshot);
        engine.unit_write(&mut unit, &tree, b"key", 5, |_| Decision::Put(b"value"))?;
        let reserved = engine.log.reserved_lsn();
        engine.log.wait_durable(reserved)?;
        core.checkpointer.spill(Spill::Everything)?;
        assert_eq!(engine.doom_oldest(reserved), None);
        let slot = unit.slot().expect("it has written");
        engine.txns.set_parts_lsn(slot, engine.txns.first_lsn(slot));
        assert_eq!(engine.doom_oldest(reserved).map(|(_, txn)| txn), unit.txn());
        engine.roll_back_unit(unit)
    }

    #[test]
    fn a_checkpoint_holds_the_parts_of_a_commit_that_comes_in_behind_its_begin() -> Result<()> {
        type Act = Box<dyn FnOnce() + Send>;
        let act: Arc<std::sync::Mutex<Option<Act>>> = Arc::default();
        let run = Arc::clone(&act);
        let tell = move |event: &crate::Event| {
            if matches!(event, crate::Event::CheckpointBegin { .. }) {
                let act = run.lock().unwrap().take();
                if let Some(act) = act {
                    act();
                }
            }
        };
        let options = Options::new().disk_injected(Arc::new(SimDisk::new())).on_event(tell);
        let database = options.manual_background(true).open("/db")?;
        drop(database.tree("t")?);
        let core = Arc::clone(database.shared_core());
        let engine = Arc::clone(&core.engine);
        let tree = engine.trees.all().pop().expect("it was made");
        let mut unit = Unit::new(Isolation::Snapshot);
        engine.unit_write(&mut unit, &tree, b"key", 5, |_| Decision::Put(b"value"))?;
        let slot = unit.slot().expect("it has written");
        let parts_lsn = engine.txns.first_lsn(slot);
        engine.txns.set_parts_lsn(slot, parts_lsn);
        let reserved = engine.log.reserved_lsn();
        engine.cleaner.reach(crate::writeback::cleaner::CleanerTarget::RedoLsn(reserved))?;
        let other = Arc::clone(&engine);
        *act.lock().unwrap() = Some(Box::new(move || {
            other.commit_unit(unit, crate::Durability::Relaxed).unwrap();
        }));
        core.take_checkpoint(Spill::BeyondShare)?;
        let start_lsn = core.checkpointer.control().state().master.unwrap().start_lsn();
        assert!(start_lsn <= parts_lsn, "{start_lsn} is behind {parts_lsn}, which analysis reads");
        Ok(())
    }
}
