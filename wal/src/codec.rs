//! Bytes of every format: little-endian numbers, LEB128 varints, and a reader that is bounded by
//! what is there (invariant L3). A value that could be written in two ways is refused in the longer
//! one, so that each format has exactly one encoding.

use std::fmt;
use std::path::Path;

use crate::{Error, Lsn};

const _: () = assert!(usize::BITS == 64, "Seawall supports 64-bit targets only");

/// `u64` of a length in memory.
#[must_use]
pub const fn to_u64(size: usize) -> u64 {
    size as u64
}

/// Length in memory of a `u64` that is known to be bounded by one.
#[must_use]
#[expect(clippy::cast_possible_truncation, reason = "usize has 64 bits, asserted above")]
pub const fn to_usize(size: u64) -> usize {
    size as usize
}

/// Bytes that do not say what they should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError {
    /// Offset in the bytes that were being read.
    pub offset: usize,
    /// What must stand there.
    pub expected: String,
    /// What does stand there.
    pub found: String,
}

impl DecodeError {
    /// A finding at `offset`.
    #[must_use]
    pub fn new(offset: usize, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self { offset, expected: expected.into(), found: found.into() }
    }

    /// The same finding about the content of the record at `lsn`, whose checksum holds. Its offset is of
    /// a body that may have been decompressed, and goes: the place is the record's.
    #[must_use]
    pub fn in_record(self, lsn: Lsn) -> Self {
        let expected = format!("{} in the record at {lsn}", self.expected);
        Self { offset: 0, expected, found: self.found }
    }

    /// The same finding as damage of `file`, where the bytes began at `base_offset`.
    #[must_use]
    pub fn in_file(self, file: &Path, base_offset: u64) -> Error {
        Error::corrupt(file, base_offset + to_u64(self.offset), self.expected, self.found)
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at byte {}: expected {}, found {}", self.offset, self.expected, self.found)
    }
}

impl std::error::Error for DecodeError {}

/// Appends encoded values to a byte vector.
pub trait Encode {
    /// One byte.
    fn put_u8(&mut self, value: u8);
    /// Two bytes, little-endian.
    fn put_u16(&mut self, value: u16);
    /// Four bytes, little-endian.
    fn put_u32(&mut self, value: u32);
    /// Eight bytes, little-endian.
    fn put_u64(&mut self, value: u64);
    /// One to ten bytes, seven bits each, lowest first.
    fn put_varint(&mut self, value: u64);
    /// A signed number, zigzag-coded so that small magnitudes are short.
    fn put_varint_signed(&mut self, value: i64);
    /// A varint length, then the bytes.
    fn put_bytes(&mut self, bytes: &[u8]);
}

impl Encode for Vec<u8> {
    fn put_u8(&mut self, value: u8) {
        self.push(value);
    }

    fn put_u16(&mut self, value: u16) {
        self.extend_from_slice(&value.to_le_bytes());
    }

    fn put_u32(&mut self, value: u32) {
        self.extend_from_slice(&value.to_le_bytes());
    }

    fn put_u64(&mut self, value: u64) {
        self.extend_from_slice(&value.to_le_bytes());
    }

    fn put_varint(&mut self, mut value: u64) {
        loop {
            let [low, ..] = value.to_le_bytes();
            value >>= 7;
            if value == 0 {
                self.push(low & 0x7f);
                return;
            }
            self.push(low | 0x80);
        }
    }

    fn put_varint_signed(&mut self, value: i64) {
        self.put_varint((value.cast_unsigned() << 1) ^ (value >> 63).cast_unsigned());
    }

    fn put_bytes(&mut self, bytes: &[u8]) {
        self.put_varint(to_u64(bytes.len()));
        self.extend_from_slice(bytes);
    }
}

