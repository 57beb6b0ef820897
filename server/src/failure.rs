//! Why a command was not done: the texts of Redis 7.0.15, and what the engine's errors become.

use std::borrow::Cow;

use seawall::Error;

use crate::resp::Args;

/// A command's failure; it becomes an error reply.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// The whole text, code included.
    Text(Cow<'static, str>),
    Engine(Error),
}

impl Failure {
    pub(crate) const SYNTAX: Self = Self::fixed("ERR syntax error");
    pub(crate) const NOT_INTEGER: Self = Self::fixed("ERR value is not an integer or out of range");
    pub(crate) const NOT_FLOAT: Self = Self::fixed("ERR value is not a valid float");
    pub(crate) const WRONG_TYPE: Self =
        Self::fixed("WRONGTYPE Operation against a key holding the wrong kind of value");
    pub(crate) const NO_SUCH_KEY: Self = Self::fixed("ERR no such key");
    pub(crate) const TOO_LONG: Self =
        Self::fixed("ERR string exceeds maximum allowed size (proto-max-bulk-len)");
    pub(crate) const NOT_32_BITS: Self =
        Self::fixed("ERR value is out of range, value must between -2147483648 and 2147483647");
    pub(crate) const DB_RANGE: Self = Self::fixed("ERR DB index is out of range");
    pub(crate) const READS_SNAPSHOT: Self = Self::fixed(
        "SNAPSHOT this connection reads a snapshot, writes are refused: SW.RELEASE it first",
    );
    pub(crate) const CONFLICT: Self = Self::fixed(
        "CONFLICT another connection has changed what this transaction has read or written: nothing of it has happened, run it again",
    );
    pub(crate) const LOADING: Self = Self::fixed("LOADING Redis is loading the dataset in memory");

    pub(crate) const fn fixed(text: &'static str) -> Self {
        Self::Text(Cow::Borrowed(text))
    }

    pub(crate) fn new(text: String) -> Self {
        Self::Text(Cow::Owned(text))
    }

    pub(crate) fn wrong_arity(full_name: &str) -> Self {
        Self::new(format!("ERR wrong number of arguments for '{full_name}' command"))
    }

    /// What a container says of a subcommand that has too many arguments.
    pub(crate) fn wrong_sub_arity(container: &str, args: Args<'_>) -> Self {
        let sub = String::from_utf8_lossy(args.get(1).unwrap_or_default());
        let why = "unknown subcommand or wrong number of arguments for";
        Self::new(format!("ERR {why} '{sub}'. Try {container} HELP."))
    }

    /// Whether it says, of an open transaction, that others were faster. Trees go with FLUSHDB only.
    pub(crate) const fn is_conflict(&self) -> bool {
        matches!(self, Self::Engine(Error::Conflict | Error::NotFound { .. }))
    }

    /// What it is for an open transaction.
    pub(crate) fn of_transaction(self) -> Self {
        if self.is_conflict() { Self::CONFLICT } else { self }
    }

    pub(crate) fn text(&self) -> Cow<'static, str> {
        match self {
            Self::Text(text) => text.clone(),
            Self::Engine(error) => Cow::Owned(match error {
                Error::NoSpace { .. } => {
                    format!("MISCONF the disk is full, nothing was changed: {error}")
                }
                Error::Poisoned { .. } | Error::CommitUnknown { .. } => {
                    format!("MISCONF writes are refused until the server is started again: {error}")
                }
                Error::Conflict => {
                    "TRYAGAIN another transaction holds a key of this command".into()
                }
                Error::SnapshotTooOld => {
                    "TOOOLD the old versions that this needed had to be given up for memory: run it again, \
                     behind SW.RELEASE or SW.ROLLBACK where one is held"
                        .into()
                }
                Error::Corrupt { .. } => format!("CORRUPT {error}"),
                other => format!("ERR {other}"),
            }),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Engine(error)
    }
}

/// What handlers return.
pub(crate) type Outcome<T = ()> = std::result::Result<T, Failure>;
