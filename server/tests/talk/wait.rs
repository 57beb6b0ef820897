//! WAIT and WAITAOF: only who waits waits.

use std::time::{Duration, Instant};

use seawall_server::STOP_TIME_MAX;

use crate::Talk;
use crate::served::{Served, until};

fn id_of(talk: &mut Talk) -> String {
    talk.say("CLIENT ID");
    talk.hear_up_to("\r\n").trim_start_matches(':').trim_end().to_owned()
}

#[test]
fn without_replicas_wait_tells_none_behind_its_time() {
    let served = Served::start();
    let mut talk = Talk::new(&served);
    talk.ask("WAIT 0 0\r\nWAIT -1 0", ":0|:0|");
    talk.ask("WAIT x 0", "-ERR value is not an integer or out of range|");
    talk.ask(
        "WAIT 1 -1\r\nWAIT 1 x",
        "-ERR timeout is negative|-ERR timeout is not an integer or out of range|",
    );
    let started = Instant::now();
    talk.ask("SET k v\r\nWAIT 1 300\r\nPING", "+OK|:0|+PONG|");
    assert!(started.elapsed() >= Duration::from_millis(300));
    talk.ask("MULTI\r\nWAIT 1 0\r\nWAITAOF 1 1 0\r\nEXEC", "+OK|+QUEUED|+QUEUED|*2|:0|*2|:1|:0|");
    talk.say("SW.BEGIN\r\nWAIT 1 0\r\nSW.ROLLBACK");
    talk.hear("+OK|-ERR WAIT inside SW.BEGIN is not allowed|+OK|");
}

#[test]
fn others_of_the_same_thread_are_served_while_one_waits_and_may_let_it_go() {
    let served = Served::with(|config| config.threads = 1);
    let (mut one, mut other) = (Talk::new(&served), Talk::new(&served));
    let id = id_of(&mut one);
    one.say("WAIT 1 0\r\nPING");
    until("it waits", || other.line_of("INFO clients", "blocked_clients") == "blocked_clients:1");
    let line = other.line_of("CLIENT LIST", "cmd=wait");
    assert!(line.contains(" flags=b "), "{line}");
    other.ask("CLIENT UNBLOCK 9999", ":0|");
    other.ask(&format!("CLIENT UNBLOCK {id}"), ":1|");
    one.hear(":0|+PONG|");
    other.ask(&format!("CLIENT UNBLOCK {id}"), ":0|");
    one.say("WAIT 1 0");
    let unblock = format!("CLIENT UNBLOCK {id} ERROR");
    until("it waits again", || {
        other.say(&unblock);
        other.hear_up_to("\r\n") == ":1\r\n"
    });
    one.hear("-UNBLOCKED client unblocked via CLIENT UNBLOCK|");
    let why = "-ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR|";
    other.ask(&format!("CLIENT UNBLOCK {id} NO"), why);
    assert_eq!(other.line_of("INFO clients", "blocked_clients"), "blocked_clients:0");
}

#[test]
fn who_waits_gets_messages() {
    let served = Served::start();
    let (mut one, mut other) = (Talk::resp3(&served), Talk::new(&served));
    one.ask("SUBSCRIBE x", ">3|$9|subscribe|$1|x|:1|");
    one.say("WAIT 1 0");
    until("it waits", || other.line_of("INFO clients", "blocked_clients") == "blocked_clients:1");
    other.ask("PUBLISH x m", ":1|");
    one.hear(">3|$7|message|$1|x|$1|m|");
}

#[test]
fn a_wait_ends_with_its_client_and_with_the_server() {
    let served = Served::start();
    let (mut one, mut other, mut third) =
        (Talk::new(&served), Talk::new(&served), Talk::new(&served));
    one.say("WAIT 1 0\r\nPING");
    other.say("WAIT 1 0");
    let waiting = |talk: &mut Talk| talk.line_of("INFO clients", "blocked_clients");
    until("they wait", || waiting(&mut third) == "blocked_clients:2");
    drop(one);
    until("it goes", || waiting(&mut third) == "blocked_clients:1");
    let started = Instant::now();
    drop(served);
    assert!(started.elapsed() < STOP_TIME_MAX);
}

#[test]
fn waitaof_tells_whether_the_last_commit_is_durable_and_sees_to_it() {
    let served = Served::start();
    let mut talk = Talk::new(&served);
    talk.ask("WAITAOF 1 0 0\r\nSET k v", "*2|:1|:0|+OK|");
    talk.ask("WAITAOF 0 0 0", "*2|:1|:0|");
    talk.ask("SW.DURABILITY relaxed", "+OK|");
    let mut has_seen_it_pending = false;
    until("a commit is told that is not durable", || {
        talk.ask("SET k v\r\nWAITAOF 0 0 0", "+OK|*2|");
        has_seen_it_pending |= talk.hear_up_to("\r\n") == ":0\r\n";
        talk.hear(":0|");
        talk.ask("SET k w\r\nWAITAOF 1 0 0", "+OK|*2|:1|:0|");
        has_seen_it_pending
    });
    let started = Instant::now();
    talk.ask("SET k x\r\nWAITAOF 1 1 200", "+OK|*2|:1|:0|");
    assert!(started.elapsed() >= Duration::from_millis(200));
    talk.ask("WAITAOF 2 0 0", "-ERR value is out of range, value must between 0 and 1|");
    talk.ask("WAITAOF 1 -1 0", "-ERR value is out of range, must be positive|");
}
