use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;

use seawall_wal::disk::SimDisk;
use seawall_wal::disk::sim::{CrashPlan, SimFork};
use seawall_wal::log::segment::{SEGMENT_HEADER_BYTES, SegmentHeader};
use seawall_wal::{Error, Lsn};

use crate::{Database, Durability, Options, Tree};

const DB: &str = "/db";
const COPY: &str = "/copy";

fn options() -> Options {
    Options::new()
        .unchecked_limits()
        .cache_bytes(1 << 20)
        .max_wal_bytes(8 << 20)
        .segment_bytes(256 << 10)
        .page_bytes(4096)
}

fn stepped(disk: &SimDisk) -> Options {
    options().disk_injected(Arc::new(disk.clone())).manual_background(true)
}

fn open(disk: &SimDisk) -> Database {
    stepped(disk).open(DB).unwrap()
}

fn open_copy(disk: &SimDisk) -> crate::Result<Database> {
    stepped(disk).create_if_missing(false).open(COPY)
}

fn key(i: u32) -> [u8; 4] {
    i.wrapping_mul(0x9e37_79b9).to_be_bytes()
}

fn fill(tree: &Tree, keys: std::ops::Range<u32>) {
    for i in keys {
        tree.insert_with(key(i), vec![b'v'; 80], Durability::Relaxed).unwrap();
    }
}

#[track_caller]
fn assert_clean(database: &Database) {
    assert_eq!(database.verify(|_| {}).unwrap().findings, [""; 0]);
}

/// The pairs of a tree.
type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// Every pair of every tree.
fn content(database: &Database) -> Vec<(String, Pairs)> {
    let pairs = |tree: Tree| -> Pairs {
        let pairs = tree.range(..).unwrap().map(|pair| pair.unwrap());
        pairs.map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
    };
    let names = database.tree_names().unwrap();
    let trees = names.into_iter().map(|name| {
        let tree = database.open_tree(&name).unwrap().unwrap();
        (name, pairs(tree))
    });
    trees.collect()
}

#[test]
fn a_copy_opens_with_everything_that_was_committed() {
    let disk = SimDisk::new();
    let database = open(&disk);
    let tree = database.tree("t").unwrap();
    fill(&tree, 0..2000);
    tree.insert("large", vec![7; 100_000]).unwrap();
    database.tree("other").unwrap().insert("k", "v").unwrap();
    let mut transaction = database.begin().unwrap();
    transaction.insert(&tree, "uncommitted", "1").unwrap();
    transaction.remove(&tree, key(3)).unwrap();
    let report = database.backup(COPY).unwrap();
    assert!(report.bytes > 100_000 && report.lsn >= database.recovery_report().end_lsn);
    drop(transaction);
    let copy = open_copy(&disk).unwrap();
    assert_eq!(copy.recovery_report().end_lsn, report.lsn);
    assert_eq!(copy.recovery_report().losers, 1);
    assert_eq!(content(&copy), content(&database));
    assert_clean(&copy);
    assert_clean(&database);
    // Both go on, each by itself.
    copy.tree("t").unwrap().insert("copy", "1").unwrap();
    tree.insert("original", "1").unwrap();
    copy.close().unwrap();
    let copy = open_copy(&disk).unwrap();
    assert!(copy.recovery_report().clean);
    assert!(copy.tree("t").unwrap().contains_key("copy").unwrap());
    assert!(!copy.tree("t").unwrap().contains_key("original").unwrap());
    assert_clean(&copy);
}

#[test]
fn a_copy_of_a_database_of_many_epochs_opens() {
    let mut disk = SimDisk::new();
    for round in 0..4 {
        let database = open(&disk);
        let tree = database.tree("t").unwrap();
        fill(&tree, round * 300..(round + 1) * 300);
        database.sync().unwrap();
        let copy = PathBuf::from(format!("/copy {round}"));
        database.backup(&copy).unwrap();
        let crashed = disk.crash(CrashPlan::NothingUnsynced);
        let opened = stepped(&crashed).open(&copy).unwrap();
        assert_eq!(content(&opened), content(&database), "round {round}");
        assert_clean(&opened);
        // A copy of the copy is one as well.
        opened.backup(COPY).unwrap();
        let again = open_copy(&crashed).unwrap();
        assert_eq!(content(&again), content(&database), "round {round}");
        disk = disk.crash(CrashPlan::NothingUnsynced);
    }
}

