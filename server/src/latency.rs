//! Spikes of latency: when commands took long, and how long the longest did.
//!
//! A sample is a second in which that happened, with the worst of it; so many seconds of each event are
//! kept, the oldest first.

use std::collections::{BTreeMap, VecDeque};

use parking_lot::Mutex;

use crate::command::{Command, flag};
use crate::limits::LATENCY_SAMPLES_MAX;

/// A second, since 1970, and the longest time in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    pub(crate) time_s: u64,
    pub(crate) ms: u64,
}

/// The samples of one event.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples {
    /// At least one.
    pub(crate) latest: VecDeque<Sample>,
    /// Of all since the last reset.
    pub(crate) ms_max: u64,
}

/// Samples by event.
#[derive(Debug, Default)]
pub(crate) struct Latency(Mutex<BTreeMap<&'static str, Samples>>);

/// The event that a command belongs to.
pub(crate) fn event_of(command: &Command) -> &'static str {
    if command.has(flag::FAST) { "fast-command" } else { "command" }
}

impl Latency {
    pub(crate) fn note(&self, event: &'static str, sample: Sample) {
        let mut events = self.0.lock();
        let samples = events.entry(event).or_default();
        samples.ms_max = samples.ms_max.max(sample.ms);
        match samples.latest.back_mut() {
            Some(last) if last.time_s == sample.time_s => last.ms = last.ms.max(sample.ms),
            _ => samples.latest.push_back(sample),
        }
        if samples.latest.len() > LATENCY_SAMPLES_MAX {
            samples.latest.pop_front();
        }
    }

    pub(crate) fn of(&self, event: &[u8]) -> Option<Samples> {
        let events = self.0.lock();
        let found = events.iter().find(|(name, _)| name.as_bytes() == event);
        found.map(|(_, samples)| samples.clone())
    }

    pub(crate) fn all(&self) -> Vec<(&'static str, Samples)> {
        self.0.lock().iter().map(|(&name, samples)| (name, samples.clone())).collect()
    }

    /// Forgets the events for which that is so. Returns how many there were.
    pub(crate) fn reset(&self, is_chosen: impl Fn(&str) -> bool) -> usize {
        let mut events = self.0.lock();
        let before = events.len();
        events.retain(|name, _| !is_chosen(name));
        before - events.len()
    }
}

/// Rows of a graph.
const ROWS: usize = 4;
/// Samples that a graph shows, the latest ones.
const COLUMNS: usize = 80;
/// A third of a row each.
const HEIGHTS: [char; 3] = ['_', 'o', '#'];

impl Samples {
    /// Bars from the lowest sample to the highest, and below each its age, from top to bottom.
    pub(crate) fn graph(&self, event: &str, now_s: u64) -> String {
        let all = self.latest.iter();
        let (low, high) = all
            .fold((u64::MAX, 0), |(low, high), sample| (low.min(sample.ms), high.max(sample.ms)));
        let worst = self.ms_max;
        let mut text =
            format!("{event} - high {high} ms, low {low} ms (all time high {worst} ms)\n");
        text += &format!("{}\n", "-".repeat(COLUMNS));
        let shown = self.latest.iter().skip(self.latest.len().saturating_sub(COLUMNS));
        let shown: Vec<&Sample> = shown.collect();
        let steps: Vec<usize> =
            shown.iter().map(|sample| step(sample.ms - low, high - low)).collect();
        for row in (0..ROWS).rev() {
            let bar = |step: &usize| bar(*step, row);
            text.extend(steps.iter().map(bar).chain(['\n']));
        }
        let ages: Vec<String> =
            shown.iter().map(|sample| age(now_s.saturating_sub(sample.time_s))).collect();
        text += &format!("{}\n", " ".repeat(shown.len()));
        for place in 0..ages.iter().map(String::len).max().unwrap_or(0) {
            let character = |age: &String| age.chars().nth(place).unwrap_or(' ');
            text.extend(ages.iter().map(character).chain(['\n']));
        }
        text
    }
}

/// How high a bar is, in parts of rows.
fn step(above_low: u64, range: u64) -> usize {
    let steps = ROWS * HEIGHTS.len();
    let exact = u128::from(above_low) * steps as u128 / u128::from(range.max(1));
    usize::try_from(exact).unwrap_or(usize::MAX).min(steps - 1)
}

fn bar(step: usize, row: usize) -> char {
    match step.checked_sub(row * HEIGHTS.len()) {
        None => ' ',
        Some(part) => HEIGHTS.get(part).copied().unwrap_or('|'),
    }
}

fn age(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m", seconds / 60),
        3600..86_400 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_one_sample_and_old_ones_go() {
        let latency = Latency::default();
        for (time_s, ms) in [(7, 3), (7, 9), (7, 4), (8, 1)] {
            latency.note("command", Sample { time_s, ms });
        }
        let samples = latency.of(b"command").unwrap();
        assert_eq!(samples.latest, [Sample { time_s: 7, ms: 9 }, Sample { time_s: 8, ms: 1 }]);
        for time_s in 9..300 {
            latency.note("command", Sample { time_s, ms: 2 });
        }
        let samples = latency.of(b"command").unwrap();
        assert_eq!((samples.latest.len(), samples.latest[0].time_s, samples.ms_max), (160, 140, 9));
        assert_eq!(latency.reset(|name| name == "command"), 1);
        assert!(latency.of(b"command").is_none());
    }

    #[test]
    fn a_graph_is_drawn_as_in_redis() {
        let latency = Latency::default();
        latency.note("command", Sample { time_s: 100, ms: 2 });
        latency.note("command", Sample { time_s: 101, ms: 1 });
        let graph = latency.of(b"command").unwrap().graph("command", 101);
        let lines = "command - high 2 ms, low 1 ms (all time high 2 ms)\n";
        let bars = "# \n| \n| \n|_\n  \n10\nss\n";
        assert_eq!(graph, format!("{lines}{}\n{bars}", "-".repeat(80)));
    }
}
