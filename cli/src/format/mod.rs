//! The formats in which pairs are loaded and dumped.
//!
//! Each format has a file that describes it, reads it and writes it. All of them carry any bytes,
//! and what is written loads back as exactly the same pairs. Readers hold one pair in memory at a
//! time, and bound how long it may be before they allocate (invariant L3). Empty lines are skipped.

mod csv;
mod lines;
mod ndjson;
mod quotes;
mod tsv;

use std::fmt;
use std::io::{self, BufRead, Write};

use clap::ValueEnum;
use seawall::{MAX_KEY_BYTES, MAX_VALUE_BYTES};
use seawall_wal::codec::to_u64;
use serde::{Deserialize, Serialize};

use self::csv::{CsvReader, CsvWriter};
use self::lines::LinePairs;

/// Longest text of one pair in any format: every byte of key and value doubled by escapes, and what
/// stands around them.
const PAIR_TEXT_BYTES_MAX: u64 = 2 * to_u64(MAX_KEY_BYTES + MAX_VALUE_BYTES) + 64;

/// A format of pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// A line a pair, key TAB value; \t, \n, \r, \\ and \xHH stand for bytes
    Tsv,
    /// A JSON object a line, with key or key_base64, and value or value_base64
    Ndjson,
    /// Two columns without a header, quoted as in RFC 4180
    Csv,
}

/// A place in the input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Bytes in front of it.
    pub offset: u64,
    /// Line breaks in front of it.
    pub lines: u64,
}

/// A pair that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub key: Vec<u8>,
    pub value: Vec<u8>,
    /// Behind the pair: reading may go on from here.
    pub end: Position,
}

impl Entry {
    /// A pair within the limits of the engine, so that a refusal can say where it stands.
    fn new(at: Position, key: Vec<u8>, value: Vec<u8>, end: Position) -> Result<Self, FormatError> {
        check_pair(&key, &value).map_err(|why| FormatError::new(at, why))?;
        Ok(Self { key, value, end })
    }
}

/// Refuses a pair that no tree can hold, with a sentence.
pub(crate) fn check_pair(key: &[u8], value: &[u8]) -> Result<(), String> {
    if !(1..=MAX_KEY_BYTES).contains(&key.len()) {
        return Err(format!("a key has 1 to {MAX_KEY_BYTES} bytes, this one {}", key.len()));
    }
    if value.len() > MAX_VALUE_BYTES {
        return Err(format!("a value has up to {MAX_VALUE_BYTES} bytes, this one {}", value.len()));
    }
    Ok(())
}

/// Input that is not in the format, or could not be read.
#[derive(Debug)]
pub struct FormatError {
    /// Start of the line or pair.
    pub at: Position,
    pub why: String,
}

impl FormatError {
    fn new(at: Position, why: impl fmt::Display) -> Self {
        Self { at, why: why.to_string() }
    }
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {} (byte {}): {}", self.at.lines + 1, self.at.offset, self.why)
    }
}

/// The pairs of an input.
pub type Entries<'a> = Box<dyn Iterator<Item = Result<Entry, FormatError>> + 'a>;

impl Format {
    /// The format that a file's name suggests.
    pub(crate) fn of_extension(extension: &str) -> Option<Self> {
        match extension {
            "tsv" => Some(Self::Tsv),
            "ndjson" | "jsonl" => Some(Self::Ndjson),
            "csv" => Some(Self::Csv),
            _ => None,
        }
    }

    /// The pairs of `input`, which begins at `start` of the whole. Nothing follows an error.
    #[must_use]
    pub fn read<'a>(self, input: impl BufRead + 'a, start: Position) -> Entries<'a> {
        match self {
            Self::Tsv => Box::new(LinePairs::new(input, start, tsv::parse)),
            Self::Ndjson => Box::new(LinePairs::new(input, start, ndjson::parse)),
            Self::Csv => Box::new(CsvReader::new(input, start)),
        }
    }

    /// Writes pairs to `out`, which is best buffered.
    pub fn writer<W: Write>(self, out: W) -> PairWriter<W> {
        match self {
            Self::Tsv => PairWriter::Tsv(out),
            Self::Ndjson => PairWriter::Ndjson(out),
            Self::Csv => PairWriter::Csv(Box::new(CsvWriter::new(out))),
        }
    }
}

/// Writes pairs in one of the formats.
pub enum PairWriter<W: Write> {
    Tsv(W),
    Ndjson(W),
    Csv(Box<CsvWriter<W>>),
}

