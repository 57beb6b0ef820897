//! Reads and writes that race with the drop of their tree.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use seawall::{Database, Durability, Error, Options, Result, Transaction, Tree};
use seawall_wal::disk::SimDisk;
use seawall_wal::disk::sim::{CrashPlan, OperationKind};

fn expected(result: Result<bool>) {
    match result {
        Ok(_) | Err(Error::NotFound { .. }) => {}
        Err(error) => panic!("{error}"),
    }
}

/// Reads and writes whatever is in the tree until it is gone.
fn use_up(tree: &Tree, number: u64) {
    for round in 0.. {
        let key = ((round * 7919 + number) % 300).to_be_bytes();
        let read = tree.contains_key(key);
        let is_gone = read.is_err();
        expected(read);
        expected(tree.insert_with(key, [1; 300], Durability::Relaxed).map(|()| true));
        let scanned = tree.scan(&key[..].., |_, _| std::ops::ControlFlow::Break(()));
        expected(scanned.map(|found| found.is_some()));
        if is_gone {
            return;
        }
    }
}

#[test]
fn whoever_uses_a_tree_that_is_dropped_is_told_that_it_is_gone() -> Result<()> {
    let folder = tempfile::tempdir().unwrap();
    let database = Options::new()
        .cache_bytes(2 << 20)
        .durability(Durability::Relaxed)
        .open(folder.path().join("db"))?;
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| -> Result<()> {
        // Takes the pages that dropped trees give back.
        let other = database.tree("other")?;
        let is_over = &is_over;
        scope.spawn(move || {
            for number in 0_u64.. {
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
                other.insert(number.to_be_bytes(), [2; 500]).unwrap();
            }
        });
        let until = Instant::now() + Duration::from_secs(3);
        let mut rounds = 0;
        while Instant::now() < until || rounds < 5 {
            let tree = database.tree("t")?;
            for number in 0..300_u64 {
                tree.insert(number.to_be_bytes(), [0; 300])?;
            }
            let users: Vec<_> = (0..3)
                .map(|number| {
                    let tree = tree.clone();
                    scope.spawn(move || use_up(&tree, number))
                })
                .collect();
            assert!(database.drop_tree("t")? || rounds > 0);
            for user in users {
                user.join().unwrap();
            }
            rounds += 1;
        }
        is_over.store(true, Ordering::Relaxed);
        Ok(())
    })?;
    let report = database.verify(|_| {})?;
    assert!(report.findings.is_empty(), "{report}");
    database.close()
}

fn open(disk: &SimDisk) -> Result<Database> {
    let options = Options::new().disk_injected(Arc::new(disk.clone())).manual_background(true);
    options.page_bytes(4096).open("/db")
}

/// Runs `act` with a tree that another thread drops when the page file is written to next.
fn with_dropped<T>(
    disk: &SimDisk,
    act: impl FnOnce(&Database, &Tree) -> Result<T>,
) -> Result<(Database, T)> {
    let database = open(disk)?;
    let tree = database.tree("t")?;
    for number in 0..20_u32 {
        tree.insert(number.to_be_bytes(), [1; 200])?;
    }
    let (is_done, dropper) = (AtomicBool::new(false), database.clone());
    disk.set_monitor(Arc::new(move |operation| {
        let is_it = operation.kind == OperationKind::Write && operation.path.ends_with("pages");
        if is_it && !is_done.swap(true, Ordering::SeqCst) {
            let database = dropper.clone();
            let dropped = thread::spawn(move || database.drop_tree("t")).join();
            assert!(matches!(dropped, Ok(Ok(true))), "nobody holds it");
        }
    }));
    let done = act(&database, &tree);
    disk.set_monitor(Arc::new(|_| {}));
    Ok((database, done?))
}

/// A transaction whose large value came too late.
fn refused(database: &Database, tree: &Tree) -> Result<Transaction> {
    let mut transaction = database.begin()?;
    let inserted = transaction.insert(tree, "large", vec![7; 4 << 20]);
    assert!(matches!(inserted, Err(Error::NotFound { .. })), "{inserted:?}");
    Ok(transaction)
}

#[test]
fn a_large_value_is_refused_by_a_tree_that_was_dropped_meanwhile() -> Result<()> {
    let insert = |_: &Database, tree: &Tree| Ok(tree.insert("large", vec![7; 4 << 20]));
    let (_database, inserted) = with_dropped(&SimDisk::new(), insert)?;
    assert!(matches!(inserted, Err(Error::NotFound { .. })), "{inserted:?}");
    Ok(())
}

#[test]
fn a_transaction_that_met_a_drop_rolls_back_and_poisons_nothing() -> Result<()> {
    let (database, transaction) = with_dropped(&SimDisk::new(), refused)?;
    while seawall::testing::collect_step(&database)? {}
    transaction.rollback()?;
    database.tree("other").map(drop)
}

#[test]
fn a_transaction_that_met_a_drop_is_undone_by_recovery() -> Result<()> {
    let disk = SimDisk::new();
    let (database, transaction) = with_dropped(&disk, refused)?;
    while seawall::testing::collect_step(&database)? {}
    database.sync()?;
    let opened = open(&disk.crash(CrashPlan::NothingUnsynced))?;
    let report = opened.verify(|_| {})?;
    assert!(report.findings.is_empty(), "{report}");
    drop(transaction);
    Ok(())
}
