//! How keys stand in the engine's trees.
//!
//! Each of the sixteen databases is shown by one *space*, whose number stands in the tree
//! `redis.databases`; FLUSHDB gives a database a new space and drops the trees of the old one, SWAPDB
//! exchanges two numbers. The trees of a space:
//!
//! | tree | key | value |
//! |---|---|---|
//! | `redis.databases` | database, 1 byte | number of its space, 8 bytes |
//! | `redis.keys.N` | the key, behind a zero byte where it is empty or begins with one | the row below |
//! | `redis.expiry.N` | expiry, 8 bytes big-endian, then the key | nothing |
//! | `redis.members.N` | version of the collection, 8 bytes big-endian, then the member's own key | the member |
//!
//! The engine's keys are never empty; with the zero byte they keep the order of the clients' keys.
//!
//! The row of a key:
//!
//! | offset | bytes | what |
//! |---|---|---|
//! | 0 | 1 | bits 0-3: [`Kind`]; bit 4: it expires; bits 5-7: zero |
//! | 1 | 0 or 8 | expiry, milliseconds since 1970, little-endian, where bit 4 is set |
//! | then | rest | string: the value; collection: its version, 8 bytes, and number of members, 8 bytes, little-endian |
//!
//! A collection's version is the log position at which it was made, and so never used again: members
//! are found by it, renaming a collection moves no member, and members of a deleted one can be removed
//! later without being mistaken for those of a new collection under the same key.
//!
//! A row with `expiry <= now` is absent for every command; the purge removes it, and its row of the
//! time index, in one logged transaction. Replay looks at no clock.

use std::borrow::Cow;

use seawall::Error;

use crate::failure::{Failure, Outcome};

const KIND_BITS: u8 = 0x0f;
const EXPIRES: u8 = 0x10;
const EXPIRY_BYTES: usize = 8;

/// Type of a key, by its number in the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    String = 0,
    List = 1,
    Set = 2,
    SortedSet = 3,
    Hash = 4,
}

impl Kind {
    const ALL: [Self; 5] = [Self::String, Self::List, Self::Set, Self::SortedSet, Self::Hash];

    /// As TYPE says it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::String => "string",
            Self::List => "list",
            Self::Set => "set",
            Self::SortedSet => "zset",
            Self::Hash => "hash",
        }
    }
}

/// A row, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row<'a> {
    pub(crate) kind: Kind,
    pub(crate) expires_ms: Option<u64>,
    /// What stands behind the header.
    pub(crate) body: &'a [u8],
}

impl<'a> Row<'a> {
    pub(crate) fn decode(bytes: &'a [u8]) -> Outcome<Self> {
        let (&head, rest) = bytes.split_first().ok_or_else(|| damaged(bytes))?;
        if head & !(KIND_BITS | EXPIRES) != 0 {
            return Err(damaged(bytes));
        }
        let kind = Kind::ALL.get(usize::from(head & KIND_BITS)).copied();
        let kind = kind.ok_or_else(|| damaged(bytes))?;
        if head & EXPIRES == 0 {
            return Ok(Self { kind, expires_ms: None, body: rest });
        }
        let (expiry, body) =
            rest.split_first_chunk::<EXPIRY_BYTES>().ok_or_else(|| damaged(bytes))?;
        Ok(Self { kind, expires_ms: Some(u64::from_le_bytes(*expiry)), body })
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(1 + EXPIRY_BYTES + self.body.len());
        let flag = if self.expires_ms.is_some() { EXPIRES } else { 0 };
        bytes.push(self.kind as u8 | flag);
        if let Some(expires_ms) = self.expires_ms {
            bytes.extend_from_slice(&expires_ms.to_le_bytes());
        }
        bytes.extend_from_slice(self.body);
        bytes
    }

    pub(crate) fn is_expired(&self, now_ms: u64) -> bool {
        self.expires_ms.is_some_and(|expires_ms| expires_ms <= now_ms)
    }
}

fn damaged(bytes: &[u8]) -> Failure {
    let found = format!("{:02x?}", &bytes[..bytes.len().min(9)]);
    Failure::Engine(Error::InvalidArgument(format!("a key's row that begins with {found}")))
}

/// How a client's key stands in the tree of keys.
pub(crate) fn engine_key(key: &[u8]) -> Cow<'_, [u8]> {
    match key.first() {
        Some(1..) => Cow::Borrowed(key),
        None | Some(0) => Cow::Owned([&[0], key].concat()),
    }
}

/// The client's key that stands so in the tree of keys.
pub(crate) fn client_key(key: &[u8]) -> &[u8] {
    key.strip_prefix(&[0]).unwrap_or(key)
}

/// Key of the time index.
pub(crate) fn expiry_key(expires_ms: u64, key: &[u8]) -> Vec<u8> {
    [&expires_ms.to_be_bytes(), key].concat()
}

/// Expiry and key of a row of the time index.
pub(crate) fn split_expiry_key(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (expiry, key) = bytes.split_first_chunk::<EXPIRY_BYTES>()?;
    Some((u64::from_be_bytes(*expiry), key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_have_these_bytes() {
        let plain = Row { kind: Kind::String, expires_ms: None, body: b"v" };
        assert_eq!(plain.encode(), b"\0v");
        let expiring = Row { kind: Kind::Hash, expires_ms: Some(258), body: b"" };
        assert_eq!(expiring.encode(), [0x14, 2, 1, 0, 0, 0, 0, 0, 0]);
        for row in [plain, expiring] {
            assert_eq!(Row::decode(&row.encode()).unwrap(), row);
        }
        assert_eq!(split_expiry_key(&expiry_key(258, b"k")), Some((258, &b"k"[..])));
    }

    #[test]
    fn every_key_has_a_place_of_its_own_in_the_same_order() {
        let keys = [&b""[..], b"\0", b"\0\0", b"\0a", b"\x01", b"\x01\0", b"a", b"b"];
        let placed: Vec<_> = keys.iter().map(|key| engine_key(key)).collect();
        assert!(placed.is_sorted_by(|one, next| one < next), "{placed:?}");
        for (key, placed) in keys.iter().zip(&placed) {
            assert!(!placed.is_empty());
            assert_eq!(client_key(placed), *key);
        }
    }

    #[test]
    fn other_bytes_are_no_row() {
        for bytes in [&b""[..], &[0x20], &[5], &[0x10, 1]] {
            assert!(Row::decode(bytes).is_err(), "{bytes:?}");
        }
    }
}
