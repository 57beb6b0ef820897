//! How often each command was called, for how long, and how often in vain: `INFO commandstats`.
//!
//! The time is that of execution; waiting for the flush belongs to a pipeline and is no command's.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::command::{COMMANDS, Command};

/// Counters of one command.
#[derive(Debug, Default)]
pub(crate) struct Calls {
    count: AtomicU64,
    micros: AtomicU64,
    /// Not executed: wrong arguments, no permission, not now.
    rejected: AtomicU64,
    /// Executed, with an error as reply.
    failed: AtomicU64,
    /// Calls that took no longer than [`bucket_ns`], and longer than the bucket before.
    buckets: [AtomicU64; BUCKETS],
}

/// Buckets of a histogram: the last one has what took a second or longer.
const BUCKETS: usize = 21;

/// The upper bound of a bucket, in nanoseconds.
const fn bucket_ns(index: usize) -> u64 {
    1024 << index
}

fn bucket(took: Duration) -> usize {
    let holds = |&index: &usize| took.as_nanos() <= u128::from(bucket_ns(index));
    (0..BUCKETS).find(holds).unwrap_or(BUCKETS - 1)
}

/// Upper bounds in microseconds, and how many calls took at most so long.
pub(crate) type Histogram = Vec<(u64, u64)>;

impl Calls {
    /// Only buckets in which there is something. Their bounds are told as Redis tells them, whose buckets
    /// are wider by a hundred-and-twenty-eighth.
    fn histogram(&self) -> Histogram {
        let mut histogram = Histogram::new();
        let mut sum = 0;
        for (index, bucket) in self.buckets.iter().enumerate() {
            let count = bucket.load(Ordering::Relaxed);
            sum += count;
            if count > 0 {
                let bound = bucket_ns(index);
                histogram.push(((bound + bound / 128 - 1) / 1000, sum));
            }
        }
        histogram
    }
}

/// Counters of all commands and subcommands, by name.
#[derive(Debug)]
pub(crate) struct AllCalls(HashMap<&'static str, Calls>);

impl AllCalls {
    pub(crate) fn new() -> Self {
        let all = COMMANDS.iter().copied();
        let all = all.flat_map(|command| std::iter::once(command).chain(command.subcommands));
        Self(all.map(|command| (command.name, Calls::default())).collect())
    }

    pub(crate) fn executed(&self, command: &Command, took: Duration, is_failed: bool) {
        let Some(calls) = self.0.get(command.name) else { return };
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        calls.count.fetch_add(1, Ordering::Relaxed);
        calls.micros.fetch_add(micros, Ordering::Relaxed);
        calls.failed.fetch_add(u64::from(is_failed), Ordering::Relaxed);
        calls.buckets[bucket(took)].fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn rejected(&self, command: &Command) {
        if let Some(calls) = self.0.get(command.name) {
            calls.rejected.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn reset(&self) {
        for calls in self.0.values() {
            let counters = [&calls.count, &calls.micros, &calls.rejected, &calls.failed];
            for counter in counters.into_iter().chain(&calls.buckets) {
                counter.store(0, Ordering::Relaxed);
            }
        }
    }

    /// The histograms of the commands that were called and are asked for, in the order of their names.
    pub(crate) fn histograms(
        &self,
        is_asked: impl Fn(&str) -> bool,
    ) -> Vec<(&'static str, Histogram)> {
        let asked = self.0.iter().filter(|(name, _)| is_asked(name));
        let all = asked.map(|(&name, calls)| (name, calls.histogram()));
        let mut all: Vec<_> = all.filter(|(_, histogram)| !histogram.is_empty()).collect();
        all.sort_unstable_by_key(|&(name, _)| name);
        all
    }

    /// The lines of INFO for the commands that were asked for, in the order of their names.
    pub(crate) fn lines(&self) -> Vec<String> {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut lines: Vec<_> = self
            .0
            .iter()
            .filter(|(_, calls)| read(&calls.count) + read(&calls.rejected) > 0)
            .map(|(name, calls)| {
                let (count, micros) = (read(&calls.count), read(&calls.micros));
                // Hundredths, so that no rounding is needed beyond whole numbers.
                let each = micros.saturating_mul(100).checked_div(count).unwrap_or(0);
                format!(
                    "cmdstat_{name}:calls={count},usec={micros},usec_per_call={}.{:02},\
                     rejected_calls={},failed_calls={}",
                    each / 100,
                    each % 100,
                    read(&calls.rejected),
                    read(&calls.failed),
                )
            })
            .collect();
        lines.sort_unstable();
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_commands_that_were_asked_for_have_a_line() {
        let all = AllCalls::new();
        assert!(all.lines().is_empty());
        let named = |name: &str| {
            let found = COMMANDS.iter().find(|command| command.name == name);
            *found.unwrap()
        };
        all.executed(named("get"), Duration::from_micros(5), false);
        all.executed(named("get"), Duration::from_micros(6), true);
        all.rejected(named("set"));
        assert_eq!(
            all.lines(),
            [
                "cmdstat_get:calls=2,usec=11,usec_per_call=5.50,rejected_calls=0,failed_calls=1",
                "cmdstat_set:calls=0,usec=0,usec_per_call=0.00,rejected_calls=1,failed_calls=0",
            ]
        );
        all.reset();
        assert!(all.lines().is_empty());
        assert!(all.histograms(|_| true).is_empty());
    }

    #[test]
    fn a_histogram_counts_calls_up_to_each_bound() {
        let all = AllCalls::new();
        let get = COMMANDS.iter().find(|command| command.name == "get").unwrap();
        for us in [1, 1, 2, 30, 100, 90_000_000] {
            all.executed(get, Duration::from_micros(us), false);
        }
        let expected = vec![(1, 2), (2, 3), (33, 4), (132, 5), (1_082_130, 6)];
        assert_eq!(all.histograms(|_| true), [("get", expected)]);
        assert!(all.histograms(|name| name == "set").is_empty());
    }
}
