//! The main job: open, write, crash, recover, read.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use seawall::{Database, Error, Options, Result};
use seawall_wal::disk::sim::CrashPlan;
use seawall_wal::disk::{Disk, SimDisk};

fn options(disk: &SimDisk) -> Options {
    Options::new()
        .disk_injected(Arc::new(disk.clone()))
        .manual_background(true)
        .unchecked_limits()
        .cache_bytes(256 << 10)
        .max_wal_bytes(4 << 20)
        .segment_bytes(256 << 10)
        .page_bytes(4096)
}

/// What the log's files take on the disk.
fn log_file_bytes(disk: &SimDisk) -> u64 {
    let files = disk.files().into_iter();
    files.filter(|(path, _)| path.starts_with("/db/wal")).map(|(_, length)| length).sum()
}

fn key(i: u32) -> [u8; 4] {
    i.wrapping_mul(0x9e37_79b9).to_be_bytes()
}

#[test]
fn an_empty_database_takes_a_few_megabytes_and_its_log_grows_with_what_is_written() -> Result<()> {
    let disk = SimDisk::new();
    let options = || Options::new().disk_injected(Arc::new(disk.clone())).manual_background(true);
    let database = options().open("/db")?;
    assert_eq!(database.stats().wal_bytes, 3 << 20);
    assert!(disk.used_bytes() < 8 << 20, "{}", disk.used_bytes());
    let tree = database.tree("t")?;
    for i in 0..2000 {
        tree.insert_with(key(i), vec![b'a'; 5000], seawall::Durability::Relaxed)?;
        seawall::testing::flush_step(&database)?;
    }
    // Each record may take a frame of two blocks, and half of the files lies ahead.
    let wal_bytes = database.stats().wal_bytes;
    assert!((16 << 20..64 << 20).contains(&wal_bytes), "{wal_bytes}");
    database.close()?;
    let database = options().open("/db")?;
    assert!(database.stats().wal_bytes <= wal_bytes);
    assert_eq!(database.tree("t")?.len()?, 2000);
    Ok(())
}

#[test]
fn what_was_inserted_is_read_back() -> Result<()> {
    let dir = tempfile::tempdir().unwrap();
    let database = Database::open(dir.path().join("db"))?;
    let tree = database.tree("t")?;
    for i in 0..2000 {
        tree.insert_with(key(i), i.to_string(), seawall::Durability::Relaxed)?;
    }
    for i in 0..2000 {
        assert_eq!(tree.get(key(i))?.unwrap(), i.to_string().as_bytes());
    }
    assert_eq!(tree.len()?, 2000);
    let keys: Vec<_> = tree.range(..)?.map(|pair| pair.unwrap().0).collect();
    assert!(keys.is_sorted() && keys.len() == 2000);
    let back: Vec<_> = tree.range(..)?.rev().map(|pair| pair.unwrap().0).collect();
    assert!(back.iter().rev().eq(keys.iter()));
    for i in 0..1000 {
        assert!(tree.remove_with(key(i), seawall::Durability::Relaxed)?);
    }
    assert_eq!(tree.len()?, 1000);
    database.close()?;
    let database = Database::open(dir.path().join("db"))?;
    assert!(database.recovery_report().clean);
    let tree = database.open_tree("t")?.unwrap();
    assert_eq!(tree.len()?, 1000);
    assert_eq!(tree.range(..)?.count(), 1000);
    Ok(())
}

#[test]
fn acknowledged_writes_survive_a_power_cut_and_open_transactions_do_not() -> Result<()> {
    let disk = SimDisk::new();
    let database = options(&disk).open("/db")?;
    let tree = database.tree("t")?;
    for i in 0..3000 {
        tree.insert(key(i), vec![b'v'; 100])?;
    }
    let mut open = database.begin()?;
    for i in 3000..3500 {
        open.insert(&tree, key(i), vec![b'w'; 100])?;
    }
    open.remove(&tree, key(1))?;
    tree.insert(b"last", b"one")?;
    let crashed = disk.crash(CrashPlan::NothingUnsynced);
    let after = options(&crashed).open("/db")?;
    let tree_after = after.open_tree("t")?.unwrap();
    assert_eq!(tree_after.len()?, 3001);
    assert_eq!(tree_after.range(..)?.count(), 3001);
    assert!(tree_after.get(key(1))?.is_some());
    assert_eq!(after.recovery_report().losers, 1);
    drop(open);
    assert_eq!(tree.len()?, 3001);
    assert_eq!(tree.range(..)?.count(), 3001);
    assert_eq!(database.path(), Path::new("/db"));
    Ok(())
}

