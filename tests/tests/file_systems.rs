//! Real file systems in images of our own, ext4 and XFS: their power is cut under writing processes,
//! and they are full. Needs root and the tools of the file systems (`mkfs.ext4`, `mkfs.xfs`,
//! `xfs_io`); what cannot be run is told. `SEAWALL_POWER_CUTS=N` cuts N times for each.

#![expect(clippy::print_stderr, reason = "counts are shown to whoever runs it")]
#![expect(clippy::unwrap_used, reason = "a test ends where it fails")]

use std::sync::Arc;

use seawall::{Database, DiskKind, Durability, Error, Lsn, Options, Tree, testing};
use seawall_tests::check::verify;
use seawall_tests::counts;
use seawall_tests::failure::Outcome;
use seawall_tests::file_system::{FileSystem, LoopMount};
use seawall_tests::kill::{self, End, KillLoop};
use seawall_tests::random::Random;
use seawall_tests::recording::{Recording, RecordingDisk};

/// Power cuts for each file system and disk when nobody says how many.
const POWER_CUTS: u64 = 12;
/// Space of an image whose power is cut, in bytes.
const IMAGE_BYTES: u64 = 512 << 20;
/// Rounds of a disk that is full and has room again.
const FULL_ROUNDS: u64 = 8;

/// Does nothing unless the kill loop starts it.
#[test]
fn child() {
    kill::child();
}

fn cut_power(kind: FileSystem) {
    let cuts = std::env::var("SEAWALL_POWER_CUTS").ok();
    let cuts = cuts.map_or(POWER_CUTS, |text| text.parse().unwrap());
    for (disk, seed) in [(DiskKind::Auto, 1), (DiskKind::Blocking, 2)] {
        let mount = LoopMount::new(kind, IMAGE_BYTES).unwrap_or_else(|why| panic!("{why}"));
        let Some(mount) = mount else { return };
        let path = mount.path().join("db");
        let mut kill_loop = KillLoop::new(&path, disk, End::PowerCut(&mount), seed);
        for round in 0..cuts {
            let done = kill_loop.round("child");
            done.unwrap_or_else(|why| panic!("{kind}, {disk:?}, power cut {round}: {why}"));
        }
        kill_loop.check().unwrap_or_else(|why| panic!("{kind}, {disk:?}, at the end: {why}"));
        eprintln!("{kind}, {disk:?}, power cuts: {:?}", kill_loop.counts);
        counts::tell("power cuts of real file systems", kill_loop.counts.kills);
        counts::tell("commits acknowledged before power cuts", kill_loop.counts.acknowledged);
    }
}

#[test]
fn power_cuts_of_ext4_leave_everything_acknowledged() {
    cut_power(FileSystem::Ext4);
}

#[test]
fn power_cuts_of_xfs_leave_everything_acknowledged() {
    cut_power(FileSystem::Xfs);
}

/// Operations whose writes are recorded.
const RECORDED: u64 = 64;
/// Power cuts behind recorded writes, for each file system, when nobody says how many.
const REPLAYED_CUTS: usize = 24;

/// Runs a workload, and keeps a log of what is written for it; every step is taken here.
fn record() -> Outcome<Recording> {
    let folder = tempfile::tempdir().unwrap();
    let disk = Arc::new(RecordingDisk::new(folder.path()));
    let recording = disk.recording();
    let options = Options::new()
        .disk_injected(disk)
        .manual_background(true)
        .unchecked_limits()
        .cache_bytes(1 << 20)
        .max_wal_bytes(4 << 20)
        .segment_bytes(256 << 10)
        .page_bytes(4096);
    for life in 0..2 {
        let database = options.clone().open(folder.path().join("db"))?;
        let (first, second) = (database.tree("first")?, database.tree("second")?);
        for number in life * RECORDED / 2..(life + 1) * RECORDED / 2 {
            if kill::operate(&database, &first, &second, 0, number)? == Durability::Sync {
                recording.acknowledge(number + 1);
            }
            match number % 16 {
                3 | 9 => drop(testing::maintain_step(&database)?),
                5 => testing::flush_step(&database)?,
                11 => drop(testing::collect_step(&database)?),
                14 => assert!(database.checkpoint()?.end_lsn > Lsn::default()),
                _ => {}
            }
        }
        match life {
            0 => database.close()?,
            _ => testing::abandon(database),
        }
    }
    Ok(recording)
}

/// Replays a part of the recording on the file system, cuts the power there, and asks what is left.
fn cut_behind(recording: &Recording, count: usize, mount: &LoopMount, flushes: bool) -> Outcome {
    let root = mount.path().join(format!("cut-{count}"));
    std::fs::create_dir(&root).unwrap();
    mount.sync()?;
    let acknowledged = recording.replay(count, &root)?;
    mount.cut_power(flushes)?;
    mount.restart()?;
    let database = kill::options(DiskKind::Blocking).open(root.join("db"))?;
    kill::check_contents(&database, &[(0, acknowledged)].into())?;
    verify(&database)?;
    database.close()?;
    std::fs::remove_dir_all(&root).unwrap();
    Ok(())
}

