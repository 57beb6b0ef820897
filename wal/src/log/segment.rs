//! One file of the log: its name and the format of its header block.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | magic |
//! | 8 | 4 | format version |
//! | 12 | 4 | reserved, zero |
//! | 16 | 8 | log identity of the epoch that began it |
//! | 24 | 8 | that epoch |
//! | 32 | 8 | number of the segment |
//! | 40 | 8 | length of the file |
//! | 48 | 8 | position of its first frame |
//! | 56 | 8 | `durable_lsn` when it was begun |
//! | 64 | 60 | reserved, zero |
//! | 124 | 4 | CRC-32C of bytes 0 to 124 |
//! | 128 | | zeros up to [`SEGMENT_HEADER_BYTES`] |
//!
//! A file whose header does not name the file's own number is no part of the log: a spare, still
//! zero or with the header of its earlier use. The header goes in one write with the first frame, and
//! is not written again when a later epoch goes on in the same segment; recovery writes one that a
//! crash has taken away from a frame that counts.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use crate::codec::{DecodeError, Reader};
use crate::disk::BLOCK_BYTES;
use crate::{Epoch, Lsn};

/// Bytes in front of a segment's first frame.
pub const SEGMENT_HEADER_BYTES: usize = BLOCK_BYTES;

const MAGIC: u64 = u64::from_le_bytes(*b"SWSEGMT\x01");
const VERSION: u32 = 1;

const MAGIC_AT: usize = 0;
const VERSION_AT: usize = 8;
const RESERVED_AT: usize = 12;
const IDENTITY_AT: usize = 16;
const EPOCH_AT: usize = 24;
const NUMBER_AT: usize = 32;
const SEGMENT_BYTES_AT: usize = 40;
const FIRST_LSN_AT: usize = 48;
const DURABLE_LSN_AT: usize = 56;
const RESERVED_TAIL_AT: usize = 64;
const CHECKSUM_AT: usize = 124;
const FIELDS_END: usize = CHECKSUM_AT + 4;
const _: () = assert!(DURABLE_LSN_AT + 8 == RESERVED_TAIL_AT && RESERVED_AT + 4 == IDENTITY_AT);
const _: () = assert!(FIELDS_END <= 512, "the fields lie in one sector: written whole or not");

/// The decoded header block of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Log identity of the epoch that began the segment.
    pub identity: u64,
    /// That epoch.
    pub epoch: Epoch,
    /// Number of the segment.
    pub number: u64,
    /// Length of the file.
    pub segment_bytes: u64,
    /// Position of its first frame.
    pub first_lsn: Lsn,
    /// Everything below this position was durable when the segment was begun.
    pub durable_lsn: Lsn,
}

impl SegmentHeader {
    /// Writes the header block.
    ///
    /// # Panics
    /// When `block` is not [`SEGMENT_HEADER_BYTES`] long.
    pub fn encode(&self, block: &mut [u8]) {
        assert_eq!(block.len(), SEGMENT_HEADER_BYTES, "a header takes one block");
        block.fill(0);
        block[MAGIC_AT..][..8].copy_from_slice(&MAGIC.to_le_bytes());
        block[VERSION_AT..][..4].copy_from_slice(&VERSION.to_le_bytes());
        block[IDENTITY_AT..][..8].copy_from_slice(&self.identity.to_le_bytes());
        block[EPOCH_AT..][..8].copy_from_slice(&self.epoch.get().to_le_bytes());
        block[NUMBER_AT..][..8].copy_from_slice(&self.number.to_le_bytes());
        block[SEGMENT_BYTES_AT..][..8].copy_from_slice(&self.segment_bytes.to_le_bytes());
        block[FIRST_LSN_AT..][..8].copy_from_slice(&self.first_lsn.get().to_le_bytes());
        block[DURABLE_LSN_AT..][..8].copy_from_slice(&self.durable_lsn.get().to_le_bytes());
        let checksum = crc32c::crc32c(&block[..CHECKSUM_AT]);
        block[CHECKSUM_AT..FIELDS_END].copy_from_slice(&checksum.to_le_bytes());
    }

