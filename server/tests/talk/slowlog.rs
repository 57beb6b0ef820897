//! SLOWLOG, where every command is slow.

use crate::Talk;
use crate::served::Served;

/// The arguments of all entries, the newest first, as they are told.
fn entries(talk: &mut Talk) -> Vec<String> {
    talk.say("SLOWLOG GET -1\r\nPING");
    let heard = talk.hear_up_to("+PONG\r\n").replace("\r\n", "|");
    let (_, entries) = heard.strip_suffix("+PONG|").unwrap().split_once('|').unwrap();
    entries.split_terminator("*6|").skip(1).map(ToOwned::to_owned).collect()
}

#[test]
fn slow_commands_are_told_with_shortened_arguments_and_who_sent_them() {
    let served = Served::start();
    let mut talk = Talk::new(&served);
    let address = talk.0.get_ref().local_addr().unwrap();
    talk.ask("CLIENT SETNAME bob\r\nCONFIG SET slowlog-log-slower-than 0", "+OK|+OK|");
    talk.ask(&format!("SET k {}", "v".repeat(200)), "+OK|");
    let keys: String = (0..40).map(|number| format!(" k{number}")).collect();
    talk.ask(&format!("DEL{keys}"), ":0|");
    talk.ask("MULTI\r\nSET k 1\r\nEXEC\r\nGET\r\nNO", "+OK|+QUEUED|*1|+OK|-ERR wrong number of");
    talk.hear_up_to("'NO', with args beginning with: \r\n");
    talk.ask("CONFIG SET slowlog-log-slower-than -1", "+OK|");
    let entries = entries(&mut talk);
    let who = format!("${}|{address}|$3|bob|", address.to_string().len());
    assert!(entries.iter().all(|entry| entry.ends_with(&who)), "{entries:?}");
    let set = format!("*3|$3|SET|$1|k|$147|{}... (72 more bytes)|", "v".repeat(128));
    let told =
        ["*3|$3|SET|$1|k|$1|1|", "*1|$5|MULTI|", "*32|$3|DEL|", &set, "*4|$6|CONFIG|$3|SET|"];
    for (entry, expected) in entries.iter().zip(told) {
        assert!(entry.contains(expected), "{expected} is not in {entry}");
    }
    assert!(entries[2].contains("|$23|... (10 more arguments)|"), "{}", entries[2]);
    assert_eq!(entries.len(), 5, "EXEC and what was refused have none: {entries:?}");
    let ids: Vec<&str> = entries.iter().map(|entry| entry.split('|').next().unwrap()).collect();
    assert_eq!(ids, [":4", ":3", ":2", ":1", ":0"]);
}

#[test]
fn no_password_stands_in_the_slow_log() {
    let served = Served::start();
    let mut talk = Talk::new(&served);
    talk.ask("CONFIG SET slowlog-log-slower-than 0", "+OK|");
    talk.ask("CONFIG SET requirepass secret\r\nAUTH secret\r\nAUTH default secret", "+OK|+OK|+OK|");
    talk.say("HELLO 2 AUTH default secret");
    talk.hear_up_to("modules\r\n*0\r\n");
    talk.ask("CONFIG SET requirepass \"\"", "+OK|");
    let entries = entries(&mut talk);
    assert_eq!(entries.len(), 6, "{entries:?}");
    assert!(!entries.concat().contains("secret"), "{entries:?}");
    assert!(entries[3].contains("*2|$4|AUTH|$10|(redacted)|"), "{entries:?}");
}

#[test]
fn the_slow_log_has_a_length_and_ends_with_reset() {
    let served = Served::start();
    let mut talk = Talk::new(&served);
    talk.ask(
        "CONFIG GET slowlog*",
        "*4|$23|slowlog-log-slower-than|$5|10000|$15|slowlog-max-len|$3|128|",
    );
    talk.ask("SLOWLOG LEN\r\nCONFIG SET slowlog-log-slower-than 0\r\nSLOWLOG RESET", ":0|+OK|+OK|");
    for _ in 0..200 {
        talk.ask("PING", "+PONG|");
    }
    talk.ask("SLOWLOG LEN\r\nCONFIG SET slowlog-max-len 5\r\nSLOWLOG LEN", ":128|+OK|:5|");
    assert_eq!(entries(&mut talk).len(), 5);
    talk.ask("CONFIG SET slowlog-max-len 0\r\nSLOWLOG LEN\r\nSLOWLOG GET -1", "+OK|:0|*0|");
    talk.ask(
        "CONFIG SET slowlog-log-slower-than -1 slowlog-max-len 128\r\nPING\r\nSLOWLOG LEN",
        "+OK|+PONG|:0|",
    );
    talk.ask("SLOWLOG GET x", "-ERR count should be greater than or equal to -1|");
    talk.ask("SLOWLOG GET -2", "-ERR count should be greater than or equal to -1|");
    let wrong =
        "-ERR unknown subcommand or wrong number of arguments for 'GET'. Try SLOWLOG HELP.|";
    talk.ask("SLOWLOG GET 1 2", wrong);
    talk.ask(
        "SLOWLOG HELP",
        "*12|+SLOWLOG <subcommand> [<arg> [value] [opt] ...]. Subcommands are:|",
    );
    talk.hear_up_to("+    Prints this help.\r\n");
    let refused = "-ERR CONFIG SET failed (possibly related to argument 'slowlog-log-slower-than') - argument must be between -1 and 9223372036854775807 inclusive|";
    talk.ask("CONFIG SET slowlog-log-slower-than -2", refused);
    talk.say("CONFIG SET slowlog-max-len 65537");
    assert!(talk.hear_up_to("\r\n").contains("between 0 and 65536 inclusive"));
}
