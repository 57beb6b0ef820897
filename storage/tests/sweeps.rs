//! Garbage that is not purged at once: it is not forgotten, whatever comes between.

use std::sync::Arc;

use seawall::{Database, Durability, Error, Options, Result, testing};
use seawall_wal::disk::SimDisk;
use seawall_wal::disk::sim::CrashPlan;

const PAIRS: u32 = 12_000;

/// Every transaction is a huge one from its first write on, if `is_huge`.
fn open(disk: &SimDisk, is_huge: bool) -> Result<Database> {
    let options = Options::new().disk_injected(Arc::new(disk.clone())).manual_background(true);
    let options = options.unchecked_limits().page_bytes(4096).cache_bytes(1 << 20);
    let options = options.bulk_budget_bytes(if is_huge { 0 } else { 1 << 30 });
    options.max_wal_bytes(8 << 20).open("/db")
}

fn fill(database: &Database, name: &str) -> Result<()> {
    let tree = database.tree(name)?;
    for i in 0..PAIRS {
        tree.insert_with(i.to_be_bytes(), [7; 100], Durability::Relaxed)?;
    }
    database.sync().map(drop)
}

/// Deletes all keys but the last one, each by itself.
fn delete_one_by_one(database: &Database, name: &str) -> Result<()> {
    let tree = database.tree(name)?;
    for i in 0..PAIRS - 1 {
        assert!(tree.remove_with(i.to_be_bytes(), Durability::Relaxed)?);
    }
    database.sync().map(drop)
}

/// Deletes all keys but the last one in one transaction.
fn delete_most(database: &Database, name: &str) -> Result<()> {
    let tree = database.tree(name)?;
    let mut transaction = database.begin()?;
    let last = (PAIRS - 1).to_be_bytes();
    assert_eq!(transaction.remove_range(&tree, ..last)?, u64::from(PAIRS) - 1);
    transaction.commit().map(drop)
}

fn collect(database: &Database) -> Result<()> {
    while testing::collect_step(database)? {}
    Ok(())
}

/// Pages in use.
fn pages(database: &Database) -> Result<u64> {
    let report = database.verify(|_| {})?;
    assert_eq!(report.findings, [""; 0]);
    Ok(report.pages)
}

/// Few pages may be left of a tree of one key: inner pages of one child are merged when one of their
/// leaves is.
const FEW_PAGES: u64 = 30;

#[track_caller]
fn assert_swept(database: &Database, when: &str) -> Result<()> {
    let left = pages(database)?;
    assert!(left < FEW_PAGES, "{left} pages are left {when}");
    Ok(())
}

/// They are as full as can be, so none has room for the one before it.
#[test]
fn the_leaves_that_a_huge_delete_empties_are_given_back_however_full_they_were() -> Result<()> {
    let database = open(&SimDisk::new(), true)?;
    fill(&database, "t")?;
    delete_most(&database, "t")?;
    assert!(pages(&database)? > 10 * FEW_PAGES);
    collect(&database)?;
    assert_swept(&database, "in the end")
}

#[test]
fn what_a_huge_delete_left_is_swept_after_a_crash_wherever_that_came() -> Result<()> {
    let disk = SimDisk::new();
    let database = open(&disk, true)?;
    fill(&database, "t")?;
    delete_most(&database, "t")?;
    assert!(pages(&database)? > 10 * FEW_PAGES);
    let mut steps = 0;
    loop {
        database.sync()?;
        let crashed = disk.crash(CrashPlan::NothingUnsynced);
        let again = open(&crashed, true)?;
        collect(&again)?;
        assert_swept(&again, &format!("after {steps} steps"))?;
        let tree = again.tree("t")?;
        assert_eq!((tree.len()?, tree.range(..)?.count()), (1, 1), "after {steps} steps");
        // Nothing is left to be done, and nothing that says so.
        again.close()?;
        let again = open(&crashed, true)?;
        assert!(!testing::collect_step(&again)?, "after {steps} steps");
        if !testing::collect_step(&database)? {
            break;
        }
        steps += 1;
    }
    assert!(steps > 3, "{steps} steps");
    assert_swept(&database, "in the end")?;
    Ok(())
}

