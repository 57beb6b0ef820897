//! Double quotes where RFC 4180 has them, and nowhere else. The parser takes any text: a quote that is
//! never closed swallows the lines behind it, and what stands behind a closed one belongs to the field.

use std::io::{self, Read};

/// What the parser skips at the start of the input.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Passes on what it reads, and notes the first double quote that is out of place.
#[derive(Debug)]
pub(super) struct Quotes<R> {
    input: R,
    state: State,
    /// Bytes passed on.
    offset: u64,
    /// Whether all of these may be those of a byte order mark.
    is_mark: bool,
    misplaced: Option<Misplaced>,
}

/// A double quote that is out of place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Misplaced {
    /// Bytes before it; of a field that does not end, before its first quote.
    pub(super) offset: u64,
    pub(super) what: &'static str,
}

#[derive(Clone, Copy, Debug)]
enum State {
    FieldStart,
    Plain,
    /// Inside of quotes that were opened at this offset.
    Quoted(u64),
    /// Behind a quote inside of quotes: the first of two, or the last one of the field.
    Closed(u64),
}

impl<R: Read> Quotes<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, state: State::FieldStart, offset: 0, is_mark: true, misplaced: None }
    }

    /// The first one among the bytes before `end`.
    pub(super) fn misplaced_before(&self, end: u64) -> Option<Misplaced> {
        self.misplaced.filter(|misplaced| misplaced.offset < end)
    }

    fn next_state(&self, byte: u8) -> Result<State, &'static str> {
        match (self.state, byte) {
            (State::FieldStart, b'"') => Ok(State::Quoted(self.offset)),
            (State::Quoted(opened), b'"') => Ok(State::Closed(opened)),
            (State::Closed(opened), b'"') => Ok(State::Quoted(opened)),
            (State::Quoted(_), _) => Ok(self.state),
            (State::FieldStart | State::Plain | State::Closed(_), b',' | b'\r' | b'\n') => {
                Ok(State::FieldStart)
            }
            (State::Closed(_), _) => Err("something behind the quote that ends a field"),
            (State::Plain, b'"') => Err("a double quote in a field that does not begin with one"),
            (State::FieldStart | State::Plain, _) => Ok(State::Plain),
        }
    }

    fn pass_all(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            let at = usize::try_from(self.offset).unwrap_or(usize::MAX);
            self.is_mark = self.is_mark && BYTE_ORDER_MARK.get(at) == Some(&byte);
            if !self.is_mark {
                match self.next_state(byte) {
                    Ok(state) => self.state = state,
                    Err(what) => self.note(self.offset, what),
                }
            }
            self.offset += 1;
        }
    }

    fn note(&mut self, offset: u64, what: &'static str) {
        self.misplaced.get_or_insert(Misplaced { offset, what });
    }
}

impl<R: Read> Read for Quotes<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(buf)?;
        self.pass_all(&buf[..count]);
        if let (0, false, State::Quoted(opened)) = (count, buf.is_empty(), self.state) {
            self.note(opened, "a quoted field that does not end");
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::{Misplaced, Quotes};

    fn misplaced(text: &str) -> Option<Misplaced> {
        let mut quotes = Quotes::new(text.as_bytes());
        quotes.read_to_end(&mut Vec::new()).unwrap();
        quotes.misplaced_before(u64::MAX)
    }

    #[test]
    fn quotes_in_their_places_are_passed() {
        for text in ["", "a,b\n", "\"a\"\"b\",\"\"\r\n\"\n,\",\n", "\u{feff}\"a\",b\n", "\"\""] {
            assert_eq!(misplaced(text), None, "{text}");
        }
    }

    #[test]
    fn others_are_noted_where_they_are() {
        for (text, offset, what) in [
            ("a,\"b\nc,d\n", 2, "does not end"),
            ("a,b\"\n", 3, "does not begin"),
            ("a,\"b\"c\n", 5, "behind the quote"),
            ("a,\"b\" \n", 5, "behind the quote"),
        ] {
            let found = misplaced(text).expect(text);
            assert_eq!(found.offset, offset, "{text}");
            assert!(found.what.contains(what), "{text}: {found:?}");
        }
        let mut quotes = Quotes::new(&b"a,b\"\n"[..]);
        quotes.read_to_end(&mut Vec::new()).unwrap();
        assert_eq!(quotes.misplaced_before(3), None);
    }
}
