//! The frame: what one write to the log looks like. This module owns its format and says when a
//! frame is valid; where frames lie is the business of [`Segments`](super::Segments).
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | magic |
//! | 8 | 4 | format version |
//! | 12 | 4 | record count |
//! | 16 | 8 | log identity, see [`DatabaseId::log_identity`] |
//! | 24 | 8 | epoch |
//! | 32 | 8 | `frame_lsn`: position of the payload's first byte |
//! | 40 | 4 | payload length |
//! | 44 | 4 | checksum of the previous frame's header |
//! | 48 | 8 | `prev_frame_lsn`: `frame_lsn` of the previous frame |
//! | 56 | 8 | `durable_lsn` known when the header was sealed: the stamp |
//! | 64 | 8 | key id, reserved for encryption, zero |
//! | 72 | 16 | tag, reserved for encryption, zero |
//! | 88 | 36 | reserved, zero |
//! | 124 | 4 | CRC-32C of bytes 0 to 124 |
//! | 128 | | payload: whole records, one behind the other |
//! | | | zeros up to a multiple of [`BLOCK_BYTES`] |
//!
//! A frame without payload is legal (a stamp frame, written when the log goes idle after a flush):
//! its `frame_lsn` is the next payload's position, which the frame behind it repeats. So the chain
//! is one of header checksums, and of positions only beside that.
//!
//! The first frame of an epoch cannot name a predecessor: the last frame of the epoch before may be
//! known only as far as its payload was accepted. It carries the entry's `continues_from_lsn` as
//! `prev_frame_lsn`, and 0 as the checksum. What ties it to its place is the entry in `control`.
//!
//! A frame is valid if and only if the header's checksum, the checksum of every record, the sum of
//! the records' lengths and their count hold, and the padding is zero. Its stamp counts whenever
//! the header's checksum holds: a torn payload does not make an older truth untrue.
//!
//! [`DatabaseId::log_identity`]: crate::DatabaseId::log_identity

use crate::codec::{DecodeError, Reader, to_u64, to_usize};
use crate::disk::BLOCK_BYTES;
use crate::record::{Header, RECORD_ALIGN, RECORD_HEADER_BYTES, header};
use crate::{Epoch, Lsn};

/// Length of the header in front of a frame's payload.
pub const FRAME_HEADER_BYTES: usize = 128;
/// Longest payload of a frame.
pub const FRAME_PAYLOAD_BYTES_MAX: usize = 1 << 20;

/// Most frames of the largest size that may be on their way to the disk at once.
pub const IN_FLIGHT_FRAMES_MAX: usize = 4;
/// Bytes of file, counted from the start of the oldest frame that `durable_lsn` does not cover,
/// within which every write of the log must end. The append side starts no frame that would end
/// beyond, and seals a header only after it has checked this, so that a frame behind this range
/// carries a stamp that covers its first frame. The decision where the log ends relies on it: it
/// scans this far, and one header further.
pub const IN_FLIGHT_BYTES_MAX: u64 =
    to_u64(IN_FLIGHT_FRAMES_MAX * frame_bytes(FRAME_PAYLOAD_BYTES_MAX));

/// `SWFRAME` and the byte 1.
const MAGIC: u64 = u64::from_le_bytes(*b"SWFRAME\x01");
/// Version of the frame format.
const VERSION: u32 = 1;

const MAGIC_AT: usize = 0;
const VERSION_AT: usize = 8;
const RECORD_COUNT_AT: usize = 12;
const IDENTITY_AT: usize = 16;
const EPOCH_AT: usize = 24;
const FRAME_LSN_AT: usize = 32;
const PAYLOAD_BYTES_AT: usize = 40;
const PREV_CHECKSUM_AT: usize = 44;
const PREV_FRAME_LSN_AT: usize = 48;
const DURABLE_LSN_AT: usize = 56;
const KEY_ID_AT: usize = 64;
const TAG_AT: usize = KEY_ID_AT + 8;
const RESERVED_AT: usize = TAG_AT + 16;
const CHECKSUM_AT: usize = RESERVED_AT + 36;
const _: () = assert!(CHECKSUM_AT + 4 == FRAME_HEADER_BYTES);
const _: () = assert!(FRAME_HEADER_BYTES.is_multiple_of(RECORD_ALIGN));
const _: () = assert!(FRAME_PAYLOAD_BYTES_MAX.is_multiple_of(RECORD_ALIGN));
const _: () = assert!(BLOCK_BYTES.is_multiple_of(FRAME_HEADER_BYTES));

