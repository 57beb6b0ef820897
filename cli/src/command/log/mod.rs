//! `seawall log`: the log, record by record or summed up.

mod describe;
mod dump;
mod filter;
mod stat;

use clap::{Args, Subcommand};

use crate::failure::Failure;
use crate::output::Output;

/// Print the log's records, or figures about them
#[derive(Args, Debug)]
pub(crate) struct Log {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Dump(dump::Dump),
    Stat(stat::Stat),
}

impl Log {
    pub(crate) fn run(&self, out: &mut Output) -> Result<(), Failure> {
        match &self.what {
            What::Dump(dump) => dump.run(out),
            What::Stat(stat) => stat.run(out),
        }
    }
}
