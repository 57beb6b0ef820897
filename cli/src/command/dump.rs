//! `seawall dump`: all pairs of a tree as they were when the command began, in key order.

use std::io::{self, IsTerminal};

use clap::Args;
use indicatif::ProgressBar;

use crate::database::TreeArg;
use crate::failure::Failure;
use crate::format::Format;
use crate::output::{self, Output, Unit};

/// Write all pairs of a tree to stdout, in key order; load takes them back
///
/// With --json the format is ndjson, which it is without a --format as well; another one is refused.
#[derive(Args, Debug)]
pub(crate) struct Dump {
    #[command(flatten)]
    source: TreeArg,
    /// How to write them
    #[arg(long, value_enum, default_value_t = Format::Ndjson)]
    format: Format,
}

impl Dump {
    pub(crate) fn run(&self, out: &mut Output) -> Result<(), Failure> {
        if out.is_json() && self.format != Format::Ndjson {
            let why = "--json goes with --format ndjson only";
            return Err(Failure::Usage(why.to_owned()));
        }
        let database = self.source.database.open_for_reading()?;
        let tree = self.source.existing(&database)?;
        let bar = if io::stdout().is_terminal() {
            ProgressBar::hidden()
        } else {
            output::progress("dump", tree.len()?, Unit::Count)
        };
        let mut writer = self.format.writer(out.stream());
        for pair in tree.range(..)? {
            let (key, value) = pair?;
            writer.write(&key, &value).map_err(|error| Failure::stdout(&error))?;
            bar.inc(1);
        }
        bar.finish_and_clear();
        writer.finish().map_err(|error| Failure::stdout(&error))
    }
}
