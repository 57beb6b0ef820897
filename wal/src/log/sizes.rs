//! How long segments are, and how much can be placed in them.
//!
//! A young log begins with a short file, so that an empty database is small and made at once. Each
//! new file is twice as long as the one made before, up to the length that follows from the bound; a
//! file given up is used again, however long it is. Readers take a segment's length from its file, so
//! they do not know of this rule.
//!
//! What a segment is counted for is its length without its header, without the end that may stay
//! unused because a record does not fit ([`SegmentOptions::tail_bytes_max`]), and without the overhead
//! of one frame: the one that is cut to fit the segment may be short. So the sum over all segments
//! falls by no more than the frames that are placed, wherever these are cut.
//!
//! It never asks a disk for anything.

use crate::codec::to_u64;
use crate::disk::BLOCK_BYTES;
use crate::{Error, Result};

use super::books::FRAME_OVERHEAD_MAX;
use super::frame::frame_bytes;
use super::segment::SEGMENT_HEADER_BYTES;

/// Segments that the bound is divided into.
const SEGMENTS_PER_BOUND: u64 = 16;
const SEGMENT_BYTES_MIN: u64 = 1 << 20;
const SEGMENT_BYTES_MAX: u64 = 64 << 20;
/// Length of a new log's first segment.
const FIRST_BYTES: u64 = 1 << 20;
/// Fewest segments that the bound must have room for: one in use, one that a checkpoint still needs,
/// one spare.
const SEGMENTS_MIN: u64 = 3;
/// Segments of a bound that are not counted on once the log was emptied: the current one, and what
/// shorter ones take beside.
const SEGMENTS_LOST: u64 = 2;
/// Blocks that the file system may allocate for its own use on behalf of a segment.
const METADATA_BYTES: u64 = 2 * BLOCK_U64;

pub(super) const BLOCK_U64: u64 = to_u64(BLOCK_BYTES);
pub(super) const HEADER_U64: u64 = to_u64(SEGMENT_HEADER_BYTES);

/// Sizes of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentOptions {
    /// Bytes of a new log's first file; a multiple of [`BLOCK_BYTES`], at most `segment_bytes`.
    pub first_bytes: u64,
    /// Bytes of the longest files; a multiple of [`BLOCK_BYTES`].
    pub segment_bytes: u64,
    /// Bound of the bytes allocated to all files of the log, temporary ones included.
    pub max_wal_bytes: u64,
    /// Longest record, see [`record_bytes_max`](crate::record::record_bytes_max).
    pub record_bytes_max: usize,
}

