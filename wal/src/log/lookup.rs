//! Looking up single records by their position, for rollback and for commands that follow links.
//!
//! Every look-up reads verified frames from the nearest known place on, and keeps the last of them:
//! rollback asks for the records in front of the one before.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::codec::{DecodeError, to_u64, to_usize};
use crate::control::LogPosition;
use crate::record::Header;
use crate::{Error, Lsn, Result};

use super::files::LogFiles;
use super::frame::FRAME_HEADER_BYTES;
use super::read::{OwnedRecord, RecordPlace};
use super::reader::LogReader;

/// Bytes that a look-up reads at once: about the distance of two entries in the sparse index.
const LOOKUP_BYTES: usize = 64 << 10;
/// Payload bytes that a [`RecordReader`] keeps, apart from the last frame.
const CACHE_BYTES: usize = 1 << 20;

/// Reads single records, and keeps the last frames.
#[derive(Debug)]
pub struct RecordReader {
    files: Arc<LogFiles>,
    frames: VecDeque<CachedFrame>,
    /// Frames that were passed on the way to others, about one for each [`LOOKUP_BYTES`]: who reads
    /// backwards does not begin at the start of the file each time.
    passed: BTreeMap<Lsn, LogPosition>,
}

#[derive(Clone, Debug)]
struct CachedFrame {
    at: LogPosition,
    lsn: Lsn,
    end_lsn: Lsn,
    payload: Arc<[u8]>,
}

impl RecordReader {
    /// A reader that has read nothing yet.
    #[must_use]
    pub fn new(files: Arc<LogFiles>) -> Self {
        Self { files, frames: VecDeque::new(), passed: BTreeMap::new() }
    }

    /// The record that begins at `lsn`, which lies in the log and was written to its file. `hint` is
    /// the place of any frame that begins at or below, as
    /// [`Segments::locate`](super::Segments::locate) finds it.
    pub fn read_record(&mut self, lsn: Lsn, hint: Option<LogPosition>) -> Result<OwnedRecord> {
        let holds = |frame: &&CachedFrame| (frame.lsn..frame.end_lsn).contains(&lsn);
        let frame = match self.frames.iter().find(holds) {
            Some(frame) => frame.clone(),
            None => self.read_frame(lsn, hint)?,
        };
        self.find(&frame, lsn)
    }

    fn read_frame(&mut self, lsn: Lsn, hint: Option<LogPosition>) -> Result<CachedFrame> {
        let passed = self.passed.range(..=lsn).next_back().map(|(_, at)| *at);
        let known = hint.map_or_else(|| self.files.start_for(lsn), Ok)?;
        let hint = passed.map_or(known, |passed| passed.max(known));
        let mut reader = LogReader::new(&self.files, lsn, Some(hint), None, LOOKUP_BYTES)?;
        while reader.advance()? {
            let frame = reader.current_frame();
            let cached = CachedFrame {
                at: frame.at,
                lsn: frame.header.frame_lsn,
                end_lsn: frame.end_lsn,
                payload: Arc::from(frame.payload()),
            };
            if cached.lsn > lsn {
                break;
            }
            self.note(cached.lsn, cached.at);
            // Frames on the way are kept too: rollback goes backwards.
            self.keep(cached.clone());
            if lsn < cached.end_lsn {
                return Ok(cached);
            }
        }
        if let Some(stop) = reader.stop() {
            return Err(stop.finding.clone());
        }
        let at = reader.next_at();
        let expected = format!("a frame with the record at {lsn}");
        Err(Error::corrupt(&self.files.path(at.segment), at.offset, expected, "one behind it"))
    }

    fn note(&mut self, lsn: Lsn, at: LogPosition) {
        let part = |at: &LogPosition| (at.segment, at.offset / to_u64(LOOKUP_BYTES));
        let before = self.passed.range(..=lsn).next_back();
        if before.is_none_or(|(_, before)| part(before) != part(&at)) {
            self.passed.insert(lsn, at);
        }
    }

    fn keep(&mut self, frame: CachedFrame) {
        self.frames.push_front(frame);
        let mut bytes = 0;
        self.frames.retain(|frame| {
            let is_first = bytes == 0;
            bytes += frame.payload.len().max(1);
            is_first || bytes <= CACHE_BYTES
        });
    }

    fn find(&self, frame: &CachedFrame, lsn: Lsn) -> Result<OwnedRecord> {
        let start = to_usize(lsn.since(frame.lsn));
        let mut offset = 0;
        while offset < start {
            offset += self.header(frame, offset)?.padded_length();
        }
        if offset != start {
            let expected = format!("a record that begins at {lsn}");
            let found = format!("one that begins at {}", frame.lsn.advance(to_u64(offset)));
            return Err(self.corrupt(frame, DecodeError::new(offset, expected, found)));
        }
        let header = self.header(frame, start)?;
        Ok(OwnedRecord {
            lsn,
            end: lsn.advance(to_u64(header.padded_length())),
            header,
            bytes: frame.payload[start..start + header.length].to_vec(),
            place: RecordPlace::Log(frame.at),
        })
    }

    fn header(&self, frame: &CachedFrame, offset: usize) -> Result<Header> {
        Header::decode(&frame.payload[offset..], self.files.record_bytes_max())
            .map_err(|error| self.corrupt(frame, error))
    }

    fn corrupt(&self, frame: &CachedFrame, error: DecodeError) -> Error {
        let payload_at = frame.at.offset + to_u64(FRAME_HEADER_BYTES);
        error.in_file(&self.files.path(frame.at.segment), payload_at)
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::super::testing::{OPTIONS, TestLog, damage, noise};
    use super::*;

    /// Analysis looks for records in ascending order: between two of them the headers of segments show
    /// the nearer place to begin at.
    #[test]
    fn what_lies_between_the_segments_of_two_records_is_not_read() {
        let mut log = TestLog::create(OPTIONS);
        let frames: Vec<_> = (0..40).map(|seed| log.synced(&[&noise(10_000, seed)])).collect();
        let (first, last) = (&frames[0], &frames[39]);
        assert!(last.at.segment > first.at.segment + 2, "{last:?}");
        damage(&log.disk, &frames[20].path, frames[20].at.offset + 8, &[0xff; 8]);
        let mut reader = RecordReader::new(log.files().unwrap());
        for frame in [first, last] {
            assert_eq!(reader.read_record(frame.records[0], None).unwrap().lsn, frame.records[0]);
        }
    }
}
