//! Lines of bounded length, where they are, and the pairs of formats that have one a line.

use std::io::{BufRead, Read};

use super::{Entry, FormatError, PAIR_TEXT_BYTES_MAX, Position};

/// Reads pairs, one a line, up to the first that is none.
pub(super) struct LinePairs<R> {
    lines: LineReader<R>,
    parse: fn(&Line<'_>) -> Result<Entry, FormatError>,
    is_done: bool,
}

impl<R: BufRead> LinePairs<R> {
    pub(super) const fn new(
        input: R,
        start: Position,
        parse: fn(&Line<'_>) -> Result<Entry, FormatError>,
    ) -> Self {
        Self { lines: LineReader::new(input, start), parse, is_done: false }
    }
}

impl<R: BufRead> Iterator for LinePairs<R> {
    type Item = Result<Entry, FormatError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_done {
            return None;
        }
        let entry = match self.lines.next_line() {
            Ok(None) => None,
            Ok(Some(line)) => Some((self.parse)(&line)),
            Err(error) => Some(Err(error)),
        };
        self.is_done = !matches!(entry, Some(Ok(_)));
        entry
    }
}

/// Reads lines that end with `\n`; the last may end with the input.
struct LineReader<R> {
    input: R,
    position: Position,
    line: Vec<u8>,
}

impl<R: BufRead> LineReader<R> {
    const fn new(input: R, start: Position) -> Self {
        Self { input, position: start, line: Vec::new() }
    }

    /// The next line that is not empty, without its line break, and its place. `None` at the end.
    fn next_line(&mut self) -> Result<Option<Line<'_>>, FormatError> {
        loop {
            let start = self.position;
            self.line.clear();
            let mut bounded = (&mut self.input).take(PAIR_TEXT_BYTES_MAX);
            let count = bounded
                .read_until(b'\n', &mut self.line)
                .map_err(|error| FormatError::new(start, error))?;
            if count == 0 {
                return Ok(None);
            }
            self.position.offset += seawall_wal::codec::to_u64(count);
            if self.line.last() == Some(&b'\n') {
                self.position.lines += 1;
                self.line.pop();
            } else if bounded.limit() == 0 {
                let why = format!("the line is longer than {PAIR_TEXT_BYTES_MAX} bytes");
                return Err(FormatError::new(start, why));
            }
            if !self.line.is_empty() {
                return Ok(Some(Line { bytes: &self.line, start, end: self.position }));
            }
        }
    }
}

/// A line.
pub(super) struct Line<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) start: Position,
    /// Behind its line break.
    pub(super) end: Position,
}