#[test]
fn a_target_that_is_not_empty_is_refused() {
    let disk = SimDisk::new();
    let database = open(&disk);
    database.backup(COPY).unwrap();
    for taken in [COPY, DB] {
        let refused = database.backup(taken);
        assert!(matches!(refused, Err(Error::InvalidArgument(_))), "{refused:?}");
    }
    assert_clean(&open_copy(&disk).unwrap());
}

#[test]
fn a_target_inside_the_database_is_refused() {
    let disk = SimDisk::new();
    let database = open(&disk);
    for inside in ["/db", "/db/copy", "/db/wal/copy", "/db/./copy"] {
        let refused = database.backup(inside);
        assert!(matches!(refused, Err(Error::InvalidArgument(_))), "{inside}: {refused:?}");
    }
    database.backup("/db-copy").unwrap();
    database.close().unwrap();
}

#[test]
fn a_crash_at_any_operation_harms_neither_the_source_nor_a_finished_copy() {
    let disk = SimDisk::new();
    let database = open(&disk);
    fill(&database.tree("t").unwrap(), 0..600);
    let expected = content(&database);
    disk.record_forks();
    database.backup(COPY).unwrap();
    let forks = disk.take_forks();
    assert!(forks.len() > 30, "{} operations", forks.len());
    let (mut refused, mut opened) = (0, 0);
    for fork in &forks {
        for (plan, crashed) in fork.disk().crash_states(0..1) {
            let at = || format!("{plan:?} at {}: {}", fork.operation(), fork.describe());
            let source = open(&crashed);
            assert_eq!(content(&source).len(), expected.len(), "{}", at());
            assert_clean(&source);
            match open_copy(&crashed) {
                Ok(copy) => {
                    assert_eq!(content(&copy), expected, "{}", at());
                    assert_clean(&copy);
                    opened += 1;
                }
                Err(Error::NotFound { .. }) => {}
                Err(Error::InvalidArgument(why)) => {
                    assert!(why.contains("a backup that was not finished"), "{why}, {}", at());
                    refused += 1;
                }
                Err(error) => panic!("{error}, {}", at()),
            }
        }
    }
    assert!(refused > 0 && opened > 0, "{refused} refused, {opened} opened");
}

#[test]
fn a_full_target_fails_the_backup_and_nothing_else() {
    let disk = SimDisk::new();
    let database = open(&disk);
    let tree = database.tree("t").unwrap();
    fill(&tree, 0..2000);
    database.checkpoint().unwrap();
    disk.set_capacity(Some(disk.used_bytes() + (100 << 10)));
    let failed = database.backup(COPY);
    assert!(matches!(failed, Err(Error::NoSpace { .. })), "{failed:?}");
    disk.set_capacity(None);
    tree.insert("still", "works").unwrap();
    assert_clean(&database);
    let refused = open_copy(&disk).unwrap_err();
    assert!(refused.to_string().contains("a backup that was not finished"), "{refused}");
}

#[test]
fn a_damaged_page_fails_the_backup() {
    let disk = SimDisk::new();
    let database = open(&disk);
    fill(&database.tree("t").unwrap(), 0..2000);
    database.checkpoint().unwrap();
    disk.flip_bit(Path::new("/db/pages"), 5 * 4096 + 700, 2);
    let failed = database.backup(COPY);
    assert!(matches!(failed, Err(Error::Corrupt { .. })), "{failed:?}");
}

