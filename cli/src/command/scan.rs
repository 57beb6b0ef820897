//! `seawall scan`: pairs of a range, in either direction.

use std::ops::Bound;

use clap::Args;
use seawall::{Range, Tree, Value};

use crate::bytes::{self, BytesArg};
use crate::database::TreeArg;
use crate::failure::Failure;
use crate::output::Output;

/// Print the pairs of a range of keys: key, tab, value
#[derive(Args, Debug)]
pub(crate) struct Scan {
    #[command(flatten)]
    source: TreeArg,
    /// The first key of the range
    #[arg(long, value_name = "KEY", value_parser = BytesArg::parser())]
    from: Option<BytesArg>,
    /// The first key behind the range
    #[arg(long, value_name = "KEY", value_parser = BytesArg::parser())]
    to: Option<BytesArg>,
    /// Only keys that begin so
    #[arg(long, value_parser = BytesArg::parser(), conflicts_with_all = ["from", "to"])]
    prefix: Option<BytesArg>,
    /// From the last key to the first
    #[arg(long)]
    reverse: bool,
    /// Print so many pairs at most
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Print keys only
    #[arg(long, conflicts_with = "json")]
    keys: bool,
}

impl Scan {
    pub(crate) fn run(&self, out: &mut Output) -> Result<(), Failure> {
        // As for `get --raw`.
        if self.keys && out.is_json() {
            return Err(Failure::Usage("--keys and --json exclude each other".to_owned()));
        }
        let database = self.source.database.open_for_reading()?;
        let range = self.range(&self.source.existing(&database)?)?;
        let limit = self.limit.unwrap_or(usize::MAX);
        if self.reverse {
            self.print(range.rev().take(limit), out)
        } else {
            self.print(range.take(limit), out)
        }
    }

    fn range(&self, tree: &Tree) -> seawall::Result<Range<'static>> {
        if let Some(prefix) = &self.prefix {
            return tree.prefix(prefix);
        }
        let lower = self.from.as_ref().map_or(Bound::Unbounded, Bound::Included);
        let upper = self.to.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        tree.range((lower, upper))
    }

    fn print(
        &self,
        pairs: impl Iterator<Item = seawall::Result<(Value, Value)>>,
        out: &mut Output,
    ) -> Result<(), Failure> {
        for pair in pairs {
            let (key, value) = pair?;
            if out.is_json() {
                out.json_pair(&key, &value)?;
            } else if self.keys {
                out.text(&bytes::show(&key))?;
            } else {
                out.text(&format_args!("{}\t{}", bytes::show(&key), bytes::show(&value)))?;
            }
        }
        Ok(())
    }
}
