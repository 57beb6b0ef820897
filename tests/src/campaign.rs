//! The long campaign: the random suites again and again, with seeds that were never used, and the
//! running totals over all campaigns, which stand in a Markdown table of their own. A turn takes less
//! than a minute where the machine has nothing else to do, and the suite that has had the least time
//! is next: so a campaign may be as many short ones as one likes.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::counts;
use crate::failure::{Failure, Outcome};

/// How the clock's time of a suite's turns is counted.
const SECONDS: &str = "seconds by the clock: ";
/// How the time that its processes had of the processors is counted, all suites together.
const PROCESSOR_SECONDS: &str = "seconds of processors";
/// Seeds of campaigns begin here; those of the ordinary suites lie below.
const FIRST_SEED: u64 = 1_000_000;

/// A suite that finds something new each time.
#[derive(Clone, Copy, Debug)]
pub struct Turn {
    /// Of the test program.
    pub suite: &'static str,
    /// Tests whose names contain this.
    pub filter: &'static str,
    /// The variable that says how much is tried, and how much that is in one turn.
    pub effort: (&'static str, u64),
    /// What the seeds that are used up are counted as; `None` where chance does not come from a seed.
    pub seeds: Option<&'static str>,
}

/// The suites, one after the other.
pub const TURNS: [Turn; 7] = [
    Turn { suite: "model", filter: "", effort: ("SEAWALL_SEEDS", 500), seeds: Some("model seeds") },
    Turn {
        suite: "crash",
        filter: "random",
        effort: ("SEAWALL_RANDOM_CRASHES", 12),
        seeds: Some("random workloads cut at every operation"),
    },
    Turn {
        suite: "sweep",
        filter: "random",
        effort: ("SEAWALL_FAULTY_SEEDS", 60),
        seeds: Some("random workloads with faults"),
    },
    Turn {
        suite: "history",
        filter: "transactions",
        effort: ("SEAWALL_HISTORIES", 30),
        seeds: Some("seeds of histories"),
    },
    Turn {
        suite: "redis",
        filter: "replies",
        effort: ("SEAWALL_REDIS_STREAMS", 200),
        seeds: Some("streams compared with Redis"),
    },
    Turn { suite: "kill", filter: "", effort: ("SEAWALL_KILLS", 40), seeds: None },
    Turn { suite: "file_systems", filter: "power", effort: ("SEAWALL_POWER_CUTS", 8), seeds: None },
];

/// Totals over all campaigns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals(BTreeMap<String, u64>);

impl Totals {
    /// Those in the table at `path`; none where there is no file.
    ///
    /// # Errors
    /// When the file cannot be read, or a row is not one of ours.
    pub fn read(path: &Path) -> Outcome<Self> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(Failure::new(format!("{}: {error}", path.display()))),
        }
    }

    fn parse(text: &str) -> Outcome<Self> {
        let rows = text.lines().filter(|line| line.starts_with('|')).skip(2);
        let parsed = rows.map(|row| {
            let cells: Vec<_> = row.split('|').map(str::trim).collect();
            match cells[..] {
                [_, what, count, _] => Some((what.to_owned(), count.parse().ok()?)),
                _ => None,
            }
        });
        let totals: Option<BTreeMap<_, _>> = parsed.collect();
        totals.map(Self).ok_or_else(|| Failure::new("a row of the totals is not one"))
    }

    /// The table.
    #[must_use]
    pub fn show(&self) -> String {
        let mut text = String::from(
            "# Campaigns\n\nRunning totals of `cargo run --release --package seawall-tests --bin campaign`, \
             which writes this file.\nWhatever failed is not in them; it is in the changelog, with the test \
             that holds it.\n\n| what | total |\n|---|---:|\n",
        );
        for (what, count) in &self.0 {
            writeln!(text, "| {what} | {count} |").expect("writing to a string does not fail");
        }
        text
    }

    /// How many of `what` there were.
    #[must_use]
    pub fn of(&self, what: &str) -> u64 {
        self.0.get(what).copied().unwrap_or_default()
    }

    /// Which of the turns has had the least time.
    #[must_use]
    pub fn next<'t>(&self, turns: &[&'t Turn]) -> Option<&'t Turn> {
        turns.iter().copied().min_by_key(|turn| self.of(&turn.clock()))
    }

    /// Adds to a total.
    pub fn add(&mut self, what: &str, count: u64) {
        *self.0.entry(what.to_owned()).or_default() += count;
    }
}

