//! The commands that look at a database without changing it, and recovery.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use seawall::{Database, Options};
use seawall_wal::Epoch;
use seawall_wal::control::Control;
use seawall_wal::disk::{BlockingDisk, SimDisk};
use serde_json::Value;

use crate::support::Place;

const PAGE_BYTES: u64 = 8192;

/// A database with two trees, shut down cleanly.
fn clean() -> Place {
    let place = Place::new();
    let database = Database::open(place.database()).unwrap();
    fill(&database);
    database.close().unwrap();
    place
}

fn fill(database: &Database) {
    let fruit = database.tree("fruit").unwrap();
    let tools = database.tree("tools").unwrap();
    for number in 0..200 {
        fruit.insert(format!("fruit {number:03}"), [7; 100]).unwrap();
    }
    tools.insert("hammer", "heavy").unwrap();
}

/// A database as a crash leaves it, with a transaction that did not commit.
fn crashed() -> Place {
    let place = Place::new();
    let source = place.path("source");
    let database = Database::open(&source).unwrap();
    fill(&database);
    let fruit = database.tree("fruit").unwrap();
    let mut loser = database.begin().unwrap();
    loser.insert(&fruit, "loser", "never").unwrap();
    // A durable commit behind it takes its record along.
    fruit.insert("last", "durable").unwrap();
    copy_folder(&source, &place.database());
    drop(loser);
    database.close().unwrap();
    place
}

/// Copies the files of a database that is open. One whose name goes meanwhile is a segment in the
/// making, which a crash would leave half made or not at all.
fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in from.read_dir().unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            match fs::copy(entry.path(), target) {
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                copied => drop(copied.unwrap()),
            }
        }
    }
}

fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in folder.read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(contents(&path));
        } else {
            files.insert(path.clone(), fs::read(path).unwrap());
        }
    }
    files
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// Flips a byte of a file.
fn damage(path: &Path, offset: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 0x55], offset).unwrap();
}

#[test]
fn inspection_changes_no_byte() {
    for place in [clean(), crashed()] {
        let before = contents(&place.database());
        for (command, arguments) in
            [("verify", &[][..]), ("stat", &[]), ("page", &["1"]), ("recover", &["--dry-run"])]
        {
            place.run(command, arguments).ok();
            assert!(contents(&place.database()) == before, "{command} changed a file");
        }
        for what in ["dump", "stat"] {
            place.run_log(what, &[]).ok();
            assert!(contents(&place.database()) == before, "log {what} changed a file");
        }
    }
}

#[test]
fn a_sound_database_verifies() {
    let place = clean();
    let report = json(&place.run("verify", &["--json"]).text());
    assert_eq!(report["findings"], Value::Array(Vec::new()));
    assert!(report["pages"].as_u64().unwrap() > 0 && report["records"].as_u64().unwrap() > 200);
    // The catalogue, fruit and tools.
    assert_eq!(report["trees"], 3);
}

#[test]
fn a_database_that_needs_recovery_verifies_without_its_trees() {
    let run = crashed().run("verify", &["--json"]);
    assert!(run.stderr.contains("the trees are not walked"), "{}", run.stderr);
    assert_eq!(json(&run.text())["trees"], 0);
}

#[test]
fn a_control_file_that_does_not_belong_to_the_log_is_refused_with_both_entries() {
    let place = clean();
    let control = Control::open(&BlockingDisk::new(), &place.database(), false).unwrap().unwrap();
    // The frames fit, since the nonce is right: only the record tells.
    control.update(|state| state.epochs.last_mut().unwrap().epoch = Epoch::new(9)).unwrap();
    drop(control);
    let expected = "expected epoch 9 (nonce ";
    for failure in [
        place.run("verify", &["--json"]),
        place.run_log("dump", &[]),
        place.run_log("stat", &[]),
        place.run("get", &["--tree", "tools", "hammer"]),
        place.run("put", &["key", "value"]),
    ] {
        let told = String::from_utf8_lossy(&failure.stdout).into_owned() + &failure.stderr;
        assert!(told.contains(expected) && told.contains("found epoch 1 (nonce "), "{told}");
        failure.failed(1);
    }
}

