//! Pairs from several sources in one file, sorted and each key once, in the canonical form of
//! `seawall dump --format ndjson`, so that a dump of what was loaded has the same bytes.
//!
//! Keys are sorted in memory; the bytes of files are read only when they are written.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use seawall::{MAX_KEY_BYTES, MAX_VALUE_BYTES};

use crate::failure::{Failure, Outcome};

/// Where the value of a pair comes from.
#[derive(Clone, Debug)]
pub enum Source {
    /// It is here.
    Bytes(Vec<u8>),
    /// It is the contents of this file.
    File(PathBuf),
}

/// Pairs in key order.
#[derive(Debug, Default)]
pub struct Collection {
    pairs: BTreeMap<Vec<u8>, Source>,
    counts: Counts,
}

/// What became of the pairs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Pairs written.
    pub pairs: usize,
    /// Left out, since the key was there already; the first one stays.
    pub repeated: usize,
    /// Left out, since the key is longer than a database takes.
    pub keys_too_long: usize,
    /// Left out, since the value is longer than a database takes.
    pub values_too_long: usize,
    /// Bytes of the keys written.
    pub key_bytes: usize,
    /// Bytes of the values written.
    pub value_bytes: usize,
    /// The longest key written.
    pub key_bytes_max: usize,
    /// The longest value written.
    pub value_bytes_max: usize,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pairs, key_bytes, value_bytes, key_bytes_max, value_bytes_max, .. } = self;
        let Self { repeated, keys_too_long, values_too_long, .. } = self;
        writeln!(f, "pairs written        {pairs}")?;
        writeln!(f, "bytes of keys        {key_bytes}, the longest key {key_bytes_max}")?;
        writeln!(f, "bytes of values      {value_bytes}, the longest value {value_bytes_max}")?;
        writeln!(f, "left out, repeated   {repeated}")?;
        writeln!(f, "left out, too long   {keys_too_long} keys, {values_too_long} values")
    }
}

impl Collection {
    /// Adds a pair, unless it has no place in a database or its key is there already.
    pub fn add(&mut self, key: Vec<u8>, value: Source) {
        if key.len() > MAX_KEY_BYTES {
            self.counts.keys_too_long += 1;
            return;
        }
        match self.pairs.entry(key) {
            Entry::Occupied(_) => self.counts.repeated += 1,
            Entry::Vacant(place) => {
                place.insert(value);
            }
        }
    }

    /// Writes all pairs.
    ///
    /// # Errors
    /// A file that cannot be read, or `out` that cannot be written.
    pub fn write(self, out: &mut impl Write) -> Outcome<Counts> {
        let mut counts = self.counts;
        for (key, source) in self.pairs {
            let value = source.read()?;
            if value.len() > MAX_VALUE_BYTES {
                counts.values_too_long += 1;
                continue;
            }
            let failed = |error| Failure::new(format!("cannot write the pairs: {error}"));
            write_pair(out, &key, &value).map_err(failed)?;
            counts.pairs += 1;
            counts.key_bytes += key.len();
            counts.value_bytes += value.len();
            counts.key_bytes_max = counts.key_bytes_max.max(key.len());
            counts.value_bytes_max = counts.value_bytes_max.max(value.len());
        }
        out.flush().map_err(|error| Failure::new(format!("cannot write the pairs: {error}")))?;
        Ok(counts)
    }
}

impl Source {
    fn read(self) -> Outcome<Vec<u8>> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::File(path) => fs::read(&path)
                .map_err(|error| Failure::new(format!("cannot read {}: {error}", path.display()))),
        }
    }
}

/// A line in the canonical form: the key as text where it is UTF-8 without control characters, else in
/// base64; the value in base64. It is written down a second time here, beside the command's own
/// writer, so that a mistake there is not made twice.
fn write_pair(out: &mut impl Write, key: &[u8], value: &[u8]) -> io::Result<()> {
    match std::str::from_utf8(key).ok().filter(|text| !text.contains(char::is_control)) {
        Some(text) => {
            let text = text.replace('\\', "\\\\").replace('"', "\\\"");
            write!(out, "{{\"key\":\"{text}\",")?;
        }
        None => write!(out, "{{\"key_base64\":\"{}\",", STANDARD.encode(key))?,
    }
    writeln!(out, "\"value_base64\":\"{}\"}}", STANDARD.encode(value))
}

#[cfg(test)]
mod tests {
    use super::{Collection, MAX_KEY_BYTES, Source};

    fn bytes(text: &str) -> Source {
        Source::Bytes(text.into())
    }

    #[test]
    fn pairs_are_written_in_the_order_of_the_bytes_of_their_keys() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, [0]).unwrap();
        let mut collection = Collection::default();
        for (key, value) in [
            (&b"b"[..], bytes("1")),
            (b"\xff", bytes("")),
            ("ü".as_bytes(), bytes("2")),
            (b"a/\"\\", Source::File(path)),
            (b"a\n", bytes("3")),
        ] {
            collection.add(key.to_vec(), value);
        }
        let mut out = Vec::new();
        let counts = collection.write(&mut out).unwrap();
        let text = "{\"key_base64\":\"YQo=\",\"value_base64\":\"Mw==\"}\n\
                    {\"key\":\"a/\\\"\\\\\",\"value_base64\":\"AA==\"}\n\
                    {\"key\":\"b\",\"value_base64\":\"MQ==\"}\n\
                    {\"key\":\"ü\",\"value_base64\":\"Mg==\"}\n\
                    {\"key_base64\":\"/w==\",\"value_base64\":\"\"}\n";
        assert_eq!(String::from_utf8(out).unwrap(), text);
        assert_eq!((counts.pairs, counts.key_bytes, counts.value_bytes), (5, 10, 4));
        assert_eq!((counts.key_bytes_max, counts.value_bytes_max), (4, 1));
    }

    #[test]
    fn what_cannot_be_written_is_counted() {
        let mut collection = Collection::default();
        collection.add(b"k".to_vec(), bytes("first"));
        collection.add(b"k".to_vec(), bytes("second"));
        collection.add(vec![b'k'; MAX_KEY_BYTES + 1], bytes(""));
        let mut out = Vec::new();
        let counts = collection.write(&mut out).unwrap();
        assert_eq!(out, b"{\"key\":\"k\",\"value_base64\":\"Zmlyc3Q=\"}\n");
        assert_eq!((counts.pairs, counts.repeated, counts.keys_too_long), (1, 1, 1));
    }

    #[test]
    fn a_file_that_went_away_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let mut collection = Collection::default();
        collection.add(b"k".to_vec(), Source::File(dir.path().join("gone")));
        assert!(collection.write(&mut Vec::new()).unwrap_err().to_string().contains("gone"));
    }
}
