//! The child that writes until it is killed, and the parent's end of the pipe between them.
//!
//! The child prints a line every few milliseconds, `<bytes of log> <dirty pages> <microseconds>`: what
//! recovery would have to work off, and how long it would take by the database's own estimate. The
//! first line comes before anything is written. It ends by itself when nobody reads any more.

use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child as Process, ChildStdout, Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use seawall::{Database, Durability};

use super::Recovery;
use crate::failure::{Failure, Outcome};
use crate::measure::committers::{Commits, Stop, join};
use crate::measure::loaded::TREE;

/// Time between two lines.
const EVERY: Duration = Duration::from_millis(2);
/// After the parent's patience has ended, this share of the highest estimate so far is enough.
const ENOUGH: f64 = 0.95;

/// Options of the child: those of the measurement, and the database.
#[derive(Args, Debug)]
pub struct Writer {
    /// The database
    database: PathBuf,
    #[command(flatten)]
    recovery: Recovery,
}

impl Writer {
    /// Writes until it is killed, or `out` has no reader.
    pub(in crate::measure) fn run(&self, out: &mut dyn Write) -> Outcome {
        let database = self.recovery.options().open(&self.database)?;
        let tree = database.open_tree(TREE)?;
        let tree = tree.ok_or_else(|| Failure::new("the tree is not there"))?;
        database.checkpoint()?;
        tell(&database, out)?;
        let stop = AtomicBool::new(false);
        let durability = if self.recovery.durable { Durability::Sync } else { Durability::Relaxed };
        let commits = Commits { tree: &tree, pairs: self.recovery.pairs, durability, stop: &stop };
        thread::scope(|scope| {
            let stopping = Stop::new(&stop);
            let handles: Vec<_> = (1..=self.recovery.threads)
                .map(|seed| {
                    commits.spawn(scope, seed, (), |(), commit: &mut dyn FnMut() -> _| commit())
                })
                .collect();
            let mut told = Ok(());
            while told.is_ok() && !handles.iter().any(thread::ScopedJoinHandle::is_finished) {
                thread::sleep(EVERY);
                told = tell(&database, out);
            }
            drop(stopping);
            handles.into_iter().try_for_each(join)?;
            told
        })
    }
}

/// What a child tells in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// Log that recovery would have to work off.
    pub(super) log_bytes: u64,
    /// Pages that differ from the page file.
    pub(super) dirty_pages: u64,
    /// How long that would take.
    pub(super) estimate: Duration,
}

impl Told {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let mut number = || words.next()?.parse().ok();
        let (log_bytes, dirty_pages, micros) = (number()?, number()?, number()?);
        Some(Self { log_bytes, dirty_pages, estimate: Duration::from_micros(micros) })
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.log_bytes, self.dirty_pages, self.estimate.as_micros())
    }
}

fn tell(database: &Database, out: &mut dyn Write) -> Outcome {
    let stats = database.stats();
    // Both lie in the same epoch, since the child has begun with a checkpoint.
    let log_bytes = stats.end_lsn.get().saturating_sub(stats.redo_lsn.get());
    let dirty_pages = stats.dirty_pages;
    let told = Told { log_bytes, dirty_pages, estimate: stats.estimated_recovery };
    let told = writeln!(out, "{told}").and_then(|()| out.flush());
    told.map_err(|error| Failure::new(format!("nobody listens: {error}")))
}

/// A running child; killed when it is dropped.
#[derive(Debug)]
pub(super) struct Child {
    process: Process,
    said: BufReader<ChildStdout>,
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

impl Child {
    /// Starts this program again, to write into the database in `dir`.
    pub(super) fn start(recovery: &Recovery, dir: &Path) -> Outcome<Self> {
        let program = std::env::current_exe().map_err(|error| failed(&error))?;
        let mut command = Command::new(program);
        command.arg("recovery-writer").arg(dir);
        let setup = &recovery.setup;
        let disk = format!("{:?}", setup.disk).to_lowercase();
        command.args(["--disk", &disk]);
        for (option, number) in [
            ("--cache-mib", setup.cache_mib),
            ("--pairs", recovery.pairs),
            ("--threads", recovery.threads),
            ("--recovery-target-ms", recovery.recovery_target_ms),
        ] {
            command.arg(option).arg(number.to_string());
        }
        command.args(recovery.durable.then_some("--durable"));
        let mut process = command.stdout(Stdio::piped()).spawn().map_err(|error| failed(&error))?;
        let said = process.stdout.take().expect("the child was started with a pipe");
        Ok(Self { process, said: BufReader::new(said) })
    }

    /// Kills the child when its estimate has reached `target`, or, after `patience`, when it is about
    /// as high as it ever was. Returns the last that it told.
    pub(super) fn kill_at(mut self, target: Duration, patience: Duration) -> Outcome<Told> {
        let mut highest = Duration::ZERO;
        let started = Instant::now();
        let mut last = loop {
            let told = self.hear()?.ok_or_else(|| Failure::new("the child ended by itself"))?;
            let estimate = told.estimate;
            highest = highest.max(estimate);
            let waited = started.elapsed();
            let is_enough = waited > patience && estimate >= highest.mul_f64(ENOUGH);
            if estimate >= target || is_enough || waited > 2 * patience {
                break told;
            }
        };
        self.process.kill().map_err(|error| failed(&error))?;
        while let Some(told) = self.hear()? {
            last = told;
        }
        self.process.wait().map_err(|error| failed(&error))?;
        Ok(last)
    }

    /// The next line; `None` behind the last whole one.
    fn hear(&mut self) -> Outcome<Option<Told>> {
        let mut line = String::new();
        self.said.read_line(&mut line).map_err(|error| failed(&error))?;
        if !line.ends_with('\n') {
            return Ok(None);
        }
        let told = Told::parse(&line);
        told.map(Some).ok_or_else(|| Failure::new(format!("the child says {line:?}")))
    }
}

fn failed(error: &std::io::Error) -> Failure {
    Failure::new(format!("the child: {error}"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Told;

    #[test]
    fn a_line_says_what_the_child_meant() {
        let estimate = Duration::from_micros(4567);
        let told = Told { log_bytes: 123, dirty_pages: 5, estimate };
        assert_eq!(Told::parse(&told.to_string()), Some(told));
        assert_eq!(Told::parse("123 4567"), None);
    }
}
