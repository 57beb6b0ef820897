//! Reading the log: verified frames and records from a position on, across segments and epochs.
//!
//! A frame *fits* if and only if it is valid (see [`frame`](super::frame)), carries the identity of
//! the epoch that is being read, begins at the position where the frame before ended, and repeats
//! that frame's position and header checksum. The first frame of an epoch also repeats the epoch's
//! entry, in its first record: one that fits and says otherwise means that log and `control` do not
//! belong together, which is [`Error::Corrupt`] wherever it is met. Where the next frame of a segment does not fit, the
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

use std::borrow::Cow;
use std::sync::Arc;

use crate::codec::{DecodeError, to_u64};
use crate::control::{EpochEntry, LogPosition};
use crate::disk::{BLOCK_BYTES, DiskFile};
use crate::planted::{Bug, is_planted};
use crate::record::{self, Body, Header, RECORD_HEADER_BYTES, Record};
use crate::{Epoch, Error, Lsn, Result};

use super::files::LogFiles;
use super::frame::{
    FRAME_HEADER_BYTES, FRAME_PAYLOAD_BYTES_MAX, FrameHeader, frame_bytes, verify_frame,
};
use super::segment::SEGMENT_HEADER_BYTES;
use super::window::Window;

/// Bytes that a sequential reader reads at once: the longest frame, or many short ones.
const READ_AHEAD_BYTES: usize = frame_bytes(FRAME_PAYLOAD_BYTES_MAX);

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

/// What stands where a frame is looked for.
#[derive(Clone, Debug)]
enum Fit {
    /// A frame that fits, and its header's checksum.
    Frame(FrameHeader, u32),
    /// Something else.
    Misfit(DecodeError),
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
    /// Envelope and stored body.
    pub bytes: &'a [u8],
    /// The frame that holds it.
    pub frame_at: LogPosition,
}

