//! The `control` file: read when a database is opened, and changed by whole states that are durable
//! when [`Control::update`] returns. Holds invariant C4.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::codec::to_usize;
use crate::disk::{Access, AlignedBuf, BLOCK_BYTES, Disk, DiskFile, OpenMode};
use crate::sync::Mutex;
use crate::{Error, Lsn, Result};

use super::slots::{self, CONTROL_BYTES, COPY_BYTES, Chosen, Copy};
use super::state::{ControlState, MasterRecord};

/// Name of the file in the database's directory.
pub const CONTROL_NAME: &str = "control";
const TEMPORARY_NAME: &str = "control.tmp";

/// The open `control` file of a database.
#[derive(Debug)]
pub struct Control {
    file: Arc<dyn DiskFile>,
    is_read_only: bool,
    /// Serialises updates, and holds what made them impossible. Taken before `current`.
    writer: Mutex<Option<Arc<Error>>>,
    /// Never held across I/O.
    current: Mutex<Chosen>,
}

impl Control {
    /// Writes the first state of a database that is being created, under a temporary name first, so
    /// that a directory either is a database or is none.
    pub fn create(disk: &dyn Disk, dir: &Path, state: ControlState) -> Result<Self> {
        let temporary = dir.join(TEMPORARY_NAME);
        let path = dir.join(CONTROL_NAME);
        // Even: the first copy of slot 0, at the start of the file.
        let sequence = 2;
        let at = |error| Error::io(&temporary, error);
        let file = disk.open(&temporary, OpenMode::Create, Access::Direct).map_err(at)?;
        file.write_at(&AlignedBuf::new(to_usize(CONTROL_BYTES)), 0).map_err(at)?;
        write_slot(file.as_ref(), sequence, &state).map_err(at)?;
        drop(file);
        disk.rename(&temporary, &path).map_err(at)?;
        disk.sync_dir(dir).map_err(|error| Error::io(dir, error))?;
        let file = disk
            .open(&path, OpenMode::ReadWrite, Access::Direct)
            .map_err(|error| Error::io(&path, error))?;
        Ok(Self::new(file, false, Chosen { sequence, state, other: None }))
    }

    /// Reads the file of the database in `dir`; `None` where there is none.
    ///
    /// A state that a killed process had written but not synced may be found: whoever opens the
    /// database for writing makes the new epoch's state durable before anything relies on it.
    ///
    /// # Errors
    /// See the decision table in the source of the slots.
    pub fn open(disk: &dyn Disk, dir: &Path, is_read_only: bool) -> Result<Option<Self>> {
        let path = dir.join(CONTROL_NAME);
        let mode = if is_read_only { OpenMode::ReadOnly } else { OpenMode::ReadWrite };
        let file = match disk.open(&path, mode, Access::Direct) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io(&path, error)),
        };
        let length = file.size().map_err(|error| Error::io(&path, error))?.length_bytes;
        let copies = slots::all_copies()
            .map(|(slot, offset)| read_copy(file.as_ref(), length, slot, offset));
        let chosen = slots::choose(&path, copies)?;
        if length != CONTROL_BYTES {
            let expected = format!("a file of {CONTROL_BYTES} bytes");
            return Err(Error::corrupt(&path, length, expected, format!("{length} bytes")));
        }
        Ok(Some(Self::new(file, is_read_only, chosen)))
    }

    fn new(file: Arc<dyn DiskFile>, is_read_only: bool, chosen: Chosen) -> Self {
        Self { file, is_read_only, writer: Mutex::new(None), current: Mutex::new(chosen) }
    }

    /// Path of the file.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.file.path().with_file_name(CONTROL_NAME)
    }

    /// The state in force.
    #[must_use]
    pub fn state(&self) -> ControlState {
        self.current.lock().state.clone()
    }

    /// The master record in the slot that is not in force; `None` where that slot is invalid, or
    /// from before the first checkpoint.
    #[must_use]
    pub fn other_slot_master(&self) -> Option<MasterRecord> {
        self.current.lock().other.as_ref().and_then(|state| state.master)
    }

    /// The lowest position of the log that a valid slot needs: its recovery reads from there. From
    /// before the first checkpoint a slot needs the whole log ([`Lsn::NONE`]).
    #[must_use]
    pub fn needed_lsn(&self) -> Lsn {
        let needed =
            |state: &ControlState| state.master.as_ref().map_or(Lsn::NONE, MasterRecord::start_lsn);
        let current = self.current.lock();
        let own = needed(&current.state);
        current.other.as_ref().map_or(own, |other| own.min(needed(other)))
    }

    /// Changes the state; durable on return. Updates run one after the other.
    ///
    /// # Errors
    /// After a failed write or sync the old state stays in force here, while the next open may find
    /// either; every later update fails (invariant W2).
    pub fn update(&self, change: impl FnOnce(&mut ControlState)) -> Result<()> {
        self.try_update(|state| {
            change(state);
            Ok(())
        })
    }

    /// As [`Control::update`], with a change that may refuse. Then nothing is written.
    pub fn try_update<T>(&self, change: impl FnOnce(&mut ControlState) -> Result<T>) -> Result<T> {
        if self.is_read_only {
            return Err(Error::ReadOnly);
        }
        let mut failure = self.writer.lock();
        if let Some(source) = &*failure {
            return Err(Error::Poisoned { source: Some(Arc::clone(source)) });
        }
        let (mut state, sequence) = {
            let current = self.current.lock();
            (current.state.clone(), current.sequence + 1)
        };
        let identity = state.identity;
        let result = change(&mut state)?;
        assert_eq!(state.identity, identity, "the identity of a database never changes");
        if let Err(source) = write_slot(self.file.as_ref(), sequence, &state) {
            // Never `NoSpace`: the file has had its full length since it was created.
            let error = Error::Io { path: self.path(), source: Arc::new(source) };
            *failure = Some(Arc::new(error.clone()));
            return Err(error);
        }
        let mut current = self.current.lock();
        current.sequence = sequence;
        let old = std::mem::replace(&mut current.state, state);
        current.other = Some(old);
        Ok(result)
    }
}

fn write_slot(file: &dyn DiskFile, sequence: u64, state: &ControlState) -> std::io::Result<()> {
    let copy = slots::encode(sequence, state);
    for offset in slots::copy_offsets(sequence) {
        file.write_at(&copy, offset)?;
    }
    file.sync()
}

fn read_copy(file: &dyn DiskFile, length: u64, slot: usize, offset: u64) -> Copy {
    let mut bytes = AlignedBuf::new(COPY_BYTES);
    // Of a file that is cut short, what is there is looked at: it may be one of a newer format.
    let there = length.saturating_sub(offset).min(crate::codec::to_u64(COPY_BYTES));
    let blocks = to_usize(there) / BLOCK_BYTES * BLOCK_BYTES;
    match file.read_at(&mut bytes[..blocks], offset) {
        Ok(()) => Copy::examine(&bytes, slot),
        Err(error) => Copy::Unreadable(error),
    }
}
