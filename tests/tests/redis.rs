//! The server's replies are those of Redis 7.0, for random streams of commands, with kills in between.
//! `SEAWALL_REDIS_STREAMS=N` compares N of them, `SEAWALL_FIRST_SEED` other ones. Left out where there
//! is no `redis-server` of that version.

use seawall_tests::counts;
use seawall_tests::effort::number;
use seawall_tests::redis::{self, Beside};

/// Streams, when nobody says how many.
const STREAMS: u64 = 40;

/// Does nothing unless the comparison starts it.
#[test]
fn child() {
    redis::child();
}

#[test]
fn replies_are_those_of_redis() {
    if let Some(why) = redis::missing() {
        counts::leave_out("replies compared with those of Redis 7.0", &why);
        return;
    }
    let mut beside = Beside::start().unwrap_or_else(|why| panic!("{why}"));
    let first = number("SEAWALL_FIRST_SEED").unwrap_or(0);
    let streams = number("SEAWALL_REDIS_STREAMS").unwrap_or(STREAMS);
    let mut compared = 0;
    for seed in first..first + streams {
        compared += beside.compare(seed).unwrap_or_else(|why| panic!("{why}"));
    }
    counts::tell("streams compared with Redis", streams);
    counts::tell("replies compared with those of Redis", compared.try_into().unwrap_or(u64::MAX));
}
