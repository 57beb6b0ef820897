//! Loading, resuming and dumping.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Place, argument};

/// Pairs in key order in the canonical form.
fn canonical(count: u32) -> String {
    (0..count).fold(String::new(), |mut text, number| {
        writeln!(text, "{{\"key\":\"key {number:08}\",\"value_base64\":\"AAE=\"}}").unwrap();
        text
    })
}

#[test]
fn a_dump_has_the_bytes_of_its_canonical_input() {
    let place = Place::new();
    let input = "{\"key\":\"a/ü\\\"\\\\\",\"value_base64\":\"\"}\n\
                 {\"key_base64\":\"YgA=\",\"value_base64\":\"AP/+\"}\n\
                 {\"key\":\"c\",\"value_base64\":\"dGV4dA==\"}\n";
    let file = place.file("in.ndjson", input);
    let summary = place.run("load", &[argument(&file)]).text();
    assert!(summary.starts_with("loaded 3 pairs, "), "{summary}");
    assert_eq!(place.run("dump", &[]).text(), input);
}

#[test]
fn every_format_loads_back_exactly() {
    let pairs = "{\"key_base64\":\"AAkKDVwiLA==\",\"value_base64\":\"77u/AAkKDVwiLA==\"}\n\
                 {\"key\":\"plain\",\"value_base64\":\"\"}\n";
    let first = Place::new();
    first.run_with_stdin("load", &["-"], pairs.as_bytes()).ok();
    for format in ["tsv", "ndjson", "csv"] {
        let dump = first.run("dump", &["--format", format]).ok();
        let second = Place::new();
        // The name says what the format is.
        let file = second.file(&format!("pairs.{format}"), dump);
        second.run("load", &[argument(&file)]).ok();
        assert_eq!(second.run("dump", &[]).text(), pairs, "{format}");
    }
}

#[test]
fn values_of_any_size_load_and_dump_exactly() {
    let place = Place::new();
    let sizes = [0, 1, 1000, 2000, 8192, 65_536, 1 << 20, 3 << 20];
    let mut input = Vec::new();
    for (number, size) in sizes.into_iter().enumerate() {
        input.extend_from_slice(format!("key {number}\t").as_bytes());
        input.extend((b' '..=b'Z').cycle().skip(number).take(size));
        input.push(b'\n');
    }
    place.run_with_stdin("load", &["-", "--format", "tsv"], &input).ok();
    assert!(place.run("dump", &["--format", "tsv"]).ok() == input, "the dump differs");
    place.run("verify", &[]).ok();
}

#[test]
fn a_later_pair_of_the_same_key_wins() {
    let place = Place::new();
    place.run_with_stdin("load", &["-", "--format", "tsv"], b"k\t1\nk\t2\n").ok();
    assert_eq!(place.run("get", &["k"]).text(), "2\n");
}

#[test]
fn a_bad_line_is_named_and_what_is_in_front_of_it_stays() {
    let place = Place::new();
    let file = place.file("in.tsv", "a\t1\nb\t2\nc 3\nd\t4\n");
    let message = place.run("load", &[argument(&file), "--batch", "2"]).failed(1);
    assert!(message.contains("line 3 (byte 8)"), "{message}");
    assert!(message.contains("the 2 pairs in front of it are loaded"), "{message}");
    assert_eq!(place.run("scan", &["--keys"]).text(), "a\nb\n");
    for (input, told) in [
        (
            "a 1\n",
            "seawall: input, line 1 (byte 0): there is no tab between key and value; nothing is loaded\n",
        ),
        ("a\t1\nb 2\n", "; the pair in front of it is loaded\n"),
    ] {
        let other = Place::new();
        let arguments = ["-", "--format", "tsv"];
        let message = other.run_with_stdin("load", &arguments, input.as_bytes()).failed(1);
        assert!(message.ends_with(told), "{message}");
    }
}

#[test]
fn a_missing_input_creates_no_database() {
    let place = Place::new();
    place.run("load", &[argument(&place.path("nowhere.tsv"))]).failed(1);
    assert!(!place.database().exists());
}

#[test]
fn stdin_cannot_be_resumed() {
    let place = Place::new();
    place.run("load", &["-", "--resume"]).failed(2);
    assert!(!place.database().exists());
}

