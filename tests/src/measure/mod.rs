//! Measuring programs: each asks one question about the engine on the machine it runs on, and
//! answers with Markdown tables on standard output. Progress goes to standard error.
//!
//! All of them work in a private folder inside `--dir`, which they remove, and are bounded in time,
//! space and count by their options.

mod bare;
mod checkpoints;
mod committers;
mod huge;
mod latencies;
mod latency;
mod loaded;
mod overhead;
mod recovery;
mod setup;
mod table;
mod wal;

use std::io::Write;

use clap::Subcommand;

use crate::failure::{Failure, Outcome};

/// A measurement, with its options.
#[derive(Debug, Subcommand)]
pub enum Measurement {
    /// What a checkpoint does to commits: pairs of windows with one and without
    Checkpoints(checkpoints::Checkpoints),
    /// Latencies and steadiness of durable commits, with checkpoints one after another and without
    Latency(latency::Latency),
    /// What recovery takes after a kill, beside what the database had estimated
    Recovery(recovery::Recovery),
    /// Space that the log takes under full load; fails when it is ever more than the bound
    Wal(wal::Wal),
    /// What logging, paging and checkpoints cost: the same work on a disk that discards
    Overhead(overhead::Overhead),
    /// One transaction far larger than cache and log, rolled back and committed
    Huge(huge::Huge),
    /// Writes until it is killed; started by `recovery`
    #[command(hide = true)]
    RecoveryWriter(recovery::Writer),
}

impl Measurement {
    /// Measures, and writes the tables to `out`.
    ///
    /// # Errors
    /// When the engine fails, or breaks a bound that is to hold on every machine.
    pub fn run(&self, out: &mut dyn Write) -> Outcome {
        match self {
            Self::Checkpoints(measurement) => measurement.run(out),
            Self::Latency(measurement) => measurement.run(out),
            Self::Recovery(measurement) => measurement.run(out),
            Self::Wal(measurement) => measurement.run(out),
            Self::Overhead(measurement) => measurement.run(out),
            Self::Huge(measurement) => measurement.run(out),
            Self::RecoveryWriter(writer) => writer.run(out),
        }
    }
}

/// Writes a table or a sentence, and a blank line behind it.
fn print(out: &mut dyn Write, what: &dyn std::fmt::Display) -> Outcome {
    let written = writeln!(out, "{what}\n").and_then(|()| out.flush());
    written.map_err(|error| Failure::new(format!("standard output: {error}")))
}

/// Tells whoever waits how far it is.
fn progress(what: &str) {
    // Nobody may be listening any more.
    drop(writeln!(std::io::stderr(), "{what}"));
}
