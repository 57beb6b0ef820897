//! `measure`: programs that answer a question about speed or space with a table. They are no tests:
//! what they print depends on the machine, and on what else it does. `tests/README.md` says how to
//! run each.

#![expect(clippy::print_stderr, reason = "a command line program")]

use std::io::stdout;
use std::process::ExitCode;

use clap::Parser;
use seawall_tests::measure::Measurement;

/// Measure what a database takes, and print Markdown tables
#[derive(Debug, Parser)]
#[command(name = "measure", version)]
struct Arguments {
    #[command(subcommand)]
    measurement: Measurement,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if cfg!(debug_assertions) {
        eprintln!("measure: not built with --release: the figures mean nothing");
    }
    match arguments.measurement.run(&mut stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("measure: {failure}");
            ExitCode::FAILURE
        }
    }
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
