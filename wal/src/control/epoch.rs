//! Epochs: each writable open of the database starts one, so that no position is used twice (W4).
//!
//! | bytes | field |
//! |---|---|
//! | 8 | epoch |
//! | 8 | nonce |
//! | 8 | start LSN |
//! | 8 | LSN at which it continues its predecessor |
//! | 8 | segment of its first frame |
//! | 8 | byte offset of that frame in the segment |

use std::fmt;

use crate::codec::{DecodeError, Encode, Reader};
use crate::{Epoch, EpochNonce, Lsn};

use super::position::LogPosition;

/// One entry of the epoch history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEntry {
    /// Each writable open takes the next number. An epoch that wrote no frame leaves the history, so
    /// the history may skip numbers.
    pub epoch: Epoch,
    /// Random; part of frame headers and checksum seeds.
    pub nonce: EpochNonce,
    /// First LSN of the epoch.
    pub start_lsn: Lsn,
    /// Decreed end of the log of the epoch before: frames and stamps beyond do not count.
    pub continues_from_lsn: Lsn,
    /// Segment that holds its first frame.
    pub segment: u64,
    /// Byte offset of the first frame in that segment.
    pub offset: u64,
}

impl fmt::Display for EpochEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { epoch, nonce, start_lsn, continues_from_lsn, segment, offset } = self;
        let nonce = nonce.get();
        write!(
            f,
            "epoch {epoch} (nonce {nonce:#018x}) from {start_lsn} behind {continues_from_lsn} \
             at byte {offset} of segment {segment}"
        )
    }
}

impl EpochEntry {
    /// Length of the encoding.
    pub const ENCODED_BYTES: usize = 48;

    /// Whether the position lies in the gap between the log of the epoch before and this one's. No
    /// record that counts ends there.
    #[must_use]
    pub const fn skips(&self, lsn: Lsn) -> bool {
        self.continues_from_lsn.get() < lsn.get() && lsn.get() <= self.start_lsn.get()
    }

    /// Appends the encoding.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.put_u64(self.epoch.get());
        out.put_u64(self.nonce.get());
        out.put_u64(self.start_lsn.get());
        out.put_u64(self.continues_from_lsn.get());
        out.put_u64(self.segment);
        out.put_u64(self.offset);
        debug_assert_eq!(out.len() - start, Self::ENCODED_BYTES);
    }

    /// Reads an entry.
    pub fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let epoch = Epoch::new(reader.u64()?);
        let nonce = EpochNonce::new(reader.u64()?);
        let start_lsn = Lsn::new(reader.u64()?);
        let continues_from_lsn = Lsn::new(reader.u64()?);
        let LogPosition { segment, offset } = LogPosition::decode(reader)?;
        Ok(Self { epoch, nonce, start_lsn, continues_from_lsn, segment, offset })
    }
}