#[test]
fn a_write_that_the_disk_lost_is_found_in_the_trees() {
    let place = clean();
    let pages = place.database().join("pages");
    let before = fs::read(&pages).unwrap();
    place.run("put", &["--tree", "tools", "saw", "sharp"]).ok();
    // Each page is right by itself, but of an earlier time than the log says.
    OpenOptions::new().write(true).open(&pages).unwrap().write_all_at(&before, 0).unwrap();
    let run = place.run("verify", &["--json"]);
    let findings = json(std::str::from_utf8(&run.stdout).unwrap())["findings"].to_string();
    assert!(findings.contains("2 keys in tree"), "{findings}");
    run.failed(1);
}

#[test]
fn a_changed_byte_in_the_pages_of_a_clean_database_is_found() {
    let place = clean();
    let pages = place.database().join("pages");
    for offset in offsets(6 * PAGE_BYTES, 12) {
        damage(&pages, offset);
        let run = place.run("verify", &["--json"]);
        let report = json(std::str::from_utf8(&run.stdout).unwrap());
        let page = format!("pages is damaged at byte {}", offset / PAGE_BYTES * PAGE_BYTES);
        assert!(report["findings"].to_string().contains(&page), "byte {offset}: {report}");
        run.failed(1);
        damage(&pages, offset);
    }
    place.run("verify", &[]).ok();
}

#[test]
fn a_damaged_page_is_found_and_named() {
    let place = clean();
    damage(&place.database().join("pages"), PAGE_BYTES + 500);
    let run = place.run("verify", &[]);
    let found = String::from_utf8(run.stdout.clone()).unwrap();
    assert!(found.contains("pages is damaged at byte"), "{found}");
    let told = run.failed(1);
    assert!(told.contains("the trees are not walked"), "{told}");
    assert!(place.run("page", &["1"]).failed(1).contains("damaged"));
}

#[test]
fn whoever_meets_damage_is_told_what_to_do() {
    let place = clean();
    damage(&place.database().join("pages"), PAGE_BYTES + 500);
    let told = place.run("get", &["k"]).failed(1);
    assert!(
        told.contains("is damaged at byte") && told.contains("recover DIR --salvage OUT"),
        "{told}"
    );
    let told = place.run("get", &["--no-such-option", "k"]).failed(2);
    assert!(!told.contains("salvage"), "{told}");
}

#[test]
fn a_control_file_cut_short_is_told_by_its_length() {
    let place = clean();
    let path = place.database().join("control");
    let length = fs::metadata(&path).unwrap().len();
    for kept in [1000, 5000, length - 1] {
        OpenOptions::new().write(true).open(&path).unwrap().set_len(kept).unwrap();
        let told = place.run("get", &["k"]).failed(1);
        let expected = format!("expected a file of {length} bytes, found {kept} bytes");
        assert!(told.contains(&expected), "{told}");
    }
}

#[test]
fn a_damaged_control_file_is_named() {
    let place = clean();
    let path = place.database().join("control");
    let length = fs::metadata(&path).unwrap().len();
    for offset in (0..length).step_by(512) {
        damage(&path, offset + 20);
    }
    for command in ["verify", "stat", "get"] {
        let arguments: &[&str] = if command == "get" { &["k"] } else { &[] };
        let message = place.run(command, arguments).failed(1);
        assert!(message.contains("control"), "{message}");
    }
}

/// Offsets spread over a file without a pattern: multiples of an odd constant, modulo its length.
fn offsets(length: u64, count: u64) -> impl Iterator<Item = u64> {
    (1..=count).map(move |number| number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % length)
}

#[test]
fn a_changed_byte_anywhere_is_an_answer_and_never_a_panic() {
    let place = crashed();
    let log = place.database().join("wal").join("00000000000000000001.wal");
    for (path, length) in [
        (place.database().join("control"), 8192),
        (place.database().join("pages"), 8 * PAGE_BYTES),
        (place.database().join("doublewrite"), 4096),
        (log, 1 << 16),
    ] {
        for offset in offsets(length, 6) {
            damage(&path, offset);
            let runs = [
                place.run("verify", &[]),
                place.run("stat", &[]),
                place.run("page", &["2"]),
                place.run("recover", &["--dry-run"]),
                place.run_log("dump", &[]),
            ];
            for run in runs {
                let place = format!("byte {offset} of {}: {}", path.display(), run.stderr);
                assert!(matches!(run.code, Some(0 | 1)), "{place}");
            }
            damage(&path, offset);
        }
    }
    place.run("recover", &[]).ok();
    assert_eq!(place.run("get", &["-t", "fruit", "last"]).text(), "durable\n");
}

