//! A full log, and more extents that wait to be freed than the permanent reserve has room to list.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use seawall::{Database, Durability, Error, Event, Options, Result, Tree};
use seawall_wal::disk::SimDisk;
use seawall_wal::disk::sim::CrashPlan;

/// Large values that are replaced while nobody collects.
const VALUES: u32 = 200_000;

fn options(disk: &SimDisk) -> Options {
    let options = Options::new().disk_injected(Arc::new(disk.clone())).manual_background(true);
    options.page_bytes(4096).cache_bytes(8 << 20).max_wal_bytes(16 << 20)
}

fn open(disk: &SimDisk) -> Result<Database> {
    options(disk).open("/db")
}

fn insert(tree: &Tree, number: u32, bytes: usize) -> Result<()> {
    tree.insert_with(number.to_be_bytes(), vec![7; bytes], Durability::Relaxed)
}

/// Writes until the log is full, or a lot is written.
fn fill_log(tree: &Tree) {
    let full = (0..40_000).try_for_each(|number| insert(tree, 1_000_000 + number, 900));
    if let Err(error) = full {
        assert!(matches!(error, Error::NoSpace { .. }), "{error}");
    }
}

#[test]
fn a_full_log_is_emptied_however_much_waits_to_be_freed() -> Result<()> {
    let disk = SimDisk::new();
    let database = open(&disk)?;
    let tree = database.tree("t")?;
    (0..VALUES).try_for_each(|number| insert(&tree, number, 1100))?;
    database.checkpoint()?;
    (0..VALUES).try_for_each(|number| insert(&tree, number, 4))?;
    fill_log(&tree);
    database.checkpoint()?;
    while seawall::testing::collect_step(&database)? {}
    insert(&tree, 7, 900)?;
    database.close()?;
    let database = open(&disk)?;
    assert_eq!(database.tree("t")?.get(7_u32.to_be_bytes())?.map(|value| value.len()), Some(900));
    Ok(())
}

#[test]
fn a_checkpoint_keeps_log_for_what_a_commit_beside_it_has_freed() -> Result<()> {
    let disk = SimDisk::new();
    let late = Arc::new(Mutex::new(None));
    let to_commit = Arc::clone(&late);
    let commit = move |event: &Event| {
        if matches!(event, Event::CheckpointBegin { .. }) {
            let transaction = to_commit.lock().unwrap().take();
            transaction.map(seawall::Transaction::commit).transpose().unwrap();
        }
    };
    let database = options(&disk).on_event(commit).open("/db")?;
    let tree = database.tree("t")?;
    (0..VALUES).try_for_each(|number| insert(&tree, number, 1100))?;
    database.checkpoint()?;
    let mut deleting = database.begin()?;
    (0..VALUES).try_for_each(|number| deleting.remove(&tree, number.to_be_bytes()).map(drop))?;
    *late.lock().unwrap() = Some(deleting);
    seawall::testing::take_checkpoint(&database)?;
    assert!(late.lock().unwrap().is_none());
    fill_log(&tree);
    database.checkpoint()?;

    // Recovery finds the freeing of each in the log.
    while seawall::testing::collect_step(&database)? {}
    database.sync()?;
    let crashed = disk.crash(CrashPlan::NothingUnsynced);
    database.close()?;
    let database = open(&crashed)?;
    let analysis = database.recovery_report().analysis;
    assert!(analysis < Duration::from_secs(6), "{analysis:?}");
    database.close()
}
