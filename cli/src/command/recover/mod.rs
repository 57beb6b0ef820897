//! `seawall recover`: what every writable open does as well, with its report or its plan.

mod plan;

use clap::Args;

use self::plan::Plan;
use crate::database::{DatabaseArg, Missing};
use crate::failure::Failure;
use crate::inspect::Files;
use crate::output::Output;

/// Recover a database after a crash, and print what was done
#[derive(Args, Debug)]
pub(crate) struct Recover {
    #[command(flatten)]
    database: DatabaseArg,
    /// Only print what would be done; changes nothing
    #[arg(long)]
    dry_run: bool,
}

impl Recover {
    pub(crate) fn run(&self, out: &mut Output) -> Result<(), Failure> {
        if self.dry_run {
            return out.result(&Plan::make(&Files::open(&self.database)?)?);
        }
        let database = self.database.open(Missing::Refuse)?;
        let report = database.recovery_report().clone();
        database.close()?;
        out.result(&report)
    }
}
