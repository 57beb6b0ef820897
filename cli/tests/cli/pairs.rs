//! Single pairs and ranges from the shell, and the exit codes.

use crate::support::{Place, binary, run};

#[test]
fn what_is_put_is_got_until_it_is_deleted() {
    let place = Place::new();
    assert_eq!(place.run("put", &["k", "v"]).text(), "stored 1 byte\n");
    assert_eq!(place.run("get", &["k"]).text(), "v\n");
    assert_eq!(place.run("del", &["k"]).text(), "removed\n");
    assert_eq!(place.run("del", &["k"]).text(), "it was not there\n");
    assert!(place.run("get", &["k"]).failed(1).contains("there is no key k"));
}

#[test]
fn trees_do_not_see_each_other() {
    let place = Place::new();
    place.run("put", &["--tree", "a", "k", "1"]).ok();
    place.run("put", &["--tree", "b", "k", "2"]).ok();
    assert_eq!(place.run("get", &["--tree", "a", "k"]).text(), "1\n");
    assert_eq!(place.run("get", &["-t", "b", "k"]).text(), "2\n");
    assert!(place.run("get", &["k"]).failed(1).contains("no tree named default"));
}

#[test]
fn bytes_go_in_and_come_out_in_every_notation() {
    let place = Place::new();
    place.run("put", &["hex:00ff", "base64:AAEC"]).ok();
    assert_eq!(place.run("get", &["hex:00ff"]).text(), "hex:000102\n");
    assert_eq!(place.run("get", &["base64:AP8=", "--raw"]).ok(), [0, 1, 2]);
    assert_eq!(
        place.run("get", &["hex:00ff", "--json"]).text(),
        "{\"key_base64\":\"AP8=\",\"value_base64\":\"AAEC\"}\n"
    );
    assert!(place.run("get", &["hex:0"]).failed(2).contains("two digits a byte"));
}

#[test]
fn a_value_may_come_from_stdin() {
    let place = Place::new();
    let value: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    place.run_with_stdin("put", &["k"], &value).ok();
    assert_eq!(place.run("get", &["k", "--raw"]).ok(), value);
}

#[test]
fn a_scan_keeps_to_its_range_direction_and_limit() {
    let place = Place::new();
    for key in ["a", "b1", "b2", "c"] {
        place.run("put", &[key, "v"]).ok();
    }
    let keys = |arguments: &[&str]| {
        let mut all = vec!["--keys"];
        all.extend(arguments);
        place.run("scan", &all).text().replace('\n', " ")
    };
    assert_eq!(keys(&[]), "a b1 b2 c ");
    assert_eq!(keys(&["--from", "b", "--to", "c"]), "b1 b2 ");
    assert_eq!(keys(&["--from", "c", "--to", "b"]), "");
    assert_eq!(keys(&["--prefix", "b"]), "b1 b2 ");
    assert_eq!(keys(&["--reverse", "--limit", "3"]), "c b2 b1 ");
    assert_eq!(place.run("scan", &["--limit", "1"]).text(), "a\tv\n");
}

#[test]
fn a_reader_that_has_seen_enough_is_not_an_error() {
    let place = Place::new();
    place.run("put", &["k", "v"]).ok();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut child = place.command("get", &["k"]).stdout(writer).spawn().unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn raw_bytes_are_no_json_wherever_the_flag_stands() {
    let place = Place::new();
    place.run("put", &["k", "v"]).ok();
    place.run("get", &["k", "--raw", "--json"]).failed(2);
    place.run("scan", &["--keys", "--json"]).failed(2);
    let in_front = run(binary().arg("--json").arg("scan").arg(place.database()).arg("--keys"));
    in_front.failed(2);
    let message = run(binary().args(["--json", "get"]).arg(place.database()).args(["k", "--raw"]));
    assert!(message.failed(2).contains("--raw"));
}

#[test]
fn usage_errors_have_a_code_of_their_own() {
    run(binary().arg("nonsense")).failed(2);
    run(binary().args(["get"])).failed(2);
    assert!(run(binary().arg("--help")).text().contains("Usage: seawall"));
    run(binary().arg("--version")).ok();
}

#[test]
fn subcommands_of_later_issues_are_absent_from_help() {
    let help = run(binary().arg("--help")).text();
    for command in ["shell", "restore", "salvage"] {
        assert!(!help.contains(&format!("\n  {command} ")), "{command}");
    }
}