fn cut_behind_recorded_writes(kind: FileSystem) {
    let mount = LoopMount::new(kind, IMAGE_BYTES).unwrap_or_else(|why| panic!("{why}"));
    let Some(mount) = mount else { return };
    let recording = record().unwrap_or_else(|why| panic!("{why}"));
    let number = |variable: &str| std::env::var(variable).ok().map(|text| text.parse().unwrap());
    let cuts = number("SEAWALL_POWER_CUTS").unwrap_or(REPLAYED_CUTS);
    let first = number("SEAWALL_FIRST_SEED").unwrap_or(0);
    let places: Vec<_> = (1..=recording.len()).filter(|&at| recording.is_cut(at)).collect();
    assert!(places.len() > 200, "only {} writes and syncs are recorded", places.len());
    // Spread over all of them, and other ones with every seed.
    for index in 0..cuts {
        let place = (index * places.len() / cuts + first) % places.len();
        let done = cut_behind(&recording, places[place], &mount, index % 2 == 0);
        done.unwrap_or_else(|why| {
            let what = recording.describe(places[place] - 1);
            panic!("{kind}, power cut behind entry {} ({what}): {why}", places[place])
        });
    }
    eprintln!("{kind}: {cuts} power cuts behind {} recorded writes and syncs", places.len());
    counts::tell("power cuts behind recorded writes", cuts.try_into().unwrap());
}

#[test]
fn power_cuts_behind_recorded_writes_leave_everything_acknowledged_on_ext4() {
    cut_behind_recorded_writes(FileSystem::Ext4);
}

#[test]
fn power_cuts_behind_recorded_writes_leave_everything_acknowledged_on_xfs() {
    cut_behind_recorded_writes(FileSystem::Xfs);
}

/// Writes in a round, if the disk takes them: more than the room that is left in most.
const WRITES: u32 = 1500;

/// Writes until the disk is full, at most `operations`; how many were acknowledged.
fn write_until_full(tree: &Tree, random: &mut Random, next: &mut u32, operations: u32) -> u32 {
    for done in 0..operations {
        let value = vec![b'v'; random.below_usize(6000)];
        let durability = if random.one_in(2) { Durability::Sync } else { Durability::Relaxed };
        match tree.insert_with(next.to_be_bytes(), value, durability) {
            Ok(()) => *next += 1,
            Err(Error::NoSpace { .. }) => return done,
            Err(error) => panic!("a full disk is no reason for {error:?}"),
        }
    }
    operations
}

/// Reads go on, and so does a rollback.
fn check_full(database: &Database, tree: &Tree, next: u32) {
    assert_eq!(tree.len().unwrap(), u64::from(next));
    assert_eq!(tree.range(..).unwrap().filter(Result::is_ok).count(), next as usize);
    let mut transaction = database.begin().unwrap();
    let written =
        (0..next.min(50)).try_for_each(|i| transaction.remove(tree, i.to_be_bytes()).map(drop));
    assert!(matches!(written, Ok(()) | Err(Error::NoSpace { .. })), "{written:?}");
    transaction.rollback().unwrap();
    assert_eq!(tree.len().unwrap(), u64::from(next));
}

fn fill_up(kind: FileSystem) {
    let mount = LoopMount::new(kind, 192 << 20).unwrap_or_else(|why| panic!("{why}"));
    let Some(mount) = mount else { return };
    let path = mount.path().join("db");
    let options = Options::new().cache_bytes(2 << 20).max_wal_bytes(24 << 20);
    let database = options.clone().open(&path).unwrap();
    let tree = database.tree("t").unwrap();
    let (mut random, mut next, mut refused) = (Random::new(7), 0, 0);
    for round in 0..FULL_ROUNDS {
        // Sometimes the log comes first to the end of the room, sometimes the pages.
        mount.fill(random.below(4 << 20)).unwrap_or_else(|why| panic!("{why}"));
        let done = write_until_full(&tree, &mut random, &mut next, WRITES);
        refused += u64::from(done < WRITES);
        check_full(&database, &tree, next);
        mount.free().unwrap_or_else(|why| panic!("{why}"));
        let done = write_until_full(&tree, &mut random, &mut next, 100);
        assert_eq!(done, 100, "round {round}: there is room again");
    }
    verify(&database).unwrap_or_else(|why| panic!("{why}"));
    database.close().unwrap();
    let database = options.open(&path).unwrap();
    assert_eq!(database.tree("t").unwrap().len().unwrap(), u64::from(next));
    database.close().unwrap();
    assert!(refused > FULL_ROUNDS / 2, "the disk was full {refused} times only");
    eprintln!("{kind}: full {refused} times in {FULL_ROUNDS}, {next} pairs written between");
}

#[test]
fn writes_go_on_without_reopening_when_a_full_ext4_has_room_again() {
    fill_up(FileSystem::Ext4);
}

#[test]
fn writes_go_on_without_reopening_when_a_full_xfs_has_room_again() {
    fill_up(FileSystem::Xfs);
}

#[test]
fn database_that_finds_no_room_to_be_created_is_created_when_there_is_some() {
    for kind in [FileSystem::Ext4, FileSystem::Xfs] {
        let mount = LoopMount::new(kind, 32 << 20).unwrap_or_else(|why| panic!("{why}"));
        let Some(mount) = mount else { continue };
        let path = mount.path().join("db");
        let options = Options::new().cache_bytes(2 << 20).max_wal_bytes(16 << 20);
        for left in [0, 64 << 10, 512 << 10, 2 << 20] {
            mount.fill(left).unwrap_or_else(|why| panic!("{why}"));
            match options.clone().open(&path) {
                Ok(database) => database.close().unwrap(),
                Err(Error::NoSpace { .. }) => {}
                Err(error) => panic!("{kind} with {left} bytes left: {error:?}"),
            }
            mount.free().unwrap_or_else(|why| panic!("{why}"));
        }
        let database = options.open(&path).unwrap();
        database.tree("t").unwrap().insert("key", "value").unwrap();
        verify(&database).unwrap_or_else(|why| panic!("{why}"));
        database.close().unwrap();
    }
}
