//! The decision where the log ends, and the tail made safe before anything follows it.
//!
//! Reading stops at a position *e*, where the next frame does not fit. Either a crash left that frame
//! unfinished, and nothing from *e* on was ever promised to anyone: a torn tail, which is cut. Or the
//! disk lost what it had made durable: that is damage, and cutting would break promises. What tells
//! them apart is `known_durable`, the highest position that something on disk says was durable:
//!
//! * the stamps of all frames of the epoch whose header is whole: those read, those found from *e* on
//!   within [`IN_FLIGHT_BYTES_MAX`] at every block, and those of the first frame of each later
//!   segment. The append side writes nothing further from the last durable frame than that, so if
//!   the frame at *e* was durable, the range holds every frame sealed before that was known, and one
//!   sealed after, if there is any (a stamp frame follows when the log goes idle);
//! * the headers of the epoch's segments;
//! * the end of the last checkpoint, the end at a clean shutdown, and what the caller knows (page
//!   positions in synced doublewrite slots).
//!
//! | case | newer epoch found | e against `known_durable` | shutdown | frames from e on | decision |
//! |---|---|---|---|---|---|
//! | [`TailCase::NewerEpoch`] | yes | any | any | any | corrupt |
//! | [`TailCase::LostDurable`] | no | below | any | any | corrupt |
//! | [`TailCase::BeyondClean`] | no | beyond | clean | any | corrupt |
//! | [`TailCase::BeyondClean`] | no | at | clean | some | corrupt |
//! | [`TailCase::CleanEnd`] | no | at | clean | none | ends at e |
//! | [`TailCase::TornTail`] | no | at or beyond | open | some | ends at e, the rest is cut |
//! | [`TailCase::OpenEnd`] | no | at or beyond | open | none | ends at e |
//!
//! At a clean shutdown its end is part of `known_durable`, so "beyond" means beyond that end.
//!
//! Frames of another identity count for nothing, unless their epoch is above the last one that
//! `control` knows: then `control` is older than its log. Frames and stamps behind the decreed end of
//! an earlier epoch were judged when its successor began.
//!
//! A segment that is read and whose file is shorter than its header says is damage, whatever the table
//! says: the file had its length before it had its header. A cut takes the stamps behind it along.
//!
//! The first record of each epoch repeats the epoch's entry in `control`. Where the log still has one
//! that says otherwise, the two do not belong together: corrupt, whatever the table says.
//!
//! The next epoch begins at *e*'s place, or behind the last whole header found there in the same
//! segment: so no frame is written over that may be worth looking at, and an epoch that ended without
//! a frame takes no log at all, however often opening crashes.

use std::sync::Arc;

use crate::codec::to_u64;
use crate::control::{ControlState, EpochEntry, LogPosition, Shutdown};
use crate::disk::{AlignedBuf, BLOCK_BYTES, DiskFile, OpenMode};
use crate::planted::{Bug, is_planted};
use crate::{Epoch, Error, Lsn, Result};

use super::files::{LogEpoch, LogFiles, SegmentInfo};
use super::frame::{FrameHeader, IN_FLIGHT_BYTES_MAX, frame_bytes};
use super::index::FrameIndex;
use super::reader::{LogReader, LogStop};
use super::segment::{SEGMENT_HEADER_BYTES, SegmentHeader};
use super::sizes::{BLOCK_U64, HEADER_U64};
use super::window::Window;

/// Bytes read at once while looking behind the end.
const SCAN_BYTES: usize = 1 << 20;

/// Where to look for the end, and what is known besides the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TailQuery {
    /// Reading begins here: at the begin record of the last checkpoint, or where the log begins.
    pub start_lsn: Lsn,
    /// Place of a frame that begins at or below `start_lsn`.
    pub start_at: Option<LogPosition>,
    /// End of the last checkpoint; [`Lsn::NONE`] without one.
    pub checkpoint_end_lsn: Lsn,
    /// End of the log at a clean shutdown; `None` after any other.
    pub clean_lsn: Option<Lsn>,
    /// Whatever else is known to be durable; [`Lsn::NONE`] for nothing.
    pub known_durable_lsn: Lsn,
}

