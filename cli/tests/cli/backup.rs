//! The full backup, and what becomes of it.

use std::fs;

use serde_json::Value;

use crate::support::{Place, Run, argument, binary, run};

const COPY: &str = "copy";

/// A database with two trees.
fn filled() -> Place {
    let place = Place::new();
    let pairs: String =
        (0..2000).map(|number| format!("key {number:04}\tvalue {number}\n")).collect();
    place.run_with_stdin("load", &["-", "--format", "tsv"], pairs.as_bytes()).ok();
    place.run("put", &["--tree", "other", "hex:00ff", "hex:"]).ok();
    place
}

/// `seawall COMMAND COPY ARGUMENTS..`.
fn run_on_copy(place: &Place, command: &str, arguments: &[&str]) -> Run {
    run(binary().arg(command).arg(place.path(COPY)).args(arguments))
}

#[test]
fn an_opened_backup_has_what_its_original_had() {
    let place = filled();
    let copy = place.path(COPY);
    let report = place.run("backup", &[argument(&copy), "--json"]).text();
    let report: Value = serde_json::from_str(&report).unwrap();
    assert!(report["lsn"].as_u64().unwrap() > 0 && report["bytes"].as_u64().unwrap() > 0);
    run_on_copy(&place, "verify", &[]).ok();
    for tree in ["default", "other"] {
        let dump = run_on_copy(&place, "dump", &["--tree", tree]).ok();
        assert!(!dump.is_empty() && dump == place.run("dump", &["--tree", tree]).ok(), "{tree}");
    }
    run_on_copy(&place, "verify", &[]).ok();
    place.run("verify", &[]).ok();
}

#[test]
fn a_backup_goes_its_own_way() {
    let place = filled();
    let report = place.run("backup", &[argument(&place.path(COPY))]).text();
    assert!(report.starts_with("lsn "), "{report}");
    place.run("put", &["key 0000", "changed"]).ok();
    run_on_copy(&place, "put", &["key 0001", "changed too"]).ok();
    assert_eq!(run_on_copy(&place, "get", &["key 0000"]).text(), "value 0\n");
    assert_eq!(place.run("get", &["key 0001"]).text(), "value 1\n");
}

#[test]
fn a_backup_that_was_not_opened_yet_can_be_looked_at() {
    let place = filled();
    place.run("backup", &[argument(&place.path(COPY))]).ok();
    let stat = run_on_copy(&place, "stat", &["--json"]).text();
    assert!(stat.contains("\"not_open\":\"it needs recovery\""), "{stat}");
    run_on_copy(&place, "recover", &["--dry-run"]).ok();
}

#[test]
fn a_target_that_is_not_empty_is_refused_and_not_touched() {
    let place = filled();
    let copy = place.path(COPY);
    fs::create_dir(&copy).unwrap();
    fs::write(copy.join("letter.txt"), "dear").unwrap();
    let message = place.run("backup", &[argument(&copy)]).failed(1);
    assert!(message.contains("is not empty"), "{message}");
    let names: Vec<_> = copy.read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["letter.txt"]);
    let onto_itself = place.run("backup", &[argument(&place.database())]).failed(1);
    assert!(onto_itself.contains("lies in the database"), "{onto_itself}");
}

#[test]
fn what_is_no_database_is_not_backed_up() {
    let place = Place::new();
    let copy = place.path(COPY);
    assert!(place.run("backup", &[argument(&copy)]).failed(3).contains("is not a database"));
    assert!(!copy.exists() && !place.database().exists());
    place.run("backup", &[]).failed(2);
}

#[test]
fn an_unfinished_backup_is_refused() {
    let place = Place::new();
    fs::create_dir(place.path(COPY)).unwrap();
    // Killed before the last file, `control`.
    for name in ["unfinished", "pages", "doublewrite", "wal"] {
        fs::write(place.path(COPY).join(name), "This backup was not finished.").unwrap();
    }
    let message = run_on_copy(&place, "get", &["k"]).failed(3);
    assert!(message.contains("not finished"), "{message}");
    let message = run_on_copy(&place, "put", &["k", "v"]).failed(3);
    assert!(message.contains("backup that was not finished"), "{message}");
}

#[test]
fn help_names_the_backup() {
    assert!(run(binary().arg("--help")).text().contains("\n  backup "));
}

#[test]
fn a_database_in_use_is_not_backed_up_from_outside() {
    let place = filled();
    let database = seawall::Database::open(place.database()).unwrap();
    let message = place.run("backup", &[argument(&place.path(COPY))]).failed(3);
    assert!(message.contains("open elsewhere"), "{message}");
    database.close().unwrap();
}
