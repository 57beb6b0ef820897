//! Keys and values on the command line.
//!
//! `text:`, `hex:` and `base64:` say how the rest is meant; without one of them it is text. What is
//! shown is in the same notation, so that it can be given back: text where the bytes are UTF-8
//! without control characters, `hex:` for the rest up to 64 bytes, `base64:` beyond.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::str;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::builder::{OsStringValueParser, TypedValueParser};

const TEXT: &str = "text:";
const HEX: &str = "hex:";
const BASE64: &str = "base64:";

/// Longest binary string that is shown in hexadecimal.
const HEX_BYTES_MAX: usize = 64;

/// A key or value given as an argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BytesArg(pub Vec<u8>);

impl BytesArg {
    /// For clap; arguments need not be UTF-8.
    pub(crate) fn parser() -> impl TypedValueParser<Value = Self> {
        OsStringValueParser::new().try_map(|argument: OsString| parse(&argument.into_vec()))
    }
}

impl AsRef<[u8]> for BytesArg {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// The bytes that an argument means.
///
/// # Errors
/// A sentence where it means none.
pub fn parse(argument: &[u8]) -> Result<BytesArg, String> {
    if let Some(text) = argument.strip_prefix(TEXT.as_bytes()) {
        return Ok(BytesArg(text.to_vec()));
    }
    if let Some(digits) = argument.strip_prefix(HEX.as_bytes()) {
        return from_hex(digits).map(BytesArg);
    }
    if let Some(coded) = argument.strip_prefix(BASE64.as_bytes()) {
        return from_base64(coded).map(BytesArg);
    }
    Ok(BytesArg(argument.to_vec()))
}

/// The bytes in the notation of arguments.
#[must_use]
pub fn show(bytes: &[u8]) -> String {
    match printable(bytes) {
        Some("") => TEXT.to_owned(),
        Some(text) if [TEXT, HEX, BASE64].iter().any(|prefix| text.starts_with(prefix)) => {
            format!("{TEXT}{text}")
        }
        Some(text) => text.to_owned(),
        None if bytes.len() <= HEX_BYTES_MAX => format!("{HEX}{}", to_hex(bytes)),
        None => format!("{BASE64}{}", to_base64(bytes)),
    }
}

/// The bytes as text, where they are UTF-8 without control characters (Unicode category Cc).
pub(crate) fn printable(bytes: &[u8]) -> Option<&str> {
    str::from_utf8(bytes).ok().filter(|text| !text.contains(char::is_control))
}

/// Standard alphabet, padded.
pub(crate) fn to_base64(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

/// Standard alphabet, padded; no other form is taken, so that each byte string has one.
pub(crate) fn from_base64(coded: &[u8]) -> Result<Vec<u8>, String> {
    STANDARD.decode(coded).map_err(|error| format!("this is not base64: {error}"))
}

/// Two lower-case digits a byte.
pub(crate) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(digits: &[u8]) -> Result<Vec<u8>, String> {
    if !digits.len().is_multiple_of(2) {
        return Err("hexadecimal needs two digits a byte".to_owned());
    }
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
            .ok_or_else(|| format!("`{}` is not a hexadecimal digit", byte.escape_ascii()))
    };
    digits.chunks_exact(2).map(|pair| Ok(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{HEX_BYTES_MAX, parse, show};

    fn parsed(argument: &str) -> Vec<u8> {
        parse(argument.as_bytes()).unwrap().0
    }

    proptest! {
        #[test]
        fn what_is_shown_can_be_given_back(bytes: Vec<u8>) {
            prop_assert_eq!(parsed(&show(&bytes)), bytes);
        }

        #[test]
        fn text_that_is_shown_can_be_given_back(text: String) {
            prop_assert_eq!(parsed(&show(text.as_bytes())), text.into_bytes());
        }
    }

    #[test]
    fn a_prefix_says_how_the_rest_is_meant() {
        assert_eq!(parsed("plain"), b"plain");
        assert_eq!(parsed("text:hex:00"), b"hex:00");
        assert_eq!(parsed("hex:00fF"), [0, 0xff]);
        assert_eq!(parsed("base64:AAE="), [0, 1]);
        assert_eq!(parsed("hex:"), b"");
    }

    #[test]
    fn what_is_neither_is_refused() {
        for argument in ["hex:0", "hex:0g", "hex:+1", "base64:AAE", "base64:A A=", "base64:AAF="] {
            assert!(parse(argument.as_bytes()).is_err(), "{argument}");
        }
    }

    #[test]
    fn bytes_are_shown_in_the_shortest_notation_that_is_safe() {
        assert_eq!(show("grün".as_bytes()), "grün");
        assert_eq!(show(b""), "text:");
        assert_eq!(show(b"hex:1"), "text:hex:1");
        assert_eq!(show(b"a\n"), "hex:610a");
        assert_eq!(show("\u{85}".as_bytes()), "hex:c285");
        assert!(show(&[0; HEX_BYTES_MAX + 1]).starts_with("base64:"));
    }
}
