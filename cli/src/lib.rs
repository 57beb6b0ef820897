//! The `seawall` command: a database from the shell.
//!
//! Results go to stdout, messages and progress to stderr; the exit codes are those of `failure`. All
//! of it is a library, so that the fuzz targets reach what reads a user's text; nothing of it is an
//! interface for others.
#![forbid(unsafe_code)]

#[doc(hidden)]
pub mod bytes;
mod command;
mod database;
mod failure;
#[doc(hidden)]
pub mod format;
mod inspect;
mod output;

use std::process::ExitCode;

use clap::Parser;

use command::Command;
use failure::Failure;
use output::Output;

/// Work with Seawall databases
///
/// Keys and values are text, or bytes with one of the prefixes text:, hex: and base64:; they are
/// printed in the same way. Exit codes: 0 fine; 1 damage was found or an operation failed; 2 the
/// command line is wrong; 3 the database is in use, or the directory is not a database.
#[derive(Debug, Parser)]
#[command(name = "seawall", version)]
struct Arguments {
    /// Print results as JSON, one value a line
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

/// Does what the command line says.
#[must_use]
pub fn run_command_line() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if let Some(message) = failure.message() {
                output::message(&message);
            }
            if let Some(advice) = failure.advice() {
                output::message(&advice);
            }
            failure.exit_code()
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    let mut out = Output::new(arguments.json);
    let done = arguments.command.run(&mut out);
    let finished = out.flush();
    done.and(finished)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Arguments;

    #[test]
    fn the_arguments_are_consistent() {
        Arguments::command().debug_assert();
    }
}
