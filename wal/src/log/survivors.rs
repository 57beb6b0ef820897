//! What can still be read of a damaged log: every frame that is valid by itself, wherever it stands.
//!
//! Recovery follows the chain of frames and takes a frame that does not fit for the end or for damage.
//! Who wants to save what is left cannot stop there. So this looks at every block of every segment for a
//! frame of an epoch in the history whose checksums hold, and puts them into the order of their positions.
//! Of a frame whose payload is damaged, the records in front of the damage count. What is missing between
//! two frames is a hole, and is told.
//!
//! It decides nothing: what lies behind the end that recovery accepts is left out only where the caller
//! knows that end. Changes nothing.

use std::sync::Arc;

use crate::codec::{DecodeError, to_u64};
use crate::control::LogPosition;
use crate::disk::BLOCK_BYTES;
use crate::{Error, Lsn, Result};

use super::files::LogFiles;
use super::frame::{FRAME_HEADER_BYTES, FrameHeader, Records, verify_frame};
use super::read::{OwnedRecord, RecordPlace};
use super::segment::SEGMENT_HEADER_BYTES;
use super::window::Window;

/// Bytes read at once.
const READ_BYTES: usize = 1 << 20;

/// Positions that no frame covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hole {
    /// The first one.
    pub from: Lsn,
    /// The one behind the last.
    pub to: Lsn,
}

/// The frames of a log that are valid, in the order of their positions.
#[derive(Debug)]
pub struct Survivors {
    files: Arc<LogFiles>,
    frames: Vec<Found>,
    /// Segments that could not be read, in part or at all.
    failures: Vec<Error>,
    /// Frames of epochs that are newer than `control` knows.
    later_frames: u64,
    window: Window,
}

/// A frame, as far as it counts.
#[derive(Clone, Copy, Debug)]
struct Found {
    /// Its records count from here on.
    from: Lsn,
    /// And up to here.
    end: Lsn,
    header: FrameHeader,
    at: LogPosition,
    /// Index of its epoch in the history.
    epoch: usize,
}

impl Survivors {
    /// Looks at every block of the log. With `until`, what begins there or behind is left out.
    #[must_use]
    pub fn look(files: &Arc<LogFiles>, until: Option<Lsn>) -> Self {
        let mut survivors = Self {
            files: Arc::clone(files),
            frames: Vec::new(),
            failures: Vec::new(),
            later_frames: 0,
            window: Window::new(READ_BYTES),
        };
        for &number in files.segments().keys() {
            survivors.look_at(number);
        }
        survivors.put_in_order(until);
        survivors
    }

    /// What could not be read at all.
    #[must_use]
    pub fn failures(&self) -> &[Error] {
        &self.failures
    }

    /// Frames that are whole and of an epoch behind the last one in `control`, which is older then.
    #[must_use]
    pub const fn later_frames(&self) -> u64 {
        self.later_frames
    }

    /// Where the run of frames begins that holds, or ends at, `lsn` and has no hole; `lsn` itself where there is none.
    #[must_use]
    pub fn run_start(&self, lsn: Lsn) -> Lsn {
        let behind = self.frames.partition_point(|frame| frame.from <= lsn);
        let Some(mut index) = behind.checked_sub(1) else { return lsn };
        if self.frames[index].end < lsn {
            return lsn;
        }
        while index > 0 && self.is_next(&self.frames[index - 1], &self.frames[index]) {
            index -= 1;
        }
        self.frames[index].from.min(lsn)
    }

    /// The holes from `from` on, up to `until` where that is known, else up to the last frame.
    #[must_use]
    pub fn holes(&self, from: Lsn, until: Option<Lsn>) -> Vec<Hole> {
        let mut holes = Vec::new();
        let mut last: Option<&Found> = None;
        for frame in self.frames.iter().filter(|frame| frame.end >= from) {
            match last {
                None if frame.from > from && !self.follows(from, frame) => {
                    holes.push(Hole { from, to: frame.from });
                }
                Some(last) if !self.is_next(last, frame) => {
                    holes.push(Hole { from: last.end, to: frame.from });
                }
                _ => {}
            }
            last = Some(frame);
        }
        let end = last.map_or(from, |last| last.end);
        if let Some(until) = until.filter(|&until| until > end) {
            holes.push(Hole { from: end, to: until });
        }
        holes
    }

    /// Calls `each` with every record that begins at `from` or behind, in order. What cannot be read any
    /// more now is left out, and told by [`Self::failures`].
    ///
    /// # Errors
    /// Those of `each`.
    pub fn each(
        &mut self,
        from: Lsn,
        mut each: impl FnMut(&OwnedRecord) -> Result<()>,
    ) -> Result<()> {
        let start = self.frames.partition_point(|frame| frame.end <= from);
        for index in start..self.frames.len() {
            let frame = self.frames[index];
            let mut records = Vec::new();
            if let Err(error) = self.read(&frame, &mut records) {
                self.failures.push(error);
            }
            for record in records.iter().filter(|record| record.lsn >= from) {
                each(record)?;
            }
        }
        Ok(())
    }

