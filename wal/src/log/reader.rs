//! Reading the log: verified frames and records from a position on, across segments and epochs.
//!
//! A frame *fits* if and only if it is valid (see [`frame`](super::frame)), carries the identity of
//! the epoch that is being read, begins at the position where the frame before ended, and repeats
//! that frame's position and header checksum. Where the next frame of a segment does not fit, the
//! writer may have moved on because a long frame had no room: then the next segment, if its header
//! belongs to the epoch and begins at the same position, holds one that fits.
//!
//! | where | a frame does not fit |
//! |---|---|
//! | at the decreed end of an epoch | no matter: go on with the successor's first frame |
//! | before the decreed end of an epoch | [`Error::Corrupt`] |
//! | before the position to read up to | [`Error::Corrupt`] |
//! | elsewhere, in the last epoch | the reader stops; [`tail`](super::tail) says what it means |
//!
//! A read error is an error, never the end of the log.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::codec::{DecodeError, to_u64};
use crate::control::LogPosition;
use crate::disk::{BLOCK_BYTES, DiskFile};
use crate::record::Header;
use crate::{Epoch, Error, Lsn, Result};

use super::files::LogFiles;
use super::frame::{
    FRAME_HEADER_BYTES, FRAME_PAYLOAD_BYTES_MAX, FrameHeader, frame_bytes, verify_frame,
};
use super::read::OwnedRecord;
use super::segment::SEGMENT_HEADER_BYTES;
use super::window::Window;

/// Bytes that a sequential reader reads at once: the longest frame, or many short ones.
const READ_AHEAD_BYTES: usize = frame_bytes(FRAME_PAYLOAD_BYTES_MAX);
/// Bytes that a look-up reads at once: about the distance of two entries in the sparse index.
const LOOKUP_BYTES: usize = 64 << 10;
/// Payload bytes that a [`RecordReader`] keeps, apart from the last frame.
const CACHE_BYTES: usize = 1 << 20;

/// Reads frames and records in the order of the log.
#[derive(Debug)]
pub struct LogReader {
    files: Arc<LogFiles>,
    window: Window,
    /// Frames and records that end, or begin, below are left out.
    from: Lsn,
    until: Option<Lsn>,
    /// Index of the epoch that is being read.
    epoch: usize,
    expected: Expected,
    current: Option<Current>,
    /// Offset in the current frame's payload of the next record.
    record_offset: usize,
    /// Frames that fitted in this epoch.
    epoch_frames: u64,
    last_accepted: Option<Epoch>,
    stop: Option<LogStop>,
}

/// The next frame's place and links.
#[derive(Clone, Copy, Debug)]
struct Expected {
    at: LogPosition,
    /// `None` in front of the first frame, which is taken as it is.
    links: Option<Links>,
}

#[derive(Clone, Copy, Debug)]
struct Links {
    frame_lsn: Lsn,
    prev_frame_lsn: Lsn,
    prev_checksum: u32,
}

#[derive(Clone, Copy, Debug)]
struct Current {
    header: FrameHeader,
    at: LogPosition,
    /// Its log counts up to here: the end of its payload, or the decreed end of the epoch.
    end_lsn: Lsn,
}

/// Where and why a reader stopped.
#[derive(Clone, Debug)]
pub struct LogStop {
    /// Position at which the next frame would have to begin.
    pub lsn: Lsn,
    /// Place behind the last frame that fitted, or of the last epoch's first frame.
    pub at: LogPosition,
    /// Whether no frame of the last epoch fitted, or was read.
    pub is_epoch_empty: bool,
    /// Epoch of the last frame that fitted.
    pub last_accepted: Option<Epoch>,
    /// What stands there instead of a frame that fits: an [`Error::Corrupt`].
    pub finding: Error,
}

/// A frame that fits.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// Its header.
    pub header: FrameHeader,
    /// Where it begins.
    pub at: LogPosition,
    /// Its log counts up to here: usually the end of its payload.
    pub end_lsn: Lsn,
    /// The whole frame: header, payload, padding.
    pub bytes: &'a [u8],
    /// The open file it was read from.
    pub file: &'a dyn DiskFile,
}