/// Bytes that a frame with `payload` bytes takes in its file: header, payload and padding.
#[must_use]
pub const fn frame_bytes(payload: usize) -> usize {
    (FRAME_HEADER_BYTES + payload).next_multiple_of(BLOCK_BYTES)
}

/// The decoded header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Log identity of the epoch.
    pub identity: u64,
    /// The epoch.
    pub epoch: Epoch,
    /// Position of the payload's first byte.
    pub frame_lsn: Lsn,
    /// Length of the payload, a multiple of [`RECORD_ALIGN`], at most
    /// [`FRAME_PAYLOAD_BYTES_MAX`].
    pub payload_bytes: usize,
    /// `frame_lsn` of the frame before; `continues_from_lsn` in the first frame of an epoch.
    pub prev_frame_lsn: Lsn,
    /// Checksum of the header of the frame before; 0 in the first frame of an epoch.
    pub prev_checksum: u32,
    /// Everything below this position was durable when the header was sealed.
    pub durable_lsn: Lsn,
    /// Number of records in the payload.
    pub record_count: u32,
}

impl FrameHeader {
    /// Position behind the payload.
    #[must_use]
    pub const fn end_lsn(&self) -> Lsn {
        self.frame_lsn.advance(to_u64(self.payload_bytes))
    }

    /// Bytes of the whole frame in its file.
    #[must_use]
    pub const fn frame_bytes(&self) -> usize {
        frame_bytes(self.payload_bytes)
    }

