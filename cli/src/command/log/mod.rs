//! `seawall log`: the log, record by record or summed up.

mod describe;
mod dump;
mod filter;
mod stat;

use std::sync::Arc;

use clap::{Args, Subcommand};
use seawall_wal::log::{LogEnd, LogFiles, LogReader};

use crate::failure::Failure;
use crate::inspect::Files;
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

/// Where the log ends, for one who has read it to where reading stopped.
///
/// # Errors
/// Damage. The end is looked for from the last checkpoint on: what was read may have stopped before.
fn end_behind(files: &Files, log: &Arc<LogFiles>, reader: &LogReader) -> Result<LogEnd, Failure> {
    let end = files.log_end(log, &files.doublewrite_slots()?)?;
    match reader.stop() {
        Some(stop) if !stop.is_epoch_empty && stop.lsn < end.end_lsn => {
            Err(stop.finding.clone().into())
        }
        _ => Ok(end),
    }
}
