//! Commands: a table as data, and a file for each group of handlers.
//!
//! A handler finds the locks of its command held, looks and writes through the unit, and writes one
//! reply; where it returns a failure, what it has replied is replaced by the error. The unit is
//! committed when it returns.

mod admin;
mod bitfield;
mod bits;
mod client;
mod config;
mod connection;
mod expiry;
mod info;
mod introspect;
mod keys;
mod latency;
mod lcs;
mod monitor;
mod own;
mod pubsub;
mod refused;
mod scan;
mod slowlog;
mod strings;
mod table;
mod transactions;
mod wait;

use crate::failure::{Failure, Outcome};
use crate::keyspace::{Found, Hold, Unit};
use crate::limits::REPLY_BYTES_MAX;
use crate::number;
use crate::resp::{Args, Reply};
use crate::server::Server;
use crate::session::Session;

pub(crate) use refused::refusal;
pub(crate) use table::{COMMANDS, find};

/// What a handler works with.
pub(crate) struct Context<'c, 'k> {
    pub(crate) server: &'c Server,
    pub(crate) session: &'c mut Session,
    /// Absent while the database is being opened.
    pub(crate) unit: Option<&'c mut Unit<'k>>,
    pub(crate) reply: &'c mut Reply,
}

impl<'k> Context<'_, 'k> {
    /// The keys; an error while the database is being opened.
    pub(crate) fn unit(&mut self) -> Outcome<&mut Unit<'k>> {
        self.unit.as_deref_mut().ok_or(Failure::LOADING)
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.unit.as_ref().map_or_else(crate::clock::now_ms, |unit| unit.now_ms())
    }

    /// Whether the reply takes another value.
    pub(crate) fn check_reply(&self) -> Outcome {
        check_reply_bytes(self.reply.bytes.len())
    }

    /// A string in the selected database.
    pub(crate) fn string(&mut self, key: &[u8]) -> Outcome<Option<Found>> {
        let database = self.session.database;
        self.unit()?.string(database, key)
    }

    /// Puts a string into the selected database.
    pub(crate) fn put(&mut self, key: &[u8], expires_ms: Option<u64>, value: &[u8]) -> Outcome {
        let database = self.session.database;
        self.unit()?.put_string(database, key, expires_ms, value)
    }

    pub(crate) fn exists(&mut self, key: &[u8]) -> Outcome<bool> {
        let database = self.session.database;
        self.unit()?.exists(database, key)
    }

    pub(crate) fn remove(&mut self, key: &[u8]) -> Outcome<bool> {
        let database = self.session.database;
        self.unit()?.remove(database, key)
    }
}

fn check_reply_bytes(bytes: usize) -> Outcome {
    if bytes <= REPLY_BYTES_MAX {
        return Ok(());
    }
    let why = format!("ERR the reply would have more than {REPLY_BYTES_MAX} bytes");
    Err(Failure::new(why))
}

/// What does a command.
pub(crate) type Handler = fn(&mut Context<'_, '_>, Args<'_>) -> Outcome;

/// A command of the table.
pub(crate) struct Command {
    /// In lower case; a subcommand's with its container's: `client|id`.
    pub(crate) name: &'static str,
    /// Number of arguments, the name among them; at least so many where negative.
    pub(crate) arity: i32,
    /// As COMMAND tells them, but for those that only mean something here.
    pub(crate) flags: u32,
    pub(crate) keys: Keys,
    pub(crate) group: &'static str,
    pub(crate) since: &'static str,
    pub(crate) summary: &'static str,
    pub(crate) run: Handler,
    pub(crate) subcommands: &'static [Self],
}

/// Where a command has its keys: first, last (negative: from the end), step. First 0: none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Keys(pub(crate) i32, pub(crate) i32, pub(crate) i32);

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// Flags of commands.
pub(crate) mod flag {
    pub(crate) const WRITE: u32 = 1;
    pub(crate) const READONLY: u32 = 1 << 1;
    pub(crate) const DENYOOM: u32 = 1 << 2;
    pub(crate) const ADMIN: u32 = 1 << 3;
    pub(crate) const PUBSUB: u32 = 1 << 4;
    pub(crate) const NOSCRIPT: u32 = 1 << 5;
    pub(crate) const LOADING: u32 = 1 << 6;
    pub(crate) const STALE: u32 = 1 << 7;
    pub(crate) const SKIP_SLOWLOG: u32 = 1 << 8;
    pub(crate) const FAST: u32 = 1 << 9;
    pub(crate) const NO_AUTH: u32 = 1 << 10;
    pub(crate) const NO_MULTI: u32 = 1 << 11;
    /// Names of the flags above, by bit.
    pub(crate) const NAMES: [&str; 12] = [
        "write",
        "readonly",
        "denyoom",
        "admin",
        "pubsub",
        "noscript",
        "loading",
        "stale",
        "skip_slowlog",
        "fast",
        "no_auth",
        "no_multi",
    ];
    /// Needs every key, or what databases are, to itself.
    pub(crate) const EXCLUSIVE: u32 = 1 << 20;
    /// Looks at keys that it does not name.
    pub(crate) const WHOLE: u32 = 1 << 21;
    /// Is done at once between MULTI and EXEC.
    pub(crate) const NOT_QUEUED: u32 = 1 << 22;
}

impl Command {
    pub(crate) const fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    pub(crate) fn is_arity(&self, count: usize) -> bool {
        let count = i32::try_from(count).unwrap_or(i32::MAX);
        if self.arity >= 0 { count == self.arity } else { count >= -self.arity }
    }

    /// Whether it looks at so many keys that nobody should wait for it.
    pub(crate) const fn is_walk(&self) -> bool {
        self.has(flag::WHOLE) && self.has(flag::READONLY) && !self.has(flag::FAST)
    }

    /// What has to be locked for it.
    pub(crate) const fn hold(&self) -> Hold {
        if self.has(flag::EXCLUSIVE) {
            Hold::Exclusive
        } else if self.has(flag::WHOLE) {
            Hold::Shared
        } else if self.keys.0 != 0 {
            Hold::Keys { is_write: self.has(flag::WRITE) }
        } else {
            Hold::Nothing
        }
    }

    /// The keys among the arguments.
    pub(crate) fn keys_of<'a>(&self, args: Args<'a>) -> Vec<&'a [u8]> {
        self.key_positions(args.len()).map(|index| args.at(index)).collect()
    }

    /// Where the keys are among `count` arguments.
    pub(crate) fn key_positions(
        &self,
        count: usize,
    ) -> impl ExactSizeIterator<Item = usize> + use<> {
        let Keys(first, last, step) = self.keys;
        let first = usize::try_from(first).unwrap_or(0);
        let end = match usize::try_from(last) {
            _ if first == 0 => first,
            Ok(last) => (last + 1).min(count),
            Err(_) => (count + 1).saturating_sub(usize::try_from(-last).unwrap_or(0)),
        };
        (first..end.max(first)).step_by(usize::try_from(step).unwrap_or(1).max(1))
    }
}

/// A whole number of an argument.
fn integer(argument: &[u8]) -> Outcome<i64> {
    number::parse_i64(argument).ok_or(Failure::NOT_INTEGER)
}
