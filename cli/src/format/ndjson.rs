//! Newline-delimited JSON: one object a line.
//!
//! An object has exactly one of `key` (text) and `key_base64` (any bytes), and exactly one of `value`
//! and `value_base64`. Base64 is that of RFC 4648 section 4, padded. Other members are refused, so
//! that a misspelt one is not lost in silence.
//!
//! What is written is in one canonical form, so that dumps of the same pairs have the same bytes:
//!
//! * pairs in key order, each `{"key":..,"value_base64":..}` and a line feed, without white space;
//! * values always as `value_base64`;
//! * keys as `key` where they are UTF-8 without control characters (U+0000 to U+001F, U+007F to
//!   U+009F), as `key_base64` elsewhere;
//! * in a `key`, `"` and `\` are escaped with a backslash, every other character stands for itself.

use std::borrow::Cow;
use std::io::{self, Write};

use serde::{Deserialize, Serialize};

use super::lines::Line;
use super::{Entry, FormatError};
use crate::bytes::{from_base64, printable, to_base64};

/// The members of a line that is read.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Members<'a> {
    #[serde(borrow, default)]
    key: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    key_base64: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    value: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    value_base64: Option<Cow<'a, str>>,
}

/// A line that is written.
#[derive(Serialize)]
struct Dumped<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_base64: Option<String>,
    value_base64: String,
}

/// The pair of a line.
pub(super) fn parse(line: &Line<'_>) -> Result<Entry, FormatError> {
    let refuse = |why: String| FormatError::new(line.start, why);
    if line.bytes.trim_ascii_start().starts_with(b"[") {
        return Err(refuse("an array, and not an object".to_owned()));
    }
    let members: Members<'_> =
        serde_json::from_slice(line.bytes).map_err(|error| refuse(without_line(&error)))?;
    let key = bytes_of("key", members.key, members.key_base64).map_err(refuse)?;
    let value = bytes_of("value", members.value, members.value_base64).map_err(refuse)?;
    Entry::new(line.start, key, value, line.end)
}

/// What is wrong with a line, and where in it: which line it is, is told in front.
fn without_line(error: &serde_json::Error) -> String {
    let (why, column) = (error.to_string(), error.column());
    match why.strip_suffix(&format!(" at line {} column {column}", error.line())) {
        Some(why) => format!("{why} at column {column}"),
        None => why,
    }
}

fn bytes_of(
    name: &str,
    text: Option<Cow<'_, str>>,
    base64: Option<Cow<'_, str>>,
) -> Result<Vec<u8>, String> {
    match (text, base64) {
        (Some(text), None) => Ok(text.into_owned().into_bytes()),
        (None, Some(base64)) => from_base64(base64.as_bytes()),
        (None, None) => Err(format!("there is neither {name} nor {name}_base64")),
        (Some(_), Some(_)) => Err(format!("there is both {name} and {name}_base64")),
    }
}

/// Writes a pair in canonical form.
pub(super) fn write(out: &mut impl Write, key: &[u8], value: &[u8]) -> io::Result<()> {
    let text = printable(key);
    let key_base64 = if text.is_none() { Some(to_base64(key)) } else { None };
    let line = Dumped { key: text, key_base64, value_base64: to_base64(value) };
    serde_json::to_writer(&mut *out, &line)?;
    out.write_all(b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{LinePairs, Position};

    fn first(text: &str) -> Result<(Vec<u8>, Vec<u8>), String> {
        let entry = LinePairs::new(text.as_bytes(), Position::default(), parse).next().unwrap();
        entry.map(|entry| (entry.key, entry.value)).map_err(|error| error.why)
    }

    fn written(key: &[u8], value: &[u8]) -> String {
        let mut out = Vec::new();
        write(&mut out, key, value).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_that_is_no_json_is_refused_with_the_column() {
        assert_eq!(first("x"), Err("expected value at column 1".to_owned()));
    }

    #[test]
    fn key_and_value_may_be_text_or_base64() {
        let expected = Ok((b"k\n".to_vec(), b"v\0".to_vec()));
        assert_eq!(first(r#"{"key":"k\n","value":"v\u0000"}"#), expected);
        assert_eq!(first(r#" { "value_base64" : "dgA=", "key_base64" : "awo=" } "#), expected);
    }

    #[test]
    fn an_object_with_other_members_is_refused() {
        for text in [
            r#"["k",null,"v",null]"#,
            r#"{"key":"k"}"#,
            r#"{"value":"v"}"#,
            r#"{"key":"k","key_base64":"aw==","value":"v"}"#,
            r#"{"key":"k","value":"v","valu":"w"}"#,
            r#"{"key":"k","key":"k","value":"v"}"#,
            r#"{"key":1,"value":"v"}"#,
            r#"{"key":"k","value_base64":"dg"}"#,
            r#"{"key":"k","value":"v"} {}"#,
            r#"["k","v"]"#,
        ] {
            assert!(first(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_canonical_form_is_as_documented() {
        for (key, line) in [
            (&b"a/b"[..], r#"{"key":"a/b","value_base64":"AA=="}"#),
            (
                "\"\\ü\u{2028}".as_bytes(),
                "{\"key\":\"\\\"\\\\ü\u{2028}\",\"value_base64\":\"AA==\"}",
            ),
            (b"\x7f", r#"{"key_base64":"fw==","value_base64":"AA=="}"#),
            (b"\xff", r#"{"key_base64":"/w==","value_base64":"AA=="}"#),
            ("\u{9f}".as_bytes(), r#"{"key_base64":"wp8=","value_base64":"AA=="}"#),
        ] {
            assert_eq!(written(key, b"\0"), format!("{line}\n"));
        }
        assert_eq!(written(b"k", b""), "{\"key\":\"k\",\"value_base64\":\"\"}\n");
    }
}
