//! Pages of values that are too large for a leaf. They are never changed once they are linked.
//!
//! | part | place | content |
//! |---|---|---|
//! | payload | behind the header | a piece of the value |
//! | hole | | zero |
//! | owner's key | at the page's end | the key whose value it is, on an extent's first page |

use seawall_wal::codec::DecodeError;

use super::bytes::{short_at, slice_at};
use super::header::{HEADER_BYTES, LOW_LEN, PAYLOAD_LEN, PageView};
use super::node::MAX_KEY_BYTES;
use super::verify::expect_zero;

/// Longest payload beside an owner's key of `owner_key_len` bytes.
#[must_use]
pub const fn payload_bytes_max(page_bytes: usize, owner_key_len: usize) -> usize {
    page_bytes - HEADER_BYTES - owner_key_len
}

/// An overflow page. Copying it copies a reference.
#[derive(Clone, Copy, Debug)]
pub struct OverflowView<'a> {
    bytes: &'a [u8],
}

impl<'a> OverflowView<'a> {
    /// Looks at an overflow page; the caller has checked the kind.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    /// The header.
    #[must_use]
    pub const fn page(self) -> PageView<'a> {
        PageView::new(self.bytes)
    }

    /// The piece of the value.
    #[must_use]
    pub fn payload(self) -> &'a [u8] {
        slice_at(self.bytes, HEADER_BYTES..HEADER_BYTES + short_at(self.bytes, PAYLOAD_LEN))
    }

    /// The key whose value it is; empty but on an extent's first page.
    #[must_use]
    pub fn owner_key(self) -> &'a [u8] {
        let start = self.bytes.len().saturating_sub(short_at(self.bytes, LOW_LEN));
        slice_at(self.bytes, start..self.bytes.len())
    }
}

/// Checks lengths and hole.
pub(super) fn verify(bytes: &[u8]) -> Result<(), DecodeError> {
    let owner_key_len = short_at(bytes, LOW_LEN);
    if owner_key_len > MAX_KEY_BYTES {
        let most = format!("at most {MAX_KEY_BYTES} bytes");
        return Err(DecodeError::new(LOW_LEN, most, owner_key_len.to_string()));
    }
    let (payload_len, most) =
        (short_at(bytes, PAYLOAD_LEN), payload_bytes_max(bytes.len(), owner_key_len));
    if payload_len > most {
        let most = format!("at most {most} bytes");
        return Err(DecodeError::new(PAYLOAD_LEN, most, payload_len.to_string()));
    }
    expect_zero(bytes, HEADER_BYTES + payload_len, bytes.len() - owner_key_len)
}