    /// Writes the header into the first [`FRAME_HEADER_BYTES`] of `out` and returns its checksum,
    /// which the next frame repeats.
    ///
    /// # Panics
    /// When the lengths or positions break the rules of the format.
    pub fn encode(&self, out: &mut [u8]) -> u32 {
        if let Err(broken) = self.check() {
            panic!("a frame header that must not be written: {broken}");
        }
        let payload = u32::try_from(self.payload_bytes).expect("at most FRAME_PAYLOAD_BYTES_MAX");
        let out = &mut out[..FRAME_HEADER_BYTES];
        out.fill(0);
        out[MAGIC_AT..][..8].copy_from_slice(&MAGIC.to_le_bytes());
        out[VERSION_AT..][..4].copy_from_slice(&VERSION.to_le_bytes());
        out[RECORD_COUNT_AT..][..4].copy_from_slice(&self.record_count.to_le_bytes());
        out[IDENTITY_AT..][..8].copy_from_slice(&self.identity.to_le_bytes());
        out[EPOCH_AT..][..8].copy_from_slice(&self.epoch.get().to_le_bytes());
        out[FRAME_LSN_AT..][..8].copy_from_slice(&self.frame_lsn.get().to_le_bytes());
        out[PAYLOAD_BYTES_AT..][..4].copy_from_slice(&payload.to_le_bytes());
        out[PREV_CHECKSUM_AT..][..4].copy_from_slice(&self.prev_checksum.to_le_bytes());
        out[PREV_FRAME_LSN_AT..][..8].copy_from_slice(&self.prev_frame_lsn.get().to_le_bytes());
        out[DURABLE_LSN_AT..][..8].copy_from_slice(&self.durable_lsn.get().to_le_bytes());
        let checksum = crc32c::crc32c(&out[..CHECKSUM_AT]);
        out[CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
        checksum
    }

    /// Reads the header at the start of `bytes` and returns its checksum beside it. It must be one
    /// of the log with this identity.
    pub fn decode(bytes: &[u8], identity: u64) -> Result<(Self, u32), DecodeError> {
        let (header, checksum) = Self::decode_any(bytes)?;
        if header.identity != identity {
            return Err(DecodeError::new(
                IDENTITY_AT,
                format!("log identity {identity:#018x}"),
                format!("{:#018x} (epoch {})", header.identity, header.epoch),
            ));
        }
        Ok((header, checksum))
    }

    /// Reads the header at the start of `bytes`, whatever log it belongs to.
    pub fn decode_any(bytes: &[u8]) -> Result<(Self, u32), DecodeError> {
        let mut reader = Reader::new(bytes);
        let magic = reader.u64()?;
        if magic != MAGIC {
            let found = format!("{magic:#018x}");
            return Err(DecodeError::new(MAGIC_AT, format!("frame magic {MAGIC:#018x}"), found));
        }
        let Some(header) = bytes.get(..FRAME_HEADER_BYTES) else {
            let expected = format!("{FRAME_HEADER_BYTES} bytes of frame header");
            return Err(DecodeError::new(MAGIC_AT, expected, format!("{} bytes", bytes.len())));
        };
        let computed = crc32c::crc32c(&header[..CHECKSUM_AT]);
        let checksum = Reader::new(&header[CHECKSUM_AT..]).u32()?;
        if checksum != computed {
            let expected = format!("frame header checksum {computed:#010x}");
            return Err(DecodeError::new(CHECKSUM_AT, expected, format!("{checksum:#010x}")));
        }
        let version = reader.u32()?;
        if version != VERSION {
            let expected = format!("frame version {VERSION}");
            return Err(DecodeError::new(VERSION_AT, expected, version.to_string()));
        }
        let record_count = reader.u32()?;
        let identity = reader.u64()?;
        let epoch = Epoch::new(reader.u64()?);
        let frame_lsn = Lsn::new(reader.u64()?);
        let payload_bytes = to_usize(u64::from(reader.u32()?));
        let prev_checksum = reader.u32()?;
        let prev_frame_lsn = Lsn::new(reader.u64()?);
        let durable_lsn = Lsn::new(reader.u64()?);
        reader.zeros(CHECKSUM_AT - KEY_ID_AT)?;
        let header = Self {
            identity,
            epoch,
            frame_lsn,
            payload_bytes,
            prev_frame_lsn,
            prev_checksum,
            durable_lsn,
            record_count,
        };
        header.check()?;
        Ok((header, checksum))
    }

    /// What the fields owe to each other.
    fn check(&self) -> Result<(), DecodeError> {
        let payload = self.payload_bytes;
        if payload > FRAME_PAYLOAD_BYTES_MAX || !payload.is_multiple_of(RECORD_ALIGN) {
            let expected = format!("at most {FRAME_PAYLOAD_BYTES_MAX}, in steps of {RECORD_ALIGN}");
            return Err(DecodeError::new(PAYLOAD_BYTES_AT, expected, payload.to_string()));
        }
        let fits = u64::from(self.record_count) <= to_u64(payload / RECORD_HEADER_BYTES);
        if !fits || (self.record_count == 0) != (payload == 0) {
            let expected = format!("a count of records that fits {payload} bytes");
            return Err(DecodeError::new(RECORD_COUNT_AT, expected, self.record_count.to_string()));
        }
        if self.frame_lsn.get().checked_add(to_u64(payload)).is_none() {
            let found = self.frame_lsn.to_string();
            return Err(DecodeError::new(FRAME_LSN_AT, "a position that does not wrap", found));
        }
        if self.prev_frame_lsn > self.frame_lsn {
            let expected = format!("at most {}", self.frame_lsn);
            let found = self.prev_frame_lsn.to_string();
            return Err(DecodeError::new(PREV_FRAME_LSN_AT, expected, found));
        }
        if self.durable_lsn > self.frame_lsn {
            let expected = format!("a stamp of at most {}", self.frame_lsn);
            let found = self.durable_lsn.to_string();
            return Err(DecodeError::new(DURABLE_LSN_AT, expected, found));
        }
        Ok(())
    }
}

/// Checks the payload of a frame: every record's envelope and checksum, the sum of the lengths, and
/// the count. `payload` is as long as the header says; offsets of findings count from its start.
pub fn verify_payload(
    frame: &FrameHeader,
    payload: &[u8],
    epoch_seed: u32,
    record_bytes_max: usize,
) -> Result<(), DecodeError> {
    assert_eq!(payload.len(), frame.payload_bytes, "the payload is as long as its header says");
    let mut count = 0_u32;
    for record in Records::new(frame, payload, epoch_seed, record_bytes_max) {
        record?;
        count += 1;
    }
    if count != frame.record_count {
        let expected = format!("{} records", frame.record_count);
        return Err(DecodeError::new(0, expected, count.to_string()));
    }
    Ok(())
}

/// Checks all of a frame behind its header: payload and padding. `bytes` starts with the header and
/// holds the whole frame; offsets of findings count from its start.
pub fn verify_frame(
    frame: &FrameHeader,
    bytes: &[u8],
    epoch_seed: u32,
    record_bytes_max: usize,
) -> Result<(), DecodeError> {
    let payload_end = FRAME_HEADER_BYTES + frame.payload_bytes;
    let payload = &bytes[FRAME_HEADER_BYTES..payload_end];
    verify_payload(frame, payload, epoch_seed, record_bytes_max)
        .map_err(|error| DecodeError { offset: FRAME_HEADER_BYTES + error.offset, ..error })?;
    let padding = &bytes[payload_end..frame.frame_bytes()];
    Reader::new(padding)
        .zeros(padding.len())
        .map_err(|error| DecodeError { offset: payload_end + error.offset, ..error })
}

/// The records of a frame's payload, each verified on its way out; ends after the first error.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    payload: &'a [u8],
    offset: usize,
    frame_lsn: Lsn,
    epoch_seed: u32,
    record_bytes_max: usize,
}