impl<W: Write> PairWriter<W> {
    /// Writes one pair.
    pub fn write(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        match self {
            Self::Tsv(out) => tsv::write(out, key, value),
            Self::Ndjson(out) => ndjson::write(out, key, value),
            Self::Csv(writer) => writer.write(key, value),
        }
    }

    /// Everything is out.
    pub fn finish(self) -> io::Result<()> {
        match self {
            Self::Tsv(mut out) | Self::Ndjson(mut out) => out.flush(),
            Self::Csv(mut writer) => writer.finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::{Entry, Format, MAX_KEY_BYTES, Position};

    const ALL: [Format; 3] = [Format::Tsv, Format::Ndjson, Format::Csv];

    type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

    fn written(format: Format, pairs: &Pairs) -> Vec<u8> {
        let mut out = Vec::new();
        let mut writer = format.writer(&mut out);
        for (key, value) in pairs {
            writer.write(key, value).unwrap();
        }
        writer.finish().unwrap();
        out
    }

    fn read(format: Format, text: &[u8], start: Position) -> Vec<Entry> {
        format.read(text, start).map(|entry| entry.unwrap()).collect()
    }

    /// Bytes that mean something in one of the formats are common.
    fn bytes(min: usize) -> impl Strategy<Value = Vec<u8>> {
        let special = proptest::sample::select(b"\t\n\r\\\",x0{}:\xef\xbb\xbf\0".to_vec());
        vec(prop_oneof![special, any::<u8>()], min..12)
    }

    fn pairs() -> impl Strategy<Value = Pairs> {
        vec((bytes(1), bytes(0)), 0..8)
    }

    proptest! {
        #[test]
        fn what_is_written_loads_back_exactly(pairs in pairs()) {
            for format in ALL {
                let entries = read(format, &written(format, &pairs), Position::default());
                let back: Pairs = entries.into_iter().map(|e| (e.key, e.value)).collect();
                prop_assert_eq!(&back, &pairs, "{:?}", format);
            }
        }

        #[test]
        fn reading_goes_on_from_the_end_of_any_pair(pairs in pairs()) {
            for format in ALL {
                let text = written(format, &pairs);
                let entries = read(format, &text, Position::default());
                for (index, entry) in entries.iter().enumerate() {
                    let rest = &text[usize::try_from(entry.end.offset).unwrap()..];
                    prop_assert_eq!(&read(format, rest, entry.end)[..], &entries[index + 1..]);
                }
            }
        }

        #[test]
        fn any_input_gives_pairs_or_an_error(text: Vec<u8>) {
            for format in ALL {
                let results: Vec<_> = format.read(&text[..], Position::default()).collect();
                let errors = results.iter().filter(|result| result.is_err()).count();
                prop_assert!(errors == 0 || errors == 1 && results.last().unwrap().is_err());
            }
        }
    }

    #[test]
    fn a_csv_load_that_goes_on_at_a_byte_order_mark_keeps_it() {
        let text = "a,b\n\u{feff}c,d\n".as_bytes();
        let whole = read(Format::Csv, text, Position::default());
        assert_eq!(whole[1].key, "\u{feff}c".as_bytes());
        let end = whole[0].end;
        let rest = read(Format::Csv, &text[usize::try_from(end.offset).unwrap()..], end);
        assert_eq!(rest, whole[1..]);
    }

    #[test]
    fn empty_lines_are_skipped_and_counted() {
        for format in ALL {
            let mut text = b"\n\n".to_vec();
            text.extend(written(format, &vec![(b"k".to_vec(), b"v".to_vec())]));
            text.push(b'\n');
            let entries = read(format, &text, Position::default());
            assert_eq!(entries.len(), 1, "{format:?}");
            assert_eq!(entries[0].end.lines, 3, "{format:?}");
        }
    }

    #[test]
    fn a_key_beyond_the_limits_is_refused_where_it_stands() {
        for length in [0, MAX_KEY_BYTES + 1] {
            let text = written(Format::Ndjson, &vec![(vec![b'k'; length], Vec::new())]);
            let error = Format::Ndjson.read(&text[..], Position::default()).next().unwrap();
            assert!(error.unwrap_err().to_string().starts_with("line 1 (byte 0): a key has"));
        }
    }

    #[test]
    fn an_error_names_line_and_byte() {
        for (format, text) in [
            (Format::Tsv, "a\tb\nno tab\n"),
            (Format::Ndjson, "{\"key\":\"a\",\"value\":\"\"}\n{}\n"),
            (Format::Csv, "a,b\nalone\n"),
        ] {
            let last = format.read(text.as_bytes(), Position::default()).last();
            let error = last.unwrap().unwrap_err().to_string();
            assert!(error.starts_with("line 2 (byte "), "{error}");
        }
    }
}
