//! `seawall put`: one pair, durable when the command ends.

use std::fmt;
use std::io::{self, Read};

use clap::Args;
use seawall::MAX_VALUE_BYTES;
use seawall_wal::codec::to_u64;
use serde::Serialize;

use crate::bytes::BytesArg;
use crate::database::TreeArg;
use crate::failure::Failure;
use crate::format;
use crate::output::{Output, counted};

/// Store a value; database and tree are created where they are missing
#[derive(Args, Debug)]
pub(crate) struct Put {
    #[command(flatten)]
    target: TreeArg,
    /// The key: text, or with the prefix text:, hex: or base64:
    #[arg(value_parser = BytesArg::parser())]
    key: BytesArg,
    /// The value, written like the key; without it, the bytes of stdin
    #[arg(value_parser = BytesArg::parser())]
    value: Option<BytesArg>,
}

#[derive(Serialize)]
struct Stored {
    value_bytes: usize,
}

impl fmt::Display for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "stored {}", counted(self.value_bytes, "byte"))
    }
}

impl Put {
    pub(crate) fn run(&self, out: &mut Output) -> Result<(), Failure> {
        let from_stdin;
        let value = match &self.value {
            Some(value) => value.as_ref(),
            None => {
                from_stdin = read_stdin()?;
                &from_stdin
            }
        };
        // Before anything is created for it.
        format::check_pair(self.key.as_ref(), value).map_err(Failure::Failed)?;
        let (database, tree) = self.target.open_or_create()?;
        tree.insert(&self.key, value)?;
        database.close()?;
        out.result(&Stored { value_bytes: value.len() })
    }
}

/// All of stdin, up to a byte more than a value may have, for the engine to refuse.
fn read_stdin() -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    io::stdin()
        .lock()
        .take(to_u64(MAX_VALUE_BYTES) + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::Failed(format!("cannot read the value from stdin: {error}")))?;
    Ok(bytes)
}
