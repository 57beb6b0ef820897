//! Opening the database that a command names.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use indicatif::ProgressBar;
use seawall::names::{DOUBLEWRITE_NAME, PAGES_NAME, UNFINISHED_NAME, WAL_NAME};
use seawall::{Database, Error, Event, MAX_TREE_NAME_BYTES, Options, Tree};
use seawall_wal::control::{CONTROL_NAME, is_foreign};

use crate::failure::Failure;
use crate::output::{self, Unit};

/// More of a `control` file is not looked at.
const CONTROL_BYTES_MAX: u64 = 1 << 20;
/// What else every database has in its directory.
const FILES_BESIDE_CONTROL: [&str; 3] = [PAGES_NAME, DOUBLEWRITE_NAME, WAL_NAME];
/// The tree that is meant when none is named.
const TREE_DEFAULT: &str = "default";

/// The directory of a database.
#[derive(Args, Debug)]
pub(crate) struct DatabaseArg {
    /// Directory of the database
    #[arg(value_name = "DIR")]
    pub(crate) dir: PathBuf,
}

/// A tree of a database.
#[derive(Args, Debug)]
pub(crate) struct TreeArg {
    #[command(flatten)]
    pub(crate) database: DatabaseArg,
    /// Name of the tree
    #[arg(long, short, value_name = "TREE", default_value = TREE_DEFAULT)]
    pub(crate) tree: String,
}

/// Whether a directory that holds no database may become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    Create,
    Refuse,
}

/// A database opened for reading only, or why that is not possible.
pub(crate) enum Opened {
    Yes(Database),
    /// It was not shut down cleanly.
    NeedsRecovery,
    /// The reason, for a person.
    No(String),
}

impl DatabaseArg {
    /// Opens for writing; recovers where needed, with progress on stderr.
    pub(crate) fn open(&self, missing: Missing) -> Result<Database, Failure> {
        self.open_with(Options::new(), missing)
    }

    /// Opens for writing with other options than the defaults, which the user has chosen.
    pub(crate) fn open_with(
        &self,
        options: Options,
        missing: Missing,
    ) -> Result<Database, Failure> {
        options.validate().map_err(|error| Failure::Usage(error.to_string()))?;
        if missing == Missing::Refuse {
            self.require()?;
        }
        let bar = output::progress("recovery", 0, Unit::Count);
        let shown = bar.clone();
        let opened = options
            .create_if_missing(missing == Missing::Create)
            .on_event(move |event| show_recovery(&shown, event))
            .open(&self.dir);
        bar.finish_and_clear();
        opened.map_err(|error| self.failure(error))
    }

    /// Opens for reading only where that is possible; a database that was not shut down cleanly is
    /// recovered first, which needs writing.
    pub(crate) fn open_for_reading(&self) -> Result<Database, Failure> {
        match self.open_unchanged()? {
            Some(database) => Ok(database),
            None => self.open(Missing::Refuse),
        }
    }

    /// Opens without changing a byte; `None` when the database needs recovery.
    pub(crate) fn open_unchanged(&self) -> Result<Option<Database>, Failure> {
        self.require()?;
        match Options::new().create_if_missing(false).read_only(true).open(&self.dir) {
            Ok(database) => Ok(Some(database)),
            Err(Error::RecoveryNeeded) => Ok(None),
            Err(error) => Err(self.failure(error)),
        }
    }

    /// Opens for reading only, where a database that will not open is not the end.
    pub(crate) fn try_open_unchanged(&self) -> Result<Opened, Failure> {
        match self.open_unchanged() {
            Ok(Some(database)) => Ok(Opened::Yes(database)),
            Ok(None) => Ok(Opened::NeedsRecovery),
            Err(Failure::Failed(why) | Failure::Damaged(why)) => Ok(Opened::No(why)),
            Err(other) => Err(other),
        }
    }