#[test]
fn large_values_round_trip() -> Result<()> {
    let disk = SimDisk::new();
    let database = options(&disk).open("/db")?;
    let tree = database.tree("t")?;
    let value: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    tree.insert("big", &value)?;
    assert_eq!(tree.get("big")?.unwrap(), value);
    tree.insert("big", &value[..5000])?;
    assert_eq!(tree.get("big")?.unwrap(), value[..5000]);
    let crashed = disk.crash(CrashPlan::NothingUnsynced);
    let after = options(&crashed).open("/db")?;
    assert_eq!(after.tree("t")?.get("big")?.unwrap(), value[..5000]);
    Ok(())
}

#[test]
fn transactions_conflict_and_retry() -> Result<()> {
    let disk = SimDisk::new();
    let database = options(&disk).open("/db")?;
    let tree = database.tree("t")?;
    tree.insert("a", "1")?;
    let mut first = database.begin()?;
    let mut second = database.begin()?;
    assert_eq!(first.get(&tree, "a")?.unwrap(), b"1");
    assert_eq!(second.get(&tree, "a")?.unwrap(), b"1");
    first.insert(&tree, "a", "2")?;
    assert!(second.insert(&tree, "a", "3").unwrap_err().is_conflict());
    first.commit()?;
    drop(second);
    assert_eq!(tree.get("a")?.unwrap(), b"2");
    // Write skew.
    tree.insert("b", "0")?;
    let mut first = database.begin()?;
    let mut second = database.begin()?;
    first.get(&tree, "a")?;
    second.get(&tree, "b")?;
    first.insert(&tree, "b", "x")?;
    second.insert(&tree, "a", "y")?;
    first.commit()?;
    assert!(second.commit().unwrap_err().is_conflict());
    assert_eq!(tree.get("a")?.unwrap(), b"2");
    Ok(())
}