    /// The record that begins at `lsn`, if it is still there.
    pub fn record(&mut self, lsn: Lsn) -> Option<OwnedRecord> {
        let behind = self.frames.partition_point(|frame| frame.from <= lsn);
        let frame = self.frames[..behind].last().copied().filter(|frame| lsn < frame.end)?;
        let mut records = Vec::new();
        if let Err(error) = self.read(&frame, &mut records) {
            self.failures.push(error);
        }
        records.into_iter().find(|record| record.lsn == lsn)
    }

    /// Notes the frames of a segment.
    fn look_at(&mut self, number: u64) {
        let length = match self.window.enter(&self.files, number) {
            Ok(Some(length)) => length,
            Ok(None) => return,
            Err(error) => return self.failures.push(error),
        };
        let mut offset = to_u64(SEGMENT_HEADER_BYTES);
        while offset + to_u64(BLOCK_BYTES) <= length {
            let at = LogPosition { segment: number, offset };
            offset += match self.frame_at(at) {
                Ok(Some(bytes)) => to_u64(bytes),
                Ok(None) => to_u64(BLOCK_BYTES),
                Err(error) => {
                    self.failures.push(error);
                    to_u64(BLOCK_BYTES)
                }
            };
        }
    }

    /// Notes the frame that begins in a block, and says how long it is where all of it is valid.
    fn frame_at(&mut self, at: LogPosition) -> Result<Option<usize>> {
        let Some(block) = self.window.bytes(at.offset, BLOCK_BYTES)? else { return Ok(None) };
        let Ok((header, _)) = FrameHeader::decode_any(block) else { return Ok(None) };
        let Some(epoch) = self.files.epoch_of_identity(header.identity) else {
            let is_later = header.epoch > self.files.last_epoch().entry.epoch;
            self.later_frames += u64::from(is_later);
            return Ok(None);
        };
        let bytes = match self.window.bytes(at.offset, header.frame_bytes())? {
            Some(bytes) => bytes,
            None => return Ok(None),
        };
        let (seed, max) = (self.files.epochs()[epoch].seed, self.files.record_bytes_max());
        let is_whole = verify_frame(&header, bytes, seed, max).is_ok();
        let payload = &bytes[FRAME_HEADER_BYTES..][..header.payload_bytes];
        let records = Records::new(&header, payload, seed, max).map_while(Result::ok);
        let end =
            if is_whole { Some(header.end_lsn()) } else { records.last().map(|last| last.end_lsn) };
        if let Some(end) = end {
            self.frames.push(Found { from: header.frame_lsn, end, header, at, epoch });
        }
        Ok(is_whole.then(|| header.frame_bytes()))
    }

    /// Sorts the frames, and leaves out what is there twice, or lies behind an end.
    fn put_in_order(&mut self, until: Option<Lsn>) {
        self.frames.sort_by_key(|frame| (frame.from, std::cmp::Reverse(frame.end)));
        let mut covered = Lsn::NONE;
        let epochs = self.files.epochs();
        self.frames.retain_mut(|frame| {
            let epoch = &epochs[frame.epoch];
            let ends = [epoch.decreed_end, until].into_iter().flatten();
            let end = ends.fold(frame.end, Lsn::min);
            let from = frame.from.max(epoch.entry.start_lsn).max(covered);
            // A stamp has no records, and its place is that of the next frame.
            if from >= end {
                return false;
            }
            (frame.from, frame.end) = (from, end);
            covered = end;
            true
        });
    }

    /// Whether nothing is missing between two frames: an epoch goes on where the one before ended.
    fn is_next(&self, last: &Found, next: &Found) -> bool {
        last.end == next.from || (next.epoch == last.epoch + 1 && self.follows(last.end, next))
    }

    /// Whether a frame is an epoch's first, and goes on at `end`.
    fn follows(&self, end: Lsn, next: &Found) -> bool {
        let entry = &self.files.epochs()[next.epoch].entry;
        next.from == entry.start_lsn && end == entry.continues_from_lsn
    }

    /// Reads the records of a frame that count.
    fn read(&mut self, frame: &Found, records: &mut Vec<OwnedRecord>) -> Result<()> {
        let path = self.files.path(frame.at.segment);
        let gone = |found: &str| {
            let error = DecodeError::new(0, "the frame that was just read there", found);
            error.in_file(&path, frame.at.offset)
        };
        let Some(_) = self.window.enter(&self.files, frame.at.segment)? else {
            return Err(gone("no file"));
        };
        let bytes = self.window.bytes(frame.at.offset, frame.header.frame_bytes())?;
        let bytes = bytes.ok_or_else(|| gone("the end of the file"))?;
        let payload = &bytes[FRAME_HEADER_BYTES..][..frame.header.payload_bytes];
        let (seed, max) = (self.files.epochs()[frame.epoch].seed, self.files.record_bytes_max());
        for record in Records::new(&frame.header, payload, seed, max).map_while(Result::ok) {
            if record.lsn >= frame.end {
                break;
            }
            if record.lsn >= frame.from {
                let (lsn, end, header) = (record.lsn, record.end_lsn, record.header);
                let (bytes, place) = (record.bytes.to_vec(), RecordPlace::Log(frame.at));
                records.push(OwnedRecord { lsn, end, header, bytes, place });
            }
        }
        Ok(())
    }
}
