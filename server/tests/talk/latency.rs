//! LATENCY, of a command that takes a millisecond or more whatever the machine.

use crate::Talk;
use crate::served::{Served, until};

/// Looks at every bit of 16 MiB until that has been a spike.
fn spike(talk: &mut Talk) {
    talk.ask("SETRANGE large 16777215 x", ":16777216|");
    until("a spike", || {
        talk.say("BITCOUNT large");
        talk.hear_up_to("\r\n");
        talk.say("LATENCY LATEST");
        talk.hear_up_to("\r\n") != "*0\r\n" || {
            talk.say("LATENCY RESET");
            talk.hear_up_to("\r\n");
            false
        }
    });
}

#[test]
fn spikes_are_told_until_they_are_forgotten() {
    let served = Served::start();
    let mut talk = Talk::new(&served);
    talk.ask("CONFIG GET latency-monitor-threshold", "*2|$25|latency-monitor-threshold|$1|0|");
    talk.ask("SETRANGE large 16777215 x\r\nLATENCY LATEST", ":16777216|*0|");
    talk.ask("LATENCY HISTORY command\r\nLATENCY RESET", "*0|:0|");
    talk.ask("LATENCY GRAPH command", "-ERR No samples available for event 'command'|");
    talk.say("LATENCY DOCTOR");
    assert!(talk.hear_up_to("begins to.\n\r\n").contains("Nothing is watched"));
    talk.ask("CONFIG SET latency-monitor-threshold 1", "+OK|");
    spike(&mut talk);
    talk.hear("*4|$7|command|:");
    talk.hear_up_to("\r\n");
    let (latest, worst) = (talk.hear_up_to("\r\n"), talk.hear_up_to("\r\n"));
    let ms = |told: &str| told.trim_start_matches(':').trim_end().parse::<u64>().unwrap();
    assert!(ms(&latest) >= 1 && ms(&worst) >= ms(&latest), "{latest} {worst}");
    talk.say("LATENCY HISTORY command\r\nPING");
    assert!(talk.hear_up_to("+PONG\r\n").contains("*2\r\n:"));
    talk.say("LATENCY GRAPH command\r\nPING");
    assert!(talk.hear_up_to("+PONG\r\n").contains("command - high "));
    talk.say("LATENCY DOCTOR\r\nPING");
    assert!(talk.hear_up_to("+PONG\r\n").contains("* command: in "));
    // First, so that nothing of this is a spike itself.
    talk.ask("CONFIG SET latency-monitor-threshold 0", "+OK|");
    talk.ask("LATENCY RESET nosuch\r\nLATENCY RESET COMMAND\r\nLATENCY LATEST", ":0|:1|*0|");
}

#[test]
fn histograms_count_the_calls_of_commands() {
    let served = Served::start();
    let mut talk = Talk::new(&served);
    talk.ask("CONFIG RESETSTAT\r\nGET k\r\nGET k\r\nECHO x", "+OK|$-1|$-1|$1|x|");
    talk.ask("LATENCY HISTOGRAM nosuch set", "*0|");
    talk.ask("LATENCY HISTOGRAM get", "*2|$3|get|*4|$5|calls|:2|$14|histogram_usec|*");
    talk.say("\r\nPING");
    assert!(
        talk.hear_up_to("+PONG\r\n").contains(":2\r\n+PONG"),
        "all calls are in the last bucket"
    );
    talk.say("CLIENT ID\r\nPING");
    talk.hear_up_to("+PONG\r\n");
    talk.say("LATENCY HISTOGRAM client\r\nPING");
    let heard = talk.hear_up_to("+PONG\r\n");
    assert!(heard.starts_with("*2\r\n$9\r\nclient|id\r\n*4\r\n$5\r\ncalls\r\n:1\r\n"), "{heard}");
    talk.ask(
        "LATENCY HELP",
        "*17|+LATENCY <subcommand> [<arg> [value] [opt] ...]. Subcommands are:|",
    );
    let mut talk = Talk::resp3(&served);
    talk.ask("LATENCY HISTOGRAM echo", "%1|$4|echo|%2|$5|calls|:1|$14|histogram_usec|%1|:");
}
