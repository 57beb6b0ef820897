//! How the figures of a report are written, for people and for serde.

use std::fmt;
use std::time::Duration;

/// Columns of a figure's name and of the figure, which ends at the same column in every line.
const NAME_COLUMNS: usize = 22;
const FIGURE_COLUMNS: usize = 22;

/// A number of bytes, shown in the largest unit in which it is at least one.
pub(super) struct Bytes(pub(super) u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(&str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
        let text = match UNITS.iter().find(|(_, bits)| self.0 >> bits > 0) {
            Some((unit, bits)) => {
                let tenths = (u128::from(self.0) * 10) >> bits;
                format!("{}.{} {unit}", tenths / 10, tenths % 10)
            }
            None => format!("{} B", self.0),
        };
        f.pad(&text)
    }
}

pub(super) const fn yes_no(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}

/// Writes a report line by line, with a line break between two lines.
pub(super) struct Lines<'a, 'f> {
    f: &'a mut fmt::Formatter<'f>,
    result: fmt::Result,
    is_first: bool,
}

impl<'a, 'f> Lines<'a, 'f> {
    pub(super) const fn new(f: &'a mut fmt::Formatter<'f>) -> Self {
        Self { f, result: Ok(()), is_first: true }
    }

    pub(super) fn line(&mut self, name: &str, figure: impl fmt::Display) -> &mut Self {
        let line_break = if self.is_first { "" } else { "\n" };
        self.is_first = false;
        self.result = self.result.and_then(|()| {
            write!(self.f, "{line_break}{name:<NAME_COLUMNS$}{figure:>FIGURE_COLUMNS$}")
        });
        self
    }

    pub(super) fn duration(&mut self, name: &str, duration: Option<Duration>) -> &mut Self {
        match duration {
            Some(duration) => self.line(name, format!("{duration:.1?}")),
            None => self.line(name, "-"),
        }
    }

    pub(super) const fn finish(&self) -> fmt::Result {
        self.result
    }
}

#[cfg(feature = "serde")]
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
pub(super) fn lsn<S: serde::Serializer>(
    lsn: &crate::Lsn,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(lsn.get())
}

#[cfg(feature = "serde")]
pub(crate) fn seconds<S: serde::Serializer>(
    duration: &Duration,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}

#[cfg(feature = "serde")]
pub(super) fn optional_seconds<S: serde::Serializer>(
    duration: &Option<Duration>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serde::Serialize::serialize(&duration.map(|duration| duration.as_secs_f64()), serializer)
}

#[cfg(test)]
mod tests {
    use super::Bytes;

    #[test]
    fn bytes_are_shown_in_the_largest_unit_that_fits() {
        for (bytes, shown) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            ((1 << 20) - 1, "1023.9 KiB"),
            (3 << 29, "1.5 GiB"),
            (u64::MAX, "16777215.9 TiB"),
        ] {
            assert_eq!(Bytes(bytes).to_string(), shown);
        }
    }
}
