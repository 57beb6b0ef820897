//! Encoding of a record in scratch memory, before its place in the log is known.

use crate::{Lsn, TxnId};

use super::body::Body;
use super::header::{self, RECORD_HEADER_BYTES, content_checksum, padded};

/// Bodies shorter than this are not tried with lz4.
const COMPRESS_BYTES_MIN: usize = 1024;
/// A compressed body is kept when it saves at least one part in this many.
const COMPRESS_GAIN: usize = 8;
/// Of a body several times as long, so many bytes from its middle are tried first: where random
/// values do not shrink there, the rest is not worth the time.
const SAMPLE_BYTES: usize = 512;

/// Scratch memory of one appender, used again for each of its records.
#[derive(Debug, Default)]
pub struct RecordEncoder {
    record: Vec<u8>,
    compressed: Vec<u8>,
}

/// A record ready to be given a place: everything but its checksum is final.
#[derive(Clone, Copy, Debug)]
pub struct EncodedRecord<'a> {
    /// Envelope and stored body, without padding.
    pub bytes: &'a [u8],
    /// Bytes of the body before it was compressed.
    pub raw_length: usize,
    /// [`content_checksum`] of `bytes`.
    pub content_checksum: u32,
}

impl EncodedRecord<'_> {
    /// Bytes that it takes in the log.
    #[must_use]
    pub const fn padded_length(&self) -> usize {
        padded(self.bytes.len())
    }

    /// Whether readers take it, who refuse what is longer than `max` before or after compression; see
    /// [`record_bytes_max`](super::record_bytes_max).
    #[must_use]
    pub const fn fits(&self, max: usize) -> bool {
        self.bytes.len() <= max && self.raw_length <= max
    }
}

impl RecordEncoder {
    /// Scratch memory, empty at first.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Encodes a record. The result lives until the next call.
    pub fn encode(&mut self, txn: TxnId, prev_lsn: Lsn, body: &Body<'_>) -> EncodedRecord<'_> {
        self.record.clear();
        self.record.resize(RECORD_HEADER_BYTES, 0);
        body.encode(&mut self.record);
        let raw_length = self.record.len() - RECORD_HEADER_BYTES;
        let compressed_from = self.compress().then_some(raw_length);
        header::write(&mut self.record, body.kind().encode(), compressed_from, txn, prev_lsn);
        let content_checksum = content_checksum(&self.record);
        EncodedRecord { bytes: &self.record, raw_length, content_checksum }
    }

    /// Replaces the body by its compressed form where that pays, and says whether it did.
    fn compress(&mut self) -> bool {
        let raw = &self.record[RECORD_HEADER_BYTES..];
        if raw.len() < COMPRESS_BYTES_MIN {
            return false;
        }
        self.compressed.resize(lz4_flex::block::get_maximum_output_size(raw.len()), 0);
        let mut compress = |raw: &[u8]| {
            lz4_flex::block::compress_into(raw, &mut self.compressed)
                .expect("the buffer has the size that lz4 names as sufficient")
        };
        if raw.len() >= 4 * SAMPLE_BYTES {
            let start = (raw.len() - SAMPLE_BYTES) / 2;
            let sample = &raw[start..start + SAMPLE_BYTES];
            if compress(sample) >= sample.len() {
                return false;
            }
        }
        let (length, raw_length) = (compress(raw), raw.len());
        if length > raw_length - raw_length / COMPRESS_GAIN {
            return false;
        }
        self.record.truncate(RECORD_HEADER_BYTES);
        self.record.extend_from_slice(&self.compressed[..length]);
        true
    }
}