/// Reads encoded values from a slice and never past its end.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    /// Reads `bytes` from the start.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, offset: 0 }
    }

    /// How far it has read.
    #[must_use]
    pub const fn offset(&self) -> usize {
        self.offset
    }

    /// What is left.
    #[must_use]
    pub const fn remaining(&self) -> usize {
        self.bytes.len() - self.offset
    }

    /// A finding at the current offset.
    #[must_use]
    pub fn error(&self, expected: impl Into<String>, found: impl Into<String>) -> DecodeError {
        DecodeError::new(self.offset, expected, found)
    }

    /// The next `count` bytes.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let rest = &self.bytes[self.offset..];
        if count > rest.len() {
            return Err(self.error(format!("{count} bytes"), format!("{} bytes", rest.len())));
        }
        self.offset += count;
        Ok(&rest[..count])
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let bytes = self.take(N)?;
        Ok(std::array::from_fn(|i| bytes[i]))
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// Two bytes, little-endian.
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        self.array().map(u16::from_le_bytes)
    }

    /// Four bytes, little-endian.
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        self.array().map(u32::from_le_bytes)
    }

    /// Eight bytes, little-endian.
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        self.array().map(u64::from_le_bytes)
    }

    /// A varint in its shortest form.
    pub fn varint(&mut self) -> Result<u64, DecodeError> {
        let start = self.offset;
        let mut value = 0_u64;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            let overflows = bits << shift >> shift != bits;
            let padded = byte == 0 && shift > 0;
            if overflows || padded {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::new(start, "a number in its shortest form", "another form"))
    }

    /// A signed varint.
    pub fn varint_signed(&mut self) -> Result<i64, DecodeError> {
        let raw = self.varint()?;
        Ok((raw >> 1).cast_signed() ^ -(raw & 1).cast_signed())
    }

    /// A varint length of at most `max`, then that many bytes.
    pub fn bytes(&mut self, max: usize) -> Result<&'a [u8], DecodeError> {
        let count = self.count(max)?;
        self.take(count)
    }

    /// A varint count of at most `max`. Bounds what a caller may allocate.
    pub fn count(&mut self, max: usize) -> Result<usize, DecodeError> {
        let start = self.offset;
        let count = self.varint()?;
        if count > to_u64(max) {
            return Err(DecodeError::new(start, format!("at most {max}"), count.to_string()));
        }
        Ok(to_usize(count))
    }

    /// `count` bytes that must be zero.
    pub fn zeros(&mut self, count: usize) -> Result<(), DecodeError> {
        let start = self.offset;
        match self.take(count)?.iter().position(|&byte| byte != 0) {
            None => Ok(()),
            Some(at) => Err(DecodeError::new(start + at, "a zero byte", "another value")),
        }
    }

    /// Nothing may be left.
    pub fn finish(self) -> Result<(), DecodeError> {
        match self.remaining() {
            0 => Ok(()),
            left => Err(self.error("the end", format!("{left} more bytes"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varints_round_trip_at_every_bit_length() {
        for bits in 0..64 {
            for value in [1_u64 << bits, (1_u64 << bits) - 1, u64::MAX >> bits] {
                let mut bytes = Vec::new();
                bytes.put_varint(value);
                bytes.put_varint_signed(value.cast_signed());
                let mut reader = Reader::new(&bytes);
                assert_eq!(reader.varint(), Ok(value));
                assert_eq!(reader.varint_signed(), Ok(value.cast_signed()));
                assert_eq!(reader.finish(), Ok(()));
            }
        }
    }

    #[test]
    fn longer_forms_and_overflows_of_a_varint_are_refused() {
        let padded = [0x80, 0x00];
        let eleven_bytes = [0x80; 11];
        let above_u64 = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02];
        for bytes in [&padded[..], &eleven_bytes[..], &above_u64[..], &[0x80][..]] {
            assert!(Reader::new(bytes).varint().is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn a_length_beyond_the_end_or_the_bound_is_refused() {
        let mut bytes = Vec::new();
        bytes.put_bytes(b"abc");
        assert_eq!(Reader::new(&bytes).bytes(3), Ok(&b"abc"[..]));
        assert!(Reader::new(&bytes).bytes(2).is_err());
        assert!(Reader::new(&bytes[..3]).bytes(3).is_err());
    }
}
