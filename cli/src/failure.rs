//! Why a command did not succeed, and the exit code that says so.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | fine |
//! | 1 | damage was found, or an operation failed |
//! | 2 | the command line is wrong |
//! | 3 | the database is in use, or the directory is not a database |

use std::io;
use std::process::ExitCode;

use seawall::Error;

/// A command's end other than success. The text is a sentence for the person who gave it.
#[derive(Debug)]
pub(crate) enum Failure {
    /// An operation failed, or a look at the database found damage and told it.
    Failed(String),
    /// The database is damaged.
    Damaged(String),
    /// The command line is wrong in a way that only the command can tell.
    Usage(String),
    /// In use, or not a database.
    Unavailable(String),
    /// The reader of stdout has seen enough. Not an error.
    ReaderGone,
}

impl Failure {
    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::ReaderGone => 0,
            Self::Failed(_) | Self::Damaged(_) => 1,
            Self::Usage(_) => 2,
            Self::Unavailable(_) => 3,
        })
    }

    /// What to tell; nothing when there is nothing to tell.
    pub(crate) fn message(&self) -> Option<&str> {
        match self {
            Self::Failed(text)
            | Self::Damaged(text)
            | Self::Usage(text)
            | Self::Unavailable(text) => Some(text),
            Self::ReaderGone => None,
        }
    }

    /// What the person can do next.
    pub(crate) fn advice(&self) -> Option<&str> {
        matches!(self, Self::Damaged(_)).then_some(
            "`seawall verify DIR` tells all damage; `seawall recover DIR --salvage OUT` saves what can \
             still be read",
        )
    }

    /// A failure to write results.
    pub(crate) fn stdout(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::ReaderGone,
            _ => Self::Failed(format!("cannot write the results: {error}")),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error {
            Error::Locked { .. } => Self::Unavailable(error.to_string()),
            Error::Corrupt { .. } => Self::Damaged(error.to_string()),
            _ => Self::Failed(error.to_string()),
        }
    }
}
