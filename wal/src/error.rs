//! The one error type of the engine. A variant answers "what may the caller do?".

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{error, fmt};

use crate::Lsn;

/// What the engine's operations return.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation failed, by what the caller may do about it.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub enum Error {
    /// Another transaction stands in the way. Run this one again.
    Conflict,
    /// The call itself is wrong; the text says how. Nothing was changed.
    InvalidArgument(String),
    /// What the call names does not exist.
    NotFound {
        /// What was looked for.
        what: String,
    },
    /// A write on a database that was opened for reading only.
    ReadOnly,
    /// The database was closed.
    Closed,
    /// The database is open elsewhere, in this process or another.
    Locked {
        /// The lock that is held.
        path: PathBuf,
    },
    /// A read-only open met a database that was not shut down cleanly. Open it writable once.
    RecoveryNeeded,
    /// There is no room: in the file system, for the log under its bound, or in the cache. Nothing
    /// was lost: free some space, or raise the bound that the text names, and go on.
    NoSpace {
        /// The file that could not grow, or be read.
        path: PathBuf,
        /// What the operating system said, or which bound was reached.
        source: Arc<io::Error>,
    },
    /// The transaction had to be ended because it held up the log for too long. Run it again, in less time.
    TransactionTooOld,
    /// The versions that a snapshot needs had to be dropped. Take a new one.
    SnapshotTooOld,
    /// The flush of a commit failed: whether it took place is known only after the next open.
    CommitUnknown {
        /// End of the commit record.
        lsn: Lsn,
        /// What failed.
        source: Arc<Error>,
    },
    /// Bytes on disk are not what was written.
    Corrupt {
        /// The damaged file.
        file: PathBuf,
        /// Where in it.
        offset: u64,
        /// What must stand there.
        expected: String,
        /// What does stand there.
        found: String,
    },
    /// The database was written by another version of the format.
    UnsupportedFormat {
        /// The stored version.
        found: u32,
        /// The newest version this program reads.
        supported: u32,
    },
    /// An earlier failure left the handle unusable for writing. Reopen the database.
    Poisoned {
        /// The failure, where it is known.
        source: Option<Arc<Error>>,
    },
    /// The operating system refused a file operation.
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the operating system said.
        source: Arc<io::Error>,
    },
}

impl Error {
    /// Whether others were faster, so that running the transaction again at once, as `transact` does, may
    /// succeed. Not for [`Error::TransactionTooOld`]: what was too slow once may be so again.
    #[must_use]
    pub const fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict)
    }

    /// An operating-system error on `path`; a full disk becomes [`Error::NoSpace`].
    #[doc(hidden)]
    #[must_use]
    pub fn io(path: &Path, source: io::Error) -> Self {
        let path = path.to_path_buf();
        let full = matches!(
            source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
        );
        let source = Arc::new(source);
        if full { Self::NoSpace { path, source } } else { Self::Io { path, source } }
    }

    /// Damage at `offset` of `file`.
    #[doc(hidden)]
    #[must_use]
    pub fn corrupt(
        file: &Path,
        offset: u64,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        Self::Corrupt {
            file: file.to_path_buf(),
            offset,
            expected: expected.into(),
            found: found.into(),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Conflict => {
                f.write_str("the transaction conflicts with another one; run it again")
            }
            Self::InvalidArgument(why) => f.write_str(why),
            Self::NotFound { what } => write!(f, "{what} does not exist"),
            Self::ReadOnly => f.write_str("the database is open for reading only; open it for writing"),
            Self::Closed => f.write_str("the database is closed; open it again"),
            Self::Locked { path } => {
                let path = path.display();
                write!(f, "the database is open elsewhere: {path} is locked; close it there first")
            }
            Self::RecoveryNeeded => f.write_str(
                "the database was not shut down cleanly; open it for writing once to recover it",
            ),
            Self::NoSpace { path, source } => {
                write!(f, "no space for {}: {source}; nothing was lost", path.display())
            }
            Self::TransactionTooOld => {
                f.write_str("the transaction held up the log for too long and was ended; run it again, in less time")
            }
            Self::SnapshotTooOld => f.write_str(
                "the versions that this snapshot reads were dropped to bound memory; take a new one",
            ),
            Self::CommitUnknown { lsn, source } => write!(
                f,
                "the commit at {lsn} is in doubt until the database is opened again: {source}"
            ),
            Self::Corrupt { file, offset, expected, found } => write!(
                f,
                "{} is damaged at byte {offset}: expected {expected}, found {found}",
                file.display()
            ),
            Self::UnsupportedFormat { found, supported } => write!(
                f,
                "the database has format {found}, and this program reads formats up to {supported}; \
                 use a newer one"
            ),
            Self::Poisoned { source: Some(source) } => {
                write!(f, "the database refuses writes until it is opened again: {source}")
            }
            Self::Poisoned { source: None } => {
                f.write_str("the database refuses writes until it is opened again")
            }
            Self::Io { path, source } => write!(f, "{}: {source}", path.display()),
        }
    }
}

impl error::Error for Error {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        match self {
            Self::NoSpace { source, .. } | Self::Io { source, .. } => Some(source.as_ref()),
            Self::CommitUnknown { source, .. } | Self::Poisoned { source: Some(source) } => {
                Some(source.as_ref())
            }
            _ => None,
        }
    }
}