#[test]
fn stat_lists_trees_and_files() {
    let place = clean();
    let stat = json(&place.run("stat", &["--json"]).text());
    assert_eq!(stat["page_bytes"], PAGE_BYTES);
    assert_eq!(stat["not_open"], Value::Null);
    assert_eq!(stat["trees"][0], serde_json::json!({ "name": "fruit", "keys": 200 }));
    assert_eq!(stat["trees"][1], serde_json::json!({ "name": "tools", "keys": 1 }));
    assert!(stat["page_file_bytes"].as_u64().unwrap() > 0);
    let text = place.run("stat", &[]).text();
    assert!(text.contains("shutdown              clean"), "{text}");
}

#[test]
fn a_relative_path_gives_the_same_answers() {
    let place = crashed();
    let stat = json(&place.run_beside("stat", &["--json"]).text());
    assert!(stat["wal_bytes"].as_u64().unwrap() > 0, "{stat}");
    assert_eq!(stat, json(&place.run("stat", &["--json"]).text()));
    for command in ["recover", "verify", "dump"] {
        let arguments: &[&str] = if command == "dump" { &["--tree", "fruit"] } else { &[] };
        assert!(!place.run_beside(command, arguments).ok().is_empty(), "{command}");
    }
    place.run_beside("backup", &["copy"]).ok();
    assert!(place.path("copy/manifest").is_file());
}

#[test]
fn stat_of_a_crashed_database_says_that_it_needs_recovery() {
    let place = crashed();
    let stat = json(&place.run("stat", &["--json"]).text());
    assert_eq!(stat["not_open"], "it needs recovery");
}

#[test]
fn the_plan_of_recovery_names_what_recovery_then_does() {
    let place = crashed();
    let plan = json(&place.run("recover", &["--dry-run", "--json"]).text());
    assert_eq!(plan["clean"], false);
    assert_eq!(plan["losers"], 1);
    assert_eq!(plan["records_to_undo"], 1);
    let report = json(&place.run("recover", &["--json"]).text());
    assert_eq!(report["clean"], false);
    assert_eq!(report["losers"], 1);
    assert_eq!(report["end_lsn"], plan["end_lsn"]);
    assert_eq!(place.run("get", &["-t", "fruit", "last"]).text(), "durable\n");
    place.run("get", &["-t", "fruit", "loser"]).failed(1);
    assert!(place.run("recover", &["--dry-run"]).text().contains("nothing to recover"));
    fs::remove_file(place.database().join("pages")).unwrap();
    let failure = place.run("recover", &["--dry-run"]).failed(1);
    assert!(failure.contains("pages"), "{failure}");
}

#[test]
fn a_log_that_ends_before_what_an_image_proves_is_no_torn_tail_to_those_who_look() {
    let place = Place::new();
    let source = place.path("source");
    // No thread runs, so that nothing is written but what is written here.
    let database = Options::new().manual_background(true).open(&source).unwrap();
    fill(&database);
    // A page that redo creates anew has no image: these are written, and then changed.
    database.checkpoint().unwrap();
    copy_folder(&source, &place.database());
    database.tree("fruit").unwrap().insert("last", "durable").unwrap();
    database.checkpoint().unwrap();
    for name in ["pages", "doublewrite"] {
        fs::copy(source.join(name), place.database().join(name)).unwrap();
    }
    // A process that opens for writing leaves its id in the lock; nothing else may change.
    let refused = place.run("put", &["key", "value"]);
    let before = contents(&place.database());
    for run in [
        refused,
        place.run("verify", &["--json"]),
        place.run("recover", &["--dry-run"]),
        place.run_log("dump", &[]),
        place.run_log("stat", &[]),
    ] {
        let told = String::from_utf8_lossy(&run.stdout).into_owned() + &run.stderr;
        assert!(told.contains("in a log that is durable from"), "{told}");
        run.failed(1);
    }
    assert!(contents(&place.database()) == before, "a file was changed");
}

