//! `seawall recover DIR --salvage OUT`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{Place, argument, binary, run};

/// Every file of a folder, and those in its folders, with their bytes.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files.extend(self::files(&path)),
            false => drop(files.insert(path.clone(), fs::read(&path).unwrap())),
        }
    }
    files
}

/// A database with so many records that a tree has many leaves.
fn loaded() -> Place {
    let place = Place::new();
    let lines: String = (0..4000).map(|i| format!("key {i:05}\tvalue {i}\n")).collect();
    place.run_with_stdin("load", &["-", "--tree", "t", "--format", "tsv"], lines.as_bytes()).ok();
    place
}

fn dump(dir: &Path) -> Vec<String> {
    let text = run(binary().arg("dump").arg(dir).args(["--tree", "t", "--format", "tsv"])).text();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn an_undamaged_database_is_saved_whole_and_nothing_is_told_as_lost() {
    let place = loaded();
    let (out, before) = (place.path("saved"), files(&place.database()));
    let report = place.run("recover", &["--salvage", argument(&out)]).text();
    assert!(report.contains("tree \"t\": 4000 of 4000 records"), "{report}");
    assert!(!report.contains("lost:") && !report.contains("damaged:"), "{report}");
    assert_eq!(files(&place.database()), before);
    assert_eq!(dump(&out), dump(&place.database()));
}

#[test]
fn a_database_with_a_damaged_page_and_without_control_is_saved_but_for_that_page() {
    let place = loaded();
    let all = dump(&place.database());
    let pages = place.database().join("pages");
    let mut bytes = fs::read(&pages).unwrap();
    let at = bytes.windows(9).position(|window| window == b"value 100").unwrap();
    bytes[at] ^= 0x20;
    fs::write(&pages, bytes).unwrap();
    fs::remove_file(place.database().join("control")).unwrap();
    let (out, before) = (place.path("saved"), files(&place.database()));
    let refused = place.run("recover", &["--salvage", argument(&out)]);
    let report = String::from_utf8(refused.stdout.clone()).unwrap();
    let told = refused.failed(1);
    assert!(told.contains("told"), "{told}");
    assert!(report.contains("lost: tree \"t\": keys from \"\" to below \"key "), "{report}");
    assert_eq!(files(&place.database()), before);
    let saved = dump(&out);
    let missing: Vec<_> = all.iter().filter(|line| !saved.contains(line)).collect();
    assert!(saved.iter().all(|line| all.contains(line)));
    assert!(missing.len() < 500, "{} records of one leaf", missing.len());
    assert!(missing.contains(&&"key 00100\tvalue 100".to_owned()), "{missing:?}");
    let verified = run(binary().arg("verify").arg(&out));
    verified.ok();
}

#[test]
fn salvage_refuses_a_folder_that_holds_anything_and_the_database_itself() {
    let place = loaded();
    let before = files(&place.database());
    let full = place.path("full");
    fs::create_dir(&full).unwrap();
    fs::write(full.join("something"), "else").unwrap();
    let told = place.run("recover", &["--salvage", argument(&full)]).failed(1);
    assert!(told.contains("not empty"), "{told}");
    let inside = place.database().join("saved");
    let told = place.run("recover", &["--salvage", argument(&inside)]).failed(1);
    assert!(told.contains("lies in the database"), "{told}");
    assert_eq!(files(&place.database()), before);
    let out = place.path("saved");
    place.run("recover", &["--salvage", argument(&out), "--dry-run"]).failed(2);
    let empty = place.path("empty");
    fs::create_dir(&empty).unwrap();
    let nothing =
        run(binary().arg("recover").arg(&empty).args(["--salvage", argument(&out)])).failed(3);
    assert!(nothing.contains("not a database"), "{nothing}");
    assert!(!out.exists());
}