#[test]
fn a_write_that_commits_by_itself_gives_up_after_a_second_whatever_its_size() -> Result<()> {
    let database = options(&SimDisk::new()).open("/db")?;
    let tree = database.tree("t")?;
    let large = [7; 10_000];
    let mut holder = database.begin()?;
    holder.insert(&tree, "k", "held")?;
    type Write<'a> = &'a dyn Fn() -> Result<()>;
    let writes: [(&str, Write<'_>); 4] = [
        ("small", &|| tree.insert("k", "v")),
        ("large", &|| tree.insert("k", large)),
        ("large, asynchronous", &|| tree.insert_async("k", large).map(drop)),
        ("large swap", &|| tree.compare_and_swap("k", None, Some(&large)).map(drop)),
    ];
    for (what, write) in writes {
        let started = Instant::now();
        let refused = write();
        let waited = started.elapsed();
        assert!(refused.is_err_and(|error| error.is_conflict()), "{what}");
        assert!((1.0..4.0).contains(&waited.as_secs_f64()), "{what} waited {waited:?}");
    }
    holder.rollback()?;
    tree.insert("k", large)
}

#[test]
fn a_transaction_that_outgrows_the_log_goes_on_and_the_log_keeps_its_bound() -> Result<()> {
    for commits in [false, true] {
        let disk = SimDisk::new();
        let database = options(&disk).open("/db")?;
        let tree = database.tree("t")?;
        tree.insert("before", "kept")?;
        let mut huge = database.begin()?;
        for i in 0..100_000 {
            huge.insert(&tree, key(i), vec![b'h'; 100])?;
            if i % 1000 == 0 {
                assert!(log_file_bytes(&disk) <= 4 << 20);
            }
        }
        let stats = database.stats();
        assert!(stats.wal_bytes_written > 2 * (4 << 20), "it is larger than the log");
        assert!(stats.wal_bytes <= 4 << 20);
        assert_eq!(tree.len()?, 1);
        let expected = if commits { 100_001 } else { 1 };
        if commits {
            huge.commit().map(drop)?
        } else {
            huge.rollback()?
        }
        assert_eq!(tree.len()?, expected);
        assert_eq!(tree.range(..)?.count(), usize::try_from(expected).unwrap());
        for i in 0..2000 {
            tree.insert_with(key(i), vec![b'a'; 1000], seawall::Durability::Relaxed)?;
        }
        assert_eq!(tree.len()?, if commits { 100_001 } else { 2001 });
        assert!(log_file_bytes(&disk) <= 4 << 20);
    }
    Ok(())
}

/// A disk that has no room for undo files.
fn disk_without_undo() -> SimDisk {
    let disk = SimDisk::new();
    seawall::testing::refuse_undo_files(&disk);
    disk
}

#[test]
fn a_transaction_that_outgrows_the_log_is_ended_where_its_undo_finds_no_room() -> Result<()> {
    let disk = disk_without_undo();
    let database = options(&disk).open("/db")?;
    let tree = database.tree("t")?;
    tree.insert("before", "kept")?;
    let mut huge = database.begin()?;
    let outcome = (0..100_000).try_for_each(|i| huge.insert(&tree, key(i), vec![b'h'; 100]));
    assert!(matches!(outcome, Err(seawall::Error::TransactionTooOld)), "{outcome:?}");
    assert!(log_file_bytes(&disk) <= 4 << 20);
    assert!(database.stats().stalls > 0);
    huge.rollback()?;
    assert_eq!(tree.range(..)?.count(), 1);
    for i in 0..2000 {
        tree.insert_with(key(i), vec![b'a'; 1000], seawall::Durability::Relaxed)?;
    }
    assert_eq!(tree.len()?, 2001);
    Ok(())
}

#[test]
fn an_idle_transaction_is_ended_where_its_undo_finds_no_room() -> Result<()> {
    let disk = disk_without_undo();
    let database = options(&disk).open("/db")?;
    let tree = database.tree("t")?;
    let mut idle = database.begin()?;
    idle.insert(&tree, "idle", "never committed")?;
    for i in 0..10_000 {
        tree.insert_with(key(i), vec![b'a'; 1000], seawall::Durability::Relaxed)?;
    }
    let outcome = idle.insert(&tree, "more", "");
    assert!(matches!(outcome, Err(seawall::Error::TransactionTooOld)), "{outcome:?}");
    assert!(matches!(idle.commit(), Err(seawall::Error::TransactionTooOld)));
    tree.insert("idle", "free again")?;
    Ok(())
}

/// What it waits for when the log is full depends on the length of its values: its own record, or a
/// split on its way.
#[test]
fn a_transaction_that_outgrows_the_log_is_told_whatever_it_waits_for() -> Result<()> {
    for length in [60, 100, 150, 300, 700, 1500] {
        let disk = disk_without_undo();
        let database = options(&disk).open("/db")?;
        let tree = database.tree("t")?;
        let mut huge = database.begin()?;
        let outcome = (0..100_000).try_for_each(|i| huge.insert(&tree, key(i), vec![b'h'; length]));
        assert!(matches!(outcome, Err(seawall::Error::TransactionTooOld)), "{length}: {outcome:?}");
        huge.rollback()?;
        assert_eq!(tree.len()?, 0);
        tree.insert("after", "free again")?;
    }
    Ok(())
}

#[test]
fn an_idle_transaction_does_not_hold_the_log_back() -> Result<()> {
    let disk = SimDisk::new();
    let database = options(&disk).open("/db")?;
    let tree = database.tree("t")?;
    let mut idle = database.begin()?;
    idle.insert(&tree, "idle", "committed late")?;
    for i in 0..10_000 {
        tree.insert_with(key(i), vec![b'a'; 1000], seawall::Durability::Relaxed)?;
    }
    assert!(database.stats().wal_bytes_written > 2 * (4 << 20));
    assert!(log_file_bytes(&disk) <= 4 << 20);
    assert!(tree.get("idle")?.is_none());
    idle.insert(&tree, "more", "")?;
    idle.commit()?;
    assert_eq!(tree.get("idle")?.unwrap(), b"committed late");
    assert_eq!(tree.len()?, 10_002);
    Ok(())
}

#[test]
fn a_read_only_open_of_a_clean_database_reads_everything_and_changes_no_byte() -> Result<()> {
    let disk = SimDisk::new();
    let database = options(&disk).open("/db")?;
    let tree = database.tree("t")?;
    for i in 0..500 {
        tree.insert_with(key(i), vec![b'v'; 300], seawall::Durability::Relaxed)?;
    }
    tree.insert("big", vec![b'b'; 20_000])?;
    database.close()?;
    let bytes = |disk: &SimDisk| {
        let files = disk.files();
        files
            .into_iter()
            .map(|(path, _)| (disk.read_file(&path).unwrap(), path))
            .collect::<Vec<_>>()
    };
    let before = bytes(&disk);
    let database = options(&disk).read_only(true).open("/db")?;
    let tree = database.open_tree("t")?.unwrap();
    assert_eq!(tree.len()?, 501);
    assert_eq!(tree.range(..)?.count(), 501);
    assert_eq!(tree.get("big")?.unwrap().len(), 20_000);
    assert!(matches!(tree.insert("a", "b"), Err(seawall::Error::ReadOnly)));
    assert!(matches!(database.tree("new"), Err(seawall::Error::ReadOnly)));
    let findings = database.verify(|_| {})?.findings;
    assert!(findings.is_empty(), "{findings:?}");
    database.close()?;
    assert!(bytes(&disk) == before, "no byte was changed");

    let database = options(&disk).open("/db")?;
    database.tree("t")?.insert("one", "more")?;
    let killed = disk.fork();
    assert!(matches!(
        options(&killed).read_only(true).open("/db"),
        Err(seawall::Error::RecoveryNeeded)
    ));
    Ok(())
}

#[test]
fn a_clean_database_without_a_lock_file_opens_for_reading_only() -> Result<()> {
    let sim = SimDisk::new();
    let folder = tempfile::tempdir().unwrap();
    let sim_options = || options(&sim);
    let real_options = || Options::new();
    let opened: [(&Path, &dyn Fn() -> Options); 2] =
        [("/db".as_ref(), &sim_options), (&folder.path().join("db"), &real_options)];
    for (dir, options) in opened {
        let database = options().open(dir)?;
        database.tree("t")?.insert("k", "v")?;
        database.close()?;
        match dir.starts_with("/db") {
            true => sim.remove_file(&dir.join("LOCK")).unwrap(),
            false => std::fs::remove_file(dir.join("LOCK")).unwrap(),
        }
        let reader = options().read_only(true).open(dir)?;
        assert_eq!(reader.open_tree("t")?.unwrap().get("k")?.as_deref(), Some(&b"v"[..]));
        // It holds the others off all the same.
        for is_reader in [false, true] {
            let refused = options().read_only(is_reader).open(dir);
            assert!(matches!(refused, Err(Error::Locked { .. })), "{refused:?}");
        }
        reader.close()?;
        options().open(dir)?.tree("t")?.insert("k", "w")?;
    }
    Ok(())
}

#[test]
fn a_tree_opened_after_a_drop_that_is_not_visible_yet_is_a_new_one() -> Result<()> {
    let disk = SimDisk::new();
    let database = options(&disk).open("/db")?;
    database.tree("t")?.insert("old", "1")?;
    let mut transaction = database.begin()?;
    assert!(transaction.drop_tree("t")?);
    let dropped = transaction.commit_async()?;
    let old = database.open_tree("t")?.expect("the drop is not visible");
    assert_eq!(old.len()?, 1);
    assert!(matches!(old.insert("more", ""), Err(seawall::Error::NotFound { .. })));
    let tree = database.tree("t")?;
    assert!(matches!(old.len(), Err(seawall::Error::NotFound { .. })));
    assert_eq!(tree.len()?, 0);
    tree.insert("new", "2")?;
    dropped.wait()?;
    assert_eq!(database.tree_names()?, ["t"]);
    assert_eq!(tree.get("old")?, None);
    Ok(())
}

#[test]
fn a_forked_child_cannot_use_its_parents_handle() -> Result<()> {
    use std::os::unix::process::CommandExt;

    let dir = tempfile::tempdir().unwrap();
    let database = Database::open(dir.path().join("db"))?;
    let tree = database.tree("t")?;
    tree.insert("a", "parent")?;
    let (child_tree, child_database) = (tree.clone(), database.clone());
    let mut child = std::process::Command::new("true");
    let in_child = move || {
        let is_refused = matches!(child_tree.get("a"), Err(seawall::Error::Closed))
            && matches!(child_tree.insert("a", "child"), Err(seawall::Error::Closed))
            && matches!(child_database.snapshot(), Err(seawall::Error::Closed));
        if is_refused { Ok(()) } else { Err(std::io::ErrorKind::Other.into()) }
    };
    // SAFETY: the closure only loads from memory before it is refused; it takes no lock.
    unsafe { child.pre_exec(in_child) };
    assert!(child.status().unwrap().success());
    tree.insert("a", "still the parent's")?;
    assert!(matches!(Database::open(dir.path().join("db")), Err(seawall::Error::Locked { .. })));
    Ok(())
}

#[test]
fn a_panic_in_a_users_closure_rolls_back_and_poisons_nothing() -> Result<()> {
    let disk = SimDisk::new();
    let database = options(&disk).open("/db")?;
    let tree = database.tree("t")?;
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        database.transact(|transaction| -> Result<()> {
            transaction.insert(&tree, "half", "done")?;
            panic!("the user's own");
        })
    }));
    assert!(panicked.is_err());
    assert_eq!(tree.get("half")?, None);
    tree.insert("half", "again")?;
    tree.get_with("half", |_| tree.insert("from", "inside"))?.unwrap()?;
    assert_eq!(tree.len()?, 2);
    Ok(())
}

