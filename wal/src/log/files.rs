//! The log as it lies on disk, for those who read it: recovery, rollback, backup, the command line.
//! Knows the segments by their headers and the epochs by their entries in `control`; changes nothing.
//!
//! A segment is part of the log if its header names its own number and the identity of an epoch in
//! the history. Others are spares, or left over from epochs that have left the history; a header or
//! frame of a *later* epoch than the history knows is damage: `control` is older than its log.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use crate::codec::{DecodeError, to_u64, to_usize};
use crate::control::{ControlState, EpochEntry, LogPosition, MasterRecord};
use crate::disk::{Access, AlignedBuf, Disk, DiskFile, OpenMode};
use crate::record::header::epoch_seed;
use crate::record::record_bytes_max;
use crate::{DatabaseId, Error, Lsn, Result};

use super::segment::{self, SEGMENT_HEADER_BYTES, SegmentHeader};

/// An epoch of the history and what follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogEpoch {
    /// The entry in `control`.
    pub entry: EpochEntry,
    /// What its frames and segments carry.
    pub identity: u64,
    /// Seed of its records' checksums.
    pub seed: u32,
    /// Where its log ends by decree of its successor; `None` for the last epoch.
    pub decreed_end: Option<Lsn>,
}

impl LogEpoch {
    /// Where its first frame lies.
    #[must_use]
    pub const fn first_at(&self) -> LogPosition {
        LogPosition { segment: self.entry.segment, offset: self.entry.offset }
    }
}

/// A segment's file as it was found.
#[derive(Clone, Debug)]
pub struct SegmentInfo {
    /// Length of the file.
    pub length_bytes: u64,
    /// The header, if it names this segment.
    pub header: Result<SegmentHeader, DecodeError>,
}

/// The files of a log, read only.
#[derive(Debug)]
pub struct LogFiles {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    record_bytes_max: usize,
    epochs: Vec<LogEpoch>,
    segments: BTreeMap<u64, SegmentInfo>,
    /// A frame that begins at or below a position, as the master record knows it.
    known: OnceLock<(Lsn, LogPosition)>,
}

