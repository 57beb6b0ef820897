//! MONITOR: what is shown, to whom, and what is not.

use seawall_server::limits::PUSHED_BYTES_MAX;

use crate::Talk;
use crate::served::Served;

/// The next line without its time, which is checked.
fn shown(talk: &mut Talk) -> String {
    let line = talk.hear_up_to("\r\n");
    let (time, rest) = line.trim_end().split_once(' ').unwrap();
    let (seconds, micros) = time.trim_start_matches('+').split_once('.').unwrap();
    assert!(seconds.len() == 10 && micros.len() == 6, "{line}");
    rest.to_owned()
}

fn address(talk: &Talk) -> String {
    talk.0.get_ref().local_addr().unwrap().to_string()
}

#[test]
fn commands_are_shown_when_they_were_executed_but_no_password_and_no_administration() {
    let served = Served::start();
    let (mut one, mut other) = (Talk::new(&served), Talk::new(&served));
    one.ask("MONITOR", "+OK|");
    let who = address(&other);
    other.ask("SET \"a\\\"\\x00\" \"x y\"\r\nSELECT 3", "+OK|+OK|");
    other.ask("CONFIG SET requirepass secret\r\nAUTH secret", "+OK|+OK|");
    other.say("HELLO 2 AUTH default secret");
    other.hear_up_to("modules\r\n*0\r\n");
    other.ask("MULTI\r\nGET a\r\nEXEC\r\nGET\r\nECHO end", "+OK|+QUEUED|*1|$-1|-ERR wrong number");
    for expected in [
        "[0 who] \"SET\" \"a\\\"\\x00\" \"x y\"",
        "[3 who] \"SELECT\" \"3\"",
        "[3 who] \"AUTH\" \"(redacted)\"",
        "[3 who] \"HELLO\" \"2\" \"AUTH\" \"(redacted)\" \"(redacted)\"",
        "[3 who] \"MULTI\"",
        "[3 who] \"GET\" \"a\"",
        "[3 who] \"EXEC\"",
        "[3 who] \"ECHO\" \"end\"",
    ] {
        assert_eq!(shown(&mut one), expected.replace("who", &who));
    }
}

#[test]
fn who_monitors_sees_its_own_commands_and_no_keys_until_reset() {
    let served = Served::start();
    let (mut one, mut other) = (Talk::new(&served), Talk::new(&served));
    one.ask("MONITOR\r\nMONITOR\r\nPING\r\nGET k", "+OK|+PONG|");
    let who = address(&one);
    assert_eq!(shown(&mut one), format!("[0 {who}] \"PING\""));
    let refused = "-ERR Replica can't interact with the keyspace|";
    one.hear(refused);
    one.ask("SET k v\r\nPUBLISH x m", &refused.repeat(2));
    let line = other.line_of("CLIENT LIST", "cmd=ping");
    assert!(line.contains(" flags=O "), "{line}");
    assert_eq!(shown(&mut one).rsplit(' ').next(), Some("\"that-is-all\""));
    one.ask("RESET", "+RESET|");
    other.ask("SET k v", "+OK|");
    one.ask("GET k", "$1|v|");
    one.ask(
        "MULTI\r\nMONITOR\r\nEXEC",
        "+OK|+QUEUED|*1|-ERR MONITOR isn't allowed for DENY BLOCKING client|",
    );
}

#[test]
fn who_monitors_and_reads_too_little_is_closed() {
    let served = Served::start();
    let (mut slow, mut one) = (Talk::new(&served), Talk::new(&served));
    slow.ask("MONITOR", "+OK|");
    let text = "m".repeat(60_000);
    let counted = "client_output_buffer_limit_disconnections";
    let most = 4 * PUSHED_BYTES_MAX / text.len();
    let is_closed = (0..most).any(|_| {
        one.ask(&format!("ECHO {text}"), &format!("$60000|{text}|"));
        one.line_of("INFO stats", counted) != format!("{counted}:0")
    });
    assert!(is_closed);
    one.ask("PING", "+PONG|");
}
