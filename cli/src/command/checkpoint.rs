//! `seawall checkpoint`: writes what is dirty and recycles the log.

use clap::Args;

use crate::database::{DatabaseArg, Missing};
use crate::failure::Failure;
use crate::output::Output;

/// Take a checkpoint, so that the log is recycled
#[derive(Args, Debug)]
pub(crate) struct Checkpoint {
    #[command(flatten)]
    database: DatabaseArg,
}

impl Checkpoint {
    pub(crate) fn run(&self, out: &mut Output) -> Result<(), Failure> {
        let database = self.database.open(Missing::Refuse)?;
        let report = database.checkpoint()?;
        database.close()?;
        out.result(&report)
    }
}
