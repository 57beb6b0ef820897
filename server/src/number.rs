//! Numbers as Redis reads and writes them.

use std::sync::LazyLock;

use bigdecimal::{BigDecimal, RoundingMode, Zero as _};

/// Largest decimal exponent of a number: that of Redis's `long double`.
const EXPONENT_MAX: u64 = 4932;
/// Longest text of a floating-point number.
const FLOAT_TEXT_BYTES_MAX: usize = 5000;
/// Digits behind the point that INCRBYFLOAT keeps.
const FLOAT_DIGITS: i64 = 17;

/// A whole number in its only form: no sign but one minus, no leading zeros, no blanks.
pub(crate) fn parse_i64(text: &[u8]) -> Option<i64> {
    let (is_negative, digits) = match text.split_first()? {
        (b'-', digits) => (true, digits),
        _ => (false, text),
    };
    if !matches!(digits, [b'0'] | [b'1'..=b'9', ..]) || is_negative && digits == b"0" {
        return None;
    }
    let mut value: i64 = 0;
    for &digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        let digit = i64::from(digit - b'0');
        value = value.checked_mul(10)?;
        value = if is_negative { value.checked_sub(digit)? } else { value.checked_add(digit)? };
    }
    Some(value)
}

/// A number of INCRBYFLOAT.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Float {
    Finite(BigDecimal),
    Infinite,
}

/// Reads a floating-point number, as a decimal, so that adding loses nothing.
pub(crate) fn parse_float(text: &[u8]) -> Option<Float> {
    if text.len() > FLOAT_TEXT_BYTES_MAX {
        return None;
    }
    let text = std::str::from_utf8(text).ok()?;
    let unsigned = text.trim_start_matches(['+', '-']);
    if ["inf", "infinity"].iter().any(|word| unsigned.eq_ignore_ascii_case(word)) {
        return (text.len() <= unsigned.len() + 1).then_some(Float::Infinite);
    }
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
        None => (text, 0),
    };
    let digits = mantissa.strip_prefix(['+', '-']).unwrap_or(mantissa);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_digits(whole) || !is_digits(fraction) || whole.len() + fraction.len() == 0 {
        return None;
    }
    if exponent.unsigned_abs() > EXPONENT_MAX {
        return None;
    }
    text.parse().ok().filter(is_long_double).map(Float::Finite)
}

/// Whether Redis could keep the number, in its `long double`, but for its digits.
pub(crate) fn is_long_double(number: &BigDecimal) -> bool {
    static MOST: LazyLock<BigDecimal> =
        LazyLock::new(|| "1.18973149535723176502e4932".parse().expect("a number"));
    number.abs() <= *MOST
}

/// The number without trailing zeros, and with 17 digits behind the point at most.
pub(crate) fn format_float(number: &BigDecimal) -> String {
    let rounded = number.with_scale_round(FLOAT_DIGITS, RoundingMode::HalfEven).normalized();
    if rounded.is_zero() { "0".to_owned() } else { rounded.to_plain_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_canonical_form_is_a_whole_number() {
        for (text, value) in [("0", 0), ("-1", -1), ("9223372036854775807", i64::MAX)] {
            assert_eq!(parse_i64(text.as_bytes()), Some(value));
        }
        assert_eq!(parse_i64(b"-9223372036854775808"), Some(i64::MIN));
        for text in ["", "-", "+1", "01", "-0", " 1", "1 ", "9223372036854775808", "1.0", "a"] {
            assert_eq!(parse_i64(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn decimals_add_without_loss() {
        let add = |left: &str, right: &str| match (
            parse_float(left.as_bytes()),
            parse_float(right.as_bytes()),
        ) {
            (Some(Float::Finite(left)), Some(Float::Finite(right))) => {
                format_float(&(left + right))
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(add("0.1", "0.2"), "0.3");
        assert_eq!(add("1", "-1.1"), "-0.1");
        assert_eq!(add("5.0e3", "2.0e2"), "5200");
        assert_eq!(add("1", "-1"), "0");
        assert_eq!(add("3e-20", "0"), "0");
        assert!(parse_float(b"1e-9223372036854775808").is_none());
        assert_eq!(parse_float(b"+inf"), Some(Float::Infinite));
        for text in [
            "", "nan", " 1", "1e5000", "5e4932", "-2e4932", "e", "--1", "0x10", ".-5", "1.+5",
            "1.2.3", ".", "1e", "-",
        ] {
            assert_eq!(parse_float(text.as_bytes()), None, "{text}");
        }
    }
}
