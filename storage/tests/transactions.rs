//! Transactions that go on after a call has failed, and savepoints: what a commit leaves of them.

use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use seawall::{Database, Error, Options, Result, testing};
use seawall_wal::disk::SimDisk;
use seawall_wal::disk::sim::{EIO, Fault, FaultEffect, OperationKind};

fn open(disk: &SimDisk) -> Database {
    let options = Options::new().disk_injected(Arc::new(disk.clone())).manual_background(true);
    let options = options.unchecked_limits().page_bytes(4096).cache_bytes(1 << 20);
    options.max_wal_bytes(64 << 20).open("/db").expect("it opens")
}

/// Verifies after everything that can be given up was.
#[track_caller]
fn assert_clean(database: &Database) -> Result<()> {
    while testing::collect_step(database)? {}
    assert_eq!(database.verify(|_| {})?.findings, [""; 0]);
    Ok(())
}

#[test]
fn a_rename_that_conflicts_half_way_leaves_the_tree_its_name() -> Result<()> {
    let database = open(&SimDisk::new());
    database.tree("old")?.insert("key", "value")?;
    let mut creator = database.begin()?;
    creator.tree("new")?;
    let mut renamer = database.begin()?;
    let refused = renamer.rename_tree("old", "new");
    assert!(matches!(refused, Err(Error::Conflict)), "{refused:?}");
    renamer.commit()?;
    creator.rollback()?;
    assert_eq!(database.tree_names()?, ["old"]);
    assert_eq!(database.tree("old")?.get("key")?.as_deref(), Some(&b"value"[..]));
    assert_clean(&database)
}

#[test]
fn a_large_value_whose_key_is_held_leaves_no_pages_behind() -> Result<()> {
    let database = open(&SimDisk::new());
    let tree = database.tree("t")?;
    let mut holder = database.begin()?;
    holder.insert(&tree, "held", "by another")?;
    let mut transaction = database.begin()?;
    let refused = transaction.insert(&tree, "held", vec![7; 100_000]);
    assert!(matches!(refused, Err(Error::Conflict)), "{refused:?}");
    transaction.insert(&tree, "free", "goes on")?;
    transaction.commit()?;
    holder.commit()?;
    assert_clean(&database)
}

/// Bytes that do not compress.
fn noise(i: u32) -> u8 {
    i.wrapping_mul(0x9e37_79b9).rotate_left(11).wrapping_mul(0x85eb_ca6b).to_be_bytes()[0]
}

#[test]
fn a_large_value_that_finds_no_space_leaves_no_pages_behind() -> Result<()> {
    let disk = SimDisk::new();
    let database = open(&disk);
    let tree = database.tree("t")?;
    // There are pages for such a value, and no room in the log for what does not compress.
    let large: Vec<_> = (0..8 << 20).map(noise).collect();
    let mut transaction = database.begin()?;
    transaction.insert(&tree, "large", vec![7; large.len()])?;
    transaction.rollback()?;
    database.checkpoint()?;
    disk.set_capacity(Some(disk.used_bytes()));
    let mut transaction = database.begin()?;
    let before = database.stats().end_lsn.get();
    let refused = transaction.insert(&tree, "large", &large);
    assert!(matches!(refused, Err(Error::NoSpace { .. })), "{refused:?}");
    let written = database.stats().end_lsn.get() - before;
    assert!(written > 64 << 10, "{written} bytes of log, so no page of it");
    disk.set_capacity(None);
    transaction.insert(&tree, "small", "goes on")?;
    transaction.commit()?;
    assert_clean(&database)
}

#[test]
fn a_tree_whose_creation_finds_no_space_can_be_created_later() -> Result<()> {
    let disk = SimDisk::new();
    let database = open(&disk);
    let mut transaction = database.begin()?;
    disk.set_capacity(Some(disk.used_bytes()));
    let mut created = Vec::new();
    let refused = loop {
        let name = format!("tree {}", created.len());
        match transaction.tree(&name) {
            Ok(_) => created.push(name),
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, Error::NoSpace { .. }), "{refused}");
    disk.set_capacity(None);
    transaction.commit()?;
    created.sort_unstable();
    assert_eq!(database.tree_names()?, created);
    database.tree(&format!("tree {}", created.len()))?.insert("key", "value")?;
    assert_clean(&database)
}

#[test]
fn a_savepoint_that_was_rolled_back_over_is_refused() -> Result<()> {
    let database = open(&SimDisk::new());
    let tree = database.tree("t")?;
    for key in ["first", "second"] {
        tree.insert(key, vec![1; 50_000])?;
    }
    database.tree("kept")?.insert("key", "value")?;
    database.tree("other")?;
    let mut transaction = database.begin()?;
    let start = transaction.savepoint();
    assert!(transaction.remove(&tree, "first")?);
    assert!(transaction.drop_tree("other")?);
    let stale = transaction.savepoint();
    transaction.rollback_to(&start)?;
    assert!(transaction.remove(&tree, "second")?);
    assert!(transaction.drop_tree("kept")?);
    let refused = transaction.rollback_to(&stale);
    assert!(matches!(refused, Err(Error::InvalidArgument(_))), "{refused:?}");
    transaction.rollback_to(&start)?;
    transaction.insert(&tree, "third", "")?;
    transaction.commit()?;
    assert_clean(&database)?;
    for key in ["first", "second"] {
        assert_eq!(tree.get(key)?.map(|value| value.len()), Some(50_000));
    }
    assert!(database.tree("kept")?.contains_key("key")?);
    Ok(())
}

