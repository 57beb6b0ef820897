//! The files of the log, as the append side uses them: where the next frame goes, which files may be
//! used again, and how much space is left under the bound. Holds invariant C3 together with its
//! caller, who gives up only what a durable master record no longer needs.
//!
//! A segment's life:
//!
//! ```text
//!   (nothing) -- SpareMaker::step --> spare -- begin_segment --> current --> live
//!                                       ^                                     |
//!                                       +-------- SpareMaker::recycle --------+--> (removed)
//! ```
//!
//! This is the memory of it, under the writer's mutex: nothing here asks the disk for anything, so the
//! move to the next segment costs a committer nothing. The files are made, renamed and removed by
//! [`SpareMaker`](super::spares::SpareMaker), outside of that mutex. A spare is filled, its name is
//! durable and it is open before it appears here.
//!
//! A spare becomes part of the log by its header, which goes in one write with its first frame. If we
//! crash inside that write and the header is lost, the log does not go on into the segment, unless
//! `control` says that an epoch begins there: then recovery writes the header again. Nobody was told that any frame in it is durable, since
//! that write had not returned.
//!
//! [`Error::NoSpace`]: crate::Error::NoSpace

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::control::{EpochEntry, LogPosition};
use crate::disk::DiskFile;
use crate::{Epoch, Lsn};

use super::books::Room;
use super::index::FrameIndex;
use super::segment::SegmentHeader;
use super::sizes::{BLOCK_U64, HEADER_U64, SegmentOptions};

/// Where a frame goes.
#[derive(Clone, Debug)]
pub struct Place {
    /// The segment's file.
    pub file: Arc<dyn DiskFile>,
    /// Byte offset in it.
    pub offset: u64,
    /// Number of the segment.
    pub segment: u64,
    /// The header of a segment that the frame begins: it goes in front of the frame, in one write.
    pub begins: Option<SegmentHeader>,
}

/// The files of a log that is being written.
#[derive(Debug)]
pub struct Segments {
    pub(super) dir: PathBuf,
    pub(super) options: SegmentOptions,
    epoch: Option<CurrentEpoch>,
    /// Segments with frames, in ascending order; the current one is the last.
    pub(super) live: VecDeque<Live>,
    pub(super) current: Option<Current>,
    /// Their numbers follow each other from `next_number` on.
    spares: VecDeque<Spare>,
    /// Number of the segment that will be begun next.
    pub(super) next_number: u64,
    /// Length of the file that will be made next.
    next_bytes: u64,
    /// Length of the file that is being made.
    planned_bytes: Option<u64>,
    /// Allocated to files that were given up and are on their way to be spares, or removed.
    moving_bytes: u64,
    /// Allocated to half-made files that could not be removed.
    leftover_bytes: u64,
    /// Spares that were ever added.
    added_count: u64,
    pub(super) index: FrameIndex,
}

#[derive(Clone, Copy, Debug)]
struct CurrentEpoch {
    epoch: Epoch,
    identity: u64,
    /// Where its first frame must go, until it has gone there.
    first_frame_at: Option<LogPosition>,
}

/// A segment with frames.
#[derive(Clone, Copy, Debug)]
pub(super) struct Live {
    pub(super) number: u64,
    /// No frame inside begins below.
    pub(super) first_lsn: Lsn,
    pub(super) length_bytes: u64,
    pub(super) allocated_bytes: u64,
}

/// The segment that frames go to.
#[derive(Debug)]
pub(super) struct Current {
    pub(super) number: u64,
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) length_bytes: u64,
    pub(super) next_offset: u64,
}

/// A segment ready for use.
#[derive(Debug)]
pub(super) struct Spare {
    pub(super) number: u64,
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) length_bytes: u64,
    pub(super) allocated_bytes: u64,
}

/// A segment that was given up.
#[derive(Clone, Copy, Debug)]
pub(super) struct GivenUp {
    pub(super) number: u64,
    pub(super) length_bytes: u64,
    pub(super) allocated_bytes: u64,
    /// Whether it should become a spare.
    pub(super) is_wanted: bool,
}

