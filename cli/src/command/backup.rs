//! `seawall backup`: a full copy of a database.
//!
//! The copy is a database as a crash would have left it at the position that is reported: opening it
//! restores it. An unfinished copy says so and is refused.

use std::path::PathBuf;

use clap::Args;
use seawall::Error;

use crate::database::{DatabaseArg, Missing};
use crate::failure::Failure;
use crate::output::{self, Output};

/// Copy the database to another directory; opening the copy restores it
#[derive(Args, Debug)]
pub(crate) struct Backup {
    #[command(flatten)]
    database: DatabaseArg,
    /// Directory of the copy; missing or empty
    #[arg(value_name = "OUT")]
    out: PathBuf,
}

impl Backup {
    pub(crate) fn run(&self, out: &mut Output) -> Result<(), Failure> {
        let database = self.database.open(Missing::Refuse)?;
        let spinner = output::spinner("backup");
        let report = database.backup(&self.out);
        spinner.finish_and_clear();
        let report = report.map_err(|error| self.failure(&error))?;
        database.close()?;
        out.result(&report)
    }

    fn failure(&self, error: &Error) -> Failure {
        Failure::Failed(match error {
            Error::InvalidArgument(why) => why.clone(),
            other => format!("the backup to {} was not finished: {other}", self.out.display()),
        })
    }
}