#[test]
fn the_estimate_after_a_crash_counts_log_and_not_the_jump_between_epochs() -> Result<()> {
    let disk = SimDisk::new();
    let database = options(&disk).open("/db")?;
    let tree = database.tree("t")?;
    for i in 0..3000 {
        tree.insert(key(i), vec![b'v'; 100])?;
    }
    let killed = disk.fork();
    let database = options(&killed).open("/db")?;
    let report = database.recovery_report();
    assert!(!report.clean && report.log_bytes > 0);
    let estimate = database.stats().estimated_recovery;
    assert!(estimate < std::time::Duration::from_secs(1), "{estimate:?}");
    Ok(())
}

#[test]
fn a_savepoint_of_another_database_is_refused() -> Result<()> {
    let database = || options(&SimDisk::new()).open("/db");
    let (one, other) = (database()?, database()?);
    let (tree, other_tree) = (one.tree("t")?, other.tree("t")?);
    tree.insert("large", vec![1; 20_000])?;
    let mut transaction = one.begin()?;
    let mut other_transaction = other.begin()?;
    other_transaction.insert(&other_tree, "k", "v")?;
    let own = transaction.savepoint();
    let foreign = other_transaction.savepoint();
    transaction.remove(&tree, "large")?;
    let refused = transaction.rollback_to(&foreign);
    assert!(matches!(refused, Err(Error::InvalidArgument(_))), "{refused:?}");
    assert!(!transaction.contains_key(&tree, "large")?, "a refused call changes nothing");
    transaction.rollback_to(&own)?;
    transaction.remove(&tree, "large")?;
    transaction.commit()?;
    other_transaction.commit()?;
    assert!(one.verify(|_| {})?.findings.is_empty());
    Ok(())
}

