//! Reads that fail once, in the middle of what must not be left half done.

use std::sync::Arc;

use seawall::{Database, Error, Options, Result};
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

#[test]
fn a_rollback_that_cannot_read_leaves_no_keys_locked_in_a_database_that_looks_healthy() -> Result<()>
{
    let disk = SimDisk::new();
    let database = open(&disk)?;
    let tree = database.tree("t")?;
    tree.insert("key", "before")?;
    let mut transaction = database.begin()?;
    transaction.insert(&tree, "key", "after")?;
    // What is to be undone goes to disk, log and page.
    for number in 0..400_u32 {
        tree.insert(number.to_be_bytes(), [7; 900])?;
    }
    disk.add_fault(Fault::new(FaultEffect::Errno(EIO)).kind(OperationKind::Read));
    assert!(matches!(transaction.rollback(), Err(Error::Io { .. })));
    let again = tree.insert("key", "later");
    assert!(matches!(again, Err(Error::Poisoned { .. })), "{again:?}");
    drop((tree, database));
    let tree = open(&disk)?.tree("t")?;
    assert_eq!(tree.get("key")?.as_deref(), Some(&b"before"[..]));
    tree.insert("key", "later")
}