    /// Whether there is a database at all.
    pub(crate) fn require(&self) -> Result<(), Failure> {
        let control = self.dir.join(CONTROL_NAME);
        match is_control(&control) {
            Ok(true) => Ok(()),
            Ok(false) => Err(self.not_a_database()),
            Err(error) => Err(match error.kind() {
                ErrorKind::NotFound | ErrorKind::NotADirectory => self.not_a_database(),
                _ => Error::io(&control, error).into(),
            }),
        }
    }

    /// The failure of a directory without a `control` that is one: of one that holds no database, or one
    /// that has lost what says so.
    pub(crate) fn not_a_database(&self) -> Failure {
        let dir = self.dir.display();
        let has = |name: &&str| self.dir.join(name).exists();
        let is_unfinished = has(&UNFINISHED_NAME);
        if !is_unfinished && FILES_BESIDE_CONTROL.iter().all(has) {
            let why =
                format!("{dir} holds the files of a database, but no `{CONTROL_NAME}` of one");
            return Failure::Damaged(why);
        }
        let why = match (self.dir.exists(), is_unfinished) {
            (false, _) => ": there is no such directory",
            (true, true) => ": it is a backup that was not finished",
            (true, false) => "",
        };
        Failure::Unavailable(format!("{dir} is not a database{why}"))
    }

    pub(crate) fn failure(&self, error: Error) -> Failure {
        match error {
            Error::NotFound { .. } => self.not_a_database(),
            // The options are right: this is about what is in the directory.
            Error::InvalidArgument(why) => match self.require() {
                Ok(()) => Failure::Failed(why),
                Err(damaged @ Failure::Damaged(_)) => damaged,
                Err(_) => Failure::Unavailable(why),
            },
            error @ (Error::Corrupt { .. } | Error::Io { .. }) => {
                match is_control(&self.dir.join(CONTROL_NAME)) {
                    Ok(false) => self.not_a_database(),
                    _ => error.into(),
                }
            }
            other => other.into(),
        }
    }
}

/// Whether a file is the `control` file of a database, be it damaged.
fn is_control(path: &Path) -> io::Result<bool> {
    if !fs::metadata(path)?.is_file() {
        return Ok(false);
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(CONTROL_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(!is_foreign(&bytes))
}

fn show_recovery(bar: &ProgressBar, event: &Event) {
    if let Event::RecoveryProgress { phase, done, total } = event {
        bar.set_message(format!("recovery, {phase}"));
        bar.set_length(*total);
        bar.set_position(*done);
    }
}

impl TreeArg {
    /// Opens the database for writing, and the tree, and creates what is missing; nothing for a name
    /// that no tree can have.
    pub(crate) fn open_or_create(&self) -> Result<(Database, Tree), Failure> {
        let bytes = self.tree.len();
        if !(1..=MAX_TREE_NAME_BYTES).contains(&bytes) {
            return Err(Failure::Failed(format!(
                "the name of a tree has 1 to {MAX_TREE_NAME_BYTES} bytes, this one {bytes}"
            )));
        }
        let database = self.database.open(Missing::Create)?;
        let tree = database.tree(&self.tree)?;
        Ok((database, tree))
    }

    /// The tree, which must be there.
    pub(crate) fn existing(&self, database: &Database) -> Result<Tree, Failure> {
        match database.open_tree(&self.tree)? {
            Some(tree) => Ok(tree),
            None => Err(Failure::Failed(format!("there is no tree named {}", self.tree))),
        }
    }
}

#[cfg(test)]
mod tests {
    use seawall::Database;

    use super::{DatabaseArg, Error, Failure};

    #[test]
    fn what_the_engine_refuses_is_no_fault_of_the_command_line() {
        let parent = tempfile::tempdir().unwrap();
        let [there, elsewhere] =
            ["db", "none"].map(|name| DatabaseArg { dir: parent.path().join(name) });
        Database::open(&there.dir).unwrap().close().unwrap();
        let refused = || Error::InvalidArgument("opened 1024 times".into());
        assert!(matches!(there.failure(refused()), Failure::Failed(_)));
        assert!(matches!(elsewhere.failure(refused()), Failure::Unavailable(_)));
    }
}
