//! Messages: who gets which, in which order, and what a slow reader costs others.

use std::time::{Duration, Instant};

use seawall_server::limits::PUSHED_BYTES_MAX;

use crate::Talk;
use crate::served::{Served, answers_to, until};

#[test]
fn each_channel_is_confirmed_and_each_subscription_gets_its_message() {
    let served = Served::start();
    let (mut one, mut other) = (Talk::new(&served), Talk::new(&served));
    one.ask("UNSUBSCRIBE", "*3|$11|unsubscribe|$-1|:0|");
    one.ask("PUNSUBSCRIBE x", "*3|$12|punsubscribe|$1|x|:0|");
    one.say("SUBSCRIBE x y x\r\nPSUBSCRIBE x* *\r\nSSUBSCRIBE x");
    one.hear("*3|$9|subscribe|$1|x|:1|*3|$9|subscribe|$1|y|:2|*3|$9|subscribe|$1|x|:2|");
    one.hear("*3|$10|psubscribe|$2|x*|:3|*3|$10|psubscribe|$1|*|:4|");
    one.hear("*3|$10|ssubscribe|$1|x|:1|");
    other.ask("PUBLISH x hi", ":3|");
    one.hear("*3|$7|message|$1|x|$2|hi|");
    one.hear("*4|$8|pmessage|$1|*|$1|x|$2|hi|*4|$8|pmessage|$2|x*|$1|x|$2|hi|");
    other.ask("SPUBLISH x hi", ":1|");
    one.hear("*3|$8|smessage|$1|x|$2|hi|");
    other.ask("SPUBLISH y hi\r\nPUBLISH x* hi", ":0|:2|");
    one.hear("*4|$8|pmessage|$1|*|$2|x*|$2|hi|*4|$8|pmessage|$2|x*|$2|x*|$2|hi|");
    one.say("UNSUBSCRIBE\r\nPUNSUBSCRIBE x*\r\nSUNSUBSCRIBE x\r\nPUNSUBSCRIBE");
    one.hear("*3|$11|unsubscribe|$1|x|:3|*3|$11|unsubscribe|$1|y|:2|");
    one.hear("*3|$12|punsubscribe|$2|x*|:1|*3|$12|sunsubscribe|$1|x|:0|");
    one.hear("*3|$12|punsubscribe|$1|*|:0|");
    other.ask("PUBLISH x hi", ":0|");
    one.ask("PING", "+PONG|");
}

#[test]
fn a_subscriber_of_resp2_may_only_speak_of_subscriptions() {
    let served = Served::start();
    let mut talk = Talk::new(&served);
    talk.ask("SUBSCRIBE x", "*3|$9|subscribe|$1|x|:1|");
    for (line, name) in [("GET k", "get"), ("CLIENT ID", "client|id"), ("MULTI", "multi")] {
        talk.say(line);
        let heard = talk.hear_up_to("\r\n");
        let told = "only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context";
        assert_eq!(heard, format!("-ERR Can't execute '{name}': {told}\r\n"));
    }
    talk.ask("PING\r\nPING hi", "*2|$4|pong|$0||*2|$4|pong|$2|hi|");
    talk.ask("GET", "-ERR wrong number of arguments for 'get' command|");
    talk.ask("RESET\r\nGET k\r\nPING", "+RESET|$-1|+PONG|");
    let quits = answers_to(&served, "SUBSCRIBE x\r\nQUIT\r\n");
    assert_eq!(quits, "*3\r\n$9\r\nsubscribe\r\n$1\r\nx\r\n:1\r\n+OK\r\n");
}

#[test]
fn resp3_tells_messages_as_pushes_between_replies() {
    let served = Served::start();
    let mut talk = Talk::resp3(&served);
    talk.ask("SUBSCRIBE x\r\nPSUBSCRIBE x*", ">3|$9|subscribe|$1|x|:1|>3|$10|psubscribe|$2|x*|:2|");
    talk.say("GET k\r\nPING\r\nPUBLISH x hello\r\nGET k");
    talk.hear("_|+PONG|>3|$7|message|$1|x|$5|hello|");
    talk.hear(">4|$8|pmessage|$2|x*|$1|x|$5|hello|:2|_|");
    talk.ask(
        "PUNSUBSCRIBE\r\nPUNSUBSCRIBE",
        ">3|$12|punsubscribe|$2|x*|:1|>3|$12|punsubscribe|_|:1|",
    );
    talk.say("HELLO 2");
    talk.hear_up_to("modules\r\n*0\r\n");
    talk.say("GET k");
    assert!(talk.hear_up_to("\r\n").starts_with("-ERR Can't execute 'get'"));
}