#[test]
fn the_plan_of_recovery_counts_losers_whose_records_are_not_in_the_log() {
    let place = Place::new();
    let source = place.path("source");
    let options = Options::new().manual_background(true).held_log_bytes(0);
    let database = options.open(&source).unwrap();
    fill(&database);
    let fruit = database.tree("fruit").unwrap();
    let mut loser = database.begin().unwrap();
    loser.insert(&fruit, "loser", "never").unwrap();
    // Its undo information is moved out of the log, and nothing of it is read again.
    database.checkpoint().unwrap();
    copy_folder(&source, &place.database());
    let plan = json(&place.run("recover", &["--dry-run", "--json"]).text());
    let figures = ["losers", "losers_spilled", "records_to_undo"].map(|name| &plan[name]);
    assert_eq!(figures, [1, 1, 0], "{plan}");
    let text = place.run("recover", &["--dry-run"]).text();
    assert!(text.ends_with("0, and those in undo files (losers with one: 1)\n"), "{text}");
    let report = json(&place.run("recover", &["--json"]).text());
    assert_eq!((&report["losers"], &report["records_undone"]), (&1.into(), &1.into()));
}

#[test]
fn reading_a_crashed_database_recovers_it() {
    let place = crashed();
    assert_eq!(place.run("get", &["-t", "tools", "hammer"]).text(), "heavy\n");
    place.run("verify", &[]).ok();
}

#[test]
fn the_log_shows_what_happened_to_a_key() {
    let place = crashed();
    let text = place.run_log("dump", &["--key", "hammer"]).text();
    assert_eq!(text.lines().filter(|line| line.contains("key hammer")).count(), 1, "{text}");
    assert!(text.contains("write insert  after heavy"), "{text}");
    let record = json(&place.run_log("dump", &["--key", "hammer", "--json"]).text());
    let lsn = record["lsn"].as_u64().unwrap().to_string();
    let end = (record["lsn"].as_u64().unwrap() + 1).to_string();
    let one = place.run_log("stat", &["--from", &lsn, "--to", &end, "--json"]).text();
    assert_eq!(json(&one)["total"]["records"], 1);
    let tree = record["pages"][0]["ops"][0]["fields"]["tree"].to_string();
    let other = place.run_log("dump", &["--tree", &tree, "--key", "last"]).text();
    assert_eq!(other, "");
    // The name is known although the catalogue is not in the page file.
    let named = place.run_log("dump", &["--tree", "tools"]).text();
    assert!(named.contains("key hammer") && !named.contains("key last"), "{named}");
    place.run_log("dump", &["--tree", "nothing"]).failed(1);
}

#[test]
fn a_page_shows_its_keys() {
    let place = clean();
    let catalogue = place.run("page", &["1"]).text();
    assert!(catalogue.starts_with("page 1: leaf, tree 0"), "{catalogue}");
    assert!(catalogue.contains("nfruit"), "{catalogue}");
    let pages = fs::metadata(place.database().join("pages")).unwrap().len() / PAGE_BYTES;
    assert!(place.run("page", &[&pages.to_string()]).failed(1).contains("the file has pages"));
}

#[test]
fn a_checkpoint_leaves_nothing_to_redo() {
    let place = clean();
    let report = json(&place.run("checkpoint", &["--json"]).text());
    assert!(report["begin_lsn"].as_u64().unwrap() > 0);
}

#[test]
fn another_page_size_is_read_as_it_is() {
    let place = Place::new();
    let database = Options::new().page_bytes(4096).open(place.database()).unwrap();
    fill(&database);
    database.close().unwrap();
    assert_eq!(json(&place.run("stat", &["--json"]).text())["page_bytes"], 4096);
    place.run("page", &["1"]).ok();
    place.run("verify", &[]).ok();
}

/// Where the log of a clean database has a frame in the middle: each write has one of its own.
const MIDDLE_OF_LOG: u64 = 100 * 4096 + 100;

fn first_segment(place: &Place) -> PathBuf {
    place.database().join("wal").join("00000000000000000001.wal")
}

