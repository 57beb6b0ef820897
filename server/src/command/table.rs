//! The table of commands.

use super::flag::{
    ADMIN, DENYOOM, EXCLUSIVE, FAST, LOADING, NO_AUTH, NO_MULTI, NOSCRIPT, NOT_QUEUED, READONLY,
    STALE, WHOLE, WRITE,
};
use super::{
    Args, Command, Failure, Handler, Keys, Outcome, admin, bitfield, bits, client, config,
    connection, expiry, info, introspect, keys, lcs, own, refusal, scan, strings, transactions,
};

type Row = (&'static str, i32, u32, [i32; 3], &'static str, &'static str, Handler);

const fn command(group: &'static str, row: &Row) -> Command {
    let &(name, arity, flags, [first, last, step], since, summary, run) = row;
    let keys = Keys(first, last, step);
    Command { name, arity, flags, keys, group, since, summary, run, subcommands: &[] }
}

/// Rows of one group, as a constant array of commands.
macro_rules! group {
    ($constant:ident, $group:literal, [$($row:expr),* $(,)?]) => {
        const $constant: &[Command] = &[$(command($group, &$row)),*];
    };
}

const NONE: [i32; 3] = [0, 0, 0];
const ONE: [i32; 3] = [1, 1, 1];
const ALL: [i32; 3] = [1, -1, 1];

group!(
    STRINGS,
    "string",
    [
        (
            "append",
            3,
            WRITE | DENYOOM | FAST,
            ONE,
            "2.0.0",
            "Append a value to a key",
            strings::append
        ),
        (
            "decr",
            2,
            WRITE | DENYOOM | FAST,
            ONE,
            "1.0.0",
            "Decrement the integer value of a key by one",
            strings::decr
        ),
        (
            "decrby",
            3,
            WRITE | DENYOOM | FAST,
            ONE,
            "1.0.0",
            "Decrement the integer value of a key by a number",
            strings::decrby
        ),
        ("get", 2, READONLY | FAST, ONE, "1.0.0", "Get the value of a key", strings::get),
        (
            "getdel",
            2,
            WRITE | FAST,
            ONE,
            "6.2.0",
            "Get the value of a key and delete the key",
            strings::getdel
        ),
        (
            "getex",
            -2,
            WRITE | FAST,
            ONE,
            "6.2.0",
            "Get the value of a key and set when it expires",
            strings::getex
        ),
        (
            "getrange",
            4,
            READONLY,
            ONE,
            "2.4.0",
            "Get a part of the string stored at a key",
            strings::getrange
        ),
        (
            "getset",
            3,
            WRITE | DENYOOM | FAST,
            ONE,
            "1.0.0",
            "Set the value of a key and return the old one",
            strings::getset
        ),
        (
            "incr",
            2,
            WRITE | DENYOOM | FAST,
            ONE,
            "1.0.0",
            "Increment the integer value of a key by one",
            strings::incr
        ),
        (
            "incrby",
            3,
            WRITE | DENYOOM | FAST,
            ONE,
            "1.0.0",
            "Increment the integer value of a key by a number",
            strings::incrby
        ),
        (
            "incrbyfloat",
            3,
            WRITE | DENYOOM | FAST,
            ONE,
            "2.6.0",
            "Increment the decimal value of a key by a number",
            strings::incrbyfloat
        ),
        (
            "lcs",
            -3,
            READONLY,
            [1, 2, 1],
            "7.0.0",
            "Find the longest common subsequence of two strings",
            lcs::lcs
        ),
        (
            "mget",
            -2,
            READONLY | FAST,
            ALL,
            "1.0.0",
            "Get the values of all the keys",
            strings::mget
        ),
        (
            "mset",
            -3,
            WRITE | DENYOOM,
            [1, -1, 2],
            "1.0.1",
            "Set several keys to several values",
            strings::mset
        ),
        (
            "msetnx",
            -3,
            WRITE | DENYOOM,
            [1, -1, 2],
            "1.0.1",
            "Set several keys, if none of them exists",
            strings::msetnx
        ),
        (
            "psetex",
            4,
            WRITE | DENYOOM,
            ONE,
            "2.6.0",
            "Set the value of a key and its lifetime in milliseconds",
            strings::psetex
        ),
        ("set", -3, WRITE | DENYOOM, ONE, "1.0.0", "Set the string value of a key", strings::set),
        (
            "setex",
            4,
            WRITE | DENYOOM,
            ONE,
            "2.0.0",
            "Set the value of a key and its lifetime in seconds",
            strings::setex
        ),
        (
            "setnx",
            3,
            WRITE | DENYOOM | FAST,
            ONE,
            "1.0.0",
            "Set the value of a key, if it does not exist",
            strings::setnx
        ),
        (
            "setrange",
            4,
            WRITE | DENYOOM,
            ONE,
            "2.2.0",
            "Overwrite a part of a string",
            strings::setrange
        ),
        ("strlen", 2, READONLY | FAST, ONE, "2.2.0", "Get the length of a string", strings::strlen),
        (
            "substr",
            4,
            READONLY,
            ONE,
            "1.0.0",
            "Get a part of the string stored at a key",
            strings::getrange
        ),
    ]
);

group!(
    BITS,
    "bitmap",
    [
        (
            "bitcount",
            -2,
            READONLY,
            ONE,
            "2.6.0",
            "Count the bits of a string that are one",
            bits::bitcount
        ),
        (
            "bitfield",
            -2,
            WRITE | DENYOOM,
            ONE,
            "3.2.0",
            "Work with integers of any width in a string",
            bitfield::bitfield
        ),
        (
            "bitfield_ro",
            -2,
            READONLY | FAST,
            ONE,
            "6.0.0",
            "Read integers of any width in a string",
            bitfield::bitfield_ro
        ),
        (
            "bitop",
            -4,
            WRITE | DENYOOM,
            [2, -1, 1],
            "2.6.0",
            "Combine strings bit by bit",
            bits::bitop
        ),
        (
            "bitpos",
            -3,
            READONLY,
            ONE,
            "2.8.7",
            "Find the first bit that is one or zero",
            bits::bitpos
        ),
        ("getbit", 3, READONLY | FAST, ONE, "2.2.0", "Get a bit of a string", bits::getbit),
        (
            "setbit",
            4,
            WRITE | DENYOOM,
            ONE,
            "2.2.0",
            "Set or clear a bit of a string",
            bits::setbit
        ),
    ]
);

group!(
    KEYS,
    "generic",
    [
        ("copy", -3, WRITE | DENYOOM, [1, 2, 1], "6.2.0", "Copy a key", keys::copy),
        ("del", -2, WRITE, ALL, "1.0.0", "Delete keys", keys::del),
        ("exists", -2, READONLY | FAST, ALL, "1.0.0", "Count the keys that exist", keys::exists),
        (
            "expire",
            -3,
            WRITE | FAST,
            ONE,
            "1.0.0",
            "Set a key's lifetime in seconds",
            expiry::expire
        ),
        (
            "expireat",
            -3,
            WRITE | FAST,
            ONE,
            "1.2.0",
            "Set when a key expires, in seconds since 1970",
            expiry::expireat
        ),
        (
            "expiretime",
            2,
            READONLY | FAST,
            ONE,
            "7.0.0",
            "Tell when a key expires, in seconds since 1970",
            expiry::expiretime
        ),
        (
            "keys",
            2,
            READONLY | WHOLE,
            NONE,
            "1.0.0",
            "Find all keys that match a pattern",
            scan::keys
        ),
        ("move", 3, WRITE | FAST, ONE, "1.0.0", "Move a key to another database", keys::move_to),
        ("persist", 2, WRITE | FAST, ONE, "2.2.0", "Have a key live for ever", expiry::persist),
        (
            "pexpire",
            -3,
            WRITE | FAST,
            ONE,
            "2.6.0",
            "Set a key's lifetime in milliseconds",
            expiry::pexpire
        ),
        (
            "pexpireat",
            -3,
            WRITE | FAST,
            ONE,
            "2.6.0",
            "Set when a key expires, in milliseconds since 1970",
            expiry::pexpireat
        ),
        (
            "pexpiretime",
            2,
            READONLY | FAST,
            ONE,
            "7.0.0",
            "Tell when a key expires, in milliseconds since 1970",
            expiry::pexpiretime
        ),
        (
            "pttl",
            2,
            READONLY | FAST,
            ONE,
            "2.6.0",
            "Tell how long a key lives, in milliseconds",
            expiry::pttl
        ),
        ("randomkey", 1, READONLY | WHOLE, NONE, "1.0.0", "Return some key", scan::randomkey),
        ("rename", 3, WRITE, [1, 2, 1], "1.0.0", "Rename a key", keys::rename),
        (
            "renamenx",
            3,
            WRITE | FAST,
            [1, 2, 1],
            "1.0.0",
            "Rename a key, if the new name is free",
            keys::renamenx
        ),
        (
            "scan",
            -2,
            READONLY | WHOLE,
            NONE,
            "2.8.0",
            "Go through the keys of a database",
            scan::scan
        ),
        ("touch", -2, READONLY | FAST, ALL, "3.2.1", "Count the keys that exist", keys::exists),
        (
            "ttl",
            2,
            READONLY | FAST,
            ONE,
            "1.0.0",
            "Tell how long a key lives, in seconds",
            expiry::ttl
        ),
        ("type", 2, READONLY | FAST, ONE, "1.0.0", "Tell the type of a key", keys::type_of),
        ("unlink", -2, WRITE | FAST, ALL, "4.0.0", "Delete keys", keys::del),
    ]
);

group!(
    OBJECT,
    "generic",
    [
        (
            "object|encoding",
            3,
            READONLY,
            [2, 2, 1],
            "2.2.3",
            "Tell how a value would be encoded",
            keys::object_encoding
        ),
        (
            "object|freq",
            3,
            READONLY,
            [2, 2, 1],
            "4.0.0",
            "Tell how often a key is used",
            keys::object_freq
        ),
        (
            "object|idletime",
            3,
            READONLY,
            [2, 2, 1],
            "2.2.3",
            "Tell for how long a key was not used",
            keys::object_idletime
        ),
        (
            "object|refcount",
            3,
            READONLY,
            [2, 2, 1],
            "2.2.3",
            "Tell how many references a value has",
            keys::object_refcount
        ),
    ]
);

group!(
    MEMORY,
    "server",
    [(
        "memory|usage",
        -3,
        READONLY,
        [2, 2, 1],
        "4.0.0",
        "Estimate the bytes that a key takes",
        keys::memory_usage
    ),]
);

group!(
    TRANSACTIONS,
    "transactions",
    [
        (
            "discard",
            1,
            NOSCRIPT | LOADING | STALE | FAST | NOT_QUEUED,
            NONE,
            "2.0.0",
            "Forget what was queued after MULTI",
            transactions::discard
        ),
        (
            "exec",
            1,
            NOSCRIPT | LOADING | STALE | NOT_QUEUED | EXCLUSIVE,
            NONE,
            "1.2.0",
            "Do what was queued after MULTI",
            transactions::exec
        ),
        (
            "multi",
            1,
            NOSCRIPT | LOADING | STALE | FAST | NOT_QUEUED,
            NONE,
            "1.2.0",
            "Begin to queue commands",
            transactions::multi
        ),
        (
            "unwatch",
            1,
            NOSCRIPT | LOADING | STALE | FAST,
            NONE,
            "2.2.0",
            "Watch no key any more",
            transactions::unwatch
        ),
        (
            "watch",
            -2,
            NOSCRIPT | FAST | NOT_QUEUED,
            ALL,
            "2.2.0",
            "Have EXEC fail when keys change before it",
            transactions::watch
        ),
    ]
);

group!(
    CONNECTION,
    "connection",
    [
        (
            "auth",
            -2,
            NOSCRIPT | LOADING | STALE | FAST | NO_AUTH,
            NONE,
            "1.0.0",
            "Give a password",
            connection::auth
        ),
        ("echo", 2, LOADING | STALE | FAST, NONE, "1.0.0", "Return the argument", connection::echo),
        (
            "hello",
            -1,
            NOSCRIPT | LOADING | STALE | FAST | NO_AUTH,
            NONE,
            "6.0.0",
            "Choose the protocol",
            connection::hello
        ),
        ("ping", -1, FAST | LOADING, NONE, "1.0.0", "Answer", connection::ping),
        (
            "quit",
            -1,
            NOSCRIPT | LOADING | STALE | FAST | NO_AUTH | NOT_QUEUED,
            NONE,
            "1.0.0",
            "End the connection",
            connection::quit
        ),
        (
            "reset",
            1,
            NOSCRIPT | LOADING | STALE | FAST | NO_AUTH | NOT_QUEUED,
            NONE,
            "6.2.0",
            "Make the connection as it was when it began",
            connection::reset
        ),
        (
            "select",
            2,
            LOADING | STALE | FAST,
            NONE,
            "1.0.0",
            "Choose a database",
            connection::select
        ),
    ]
);

group!(
    CLIENT,
    "connection",
    [
        (
            "client|getname",
            2,
            NOSCRIPT | LOADING | STALE,
            NONE,
            "2.6.9",
            "Tell the connection's name",
            client::getname
        ),
        (
            "client|getredir",
            2,
            NOSCRIPT | LOADING | STALE,
            NONE,
            "6.0.0",
            "Tell where invalidations go: nowhere",
            client::getredir
        ),
        (
            "client|id",
            2,
            NOSCRIPT | LOADING | STALE,
            NONE,
            "5.0.0",
            "Tell the connection's number",
            client::id
        ),
        (
            "client|info",
            2,
            NOSCRIPT | LOADING | STALE,
            NONE,
            "6.2.0",
            "Tell about the connection",
            client::info
        ),
        (
            "client|kill",
            -3,
            ADMIN | NOSCRIPT | LOADING | STALE,
            NONE,
            "2.4.0",
            "End connections",
            client::kill
        ),
        (
            "client|list",
            -2,
            ADMIN | NOSCRIPT | LOADING | STALE,
            NONE,
            "2.4.0",
            "Tell about all connections",
            client::list
        ),
        (
            "client|no-evict",
            3,
            ADMIN | NOSCRIPT | LOADING | STALE,
            NONE,
            "7.0.0",
            "Accepted: no connection is evicted",
            client::no_evict
        ),
        (
            "client|reply",
            3,
            NOSCRIPT | LOADING | STALE,
            NONE,
            "3.2.0",
            "Choose which replies to get",
            client::reply
        ),
        (
            "client|setinfo",
            4,
            NOSCRIPT | LOADING | STALE,
            NONE,
            "7.2.0",
            "Tell about the client library",
            client::setinfo
        ),
        (
            "client|setname",
            3,
            NOSCRIPT | LOADING | STALE,
            NONE,
            "2.6.9",
            "Name the connection",
            client::setname
        ),
        (
            "client|unblock",
            -3,
            ADMIN | NOSCRIPT | LOADING | STALE,
            NONE,
            "5.0.0",
            "Unblock a connection",
            client::unblock
        ),
    ]
);

group!(
    CONFIG,
    "server",
    [
        (
            "config|get",
            -3,
            ADMIN | NOSCRIPT | LOADING | STALE,
            NONE,
            "2.0.0",
            "Tell parameters",
            config::get
        ),
        (
            "config|resetstat",
            2,
            ADMIN | NOSCRIPT | LOADING | STALE,
            NONE,
            "2.0.0",
            "Set the counters of INFO to zero",
            config::resetstat
        ),
        (
            "config|set",
            -4,
            ADMIN | NOSCRIPT | LOADING | STALE,
            NONE,
            "2.0.0",
            "Set parameters",
            config::set
        ),
    ]
);

group!(
    COMMAND,
    "server",
    [
        (
            "command|count",
            2,
            LOADING | STALE,
            NONE,
            "2.8.13",
            "Count the commands",
            introspect::count
        ),
        ("command|docs", -2, LOADING | STALE, NONE, "7.0.0", "Describe commands", introspect::docs),
        (
            "command|getkeys",
            -3,
            LOADING | STALE,
            NONE,
            "2.8.13",
            "Find the keys of a command",
            introspect::getkeys
        ),
        (
            "command|info",
            -2,
            LOADING | STALE,
            NONE,
            "2.8.13",
            "Tell about commands",
            introspect::info
        ),
        ("command|list", -2, LOADING | STALE, NONE, "7.0.0", "List the commands", introspect::list),
    ]
);

group!(
    FUNCTION,
    "scripting",
    [(
        "function|flush",
        -2,
        WRITE | NOSCRIPT,
        NONE,
        "7.0.0",
        "Accepted: there are no functions",
        admin::function_flush
    ),]
);

group!(
    SERVER,
    "server",
    [
        (
            "bgrewriteaof",
            1,
            ADMIN | NOSCRIPT,
            NONE,
            "1.0.0",
            "Take a checkpoint in the background",
            admin::bgrewriteaof
        ),
        (
            "bgsave",
            -1,
            ADMIN | NOSCRIPT,
            NONE,
            "1.0.0",
            "Take a checkpoint in the background",
            admin::bgsave
        ),
        (
            "dbsize",
            1,
            READONLY | FAST | WHOLE,
            NONE,
            "1.0.0",
            "Count the keys of the database",
            keys::dbsize
        ),
        ("flushall", -1, WRITE | EXCLUSIVE, NONE, "1.0.0", "Empty all databases", keys::flushall),
        ("flushdb", -1, WRITE | EXCLUSIVE, NONE, "1.0.0", "Empty the database", keys::flushdb),
        ("info", -1, LOADING | STALE | WHOLE, NONE, "1.0.0", "Tell about the server", info::info),
        (
            "lastsave",
            1,
            LOADING | STALE | FAST,
            NONE,
            "1.0.0",
            "Tell when the last checkpoint ended that was asked for",
            admin::lastsave
        ),
        (
            "role",
            1,
            NOSCRIPT | LOADING | STALE | FAST,
            NONE,
            "2.8.12",
            "Tell the role in replication",
            admin::role
        ),
        ("save", 1, ADMIN | NOSCRIPT | NO_MULTI, NONE, "1.0.0", "Take a checkpoint", admin::save),
        (
            "shutdown",
            -1,
            ADMIN | NOSCRIPT | LOADING | STALE | NO_MULTI,
            NONE,
            "1.0.0",
            "End the server",
            admin::shutdown
        ),
        (
            "swapdb",
            3,
            WRITE | FAST | EXCLUSIVE,
            NONE,
            "4.0.0",
            "Exchange two databases",
            keys::swapdb
        ),
        ("time", 1, LOADING | STALE | FAST, NONE, "2.6.0", "Tell the time", admin::time),
    ]
);

/// A command that has subcommands.
const fn container(
    name: &'static str,
    group: &'static str,
    arity: i32,
    summary: &'static str,
    subcommands: &'static [Command],
) -> Command {
    let run: Handler = introspect::all;
    let keys = Keys(0, 0, 0);
    Command { name, arity, flags: 0, keys, group, since: "2.4.0", summary, run, subcommands }
}

const CONTAINERS: &[Command] = &[
    container("client", "connection", -2, "Commands about connections", CLIENT),
    container("command", "server", -1, "Tell about all commands", COMMAND),
    container("config", "server", -2, "Commands about parameters", CONFIG),
    container("function", "scripting", -2, "Commands about functions", FUNCTION),
    container("memory", "server", -2, "Commands about memory", MEMORY),
    container("object", "generic", -2, "Commands about values", OBJECT),
];

const GROUPS: [&[Command]; 8] =
    [STRINGS, BITS, KEYS, TRANSACTIONS, CONNECTION, SERVER, CONTAINERS, own::COMMANDS];

/// Every command, once.
pub(crate) static COMMANDS: std::sync::LazyLock<Vec<&'static Command>> =
    std::sync::LazyLock::new(|| GROUPS.iter().flat_map(|group| group.iter()).collect());

/// Commands by name.
static BY_NAME: std::sync::LazyLock<std::collections::HashMap<&'static str, &'static Command>> =
    std::sync::LazyLock::new(|| COMMANDS.iter().map(|command| (command.name, *command)).collect());

/// Longest name of a command.
const NAME_BYTES_MAX: usize = 24;
/// Bytes of the arguments that an error repeats.
const REPEATED_BYTES_MAX: usize = 128;

/// The command, or subcommand, that the arguments name.
pub(crate) fn find(args: Args<'_>) -> Outcome<&'static Command> {
    let name = args.get(0).unwrap_or_default();
    let mut lower = [0; NAME_BYTES_MAX];
    let command = lower.get_mut(..name.len()).and_then(|lower| {
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        BY_NAME.get(std::str::from_utf8(lower).ok()?)
    });
    let Some(&command) = command else { return Err(unknown(args)) };
    if command.subcommands.is_empty() || args.len() == 1 {
        return Ok(command);
    }
    let sub = args.at(1);
    let is_it = |of: &&Command| {
        of.name
            .as_bytes()
            .get(command.name.len() + 1..)
            .is_some_and(|of| of.eq_ignore_ascii_case(sub))
    };
    command.subcommands.iter().find(is_it).ok_or_else(|| {
        let sub: String = String::from_utf8_lossy(sub).chars().take(REPEATED_BYTES_MAX).collect();
        let container = command.name.to_uppercase();
        Failure::new(format!("ERR unknown subcommand '{sub}'. Try {container} HELP."))
    })
}

fn unknown(args: Args<'_>) -> Failure {
    if let Some(refused) = refusal(args) {
        return refused;
    }
    let text = |argument: &[u8], most: usize| {
        String::from_utf8_lossy(&argument[..argument.len().min(most)]).into_owned()
    };
    let name = text(args.at(0), REPEATED_BYTES_MAX);
    let mut shown = String::new();
    for argument in args.from(1).iter() {
        if shown.len() >= REPEATED_BYTES_MAX {
            break;
        }
        let left = REPEATED_BYTES_MAX - shown.len();
        shown += &format!("'{}' ", text(argument, left));
    }
    Failure::new(format!("ERR unknown command '{name}', with args beginning with: {shown}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_lower_case_and_short_enough_to_be_found() {
        for command in COMMANDS.iter() {
            assert!(std::ptr::eq(BY_NAME[command.name], *command), "{}", command.name);
            assert_eq!(command.name, command.name.to_lowercase());
            assert!(command.name.len() <= NAME_BYTES_MAX);
        }
    }

    #[test]
    fn who_writes_keys_locks_them() {
        for command in COMMANDS.iter().filter(|command| command.has(WRITE)) {
            assert!(command.keys.0 != 0 || command.has(EXCLUSIVE), "{}", command.name);
        }
    }
}
