//! How long operations took.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// Longest latency that is told apart from longer ones: an hour, in nanoseconds.
const LATENCY_NS_MAX: u64 = 3_600_000_000_000;
/// Decimal digits of a latency that count.
const DIGITS: u8 = 3;

/// A histogram of latencies.
#[derive(Clone, Debug)]
pub(super) struct Latencies(Histogram<u64>);

impl Latencies {
    pub(super) fn new() -> Self {
        let histogram = Histogram::new_with_max(LATENCY_NS_MAX, DIGITS)
            .expect("the bound is above 1 and the digits are at most 5");
        Self(histogram)
    }

    /// Runs an operation and records how long it took.
    pub(super) fn time<T>(&mut self, operation: impl FnOnce() -> T) -> T {
        let started = Instant::now();
        let result = operation();
        let elapsed = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.0.saturating_record(elapsed);
        result
    }

    /// Takes in what another thread recorded.
    pub(super) fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("both histograms have the same bounds");
    }

    pub(super) fn count(&self) -> u64 {
        self.0.len()
    }

    /// What this share of the operations did not exceed.
    pub(super) fn quantile(&self, quantile: f64) -> Duration {
        Duration::from_nanos(self.0.value_at_quantile(quantile))
    }

    pub(super) fn max(&self) -> Duration {
        Duration::from_nanos(self.0.max())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Latencies;

    #[test]
    fn quantiles_of_two_threads_are_those_of_all_their_operations() {
        let (mut all, mut other) = (Latencies::new(), Latencies::new());
        for _ in 0..999 {
            all.time(|| ());
        }
        other.0.record(5_000_000_000).unwrap();
        all.add(&other);
        assert_eq!(all.count(), 1000);
        assert!(all.quantile(0.99) < Duration::from_secs(1));
        assert!(all.max() >= Duration::from_secs(5));
    }
}
