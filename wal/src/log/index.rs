//! The sparse index from log positions to places in files: an LSN is not a file offset, since frames
//! have headers and padding. It is kept in memory; recovery rebuilds it while it scans.

use std::collections::VecDeque;

use crate::Lsn;
use crate::control::LogPosition;

/// Bytes of file between two entries of one segment, about.
const INDEX_STEP_BYTES: u64 = 64 << 10;

/// Where some of the frames begin, in ascending order of LSN and place.
#[derive(Clone, Debug, Default)]
pub struct FrameIndex {
    entries: VecDeque<(Lsn, LogPosition)>,
}

impl FrameIndex {
    /// An index that knows no frame.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes that the frame at `at` begins at `lsn`. Frames are noted in the order of the log;
    /// those close behind a noted one are left out. A frame that begins where a noted one does, in
    /// a later segment, takes its place: that one is a stamp, which holds no record.
    pub fn note(&mut self, lsn: Lsn, at: LogPosition) {
        if let Some((last_lsn, last)) = self.entries.back() {
            let is_earlier = *last_lsn > lsn || *last >= at;
            let is_close = last.segment == at.segment
                && (*last_lsn == lsn || at.offset - last.offset < INDEX_STEP_BYTES);
            if is_earlier || is_close {
                return;
            }
            if *last_lsn == lsn {
                self.entries.pop_back();
            }
        }
        self.entries.push_back((lsn, at));
    }

    /// Notes where the first frame of an epoch begins, however close to a noted one: from a frame of
    /// an earlier epoch, not every reader finds the way.
    pub fn note_epoch(&mut self, start_lsn: Lsn, at: LogPosition) {
        while self.entries.back().is_some_and(|(_, last)| *last >= at) {
            self.entries.pop_back();
        }
        self.entries.push_back((start_lsn, at));
    }

    /// The last noted frame that begins at or below `lsn`, and its LSN.
    #[must_use]
    pub fn locate(&self, lsn: Lsn) -> Option<(Lsn, LogPosition)> {
        let behind = self.entries.partition_point(|(noted, _)| *noted <= lsn);
        behind.checked_sub(1).map(|index| self.entries[index])
    }

    /// Forgets the frames of segments below `segment`.
    pub fn forget_below(&mut self, segment: u64) {
        while self.entries.front().is_some_and(|(_, at)| at.segment < segment) {
            self.entries.pop_front();
        }
    }

    /// All entries, in ascending order.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = (Lsn, LogPosition)> {
        self.entries.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(segment: u64, offset: u64) -> LogPosition {
        LogPosition { segment, offset }
    }

    #[test]
    fn a_segment_that_begins_behind_a_noted_stamp_is_noted() {
        let mut index = FrameIndex::new();
        index.note(Lsn::new(100), at(1, 4096));
        let stamp = at(1, 4096 + INDEX_STEP_BYTES);
        index.note(Lsn::new(500), stamp);
        index.note(Lsn::new(500), at(2, 8192));
        assert_eq!(index.locate(Lsn::new(500)), Some((Lsn::new(500), at(2, 8192))));
        assert_eq!(index.locate(Lsn::new(499)), Some((Lsn::new(100), at(1, 4096))));
        // In the same segment the way leads over the stamp.
        let second = at(2, 8192 + 2 * INDEX_STEP_BYTES);
        index.note(Lsn::new(500), second);
        assert_eq!(index.locate(Lsn::new(500)), Some((Lsn::new(500), at(2, 8192))));
    }

    #[test]
    fn the_nearest_noted_frame_at_or_below_is_found() {
        let mut index = FrameIndex::new();
        assert_eq!(index.locate(Lsn::new(50)), None);
        index.note(Lsn::new(100), at(1, 4096));
        index.note(Lsn::new(200), at(1, 8192));
        index.note(Lsn::new(300), at(1, 4096 + INDEX_STEP_BYTES));
        index.note(Lsn::new(400), at(2, 4096));
        assert_eq!(index.entries().len(), 3);
        assert_eq!(index.locate(Lsn::new(99)), None);
        assert_eq!(index.locate(Lsn::new(299)), Some((Lsn::new(100), at(1, 4096))));
        assert_eq!(index.locate(Lsn::new(400)), Some((Lsn::new(400), at(2, 4096))));
        index.forget_below(2);
        assert_eq!(index.locate(Lsn::new(399)), None);
    }

    #[test]
    fn the_first_frame_of_an_epoch_is_always_noted() {
        let mut index = FrameIndex::new();
        index.note(Lsn::new(100), at(1, 4096));
        index.note_epoch(Lsn::new(900), at(1, 8192));
        index.note(Lsn::new(900), at(1, 8192));
        assert_eq!(index.locate(Lsn::new(950)), Some((Lsn::new(900), at(1, 8192))));
        assert_eq!(index.locate(Lsn::new(899)), Some((Lsn::new(100), at(1, 4096))));
        index.note_epoch(Lsn::new(1900), at(1, 8192));
        assert_eq!(index.entries().len(), 2, "an epoch without a frame leaves no entry");
    }

    #[test]
    fn frames_noted_twice_or_late_change_nothing() {
        let mut index = FrameIndex::new();
        index.note(Lsn::new(100), at(3, 4096));
        index.note(Lsn::new(100), at(3, 4096));
        index.note(Lsn::new(50), at(2, 4096));
        index.note(Lsn::new(100), at(4, 4096));
        assert_eq!(index.entries().len(), 1);
    }
}
