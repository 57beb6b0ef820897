//! Reading a record back: from the ring, from frames in flight, or from the files.
//!
//! It takes the writer's mutex to look into memory and to find the file, never to open or read it. A
//! file that is recycled meanwhile has another name, or frames that do not fit any more: the read is an
//! error, never another record.

use std::borrow::Cow;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use crate::Lsn;
use crate::codec::{DecodeError, to_u64, to_usize};
use crate::control::LogPosition;
use crate::disk::{Access, AlignedBuf, BLOCK_BYTES, OpenMode};
use crate::record::{self, Header, Record, header};
use crate::{Error, Result};

use super::frame::{FRAME_HEADER_BYTES, FrameHeader};
use super::waiters::Goal;
use super::writer::no_record;
use super::{Log, segment};

/// Where a record was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordPlace {
    /// In memory, on its way to the log's files.
    Memory,
    /// In the log's files, in the frame at this place.
    Log(LogPosition),
    /// At this offset of another file, which belongs to the record's transaction.
    TxnFile(u64),
}

/// A record of the log, copied out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedRecord {
    /// Position of its first byte.
    pub lsn: Lsn,
    /// Position behind its padding.
    pub end: Lsn,
    /// The verified envelope.
    pub header: Header,
    /// Envelope and stored body.
    pub bytes: Vec<u8>,
    /// Where it was read, for whoever finds that its content does not hold.
    pub place: RecordPlace,
}

impl OwnedRecord {
    /// The body's bytes, decompressed where needed.
    pub fn body(&self) -> Result<Cow<'_, [u8]>, DecodeError> {
        record::body_bytes(&self.header, &self.bytes)
    }

    /// Decodes the record from what [`OwnedRecord::body`] returned.
    pub fn decode<'a>(&self, body: &'a [u8]) -> Result<Record<'a>, DecodeError> {
        record::decode(&self.header, body)
    }
}

/// A frame as it was read; its records are verified one by one.
#[derive(Debug)]
pub(super) struct FrameRead {
    lsns: Range<Lsn>,
    bytes: AlignedBuf,
    payload_end: usize,
    place: LogPosition,
}

impl FrameRead {
    fn holds(&self, lsn: Lsn) -> bool {
        self.lsns.contains(&lsn)
    }
}

impl Log {
    /// Reads the record that starts at `lsn`, wherever it is. It must have been published, and not
    /// been given up by [`Log::truncate`]. Records of earlier epochs are not found.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] when no record starts there or it was given up;
    /// [`Error::Corrupt`] when it is damaged.
    pub fn read(&self, lsn: Lsn) -> Result<OwnedRecord> {
        if lsn < self.entry.start_lsn {
            return Err(no_record(lsn));
        }
        let mut bytes = Vec::new();
        if lsn < self.frontier.reserved() {
            // The record is there, but the one in front of it may still be on its way: others are
            // between reserve and publish for no longer than a copy takes.
            self.frontier.wait(Goal::Published, lsn.advance(1))?;
        }
        if self.writer.copy_unwritten(lsn, &mut bytes)? {
            return self.verify(lsn, &bytes, RecordPlace::Memory).map_err(|_| no_record(lsn));
        }
        self.read_file(lsn).map_err(|error| self.or_given_up(lsn, error))
    }

    /// What looks like damage in a file that was recycled meanwhile is not.
    fn or_given_up(&self, lsn: Lsn, error: Error) -> Error {
        if self.locate(lsn).is_none() { no_record(lsn) } else { error }
    }

    /// Path of a segment.
    #[must_use]
    pub fn path(&self, segment: u64) -> PathBuf {
        self.writer.space(|segments| segment::path(segments.dir(), segment))
    }

    /// The record at the beginning of `bytes`.
    fn verify(
        &self,
        lsn: Lsn,
        bytes: &[u8],
        place: RecordPlace,
    ) -> Result<OwnedRecord, DecodeError> {
        let max = self.options.record_bytes_max();
        let header = header::verify(bytes, max, self.epoch_seed, lsn)?;
        let bytes = bytes[..header.length].to_vec();
        let end = lsn.advance(to_u64(header.padded_length()));
        Ok(OwnedRecord { lsn, end, header, bytes, place })
    }

    /// Reads from the frame that was read last, or from the file, and keeps the frame where the record
    /// in it is whole: rollbacks go back record by record. What a position holds never changes.
    fn read_file(&self, lsn: Lsn) -> Result<OwnedRecord> {
        let kept = self.frame_read.lock().clone().filter(|frame| frame.holds(lsn));
        let frame = match kept {
            Some(frame) => frame,
            None => Arc::new(self.read_frame(lsn)?),
        };
        let at = FRAME_HEADER_BYTES + to_usize(lsn.since(frame.lsns.start));
        let LogPosition { segment, offset } = frame.place;
        let record = self
            .verify(lsn, &frame.bytes[at..frame.payload_end], RecordPlace::Log(frame.place))
            .map_err(|error| error.in_file(&self.path(segment), offset + to_u64(at)))?;
        *self.frame_read.lock() = Some(frame);
        Ok(record)
    }

    fn read_frame(&self, lsn: Lsn) -> Result<FrameRead> {
        let found = self.writer.space(|segments| {
            let at = segments.locate(lsn)?;
            Some((segment::path(segments.dir(), at.segment), at))
        });
        let Some((path, LogPosition { segment, mut offset })) = found else {
            return Err(no_record(lsn));
        };
        let file = self.disk.open(&path, OpenMode::ReadOnly, Access::Direct);
        let file = file.map_err(|error| Error::io(&path, error))?;
        loop {
            let mut block = AlignedBuf::new(BLOCK_BYTES);
            file.read_at(&mut block, offset).map_err(|error| Error::io(&path, error))?;
            let (frame, _) = FrameHeader::decode(&block, self.log_identity)
                .map_err(|error| error.in_file(&path, offset))?;
            if frame.frame_lsn > lsn {
                return Err(no_record(lsn));
            }
            if lsn >= frame.end_lsn() {
                offset += to_u64(frame.frame_bytes());
                continue;
            }
            let mut bytes = AlignedBuf::new(frame.frame_bytes());
            file.read_at(&mut bytes, offset).map_err(|error| Error::io(&path, error))?;
            return Ok(FrameRead {
                lsns: frame.frame_lsn..frame.end_lsn(),
                payload_end: FRAME_HEADER_BYTES + frame.payload_bytes,
                place: LogPosition { segment, offset },
                bytes,
            });
        }
    }
}
