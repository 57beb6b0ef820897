//! Making, recycling and removing the files of the log, outside of the writer's mutex.
//!
//! Making a file, in steps that each take no longer than one write of [`FILL_BYTES`]:
//!
//! 1. It is created under a temporary name and filled with real zero writes: a synced write into
//!    unwritten or growing space costs a journal commit of the file system.
//! 2. It is synced, renamed to the next number, the directory is synced, and it is opened under its
//!    name. Then it is a spare. If we crash before, the next open removes or adopts it.
//!
//! Recycling a file that was given up: it is renamed to the next number, the directory is synced, and
//! it is opened. Its old frames need no zeroing: they carry lower positions, so none of them fits. If
//! we crash before the new name is durable, the file has its old name and lies below the truncation
//! point.
//!
//! Errors: a file that cannot be made is [`Error::NoSpace`], whatever the system calls it: nothing is
//! broken, what was half made is removed, and it may be tried again. What cannot be removed stays
//! counted, and is tried again before the next file. A directory that cannot be synced after names
//! were changed that the log owns is [`Error::Io`], and the caller poisons (invariant W2).
//!
//! Lock order: the maker's mutex, then the one that guards [`Segments`] (the writer's).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::codec::{to_u64, to_usize};
use crate::disk::{Access, AlignedBuf, Disk, DiskFile, OpenMode};
use crate::planted::{Bug, is_planted};
use crate::sync::Mutex;
use crate::{Error, Lsn, Result};

use super::segment;
use super::segments::{GivenUp, Segments, Spare};
use super::sizes::SegmentOptions;

/// Bytes of one write of zeros.
const FILL_BYTES: u64 = 1 << 20;
/// Zeros that may gather in the page cache, where direct I/O is not to be had, before they are synced:
/// no step takes much longer than another one.
const UNSYNCED_BYTES_MAX: u64 = 8 << 20;

/// Reaches the segments, which a mutex guards: the writer's, or that of a test.
pub(super) trait SharedSegments {
    /// Calls `f` with the segments.
    fn with<R>(&self, f: impl FnOnce(&mut Segments) -> R) -> R;
}

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Made {
    /// A part of a file; the next step goes on with it.
    Part,
    /// A file is ready.
    File,
    /// Nothing: the bound leaves no room for a file.
    NoRoom,
}

/// Makes and recycles files.
#[derive(Debug)]
pub(super) struct SpareMaker {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    making: Option<Making>,
    /// Files ever begun; names their temporary files.
    begun_count: u64,
    /// Files that could not be removed, and what they take.
    leftovers: Vec<Leftover>,
}

#[derive(Debug)]
struct Leftover {
    path: PathBuf,
    bytes: u64,
}

/// A file that is being made.
#[derive(Debug)]
struct Making {
    path: PathBuf,
    file: Option<Arc<dyn DiskFile>>,
    length_bytes: u64,
    filled_bytes: u64,
    zeros: AlignedBuf,
}

impl SpareMaker {
    /// Nothing is being made in `dir`.
    pub(super) fn new(disk: Arc<dyn Disk>, dir: &Path) -> Self {
        Self { disk, dir: dir.to_path_buf(), state: Mutex::default() }
    }

