//! `seawall stat`: what is known about a database without changing it.

use std::fmt;

use clap::Args;
use seawall::{Database, Stats};
use seawall_wal::control::{MasterRecord, Shutdown};
use serde::Serialize;

use crate::database::{DatabaseArg, Opened};
use crate::failure::Failure;
use crate::inspect::Files;
use crate::output::Output;

/// Print identity, checkpoint, file sizes, and trees; changes nothing
#[derive(Args, Debug)]
pub(crate) struct Stat {
    #[command(flatten)]
    database: DatabaseArg,
}

#[derive(Serialize)]
struct Description {
    database_id: String,
    page_bytes: u32,
    created_ms: u64,
    shutdown: &'static str,
    epochs: usize,
    epoch: u64,
    checkpoint: Option<Checkpoint>,
    page_file_bytes: u64,
    doublewrite_bytes: u64,
    wal_bytes: u64,
    undo_bytes: u64,
    /// Where the database does not open for reading: those that the page file knows, without counts.
    trees: Vec<TreeRow>,
    stats: Option<Stats>,
    /// Why it does not open for reading.
    not_open: Option<String>,
}

#[derive(Serialize)]
struct Checkpoint {
    begin_lsn: u64,
    end_lsn: u64,
    redo_lsn: u64,
    undo_lsn: u64,
}

#[derive(Serialize)]
struct TreeRow {
    name: String,
    keys: Option<u64>,
}

impl Stat {
    pub(crate) fn run(&self, out: &mut Output) -> Result<(), Failure> {
        // The files are let go before the database is opened: both take its lock.
        let mut description = Description::of(&Files::open(&self.database)?)?;
        match self.database.try_open_unchanged()? {
            Opened::Yes(database) => {
                description.trees = trees(&database)?;
                description.stats = Some(database.stats());
            }
            Opened::NeedsRecovery => description.not_open = Some("it needs recovery".to_owned()),
            Opened::No(why) => description.not_open = Some(why),
        }
        out.result(&description)
    }
}

fn trees(database: &Database) -> Result<Vec<TreeRow>, Failure> {
    let mut rows = Vec::new();
    for name in database.tree_names()? {
        if let Some(tree) = database.open_tree(&name)? {
            rows.push(TreeRow { name, keys: Some(tree.len()?) });
        }
    }
    Ok(rows)
}

impl Description {
    fn of(files: &Files) -> Result<Self, Failure> {
        let (state, sizes) = (files.state(), files.sizes()?);
        let trees = files.tree_ids().unwrap_or_default().into_iter();
        Ok(Self {
            database_id: state.identity.database.to_string(),
            page_bytes: state.identity.page_bytes,
            created_ms: state.identity.created_ms,
            shutdown: match state.shutdown {
                Shutdown::Creating => "never: its creation did not finish",
                Shutdown::Open => "not clean: it needs recovery",
                Shutdown::Clean { .. } => "clean",
            },
            epochs: state.epochs.len(),
            epoch: state.last_epoch().epoch.get(),
            checkpoint: state.master.as_ref().map(Checkpoint::of),
            page_file_bytes: sizes.pages,
            doublewrite_bytes: sizes.doublewrite,
            wal_bytes: sizes.wal,
            undo_bytes: sizes.undo,
            trees: trees.map(|(name, _)| TreeRow { name, keys: None }).collect(),
            stats: None,
            not_open: None,
        })
    }
}

impl Checkpoint {
    fn of(master: &MasterRecord) -> Self {
        Self {
            begin_lsn: master.begin_lsn.get(),
            end_lsn: master.end_lsn.get(),
            redo_lsn: master.redo_lsn.get(),
            undo_lsn: master.undo_lsn.get(),
        }
    }
}

impl fmt::Display for Description {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |name: &str, value: &dyn fmt::Display| writeln!(f, "{name:<22}{value}");
        line("database", &self.database_id)?;
        line("page bytes", &self.page_bytes)?;
        line("shutdown", &self.shutdown)?;
        line("epoch", &format_args!("{}, {} in the history", self.epoch, self.epochs))?;
        match &self.checkpoint {
            Some(Checkpoint { begin_lsn, end_lsn, redo_lsn, undo_lsn }) => {
                line("checkpoint", &format_args!("from {begin_lsn} to {end_lsn}"))?;
                line("redo_lsn", redo_lsn)?;
                line("undo_lsn", undo_lsn)?;
            }
            None => line("checkpoint", &"none yet")?,
        }
        line("page file bytes", &self.page_file_bytes)?;
        line("doublewrite bytes", &self.doublewrite_bytes)?;
        line("log bytes", &self.wal_bytes)?;
        line("undo bytes", &self.undo_bytes)?;
        if let Some(why) = &self.not_open {
            line("not opened", why)?;
        }
        write!(f, "{:<22}{}", "trees", self.trees.len())?;
        self.trees.iter().try_for_each(|TreeRow { name, keys }| match keys {
            Some(keys) => write!(f, "\n  {name:<20}{keys} keys"),
            None => write!(f, "\n  {name}"),
        })
    }
}
