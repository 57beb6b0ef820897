//! Lines of bounded length, and where they are.

use std::io::{BufRead, Read};

use super::{FormatError, PAIR_TEXT_BYTES_MAX, Position};

/// Reads lines that end with `\n`; the last may end with the input.
pub(super) struct LineReader<R> {
    input: R,
    position: Position,
    line: Vec<u8>,
}

impl<R: BufRead> LineReader<R> {
    pub(super) const fn new(input: R, start: Position) -> Self {
        Self { input, position: start, line: Vec::new() }
    }

    /// The next line that is not empty, without its line break, and its place. `None` at the end.
    pub(super) fn next_line(&mut self) -> Result<Option<Line<'_>>, FormatError> {
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
