//! Taking over the files of a log: those of a new database, of which there are none, and those that
//! the process before has left.
//!
//! Files in front of the place where the log goes on are part of it. Those behind become spares, under
//! the numbers that come next; the rest, and what was left half made, is removed. If we crash
//! meanwhile, the next open does the same again: no frame is behind the end of the log that anybody
//! was promised.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use crate::control::LogPosition;
use crate::disk::{Access, AlignedBuf, Disk, DiskFile, OpenMode};
use crate::{Error, Lsn, Result};

use super::index::FrameIndex;
use super::segment::{self, SEGMENT_HEADER_BYTES, SegmentHeader};
use super::segments::{Current, Live, Segments, Spare};
use super::sizes::{HEADER_U64, SegmentOptions};

/// A file behind the end of the log.
struct Found {
    number: u64,
    length_bytes: u64,
    allocated_bytes: u64,
}

impl Segments {
    /// Starts the log of a new database: makes its directory, which must hold no log yet.
    ///
    /// # Errors
    /// Those of the disk, and [`Error::InvalidArgument`] when the sizes do not go together.
    pub fn create(disk: &dyn Disk, dir: &Path, options: SegmentOptions) -> Result<Self> {
        disk.create_dir(dir).map_err(|error| Error::io(dir, error))?;
        if let Some(parent) = dir.parent() {
            disk.sync_dir(parent).map_err(|error| Error::io(parent, error))?;
        }
        let first = LogPosition { segment: 1, offset: HEADER_U64 };
        Self::open(disk, dir, options, first, FrameIndex::new())
    }

    /// Takes over the files of a log that goes on at `resume`, as the decision where the log ends
    /// says, and that was accepted in front of it. `index` is what is known about places in the log.
    ///
    /// # Errors
    /// Those of the disk, [`Error::Corrupt`] when the segment to go on in is not there, and
    /// [`Error::InvalidArgument`] when the sizes do not go together.
    pub fn open(
        disk: &dyn Disk,
        dir: &Path,
        options: SegmentOptions,
        resume: LogPosition,
        index: FrameIndex,
    ) -> Result<Self> {
        options.check()?;
        let mut segments = Self::new(dir, options, resume, index);
        let behind = segments.adopt_live(disk, resume)?;
        bound_unknown_starts(&mut segments.live);
        if resume.offset > HEADER_U64 {
            segments.resume(disk, resume)?;
        }
        segments.adopt_spares(disk, behind)?;
        segments.grow_on();
        Ok(segments)
    }

    /// Takes in the files of the log, and returns those behind it, in the order of their numbers.
    fn adopt_live(&mut self, disk: &dyn Disk, resume: LogPosition) -> Result<Vec<Found>> {
        let is_live = |number: u64| {
            number < resume.segment || (number == resume.segment && resume.offset > HEADER_U64)
        };
        let mut behind = Vec::new();
        for name in disk.list(&self.dir).map_err(|error| Error::io(&self.dir, error))? {
            let path = self.dir.join(&name);
            let Some(number) = segment::parse_name(&name) else {
                if segment::is_temporary_name(&name) {
                    disk.remove_file(&path).map_err(|error| Error::io(&path, error))?;
                }
                continue;
            };
            let size = disk.size(&path).map_err(|error| Error::io(&path, error))?;
            let allocated_bytes = size.allocated_bytes.max(size.length_bytes);
            let length_bytes = size.length_bytes;
            if is_live(number) {
                let first_lsn = first_lsn(disk, &path, number)?;
                self.live.push_back(Live { number, first_lsn, length_bytes, allocated_bytes });
            } else {
                behind.push(Found { number, length_bytes, allocated_bytes });
            }
        }
        Ok(behind)
    }

    /// Goes on in the last segment.
    fn resume(&mut self, disk: &dyn Disk, resume: LogPosition) -> Result<()> {
        let path = segment::path(&self.dir, resume.segment);
        let found = self.live.back().filter(|live| live.number == resume.segment);
        let Some(live) = found.filter(|live| live.length_bytes >= resume.offset) else {
            let found = found.map_or(0, |live| live.length_bytes);
            return Err(Error::corrupt(
                &path,
                resume.offset,
                format!("the end of the log at {resume}"),
                format!("a file of {found} bytes"),
            ));
        };
        let length_bytes = live.length_bytes;
        let file = open_file(disk, &path)?;
        let next_offset = resume.offset;
        self.current = Some(Current { number: resume.segment, file, length_bytes, next_offset });
        self.next_number = resume.segment + 1;
        Ok(())
    }

    /// Makes spares of the files behind the log that can serve as such, and removes the others.
    fn adopt_spares(&mut self, disk: &dyn Disk, behind: Vec<Found>) -> Result<()> {
        let mut adopted = Vec::new();
        let (mut number, mut spare_bytes) = (self.next_number, 0);
        let mut wal_bytes = self.wal_bytes();
        for found in behind {
            let path = segment::path(&self.dir, found.number);
            let is_wanted = self.is_usable(found.length_bytes)
                && spare_bytes + found.allocated_bytes <= self.options.spare_bytes_max()
                && wal_bytes + found.allocated_bytes <= self.options.max_wal_bytes;
            if !is_wanted {
                disk.remove_file(&path).map_err(|error| Error::io(&path, error))?;
                continue;
            }
            if found.number != number {
                // In ascending order, so nobody has this name.
                let to = segment::path(&self.dir, number);
                disk.rename(&path, &to).map_err(|error| Error::io(&path, error))?;
            }
            adopted.push(Found { number, ..found });
            number += 1;
            spare_bytes += found.allocated_bytes;
            wal_bytes += found.allocated_bytes;
        }
        if adopted.is_empty() {
            return Ok(());
        }
        // The names changed here, and those that the process before may not have synced.
        disk.sync_dir(&self.dir).map_err(|error| Error::io(&self.dir, error))?;
        for Found { number, length_bytes, allocated_bytes } in adopted {
            let file = open_file(disk, &segment::path(&self.dir, number))?;
            self.add_spare(Spare { number, file, length_bytes, allocated_bytes });
        }
        Ok(())
    }
}

fn open_file(disk: &dyn Disk, path: &Path) -> Result<Arc<dyn DiskFile>> {
    disk.open(path, OpenMode::ReadWrite, Access::Direct).map_err(|error| Error::io(path, error))
}

/// Position of a segment's first frame; [`Lsn::NONE`] where the header does not tell.
fn first_lsn(disk: &dyn Disk, path: &Path, number: u64) -> Result<Lsn> {
    let mut block = AlignedBuf::new(SEGMENT_HEADER_BYTES);
    disk.open(path, OpenMode::ReadOnly, Access::Direct)
        .and_then(|file| file.read_at(&mut block, 0))
        .map_err(|error| Error::io(path, error))?;
    Ok(match SegmentHeader::decode(&block) {
        Ok(header) if header.number == number => header.first_lsn,
        // Left over from below the truncation point, in the middle of being recycled. Had the
        // log needed it, the decision where the log ends would have refused it.
        _ => Lsn::NONE,
    })
}

/// A segment with unknown start counts as beginning where the one behind it does, so that none in
/// front of it is given up too early. The first one has none in front, and keeps what lies below
/// every other.
fn bound_unknown_starts(live: &mut VecDeque<Live>) {
    let mut behind = Lsn::MAX;
    for live in live.iter_mut().skip(1).rev() {
        if live.first_lsn.is_none() {
            live.first_lsn = behind;
        }
        behind = live.first_lsn;
    }
}