    /// Reads a header block.
    pub fn decode(block: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(block);
        let magic = reader.u64()?;
        if magic != MAGIC {
            let expected = format!("segment magic {MAGIC:#018x}");
            return Err(DecodeError::new(MAGIC_AT, expected, format!("{magic:#018x}")));
        }
        let Some(fields) = block.get(..FIELDS_END) else {
            let found = format!("{} bytes", block.len());
            return Err(DecodeError::new(0, format!("{SEGMENT_HEADER_BYTES} bytes"), found));
        };
        let computed = crc32c::crc32c(&fields[..CHECKSUM_AT]);
        let checksum = Reader::new(&fields[CHECKSUM_AT..]).u32()?;
        if checksum != computed {
            let expected = format!("segment header checksum {computed:#010x}");
            return Err(DecodeError::new(CHECKSUM_AT, expected, format!("{checksum:#010x}")));
        }
        let version = reader.u32()?;
        if version != VERSION {
            let expected = format!("segment version {VERSION}");
            return Err(DecodeError::new(VERSION_AT, expected, version.to_string()));
        }
        reader.zeros(IDENTITY_AT - RESERVED_AT)?;
        let header = Self {
            identity: reader.u64()?,
            epoch: Epoch::new(reader.u64()?),
            number: reader.u64()?,
            segment_bytes: reader.u64()?,
            first_lsn: Lsn::new(reader.u64()?),
            durable_lsn: Lsn::new(reader.u64()?),
        };
        reader.zeros(CHECKSUM_AT - RESERVED_TAIL_AT)?;
        reader.u32()?;
        reader.zeros(reader.remaining())?;
        if header.durable_lsn > header.first_lsn {
            let expected = format!("a stamp of at most {}", header.first_lsn);
            let found = header.durable_lsn.to_string();
            return Err(DecodeError::new(DURABLE_LSN_AT, expected, found));
        }
        Ok(header)
    }
}

/// Digits of a segment's number in its file name, so that names sort like numbers.
const NAME_DIGITS: usize = 20;
const SUFFIX: &str = ".wal";
const TEMPORARY_SUFFIX: &str = ".wal.tmp";

/// Path of a segment in the log's directory.
#[must_use]
pub fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:0NAME_DIGITS$}{SUFFIX}"))
}

/// Path of a segment while its space is being made.
pub(super) fn temporary_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:0NAME_DIGITS$}{TEMPORARY_SUFFIX}"))
}

/// The number of the segment with this file name; `None` for other files.
#[must_use]
pub fn parse_name(name: &OsStr) -> Option<u64> {
    parse(name, SUFFIX)
}

/// Whether this is the name of a segment whose space was still being made.
pub(super) fn is_temporary_name(name: &OsStr) -> bool {
    parse(name, TEMPORARY_SUFFIX).is_some()
}

fn parse(name: &OsStr, suffix: &str) -> Option<u64> {
    let digits = name.to_str()?.strip_suffix(suffix)?;
    let is_number = digits.len() == NAME_DIGITS && digits.bytes().all(|b| b.is_ascii_digit());
    if is_number { digits.parse().ok().filter(|&number| number > 0) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> (SegmentHeader, Vec<u8>) {
        let header = SegmentHeader {
            identity: 0x1122_3344_5566_7788,
            epoch: Epoch::new(3),
            number: 12,
            segment_bytes: 1 << 20,
            first_lsn: Lsn::new(0x2_0000_0010),
            durable_lsn: Lsn::new(0x2_0000_0008),
        };
        let mut block = vec![0; SEGMENT_HEADER_BYTES];
        header.encode(&mut block);
        (header, block)
    }

    #[test]
    fn header_bytes_are_those_of_the_table() {
        let (header, block) = sample();
        let hex: Vec<String> = block[..64]
            .chunks(16)
            .map(|line| line.iter().map(|byte| format!("{byte:02x}")).collect())
            .collect();
        assert_eq!(
            hex,
            [
                "53575345474d54010100000000000000",
                "88776655443322110300000000000000",
                "0c000000000000000000100000000000",
                "10000000020000000800000002000000",
            ]
        );
        assert_eq!(SegmentHeader::decode(&block), Ok(header));
    }

    #[test]
    fn every_changed_byte_is_noticed() {
        let (_, block) = sample();
        for at in 0..block.len() {
            let mut changed = block.clone();
            changed[at] ^= 1;
            assert!(SegmentHeader::decode(&changed).is_err(), "byte {at}");
        }
    }

    #[test]
    fn names_round_trip_and_others_are_not_segments() {
        for number in [1, 42, u64::MAX] {
            let path = path(Path::new("wal"), number);
            assert_eq!(parse_name(path.file_name().unwrap()), Some(number));
            assert!(!is_temporary_name(path.file_name().unwrap()));
            let path = temporary_path(Path::new("wal"), number);
            assert_eq!(parse_name(path.file_name().unwrap()), None);
            assert!(is_temporary_name(path.file_name().unwrap()));
        }
        for name in ["1.wal", "00000000000000000000.wal", "x", "99999999999999999999.wal", ".wal"] {
            assert_eq!(parse_name(OsStr::new(name)), None, "{name}");
        }
    }
}
