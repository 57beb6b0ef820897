//! Markdown tables, and how figures are written in them.

use std::fmt;
use std::time::Duration;

/// A table whose first column is text and whose others are figures.
#[derive(Debug)]
pub(super) struct Table {
    heading: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new<const N: usize>(heading: [&str; N]) -> Self {
        Self { heading: heading.map(str::to_owned).to_vec(), rows: Vec::new() }
    }

    /// Adds a row of as many cells as the heading has.
    pub(super) fn row<const N: usize>(&mut self, cells: [String; N]) {
        assert_eq!(N, self.heading.len(), "a row is as long as the heading");
        self.rows.push(cells.to_vec());
    }

    fn widths(&self) -> Vec<usize> {
        let all = || std::iter::once(&self.heading).chain(&self.rows);
        let width = |column: usize| all().map(|row| row[column].chars().count()).max();
        (0..self.heading.len()).map(|column| width(column).unwrap_or(0).max(4)).collect()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widths = self.widths();
        let line = |f: &mut fmt::Formatter<'_>, row: &[String]| {
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                match column {
                    0 => write!(f, "| {cell:<width$} |")?,
                    _ => write!(f, " {cell:>width$} |")?,
                }
            }
            Ok(())
        };
        line(f, &self.heading)?;
        f.write_str("\n")?;
        for (column, width) in widths.iter().enumerate() {
            match column {
                0 => write!(f, "|{:-<width$}|", "", width = width + 2)?,
                _ => write!(f, "{:->width$}:|", "", width = width + 1)?,
            }
        }
        for row in &self.rows {
            f.write_str("\n")?;
            line(f, row)?;
        }
        Ok(())
    }
}

/// A duration in the unit that suits it.
pub(super) fn time(duration: Duration) -> String {
    format!("{duration:.1?}")
}

/// Bytes in MiB.
pub(super) fn mib(bytes: u64) -> String {
    let tenths = (u128::from(bytes) * 10) >> 20;
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

/// The share that a number has of the whole.
pub(super) fn percent(part: u64, whole: u64) -> String {
    let permille = u128::from(part) * 1000 / u128::from(whole.max(1));
    format!("{}.{} %", permille / 10, permille % 10)
}

/// How many times `of` a duration is.
pub(super) fn ratio(duration: Duration, of: Duration) -> f64 {
    duration.as_secs_f64() / of.as_secs_f64()
}

/// So many in this time, for a second.
pub(super) fn per_second(count: u64, elapsed: Duration) -> f64 {
    // No run is long enough for 2^32 of anything.
    f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / elapsed.as_secs_f64()
}

/// The middle of the values; of an even number, the mean of the two in the middle. 0 of none.
pub(super) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    match (values.len() / 2, values.len() % 2) {
        (0, 0) => 0.0,
        (half, 0) => f64::midpoint(values[half - 1], values[half]),
        (half, _) => values[half],
    }
}

/// [`median`] of durations.
pub(super) fn median_time(values: impl IntoIterator<Item = Duration>) -> Duration {
    Duration::from_secs_f64(median(values.into_iter().map(|value| value.as_secs_f64()).collect()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Table, median, median_time, mib, per_second, percent, ratio};

    #[test]
    fn a_table_is_markdown_with_aligned_columns() {
        let mut table = Table::new(["threads", "p99"]);
        table.row(["1".into(), "83.0µs".into()]);
        table.row(["sixteen".into(), "1.2ms".into()]);
        let lines: Vec<_> = table.to_string().lines().map(str::to_owned).collect();
        assert_eq!(lines[0], "| threads |    p99 |");
        assert_eq!(lines[1], "|---------|-------:|");
        assert_eq!(lines[2], "| 1       | 83.0µs |");
        assert_eq!(lines[3], "| sixteen |  1.2ms |");
    }

    #[test]
    fn the_median_of_an_even_number_is_between_the_middle_two() {
        assert!((median(vec![9.0, 1.0, 2.0]) - 2.0).abs() < 1e-9);
        assert!((median(vec![9.0, 1.0, 2.0, 3.0]) - 2.5).abs() < 1e-9);
        assert!(median(vec![]).abs() < 1e-9);
        let times = [3, 1, 2].map(Duration::from_millis);
        assert_eq!(median_time(times), Duration::from_millis(2));
    }

    #[test]
    fn figures_are_scaled() {
        assert_eq!(mib(3 << 19), "1.5 MiB");
        assert_eq!(percent(1, 8), "12.5 %");
        assert!((ratio(Duration::from_secs(3), Duration::from_secs(2)) - 1.5).abs() < 1e-9);
        assert!((per_second(10, Duration::from_millis(500)) - 20.0).abs() < 1e-9);
    }
}
