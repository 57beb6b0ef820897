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
    }

    pub(crate) fn rejected(&self, command: &Command) {
        if let Some(calls) = self.0.get(command.name) {
            calls.rejected.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn reset(&self) {
        for calls in self.0.values() {
            for counter in [&calls.count, &calls.micros, &calls.rejected, &calls.failed] {
                counter.store(0, Ordering::Relaxed);
            }
        }
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
    }
}
