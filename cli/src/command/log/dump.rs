//! `seawall log dump`: every record, with what it does to which page.

use clap::Args;
use seawall_wal::log::LogRecord;
use seawall_wal::record::Record;

use super::describe::{self, Description};
use super::end_behind;
use super::filter::Filter;
use crate::failure::Failure;
use crate::inspect::{Files, describe_end, undecodable};
use crate::output::{self, Output};

/// Print the records of the log, oldest first
#[derive(Args, Debug)]
pub(super) struct Dump {
    #[command(flatten)]
    filter: Filter,
}

impl Dump {
    pub(super) fn run(&self, out: &mut Output) -> Result<(), Failure> {
        let files = Files::open(&self.filter.database)?;
        let selection = self.filter.select(&files)?;
        let mut reader = selection.reader()?;
        while let Some(found) = reader.next_record()? {
            if selection.is_behind(found.lsn) {
                return Ok(());
            }
            let body = found.body().map_err(undecodable(selection.log(), &found))?;
            let decoded = found.decode(&body).map_err(undecodable(selection.log(), &found))?;
            if selection.wants(&decoded.body) {
                out.result(&description(&found, &decoded))?;
            }
        }
        let end = end_behind(&files, selection.log(), &reader)?;
        let why = describe_end(end.case);
        output::message(&format_args!("the log ends at {}: {why}", end.end_lsn));
        Ok(())
    }
}

fn description(found: &LogRecord<'_>, decoded: &Record<'_>) -> Description {
    Description {
        lsn: found.lsn.get(),
        epoch: found.epoch.get(),
        kind: describe::kind_name(decoded.body.kind()),
        bytes: found.header.length,
        txn: decoded.txn.get(),
        prev_lsn: decoded.prev_lsn.get(),
        fields: describe::body(&decoded.body),
        pages: decoded.body.page_refs().iter().map(describe::page).collect(),
    }
}