#[test]
fn a_load_that_was_killed_goes_on_where_it_stopped() {
    let place = Place::new();
    let input = canonical(3000);
    let file = place.file("in.ndjson", &input);
    let arguments = [argument(&file), "--resume", "--batch", "20"];
    for round in 0..10 {
        let mut load = place.command("load", &arguments);
        let mut child = load.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_millis(4 * round);
        while Instant::now() < deadline && child.try_wait().unwrap().is_none() {
            thread::yield_now();
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    place.run("load", &arguments).ok();
    assert!(place.run("dump", &[]).text() == input, "the dump differs from the input");
}

#[test]
fn a_load_that_goes_on_says_from_where() {
    let place = Place::new();
    let (first, second) = (canonical(40), "not JSON\n");
    let file = place.file("in.ndjson", format!("{first}{second}"));
    let arguments = [argument(&file), "--resume", "--batch", "20"];
    let message = place.run("load", &arguments).failed(1);
    assert!(!message.contains("going on"), "{message}");
    let message = place.run("load", &arguments).failed(1);
    let (at, of) = (first.len(), first.len() + second.len());
    let expected = format!("seawall: going on behind 40 pairs, at byte {at} of {of}\n");
    assert!(message.starts_with(&expected), "{message}");
}

#[test]
fn a_finished_load_run_again_does_nothing() {
    let place = Place::new();
    let file = place.file("in.ndjson", canonical(50));
    place.run("load", &[argument(&file), "--resume"]).ok();
    place.run("del", &["key 00000007"]).ok();
    let summary = place.run("load", &[argument(&file), "--resume"]).text();
    assert!(summary.starts_with("loaded 0 pairs"), "{summary}");
    assert!(summary.ends_with("; 50 pairs were there from an earlier run\n"), "{summary}");
    place.run("get", &["key 00000007"]).failed(1);
}

#[test]
fn a_changed_input_is_refused_until_it_is_loaded_anew() {
    let place = Place::new();
    let file = place.file("in.ndjson", canonical(50));
    place.run("load", &[argument(&file), "--resume"]).ok();
    fs::write(&file, canonical(51)).unwrap();
    let message = place.run("load", &[argument(&file), "--resume"]).failed(1);
    assert!(message.contains("has changed"), "{message}");
    place.run("load", &[argument(&file)]).ok();
    place.run("load", &[argument(&file), "--resume"]).ok();
    assert_eq!(place.run("dump", &[]).text(), canonical(51));
}

#[test]
fn one_file_loads_into_two_trees_with_a_record_each() {
    let place = Place::new();
    let file = place.file("in.ndjson", canonical(5));
    for tree in ["a", "b"] {
        let summary = place.run("load", &["--tree", tree, argument(&file), "--resume"]).text();
        assert!(summary.starts_with("loaded 5 pairs"), "{summary}");
    }
}

#[test]
fn the_summary_is_there_for_machines() {
    let place = Place::new();
    let summary = place.run_with_stdin("load", &["-", "--json"], canonical(7).as_bytes()).text();
    let summary: serde_json::Value = serde_json::from_str(&summary).unwrap();
    assert_eq!(summary["pairs"], 7);
    assert_eq!(summary["input_bytes"], canonical(7).len());
}

/// Ends a command whose reader has gone before it wrote.
fn without_a_reader(place: &Place, command: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut process = place.command(command, arguments);
    let output = process.stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
    let output = output.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_reader_that_has_seen_enough_of_a_long_dump_is_not_an_error_in_any_format() {
    let place = Place::new();
    // More than fits into the buffers in front of the pipe.
    let pairs: String =
        (0..3000).map(|number| format!("key {number:08}\t{:0100}\n", number)).collect();
    place.run_with_stdin("load", &["-", "--format", "tsv"], pairs.as_bytes()).ok();
    for format in ["tsv", "ndjson", "csv"] {
        let ended = without_a_reader(&place, "dump", &["--format", format]);
        assert_eq!(ended, (Some(0), String::new()), "{format}");
    }
    for arguments in [&[][..], &["--json"]] {
        assert_eq!(without_a_reader(&place, "scan", arguments).0, Some(0), "{arguments:?}");
    }
}

#[test]
fn damage_is_told_by_the_exit_code_though_nobody_reads_the_report() {
    let place = Place::new();
    let pairs: String =
        (0..3000).map(|number| format!("key {number:08}\t{:0300}\n", number)).collect();
    place.run_with_stdin("load", &["-", "--format", "tsv"], pairs.as_bytes()).ok();
    let pages = place.database().join("pages");
    let mut bytes = std::fs::read(&pages).unwrap();
    // All but the first ones, without which nothing opens.
    bytes.chunks_mut(8192).skip(4).for_each(|page| page[100] ^= 1);
    std::fs::write(&pages, bytes).unwrap();
    assert_eq!(without_a_reader(&place, "verify", &[]).0, Some(1));
    let saved = place.path("saved");
    assert_eq!(without_a_reader(&place, "recover", &["--salvage", argument(&saved)]).0, Some(1));
}

#[test]
fn a_dump_as_json_is_one_in_its_format() {
    let place = Place::new();
    let file = place.file("in.ndjson", canonical(3));
    place.run("load", &[argument(&file)]).ok();
    assert_eq!(place.run("dump", &["--json"]).text(), canonical(3));
    for format in ["tsv", "csv"] {
        let message = place.run("dump", &["--json", "--format", format]).failed(2);
        assert!(message.contains("--json"), "{message}");
    }
    let help = place.run("dump", &["--help"]).text();
    assert!(help.contains("With --json"), "{help}");
}

#[test]
fn an_input_that_cannot_be_read_creates_no_database() {
    let place = Place::new();
    let folder = place.path("folder.tsv");
    fs::create_dir(&folder).unwrap();
    for arguments in [&[argument(&folder)][..], &[argument(&folder), "--resume"]] {
        let message = place.run("load", arguments).failed(1);
        assert!(message.contains("is a directory"), "{message}");
        assert!(!place.database().exists());
    }
}

/// A pipe with a name.
fn named_pipe(place: &Place) -> PathBuf {
    let path = place.path("pipe.tsv");
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    path
}

#[test]
fn a_named_pipe_is_read_as_a_stream() {
    let place = Place::new();
    let pipe = named_pipe(&place);
    let writer = thread::spawn({
        let pipe = pipe.clone();
        move || fs::write(pipe, "a\t1\nb\t2\n").unwrap()
    });
    let summary = place.run("load", &[argument(&pipe)]).text();
    writer.join().unwrap();
    assert!(summary.starts_with("loaded 2 pairs, 8 bytes"), "{summary}");
    assert_eq!(place.run("dump", &["--format", "tsv"]).text(), "a\t1\nb\t2\n");
}

#[test]
fn a_named_pipe_cannot_be_resumed() {
    let place = Place::new();
    let pipe = named_pipe(&place);
    // Refused before it is opened, which would wait for a writer.
    let message = place.run("load", &[argument(&pipe), "--resume"]).failed(2);
    assert!(message.contains("cannot be read again"), "{message}");
    assert!(!place.database().exists());
}