    /// Does the next part of making a file; begins one where none is being made. `is_wanted` is asked
    /// first, when nobody else can be adding a file any more; `None` when it says no.
    ///
    /// # Errors
    /// [`Error::NoSpace`] when the file cannot be made.
    pub(super) fn step(
        &self,
        segments: &impl SharedSegments,
        is_wanted: impl FnOnce() -> bool,
    ) -> Result<Option<Made>> {
        let mut state = self.state.lock();
        if !is_wanted() {
            return Ok(None);
        }
        let mut making = match state.making.take() {
            Some(making) => making,
            None => {
                state.remove_leftovers(self.disk.as_ref(), segments);
                let Some(length_bytes) = segments.with(Segments::plan) else {
                    return Ok(Some(Made::NoRoom));
                };
                state.begun_count += 1;
                let path = segment::temporary_path(&self.dir, state.begun_count);
                Making::new(path, length_bytes)
            }
        };
        let made = if making.is_filled() {
            self.finish(&mut state, segments, &mut making).map(Some)
        } else {
            making.fill_some(self.disk.as_ref()).map(|()| None)
        };
        match made {
            Ok(None) => {
                state.making = Some(making);
                Ok(Some(Made::Part))
            }
            Ok(Some(spare)) => {
                segments.with(|segments| segments.add_planned(spare));
                Ok(Some(Made::File))
            }
            Err(error) => {
                let path = making.path.clone();
                self.abandon(&mut state, segments, making);
                Err(Error::NoSpace { path, source: Arc::new(error) })
            }
        }
    }

    /// Step 2 of making a file.
    fn finish(
        &self,
        state: &mut State,
        segments: &impl SharedSegments,
        making: &mut Making,
    ) -> io::Result<Spare> {
        let file = making.file(self.disk.as_ref())?;
        file.sync()?;
        let size = file.size()?;
        let number = segments.with(|segments| segments.next_spare_number());
        let path = segment::path(&self.dir, number);
        self.rename(state, segments, &making.path, &path)?;
        making.path.clone_from(&path);
        self.sync_names()?;
        let file = self.disk.open(&path, OpenMode::ReadWrite, Access::Direct)?;
        let allocated_bytes = size.allocated_bytes.max(size.length_bytes);
        Ok(Spare { number, file, length_bytes: making.length_bytes, allocated_bytes })
    }

    /// Makes the names of the files durable.
    fn sync_names(&self) -> io::Result<()> {
        if is_planted(Bug::SkipDirectorySync) { Ok(()) } else { self.disk.sync_dir(&self.dir) }
    }

    /// Gives a file a name; a leftover that had it is gone by that.
    fn rename(
        &self,
        state: &mut State,
        segments: &impl SharedSegments,
        from: &Path,
        to: &Path,
    ) -> io::Result<()> {
        self.disk.rename(from, to)?;
        let replaced = state.leftovers.extract_if(.., |leftover| leftover.path == to);
        let bytes = replaced.map(|leftover| leftover.bytes).sum();
        segments.with(|segments| segments.drop_leftovers(bytes));
        Ok(())
    }

    /// Removes what is half made; nobody makes on.
    pub(super) fn stop(&self, segments: &impl SharedSegments) {
        let mut state = self.state.lock();
        if let Some(making) = state.making.take() {
            self.abandon(&mut state, segments, making);
        }
    }

    /// Removes a file that could not be made.
    fn abandon(&self, state: &mut State, segments: &impl SharedSegments, making: Making) {
        let cost_bytes = SegmentOptions::cost_bytes(making.length_bytes);
        let leftover_bytes = self.remove(state, making.path, cost_bytes);
        segments.with(|segments| segments.drop_planned(leftover_bytes));
    }

    /// Removes a file; returns what it takes where that is not possible.
    fn remove(&self, state: &mut State, path: PathBuf, bytes: u64) -> u64 {
        if is_removed(self.disk.as_ref(), &path) {
            return 0;
        }
        state.leftovers.push(Leftover { path, bytes });
        bytes
    }