#[test]
fn who_reads_a_tree_and_who_drops_it_cannot_both_miss_the_other() -> Result<()> {
    let database = open(&SimDisk::new());
    let (tree, flags) = (database.tree("t")?, database.tree("flags")?);
    tree.insert("key", "value")?;
    let mut reader = database.begin()?;
    assert_eq!(reader.range(&tree, ..)?.count(), 1);
    let mut dropper = database.begin()?;
    assert_eq!(dropper.get(&flags, "t is in use")?, None);
    assert!(dropper.drop_tree("t")?);
    dropper.commit()?;
    reader.insert(&flags, "t is in use", "")?;
    let committed = reader.commit();
    assert!(matches!(committed, Err(Error::Conflict)), "{committed:?}");
    Ok(())
}

#[test]
fn who_finds_no_tree_and_who_creates_it_cannot_both_miss_the_other() -> Result<()> {
    let database = open(&SimDisk::new());
    let flags = database.tree("flags")?;
    let mut finder = database.begin()?;
    assert!(!finder.drop_tree("t")?, "there is none");
    let mut creator = database.begin()?;
    assert_eq!(creator.get(&flags, "there is no t")?, None);
    creator.tree("t")?;
    creator.commit()?;
    finder.insert(&flags, "there is no t", "")?;
    let committed = finder.commit();
    assert!(matches!(committed, Err(Error::Conflict)), "{committed:?}");
    Ok(())
}

#[test]
fn who_opens_a_tree_by_name_and_who_renames_it_cannot_both_miss_the_other() -> Result<()> {
    let database = open(&SimDisk::new());
    let flags = database.tree("flags")?;
    database.tree("t")?;
    let mut opener = database.begin()?;
    opener.tree("t")?;
    let mut renamer = database.begin()?;
    assert_eq!(renamer.get(&flags, "it is t")?, None);
    assert!(renamer.rename_tree("t", "u")?);
    renamer.commit()?;
    opener.insert(&flags, "it is t", "")?;
    let committed = opener.commit();
    assert!(matches!(committed, Err(Error::Conflict)), "{committed:?}");
    Ok(())
}

#[test]
fn a_tree_dropped_behind_a_transactions_back_is_a_conflict_that_is_run_again() -> Result<()> {
    let database = open(&SimDisk::new());
    database.tree("t")?;
    let mut runs = 0;
    database.transact(|transaction| {
        runs += 1;
        if runs == 1 {
            transaction.tree("other")?;
            database.drop_tree("t")?;
        }
        let tree = transaction.tree("t")?;
        transaction.insert(&tree, "key", "value")
    })?;
    assert_eq!(runs, 2);
    assert!(database.tree("t")?.contains_key("key")?);
    assert_clean(&database)
}

#[test]
fn transactions_that_only_read_go_on_in_a_poisoned_database() -> Result<()> {
    let disk = SimDisk::new();
    let database = open(&disk);
    let tree = database.tree("t")?;
    tree.insert("key", "durable")?;
    let fault = Fault::new(FaultEffect::Errno(EIO)).kind(OperationKind::WriteSync);
    disk.add_fault(fault.path(|path| path.starts_with("/db/wal")));
    let failed = tree.insert("key", "lost");
    assert!(matches!(failed, Err(Error::CommitUnknown { .. })), "{failed:?}");
    assert_eq!(tree.get("key")?.as_deref(), Some(&b"durable"[..]));
    let read = database.transact(|transaction| transaction.get(&tree, "key"))?;
    assert_eq!(read.as_deref(), Some(&b"durable"[..]));
    Ok(())
}

#[test]
fn pairs_shown_to_a_closure_that_panics_were_read() -> Result<()> {
    let database = open(&SimDisk::new());
    let tree = database.tree("t")?;
    tree.insert("seen", "before")?;
    let mut reader = database.begin()?;
    let scanned = catch_unwind(AssertUnwindSafe(|| {
        reader.scan(&tree, .., |_, _| -> ControlFlow<()> { panic!("of the user's") })
    }));
    assert!(scanned.is_err());
    tree.insert("seen", "after")?;
    reader.insert(&tree, "other", "rests on what was seen")?;
    let committed = reader.commit();
    assert!(matches!(committed, Err(Error::Conflict)), "{committed:?}");
    Ok(())
}

#[test]
fn a_removal_that_a_transaction_took_back_was_a_read_all_the_same() -> Result<()> {
    for bulk_budget_bytes in [0, 1 << 30] {
        let options = Options::new().disk_injected(Arc::new(SimDisk::new()));
        let options = options.manual_background(true).bulk_budget_bytes(bulk_budget_bytes);
        let database = options.open("/db")?;
        let tree = database.tree("t")?;
        tree.insert("taken", "value")?;
        let mut first = database.begin()?;
        first.insert(&tree, "before", "value")?;
        let savepoint = first.savepoint();
        assert!(first.remove(&tree, "taken")?);
        first.rollback_to(&savepoint)?;
        first.insert(&tree, "missing", "value")?;
        // Neither can have come first: each has seen what the other takes away or brings.
        let mut second = database.begin()?;
        assert_eq!(second.get(&tree, "missing")?, None);
        let second = second.remove(&tree, "taken").and_then(|_| second.commit());
        let both = second.and_then(|_| first.commit());
        assert!(matches!(both, Err(Error::Conflict)), "{bulk_budget_bytes}: {both:?}");
    }
    Ok(())
}

#[test]
fn no_key_lies_below_the_empty_one() -> Result<()> {
    let database = open(&SimDisk::new());
    let tree = database.tree("t")?;
    tree.insert("key", "value")?;
    let transaction = database.begin()?;
    for mut range in [
        tree.range(.."")?,
        database.snapshot()?.range(&tree, .."")?,
        transaction.range(&tree, .."")?,
    ] {
        assert!(range.next_back().is_none());
        assert!(range.next().is_none());
    }
    Ok(())
}
