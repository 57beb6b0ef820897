//! What a workload measured, as a row of a table or as JSON.

use std::fmt;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::failure::Failure;

/// Columns of [`Measurement`]'s row.
pub(super) const HEADING: &str = "workload    threads   operations         ops/s       pairs/s        \
                                  p50        p99      p99.9        max";

/// Longest latency that is told apart from longer ones: an hour, in nanoseconds.
const LATENCY_NS_MAX: u64 = 3_600_000_000_000;
/// Decimal digits of a latency that count.
const DIGITS: u8 = 3;

/// Latencies of one kind of operation on one thread.
pub(super) struct Latencies(Histogram<u64>);

impl Latencies {
    pub(super) fn new() -> Self {
        let histogram = Histogram::new_with_max(LATENCY_NS_MAX, DIGITS)
            .expect("the bound is above 1 and the digits are at most 5");
        Self(histogram)
    }

    /// Runs an operation and records how long it took.
    pub(super) fn time<T>(
        &mut self,
        operation: impl FnOnce() -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let started = Instant::now();
        let result = operation()?;
        let elapsed = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.0.saturating_record(elapsed);
        Ok(result)
    }

    /// Takes in what another thread recorded.
    pub(super) fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("both histograms have the same bounds");
    }

    fn quantile(&self, quantile: f64) -> Duration {
        Duration::from_nanos(self.0.value_at_quantile(quantile))
    }
}

/// What was measured of a workload so far.
pub(super) struct Run {
    pub(super) latencies: Latencies,
    /// Pairs that the operations touched together.
    pub(super) pairs: u64,
    pub(super) elapsed: Duration,
}

impl Run {
    pub(super) fn new() -> Self {
        Self { latencies: Latencies::new(), pairs: 0, elapsed: Duration::ZERO }
    }

    /// Takes in what another run, before or after this one, measured.
    pub(super) fn add(&mut self, other: &Self) {
        self.latencies.add(&other.latencies);
        self.pairs += other.pairs;
        self.elapsed += other.elapsed;
    }
}

/// The figures of a workload.
#[derive(Debug, Serialize)]
pub(super) struct Measurement {
    workload: &'static str,
    threads: usize,
    operations: u64,
    pairs: u64,
    #[serde(serialize_with = "crate::output::seconds")]
    elapsed: Duration,
    operations_per_second: f64,
    pairs_per_second: f64,
    #[serde(serialize_with = "crate::output::seconds")]
    p50: Duration,
    #[serde(serialize_with = "crate::output::seconds")]
    p99: Duration,
    #[serde(serialize_with = "crate::output::seconds")]
    p99_9: Duration,
    #[serde(serialize_with = "crate::output::seconds")]
    max: Duration,
    /// Rate divided by that of bare overwrites in the same run.
    #[serde(skip_serializing_if = "Option::is_none")]
    of_overwrites: Option<f64>,
}

impl Measurement {
    pub(super) fn new(workload: &'static str, threads: usize, run: &Run) -> Self {
        let &Run { ref latencies, pairs, elapsed } = run;
        let operations = latencies.0.len();
        Self {
            workload,
            threads,
            operations,
            pairs,
            elapsed,
            operations_per_second: per_second(operations, elapsed),
            pairs_per_second: per_second(pairs, elapsed),
            p50: latencies.quantile(0.5),
            p99: latencies.quantile(0.99),
            p99_9: latencies.quantile(0.999),
            max: Duration::from_nanos(latencies.0.max()),
            of_overwrites: None,
        }
    }

    /// Sets the rate in relation to that of overwrites.
    pub(super) fn compare_with_overwrites(&mut self, overwrites: &Self) {
        self.of_overwrites = Some(self.operations_per_second / overwrites.operations_per_second);
    }
}

fn per_second(count: u64, elapsed: Duration) -> f64 {
    // A count beyond 2^32 would take longer than any run; the conversion to f64 is then exact.
    f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / elapsed.as_secs_f64()
}

impl fmt::Display for Measurement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<10} {:>8} {:>12} {:>13.0} {:>13.0}",
            self.workload,
            self.threads,
            self.operations,
            self.operations_per_second,
            self.pairs_per_second
        )?;
        for latency in [self.p50, self.p99, self.p99_9, self.max] {
            write!(f, " {:>10}", format!("{latency:.1?}"))?;
        }
        match self.of_overwrites {
            Some(ratio) => write!(f, "   {:.0} % of overwrites", ratio * 100.0),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{HEADING, Measurement, Run};

    fn sample(operations: u64) -> Measurement {
        let mut run = Run { pairs: 10_000, elapsed: Duration::from_secs(2), ..Run::new() };
        for _ in 0..operations {
            run.latencies.time(|| Ok(())).unwrap();
        }
        Measurement::new("batch", 1, &run)
    }

    #[test]
    fn rates_are_counts_over_time() {
        let measurement = sample(10);
        assert!((measurement.operations_per_second - 5.0).abs() < 1e-9);
        assert!((measurement.pairs_per_second - 5000.0).abs() < 1e-9);
        assert!(measurement.p50 <= measurement.p99 && measurement.p99 <= measurement.max);
    }

    #[test]
    fn a_row_fits_under_the_heading() {
        assert_eq!(sample(10).to_string().chars().count(), HEADING.chars().count());
    }

    #[test]
    fn a_comparison_shows_as_a_share() {
        let mut measurement = sample(8);
        measurement.compare_with_overwrites(&sample(10));
        assert!(measurement.to_string().ends_with("80 % of overwrites"));
    }

    #[test]
    fn runs_add_up() {
        let (mut all, mut one) = (Run::new(), Run::new());
        one.latencies.time(|| Ok(())).unwrap();
        one.elapsed = Duration::from_secs(1);
        all.add(&one);
        all.add(&one);
        assert_eq!((all.latencies.0.len(), all.elapsed), (2, Duration::from_secs(2)));
    }
}
