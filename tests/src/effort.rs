//! How much a suite tries, where the environment says so.

/// The number that a variable holds; `None` where it is not set.
///
/// # Panics
/// When it holds something else.
#[must_use]
pub fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is a number, not {text}")))
}
