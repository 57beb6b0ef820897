//! The server, its parameters, and what it tells of its commands.

use super::{NONE, command};
use crate::command::flag::{
    ADMIN, EXCLUSIVE, FAST, LOADING, NO_MULTI, NOSCRIPT, READONLY, STALE, WHOLE, WRITE,
};
use crate::command::{admin, config, info, introspect, keys};

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
