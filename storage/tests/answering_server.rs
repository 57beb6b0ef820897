//! What a server needs that holds its replies back itself: relaxed commits that readers see at once,
//! and a way to wait for one of them to be durable.
#![cfg(not(loom))]

use std::sync::Arc;

use seawall::{Database, Error, Lsn, Options, Result};
use seawall_wal::disk::SimDisk;

fn open(disk: &SimDisk) -> Result<Database> {
    let injected = Arc::new(disk.clone());
    Options::new().disk_injected(injected).manual_background(true).cache_bytes(2 << 20).open("/db")
}

#[test]
fn a_visible_insert_is_read_at_once_and_durable_only_when_waited_for() -> Result<()> {
    let disk = SimDisk::new();
    let database = open(&disk)?;
    let tree = database.tree("t")?;
    let lsn = tree.insert_visible("key", "value")?;
    assert_eq!(tree.get("key")?.as_deref(), Some(&b"value"[..]));
    assert!(database.durable_lsn() < lsn, "nobody has asked for a flush");
    assert!(lsn <= database.logged_lsn());
    database.durable_async(lsn)?.wait()?;
    assert!(lsn <= database.durable_lsn());
    database.close()
}

#[test]
fn a_visible_removal_tells_its_commit_and_an_absent_key_none() -> Result<()> {
    let disk = SimDisk::new();
    let database = open(&disk)?;
    let tree = database.tree("t")?;
    let put = tree.insert_visible("key", "value")?;
    let removed = tree.remove_visible("key")?;
    assert!(removed.is_some_and(|lsn| lsn > put), "{removed:?}");
    assert_eq!(tree.get("key")?, None);
    assert_eq!(tree.remove_visible("key")?, None);
    database.close()
}

#[test]
fn nobody_waits_for_a_commit_that_has_not_happened() -> Result<()> {
    let disk = SimDisk::new();
    let database = open(&disk)?;
    let beyond = Lsn::new(database.logged_lsn().get() + 1);
    assert!(matches!(database.durable_async(beyond), Err(Error::InvalidArgument(_))));
    database.clone().close()?;
    assert!(matches!(database.durable_async(Lsn::default()), Err(Error::Closed)));
    Ok(())
}