impl TailQuery {
    /// What `control` knows: reading begins at the last checkpoint, or where the log begins.
    #[must_use]
    pub fn new(state: &ControlState) -> Self {
        let (start_lsn, start_at, checkpoint_end_lsn) = match &state.master {
            Some(master) => (master.begin_lsn, Some(master.begin_at), master.end_lsn),
            None => (state.epochs[0].start_lsn, None, Lsn::NONE),
        };
        let clean_lsn = match state.shutdown {
            Shutdown::Clean { lsn } => Some(lsn),
            Shutdown::Creating | Shutdown::Open => None,
        };
        let known_durable_lsn = Lsn::NONE;
        Self { start_lsn, start_at, checkpoint_end_lsn, clean_lsn, known_durable_lsn }
    }
}

/// What is found at and behind the first frame that does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TailEvidence {
    /// Position of that frame.
    pub stop_lsn: Lsn,
    /// The highest position that something says was durable.
    pub known_durable_lsn: Lsn,
    /// End of the log at a clean shutdown.
    pub clean_lsn: Option<Lsn>,
    /// Whether an epoch above the last one of the history has left a mark.
    pub is_newer_epoch_found: bool,
    /// End of the furthest frame of the epoch whose header is whole, at or behind the stop.
    pub frames_beyond_end_lsn: Option<Lsn>,
}

/// A row of the decision table of the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TailCase {
    /// The log goes on in an epoch that `control` does not know.
    NewerEpoch,
    /// Durable log is gone.
    LostDurable,
    /// The log goes on behind the end that a clean shutdown noted.
    BeyondClean,
    /// The log ends where a clean shutdown noted.
    CleanEnd,
    /// The log ends in front of frames that never became whole.
    TornTail,
    /// The log ends, and nothing follows.
    OpenEnd,
}

impl TailCase {
    /// The decision table of the module.
    #[must_use]
    pub fn decide(evidence: &TailEvidence) -> Self {
        let stop = evidence.stop_lsn;
        let has_more = evidence.frames_beyond_end_lsn.is_some();
        if evidence.is_newer_epoch_found {
            Self::NewerEpoch
        } else if stop < evidence.known_durable_lsn && !is_planted(Bug::LostLogAccepted) {
            Self::LostDurable
        } else {
            match evidence.clean_lsn {
                Some(clean) if stop > clean || has_more => Self::BeyondClean,
                Some(_) => Self::CleanEnd,
                None if has_more => Self::TornTail,
                None => Self::OpenEnd,
            }
        }
    }
}

/// Where the log ends.
#[derive(Clone, Debug)]
pub struct LogEnd {
    /// Why: one of [`TailCase::CleanEnd`], [`TailCase::TornTail`] and [`TailCase::OpenEnd`].
    pub case: TailCase,
    /// End of the last record. The next epoch continues from here.
    pub end_lsn: Lsn,
    /// Epoch of the last frame; `None` when no frame was found at all.
    pub last_accepted: Option<Epoch>,
    /// Place behind the last frame.
    pub end_at: LogPosition,
    /// Place where the next epoch may begin.
    pub resume_at: LogPosition,
    /// Bytes of log behind the end that are known to have been written, and are cut.
    pub cut_bytes: u64,
    /// Position up to which the log is known to be durable, at most `end_lsn`.
    pub known_durable_lsn: Lsn,
    /// Places of frames between the start of reading and the end.
    pub index: FrameIndex,
}

/// Finds the end of a log.
///
/// # Errors
/// [`Error::Corrupt`] for the cases that the table calls corrupt and for damage in front of them,
/// [`Error::Io`] when the disk does not give out what is to be read.
pub fn find_end(files: &Arc<LogFiles>, query: &TailQuery) -> Result<LogEnd> {
    let last = files.last_epoch();
    let mut index = FrameIndex::new();
    let mut stamp_lsn = Lsn::NONE;
    let mut reader = files.reader(query.start_lsn, query.start_at, None)?;
    refuse_cut_short(files, reader.next_at().segment)?;
    while let Some(frame) = reader.next_frame()? {
        index.note(frame.header.frame_lsn, frame.at);
        if frame.header.identity == last.identity {
            stamp_lsn = stamp_lsn.max(frame.header.durable_lsn);
        }
    }
    LogReader::check_epoch_starts(files)?;
    let stop = reader.stop().expect("a reader without a bound ends by a stop");

    let mut behind = Behind::new(files, stop);
    behind.scan()?;
    let known_durable_lsn = [
        stamp_lsn,
        behind.stamp_lsn,
        query.checkpoint_end_lsn,
        query.clean_lsn.unwrap_or_default(),
        query.known_durable_lsn,
    ];
    let evidence = TailEvidence {
        stop_lsn: stop.lsn,
        known_durable_lsn: known_durable_lsn.into_iter().fold(Lsn::NONE, Lsn::max),
        clean_lsn: query.clean_lsn,
        is_newer_epoch_found: behind.newer.is_some(),
        frames_beyond_end_lsn: behind.frames_end_lsn,
    };
    let case = TailCase::decide(&evidence);
    refuse_corrupt(files, case, &evidence, stop, &behind)?;

    let end_lsn = behind.end_lsn;
    Ok(LogEnd {
        case,
        end_lsn,
        last_accepted: stop.last_accepted,
        end_at: stop.at,
        resume_at: behind.resume_at,
        cut_bytes: evidence.frames_beyond_end_lsn.map_or(0, |end| end.since(stop.lsn)),
        known_durable_lsn: evidence.known_durable_lsn.min(end_lsn),
        index,
    })
}

