//! Keys of any type, and transactions.

use super::{ALL, NONE, ONE, command};
use crate::command::flag::{
    DENYOOM, EXCLUSIVE, FAST, LOADING, NOSCRIPT, NOT_QUEUED, READONLY, SKIP_SLOWLOG, STALE, WHOLE,
    WRITE,
};
use crate::command::{expiry, keys, scan, transactions};

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
            NOSCRIPT | LOADING | STALE | SKIP_SLOWLOG | NOT_QUEUED | EXCLUSIVE,
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
