//! `seawall del`: removes one key.

use std::fmt;

use clap::Args;
use serde::Serialize;

use crate::bytes::BytesArg;
use crate::database::{Missing, TreeArg};
use crate::failure::Failure;
use crate::output::Output;

/// Remove a key; one that is not there is fine
#[derive(Args, Debug)]
pub(crate) struct Del {
    #[command(flatten)]
    target: TreeArg,
    /// The key: text, or with the prefix text:, hex: or base64:
    #[arg(value_parser = BytesArg::parser())]
    key: BytesArg,
}

#[derive(Serialize)]
struct Removed {
    removed: bool,
}

impl fmt::Display for Removed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.removed { "removed" } else { "it was not there" })
    }
}

impl Del {
    pub(crate) fn run(&self, out: &mut Output) -> Result<(), Failure> {
        let database = self.target.database.open(Missing::Refuse)?;
        let removed = self.target.existing(&database)?.remove(&self.key)?;
        database.close()?;
        out.result(&Removed { removed })
    }
}