/// A verified record inside a payload.
#[derive(Clone, Copy, Debug)]
pub struct FrameRecord<'a> {
    /// Position of its first byte.
    pub lsn: Lsn,
    /// Position behind its padding.
    pub end_lsn: Lsn,
    /// The envelope.
    pub header: Header,
    /// Envelope and stored body, without padding.
    pub bytes: &'a [u8],
}

impl<'a> Records<'a> {
    /// Iterates over `payload`, which begins at the frame's LSN.
    #[must_use]
    pub const fn new(
        frame: &FrameHeader,
        payload: &'a [u8],
        epoch_seed: u32,
        record_bytes_max: usize,
    ) -> Self {
        Self { payload, offset: 0, frame_lsn: frame.frame_lsn, epoch_seed, record_bytes_max }
    }

    fn read(&self) -> Result<FrameRecord<'a>, DecodeError> {
        let rest = &self.payload[self.offset..];
        let lsn = self.frame_lsn.advance(to_u64(self.offset));
        let header = header::verify(rest, self.record_bytes_max, self.epoch_seed, lsn)?;
        let end_lsn = lsn.advance(to_u64(header.padded_length()));
        Ok(FrameRecord { lsn, end_lsn, header, bytes: &rest[..header.length] })
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<FrameRecord<'a>, DecodeError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.offset == self.payload.len() {
            return None;
        }
        let start = self.offset;
        let record = self.read();
        self.offset = match &record {
            Ok(record) => start + record.header.padded_length(),
            Err(_) => self.payload.len(),
        };
        Some(record.map_err(|error| DecodeError { offset: start + error.offset, ..error }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TxnId;
    use crate::record::{Body, RecordEncoder, padded, record_bytes_max};

    const IDENTITY: u64 = 0x1122_3344_5566_7788;

    fn sealed_payload(frame_lsn: Lsn, notes: &[&[u8]]) -> Vec<u8> {
        let seed = header::epoch_seed(IDENTITY);
        let mut encoder = RecordEncoder::new();
        let mut payload = Vec::new();
        for note in notes {
            let lsn = frame_lsn.advance(to_u64(payload.len()));
            let encoded = encoder.encode(TxnId::NONE, Lsn::NONE, &Body::Note(note));
            let mut record = encoded.bytes.to_vec();
            header::seal(&mut record, header::checksum(seed, lsn, encoded.content_checksum));
            record.resize(padded(record.len()), 0);
            payload.extend_from_slice(&record);
        }
        payload
    }

    fn sample(notes: &[&[u8]]) -> (FrameHeader, Vec<u8>) {
        let frame_lsn = Lsn::new(0x1_0000_1000);
        let payload = sealed_payload(frame_lsn, notes);
        let header = FrameHeader {
            identity: IDENTITY,
            epoch: Epoch::new(7),
            frame_lsn,
            payload_bytes: payload.len(),
            prev_frame_lsn: Lsn::new(0x1_0000_0800),
            prev_checksum: 0xdead_beef,
            durable_lsn: Lsn::new(0x1_0000_0400),
            record_count: u32::try_from(notes.len()).unwrap(),
        };
        let mut bytes = vec![0; header.frame_bytes()];
        header.encode(&mut bytes);
        bytes[FRAME_HEADER_BYTES..][..payload.len()].copy_from_slice(&payload);
        (header, bytes)
    }

    fn fits(bytes: &[u8]) -> Result<(), DecodeError> {
        let (header, _) = FrameHeader::decode(bytes, IDENTITY)?;
        verify_frame(&header, bytes, header::epoch_seed(IDENTITY), record_bytes_max(4096))
    }

    #[test]
    fn header_bytes_are_those_of_the_table() {
        let (header, bytes) = sample(&[b"one", b"two"]);
        let hex: Vec<String> = bytes[..FRAME_HEADER_BYTES]
            .chunks(16)
            .map(|line| line.iter().map(|byte| format!("{byte:02x}")).collect())
            .collect();
        let zeros = "0".repeat(32);
        assert_eq!(
            hex,
            [
                "53574652414d45010100000002000000",
                "88776655443322110700000000000000",
                "00100000010000005000000 0efbeadde".replace(' ', "").as_str(),
                "00080000010000000004000001000000",
                zeros.as_str(),
                zeros.as_str(),
                zeros.as_str(),
                format!("{}{}", &zeros[..24], &hex[7][24..]).as_str(),
            ]
        );
        let (decoded, checksum) = FrameHeader::decode(&bytes, IDENTITY).unwrap();
        assert_eq!(decoded, header);
        assert_eq!(checksum, crc32c::crc32c(&bytes[..CHECKSUM_AT]));
    }

    #[test]
    fn a_frame_and_its_records_round_trip() {
        let (header, bytes) = sample(&[b"one", &[7; 5000]]);
        assert_eq!(fits(&bytes), Ok(()));
        let payload = &bytes[FRAME_HEADER_BYTES..][..header.payload_bytes];
        let seed = header::epoch_seed(IDENTITY);
        let records: Vec<_> = Records::new(&header, payload, seed, record_bytes_max(4096))
            .map(Result::unwrap)
            .collect();
        assert_eq!(records.len(), 2);
        assert_eq!(records[0].lsn, header.frame_lsn);
        assert_eq!(records[0].end_lsn, records[1].lsn);
        assert_eq!(records[1].end_lsn, header.end_lsn());
    }

    #[test]
    fn a_stamp_frame_takes_one_block_and_no_log() {
        let (header, bytes) = sample(&[]);
        assert_eq!(bytes.len(), BLOCK_BYTES);
        assert_eq!(header.end_lsn(), header.frame_lsn);
        assert_eq!(fits(&bytes), Ok(()));
    }

    #[test]
    fn every_changed_byte_of_a_frame_is_noticed() {
        let (_, bytes) = sample(&[b"one", b"two"]);
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0x10;
            assert!(fits(&changed).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_frame_cut_at_any_sector_is_noticed() {
        let incompressible: Vec<u8> =
            (0..2250_u32).flat_map(|i| crc32c::crc32c(&i.to_le_bytes()).to_le_bytes()).collect();
        let (_, bytes) = sample(&[&[1; 900], &incompressible]);
        assert_eq!(bytes.len(), 3 * BLOCK_BYTES);
        let end = bytes.iter().rposition(|&byte| byte != 0).unwrap();
        for at in (0..=end).step_by(512) {
            let mut torn = bytes.clone();
            torn[at..].fill(0);
            assert!(fits(&torn).is_err(), "cut at {at}");
            let mut hole = bytes.clone();
            hole[at..(at + 512).min(bytes.len())].fill(0);
            assert!(hole == bytes || fits(&hole).is_err(), "hole at {at}");
        }
    }

    #[test]
    fn a_frame_of_another_log_is_refused() {
        let (_, bytes) = sample(&[b"one"]);
        assert!(FrameHeader::decode_any(&bytes).is_ok());
        assert!(FrameHeader::decode(&bytes, IDENTITY + 1).is_err());
    }

    #[test]
    fn a_stamp_beyond_the_frame_is_refused() {
        let (header, _) = sample(&[b"one"]);
        let lying = FrameHeader { durable_lsn: header.frame_lsn.advance(8), ..header };
        assert!(lying.check().is_err());
        let miscounted = FrameHeader { record_count: 0, ..header };
        assert!(miscounted.check().is_err());
        let odd = FrameHeader { payload_bytes: header.payload_bytes + 1, ..header };
        assert!(odd.check().is_err());
    }
}