/// Segments of the log from `first` on have the length that their headers say.
fn refuse_cut_short(files: &LogFiles, first: u64) -> Result<()> {
    for (&number, info) in files.segments().range(first..) {
        let Ok(header) = &info.header else { continue };
        let is_known = files.epoch_of_identity(header.identity).is_some();
        if is_known && info.length_bytes < header.segment_bytes {
            let expected = format!("a segment of {} bytes", header.segment_bytes);
            let found = format!("{} bytes", info.length_bytes);
            return Err(Error::corrupt(&files.path(number), info.length_bytes, expected, found));
        }
    }
    Ok(())
}

/// The error of the cases that are corruption.
fn refuse_corrupt(
    files: &LogFiles,
    case: TailCase,
    evidence: &TailEvidence,
    stop: &LogStop,
    behind: &Behind<'_>,
) -> Result<()> {
    let durable = evidence.known_durable_lsn;
    match case {
        TailCase::CleanEnd | TailCase::TornTail | TailCase::OpenEnd => Ok(()),
        TailCase::NewerEpoch => {
            let (at, epoch) = behind.newer.expect("the case says so");
            let expected = format!("no epoch above {}", files.last_epoch().entry.epoch);
            Err(Error::corrupt(
                &files.path(at.segment),
                at.offset,
                expected,
                format!("epoch {epoch}"),
            ))
        }
        TailCase::LostDurable => Err(match stop.finding.clone() {
            Error::Corrupt { file, offset, expected, found } => Error::Corrupt {
                file,
                offset,
                expected: format!(
                    "{expected}, in a log that is durable from {} to {durable}",
                    stop.lsn
                ),
                found,
            },
            other => other,
        }),
        TailCase::BeyondClean => {
            let end = evidence.frames_beyond_end_lsn.unwrap_or(stop.lsn);
            let clean = evidence.clean_lsn.expect("the case says so");
            let expected = format!("the end of the log at {clean}, after a clean shutdown");
            let path = files.path(stop.at.segment);
            Err(Error::corrupt(&path, stop.at.offset, expected, format!("log up to {end}")))
        }
    }
}

/// What lies behind the stop.
struct Behind<'a> {
    files: &'a LogFiles,
    last: &'a LogEpoch,
    stop_lsn: Lsn,
    stop_at: LogPosition,
    /// End of the last record that counts: the next epoch continues from here.
    end_lsn: Lsn,
    stamp_lsn: Lsn,
    frames_end_lsn: Option<Lsn>,
    newer: Option<(LogPosition, Epoch)>,
    resume_at: LogPosition,
}

impl<'a> Behind<'a> {
    fn new(files: &'a LogFiles, stop: &LogStop) -> Self {
        let last = files.last_epoch();
        Self {
            files,
            last,
            stop_lsn: stop.lsn,
            stop_at: stop.at,
            end_lsn: if stop.is_epoch_empty { last.entry.continues_from_lsn } else { stop.lsn },
            stamp_lsn: Lsn::NONE,
            frames_end_lsn: None,
            newer: None,
            resume_at: stop.at,
        }
    }

