//! How far a load has come, committed with its pairs.
//!
//! One record per target tree and input file lies in the tree [`LEDGER_TREE`]: the key is the tree's
//! name, a zero byte, the file's canonical path; the value is [`Progress`] as JSON. The record of a
//! complete load stays, so that the same load run again with `--resume` does nothing.

use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::{cmp, io};

use seawall::{Database, Error, MAX_KEY_BYTES, Transaction, Tree};
use seawall_wal::codec::to_usize;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::format::{Format, Position};

/// The tree that holds the records.
pub(super) const LEDGER_TREE: &str = "seawall.load";
/// How much of an input is read to tell it from another one.
const HEAD_BYTES_MAX: u64 = 1 << 20;

/// What an input is recognised by.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Fingerprint {
    /// Its size; 0 where it is not known.
    pub(super) bytes: u64,
    /// CRC-32C of its first [`HEAD_BYTES_MAX`] bytes.
    head_crc32c: u32,
}

/// How far an input was loaded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Progress {
    pub(super) input: Fingerprint,
    format: Format,
    /// Everything in front of it is loaded.
    pub(super) position: Position,
    /// How many pairs that is.
    pub(super) pairs: u64,
}

/// The record of one load.
pub(super) struct Ledger {
    tree: Tree,
    key: Vec<u8>,
}

impl Fingerprint {
    /// Reads the head of `file`.
    pub(super) fn take(file: &File) -> io::Result<Self> {
        let bytes = file.metadata()?.len();
        let mut head = vec![0; to_usize(cmp::min(bytes, HEAD_BYTES_MAX))];
        file.read_exact_at(&mut head, 0)?;
        Ok(Self { bytes, head_crc32c: crc32c::crc32c(&head) })
    }
}

impl Progress {
    /// Nothing of `input` yet.
    pub(super) fn nothing(input: Fingerprint, format: Format) -> Self {
        Self { input, format, position: Position::default(), pairs: 0 }
    }

    /// Whether both are of the same input, read in the same way.
    pub(super) fn is_of(&self, other: &Self) -> bool {
        self.input == other.input && self.format == other.format
    }
}

impl Ledger {
    /// The record of loading `file`, by its canonical path, into `tree`.
    pub(super) fn open(database: &Database, tree: &str, file: &Path) -> Result<Self, Failure> {
        let key = key(tree, file);
        if key.len() > MAX_KEY_BYTES {
            let file = file.display();
            return Err(Failure::Failed(format!("the path {file} is too long for --resume")));
        }
        Ok(Self { tree: database.tree(LEDGER_TREE)?, key })
    }

    /// Removes the record where there is one.
    pub(super) fn forget(database: &Database, tree: &str, file: &Path) -> Result<(), Failure> {
        let key = key(tree, file);
        if key.len() <= MAX_KEY_BYTES
            && let Some(ledger) = database.open_tree(LEDGER_TREE)?
        {
            ledger.remove(key)?;
        }
        Ok(())
    }

    /// What an earlier load left.
    pub(super) fn read(&self) -> Result<Option<Progress>, Failure> {
        let Some(value) = self.tree.get(&self.key)? else { return Ok(None) };
        serde_json::from_slice(&value).map(Some).map_err(|error| {
            Failure::Failed(format!("the record in {LEDGER_TREE} is not one of a load: {error}"))
        })
    }

    /// Commits `loaded` with `transaction`.
    pub(super) fn write(
        &self,
        transaction: &mut Transaction,
        loaded: &Progress,
    ) -> Result<(), Error> {
        let value = serde_json::to_vec(loaded).expect("numbers and names are always JSON");
        transaction.insert(&self.tree, &self.key, value)
    }
}

fn key(tree: &str, file: &Path) -> Vec<u8> {
    let file = file.as_os_str().as_bytes();
    let mut key = Vec::with_capacity(tree.len() + 1 + file.len());
    key.extend_from_slice(tree.as_bytes());
    key.push(0);
    key.extend_from_slice(file);
    key
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::{Fingerprint, HEAD_BYTES_MAX, Progress, key, to_usize};
    use crate::format::Format;

    fn file_with(bytes: &[u8]) -> std::fs::File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    #[test]
    fn size_and_head_tell_inputs_apart() {
        let take = |bytes: &[u8]| Fingerprint::take(&file_with(bytes)).unwrap();
        assert_eq!(take(b"abc"), take(b"abc"));
        assert_ne!(take(b"abc"), take(b"abd"));
        assert_ne!(take(b"abc"), take(b"abc\n"));
        assert_eq!(take(b"").bytes, 0);
        let long = vec![7; to_usize(HEAD_BYTES_MAX) + 1];
        assert_ne!(take(&long), take(&long[1..]));
    }

    #[test]
    fn a_record_is_of_one_input_in_one_format() {
        let input = Fingerprint { bytes: 3, head_crc32c: 7 };
        let loaded = Progress { pairs: 5, ..Progress::nothing(input.clone(), Format::Tsv) };
        assert!(loaded.is_of(&Progress::nothing(input.clone(), Format::Tsv)));
        assert!(!loaded.is_of(&Progress::nothing(input, Format::Csv)));
        assert!(!loaded.is_of(&Progress::nothing(Fingerprint::default(), Format::Tsv)));
    }

    #[test]
    fn a_record_survives_its_encoding() {
        let loaded = Progress::nothing(Fingerprint { bytes: 9, head_crc32c: 1 }, Format::Ndjson);
        let bytes = serde_json::to_vec(&loaded).unwrap();
        assert_eq!(serde_json::from_slice::<Progress>(&bytes).unwrap(), loaded);
    }

    #[test]
    fn the_key_names_tree_and_file() {
        assert_eq!(key("t", "/a/b".as_ref()), b"t\0/a/b");
    }
}
