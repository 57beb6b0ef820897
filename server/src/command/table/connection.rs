//! Connections and clients, and what they wait for.

use super::{NONE, command};
use crate::command::flag::{ADMIN, FAST, LOADING, NO_AUTH, NOSCRIPT, NOT_QUEUED, STALE};
use crate::command::{client, connection, wait};

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
    WAITS,
    "generic",
    [
        (
            "wait",
            3,
            NOSCRIPT,
            NONE,
            "3.0.0",
            "Wait for replicas, of which there are none",
            wait::wait
        ),
        (
            "waitaof",
            4,
            NOSCRIPT,
            NONE,
            "7.2.0",
            "Wait until this connection's writes are durable",
            wait::waitaof
        ),
    ]
);
