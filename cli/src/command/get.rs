//! `seawall get`: one value.

use clap::Args;

use crate::bytes::{self, BytesArg};
use crate::database::TreeArg;
use crate::failure::Failure;
use crate::output::Output;

/// Print the value of a key
#[derive(Args, Debug)]
pub(crate) struct Get {
    #[command(flatten)]
    source: TreeArg,
    /// The key: text, or with the prefix text:, hex: or base64:
    #[arg(value_parser = BytesArg::parser())]
    key: BytesArg,
    /// Write the value's bytes as they are, with nothing added
    #[arg(long)]
    raw: bool,
}

impl Get {
    pub(crate) fn run(&self, out: &mut Output) -> Result<(), Failure> {
        // Not left to the parser: it sees the conflict only where both stand behind the subcommand.
        if self.raw && out.is_json() {
            return Err(Failure::Usage("--raw and --json exclude each other".to_owned()));
        }
        let database = self.source.database.open_for_reading()?;
        let tree = self.source.existing(&database)?;
        let Some(value) = tree.get(&self.key)? else {
            let key = bytes::show(self.key.as_ref());
            return Err(Failure::Failed(format!("there is no key {key}")));
        };
        if self.raw {
            out.bytes(&value)
        } else if out.is_json() {
            out.json_pair(self.key.as_ref(), &value)
        } else {
            out.text(&bytes::show(&value))
        }
    }
}
