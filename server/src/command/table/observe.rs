//! What tells operators what is done, and where time goes.

use super::{NONE, command};
use crate::command::flag::{ADMIN, LOADING, NOSCRIPT, STALE};
use crate::command::{latency, monitor, slowlog};

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

/// What LATENCY's subcommands have in common.
const WATCH: u32 = ADMIN | NOSCRIPT | LOADING | STALE;

group!(
    LATENCY,
    "server",
    [
        ("latency|doctor", 2, WATCH, NONE, "2.8.13", "Tell about spikes in words", latency::doctor),
        ("latency|graph", 3, WATCH, NONE, "2.8.13", "Draw the spikes of an event", latency::graph),
        ("latency|help", 2, LOADING | STALE, NONE, "2.8.13", "Tell the subcommands", latency::help),
        (
            "latency|histogram",
            -2,
            WATCH,
            NONE,
            "7.0.0",
            "Tell how long commands took",
            latency::histogram
        ),
        (
            "latency|history",
            3,
            WATCH,
            NONE,
            "2.8.13",
            "Tell the spikes of an event",
            latency::history
        ),
        ("latency|latest", 2, WATCH, NONE, "2.8.13", "Tell the latest spikes", latency::latest),
        ("latency|reset", -2, WATCH, NONE, "2.8.13", "Forget spikes", latency::reset),
    ]
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
