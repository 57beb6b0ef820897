//! Rows of the catalogue, which is the tree with id 0 and its root on page 1.
//!
//! | key | value |
//! |---|---|
//! | `n`, name | tree id (varint) |
//! | `t`, tree id (8 bytes, big-endian) | state (1 live, 2 dropping), root page (varint) |
//!
//! A committed drop removes the name and leaves the tree's row `dropping`; once no snapshot needs the
//! tree it is dismantled, and the row goes last. So does the undo of a creation: the tree may have
//! grown pages by then, which only dismantling finds (invariant P5).

use seawall_wal::codec::{DecodeError, Encode, Reader};
use seawall_wal::{PageId, TreeId};

/// Root of the catalogue.
pub(crate) const CATALOGUE_ROOT: PageId = PageId::new(1);

const NAME: u8 = b'n';
const TREE: u8 = b't';

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

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

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