impl Segments {
    /// No files yet; the log goes on at `resume`.
    pub(super) fn new(
        dir: &Path,
        options: SegmentOptions,
        resume: LogPosition,
        index: FrameIndex,
    ) -> Self {
        Self {
            dir: dir.to_path_buf(),
            options,
            epoch: None,
            live: VecDeque::new(),
            current: None,
            spares: VecDeque::new(),
            next_number: resume.segment,
            next_bytes: options.first_bytes,
            planned_bytes: None,
            moving_bytes: 0,
            leftover_bytes: 0,
            added_count: 0,
            index,
        }
    }

    /// Where the next frame goes unless it is longer than what is left of the current segment. A new
    /// epoch takes this as the place of its first frame.
    #[must_use]
    pub fn next_position(&self) -> LogPosition {
        match &self.current {
            Some(current) if self.current_room_bytes() > 0 => {
                LogPosition { segment: current.number, offset: current.next_offset }
            }
            _ => LogPosition { segment: self.next_number, offset: HEADER_U64 },
        }
    }

    /// Frames placed from now on belong to this epoch, whose entry is durable in `control`.
    ///
    /// # Panics
    /// When the entry does not begin at [`Segments::next_position`].
    pub fn start_epoch(&mut self, entry: &EpochEntry, identity: u64) {
        let first = LogPosition { segment: entry.segment, offset: entry.offset };
        assert_eq!(first, self.next_position(), "an epoch begins where the log goes on");
        self.index.note_epoch(entry.start_lsn, first);
        // The last segment may have lost its header, and nothing behind it bounded its start: its
        // frames are of epochs before this one.
        if let Some(last) = self.live.back_mut().filter(|last| last.first_lsn == Lsn::MAX) {
            last.first_lsn = entry.start_lsn;
        }
        self.epoch =
            Some(CurrentEpoch { epoch: entry.epoch, identity, first_frame_at: Some(first) });
    }

    /// Where the next frame of `frame_bytes` goes; moves on to the next segment when the current one
    /// has no room. The new segment's header carries `frame_lsn` and `durable_lsn`. The first frame
    /// of an epoch must be cut to [`Segments::current_room_bytes`] where that is above 0, since the
    /// entry in `control` names its place.
    ///
    /// # Panics
    /// Without an epoch, and when the frame is not whole blocks, or fits neither the current segment
    /// nor a spare ([`Segments::next_room_bytes`]).
    pub fn place(&mut self, frame_bytes: u64, frame_lsn: Lsn, durable_lsn: Lsn) -> Place {
        let is_frame = frame_bytes > 0 && frame_bytes.is_multiple_of(BLOCK_U64);
        assert!(is_frame, "a frame of {frame_bytes} bytes");
        let begins = (self.current_room_bytes() < frame_bytes)
            .then(|| self.begin_segment(frame_bytes, frame_lsn, durable_lsn));
        let current = self.current.as_mut().expect("a segment with room was begun");
        let at = LogPosition { segment: current.number, offset: current.next_offset };
        current.next_offset += frame_bytes;
        let file = Arc::clone(&current.file);
        let epoch = self.epoch.as_mut().expect("an epoch was started before the first frame");
        if let Some(first) = epoch.first_frame_at.take() {
            assert_eq!(at, first, "the first frame of an epoch goes where its entry says");
        }
        self.index.note(frame_lsn, at);
        Place { file, offset: at.offset, segment: at.segment, begins }
    }

    /// Moves on to the next segment, whose first frame begins at `first_lsn`.
    fn begin_segment(
        &mut self,
        frame_bytes: u64,
        first_lsn: Lsn,
        durable_lsn: Lsn,
    ) -> SegmentHeader {
        let room = self.next_room_bytes();
        assert!(room.is_some_and(|room| frame_bytes <= room), "{frame_bytes} bytes fit no spare");
        let spare = self.spares.pop_front().expect("its room was looked at");
        let Spare { number, file, length_bytes, allocated_bytes } = spare;
        debug_assert_eq!(number, self.next_number, "spares follow each other");
        self.live.push_back(Live { number, first_lsn, length_bytes, allocated_bytes });
        self.current = Some(Current { number, file, length_bytes, next_offset: HEADER_U64 });
        self.next_number = number + 1;
        let CurrentEpoch { epoch, identity, .. } =
            self.epoch.expect("an epoch was started before the first frame");
        let segment_bytes = length_bytes;
        SegmentHeader { identity, epoch, number, segment_bytes, first_lsn, durable_lsn }
    }

