//! Damage in a database whose process was killed: what `verify` does not find, recovery mends.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use seawall::{Database, Options};
use seawall_wal::disk::SimDisk;

use crate::support::Place;

const PAGE_BYTES: u32 = 4096;

fn open(disk: &SimDisk) -> seawall::Result<Database> {
    Options::new()
        .disk_injected(Arc::new(disk.clone()))
        .manual_background(true)
        .unchecked_limits()
        .cache_bytes(256 << 10)
        .max_wal_bytes(4 << 20)
        .segment_bytes(256 << 10)
        .page_bytes(PAGE_BYTES)
        .open("/db")
}

/// With a log to redo, images in the doublewrite file, free pages and a transaction to undo.
fn killed() -> SimDisk {
    let disk = SimDisk::new();
    let database = open(&disk).unwrap();
    let (tree, dropped) = (database.tree("t").unwrap(), database.tree("dropped").unwrap());
    for number in 0..60_u32 {
        tree.insert(format!("key {number:03}"), [7; 100]).unwrap();
        dropped.insert(number.to_be_bytes(), [1; 200]).unwrap();
    }
    tree.insert("large", [b'L'; 9000]).unwrap();
    database.drop_tree("dropped").unwrap();
    while seawall::testing::collect_step(&database).unwrap() {}
    database.checkpoint().unwrap();
    for number in 0..20 {
        tree.insert(format!("key {:03}", number * 3), [8; 120]).unwrap();
    }
    tree.insert("larger", [b'M'; 18_000]).unwrap();
    let mut loser = database.begin().unwrap();
    loser.insert(&tree, "loser", "never").unwrap();
    while seawall::testing::maintain_step(&database).unwrap() {}
    tree.insert("late", [9; 50]).unwrap();
    let killed = disk.fork();
    drop(loser);
    seawall::testing::abandon(database);
    killed
}

/// What opening and verifying the database gives that does not succeed.
fn trouble(disk: &SimDisk) -> Option<String> {
    let database = match open(disk) {
        Ok(database) => database,
        Err(error) => return Some(error.to_string()),
    };
    match database.verify(|_| ()) {
        Ok(report) if report.findings.is_empty() => None,
        Ok(report) => Some(report.to_string()),
        Err(error) => Some(error.to_string()),
    }
}

/// Bytes to change: of each block that was written, some in its front and one behind it.
fn offsets(bytes: &[u8]) -> Vec<u64> {
    let blocks = bytes.chunks(4096).enumerate().filter(|(_, block)| block.iter().any(|&b| b != 0));
    let places = |number: usize| [3, 20 + number % 40, 70 + 31 * number % 4000];
    let all = blocks.flat_map(|(number, _)| places(number).map(|place| 4096 * number + place));
    all.filter(|&offset| offset < bytes.len()).map(|offset| offset.try_into().unwrap()).collect()
}

#[test]
fn what_verify_does_not_find_in_a_killed_database_is_mended_when_it_is_opened() {
    let disk = killed();
    let place = Place::new();
    let on_disk = |path: &Path| place.database().join(path.strip_prefix("/db").unwrap());
    for (path, _) in disk.files() {
        fs::create_dir_all(on_disk(&path).parent().unwrap()).unwrap();
        fs::write(on_disk(&path), disk.read_file(&path).unwrap()).unwrap();
    }
    place.run("verify", &[]).ok();
    let (mut found, mut mended) = (0, 0);
    for (path, _) in disk.files().into_iter().filter(|(path, _)| !path.ends_with("LOCK")) {
        let bytes = disk.read_file(&path).unwrap();
        for offset in offsets(&bytes) {
            let changed = disk.fork();
            changed.flip_bit(&path, offset, 2);
            fs::write(on_disk(&path), changed.read_file(&path).unwrap()).unwrap();
            let (verify, plan) = (place.run("verify", &[]), place.run("recover", &["--dry-run"]));
            let what = format!("byte {offset} of {}: {verify:?} {plan:?}", path.display());
            assert!(matches!((verify.code, plan.code), (Some(0 | 1), Some(0 | 1))), "{what}");
            if verify.code == Some(0) {
                assert_eq!(trouble(&changed), None, "{what}");
                assert_eq!(plan.code, Some(0), "{what}");
                mended += u32::from(path.ends_with("pages"));
            }
            found += u32::from(verify.code == Some(1));
        }
        fs::write(on_disk(&path), bytes).unwrap();
    }
    assert!(found > 20 && mended > 0, "{found} found, {mended} pages mended");
}