/// What the pair says that [`store`] has put there.
fn stored(disk: &SimDisk, dir: &str) -> Result<Option<seawall::Value>> {
    options(disk).create_if_missing(false).open(dir)?.tree("t")?.get("k")
}

fn store(disk: &SimDisk, dir: &str) -> Result<()> {
    let database = options(disk).open(dir)?;
    database.tree("t")?.insert("k", "v")?;
    seawall::testing::abandon(database);
    Ok(())
}

#[test]
fn a_new_database_s_directories_are_durable_before_the_first_commit_is() -> Result<()> {
    for dir in ["/db", "/a/b/db", "db", "a/b/db", "./a/db"] {
        let disk = SimDisk::new();
        store(&disk, dir)?;
        let cut = disk.crash(CrashPlan::NothingUnsynced);
        assert_eq!(stored(&cut, dir)?.as_deref(), Some(&b"v"[..]), "{dir}");
    }
    Ok(())
}

#[test]
fn directories_that_a_killed_creation_left_are_made_durable_by_the_next() -> Result<()> {
    let dir = "/a/b/db";
    let disk = SimDisk::new();
    disk.record_forks_where(|number| number < 16);
    store(&disk, dir)?;
    let forks = disk.take_forks();
    assert!(forks.iter().any(|fork| fork.describe().starts_with("sync-dir")));
    for fork in forks {
        let killed = fork.disk().fork();
        store(&killed, dir)?;
        let cut = killed.crash(CrashPlan::NothingUnsynced);
        let found =
            stored(&cut, dir).unwrap_or_else(|error| panic!("{}: {error}", fork.describe()));
        assert_eq!(found.as_deref(), Some(&b"v"[..]), "{}", fork.describe());
    }
    Ok(())
}
