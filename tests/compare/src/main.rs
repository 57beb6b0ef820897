//! Seawall beside other embedded stores. See the README for the method.

mod adapters;
mod confine;
mod disk;
mod engine;
mod input;
mod machine;
mod measure;
mod outcome;
mod report;
mod run;
mod workload;
mod yardstick;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};
use rustix::process::{Signal, set_parent_process_death_signal};

use crate::workload::{Context, Session, TIME_MIN};

#[derive(Debug, Parser)]
#[command(about = "Compares Seawall with other embedded stores, side by side in one run")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measures what the results' folder does not have yet, then writes the report.
    Run(run::Options),
    /// Writes the report of what was measured.
    Report {
        /// Folder of results.ndjson; report.md and the plots go beside it.
        #[arg(long, default_value = "results")]
        results: PathBuf,
    },
    /// Prints the table of settings.
    Settings,
    /// Runs one session of one engine and prints its rows: what `run` starts for each run.
    RunSession {
        #[arg(long)]
        session: Session,
        #[command(flatten)]
        child: Child,
    },
    /// Writes until it is killed: what the recovery session starts.
    #[command(hide = true)]
    WriteUntilKilled {
        #[command(flatten)]
        child: Child,
    },
}

#[derive(Debug, Args)]
struct Child {
    #[arg(long)]
    engine: String,
    /// An empty folder.
    #[arg(long)]
    dir: PathBuf,
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    #[arg(long, default_value_t = 0)]
    repetition: u32,
}

impl Child {
    fn context(&self) -> Context {
        let (scale, repetition, time_min) = (self.scale, self.repetition, TIME_MIN);
        Context { dir: self.dir.clone(), scale, repetition, time_min }
    }
}

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::Run(options) => run::run(&options),
        Command::Report { results } => report::write(&results),
        Command::Settings => {
            print!("{}", report::settings_table());
            Ok(())
        }
        Command::RunSession { session, child } => {
            // A run that goes on alone would disturb the one that comes after it.
            set_parent_process_death_signal(Some(Signal::KILL))?;
            adapters::named(&child.engine)?.run(session, &child.context())
        }
        Command::WriteUntilKilled { child } => {
            adapters::named(&child.engine)?.write_until_killed(&child.context())
        }
    }
}
