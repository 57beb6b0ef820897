//! Runs the random suites for as long as it is told, with seeds that were never used, and adds what
//! they tried to the running totals. Stops at the first failure.

#![expect(clippy::print_stderr, reason = "a command line program")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use clap::builder::RangedU64ValueParser;
use seawall_tests::campaign::{TURNS, Totals};
use seawall_tests::failure::{Failure, Outcome};

/// The random suites, one after the other, until the time is over
#[derive(Debug, Parser)]
struct Arguments {
    /// How long turns are begun
    #[arg(long, value_name = "N", default_value_t = 30,
          value_parser = RangedU64ValueParser::<u64>::new().range(1..=10_000))]
    minutes: u64,
    /// This suite alone
    #[arg(long)]
    suite: Option<String>,
    /// The file of the running totals
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/CAMPAIGNS.md"))]
    totals: PathBuf,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Outcome {
    let is_chosen = |suite: &str| arguments.suite.as_ref().is_none_or(|chosen| chosen == suite);
    let turns: Vec<_> = TURNS.iter().filter(|turn| is_chosen(turn.suite)).collect();
    let end = Instant::now() + Duration::from_secs(arguments.minutes * 60);
    while Instant::now() < end {
        let mut totals = Totals::read(&arguments.totals)?;
        let Some(turn) = totals.next(&turns) else {
            return Err(Failure::new("there is no such suite in the campaign"));
        };
        eprintln!("\n== {}", turn.suite);
        turn.run(&mut totals, |line| eprintln!("{line}"))?;
        std::fs::write(&arguments.totals, totals.show())
            .map_err(|error| Failure::new(format!("{}: {error}", arguments.totals.display())))?;
    }
    Ok(())
}
