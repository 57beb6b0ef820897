//! Which records of the log are wanted.

use std::sync::Arc;

use clap::Args;
use seawall::Lsn;
use seawall::catalogue::row;
use seawall_wal::TreeId;
use seawall_wal::log::{LogFiles, LogReader};
use seawall_wal::record::{Body, Op};

use crate::bytes::BytesArg;
use crate::database::DatabaseArg;
use crate::failure::Failure;
use crate::inspect::{Files, undecodable};

/// A part of the log.
#[derive(Args, Debug)]
pub(super) struct Filter {
    #[command(flatten)]
    pub(super) database: DatabaseArg,
    /// Leave out records in front of this position
    #[arg(long, value_name = "LSN")]
    from: Option<u64>,
    /// Leave out records from this position on
    #[arg(long, value_name = "LSN")]
    to: Option<u64>,
    /// Only records that change this tree, by name or number; where a tree has the number as its name,
    /// that one is meant
    #[arg(long, value_name = "TREE")]
    tree: Option<String>,
    /// Only records that change this key
    #[arg(long, value_name = "KEY", value_parser = BytesArg::parser())]
    key: Option<BytesArg>,
}

/// The part of one log that a [`Filter`] means.
pub(super) struct Selection<'a> {
    files: &'a Files,
    log: Arc<LogFiles>,
    filter: &'a Filter,
    tree: Option<TreeId>,
}

impl Filter {
    /// Finds the tree, if one is named.
    pub(super) fn select<'a>(&'a self, files: &'a Files) -> Result<Selection<'a>, Failure> {
        let log = files.log()?;
        let tree = match &self.tree {
            None => None,
            Some(name) => Some(tree_id(files, &log, name)?),
        };
        Ok(Selection { files, log, filter: self, tree })
    }
}

/// The tree of a name, or else of a number: that one does even where damage hides the names.
fn tree_id(files: &Files, log: &Arc<LogFiles>, name: &str) -> Result<TreeId, Failure> {
    match (tree_named(files, log, name), name.parse()) {
        (Ok(Some(tree)), _) => Ok(tree),
        (_, Ok(number)) => Ok(TreeId::new(number)),
        (Ok(None), Err(_)) => {
            Err(Failure::Failed(format!("there is no tree named {name}; give its number")))
        }
        (Err(failure), Err(_)) => Err(failure),
    }
}

fn tree_named(files: &Files, log: &Arc<LogFiles>, name: &str) -> Result<Option<TreeId>, Failure> {
    match files.tree_ids()?.into_iter().find(|(known, _)| known == name) {
        Some((_, tree)) => Ok(Some(tree)),
        None => tree_named_in_log(files, log, name),
    }
}

/// The tree that the log names so last, for one whose row has not reached the page file.
fn tree_named_in_log(
    files: &Files,
    log: &Arc<LogFiles>,
    name: &str,
) -> Result<Option<TreeId>, Failure> {
    let mut last = None;
    let mut reader = log.reader(files.log_start(log), None, None)?;
    while let Some(found) = reader.next_record()? {
        let body = found.body().map_err(undecodable(log, &found))?;
        let decoded = found.decode(&body).map_err(undecodable(log, &found))?;
        let ops = decoded.body.page_refs().iter().flat_map(|page| page.ops.iter());
        last = ops.filter_map(|op| tree_named_by(op, name)).next_back().or(last);
    }
    Ok(last)
}

/// The tree to which an operation on the catalogue gives this name.
fn tree_named_by(op: &Op<'_>, name: &str) -> Option<TreeId> {
    match op {
        Op::Put { tree: TreeId::CATALOGUE, key, after, .. } if row::name_of(key) == Ok(name) => {
            row::decode_name_value(after.value).ok()
        }
        _ => None,
    }
}

impl Selection<'_> {
    /// The log that is read.
    pub(super) const fn log(&self) -> &Arc<LogFiles> {
        &self.log
    }

    /// A reader from the first wanted position on; the log is not asked to reach the last.
    pub(super) fn reader(&self) -> Result<LogReader, Failure> {
        let start = self.files.log_start(&self.log);
        let from = self.filter.from.map_or(start, Lsn::new).max(start);
        Ok(self.log.reader(from, None, None)?)
    }

    /// Whether `lsn` lies behind everything that is wanted.
    pub(super) fn is_behind(&self, lsn: Lsn) -> bool {
        self.filter.to.is_some_and(|to| lsn >= Lsn::new(to))
    }

    /// Whether a record is wanted.
    pub(super) fn wants(&self, body: &Body<'_>) -> bool {
        if self.tree.is_none() && self.filter.key.is_none() {
            return true;
        }
        body.page_refs().iter().flat_map(|page| page.ops.iter()).any(|op| self.wants_op(op))
    }

    fn wants_op(&self, op: &Op<'_>) -> bool {
        let (Op::Put { tree, key, .. } | Op::Remove { tree, key } | Op::Settle { tree, key }) = op
        else {
            return false;
        };
        let is_key = self.filter.key.as_ref().is_none_or(|wanted| wanted.as_ref() == *key);
        is_key && self.tree.is_none_or(|wanted| wanted == *tree)
    }
}
