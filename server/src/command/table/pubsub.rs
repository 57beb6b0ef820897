//! Publishing and subscribing.

use super::{NONE, command};
use crate::command::flag::{FAST, LOADING, NOSCRIPT, PUBSUB as MESSAGES, STALE};
use crate::command::pubsub;

/// What a connection says about its own subscriptions.
const OWN: u32 = MESSAGES | NOSCRIPT | LOADING | STALE;
/// What anybody may say and ask.
const ANY: u32 = MESSAGES | LOADING | STALE;

group!(
    PUBSUB,
    "pubsub",
    [
        ("psubscribe", -2, OWN, NONE, "2.0.0", "Subscribe to patterns", pubsub::psubscribe),
        ("publish", 3, ANY | FAST, NONE, "2.0.0", "Send a message to a channel", pubsub::publish),
        ("punsubscribe", -1, OWN, NONE, "2.0.0", "Leave patterns", pubsub::punsubscribe),
        (
            "spublish",
            3,
            ANY | FAST,
            NONE,
            "7.0.0",
            "Send a message to a channel of a shard",
            pubsub::spublish
        ),
        (
            "ssubscribe",
            -2,
            OWN,
            NONE,
            "7.0.0",
            "Subscribe to channels of shards",
            pubsub::ssubscribe
        ),
        ("subscribe", -2, OWN, NONE, "2.0.0", "Subscribe to channels", pubsub::subscribe),
        ("sunsubscribe", -1, OWN, NONE, "7.0.0", "Leave channels of shards", pubsub::sunsubscribe),
        ("unsubscribe", -1, OWN, NONE, "2.0.0", "Leave channels", pubsub::unsubscribe),
    ]
);

group!(
    SUBSCRIPTIONS,
    "pubsub",
    [
        ("pubsub|channels", -2, ANY, NONE, "2.8.0", "List the channels", pubsub::channels),
        ("pubsub|help", 2, LOADING | STALE, NONE, "6.2.0", "Tell the subcommands", pubsub::help),
        ("pubsub|numpat", 2, ANY, NONE, "2.8.0", "Count the patterns", pubsub::numpat),
        ("pubsub|numsub", -2, ANY, NONE, "2.8.0", "Count subscribers of channels", pubsub::numsub),
        (
            "pubsub|shardchannels",
            -2,
            ANY,
            NONE,
            "7.0.0",
            "List the channels of shards",
            pubsub::shardchannels
        ),
        (
            "pubsub|shardnumsub",
            -2,
            ANY,
            NONE,
            "7.0.0",
            "Count subscribers of channels of shards",
            pubsub::shardnumsub
        ),
    ]
);