impl<'a> LogRecord<'a> {
    /// The body's bytes, decompressed where needed.
    pub fn body(&self) -> Result<Cow<'a, [u8]>, DecodeError> {
        record::body_bytes(&self.header, self.bytes)
    }

    /// Decodes the record from what [`LogRecord::body`] returned.
    pub fn decode<'b>(&self, body: &'b [u8]) -> Result<Record<'b>, DecodeError> {
        record::decode(&self.header, body)
    }
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
    /// The same, reading at least `read_ahead_bytes` at once.
    pub(super) fn new(
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
        let mut reader = Self::at(files, epoch, at, read_ahead_bytes);
        reader.from = from;
        reader.until = until;
        if at == first_at {
            reader.enter_epoch(epoch);
        }
        Ok(reader)
    }

    /// A reader of all frames from one on that is taken as it is.
    fn at(files: &Arc<LogFiles>, epoch: usize, at: LogPosition, read_ahead_bytes: usize) -> Self {
        Self {
            files: Arc::clone(files),
            window: Window::new(read_ahead_bytes),
            from: Lsn::NONE,
            until: None,
            epoch,
            expected: Expected { at, links: None },
            current: None,
            record_offset: 0,
            epoch_frames: 0,
            last_accepted: None,
            stop: None,
        }
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

    /// Where the next frame would have to begin, in the segment of the last one.
    pub(super) const fn next_at(&self) -> LogPosition {
        self.expected.at
    }

    /// Where and why reading ended; `None` before, and where the position to read up to was reached.
    #[must_use]
    pub const fn stop(&self) -> Option<&LogStop> {
        self.stop.as_ref()
    }

    /// The frame that was moved to last.
    pub(super) fn current_frame(&self) -> Frame<'_> {
        let Current { header, at, end_lsn } = self.current.expect("the caller has found a frame");
        let file = self.window.file();
        let bytes = self.window.held(at.offset, header.frame_bytes());
        Frame { header, at, end_lsn, bytes, file }
    }

    /// The envelope of a record of the current frame, whose checksum was verified with the frame.
    fn record_header(&self, current: &Current, offset: usize) -> Result<Header> {
        let max = self.files.record_bytes_max();
        let frame = self.current_frame();
        Header::decode(&frame.payload()[offset..], max).map_err(|error| {
            let path = self.files.path(current.at.segment);
            error.in_file(&path, current.at.offset + to_u64(FRAME_HEADER_BYTES + offset))
        })
    }

    /// Moves to the next frame that fits, whatever position is read from.
    pub(super) fn advance(&mut self) -> Result<bool> {
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
        let is_first = self.epoch_frames == 0 && self.expected.links.is_some();
        let finding = match self.fitting(&files, at)? {
            Fit::Frame(header, checksum) => {
                self.accept(at, header, checksum);
                if is_first {
                    self.check_epoch_start(&files)?;
                }
                return Ok(true);
            }
            Fit::Misfit(finding) => finding,
        };
        let (finding, finding_at) = match self.next_segment(&files, at)? {
            None => (finding, at),
            Some(next) => match self.fitting(&files, next)? {
                Fit::Frame(header, checksum) => {
                    self.accept(next, header, checksum);
                    return Ok(true);
                }
                Fit::Misfit(finding) => (finding, next),
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
    fn fitting(&mut self, files: &LogFiles, at: LogPosition) -> Result<Fit> {
        let no_frame = |found: &str| Ok(Fit::Misfit(DecodeError::new(0, "a frame", found)));
        if self.window.enter(files, at.segment)?.is_none() {
            return no_frame("no such file");
        }
        let Some(block) = self.window.bytes(at.offset, BLOCK_BYTES)? else {
            return no_frame("the end of the file");
        };
        let decoded = match self.expected.links {
            None => FrameHeader::decode_any(block),
            Some(links) => decode_linked(block, files.epochs()[self.epoch].identity, &links),
        };
        let (header, checksum) = match decoded {
            Ok(found) => found,
            Err(error) => return Ok(Fit::Misfit(error)),
        };
        let Some(index) = files.epoch_of_identity(header.identity) else {
            return no_frame(&format!("one of epoch {}, which is unknown", header.epoch));
        };
        if self.expected.links.is_none() {
            if header.frame_lsn > self.from {
                let expected = format!("a frame at or below {}", self.from);
                let found = format!("one at {}", header.frame_lsn);
                return Ok(Fit::Misfit(DecodeError::new(0, expected, found)));
            }
            self.epoch = index;
        }
        let Some(bytes) = self.window.bytes(at.offset, header.frame_bytes())? else {
            return no_frame("one that is cut by the end of the file");
        };
        let seed = files.epochs()[index].seed;
        if is_planted(Bug::TornFrameAccepted) {
            return Ok(Fit::Frame(header, checksum));
        }
        Ok(match verify_frame(&header, bytes, seed, files.record_bytes_max()) {
            Ok(()) => Fit::Frame(header, checksum),
            Err(error) => Fit::Misfit(error),
        })
    }

    /// Compares the start of every epoch with its entry in `control`, as far as the log still has it:
    /// for whoever begins to read behind it.
    pub(super) fn check_epoch_starts(files: &Arc<LogFiles>) -> Result<()> {
        for (index, epoch) in files.epochs().iter().enumerate() {
            let mut reader = Self::at(files, index, epoch.first_at(), BLOCK_BYTES);
            reader.enter_epoch(index);
            if let Fit::Frame(header, checksum) = reader.fitting(files, epoch.first_at())? {
                reader.accept(epoch.first_at(), header, checksum);
                reader.check_epoch_start(files)?;
            }
        }
        Ok(())
    }

    /// The first record of an epoch must repeat the epoch's entry in `control`.
    fn check_epoch_start(&self, files: &LogFiles) -> Result<()> {
        let entry = files.epochs()[self.epoch].entry;
        let frame = self.current_frame();
        let path = files.path(frame.at.segment);
        let offset = frame.at.offset + to_u64(FRAME_HEADER_BYTES);
        compare_epoch_start(&entry, frame.payload(), files.record_bytes_max())
            .map_err(|error| error.in_file(&path, offset))
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

/// Compares the first record of a payload with the epoch's entry in `control`. No epoch begins with a
/// stamp, which has no record.
fn compare_epoch_start(
    entry: &EpochEntry,
    payload: &[u8],
    record_bytes_max: usize,
) -> Result<(), DecodeError> {
    let header = Header::decode(payload, record_bytes_max)?;
    let body = record::body_bytes(&header, payload)?;
    let found = match record::decode(&header, &body)?.body {
        Body::EpochStart(found) if found == *entry => return Ok(()),
        Body::EpochStart(found) => found.to_string(),
        other => format!("a record of kind {:?}", other.kind()),
    };
    Err(DecodeError::new(RECORD_HEADER_BYTES, format!("{entry}, as `control` says"), found))
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
    if !is_linked && !is_planted(Bug::StaleFrameAccepted) {
        return Err(DecodeError::new(0, describe(links), describe(&found)));
    }
    Ok((header, checksum))
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests;
