//! `seawall recover`: what every writable open does as well, with its report or its plan; and saving what
//! is left where opening is refused.

mod plan;

use std::path::PathBuf;

use clap::Args;
use seawall::Options;
use seawall::salvage::{SalvageReport, salvage};

use self::plan::Plan;
use crate::database::{DatabaseArg, Missing};
use crate::failure::Failure;
use crate::inspect::Files;
use crate::output::{self, Output};

/// Recover a database after a crash, and print what was done
#[derive(Args, Debug)]
pub(crate) struct Recover {
    #[command(flatten)]
    database: DatabaseArg,
    /// Only print what would be done; changes nothing
    #[arg(long)]
    dry_run: bool,
    /// Save every record that can still be read of a damaged database into a new one in OUT, and print
    /// what is lost; changes nothing in DIR
    #[arg(long, value_name = "OUT", conflicts_with = "dry_run")]
    salvage: Option<PathBuf>,
}

impl Recover {
    pub(crate) fn run(&self, out: &mut Output) -> Result<(), Failure> {
        if let Some(target) = &self.salvage {
            let report = salvage(&Options::new(), &self.database.dir, target);
            let report = report.map_err(|error| self.database.failure(error))?;
            let told = out.result(&report);
            return verdict(&report).and(told);
        }
        if self.dry_run {
            return out.result(&Plan::make(&Files::open(&self.database)?)?);
        }
        let database = self.database.open(Missing::Refuse)?;
        let report = database.recovery_report().clone();
        database.close()?;
        out.result(&report)
    }
}

/// Whether anything was damaged or lost.
fn verdict(report: &SalvageReport) -> Result<(), Failure> {
    match (report.damage.len(), report.losses.len()) {
        (0, 0) => Ok(()),
        (damage, 0) => {
            let found = output::counted(damage, "damage");
            Err(Failure::Failed(format!("{found} found, and nothing is lost")))
        }
        (_, losses) => {
            let lost = output::counted(losses, "lost part");
            Err(Failure::Failed(format!("{lost} told")))
        }
    }
}