    /// Looks at the in-flight range, then at the first frame of each later segment, and at all
    /// headers of segments.
    fn scan(&mut self) -> Result<()> {
        let mut window = Window::new(SCAN_BYTES);
        // One block further than the range: the header of the frame behind it.
        let mut budget = IN_FLIGHT_BYTES_MAX + BLOCK_U64;
        let mut at = self.stop_at;
        while let Some(length_bytes) = window.enter(self.files, at.segment)? {
            while budget > 0 && at.offset + BLOCK_U64 <= length_bytes {
                self.look_at(&mut window, at)?;
                at.offset += BLOCK_U64;
                budget -= BLOCK_U64;
            }
            if self.resume_at.segment == at.segment
                && self.resume_at.offset + BLOCK_U64 > length_bytes
            {
                self.resume_at = next_segment(at);
            }
            if budget == 0 {
                break;
            }
            // What the writer left unused at the end of the segment was not in flight.
            budget += to_u64(frame_bytes(self.files.record_bytes_max()));
            at = next_segment(at);
        }
        for (&number, info) in self.files.segments() {
            if let Ok(header) = &info.header {
                let start = LogPosition { segment: number, offset: 0 };
                if header.identity == self.last.identity {
                    self.stamp_lsn = self.stamp_lsn.max(header.durable_lsn);
                }
                self.note_epoch(header.identity, header.epoch, start);
            }
            let first = LogPosition { segment: number, offset: HEADER_U64 };
            if number > at.segment && window.enter(self.files, number)?.is_some() {
                self.look_at(&mut window, first)?;
            }
            if number > self.stop_at.segment {
                self.look_for_epoch(&mut window, first)?;
            }
        }
        self.look_for_epoch(&mut window, self.stop_at)?;
        self.look_for_epoch(&mut window, self.resume_at)
    }

    /// Takes in the block at `at`, if it is the header of a frame.
    fn look_at(&mut self, window: &mut Window, at: LogPosition) -> Result<()> {
        let Some(block) = window.bytes(at.offset, BLOCK_BYTES)? else { return Ok(()) };
        let Ok((header, _)) = FrameHeader::decode(block, self.last.identity) else { return Ok(()) };
        self.stamp_lsn = self.stamp_lsn.max(header.durable_lsn);
        // Frames that begin below are left over from an earlier use of the file.
        if header.frame_lsn >= self.stop_lsn {
            self.frames_end_lsn = self.frames_end_lsn.max(Some(header.end_lsn()));
            if at.segment == self.stop_at.segment {
                let behind = at.offset + to_u64(header.frame_bytes());
                self.resume_at.offset = self.resume_at.offset.max(behind);
            }
        }
        Ok(())
    }

    /// Notes the epoch of the frame at `at`, a place where a later epoch may have begun. Not every
    /// block is such a place: a user may store the bytes of another database's log. And this one, where
    /// it is not a segment's first, may have been the inside of a frame when the file was used before:
    /// there a frame counts only if it goes on from the end of this log as the first of an epoch does.
    fn look_for_epoch(&mut self, window: &mut Window, at: LogPosition) -> Result<()> {
        if window.enter(self.files, at.segment)?.is_some()
            && let Some(block) = window.bytes(at.offset, BLOCK_BYTES)?
            && let Ok((header, _)) = FrameHeader::decode_any(block)
            && (at.offset == HEADER_U64 || self.goes_on(&header))
        {
            self.note_epoch(header.identity, header.epoch, at);
        }
        Ok(())
    }

    /// Whether this is the first frame of an epoch behind the end of the log.
    fn goes_on(&self, header: &FrameHeader) -> bool {
        header.prev_checksum == 0
            && header.prev_frame_lsn == self.end_lsn
            && header.frame_lsn > self.last.entry.start_lsn.max(self.end_lsn)
    }

    fn note_epoch(&mut self, identity: u64, epoch: Epoch, at: LogPosition) {
        if epoch > self.last.entry.epoch && self.files.epoch_of_identity(identity).is_none() {
            self.newer = self.newer.or(Some((at, epoch)));
        }
    }
}

const fn next_segment(at: LogPosition) -> LogPosition {
    LogPosition { segment: at.segment + 1, offset: HEADER_U64 }
}