impl<'a> Frame<'a> {
    /// The records, one behind the other.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        &self.bytes[FRAME_HEADER_BYTES..][..self.header.payload_bytes]
    }
}

/// A record of the log.
#[derive(Clone, Copy, Debug)]
pub struct LogRecord<'a> {
    /// Position of its first byte.
    pub lsn: Lsn,
    /// Position behind it.
    pub end_lsn: Lsn,
    /// The epoch that wrote it.
    pub epoch: Epoch,
    /// The envelope.
    pub header: Header,
    /// Envelope and stored body, as [`body_bytes`](crate::record::body_bytes) takes them.
    pub bytes: &'a [u8],
    /// The frame that holds it.
    pub frame_at: LogPosition,
}

impl LogFiles {
    /// A reader of the records from `from` on. `hint` is the place of any frame that begins at or
    /// below `from`; without it, reading begins where headers and entries know the nearest one.
    /// With `until`, the log must reach that position, and nothing beyond is read.
    pub fn reader(
        self: &Arc<Self>,
        from: Lsn,
        hint: Option<LogPosition>,
        until: Option<Lsn>,
    ) -> Result<LogReader> {
        LogReader::new(self, from, hint, until, READ_AHEAD_BYTES)
    }
}

impl LogReader {
    fn new(
        files: &Arc<LogFiles>,
        from: Lsn,
        hint: Option<LogPosition>,
        until: Option<Lsn>,
        read_ahead_bytes: usize,
    ) -> Result<Self> {
        let epoch = files.epoch_of_lsn(from)?;
        let first_at = files.epochs()[epoch].first_at();
        let at = match hint {
            // A hint from before the epoch would lead through one that may have left the history.
            Some(hint) => hint.max(first_at),
            None => files.start_for(from)?,
        };
        let mut reader = Self {
            files: Arc::clone(files),
            window: Window::new(read_ahead_bytes),
            from,
            until,
            epoch,
            expected: Expected { at, links: None },
            current: None,
            record_offset: 0,
            epoch_frames: 0,
            last_accepted: None,
            stop: None,
        };
        if at == first_at {
            reader.enter_epoch(epoch);
        }
        Ok(reader)
    }

    /// Expects the first frame of an epoch next.
    fn enter_epoch(&mut self, epoch: usize) {
        let LogFirst { at, links } = first_frame(&self.files, epoch);
        self.epoch = epoch;
        self.epoch_frames = 0;
        self.expected = Expected { at, links: Some(links) };
    }