#[test]
fn a_hold_on_the_log_gives_way_before_a_writer_waits() {
    let disk = SimDisk::new();
    let database = open(&disk);
    let tree = database.tree("t").unwrap();
    let core = database.shared_core();
    let (hold, _) = core.checkpointer.hold_log();
    let wal_dir = Path::new("/db/wal");
    let (mut rounds, mut held_bytes) = (0, 0);
    while hold.check(wal_dir).is_ok() {
        fill(&tree, 0..500);
        held_bytes = held_bytes.max(database.stats().wal_bytes);
        core.maintain_step().unwrap();
        rounds += 1;
        assert!(rounds < 1000, "the hold stands for ever");
    }
    assert!(held_bytes > 2 << 20, "the hold kept {held_bytes} bytes of log");
    assert!(database.stats().wal_bytes <= 8 << 20);
    fill(&tree, 0..500);
    drop(hold);
    assert_clean(&database);
}

#[test]
fn the_manifest_describes_every_file() {
    let disk = SimDisk::new();
    let database = open(&disk);
    fill(&database.tree("t").unwrap(), 0..500);
    let report = database.backup(COPY).unwrap();
    let text = String::from_utf8(disk.read_file(Path::new("/copy/manifest")).unwrap()).unwrap();
    let (lines, checksum) = text.rsplit_once("checksum ").unwrap();
    assert_eq!(checksum.trim(), format!("{:08x}", crc32c::crc32c(lines.as_bytes())));
    assert!(lines.starts_with("seawall-backup 1\ndatabase "), "{lines}");
    assert!(lines.contains(&format!("\nmin_consistent_lsn {}\n", report.lsn)), "{lines}");
    let mut names = Vec::new();
    for line in lines.lines().filter_map(|line| line.strip_prefix("file ")) {
        let [bytes, checksum, name] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{line}");
        };
        let found = disk.read_file(&Path::new(COPY).join(name)).unwrap();
        assert_eq!(bytes, found.len().to_string());
        assert_eq!(checksum, format!("{:08x}", crc32c::crc32c(&found)), "{name}");
        if name.starts_with("wal/") {
            let header = SegmentHeader::decode(&found[..SEGMENT_HEADER_BYTES]).unwrap();
            assert_eq!(header.segment_bytes.to_string(), bytes, "a segment knows its length");
        }
        names.push(name.to_owned());
    }
    assert!(names[0] == "pages" && names[1].starts_with("wal/"), "{names:?}");
}

/// A transaction that a writer was told of.
#[derive(Clone, Copy, Debug)]
struct Acknowledged {
    writer: u32,
    round: u32,
    lsn: Lsn,
}

/// Writes transactions of two trees until told to stop; returns those acknowledged.
fn write(
    database: &Database,
    writer: u32,
    stop: &AtomicBool,
    done: &AtomicU32,
) -> Vec<Acknowledged> {
    let (left, right) = (database.tree("left").unwrap(), database.tree("right").unwrap());
    let mut acknowledged = Vec::new();
    for round in 0.. {
        if stop.load(Ordering::SeqCst) {
            return acknowledged;
        }
        let name = [writer.to_be_bytes(), key(round)].concat();
        let mut transaction = database.begin().unwrap();
        transaction.insert(&left, &name, vec![1; 300]).unwrap();
        let large = if round % 8 == 0 { 9000 } else { 100 };
        transaction.insert(&right, &name, vec![2; large]).unwrap();
        let durability = if round % 4 == 0 { Durability::Sync } else { Durability::Relaxed };
        let lsn = transaction.commit_with(durability).unwrap();
        acknowledged.push(Acknowledged { writer, round, lsn });
        done.fetch_max(round, Ordering::SeqCst);
    }
    unreachable!("the loop ends by a return")
}

