//! Comma-separated pairs: two columns, key and value, without a header.
//!
//! Quoting is that of RFC 4180: a field in double quotes may hold commas and line breaks, and a
//! double quote in it is doubled. Fields need not be text. What is written quotes every field and
//! ends each line with a line feed; a carriage return inside a field stays one. A byte order mark at
//! the start of the input is skipped.

use std::cell::Cell;
use std::io::{self, BufRead, Chain, Read, Write};
use std::rc::Rc;

use csv::{ByteRecord, ErrorKind, QuoteStyle, ReaderBuilder, WriterBuilder};
use seawall_wal::codec::to_u64;

use super::quotes::Quotes;
use super::{Entry, FormatError, PAIR_TEXT_BYTES_MAX, Position};

/// Size of the parser's own buffer.
const BUFFER_BYTES: usize = 64 << 10;
/// What may be read for one pair: its text, and what the buffer takes in beyond it.
const ALLOWANCE_BYTES: u64 = PAIR_TEXT_BYTES_MAX + to_u64(BUFFER_BYTES);

/// An input, with what stands in front of it, bounded and its quotes looked at.
type Checked<R> = Quotes<Allowance<Chain<&'static [u8], R>>>;

/// Reads pairs.
pub(super) struct CsvReader<R> {
    reader: csv::Reader<Checked<R>>,
    left: Rc<Cell<u64>>,
    record: ByteRecord,
    start: Position,
    /// Empty lines that the parser is given in front of the input, a byte each.
    lines_in_front: u64,
    is_done: bool,
}

/// Lets a bounded number of bytes through, so that a quote that is never closed does not gather the
/// whole input in memory.
struct Allowance<R> {
    input: R,
    left: Rc<Cell<u64>>,
}

impl<R: Read> Read for Allowance<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buf)?;
        let left = self.left.get().checked_sub(to_u64(count));
        let too_long = || io::Error::other(format!("longer than {PAIR_TEXT_BYTES_MAX} bytes"));
        self.left.set(left.ok_or_else(too_long)?);
        Ok(count)
    }
}

impl<R: BufRead> CsvReader<R> {
    pub(super) fn new(input: R, start: Position) -> Self {
        let left = Rc::new(Cell::new(ALLOWANCE_BYTES));
        // The parser skips a byte order mark at the start of what it reads. Where reading goes on, the
        // same bytes are the beginning of a key.
        let in_front: &[u8] = if start.offset == 0 { b"" } else { b"\n" };
        let input = in_front.chain(input);
        let reader = ReaderBuilder::new()
            .has_headers(false)
            .flexible(true)
            .buffer_capacity(BUFFER_BYTES)
            .from_reader(Quotes::new(Allowance { input, left: Rc::clone(&left) }));
        let lines_in_front = to_u64(in_front.len());
        Self { reader, left, record: ByteRecord::new(), start, lines_in_front, is_done: false }
    }

    fn here(&self) -> Position {
        self.place(self.reader.position())
    }

    /// A place in what the parser was given, as one in the whole input.
    fn place(&self, within: &csv::Position) -> Position {
        // Before the parser has read anything it stands in front of the line in front.
        Position {
            offset: self.start.offset + within.byte().saturating_sub(self.lines_in_front),
            lines: self.start.lines + (within.line() - 1).saturating_sub(self.lines_in_front),
        }
    }

    fn entry(&mut self) -> Result<Option<Entry>, FormatError> {
        let at = self.here();
        self.left.set(ALLOWANCE_BYTES);
        let is_there = self
            .reader
            .read_byte_record(&mut self.record)
            .map_err(|error| FormatError::new(at, error))?;
        if !is_there {
            return Ok(None);
        }
        let at = self.record.position().map_or(at, |within| self.place(within));
        let end = self.reader.position().byte();
        if let Some(misplaced) = self.reader.get_ref().misplaced_before(end) {
            return Err(FormatError::new(at, misplaced.what));
        }
        match (self.record.get(0), self.record.get(1), self.record.len()) {
            (Some(key), Some(value), 2) => {
                Entry::new(at, key.to_vec(), value.to_vec(), self.here()).map(Some)
            }
            (.., columns) => Err(FormatError::new(at, format!("{columns} columns instead of two"))),
        }
    }
}

impl<R: BufRead> Iterator for CsvReader<R> {
    type Item = Result<Entry, FormatError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_done {
            return None;
        }
        let entry = self.entry().transpose();
        self.is_done = !matches!(entry, Some(Ok(_)));
        entry
    }
}

/// Writes pairs.
pub struct CsvWriter<W: Write>(csv::Writer<W>);

impl<W: Write> CsvWriter<W> {
    pub(super) fn new(out: W) -> Self {
        let mut builder = WriterBuilder::new();
        builder.has_headers(false).quote_style(QuoteStyle::Always).buffer_capacity(BUFFER_BYTES);
        Self(builder.from_writer(out))
    }

    pub(super) fn write(&mut self, key: &[u8], value: &[u8]) -> io::Result<()> {
        self.0.write_record([key, value]).map_err(io_error)
    }

    pub(super) fn finish(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// What the stream said. The conversion of the crate wraps it, and its kind would be another one: a
/// closed pipe has to be known as such.
fn io_error(error: csv::Error) -> io::Error {
    match error.into_kind() {
        ErrorKind::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Pair = (Vec<u8>, Vec<u8>);

    fn all(text: &str) -> Vec<Result<Pair, String>> {
        CsvReader::new(text.as_bytes(), Position::default())
            .map(|entry| entry.map(|e| (e.key, e.value)).map_err(|error| error.to_string()))
            .collect()
    }

    #[test]
    fn quoted_and_plain_fields_are_read() {
        let pairs = all("a,b\r\n\"c,\n\"\"\",\"\"\n");
        assert_eq!(pairs[0], Ok((b"a".to_vec(), b"b".to_vec())));
        assert_eq!(pairs[1], Ok((b"c,\n\"".to_vec(), b"".to_vec())));
        assert_eq!(pairs.len(), 2);
    }

    #[test]
    fn a_quote_out_of_place_ends_the_pairs_and_none_is_made_of_it() {
        let pairs = all("a,b\nc,\"d\ne,f\n");
        assert_eq!(pairs[0], Ok((b"a".to_vec(), b"b".to_vec())));
        assert_eq!(pairs[1], Err("line 2 (byte 4): a quoted field that does not end".to_owned()));
        assert_eq!(pairs.len(), 2);
        assert!(all("a,\"b\"c\n")[0].is_err());
        // Where reading goes on, as at the beginning.
        let text = "a,b\nc,\"d\n";
        let start = Position { offset: 4, lines: 1 };
        let rest: Vec<_> = CsvReader::new(&text.as_bytes()[4..], start).collect();
        assert!(matches!(rest[..], [Err(_)]), "{rest:?}");
    }

    #[test]
    fn every_field_is_quoted() {
        let mut out = Vec::new();
        let mut writer = CsvWriter::new(&mut out);
        writer.write(b"k\"", b"").unwrap();
        writer.finish().unwrap();
        drop(writer);
        assert_eq!(out, b"\"k\"\"\",\"\"\n");
    }

    #[test]
    fn another_number_of_columns_is_refused() {
        assert_eq!(
            all("a,b\na,b,c\n")[1],
            Err("line 2 (byte 4): 3 columns instead of two".to_owned())
        );
        assert!(all("a\n")[0].is_err());
    }
}
