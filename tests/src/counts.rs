//! What a suite has tried, told in lines that the campaign adds up over its runs.

/// How such a line begins.
const MARK: &str = "counted ";

/// Tells on standard error that so many of `what` were tried, and nothing was found.
#[expect(clippy::print_stderr, reason = "counts are shown to whoever runs the suite")]
pub fn tell(what: &str, count: u64) {
    eprintln!("{MARK}{count} {what}");
}

/// Tells on standard error that something could not be tried on this machine, and why; counted like
/// everything else, so that nobody takes it for a success.
#[expect(clippy::print_stderr, reason = "what is left out must be seen")]
pub fn leave_out(what: &str, why: &dyn std::fmt::Display) {
    eprintln!("LEFT OUT: {what}: {why}");
    tell("left out", 1);
}

/// What a line tells of, and how many; `None` for any other line.
#[must_use]
pub fn parse(line: &str) -> Option<(&str, u64)> {
    let (count, what) = line.trim().strip_prefix(MARK)?.split_once(' ')?;
    Some((what, count.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_line_that_counts_is_told_from_others() {
        assert_eq!(parse("counted 12 crash states\n"), Some(("crash states", 12)));
        for line in ["", "counted", "counted many crash states", "I counted 12 crash states"] {
            assert_eq!(parse(line), None, "{line}");
        }
    }
}