#[test]
fn between_multi_and_exec_subscriptions_and_messages_are_done_in_their_turn() {
    let served = Served::start();
    let (mut one, mut other) = (Talk::resp3(&served), Talk::new(&served));
    one.ask("MULTI\r\nSUBSCRIBE m n\r\nPUBLISH m 1\r\nEXEC", "+OK|+QUEUED|+QUEUED|*2|");
    one.hear(">3|$9|subscribe|$1|m|:1|>3|$9|subscribe|$1|n|:2|:1|>3|$7|message|$1|m|$1|1|");
    other.ask("MULTI\r\nPUBLISH m 2\r\nPUBLISH m 3", "+OK|+QUEUED|+QUEUED|");
    one.ask("PING", "+PONG|");
    other.ask("EXEC", "*2|:1|:1|");
    one.hear(">3|$7|message|$1|m|$1|2|>3|$7|message|$1|m|$1|3|");
    one.ask("MULTI\r\nPUBLISH m 4\r\nUNSUBSCRIBE m\r\nEXEC", "+OK|+QUEUED|+QUEUED|");
    one.hear(">3|$7|message|$1|m|$1|4|*2|:1|>3|$11|unsubscribe|$1|m|:1|");
}

#[test]
fn client_reply_keeps_neither_messages_nor_confirmations_back() {
    let served = Served::start();
    let (mut one, mut other) = (Talk::new(&served), Talk::new(&served));
    one.ask("CLIENT REPLY OFF\r\nSUBSCRIBE x", "*3|$9|subscribe|$1|x|:1|");
    other.ask("PUBLISH x 1", ":1|");
    one.hear("*3|$7|message|$1|x|$1|1|");
    one.say("PING\r\nUNSUBSCRIBE\r\nPING\r\nCLIENT REPLY ON");
    one.hear("*3|$11|unsubscribe|$1|x|:0|+OK|");
    one.ask("CLIENT REPLY SKIP\r\nSUBSCRIBE x\r\nPING", "*3|$9|subscribe|$1|x|:1|*2|$4|pong|$0||");
}

#[test]
fn the_end_of_a_connection_and_reset_end_its_subscriptions() {
    let served = Served::start();
    let (mut one, mut other, mut third) =
        (Talk::new(&served), Talk::new(&served), Talk::new(&served));
    one.ask("SUBSCRIBE x\r\nPSUBSCRIBE x*", "*3|$9|subscribe|$1|x|:1|*3|$10|psubscribe|$2|x*|:2|");
    other.ask("SUBSCRIBE x", "*3|$9|subscribe|$1|x|:1|");
    third.ask("PUBSUB NUMSUB x y\r\nPUBSUB NUMPAT", "*4|$1|x|:2|$1|y|:0|:1|");
    one.ask("RESET", "+RESET|");
    third.ask("PUBSUB NUMSUB x\r\nPUBSUB NUMPAT", "*2|$1|x|:1|:0|");
    drop(other);
    until("its subscription ends", || {
        third.say("PUBSUB CHANNELS");
        third.hear_up_to("\r\n") == "*0\r\n" || {
            third.hear("$1|x|");
            false
        }
    });
}

#[test]
fn others_are_told_what_there_is_to_subscribe_to() {
    let served = Served::start();
    let (mut one, mut other) = (Talk::new(&served), Talk::new(&served));
    one.say("SUBSCRIBE b a\r\nPSUBSCRIBE *\r\nSSUBSCRIBE s");
    one.hear_up_to("$1\r\ns\r\n:1\r\n");
    other.ask("PUBSUB CHANNELS\r\nPUBSUB CHANNELS b*", "*2|$1|a|$1|b|*1|$1|b|");
    other.ask("PUBSUB SHARDCHANNELS\r\nPUBSUB SHARDNUMSUB s t", "*1|$1|s|*4|$1|s|:1|$1|t|:0|");
    let wrong =
        "-ERR unknown subcommand or wrong number of arguments for 'channels'. Try PUBSUB HELP.|";
    other.ask("PUBSUB channels a b", wrong);
    other.ask("PUBSUB", "-ERR wrong number of arguments for 'pubsub' command|");
    other.ask("PUBSUB NO", "-ERR unknown subcommand 'NO'. Try PUBSUB HELP.|");
    other.ask(
        "PUBSUB HELP",
        "*14|+PUBSUB <subcommand> [<arg> [value] [opt] ...]. Subcommands are:|",
    );
    other.hear_up_to("+HELP\r\n+    Prints this help.\r\n");
    let line = other.line_of("CLIENT LIST", "cmd=ssubscribe");
    assert!(line.contains(" flags=P ") && line.contains(" sub=2 psub=1 ssub=1 "), "{line}");
    let line = other.line_of("CLIENT LIST TYPE pubsub", "id=");
    assert!(line.contains("cmd=ssubscribe"), "{line}");
    for figure in ["pubsub_channels:2", "pubsub_patterns:1", "pubsubshard_channels:1"] {
        assert_eq!(other.line_of("INFO stats", figure), figure);
    }
    other.ask("COMMAND INFO publish", "*1|*10|$7|publish|:3|*4|+pubsub|+loading|+stale|+fast|");
    other.hear(":0|:0|:0|*2|+@pubsub|+@fast|*0|*0|*0|");
    other.ask("CLIENT KILL TYPE pubsub", ":1|");
}

