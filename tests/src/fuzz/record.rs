//! Records: the envelope, and the body behind it.
//!
//! | input | |
//! |---|---|
//! | 1 byte | 1: the lengths in the envelope are put right |
//! | the rest | a record, from its envelope on |

use seawall_wal::record::header::Header;
use seawall_wal::record::{
    RECORD_HEADER_BYTES, Record, RecordEncoder, body_bytes, decode, record_bytes_max,
};

/// The longest record with pages of 4 KiB.
pub(super) const MAX: usize = record_bytes_max(4096);

/// Bytes as a record: what decodes is what its encoding says, and has no other one.
pub fn record(bytes: &[u8]) {
    let Some((flags, bytes)) = bytes.split_first() else { return };
    let mut bytes = bytes.to_vec();
    if flags & 1 == 1 {
        put_lengths_right(&mut bytes);
    }
    if let Ok(header) = Header::decode(&bytes, MAX)
        && bytes.len() >= header.length
    {
        read(&header, &bytes[..header.length]);
    }
}

/// The input for a record.
pub(super) fn input(record: &[u8]) -> Vec<u8> {
    [&[1], record].concat()
}

/// The length of the whole, and that of a body that is not compressed.
fn put_lengths_right(bytes: &mut [u8]) {
    let length = bytes.len().min(MAX);
    if length < RECORD_HEADER_BYTES {
        return;
    }
    let number = |length: usize| u32::try_from(length).expect("at most MAX").to_le_bytes();
    bytes[..4].copy_from_slice(&number(length));
    let is_lz4 = bytes[9] & 1 == 1;
    if !is_lz4 {
        bytes[12..16].copy_from_slice(&number(length - RECORD_HEADER_BYTES));
    }
}

/// Decodes a record, where it is one, and encodes it again.
pub(super) fn read(header: &Header, record: &[u8]) {
    let Ok(body) = body_bytes(header, record) else { return };
    assert_eq!(body.len(), header.raw_length, "a body of another length");
    let Ok(decoded) = decode(header, &body) else { return };
    let Record { txn, prev_lsn, body: ref said } = decoded;
    let mut encoder = RecordEncoder::new();
    let encoded = encoder.encode(txn, prev_lsn, said);
    assert_eq!(encoded.raw_length, body.len(), "{said:?}");
    let again = Header::decode(encoded.bytes, usize::MAX).expect("what was just encoded");
    let same = body_bytes(&again, encoded.bytes).expect("what was just encoded");
    assert!(same == body, "two encodings of {said:?}");
    assert_eq!(decode(&again, &same).as_ref(), Ok(&decoded));
}