#[test]
fn what_a_huge_delete_left_is_swept_after_a_shutdown_and_in_a_copy() -> Result<()> {
    let disk = SimDisk::new();
    let database = open(&disk, true)?;
    fill(&database, "t")?;
    let reader = database.snapshot()?;
    delete_most(&database, "t")?;
    collect(&database)?;
    assert!(pages(&database)? > 10 * FEW_PAGES, "a reader needs what was there");
    database.backup("/copy")?;
    drop(reader);
    database.close()?;
    for dir in ["/db", "/copy"] {
        let options = Options::new().disk_injected(Arc::new(disk.clone())).manual_background(true);
        let database = options.unchecked_limits().cache_bytes(1 << 20).open(dir)?;
        collect(&database)?;
        assert_swept(&database, dir)?;
        assert_eq!(database.tree("t")?.range(..)?.count(), 1, "{dir}");
    }
    Ok(())
}

#[test]
fn the_trail_of_a_huge_transaction_that_is_rolled_back_or_drops_its_tree_is_not_noted() -> Result<()>
{
    let disk = SimDisk::new();
    let database = open(&disk, true)?;
    fill(&database, "kept")?;
    fill(&database, "dropped")?;
    let mut transaction = database.begin()?;
    transaction.remove_range(&database.tree("kept")?, ..)?;
    transaction.rollback()?;
    let mut transaction = database.begin()?;
    transaction.remove_range(&database.tree("dropped")?, ..)?;
    transaction.drop_tree("dropped")?;
    transaction.commit()?;
    collect(&database)?;
    database.close()?;
    let database = open(&disk, true)?;
    assert!(!testing::collect_step(&database)?);
    assert_eq!(database.tree("kept")?.range(..)?.count(), PAIRS as usize);
    assert!(pages(&database)? > 10 * FEW_PAGES);
    Ok(())
}

/// Garbage of a tree that a transaction holds to rename it.
fn garbage_of_a_held_tree(is_huge: bool) -> Result<()> {
    let disk = SimDisk::new();
    let database = open(&disk, is_huge)?;
    fill(&database, "t")?;
    if is_huge {
        delete_most(&database, "t")?;
    } else {
        delete_one_by_one(&database, "t")?;
    }
    let mut renamer = database.begin()?;
    assert!(renamer.rename_tree("t", "u")?);
    collect(&database)?;
    assert!(pages(&database)? > 10 * FEW_PAGES, "nobody may touch it");
    renamer.rollback()?;
    collect(&database)?;
    assert_swept(&database, "in the end")?;
    assert_eq!(database.tree("t")?.range(..)?.count(), 1);
    Ok(())
}

#[test]
fn a_sweep_waits_for_a_change_of_the_catalogue() -> Result<()> {
    garbage_of_a_held_tree(true)
}

#[test]
fn a_purge_waits_for_a_change_of_the_catalogue() -> Result<()> {
    garbage_of_a_held_tree(false)
}

#[test]
fn a_large_value_is_not_read_once_the_database_is_closed() -> Result<()> {
    let database = open(&SimDisk::new(), false)?;
    let tree = database.tree("t")?;
    for key in ["first", "second", "third"] {
        tree.insert(key, vec![7; 100_000])?;
    }
    let mut range = tree.range(..)?;
    assert!(range.next().is_some_and(|pair| pair.is_ok()));
    database.close()?;
    let refused = range.next();
    assert!(matches!(refused, Some(Err(Error::Closed))), "it was read");
    assert!(range.next().is_none());
    Ok(())
}

#[test]
fn the_first_pair_is_read_without_the_large_values_behind_it() -> Result<()> {
    let database = open(&SimDisk::new(), false)?;
    let tree = database.tree("t")?;
    for i in 0..20_u32 {
        tree.insert(i.to_be_bytes(), vec![7; 100_000])?;
    }
    // More than the cache holds.
    fill(&database, "other")?;
    let before = database.stats().cache_misses;
    assert_eq!(tree.first()?.map(|(_, value)| value.len()), Some(100_000));
    let one = database.stats().cache_misses - before;
    assert!(one < 60, "{one} pages were read for one value of 25");
    let before = database.stats().cache_misses;
    let mut transaction = database.begin()?;
    assert_eq!(transaction.remove_range(&tree, ..)?, 20);
    transaction.commit()?;
    let removed = database.stats().cache_misses - before;
    assert!(removed < 60, "{removed} pages were read to remove 20 keys");
    collect(&database)?;
    assert_eq!(tree.len()?, 0);
    assert_eq!(database.verify(|_| {})?.findings, [""; 0]);
    Ok(())
}