    /// The next frame that fits and holds, or ends behind, the position read from; `None` when the
    /// position to read up to is reached, or where no frame fits in the last epoch: then
    /// [`LogReader::stop`] tells more.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>> {
        loop {
            if !self.advance()? {
                return Ok(None);
            }
            let current = self.current.expect("`advance` has found a frame");
            let is_below = current.end_lsn <= self.from && current.header.frame_lsn < self.from;
            if !is_below {
                break;
            }
        }
        Ok(Some(self.current_frame()))
    }

    /// The next record that begins at or behind the position read from.
    pub fn next_record(&mut self) -> Result<Option<LogRecord<'_>>> {
        let (current, offset) = loop {
            match self.current {
                Some(current) => {
                    let lsn = current.header.frame_lsn.advance(to_u64(self.record_offset));
                    let end_lsn =
                        self.until.map_or(current.end_lsn, |until| until.min(current.end_lsn));
                    if lsn < end_lsn {
                        let offset = self.record_offset;
                        let length = self.record_header(&current, offset)?.padded_length();
                        self.record_offset += length;
                        if lsn >= self.from {
                            break (current, offset);
                        }
                    } else if !self.advance()? {
                        return Ok(None);
                    }
                }
                None if self.stop.is_some() => return Ok(None),
                None => {
                    if !self.advance()? {
                        return Ok(None);
                    }
                }
            }
        };
        let header = self.record_header(&current, offset)?;
        let lsn = current.header.frame_lsn.advance(to_u64(offset));
        let frame = self.current_frame();
        Ok(Some(LogRecord {
            lsn,
            end_lsn: lsn.advance(to_u64(header.padded_length())),
            epoch: frame.header.epoch,
            header,
            bytes: &frame.payload()[offset..][..header.length],
            frame_at: frame.at,
        }))
    }

    /// Where and why reading ended; `None` before, and where the position to read up to was reached.
    #[must_use]
    pub const fn stop(&self) -> Option<&LogStop> {
        self.stop.as_ref()
    }

    fn current_frame(&self) -> Frame<'_> {
        let Current { header, at, end_lsn } = self.current.expect("the caller has found a frame");
        let file = self.window.file();
        let bytes = self.window.held(at.offset, header.frame_bytes());
        Frame { header, at, end_lsn, bytes, file }
    }

    /// The envelope of a record of the current frame, whose checksum was verified with the frame.
    fn record_header(&self, current: &Current, offset: usize) -> Result<Header> {
        let max = self.files.record_bytes_max();
        let path = self.files.path(current.at.segment);
        let frame = self.current_frame();
        Header::decode(&frame.payload()[offset..], max).map_err(|error| {
            error.in_file(&path, current.at.offset + to_u64(FRAME_HEADER_BYTES + offset))
        })
    }

    /// Moves to the next frame that fits.
    fn advance(&mut self) -> Result<bool> {
        if self.stop.is_some() {
            return Ok(false);
        }
        self.record_offset = 0;
        self.current = None;
        let files = Arc::clone(&self.files);
        while let Some(links) = self.expected.links {
            if self.until.is_some_and(|until| links.frame_lsn >= until) {
                return Ok(false);
            }
            // The first position of an epoch lies beyond the decreed end of the one before.
            if files.epochs()[self.epoch].decreed_end != Some(links.frame_lsn) {
                break;
            }
            self.enter_epoch(self.epoch + 1);
        }
        let at = self.expected.at;
        let finding = match self.fitting(&files, at)? {
            Ok((header, checksum)) => {
                self.accept(at, header, checksum);
                return Ok(true);
            }
            Err(finding) => finding,
        };
        let (finding, finding_at) = match self.next_segment(&files, at)? {
            None => (finding, at),
            Some(next) => match self.fitting(&files, next)? {
                Ok((header, checksum)) => {
                    self.accept(next, header, checksum);
                    return Ok(true);
                }
                Err(finding) => (finding, next),
            },
        };
        let finding = finding.in_file(&files.path(finding_at.segment), finding_at.offset);
        let Some(links) = self.expected.links else { return Err(finding) };
        if self.until.is_some() || files.epochs()[self.epoch].decreed_end.is_some() {
            return Err(finding);
        }
        self.stop = Some(LogStop {
            lsn: links.frame_lsn,
            at,
            is_epoch_empty: self.epoch_frames == 0,
            last_accepted: self.last_accepted,
            finding,
        });
        Ok(false)
    }

    /// The frame at `at`, if it fits.
    fn fitting(
        &mut self,
        files: &LogFiles,
        at: LogPosition,
    ) -> Result<Result<(FrameHeader, u32), DecodeError>> {
        let no_frame = |found: &str| Ok(Err(DecodeError::new(0, "a frame", found)));
        if self.window.enter(files, at.segment)?.is_none() {
            return no_frame("no such file");
        }
        let Some(block) = self.window.bytes(at.offset, BLOCK_BYTES)? else {
            return no_frame("the end of the file");
        };
        let (header, checksum) = match self.expected.links {
            None => match FrameHeader::decode_any(block) {
                Ok(found) => found,
                Err(error) => return Ok(Err(error)),
            },
            Some(links) => {
                match decode_linked(block, files.epochs()[self.epoch].identity, &links) {
                    Ok(found) => found,
                    Err(error) => return Ok(Err(error)),
                }
            }
        };
        let Some(index) = files.epoch_of_identity(header.identity) else {
            return no_frame(&format!("one of epoch {}, which is unknown", header.epoch));
        };
        if self.expected.links.is_none() {
            if header.frame_lsn > self.from {
                let expected = format!("a frame at or below {}", self.from);
                let found = format!("one at {}", header.frame_lsn);
                return Ok(Err(DecodeError::new(0, expected, found)));
            }
            self.epoch = index;
        }
        let Some(bytes) = self.window.bytes(at.offset, header.frame_bytes())? else {
            return no_frame("one that is cut by the end of the file");
        };
        let seed = files.epochs()[index].seed;
        Ok(verify_frame(&header, bytes, seed, files.record_bytes_max())
            .map(|()| (header, checksum)))
    }

    /// Where the log goes on if the writer left `at` because the frame had no room there.
    fn next_segment(&mut self, files: &LogFiles, at: LogPosition) -> Result<Option<LogPosition>> {
        let Some(links) = self.expected.links.filter(|_| self.epoch_frames > 0) else {
            return Ok(None);
        };
        let number = at.segment + 1;
        let Some(length_bytes) = self.window.enter(files, number)? else { return Ok(None) };
        let header = files.read_header(self.window.file(), number, length_bytes)?;
        let goes_on = header.is_ok_and(|header| {
            header.identity == files.epochs()[self.epoch].identity
                && header.first_lsn == links.frame_lsn
        });
        let offset = to_u64(SEGMENT_HEADER_BYTES);
        Ok(goes_on.then_some(LogPosition { segment: number, offset }))
    }

    fn accept(&mut self, at: LogPosition, header: FrameHeader, prev_checksum: u32) {
        let epoch = &self.files.epochs()[self.epoch];
        let end_lsn = epoch.decreed_end.map_or(header.end_lsn(), |end| end.min(header.end_lsn()));
        let prev_frame_lsn = header.frame_lsn;
        self.expected = Expected {
            at: LogPosition { offset: at.offset + to_u64(header.frame_bytes()), ..at },
            links: Some(Links { frame_lsn: end_lsn, prev_frame_lsn, prev_checksum }),
        };
        self.epoch_frames += 1;
        self.last_accepted = Some(epoch.entry.epoch);
        self.current = Some(Current { header, at, end_lsn });
    }
}