/// Makes the log up to its end durable, before the next epoch is: whoever writes behind it relies on
/// it. With direct I/O a sync suffices. With buffered I/O, what is read may be pages that a failed
/// sync has left in the cache although the disk never took them, and the next sync would say that all
/// is well: the frames behind `known_durable` are written again, same bytes, same place (invariant
/// W2), with the header of a segment that they begin, and then synced. Returns the bytes written.
///
/// # Errors
/// Those of the disk; then the log must not be written to.
pub fn rewrite_tail(files: &Arc<LogFiles>, end: &LogEnd) -> Result<u64> {
    let Some((first_lsn, first_at)) = end.index.entries().next() else { return Ok(0) };
    let from = end.known_durable_lsn.max(first_lsn);
    let hint = end.index.locate(from).map_or(first_at, |(_, at)| at);
    let mut target = Target::default();
    let mut reader = files.reader(from, Some(hint), Some(end.end_lsn))?;
    while let Some(frame) = reader.next_frame()? {
        target.turn_to(files, frame.at.segment)?;
        if frame.at.offset == HEADER_U64 {
            target.write_header(files)?;
        }
        target.write(frame.bytes, frame.at.offset)?;
    }
    // Stamp frames, and a log that is known to be durable to its end: its last file is synced, since
    // what says so may itself have been read from the cache.
    if target.file.is_none() && end.end_at.offset > HEADER_U64 {
        target.turn_to(files, end.end_at.segment)?;
    }
    target.finish()?;
    Ok(target.written_bytes)
}

/// Writes the headers of segments again that were lost while their first frames were not, durably.
/// The two go in one write; where an epoch begins with the segment, the frame counts without the
/// header, and the log goes on in that file. `next` is the epoch that begins now, with log identity
/// `identity`: it gives a header to a segment in which nothing counts and it begins further behind.
/// Returns how many were written. If we crash here, the next open does it again.
///
/// # Errors
/// Those of the disk; then the log must not be written to.
pub fn write_lost_headers(
    files: &LogFiles,
    end: &LogEnd,
    next: &EpochEntry,
    identity: u64,
) -> Result<u64> {
    let begins = |epoch: &&LogEpoch| epoch.entry.offset == HEADER_U64;
    let counts = |epoch: &&LogEpoch| Some(epoch.entry.epoch) <= end.last_accepted;
    let begun = files.epochs().iter().filter(begins).filter(counts);
    let mut wanted: Vec<_> = begun.map(|epoch| (epoch.identity, epoch.entry)).collect();
    let is_empty = end.end_at == LogPosition { segment: next.segment, offset: HEADER_U64 };
    if is_empty && next.offset > HEADER_U64 {
        wanted.push((identity, *next));
    }
    let mut written = 0;
    for (identity, entry) in wanted {
        let number = entry.segment;
        let Some(SegmentInfo { length_bytes, header: Err(_) }) = files.segments().get(&number)
        else {
            continue;
        };
        let header = SegmentHeader {
            identity,
            epoch: entry.epoch,
            number,
            segment_bytes: *length_bytes,
            first_lsn: entry.start_lsn,
            durable_lsn: entry.continues_from_lsn,
        };
        let Some(file) = files.open_segment(number, OpenMode::ReadWrite)? else { continue };
        let mut block = AlignedBuf::new(SEGMENT_HEADER_BYTES);
        header.encode(&mut block);
        file.write_sync_at(&block, 0).map_err(|error| Error::io(file.path(), error))?;
        written += 1;
    }
    Ok(written)
}

/// The file that the tail is written to again.
#[derive(Default)]
struct Target {
    segment: u64,
    file: Option<Arc<dyn DiskFile>>,
    written_bytes: u64,
}

impl Target {
    fn turn_to(&mut self, files: &LogFiles, segment: u64) -> Result<()> {
        if self.file.is_some() && self.segment == segment {
            return Ok(());
        }
        self.finish()?;
        let path = files.path(segment);
        let file = files.open_segment(segment, OpenMode::ReadWrite)?;
        self.file = Some(file.ok_or_else(|| {
            Error::corrupt(&path, 0, "the segment that was just read", "no such file")
        })?);
        self.segment = segment;
        Ok(())
    }

    /// The header of the segment turned to, which went in one write with its first frame. Where it was
    /// lost by that, [`write_lost_headers`] sees to it.
    fn write_header(&mut self, files: &LogFiles) -> Result<()> {
        let info = &files.segments()[&self.segment];
        let Ok(header) = &info.header else { return Ok(()) };
        let mut block = AlignedBuf::new(SEGMENT_HEADER_BYTES);
        header.encode(&mut block);
        self.write(&block, 0)
    }

    fn write(&mut self, frame: &[u8], offset: u64) -> Result<()> {
        let file = self.file.as_deref().expect("a file was turned to");
        if file.is_direct() {
            return Ok(());
        }
        self.written_bytes += to_u64(frame.len());
        file.write_at(frame, offset).map_err(|error| Error::io(file.path(), error))
    }

    fn finish(&mut self) -> Result<()> {
        match self.file.take() {
            Some(file) => file.sync().map_err(|error| Error::io(file.path(), error)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests;
