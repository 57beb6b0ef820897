//! Places in the files of the log.

use std::fmt;

use crate::codec::{DecodeError, Encode, Reader};
use crate::disk::BLOCK_BYTES;

const BLOCK_U64: u64 = crate::codec::to_u64(BLOCK_BYTES);
/// No file of the log is longer.
const OFFSET_MAX: u64 = 1 << 40;
/// No log has had so many segments.
const SEGMENT_MAX: u64 = 1 << 62;

/// Where a frame begins: a segment and a byte offset in its file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogPosition {
    /// Number of the segment; segments count from 1.
    pub segment: u64,
    /// Byte offset in the segment's file.
    pub offset: u64,
}

impl LogPosition {
    /// Length of the encoding: segment, then offset, eight bytes each.
    pub const ENCODED_BYTES: usize = 16;

    /// Appends the encoding.
    pub fn encode(self, out: &mut Vec<u8>) {
        out.put_u64(self.segment);
        out.put_u64(self.offset);
    }

    /// Reads a place: one at which a frame can begin.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let start = reader.offset();
        let place = Self { segment: reader.u64()?, offset: reader.u64()? };
        let is_place = (1..=SEGMENT_MAX).contains(&place.segment)
            && (BLOCK_U64..=OFFSET_MAX).contains(&place.offset)
            && place.offset.is_multiple_of(BLOCK_U64);
        if !is_place {
            let expected = format!("a frame's place, in steps of {BLOCK_BYTES} bytes");
            return Err(DecodeError::new(start, expected, place.to_string()));
        }
        Ok(place)
    }
}

impl fmt::Display for LogPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "byte {} of segment {}", self.offset, self.segment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_at_which_no_frame_can_begin_is_refused() {
        let decode = |segment, offset| {
            let mut bytes = Vec::new();
            LogPosition { segment, offset }.encode(&mut bytes);
            LogPosition::decode(&mut Reader::new(&bytes))
        };
        for (segment, offset) in [(1, 4096), (SEGMENT_MAX, OFFSET_MAX)] {
            assert_eq!(decode(segment, offset), Ok(LogPosition { segment, offset }));
        }
        for (segment, offset) in
            [(0, 4096), (u64::MAX, 4096), (1, 0), (1, 4097), (1, 512), (1, u64::MAX - 4095)]
        {
            assert!(decode(segment, offset).is_err(), "{segment} {offset}");
        }
    }
}