    /// Bytes left in the current segment, so that the caller can cut its frame to fit.
    #[must_use]
    pub fn current_room_bytes(&self) -> u64 {
        self.current.as_ref().map_or(0, |current| {
            current.length_bytes.saturating_sub(current.next_offset) / BLOCK_U64 * BLOCK_U64
        })
    }

    /// Frame bytes that the next segment takes; `None` while there is no spare.
    #[must_use]
    pub fn next_room_bytes(&self) -> Option<u64> {
        self.spares.front().map(|spare| spare.length_bytes - HEADER_U64)
    }

    /// Frame bytes that can still be placed before the bound, segments not yet made included, counted
    /// as `sizes` says.
    #[must_use]
    pub fn available_bytes(&self) -> u64 {
        let planned = self.planned_bytes.map(|length| self.options.segment_countable_bytes(length));
        let left_bytes = self.options.max_wal_bytes.saturating_sub(self.wal_bytes());
        let creatable = self.options.creatable_bytes(left_bytes, self.next_bytes);
        self.owned_bytes() + planned.unwrap_or(0) + creatable
    }

    /// Frame bytes that can still be placed in files that exist, counted as `sizes`
    /// says.
    #[must_use]
    pub fn owned_bytes(&self) -> u64 {
        let lengths = self.spares.iter().map(|spare| spare.length_bytes);
        let spares = lengths.map(|length| self.options.segment_countable_bytes(length));
        self.options.countable_bytes(self.current_room_bytes()) + spares.sum::<u64>()
    }

    /// What there is room for, and when the next file should be made: at once where there is no
    /// spare, else while there is room for half of a segment as long as the current one.
    pub(super) fn room(&self) -> Room {
        let current = self.current.as_ref().map_or(0, |current| current.length_bytes);
        let lead_bytes = if self.spares.is_empty() { u64::MAX } else { current / 2 };
        Room { available: self.available_bytes(), owned: self.owned_bytes(), lead_bytes }
    }

    /// Bytes allocated to the files of the log, one that is being made included.
    #[must_use]
    pub fn wal_bytes(&self) -> u64 {
        let live: u64 = self.live.iter().map(|live| live.allocated_bytes).sum();
        let spare: u64 = self.spares.iter().map(|spare| spare.allocated_bytes).sum();
        let planned = self.planned_bytes.map_or(0, SegmentOptions::cost_bytes);
        live + spare + planned + self.moving_bytes + self.leftover_bytes
    }

    /// Directory of the files.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Segments that hold part of the log.
    #[cfg(test)]
    #[cfg(not(loom))]
    pub(crate) fn live_count(&self) -> usize {
        self.live.len()
    }

    /// Segments that are ready for use.
    #[cfg(test)]
    #[cfg(not(loom))]
    pub(crate) fn spare_count(&self) -> usize {
        self.spares.len()
    }

    /// Spares that were ever added: whoever waits for one looks whether it has grown.
    pub(super) const fn added_count(&self) -> u64 {
        self.added_count
    }

    /// Where the nearest known frame at or below `lsn` begins.
    #[must_use]
    pub fn locate(&self, lsn: Lsn) -> Option<LogPosition> {
        if let Some((_, at)) = self.index.locate(lsn) {
            return Some(at);
        }
        let below = self.live.iter().take_while(|live| live.first_lsn <= lsn);
        below.last().map(|live| LogPosition { segment: live.number, offset: HEADER_U64 })
    }

    /// The next file is as long as all that there are, within the limits: the log grows on from what
    /// it needed before.
    pub(super) fn grow_on(&mut self) {
        let live: u64 = self.live.iter().map(|live| live.length_bytes).sum();
        let spare: u64 = self.spares.iter().map(|spare| spare.length_bytes).sum();
        let whole_blocks = (live + spare) / BLOCK_U64 * BLOCK_U64;
        let SegmentOptions { first_bytes, segment_bytes, .. } = self.options;
        self.next_bytes = whole_blocks.clamp(first_bytes, segment_bytes);
    }