/// Backs up while writers run, and checks that the copy holds whole transactions: those up to the
/// report's LSN and no other.
fn back_up_under_writers(options: impl Fn() -> Options, dir: &Path, copy: &Path) {
    let database = options().open(dir).unwrap();
    fill(&database.tree("before").unwrap(), 0..3000);
    let (stop, done) = (AtomicBool::new(false), AtomicU32::new(0));
    let (report, acknowledged) = thread::scope(|scope| {
        let write = |writer| {
            let (database, stop, done) = (&database, &stop, &done);
            scope.spawn(move || write(database, writer, stop, done))
        };
        let writers: Vec<_> = (0..3).map(write).collect();
        let reach = |round| {
            while done.load(Ordering::SeqCst) < round {
                thread::yield_now();
            }
        };
        reach(200);
        let report = database.backup(copy);
        let at_end = done.load(Ordering::SeqCst);
        reach(at_end + 20);
        stop.store(true, Ordering::SeqCst);
        let all = writers.into_iter().flat_map(|writer| writer.join().unwrap());
        (report.unwrap(), all.collect::<Vec<_>>())
    });
    assert_clean(&database);
    let copy = options().create_if_missing(false).open(copy).unwrap();
    assert_clean(&copy);
    assert_eq!(copy.tree("before").unwrap().len().unwrap(), 3000);
    let (left, right) = (copy.tree("left").unwrap(), copy.tree("right").unwrap());
    let mut present = 0;
    for one in &acknowledged {
        let name = [one.writer.to_be_bytes(), key(one.round)].concat();
        let is_expected = one.lsn <= report.lsn;
        assert_eq!(left.contains_key(&name).unwrap(), is_expected, "{one:?}, {report:?}");
        assert_eq!(right.contains_key(&name).unwrap(), is_expected, "{one:?}, {report:?}");
        present += u64::from(is_expected);
    }
    assert_eq!((left.len().unwrap(), right.len().unwrap()), (present, present));
    assert!(present >= 200, "what was told before the call is in the copy");
}

#[test]
fn a_copy_under_writers_holds_whole_transactions_up_to_its_lsn() {
    let disk = SimDisk::new();
    let options = || options().disk_injected(Arc::new(disk.clone())).max_wal_bytes(64 << 20);
    back_up_under_writers(options, Path::new(DB), Path::new(COPY));
}

#[test]
fn a_copy_in_a_real_directory_holds_whole_transactions_up_to_its_lsn() {
    let dir = tempfile::tempdir().unwrap();
    let options = || options().max_wal_bytes(64 << 20);
    back_up_under_writers(options, &dir.path().join("db"), &dir.path().join("deep/copy"));
}

#[test]
fn a_copy_of_a_database_that_lost_a_segments_header_opens() {
    let disk = SimDisk::new();
    let database = open(&disk);
    fill(&database.tree("t").unwrap(), 0..300);
    database.backup("/first").unwrap();
    let expected = content(&database);
    // In a copy, whose segments are as long as their frames, an epoch begins with a segment.
    let copied = disk.crash(CrashPlan::NothingUnsynced);
    copied.record_forks();
    drop(stepped(&copied).open("/first").unwrap());
    let forks = copied.take_forks();
    let is_first_write = |fork: &&SimFork| {
        let what = fork.describe();
        what.starts_with("write-sync /first/wal/") && what.contains(".wal 0+")
    };
    let fork = forks.iter().find(is_first_write).expect("a segment is begun by a synced write");
    let what = fork.describe();
    let path = PathBuf::from(what.split(' ').nth(1).unwrap());
    let whole = fork.disk().read_file(&path).unwrap();
    let mut foreign = SegmentHeader::decode(&whole[..SEGMENT_HEADER_BYTES]).unwrap();
    foreign.number += 1000;
    let mut of_earlier_use = vec![0; SEGMENT_HEADER_BYTES];
    foreign.encode(&mut of_earlier_use);
    for lost in [vec![0; SEGMENT_HEADER_BYTES], of_earlier_use] {
        // The write did not return: its first sector is not there.
        let torn = fork.disk().fork();
        let bytes = [&lost[..512], &whole[512..]].concat();
        torn.write_file(&path, &bytes);
        let database = stepped(&torn).create_if_missing(false).open("/first").unwrap();
        assert_eq!(content(&database), expected);
        let tree = database.tree("t").unwrap();
        for i in 300..320 {
            tree.insert(key(i), "behind").unwrap();
        }
        database.backup(COPY).unwrap();
        let expected = content(&database);
        let copy = open_copy(&torn.crash(CrashPlan::NothingUnsynced)).unwrap();
        assert_eq!(content(&copy), expected);
        assert_clean(&copy);
    }
}