    /// Gives up the segments wholly below `lsn`, which no durable master record needs any more
    /// (invariant C3): they become spares, or are removed when there are enough. Returns their number.
    ///
    /// # Errors
    /// [`Error::Io`] when the directory cannot be synced: then the log must not go on.
    pub(super) fn recycle(&self, segments: &impl SharedSegments, lsn: Lsn) -> Result<u64> {
        let mut state = self.state.lock();
        let given_up = segments.with(|segments| segments.give_up_below(lsn));
        if given_up.is_empty() {
            return Ok(0);
        }
        let mut number = segments.with(|segments| segments.next_spare_number());
        let mut renamed = Vec::new();
        for segment in &given_up {
            let from = segment::path(&self.dir, segment.number);
            let to = segment::path(&self.dir, number);
            if segment.is_wanted && self.rename(&mut state, segments, &from, &to).is_ok() {
                renamed.push((segment, number, to));
                number += 1;
            } else {
                self.remove_given_up(&mut state, segments, segment, from);
            }
        }
        self.sync_names()
            .map_err(|source| Error::Io { path: self.dir.clone(), source: Arc::new(source) })?;
        self.add_recycled(&mut state, segments, &renamed);
        Ok(to_u64(given_up.len()))
    }

    fn add_recycled(
        &self,
        state: &mut State,
        segments: &impl SharedSegments,
        renamed: &[(&GivenUp, u64, PathBuf)],
    ) {
        for (index, (segment, number, path)) in renamed.iter().enumerate() {
            let GivenUp { length_bytes, allocated_bytes, .. } = **segment;
            match self.disk.open(path, OpenMode::ReadWrite, Access::Direct) {
                Ok(file) => {
                    let spare = Spare { number: *number, file, length_bytes, allocated_bytes };
                    segments.with(|segments| segments.add_recycled(spare));
                }
                // Short of descriptors, perhaps. The numbers of those behind it cannot be reached
                // any more.
                Err(_) => {
                    for (segment, _, path) in &renamed[index..] {
                        self.remove_given_up(state, segments, segment, path.clone());
                    }
                    return;
                }
            }
        }
    }

    fn remove_given_up(
        &self,
        state: &mut State,
        segments: &impl SharedSegments,
        given_up: &GivenUp,
        path: PathBuf,
    ) {
        let leftover_bytes = self.remove(state, path, given_up.allocated_bytes);
        segments.with(|segments| segments.drop_given_up(given_up, leftover_bytes));
    }
}

impl State {
    fn remove_leftovers(&mut self, disk: &dyn Disk, segments: &impl SharedSegments) {
        let removed = self.leftovers.extract_if(.., |leftover| is_removed(disk, &leftover.path));
        let bytes = removed.map(|leftover| leftover.bytes).sum();
        segments.with(|segments| segments.drop_leftovers(bytes));
    }
}

/// Removes a file; whether it is gone.
fn is_removed(disk: &dyn Disk, path: &Path) -> bool {
    match disk.remove_file(path) {
        Ok(()) => true,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

impl Making {
    fn new(path: PathBuf, length_bytes: u64) -> Self {
        let zeros = AlignedBuf::new(to_usize(FILL_BYTES.min(length_bytes)));
        Self { path, file: None, length_bytes, filled_bytes: 0, zeros }
    }

    fn is_filled(&self) -> bool {
        self.filled_bytes == self.length_bytes
    }

    /// The file, created where that was not done yet.
    fn file(&mut self, disk: &dyn Disk) -> io::Result<Arc<dyn DiskFile>> {
        if let Some(file) = &self.file {
            return Ok(Arc::clone(file));
        }
        let file = disk.open(&self.path, OpenMode::Create, Access::Direct)?;
        // The length first: a file system that allocates ahead of a growing end would break the
        // bound.
        file.set_len(self.length_bytes)?;
        self.file = Some(Arc::clone(&file));
        Ok(file)
    }

    fn fill_some(&mut self, disk: &dyn Disk) -> io::Result<()> {
        let file = self.file(disk)?;
        let count = to_u64(self.zeros.len()).min(self.length_bytes - self.filled_bytes);
        file.write_at(&self.zeros[..to_usize(count)], self.filled_bytes)?;
        self.filled_bytes += count;
        if !file.is_direct() && self.filled_bytes.is_multiple_of(UNSYNCED_BYTES_MAX) {
            file.sync()?;
        }
        Ok(())
    }
}
