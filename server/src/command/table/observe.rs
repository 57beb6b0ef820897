//! What tells operators what is done, and where time goes.

use super::{NONE, command};
use crate::command::flag::{ADMIN, LOADING, NOSCRIPT, STALE};
use crate::command::{monitor, slowlog};

group!(
    OBSERVE,
    "server",
    [(
        "monitor",
        1,
        ADMIN | NOSCRIPT | LOADING | STALE,
        NONE,
        "1.0.0",
        "Show every command that is executed",
        monitor::monitor
    )]
);

group!(
    SLOWLOG,
    "server",
    [
        (
            "slowlog|get",
            -2,
            ADMIN | LOADING | STALE,
            NONE,
            "2.2.12",
            "Tell the latest slow commands",
            slowlog::get
        ),
        ("slowlog|help", 2, LOADING | STALE, NONE, "6.2.0", "Tell the subcommands", slowlog::help),
        (
            "slowlog|len",
            2,
            ADMIN | LOADING | STALE,
            NONE,
            "2.2.12",
            "Count the entries of the slow log",
            slowlog::len
        ),
        (
            "slowlog|reset",
            2,
            ADMIN | LOADING | STALE,
            NONE,
            "2.2.12",
            "Empty the slow log",
            slowlog::reset
        ),
    ]
);
