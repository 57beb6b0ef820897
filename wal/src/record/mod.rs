//! Log records: what a change of pages, the end of a transaction or a checkpoint looks like in the
//! log. This module owns their encoding; it never looks inside a page.
//!
//! A record is an envelope ([`header`]) and a body ([`Body`]). The body of a change holds one
//! reference per page it touches ([`PageRef`]), each with the operations ([`Op`]) that redo applies
//! to that page alone (invariant R1). Operations on user data carry the full key, and the image
//! before the change where undo needs it; redo works by key, never by byte offset.

mod body;
mod encoder;
pub mod header;
mod op;

pub use body::{
    Body, CheckpointChunk, CheckpointEnd, CommitInfo, EXTENT_PAGES_MAX, Extent, Kind, TreeDelta,
};
pub use encoder::{EncodedRecord, RecordEncoder};
pub use header::{Header, RECORD_ALIGN, RECORD_HEADER_BYTES, padded, record_bytes_max};
pub use op::{Cell, Op, PageRef, Stamp, WriteKind};

use std::borrow::Cow;

use crate::codec::{DecodeError, Reader};
use crate::{Lsn, TxnId};

/// A decoded record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// The transaction that wrote it; [`TxnId::NONE`] for redo-only and checkpoint records.
    pub txn: TxnId,
    /// The transaction's previous record.
    pub prev_lsn: Lsn,
    /// What it says.
    pub body: Body<'a>,
}

/// The body bytes of a record whose checksum was verified, decompressed where needed.
pub fn body_bytes<'a>(header: &Header, record: &'a [u8]) -> Result<Cow<'a, [u8]>, DecodeError> {
    let stored = &record[RECORD_HEADER_BYTES..header.length];
    if !header.is_lz4 {
        return Ok(Cow::Borrowed(stored));
    }
    let mut raw = vec![0; header.raw_length];
    let found = match lz4_flex::block::decompress_into(stored, &mut raw) {
        Ok(length) if length == raw.len() => return Ok(Cow::Owned(raw)),
        Ok(length) => format!("{length} bytes"),
        Err(error) => error.to_string(),
    };
    let expected = format!("an lz4 block of {} bytes", header.raw_length);
    Err(DecodeError::new(RECORD_HEADER_BYTES, expected, found))
}

/// Decodes the body of a record from what [`body_bytes`] returned.
pub fn decode<'a>(header: &Header, body: &'a [u8]) -> Result<Record<'a>, DecodeError> {
    let mut reader = Reader::new(body);
    let body = Body::decode(Kind::decode(header.kind)?, &mut reader)?;
    reader.finish()?;
    Ok(Record { txn: header.txn, prev_lsn: header.prev_lsn, body })
}

#[cfg(test)]
mod tests;
