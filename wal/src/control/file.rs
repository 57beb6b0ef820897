//! The `control` file: read when a database is opened, and changed by whole states that are durable
//! when [`Control::update`] returns. Holds invariant C4.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::codec::to_usize;
use crate::disk::{Access, AlignedBuf, BLOCK_BYTES, Disk, DiskFile, OpenMode};
use crate::planted::{Bug, is_planted};
use crate::sync::Mutex;
use crate::{Error, Lsn, Result};

use super::CONTROL_NAME;
use super::slots::{self, CONTROL_BYTES, COPY_BYTES, Chosen, SlotCopy};
use super::state::{ControlState, MasterRecord};

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
    /// A state that a killed process had written but not synced may be found: where the file is opened
    /// for writing it is written again, the same bytes in the same place, and synced.
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
        let chosen = match slots::choose(&path, copies) {
            // What the copies lack is told by the length. A newer format may have another one.
            Ok(_) | Err(Error::Corrupt { .. }) if length != CONTROL_BYTES => {
                let expected = format!("a file of {CONTROL_BYTES} bytes");
                return Err(Error::corrupt(&path, length, expected, format!("{length} bytes")));
            }
            chosen => chosen?,
        };
        if !is_read_only {
            // The state found may be in a cache only, since its writer was killed before the sync. The next
            // update goes over the other slot, the last one that is known to be durable.
            let Chosen { sequence, state, .. } = &chosen;
            write_slot(file.as_ref(), *sequence, state).map_err(|error| Error::io(&path, error))?;
        }
        Ok(Some(Self::new(file, is_read_only, chosen)))
    }

    /// The newest state that is still readable, whatever else is wrong with the file; for who saves what
    /// is left, never for opening a database. `None` where there is none.
    ///
    /// # Errors
    /// [`Error::UnsupportedFormat`] where a newer program wrote it.
    pub fn surviving_state(disk: &dyn Disk, dir: &Path) -> Result<Option<ControlState>> {
        let path = dir.join(CONTROL_NAME);
        let Ok(file) = disk.open(&path, OpenMode::ReadOnly, Access::Direct) else {
            return Ok(None);
        };
        let Ok(size) = file.size() else { return Ok(None) };
        let mut newest: Option<(u64, Box<ControlState>)> = None;
        for (slot, offset) in slots::all_copies() {
            match read_copy(file.as_ref(), size.length_bytes, slot, offset) {
                SlotCopy::Valid(sequence, state) => {
                    if newest.as_ref().is_none_or(|(best, _)| sequence > *best) {
                        newest = Some((sequence, state));
                    }
                }
                SlotCopy::Newer(found) => {
                    let supported = slots::FORMAT_VERSION;
                    return Err(Error::UnsupportedFormat { found, supported });
                }
                SlotCopy::Damaged(_) | SlotCopy::Foreign(_) | SlotCopy::Unreadable(_) => {}
            }
        }
        Ok(newest.map(|(_, state)| *state))
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
    #[cfg(test)]
    #[cfg(not(loom))]
    fn other_slot_master(&self) -> Option<MasterRecord> {
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
    if is_planted(Bug::MasterRecordWithoutSync) {
        return Ok(());
    }
    file.sync()
}

fn read_copy(file: &dyn DiskFile, length: u64, slot: usize, offset: u64) -> SlotCopy {
    let mut bytes = AlignedBuf::new(COPY_BYTES);
    // Of a file that is cut short, what is there is looked at: it may be one of a newer format.
    let there = length.saturating_sub(offset).min(crate::codec::to_u64(COPY_BYTES));
    let blocks = to_usize(there) / BLOCK_BYTES * BLOCK_BYTES;
    match file.read_at(&mut bytes[..blocks], offset) {
        Ok(()) => SlotCopy::examine(&bytes, slot),
        Err(error) => SlotCopy::Unreadable(error),
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::super::state::{Shutdown, tests::sample};
    use super::*;
    use crate::EpochNonce;
    use crate::codec::to_u64;
    use crate::control::LogPosition;
    use crate::disk::sim::{EIO, ENOSPC, Fault, FaultEffect, OperationKind, SimDisk};

    fn dir() -> &'static Path {
        Path::new("/db")
    }

    fn created() -> (SimDisk, Control) {
        let disk = SimDisk::new();
        disk.create_dir(dir()).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        let control = Control::create(&disk, dir(), sample()).unwrap();
        (disk, control)
    }

    fn open(disk: &SimDisk) -> Control {
        Control::open(disk, dir(), false).unwrap().unwrap()
    }

    fn set_rate(control: &Control, rate: u64) -> Result<()> {
        control.update(|state| state.rates.redo_bytes_per_s = rate)
    }

    fn rate(control: &Control) -> u64 {
        control.state().rates.redo_bytes_per_s
    }

    #[test]
    fn an_empty_directory_holds_no_control_file() {
        let disk = SimDisk::new();
        disk.create_dir(dir()).unwrap();
        assert!(Control::open(&disk, dir(), false).unwrap().is_none());
    }

    #[test]
    fn what_was_written_is_read() {
        let (disk, control) = created();
        assert_eq!(control.state(), sample());
        assert_eq!(open(&disk).state(), sample());
        for number in 1..6 {
            set_rate(&control, number).unwrap();
            assert_eq!(rate(&control), number);
            assert_eq!(rate(&open(&disk)), number);
        }
        let read_only = Control::open(&disk, dir(), true).unwrap().unwrap();
        assert!(matches!(set_rate(&read_only, 9), Err(Error::ReadOnly)));
        assert_eq!(rate(&open(&disk)), 5);
    }

    #[test]
    fn truncation_waits_for_both_slots() {
        let (disk, control) = created();
        let first = sample().master.unwrap();
        assert_eq!(control.other_slot_master(), None);
        assert_eq!(control.needed_lsn(), first.start_lsn());
        let second =
            MasterRecord { redo_lsn: first.redo_lsn.advance(800), undo_lsn: Lsn::NONE, ..first };
        control.update(|state| state.master = Some(second)).unwrap();
        for control in [&control, &open(&disk)] {
            assert_eq!(control.other_slot_master(), Some(first));
            assert_eq!(control.needed_lsn(), first.start_lsn());
        }
        control.update(|_| ()).unwrap();
        assert_eq!(control.needed_lsn(), second.redo_lsn);
        control.update(|state| state.master = None).unwrap();
        assert_eq!(control.needed_lsn(), Lsn::NONE);
    }

    #[test]
    fn a_crash_at_any_operation_leaves_the_old_state_or_the_new() {
        let disk = SimDisk::new();
        disk.create_dir(dir()).unwrap();
        disk.sync_dir(Path::new("/")).unwrap();
        disk.record_forks();
        let control = Control::create(&disk, dir(), sample()).unwrap();
        let mut done = vec![(disk.operation_count(), sample().rates.redo_bytes_per_s)];
        for number in 1..6 {
            set_rate(&control, number).unwrap();
            done.push((disk.operation_count(), number));
        }
        for fork in disk.take_forks() {
            let before = done.iter().rev().find(|(operation, _)| *operation < fork.operation());
            for (plan, crashed) in fork.disk().crash_states(0..8) {
                let what = format!("{} {plan:?}", fork.describe());
                let found = Control::open(&crashed, dir(), false)
                    .unwrap_or_else(|error| panic!("{what}: {error}"));
                match (before, found) {
                    (None, None) => {}
                    (None, Some(control)) => assert_eq!(control.state(), sample(), "{what}"),
                    (Some(_), None) => panic!("{what}: the control file is gone"),
                    (Some((_, before)), Some(control)) => {
                        let next = before % sample().rates.redo_bytes_per_s + 1;
                        let found = rate(&control);
                        assert!(found == *before || found == next, "{what}: {before} {found}");
                    }
                }
            }
        }
    }

    /// A process is killed in an update, the next one begins another, and the power fails.
    #[test]
    fn a_state_that_was_found_unsynced_is_durable_before_the_other_slot_is_written() {
        // The histories lie behind the first sector: of a slot whose changes are within one sector, both
        // images are whole.
        let begin_epochs = |control: &Control, count: u64, rate: u64| {
            control.update(|state| {
                state.rates.redo_bytes_per_s = rate;
                for _ in 0..count {
                    let last = *state.last_epoch();
                    let at = LogPosition { segment: last.segment, offset: last.offset };
                    let (nonce, end_lsn) = (EpochNonce::new(200), last.start_lsn.advance(8));
                    state.start_epoch(nonce, end_lsn, Some(last.epoch), at).unwrap();
                }
            })
        };
        let (disk, control) = created();
        begin_epochs(&control, 10, 0).unwrap();
        begin_epochs(&control, 1, 1).unwrap();
        disk.record_forks();
        begin_epochs(&control, 1, 2).unwrap();
        let mut states = 0;
        for fork in disk.take_forks() {
            let killed = fork.disk().fork();
            killed.record_forks();
            let next = open(&killed);
            let found = rate(&next);
            begin_epochs(&next, 1, 3).unwrap();
            for cut in killed.take_forks() {
                for (plan, crashed) in cut.disk().crash_states(0..100) {
                    let what = format!("{}, {}, {plan:?}", fork.describe(), cut.describe());
                    let left = Control::open(&crashed, dir(), false);
                    let left = left.unwrap_or_else(|error| panic!("{what}: {error}")).unwrap();
                    assert!((1..=3).contains(&rate(&left)), "{what}: {} of {found}", rate(&left));
                    states += 1;
                }
            }
        }
        assert!(states > 20, "{states}");
    }

    #[test]
    fn a_failed_update_leaves_the_old_state_in_force_and_ends_updates() {
        for (kind, errno) in [
            (OperationKind::Write, EIO),
            (OperationKind::Write, ENOSPC),
            (OperationKind::Sync, EIO),
        ] {
            let (disk, control) = created();
            disk.add_fault(Fault::new(FaultEffect::Errno(errno)).kind(kind));
            assert!(matches!(set_rate(&control, 7), Err(Error::Io { .. })), "{kind:?} {errno}");
            assert_eq!(control.state(), sample());
            assert!(matches!(set_rate(&control, 8), Err(Error::Poisoned { source: Some(_) })));
            assert_eq!(control.state(), sample());
            for (_, crashed) in disk.crash_states(0..8) {
                assert!([sample().rates.redo_bytes_per_s, 7].contains(&rate(&open(&crashed))));
            }
        }
    }

    #[test]
    fn a_refused_change_writes_nothing() {
        let (disk, control) = created();
        let operations = disk.operation_count();
        let refused = control.try_update(|state| {
            state.shutdown = Shutdown::Open;
            Err::<(), _>(Error::Closed)
        });
        assert!(matches!(refused, Err(Error::Closed)));
        assert_eq!(disk.operation_count(), operations);
        assert_eq!(control.state(), sample());
        set_rate(&control, 3).unwrap();
    }

    #[test]
    fn either_copy_of_a_slot_may_be_damaged() {
        let (disk, control) = created();
        set_rate(&control, 7).unwrap();
        for copy in 0..4 {
            let disk = disk.fork();
            disk.flip_bit(control.path().as_path(), to_u64(copy * COPY_BYTES + 100), 0);
            assert_eq!(rate(&open(&disk)), 7);
        }
        for slot in 0..2 {
            let disk = disk.fork();
            for copy in [slot, slot + 2] {
                disk.flip_bit(control.path().as_path(), to_u64(copy * COPY_BYTES + 100), 0);
            }
            let expected = if slot == 1 { sample().rates.redo_bytes_per_s } else { 7 };
            assert_eq!(rate(&open(&disk)), expected);
            // The damaged slot is not repaired (C4), and its place is used again in turn.
            let control = open(&disk);
            assert_eq!(control.other_slot_master(), None);
            set_rate(&control, 8).unwrap();
            set_rate(&control, 9).unwrap();
            assert_eq!(rate(&open(&disk)), 9);
        }
    }

    #[test]
    fn a_file_cut_short_is_corruption_at_its_end() {
        let (disk, control) = created();
        let path = control.path();
        let bytes = disk.read_file(&path).unwrap();
        for length in [0, 10, 4096, COPY_BYTES, 3 * COPY_BYTES, 4 * COPY_BYTES - 1] {
            disk.write_file(&path, &bytes[..length]);
            let result = Control::open(&disk, dir(), false).map(|_| ());
            assert!(matches!(result, Err(Error::Corrupt { .. })), "{length}: {result:?}");
        }
    }
}