impl Turn {
    fn clock(&self) -> String {
        format!("{SECONDS}{}", self.suite)
    }
    /// Runs the suite with seeds that `totals` do not contain yet, and adds what it tried, and the time
    /// that it took. `echo` gets each line it prints.
    ///
    /// # Errors
    /// When the suite fails; then nothing is added.
    pub fn run(&self, totals: &mut Totals, mut echo: impl FnMut(&str)) -> Outcome {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command
            .args(["test", "--release", "--quiet", "--package", "seawall-tests"])
            .args(["--test", self.suite, "--", self.filter, "--nocapture"])
            // Assertions are half of what finds anything.
            .env("CARGO_PROFILE_RELEASE_DEBUG_ASSERTIONS", "true")
            .env(self.effort.0, self.effort.1.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        if let Some(seeds) = self.seeds {
            let first = FIRST_SEED + totals.of(seeds);
            command.env("SEAWALL_FIRST_SEED", first.to_string());
        }
        let io = |error: std::io::Error| Failure::new(format!("{}: {error}", self.suite));
        let (started, processors) = (Instant::now(), ended_children_time()?);
        let mut process = command.spawn().map_err(io)?;
        let said = process.stderr.take().expect("standard error is piped");
        let mut added = Vec::new();
        for line in BufReader::new(said).lines() {
            let line = line.map_err(io)?;
            if let Some((what, count)) = counts::parse(&line) {
                added.push((what.to_owned(), count));
            }
            echo(&line);
        }
        if !process.wait().map_err(io)?.success() {
            return Err(Failure::new(format!("suite {} failed", self.suite)));
        }
        added.iter().for_each(|(what, count)| totals.add(what, *count));
        totals.add(&self.clock(), started.elapsed().as_secs());
        let processors = ended_children_time()?.saturating_sub(processors);
        totals.add(PROCESSOR_SECONDS, processors.as_secs());
        Ok(())
    }
}

/// What this program's children have had of the processors, and theirs, as far as they have ended.
fn ended_children_time() -> Outcome<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat")
        .map_err(|error| Failure::new(format!("/proc/self/stat: {error}")))?;
    // The program's name, in brackets, may contain anything; behind it the third field comes first.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields.skip(13).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    let per_second = rustix::param::clock_ticks_per_second();
    Ok(Duration::from_millis(ticks * 1000 / per_second.max(1)))
}

#[cfg(test)]
mod tests {
    use super::{TURNS, Totals, ended_children_time};

    #[test]
    fn totals_are_read_as_they_were_shown() {
        let mut totals = Totals::default();
        totals.add("crash states", 12);
        totals.add("power cuts", 3);
        totals.add("crash states", 8);
        let again = Totals::parse(&totals.show()).unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(again, totals);
        assert_eq!((again.of("crash states"), again.of("kills")), (20, 0));
        assert!(Totals::parse("| what | total |\n|---|---|\n| kills | many |\n").is_err());
    }

    #[test]
    fn the_suite_that_has_had_the_least_time_is_next() {
        let turns: Vec<_> = TURNS.iter().collect();
        let mut totals = Totals::default();
        let mut order = Vec::new();
        for seconds in [30, 10].into_iter().chain((20..).step_by(10)).take(TURNS.len() + 1) {
            let next = totals.next(&turns).expect("there are suites");
            totals.add(&next.clock(), seconds);
            order.push(next.suite);
        }
        assert_eq!(order[..TURNS.len()], TURNS.map(|turn| turn.suite));
        assert_eq!(order[TURNS.len()], TURNS[1].suite);
        assert!(totals.next(&[]).is_none());
    }

    #[test]
    fn the_time_of_a_child_counts_when_it_has_ended() {
        let before = ended_children_time().unwrap_or_else(|why| panic!("{why}"));
        let busy = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";
        let ended = std::process::Command::new("sh").args(["-c", busy]).status();
        assert!(ended.is_ok_and(|status| status.success()));
        let after = ended_children_time().unwrap_or_else(|why| panic!("{why}"));
        assert!(after > before, "{before:?} {after:?}");
    }
}
