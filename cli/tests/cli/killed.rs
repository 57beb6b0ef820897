//! Damage in a database whose process was killed: what `verify` does not find, recovery mends.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use seawall::page::{PageBuf, PageKind, PageRead, PageView, seal, set_page_lsn};
use seawall::{Database, Lsn, Options};
use seawall_wal::control::Control;
use seawall_wal::disk::SimDisk;

use crate::support::Place;

const PAGE_BYTES: u32 = 4096;

fn options(disk: &SimDisk) -> Options {
    Options::new()
        .disk_injected(Arc::new(disk.clone()))
        .manual_background(true)
        .unchecked_limits()
        .cache_bytes(256 << 10)
        .max_wal_bytes(4 << 20)
        .segment_bytes(256 << 10)
        .page_bytes(PAGE_BYTES)
}

fn open(disk: &SimDisk) -> seawall::Result<Database> {
    options(disk).open("/db")
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

/// With a transaction to undo whose records are in an undo file.
fn killed_with_undo_file() -> SimDisk {
    let disk = SimDisk::new();
    let database = options(&disk).held_log_bytes(0).open("/db").unwrap();
    let tree = database.tree("t").unwrap();
    tree.insert("before", "kept").unwrap();
    let mut loser = database.begin().unwrap();
    for number in 0..100_u32 {
        loser.insert(&tree, format!("loser {number:03}"), [7; 200]).unwrap();
    }
    // The last ones are kept, and written by whatever comes next.
    drop(loser.savepoint());
    database.checkpoint().unwrap();
    let killed = disk.fork();
    drop(loser);
    seawall::testing::abandon(database);
    killed
}

fn undo_file(disk: &SimDisk) -> PathBuf {
    let is_undo = |path: &PathBuf| path.parent().is_some_and(|parent| parent.ends_with("undo"));
    disk.files().into_iter().map(|(path, _)| path).find(is_undo).expect("there is an undo file")
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

/// The place on disk of a file of a disk in memory.
fn on_disk(place: &Place, path: &Path) -> PathBuf {
    place.database().join(path.strip_prefix("/db").unwrap())
}

fn write_out(disk: &SimDisk) -> Place {
    let place = Place::new();
    for (path, _) in disk.files() {
        let target = on_disk(&place, &path);
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::write(target, disk.read_file(&path).unwrap()).unwrap();
    }
    place
}

/// Changes bytes of these files one by one, and asks `verify`, and where that finds nothing opens the
/// database. Returns how many were found, and of those not found how many lay in the page file.
fn change_bytes(disk: &SimDisk, paths: &[PathBuf]) -> (u32, u32) {
    let place = write_out(disk);
    place.run("verify", &[]).ok();
    let (mut found, mut mended) = (0, 0);
    for path in paths {
        let bytes = disk.read_file(path).unwrap();
        for offset in offsets(&bytes) {
            let changed = disk.fork();
            changed.flip_bit(path, offset, 2);
            fs::write(on_disk(&place, path), changed.read_file(path).unwrap()).unwrap();
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
        fs::write(on_disk(&place, path), bytes).unwrap();
    }
    (found, mended)
}

#[test]
fn what_verify_does_not_find_in_a_killed_database_is_mended_when_it_is_opened() {
    let disk = killed();
    let paths = disk.files().into_iter().map(|(path, _)| path);
    let paths: Vec<_> = paths.filter(|path| !path.ends_with("LOCK")).collect();
    let (found, mended) = change_bytes(&disk, &paths);
    assert!(found > 20 && mended > 0, "{found} found, {mended} pages mended");
}

#[test]
fn what_verify_does_not_find_in_an_undo_file_does_not_matter() {
    let disk = killed_with_undo_file();
    let (found, _) = change_bytes(&disk, &[undo_file(&disk)]);
    assert!(found > 10, "{found} found");
}

#[test]
fn damage_in_an_undo_file_that_recovery_needs_is_named() {
    let disk = killed_with_undo_file();
    let place = write_out(&disk);
    let path = on_disk(&place, &undo_file(&disk));
    let whole = fs::read(&path).unwrap();
    let mut changed = whole.clone();
    changed[4096 + 100] ^= 1;
    let cases = [
        (changed, "is damaged at byte 4096: expected checksum"),
        (whole[..4096].to_vec(), "is damaged at byte 4096: expected"),
    ];
    let told = || {
        let run = place.run("verify", &["--json"]);
        let told = String::from_utf8(run.stdout.clone()).unwrap();
        run.failed(1);
        told
    };
    for (bytes, finding) in cases {
        fs::write(&path, bytes).unwrap();
        let told = told();
        assert!(told.contains(&format!("{} {finding}", path.display())), "{told}");
        assert!(told.contains(", found "), "{told}");
    }
    fs::remove_file(&path).unwrap();
    let missing = told();
    assert!(missing.contains("the undo file that a checkpoint names, found no file"), "{missing}");
    // What was written behind what the checkpoint knows is cut.
    fs::write(&path, [&whole[..], &[0xff; 4096]].concat()).unwrap();
    place.run("verify", &[]).ok();
}

/// Gives the last leaf of a database that nobody has open this position; returns the leaf's place.
fn forge_page_lsn(disk: &SimDisk, page_lsn: Lsn) -> usize {
    let control = Control::open(disk, Path::new("/db"), true).unwrap().unwrap();
    let seed = control.state().identity.database.checksum_seed();
    let path = Path::new("/db/pages");
    let mut file = disk.read_file(path).unwrap();
    let is_leaf = |bytes: &[u8]| PageView::new(bytes).kind() == PageKind::Leaf;
    let number = file.chunks(4096).rposition(is_leaf).unwrap();
    let bytes = &mut file[number * 4096..][..4096];
    let id = PageView::new(bytes).page_id();
    let mut page = PageBuf::copy_of(bytes);
    set_page_lsn(&mut page, page_lsn);
    bytes.copy_from_slice(page.bytes());
    seal(seed, id, bytes);
    disk.write_file(path, &file);
    number * 4096
}

#[test]
fn a_page_from_between_two_epochs_is_found() {
    let disk = SimDisk::new();
    let database = open(&disk).unwrap();
    let tree = database.tree("t").unwrap();
    for number in 0..60 {
        tree.insert(format!("key {number:03}"), [7; 100]).unwrap();
    }
    database.close().unwrap();
    let database = open(&disk).unwrap();
    database.tree("t").unwrap().insert("key", "in the next epoch").unwrap();
    let killed = disk.fork();
    seawall::testing::abandon(database);
    let control = Control::open(&killed, Path::new("/db"), true).unwrap().unwrap();
    let end_lsn = control.state().last_epoch().continues_from_lsn;
    write_out(&killed).run("verify", &[]).ok();

    let offset = forge_page_lsn(&killed, end_lsn.advance(8));
    let run = write_out(&killed).run("verify", &[]);
    let told = String::from_utf8(run.stdout.clone()).unwrap();
    assert!(told.contains(&format!("pages is damaged at byte {offset}: ")), "{told}");
    assert!(told.contains(&format!("at or below {end_lsn}, where its log ended")), "{told}");
    run.failed(1);
}
