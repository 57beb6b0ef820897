//! Places in the files of the log.

use std::fmt;

use crate::codec::{DecodeError, Encode, Reader};

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

    /// Reads a place.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { segment: reader.u64()?, offset: reader.u64()? })
    }
}

impl fmt::Display for LogPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "byte {} of segment {}", self.offset, self.segment)
    }
}