struct LogFirst {
    at: LogPosition,
    links: Links,
}

/// Place and links of an epoch's first frame.
fn first_frame(files: &LogFiles, epoch: usize) -> LogFirst {
    let epoch = &files.epochs()[epoch];
    let links = Links {
        frame_lsn: epoch.entry.start_lsn,
        prev_frame_lsn: epoch.entry.continues_from_lsn,
        prev_checksum: 0,
    };
    LogFirst { at: epoch.first_at(), links }
}

/// Decodes the header of a frame that must have these links.
fn decode_linked(
    block: &[u8],
    identity: u64,
    links: &Links,
) -> Result<(FrameHeader, u32), DecodeError> {
    let (header, checksum) = FrameHeader::decode(block, identity)?;
    let found = Links {
        frame_lsn: header.frame_lsn,
        prev_frame_lsn: header.prev_frame_lsn,
        prev_checksum: header.prev_checksum,
    };
    let describe = |links: &Links| {
        let Links { frame_lsn, prev_frame_lsn, prev_checksum } = links;
        format!("a frame at {frame_lsn} behind {prev_frame_lsn} ({prev_checksum:#010x})")
    };
    let is_linked = found.frame_lsn == links.frame_lsn
        && found.prev_frame_lsn == links.prev_frame_lsn
        && found.prev_checksum == links.prev_checksum;
    if !is_linked {
        return Err(DecodeError::new(0, describe(links), describe(&found)));
    }
    Ok((header, checksum))
}

/// Reads single records, for rollback and for commands that follow links, and keeps the last frames.
#[derive(Debug)]
pub struct RecordReader {
    files: Arc<LogFiles>,
    frames: VecDeque<CachedFrame>,
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
        Self { files, frames: VecDeque::new() }
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
        let mut reader = LogReader::new(&self.files, lsn, hint, None, LOOKUP_BYTES)?;
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
            // Frames on the way are kept too: rollback goes backwards.
            self.keep(cached.clone());
            if lsn < cached.end_lsn {
                return Ok(cached);
            }
        }
        if let Some(stop) = reader.stop() {
            return Err(stop.finding.clone());
        }
        let at = reader.expected.at;
        let expected = format!("a frame with the record at {lsn}");
        Err(Error::corrupt(&self.files.path(at.segment), at.offset, expected, "one behind it"))
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
        let start = crate::codec::to_usize(lsn.since(frame.lsn));
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
mod tests;
