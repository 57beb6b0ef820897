//! The envelope of a log record, and its checksum.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 4 | length: header and stored body, without the padding behind it |
//! | 4 | 4 | checksum, see below |
//! | 8 | 1 | kind, see [`Kind`](super::Kind) |
//! | 9 | 1 | flags: bit 0, the body is lz4-compressed; the others zero |
//! | 10 | 2 | reserved, zero |
//! | 12 | 4 | length of the body before compression |
//! | 16 | 8 | transaction id, 0 for none |
//! | 24 | 8 | LSN of the transaction's previous record, 0 for none |
//! | 32 | | body |
//!
//! A record starts at a multiple of [`RECORD_ALIGN`] and is followed by zeros up to the next one.
//! Its LSN is the position of its first byte, its END the position behind its padding.
//!
//! The checksum binds content, place and epoch: `crc32c(seed, lsn || crc32c(length || bytes 8..))`,
//! with the epoch's seed. The inner sum is taken before the place is known, so that between the
//! reservation of a place and the publication of the record only this short one and a copy remain
//! (invariant W3).

use crate::codec::{DecodeError, Reader};
use crate::{Lsn, TxnId};

/// Records start at multiples of this many bytes.
pub const RECORD_ALIGN: usize = 8;
/// Length of the envelope in front of a record's body.
pub const RECORD_HEADER_BYTES: usize = 32;
/// Upper bound of a record with a page size of 8 KiB or less.
const RECORD_BYTES_MAX_SMALL_PAGES: usize = 64 << 10;

/// The largest record, envelope included: four pages and 8 KiB, or 64 KiB, the larger.
#[must_use]
pub const fn record_bytes_max(page_bytes: usize) -> usize {
    let four_pages = 4 * page_bytes + (8 << 10);
    if four_pages > RECORD_BYTES_MAX_SMALL_PAGES {
        four_pages
    } else {
        RECORD_BYTES_MAX_SMALL_PAGES
    }
}

/// Bytes that a record of `length` takes in the log, padding included.
#[must_use]
pub const fn padded(length: usize) -> usize {
    length.next_multiple_of(RECORD_ALIGN)
}

const LENGTH_AT: usize = 0;
const CHECKSUM_AT: usize = 4;
const KIND_AT: usize = 8;
const FLAGS_AT: usize = 9;
const RAW_LENGTH_AT: usize = 12;
const TXN_AT: usize = 16;
const PREV_LSN_AT: usize = 24;
const _: () = assert!(PREV_LSN_AT + 8 == RECORD_HEADER_BYTES);
const _: () = assert!(RECORD_HEADER_BYTES.is_multiple_of(RECORD_ALIGN));

/// The flag of a compressed body.
const FLAG_LZ4: u8 = 1;

/// The decoded envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Header and stored body.
    pub length: usize,
    /// Raw kind byte; [`Kind::decode`](super::Kind::decode) names it.
    pub kind: u8,
    /// Whether the body is compressed.
    pub is_lz4: bool,
    /// Length of the body before compression.
    pub raw_length: usize,
    /// The transaction that wrote it.
    pub txn: TxnId,
    /// The transaction's previous record.
    pub prev_lsn: Lsn,
    /// The stored checksum.
    pub checksum: u32,
}

impl Header {
    /// Reads the envelope at the start of `bytes`. `max` bounds the record's length, see
    /// [`record_bytes_max`].
    pub fn decode(bytes: &[u8], max: usize) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let length = usize_of(reader.u32()?);
        if !(RECORD_HEADER_BYTES..=max).contains(&length) {
            let expected = format!("a record of {RECORD_HEADER_BYTES} to {max} bytes");
            return Err(DecodeError::new(LENGTH_AT, expected, length.to_string()));
        }
        let checksum = reader.u32()?;
        let kind = reader.u8()?;
        let flags = reader.u8()?;
        if flags & !FLAG_LZ4 != 0 {
            return Err(DecodeError::new(FLAGS_AT, "known record flags", format!("{flags:#x}")));
        }
        reader.zeros(2)?;
        let is_lz4 = flags & FLAG_LZ4 != 0;
        let raw_length = usize_of(reader.u32()?);
        let stored = length - RECORD_HEADER_BYTES;
        let raw_fits =
            if is_lz4 { (stored..=max).contains(&raw_length) } else { raw_length == stored };
        if !raw_fits {
            let expected = format!("the raw length of a body of {stored} stored bytes");
            return Err(DecodeError::new(RAW_LENGTH_AT, expected, raw_length.to_string()));
        }
        let txn = TxnId::new(reader.u64()?);
        let prev_lsn = Lsn::new(reader.u64()?);
        Ok(Self { length, kind, is_lz4, raw_length, txn, prev_lsn, checksum })
    }

    /// Bytes up to the start of the next record.
    #[must_use]
    pub const fn padded_length(&self) -> usize {
        padded(self.length)
    }
}