impl LogFiles {
    /// Looks at the segments in `dir`. `epochs` is the history in `control`, `record_bytes_max` what
    /// [`record_bytes_max`](crate::record::record_bytes_max) gives for the database.
    ///
    /// # Panics
    /// When the history is empty.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        database: DatabaseId,
        epochs: &[EpochEntry],
        record_bytes_max: usize,
    ) -> Result<Arc<Self>> {
        assert!(!epochs.is_empty(), "the history always holds the last epoch");
        let next = epochs.iter().skip(1).map(|next| Some(next.continues_from_lsn)).chain([None]);
        let epochs = epochs.iter().zip(next).map(|(&entry, decreed_end)| {
            let identity = database.log_identity(entry.nonce);
            LogEpoch { entry, identity, seed: epoch_seed(identity), decreed_end }
        });
        let mut files = Self {
            disk,
            dir: dir.to_path_buf(),
            record_bytes_max,
            epochs: epochs.collect(),
            segments: BTreeMap::new(),
            known: OnceLock::new(),
        };
        let names = files.disk.list(dir).map_err(|error| Error::io(dir, error))?;
        for number in names.iter().filter_map(|name| segment::parse_name(name)) {
            // One that vanished since was given up by the process that writes the log.
            let Some(file) = files.open_segment(number, OpenMode::ReadOnly)? else { continue };
            let length_bytes = file_length(file.as_ref())?;
            let header = files.read_header(file.as_ref(), number, length_bytes)?;
            files.segments.insert(number, SegmentInfo { length_bytes, header });
        }
        Ok(Arc::new(files))
    }

    /// The log in `dir` that `control` describes, whose master record says where recovery begins to
    /// read.
    pub fn of(disk: Arc<dyn Disk>, dir: &Path, state: &ControlState) -> Result<Arc<Self>> {
        let page_bytes = to_usize(u64::from(state.identity.page_bytes));
        let record_max = record_bytes_max(page_bytes);
        let files = Self::open(disk, dir, state.identity.database, &state.epochs, record_max)?;
        state.master.iter().for_each(|master| files.know(master));
        Ok(files)
    }

    /// Path of a segment.
    #[must_use]
    pub fn path(&self, number: u64) -> PathBuf {
        segment::path(&self.dir, number)
    }

    /// A record whose checksum holds and whose content does not, as damage of the frame that holds it.
    #[must_use]
    pub fn damaged_record(&self, lsn: Lsn, frame_at: LogPosition, error: DecodeError) -> Error {
        error.in_record(lsn).in_file(&self.path(frame_at.segment), frame_at.offset)
    }

    /// Longest record of this log.
    #[must_use]
    pub const fn record_bytes_max(&self) -> usize {
        self.record_bytes_max
    }

    /// The history of epochs, never empty.
    #[must_use]
    pub fn epochs(&self) -> &[LogEpoch] {
        &self.epochs
    }

    /// The epoch that the log ends in.
    #[must_use]
    pub fn last_epoch(&self) -> &LogEpoch {
        self.epochs.last().expect("checked in `open`")
    }

    /// The segments' files as they were found, by number.
    #[must_use]
    pub const fn segments(&self) -> &BTreeMap<u64, SegmentInfo> {
        &self.segments
    }

    /// Index in the history of the epoch with this identity.
    pub(super) fn epoch_of_identity(&self, identity: u64) -> Option<usize> {
        self.epochs.iter().position(|epoch| epoch.identity == identity)
    }

    /// Index in the history of the epoch that a position lies in. The very end of the epoch in front of the
    /// history, which a page's changes may begin at, holds no record: there the history begins.
    pub(super) fn epoch_of_lsn(&self, lsn: Lsn) -> Result<usize> {
        let behind = self.epochs.partition_point(|epoch| epoch.entry.start_lsn <= lsn);
        let first = &self.epochs[0];
        if behind == 0 && lsn == first.entry.continues_from_lsn {
            return Ok(0);
        }
        behind.checked_sub(1).ok_or_else(|| {
            Error::corrupt(
                &self.path(first.entry.segment),
                first.entry.offset,
                format!("the log at {lsn}"),
                format!("a log that begins at {}", first.entry.start_lsn),
            )
        })
    }

    /// Tells where recovery begins to read by the master record: so that a lost or damaged header of
    /// that segment is in nobody's way, in analysis, redo and undo alike. The first one told counts.
    pub fn know(&self, master: &MasterRecord) {
        self.known.get_or_init(|| (master.start_lsn(), master.start_at));
    }

    /// The best place known from headers, entries and the master record to begin to read at for `lsn`.
    pub(super) fn start_for(&self, lsn: Lsn) -> Result<LogPosition> {
        let epoch = &self.epochs[self.epoch_of_lsn(lsn)?];
        let begun_inside =
            self.segments.range(epoch.entry.segment + 1..).rev().find(|(_, info)| {
                info.header.as_ref().is_ok_and(|header| {
                    header.identity == epoch.identity && header.first_lsn <= lsn
                })
            });
        let begun = begun_inside.map_or_else(
            || epoch.first_at(),
            |(&number, _)| LogPosition { segment: number, offset: to_u64(SEGMENT_HEADER_BYTES) },
        );
        let known = self.known.get().filter(|(known_lsn, _)| *known_lsn <= lsn);
        Ok(known.map_or(begun, |(_, at)| begun.max(*at)))
    }

    /// Opens a segment's file; `None` where there is none.
    pub(super) fn open_segment(
        &self,
        number: u64,
        mode: OpenMode,
    ) -> Result<Option<Arc<dyn DiskFile>>> {
        let path = self.path(number);
        match self.disk.open(&path, mode, Access::Direct) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io(&path, error)),
        }
    }

    /// Reads a segment's header; the inner error says why it is not one of this segment.
    pub(super) fn read_header(
        &self,
        file: &dyn DiskFile,
        number: u64,
        length_bytes: u64,
    ) -> Result<Result<SegmentHeader, DecodeError>> {
        if length_bytes < to_u64(SEGMENT_HEADER_BYTES) {
            let expected = format!("{SEGMENT_HEADER_BYTES} bytes of segment header");
            return Ok(Err(DecodeError::new(0, expected, format!("{length_bytes} bytes"))));
        }
        let mut block = AlignedBuf::new(SEGMENT_HEADER_BYTES);
        file.read_at(&mut block, 0).map_err(|error| Error::io(&self.path(number), error))?;
        Ok(SegmentHeader::decode(&block).and_then(|header| {
            if header.number == number {
                return Ok(header);
            }
            let expected = format!("the header of segment {number}");
            Err(DecodeError::new(0, expected, format!("that of segment {}", header.number)))
        }))
    }
}

/// Length of an open file.
pub(super) fn file_length(file: &dyn DiskFile) -> Result<u64> {
    match file.size() {
        Ok(size) => Ok(size.length_bytes),
        Err(error) => Err(Error::io(file.path(), error)),
    }
}
