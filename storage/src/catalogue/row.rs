//! Rows of the catalogue, which is the tree with id 0 and its root on page 1.
//!
//! | key | value |
//! |---|---|
//! | `n`, name | tree id (varint) |
//! | `t`, tree id (8 bytes, big-endian) | state (1 live, 2 dropping), root page (varint) |
//! | `g`, tree id, transaction id (8 bytes each, big-endian) | lowest key and highest key, each behind its length (varint), whether the latter was cut short (1) or not (0) |
//!
//! Rows of the last kind tell of keys that a committed huge transaction has deleted or shortened, and
//! whose leaves are still to be swept (`engine/sweep.rs`). Long keys are cut short, to a lower one and a
//! higher one.
//!
//! A committed drop removes the name and leaves the tree's row `dropping`; once no snapshot needs the
//! tree it is dismantled, and the row goes last. So does the undo of a creation: the tree may have
//! grown pages by then, which only dismantling finds (invariant P5).

use seawall_wal::codec::{DecodeError, Encode, Reader};
use seawall_wal::{PageId, TreeId, TxnId};

use crate::MAX_KEY_BYTES;
use crate::version::KeySpan;

/// Root of the catalogue.
pub(crate) const CATALOGUE_ROOT: PageId = PageId::new(1);

const NAME: u8 = b'n';
const TREE: u8 = b't';
const TRAIL: u8 = b'g';
/// Bytes of a key that a trail's row has, at most.
const TRAIL_KEY_BYTES_MAX: usize = 64;

const LIVE: u8 = 1;
const DROPPING: u8 = 2;

/// Whether a tree is in use or being taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TreeState {
    Live,
    Dropping,
}

/// Row of a tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TreeRow {
    pub(crate) state: TreeState,
    pub(crate) root: PageId,
}

pub(crate) fn name_key(name: &str) -> Vec<u8> {
    [&[NAME], name.as_bytes()].concat()
}

/// Prefix of all names' keys.
pub(crate) const NAMES: &[u8] = &[NAME];

/// The name in a key of a name's row.
pub fn name_of(key: &[u8]) -> Result<&str, DecodeError> {
    match key.split_first() {
        Some((&NAME, name)) => std::str::from_utf8(name)
            .map_err(|error| DecodeError::new(1, "a name in UTF-8", error.to_string())),
        _ => Err(DecodeError::new(0, "the key of a tree's name", format!("{key:?}"))),
    }
}

pub(crate) fn encode_name_value(tree: TreeId) -> Vec<u8> {
    let mut value = Vec::new();
    value.put_varint(tree.get());
    value
}

/// The tree in the value of a name's row.
pub fn decode_name_value(value: &[u8]) -> Result<TreeId, DecodeError> {
    let mut reader = Reader::new(value);
    let tree = TreeId::new(reader.varint()?);
    reader.finish()?;
    Ok(tree)
}

pub(crate) fn tree_key(tree: TreeId) -> Vec<u8> {
    [&[TREE][..], &tree.get().to_be_bytes()].concat()
}

/// The tree of a row's key; `None` for a name's row.
pub(crate) fn tree_of(key: &[u8]) -> Option<TreeId> {
    let (&TREE, id) = key.split_first()? else { return None };
    Some(TreeId::new(u64::from_be_bytes(id.try_into().ok()?)))
}

impl TreeRow {
    pub(crate) fn encode(self) -> Vec<u8> {
        let mut value = Vec::new();
        value.put_u8(match self.state {
            TreeState::Live => LIVE,
            TreeState::Dropping => DROPPING,
        });
        value.put_varint(self.root.get());
        value
    }

    pub(crate) fn decode(value: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(value);
        let state = match reader.u8()? {
            LIVE => TreeState::Live,
            DROPPING => TreeState::Dropping,
            other => return Err(DecodeError::new(0, "a tree's state", other.to_string())),
        };
        let root = PageId::new(reader.varint()?);
        reader.finish()?;
        Ok(Self { state, root })
    }
}

/// Row of a trail: the leaves from the lowest key's to the highest key's are to be swept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TrailRow {
    pub(crate) low: Vec<u8>,
    pub(crate) high: Vec<u8>,
}

pub(crate) fn trail_key(tree: TreeId, txn: TxnId) -> Vec<u8> {
    [&[TRAIL][..], &tree.get().to_be_bytes(), &txn.get().to_be_bytes()].concat()
}

