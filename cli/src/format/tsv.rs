//! Tab-separated pairs: `key TAB value LF`, one pair a line.
//!
//! | escape | byte |
//! |---|---|
//! | `\t` | tab |
//! | `\n` | line feed |
//! | `\r` | carriage return |
//! | `\\` | backslash |
//! | `\xHH` | the byte with these two hexadecimal digits |
//!
//! Every other byte stands for itself, be it text or not; the bytes with a letter of their own are
//! always written as escapes, no others are. Any other use of a backslash is refused.

use std::io::{self, Write};

use super::lines::Line;
use super::{Entry, FormatError};

/// The pair of a line.
pub(super) fn parse(line: &Line<'_>) -> Result<Entry, FormatError> {
    let refuse = |why: String| FormatError::new(line.start, why);
    let mut fields = line.bytes.split(|&byte| byte == b'\t');
    match (fields.next(), fields.next(), fields.next()) {
        (Some(key), Some(value), None) => {
            let (key, value) = (unescape(key).map_err(refuse)?, unescape(value).map_err(refuse)?);
            Entry::new(line.start, key, value, line.end)
        }
        (_, None, _) => Err(refuse("there is no tab between key and value".to_owned())),
        _ => Err(refuse("there is more than one tab; write \\t for a tab in a value".to_owned())),
    }
}

fn unescape(field: &[u8]) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some(at) = rest.iter().position(|&byte| byte == b'\\') {
        bytes.extend_from_slice(&rest[..at]);
        let (byte, behind) = match &rest[at + 1..] {
            [b't', behind @ ..] => (b'\t', behind),
            [b'n', behind @ ..] => (b'\n', behind),
            [b'r', behind @ ..] => (b'\r', behind),
            [b'\\', behind @ ..] => (b'\\', behind),
            [b'x', high, low, behind @ ..] => (hex_byte(*high, *low)?, behind),
            _ => return Err("a backslash stands only in \\t, \\n, \\r, \\\\ and \\xHH".to_owned()),
        };
        bytes.push(byte);
        rest = behind;
    }
    bytes.extend_from_slice(rest);
    Ok(bytes)
}

fn hex_byte(high: u8, low: u8) -> Result<u8, String> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    match (digit(high), digit(low)) {
        (Some(high), Some(low)) => Ok(high << 4 | low),
        _ => Err("\\x needs two hexadecimal digits".to_owned()),
    }
}

/// Writes a pair.
pub(super) fn write(out: &mut impl Write, key: &[u8], value: &[u8]) -> io::Result<()> {
    write_escaped(out, key)?;
    out.write_all(b"\t")?;
    write_escaped(out, value)?;
    out.write_all(b"\n")
}

fn write_escaped(out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    for run in bytes.split_inclusive(|byte| b"\t\n\r\\".contains(byte)) {
        let (last, plain) = run.split_last().expect("a run holds at least one byte");
        let escape: &[u8] = match last {
            b'\t' => b"\\t",
            b'\n' => b"\\n",
            b'\r' => b"\\r",
            b'\\' => b"\\\\",
            _ => std::slice::from_ref(last),
        };
        out.write_all(plain)?;
        out.write_all(escape)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{LinePairs, Position};

    fn first(text: &[u8]) -> Result<(Vec<u8>, Vec<u8>), String> {
        let entry = LinePairs::new(text, Position::default(), parse).next().unwrap();
        entry.map(|entry| (entry.key, entry.value)).map_err(|error| error.why)
    }

    #[test]
    fn escapes_are_read_as_the_table_says() {
        let pair = first(b"a\\tb\\\\\t\\n\\r\\x00\\xfF\xff\n").unwrap();
        assert_eq!(pair, (b"a\tb\\".to_vec(), b"\n\r\0\xff\xff".to_vec()));
    }

    #[test]
    fn only_bytes_with_a_letter_are_escaped() {
        let mut out = Vec::new();
        write(&mut out, b"k\\\t", b"\r\n\0\xff").unwrap();
        assert_eq!(out, b"k\\\\\\t\t\\r\\n\0\xff\n");
    }

    #[test]
    fn a_stray_backslash_or_tab_is_refused() {
        for text in [&b"a\tb\\"[..], b"a\tb\\q", b"a\t\\x1", b"a\t\\x+1", b"a\tb\tc", b"a"] {
            assert!(first(text).is_err(), "{}", text.escape_ascii());
        }
    }
}