#[test]
fn figures_of_a_damaged_log_are_printed_before_the_damage_is_told() {
    let place = crashed();
    damage(&first_segment(&place), MIDDLE_OF_LOG);
    let run = place.run_log("stat", &[]);
    let figures = String::from_utf8(run.stdout.clone()).unwrap();
    assert!(figures.contains("records from") && figures.contains("\ntotal "), "{figures}");
    assert!(figures.contains("\nend of the log: "), "{figures}");
    assert!(run.failed(1).contains("is damaged at byte"));
    let run = place.run_log("stat", &["--json"]);
    let figures = json(std::str::from_utf8(&run.stdout).unwrap());
    assert!(figures["total"]["records"].as_u64().unwrap() > 10, "{figures}");
    assert!(figures["end"].as_str().unwrap().contains("is damaged at byte"), "{figures}");
    run.failed(1);
}

#[test]
fn damage_in_front_of_the_last_checkpoint_is_not_called_the_end_of_the_log() {
    let place = clean();
    damage(&first_segment(&place), MIDDLE_OF_LOG);
    for what in ["dump", "stat"] {
        let run = place.run_log(what, &[]);
        assert!(!run.stdout.is_empty(), "log {what}");
        let message = run.failed(1);
        assert!(message.contains("is damaged at byte"), "log {what}: {message}");
    }
    // What is asked for may end before.
    let first = json(place.run_log("stat", &["--json", "--to", "4294968000"]).text().trim());
    assert!(first["end"].is_null(), "{first}");
}

#[test]
fn a_tree_whose_name_is_a_number_is_found_by_its_name() {
    let place = Place::new();
    // The first tree has number 1.
    place.run("put", &["--tree", "other", "key of other", "v"]).ok();
    place.run("put", &["--tree", "1", "key of 1", "v"]).ok();
    let named = place.run_log("dump", &["--tree", "1"]).text();
    assert!(named.contains("key of 1") && !named.contains("key of other"), "{named}");
    let numbered = place.run_log("dump", &["--tree", "2"]).text();
    assert!(numbered.contains("key of 1") && !numbered.contains("key of other"), "{numbered}");
}

/// Writes what a disk in memory has into the database's folder.
fn write_out(disk: &SimDisk, place: &Place) {
    for (path, _) in disk.files() {
        let inside = path.strip_prefix("/db").unwrap();
        let target = place.database().join(inside);
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::write(target, disk.read_file(&path).unwrap()).unwrap();
    }
}

#[test]
fn a_creation_that_was_interrupted_anywhere_is_no_damage() {
    let disk = SimDisk::new();
    disk.record_forks();
    let options = Options::new().disk_injected(Arc::new(disk.clone())).cache_bytes(1 << 20);
    let options = options.max_wal_bytes(16 << 20).page_bytes(4096).manual_background(true);
    drop(options.open("/db").unwrap());
    let mut unfinished = 0;
    for fork in disk.take_forks() {
        let (place, what) = (Place::new(), fork.describe());
        write_out(fork.disk(), &place);
        let code = if place.database().join("control").exists() { 0 } else { 3 };
        let verify = place.run("verify", &["--json"]);
        let plan = place.run("recover", &["--dry-run"]);
        assert_eq!(
            (verify.code, plan.code),
            (Some(code), Some(code)),
            "{what}: {verify:?} {plan:?}"
        );
        if verify.stderr.contains("creation did not finish: opening starts over") {
            unfinished += 1;
            assert_eq!(json(&verify.text())["findings"], Value::Array(Vec::new()), "{what}");
            let plan = plan.text();
            assert!(
                plan.contains("creation did not finish: opening starts over"),
                "{what}: {plan}"
            );
            let plan = json(&place.run("recover", &["--dry-run", "--json"]).text());
            assert_eq!((&plan["starts_over"], &plan["clean"]), (&true.into(), &false.into()));
            place.run("put", &["k", "v"]).ok();
            assert_eq!(json(&place.run("verify", &["--json"]).text())["trees"], 2, "{what}");
        }
    }
    assert!(unfinished > 10, "{unfinished} states in which the creation was not finished");
}