fn usize_of(value: u32) -> usize {
    crate::codec::to_usize(u64::from(value))
}

/// Writes the envelope into the first [`RECORD_HEADER_BYTES`] of `record`, whose body is in place
/// and whose length is final. The checksum stays zero until [`seal`].
pub(super) fn write(record: &mut [u8], kind: u8, raw_length: Option<usize>, txn: TxnId, prev: Lsn) {
    let length = record.len();
    let stored = length - RECORD_HEADER_BYTES;
    let narrow = |value: usize| u32::try_from(value).expect("records are shorter than 4 GiB");
    record[LENGTH_AT..][..4].copy_from_slice(&narrow(length).to_le_bytes());
    record[CHECKSUM_AT..][..4].fill(0);
    record[KIND_AT] = kind;
    record[FLAGS_AT] = if raw_length.is_some() { FLAG_LZ4 } else { 0 };
    record[FLAGS_AT + 1..RAW_LENGTH_AT].fill(0);
    let raw_length = narrow(raw_length.unwrap_or(stored));
    record[RAW_LENGTH_AT..][..4].copy_from_slice(&raw_length.to_le_bytes());
    record[TXN_AT..][..8].copy_from_slice(&txn.get().to_le_bytes());
    record[PREV_LSN_AT..][..8].copy_from_slice(&prev.get().to_le_bytes());
}

/// The part of the checksum that does not depend on the record's place. `record` is the envelope
/// and the stored body, without padding.
#[must_use]
pub fn content_checksum(record: &[u8]) -> u32 {
    let length = crc32c::crc32c(&record[..CHECKSUM_AT]);
    crc32c::crc32c_append(length, &record[KIND_AT..])
}

/// The checksum of a record with this content at `lsn`, in the epoch with this seed.
#[must_use]
pub fn checksum(epoch_seed: u32, lsn: Lsn, content: u32) -> u32 {
    let mut bytes = [0; 12];
    bytes[..8].copy_from_slice(&lsn.get().to_le_bytes());
    bytes[8..].copy_from_slice(&content.to_le_bytes());
    crc32c::crc32c_append(epoch_seed, &bytes)
}

/// Stores the checksum in an encoded record.
pub fn seal(record: &mut [u8], checksum: u32) {
    record[CHECKSUM_AT..][..4].copy_from_slice(&checksum.to_le_bytes());
}

/// Seed of the record checksums of an epoch, from [`DatabaseId::log_identity`].
///
/// [`DatabaseId::log_identity`]: crate::DatabaseId::log_identity
#[must_use]
pub fn epoch_seed(log_identity: u64) -> u32 {
    crc32c::crc32c(&log_identity.to_le_bytes())
}

/// Decodes the envelope at the start of `bytes` and checks length, checksum and padding of the
/// record that must lie at `lsn`.
pub fn verify(bytes: &[u8], max: usize, epoch_seed: u32, lsn: Lsn) -> Result<Header, DecodeError> {
    let header = Header::decode(bytes, max)?;
    let Some(record) = bytes.get(..header.length) else {
        let found = format!("{} bytes", bytes.len());
        return Err(DecodeError::new(LENGTH_AT, format!("{} bytes", header.length), found));
    };
    let expected = checksum(epoch_seed, lsn, content_checksum(record));
    if expected != header.checksum {
        let found = format!("{:#010x}", header.checksum);
        return Err(DecodeError::new(CHECKSUM_AT, format!("checksum {expected:#010x}"), found));
    }
    let mut rest = Reader::new(bytes);
    rest.take(header.length)?;
    rest.zeros(header.padded_length() - header.length)?;
    Ok(header)
}