/// Tree and transaction of a trail's key; `None` for another row.
pub(crate) fn trail_of(key: &[u8]) -> Option<(TreeId, TxnId)> {
    let (&TRAIL, ids) = key.split_first()? else { return None };
    let (tree, txn) = ids.split_first_chunk()?;
    let id = |bytes: [u8; 8]| u64::from_be_bytes(bytes);
    Some((TreeId::new(id(*tree)), TxnId::new(id(txn.try_into().ok()?))))
}

impl TrailRow {
    /// The row of these keys: of a longer span where they are long.
    pub(crate) fn of(span: &KeySpan) -> Self {
        let short = |key: &[u8]| key[..key.len().min(TRAIL_KEY_BYTES_MAX)].to_vec();
        let mut high = short(&span.high);
        if high.len() < span.high.len() {
            // No key that begins with what is left lies above.
            high.resize(MAX_KEY_BYTES, u8::MAX);
        }
        Self { low: short(&span.low), high }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let is_cut = self.high.len() > TRAIL_KEY_BYTES_MAX;
        let high = &self.high[..self.high.len().min(TRAIL_KEY_BYTES_MAX)];
        let mut value = Vec::new();
        value.put_bytes(&self.low);
        value.put_bytes(high);
        value.put_u8(u8::from(is_cut));
        value
    }

    pub(crate) fn decode(value: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(value);
        let low = reader.bytes(TRAIL_KEY_BYTES_MAX)?.to_vec();
        let mut high = reader.bytes(TRAIL_KEY_BYTES_MAX)?.to_vec();
        let at = reader.offset();
        match reader.u8()? {
            0 => {}
            1 if high.len() == TRAIL_KEY_BYTES_MAX => high.resize(MAX_KEY_BYTES, u8::MAX),
            other => {
                let found = other.to_string();
                return Err(DecodeError::new(at, "whether a long key was cut", found));
            }
        }
        reader.finish()?;
        Ok(Self { low, high })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn trails_round_trip_and_reach_as_far_as_the_keys_that_were_cut() {
        let span = |low: &[u8], high: &[u8]| KeySpan {
            low: low.to_vec(),
            high: high.to_vec(),
            needs_purge: true,
        };
        for (low, high) in [
            (&b"a"[..], &b"z"[..]),
            (&[b'a'; 64], &[b'z'; 64]),
            (&[b'a'; 65], &[b'z'; 65]),
            (&[1; 1024], &[u8::MAX; 1024]),
        ] {
            let row = TrailRow::of(&span(low, high));
            assert!(&row.low[..] <= low && &row.high[..] >= high);
            let bytes = row.encode();
            assert!(bytes.len() <= 2 * TRAIL_KEY_BYTES_MAX + 3);
            assert_eq!(TrailRow::decode(&bytes), Ok(row));
            for cut in 0..bytes.len() {
                assert!(TrailRow::decode(&bytes[..cut]).is_err(), "{cut}");
            }
        }
        assert!(TrailRow::decode(&[1, b'a', 1, b'b', 2]).is_err(), "neither cut nor whole");
        assert!(TrailRow::decode(&[1, b'a', 1, b'b', 1]).is_err(), "cut, and short");
        assert!(TrailRow::decode(&[&[1, b'a', 65][..], &[b'b'; 65], &[0]].concat()).is_err());
        let (tree, txn) = (TreeId::new(3), TxnId::new(1 << 40));
        assert_eq!(trail_of(&trail_key(tree, txn)), Some((tree, txn)));
        assert_eq!(trail_of(&tree_key(tree)), None);
        assert_eq!(trail_of(&name_key("g234567890123456")), None);
        assert_eq!(tree_of(&trail_key(tree, txn)), None);
    }

    #[test]
    fn rows_round_trip_and_keys_tell_names_from_trees() {
        for state in [TreeState::Live, TreeState::Dropping] {
            let row = TreeRow { state, root: PageId::new(77) };
            assert_eq!(TreeRow::decode(&row.encode()), Ok(row));
        }
        let id = TreeId::new(5);
        assert_eq!(decode_name_value(&encode_name_value(id)), Ok(id));
        assert_eq!(tree_of(&tree_key(id)), Some(id));
        assert_eq!(tree_of(&name_key("t1234567")), None);
        assert_eq!(name_of(&name_key("orders")), Ok("orders"));
        assert!(name_of(&tree_key(id)).is_err());
    }

    #[test]
    fn damaged_rows_are_refused() {
        assert!(TreeRow::decode(&[3, 1]).is_err());
        assert!(TreeRow::decode(&[1, 1, 0]).is_err());
        assert!(decode_name_value(&[]).is_err());
    }
}