impl SegmentOptions {
    /// The usual sizes for a bound: segments of a sixteenth of it, from 1 MiB to 64 MiB, the first
    /// one of 1 MiB.
    #[must_use]
    pub fn for_bound(max_wal_bytes: u64, record_bytes_max: usize) -> Self {
        let share = max_wal_bytes / SEGMENTS_PER_BOUND / BLOCK_U64 * BLOCK_U64;
        let segment_bytes = share.clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX);
        let first_bytes = FIRST_BYTES.min(segment_bytes);
        Self { first_bytes, segment_bytes, max_wal_bytes, record_bytes_max }
    }

    /// The same with segments of another length, the first one half as long where it can be.
    #[doc(hidden)]
    #[must_use]
    pub fn with_segment_bytes(self, segment_bytes: u64) -> Self {
        let half = segment_bytes / 2 / BLOCK_U64 * BLOCK_U64;
        let first_bytes = half.max(self.length_bytes_min()).min(segment_bytes);
        Self { first_bytes, segment_bytes, ..self }
    }

    /// What a file of this length may allocate.
    pub(super) const fn cost_bytes(length_bytes: u64) -> u64 {
        length_bytes + METADATA_BYTES
    }

    /// The most that stays unused at the end of a segment whose frames are cut to fit: just too
    /// little for a frame with the longest record.
    pub(super) const fn tail_bytes_max(&self) -> u64 {
        to_u64(frame_bytes(self.record_bytes_max)) - BLOCK_U64
    }

    /// Shortest file that takes a frame with the longest record.
    pub(super) const fn length_bytes_min(&self) -> u64 {
        HEADER_U64 + to_u64(frame_bytes(self.record_bytes_max))
    }

    /// What `room_bytes` at the end of a segment are counted for.
    pub(super) const fn countable_bytes(&self, room_bytes: u64) -> u64 {
        room_bytes.saturating_sub(self.tail_bytes_max() + FRAME_OVERHEAD_MAX)
    }

    /// What a segment of this length is counted for while it is empty.
    pub(super) const fn segment_countable_bytes(&self, length_bytes: u64) -> u64 {
        self.countable_bytes(length_bytes - HEADER_U64)
    }

    /// Length of the file that is made after one of `length_bytes`.
    pub(super) fn length_after(&self, length_bytes: u64) -> u64 {
        (2 * length_bytes).min(self.segment_bytes)
    }

    /// What all files that can still be made are counted for, where `left_bytes` of the bound are not
    /// allocated and the next file has `next_bytes`. More is never counted for less that is left; and
    /// a file's making takes away just what that file is counted for, or less.
    pub(super) fn creatable_bytes(&self, mut left_bytes: u64, mut next_bytes: u64) -> u64 {
        let mut countable = 0;
        while next_bytes < self.segment_bytes {
            let cost = Self::cost_bytes(next_bytes);
            if left_bytes < cost {
                return countable;
            }
            left_bytes -= cost;
            countable += self.segment_countable_bytes(next_bytes);
            next_bytes = self.length_after(next_bytes);
        }
        let count = left_bytes / Self::cost_bytes(self.segment_bytes);
        countable + count * self.segment_countable_bytes(self.segment_bytes)
    }

    /// What can be counted on in a log that was emptied, whatever the lengths of its files.
    pub(super) const fn capacity_bytes(&self) -> u64 {
        let count = self.max_wal_bytes / Self::cost_bytes(self.segment_bytes);
        count.saturating_sub(SEGMENTS_LOST) * self.segment_countable_bytes(self.segment_bytes)
    }

    /// Bytes of spares that are worth keeping: half of the bound.
    pub(super) const fn spare_bytes_max(&self) -> u64 {
        self.max_wal_bytes / 2
    }

    /// Whether an empty file of `length_bytes` can be removed, so that as much can be placed in files
    /// to be made as in it. `left_bytes` of the bound are not allocated, the next file has
    /// `next_bytes`, and the removal frees `allocated_bytes`.
    pub(super) fn is_replaceable(
        &self,
        left_bytes: u64,
        next_bytes: u64,
        length_bytes: u64,
        allocated_bytes: u64,
    ) -> bool {
        let with_it = self.creatable_bytes(left_bytes, next_bytes)
            + self.segment_countable_bytes(length_bytes);
        self.creatable_bytes(left_bytes + allocated_bytes, next_bytes) >= with_it
    }

    /// Whether the sizes go together.
    pub(super) fn check(&self) -> Result<()> {
        let refuse = |why: String| Err(Error::InvalidArgument(why));
        let lengths = [self.first_bytes, self.segment_bytes];
        if lengths.iter().any(|length| !length.is_multiple_of(BLOCK_U64)) {
            return refuse(format!("a segment is a multiple of {BLOCK_BYTES} bytes"));
        }
        let least = self.length_bytes_min();
        if lengths.iter().any(|length| *length < least) {
            return refuse(format!("a segment takes at least {least} bytes"));
        }
        if self.first_bytes > self.segment_bytes {
            return refuse("the first segment is not longer than the others".into());
        }
        let bound_min = SEGMENTS_MIN * Self::cost_bytes(self.segment_bytes);
        if self.max_wal_bytes < bound_min {
            return refuse(format!("the log takes at least {bound_min} bytes"));
        }
        Ok(())
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    const OPTIONS: SegmentOptions = SegmentOptions {
        first_bytes: 128 << 10,
        segment_bytes: 1 << 20,
        max_wal_bytes: 8 << 20,
        record_bytes_max: 64 << 10,
    };

    #[test]
    fn the_usual_segment_is_a_sixteenth_of_the_bound_and_the_first_one_short() {
        for (bound, segment, first) in [
            (1 << 20, 1 << 20, 1 << 20),
            (16 << 20, 1 << 20, 1 << 20),
            (160 << 20, 10 << 20, 1 << 20),
            (1 << 30, 64 << 20, 1 << 20),
            (64 << 30, 64 << 20, 1 << 20),
        ] {
            let options = SegmentOptions::for_bound(bound, 65536);
            assert_eq!((options.segment_bytes, options.first_bytes), (segment, first));
        }
    }

    #[test]
    fn files_double_until_they_are_as_long_as_the_bound_says() {
        let options = SegmentOptions { segment_bytes: 10 << 20, ..OPTIONS };
        let lengths: Vec<_> =
            std::iter::successors(Some(1 << 20), |&length| Some(options.length_after(length)))
                .take(6)
                .collect();
        assert_eq!(lengths, [1 << 20, 2 << 20, 4 << 20, 8 << 20, 10 << 20, 10 << 20]);
    }

    #[test]
    fn making_a_file_takes_away_what_the_file_is_counted_for_and_more_left_is_never_less() {
        for next in [128 << 10, 256 << 10, 512 << 10, 1 << 20] {
            let mut before = 0;
            for left in (0..OPTIONS.max_wal_bytes).step_by(BLOCK_BYTES) {
                let creatable = OPTIONS.creatable_bytes(left, next);
                assert!(creatable >= before, "{left} {next}");
                before = creatable;
                let cost = SegmentOptions::cost_bytes(next);
                if left < cost {
                    assert_eq!(creatable, 0, "{left} {next}");
                    continue;
                }
                let behind = OPTIONS.creatable_bytes(left - cost, OPTIONS.length_after(next));
                assert_eq!(creatable, OPTIONS.segment_countable_bytes(next) + behind);
            }
        }
    }

    #[test]
    fn an_emptied_log_holds_what_it_is_counted_for_whatever_its_files_are() {
        for bound in [(3 << 20) + 3 * METADATA_BYTES, 4 << 20, 8 << 20, 64 << 20] {
            let options = SegmentOptions { max_wal_bytes: bound, ..OPTIONS };
            options.check().unwrap();
            // Whatever was made so far, the longest of it is current and used up.
            let (mut allocated, mut spare_bytes, mut next) = (0, 0, options.first_bytes);
            while allocated + SegmentOptions::cost_bytes(next) <= bound {
                allocated += SegmentOptions::cost_bytes(next);
                let creatable =
                    options.creatable_bytes(bound - allocated, options.length_after(next));
                let available = spare_bytes + creatable;
                assert!(available >= options.capacity_bytes(), "{bound} {allocated} {available}");
                spare_bytes += options.segment_countable_bytes(next);
                next = options.length_after(next);
            }
        }
    }

    #[test]
    fn sizes_that_do_not_go_together_are_refused() {
        let refused = [
            SegmentOptions { segment_bytes: OPTIONS.segment_bytes + 1, ..OPTIONS },
            SegmentOptions { first_bytes: OPTIONS.first_bytes + 1, ..OPTIONS },
            SegmentOptions { first_bytes: 64 << 10, ..OPTIONS },
            SegmentOptions { segment_bytes: 64 << 10, first_bytes: 64 << 10, ..OPTIONS },
            SegmentOptions { first_bytes: 2 << 20, ..OPTIONS },
            SegmentOptions { max_wal_bytes: 3 << 20, ..OPTIONS },
        ];
        for options in refused {
            assert!(matches!(options.check(), Err(Error::InvalidArgument(_))), "{options:?}");
        }
        OPTIONS.check().unwrap();
    }
}
