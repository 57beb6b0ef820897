//! Reads that fail once, in the middle of what must not be left half done.

use std::sync::Arc;

use seawall::{Database, Error, Options, Result, Tree};
use seawall_wal::disk::SimDisk;
use seawall_wal::disk::sim::{EIO, Fault, FaultEffect, OperationKind};

fn open(disk: &SimDisk) -> Result<Database> {
    Options::new()
        .disk_injected(Arc::new(disk.clone()))
        .manual_background(true)
        .unchecked_limits()
        .cache_bytes(256 << 10)
        .page_bytes(4096)
        .max_wal_bytes(4 << 20)
        .open("/db")
}

/// Has what was written before go to disk, log and page.
fn push_out(tree: &Tree) -> Result<()> {
    (0..400_u32).try_for_each(|number| tree.insert(number.to_be_bytes(), [7; 900]))
}

#[test]
fn a_rollback_that_cannot_read_leaves_no_keys_locked_in_a_database_that_looks_healthy() -> Result<()>
{
    let disk = SimDisk::new();
    let database = open(&disk)?;
    let tree = database.tree("t")?;
    tree.insert("key", "before")?;
    let mut transaction = database.begin()?;
    transaction.insert(&tree, "key", "after")?;
    push_out(&tree)?;
    disk.add_fault(Fault::new(FaultEffect::Errno(EIO)).kind(OperationKind::Read));
    assert!(matches!(transaction.rollback(), Err(Error::Io { .. })));
    let again = tree.insert("key", "later");
    assert!(matches!(again, Err(Error::Poisoned { .. })), "{again:?}");
    drop((tree, database));
    let tree = open(&disk)?.tree("t")?;
    assert_eq!(tree.get("key")?.as_deref(), Some(&b"before"[..]));
    tree.insert("key", "later")
}

#[test]
fn a_rollback_to_a_savepoint_that_cannot_read_can_be_repeated() -> Result<()> {
    // Before all that push it out.
    const KEY: &str = "\0";
    let disk = SimDisk::new();
    let database = open(&disk)?;
    let tree = database.tree("t")?;
    tree.insert(KEY, "before")?;
    let mut transaction = database.begin()?;
    let savepoint = transaction.savepoint();
    transaction.insert(&tree, KEY, "after")?;
    push_out(&tree)?;
    let fault = Fault::new(FaultEffect::Errno(EIO)).kind(OperationKind::Read);
    let fault = fault.path(|path| path.ends_with("pages"));
    for _ in 0..3 {
        disk.add_fault(fault.clone());
        let undone = transaction.rollback_to(&savepoint);
        assert!(matches!(undone, Err(Error::Io { .. })), "{undone:?}");
    }
    transaction.rollback_to(&savepoint)?;
    transaction.rollback()?;
    assert_eq!(tree.get(KEY)?.as_deref(), Some(&b"before"[..]));
    tree.insert(KEY, "later")
}