    /// Plans a file, unless one is being made or the bound leaves no room for it. Returns its length;
    /// [`Segments::add_planned`] or [`Segments::drop_planned`] follows.
    pub(super) fn plan(&mut self) -> Option<u64> {
        let length_bytes = self.next_bytes;
        let cost_bytes = SegmentOptions::cost_bytes(length_bytes);
        let is_in_bound = self.wal_bytes() + cost_bytes <= self.options.max_wal_bytes;
        if self.planned_bytes.is_some() || !is_in_bound {
            return None;
        }
        self.planned_bytes = Some(length_bytes);
        self.next_bytes = self.options.length_after(length_bytes);
        self.planned_bytes
    }

    /// The planned file is ready.
    pub(super) fn add_planned(&mut self, spare: Spare) {
        let planned = self.planned_bytes.take();
        debug_assert_eq!(planned, Some(spare.length_bytes), "as it was planned");
        self.add_spare(spare);
    }

    /// The planned file could not be made; `leftover_bytes` of it could not be removed either.
    pub(super) fn drop_planned(&mut self, leftover_bytes: u64) {
        let planned = self.planned_bytes.take().expect("a file was planned");
        self.next_bytes = planned;
        self.leftover_bytes += leftover_bytes;
    }

    /// Leftovers of so many bytes are gone.
    pub(super) fn drop_leftovers(&mut self, bytes: u64) {
        self.leftover_bytes -= bytes;
    }

    /// Whether the oldest segment lies wholly below `lsn`.
    pub(super) fn has_any_below(&self, lsn: Lsn) -> bool {
        self.live.get(1).is_some_and(|next| next.first_lsn <= lsn)
    }

    /// Takes the segments out that lie wholly below `lsn`, oldest first. Of each, either
    /// [`Segments::add_recycled`] or [`Segments::drop_given_up`] follows. While there are spares for
    /// half of the bound, no more of them are wanted; but what was given up always makes room.
    pub(super) fn give_up_below(&mut self, lsn: Lsn) -> Vec<GivenUp> {
        let mut given_up = Vec::new();
        let mut spare_bytes: u64 = self.spares.iter().map(|spare| spare.allocated_bytes).sum();
        let mut left_bytes = self.options.max_wal_bytes.saturating_sub(self.wal_bytes());
        while self.has_any_below(lsn)
            && let Some(live) = self.live.pop_front()
        {
            let Live { number, length_bytes, allocated_bytes, .. } = live;
            let is_enough = spare_bytes + allocated_bytes > self.options.spare_bytes_max();
            let next_bytes = self.next_bytes;
            let is_wanted = self.is_usable(length_bytes)
                && self.wal_bytes() + allocated_bytes <= self.options.max_wal_bytes
                && !(is_enough
                    && self.options.is_replaceable(
                        left_bytes,
                        next_bytes,
                        length_bytes,
                        allocated_bytes,
                    ));
            if is_wanted {
                spare_bytes += allocated_bytes;
            } else {
                left_bytes += allocated_bytes;
            }
            self.moving_bytes += allocated_bytes;
            given_up.push(GivenUp { number, length_bytes, allocated_bytes, is_wanted });
        }
        if let Some(first) = self.live.front() {
            self.index.forget_below(first.number);
        }
        given_up
    }

    /// Whether a file of this length can serve as a segment.
    pub(super) fn is_usable(&self, length_bytes: u64) -> bool {
        length_bytes.is_multiple_of(BLOCK_U64)
            && (self.options.length_bytes_min()..=self.options.segment_bytes)
                .contains(&length_bytes)
    }

    /// A segment that was given up is a spare now.
    pub(super) fn add_recycled(&mut self, spare: Spare) {
        self.moving_bytes -= spare.allocated_bytes;
        self.add_spare(spare);
    }

    /// A segment that was given up is gone, but for `leftover_bytes` that could not be removed.
    pub(super) fn drop_given_up(&mut self, given_up: &GivenUp, leftover_bytes: u64) {
        self.moving_bytes -= given_up.allocated_bytes;
        self.leftover_bytes += leftover_bytes;
    }

    /// Number of the next spare. It stays the same while spares are used: only who adds one changes
    /// it.
    pub(super) fn next_spare_number(&self) -> u64 {
        self.spares.back().map_or(self.next_number, |spare| spare.number + 1)
    }

    /// Takes in a spare that has the next number.
    pub(super) fn add_spare(&mut self, spare: Spare) {
        assert_eq!(spare.number, self.next_spare_number(), "spares follow each other");
        self.spares.push_back(spare);
        self.added_count += 1;
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests;