#[test]
fn a_subscriber_that_reads_too_little_is_closed_and_delays_nobody() {
    let served = Served::start();
    let (mut slow, mut fast, mut one) =
        (Talk::new(&served), Talk::new(&served), Talk::new(&served));
    slow.ask("SUBSCRIBE x", "*3|$9|subscribe|$1|x|:1|");
    fast.ask("SUBSCRIBE y", "*3|$9|subscribe|$1|y|:1|");
    let text = "m".repeat(60_000);
    let counted = "client_output_buffer_limit_disconnections";
    // The system's buffers take some of it as well.
    let most = 4 * PUSHED_BYTES_MAX / text.len();
    let started = Instant::now();
    let is_closed = (0..most).any(|_| {
        one.ask("PUBLISH y m", ":1|");
        fast.hear("*3|$7|message|$1|y|$1|m|");
        one.say(&format!("PUBLISH x {text}"));
        one.hear_up_to("\r\n") == ":0\r\n"
    });
    assert!(is_closed, "after {:?}", started.elapsed());
    assert_eq!(one.line_of("INFO stats", counted), format!("{counted}:1"));
    assert_eq!(one.line_of("INFO stats", "pubsub_channels"), "pubsub_channels:1");
}

#[test]
fn messages_of_each_publisher_come_in_their_order() {
    const MESSAGES: usize = 2000;
    const PUBLISHERS: usize = 4;
    let served = Served::start();
    let mut readers: Vec<_> = (0..3).map(|_| Talk::new(&served)).collect();
    for reader in &mut readers {
        reader.ask("SUBSCRIBE x", "*3|$9|subscribe|$1|x|:1|");
    }
    std::thread::scope(|scope| {
        for publisher in 0..PUBLISHERS {
            let mut talk = Talk::new(&served);
            scope.spawn(move || {
                let lines =
                    (0..MESSAGES).map(|number| format!("PUBLISH x {publisher}-{number:04}\r\n"));
                talk.say(&lines.collect::<String>());
                talk.hear(&":3|".repeat(MESSAGES));
            });
        }
        for reader in &mut readers {
            scope.spawn(|| {
                let mut next = [0; PUBLISHERS];
                for _ in 0..PUBLISHERS * MESSAGES {
                    reader.hear("*3|$7|message|$1|x|$6|");
                    let told = reader.hear_up_to("\r\n");
                    let (publisher, number) = told.trim_end().split_once('-').unwrap();
                    let next = &mut next[publisher.parse::<usize>().unwrap()];
                    assert_eq!(number.parse::<usize>().unwrap(), *next);
                    *next += 1;
                }
            });
        }
    });
}

#[test]
fn no_message_comes_behind_the_end_of_its_subscription() {
    let served = Served::start();
    let mut reader = Talk::resp3(&served);
    let is_over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let mut talk = Talk::new(&served);
        let is_over = &is_over;
        scope.spawn(move || {
            while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                talk.say("PUBLISH x m");
                talk.hear_up_to("\r\n");
            }
        });
        // With another one left it still listens.
        reader.ask("SUBSCRIBE other", ">3|$9|subscribe|$5|other|:1|");
        for _ in 0..300 {
            reader.ask("SUBSCRIBE x", ">3|$9|subscribe|$1|x|:2|");
            reader.say("PING\r\nUNSUBSCRIBE x\r\nPING behind");
            reader.hear_up_to(">3\r\n$11\r\nunsubscribe\r\n$1\r\nx\r\n:1\r\n");
            reader.hear("$6|behind|");
        }
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn a_subscriber_may_be_silent_for_longer_than_others() {
    let served = Served::start();
    let (mut subscriber, mut idle, mut one) =
        (Talk::new(&served), Talk::new(&served), Talk::new(&served));
    one.ask("CONFIG SET timeout 1", "+OK|");
    subscriber.ask("SUBSCRIBE x", "*3|$9|subscribe|$1|x|:1|");
    idle.ask("PING", "+PONG|");
    let started = Instant::now();
    until("the idle one is closed", || {
        one.say("CLIENT LIST");
        !one.hear_up_to("resp=2\n\r\n").contains("cmd=ping")
    });
    assert!(started.elapsed() >= Duration::from_millis(900));
    one.ask("PUBLISH x m", ":1|");
    subscriber.hear("*3|$7|message|$1|x|$1|m|");
}

#[test]
fn a_connection_has_a_most_of_subscriptions() {
    let served = Served::start();
    let mut talk = Talk::new(&served);
    let names = |numbers: std::ops::Range<usize>| {
        numbers.map(|number| format!(" c{number}")).collect::<String>()
    };
    for start in (0..65_536).step_by(4096) {
        talk.say(&format!("SUBSCRIBE{}", names(start..start + 4096)));
        talk.hear_up_to(&format!(":{}\r\n", start + 4096));
    }
    talk.ask("PSUBSCRIBE x", "-ERR too many subscriptions|");
    talk.ask("UNSUBSCRIBE c0", "*3|$11|unsubscribe|$2|c0|:65535|");
    talk.ask("PSUBSCRIBE x y", "-ERR too many subscriptions|");
    talk.ask("PSUBSCRIBE x", "*3|$10|psubscribe|$1|x|:65536|");
}
