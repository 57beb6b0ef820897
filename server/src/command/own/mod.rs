//! Commands that only this server has; their names begin with `SW.`.
//!
//! They show what the engine does and the commands of Redis have no words for: keys in their order,
//! one moment of the whole database, positions of the log, verification and backup. Shapes, bounds and
//! errors of each stand in the crate's README.

mod figures;
mod long;
mod ranges;
mod snapshot;
mod state;
mod swap;
mod transactions;

use super::flag::{ADMIN, DENYOOM, EXCLUSIVE, FAST, NO_MULTI, NOSCRIPT, READONLY, WHOLE, WRITE};
use super::table::{NONE, ONE, command};
use super::{Args, Command, Context, Failure, Handler, Outcome, integer};

/// The group that COMMAND DOCS tells.
pub(super) const GROUP: &str = "seawall";

/// A row of the table: name, arity, flags, whether the first argument is a key, summary, handler.
const fn own(
    (name, arity, flags, has_key, summary, run): (
        &'static str,
        i32,
        u32,
        bool,
        &'static str,
        Handler,
    ),
) -> Command {
    let keys = if has_key { ONE } else { NONE };
    command(GROUP, &(name, arity, flags, keys, env!("CARGO_PKG_VERSION"), summary, run))
}

pub(super) const COMMANDS: &[Command] = &[
    own((
        "sw.backup",
        2,
        ADMIN | NOSCRIPT | NO_MULTI,
        false,
        "Copy the database to a directory of the server's machine",
        long::backup,
    )),
    own((
        "sw.begin",
        -1,
        NOSCRIPT | NO_MULTI | WHOLE | FAST,
        false,
        "Begin a transaction that lasts from command to command",
        transactions::begin,
    )),
    own((
        "sw.cas",
        4,
        WRITE | DENYOOM | FAST,
        true,
        "Set the string value of a key, if it has a certain one",
        swap::cas,
    )),
    own((
        "sw.checkpoint",
        -1,
        ADMIN | NOSCRIPT | NO_MULTI,
        false,
        "Take a checkpoint, and wait for it where asked to",
        long::checkpoint,
    )),
    own((
        "sw.commit",
        1,
        NOSCRIPT | NO_MULTI | EXCLUSIVE,
        false,
        "Commit the transaction",
        transactions::commit,
    )),
    own((
        "sw.count",
        3,
        READONLY | WHOLE,
        false,
        "Count the keys between two bounds",
        ranges::count,
    )),
    own((
        "sw.delrange",
        3,
        WRITE | EXCLUSIVE,
        false,
        "Delete the keys between two bounds",
        ranges::delrange,
    )),
    own((
        "sw.durability",
        2,
        NOSCRIPT | NO_MULTI | FAST,
        false,
        "Say whether replies to this connection's writes wait for the disk",
        state::durability,
    )),
    own(("sw.lsn", 1, FAST, false, "Tell positions of the log", state::lsn)),
    own((
        "sw.prefix",
        -2,
        READONLY | WHOLE,
        false,
        "Get the keys that begin with a prefix, in order, and their values",
        ranges::prefix,
    )),
    own((
        "sw.range",
        -3,
        READONLY | WHOLE,
        false,
        "Get the keys between two bounds, in order, and their values",
        ranges::range,
    )),
    own((
        "sw.release",
        1,
        NOSCRIPT | NO_MULTI | FAST,
        false,
        "Read the present again, and not the snapshot",
        snapshot::release,
    )),
    own((
        "sw.rollback",
        1,
        NOSCRIPT | NO_MULTI | FAST,
        false,
        "Undo the transaction",
        transactions::rollback,
    )),
    own((
        "sw.snapshot",
        1,
        NOSCRIPT | NO_MULTI | WHOLE | FAST,
        false,
        "Read this moment from now on",
        snapshot::snapshot,
    )),
    own(("sw.stats", 1, FAST, false, "Tell the figures of the engine", state::stats)),
    own((
        "sw.verify",
        1,
        ADMIN | NOSCRIPT | NO_MULTI,
        false,
        "Verify every page, tree, value and log record",
        long::verify,
    )),
];
