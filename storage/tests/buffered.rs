//! A file system that takes no direct I/O. After a failed sync its page cache shows bytes that the
//! disk does not have, and the next sync calls that a success (measured on ext4 and XFS).

use std::sync::Arc;

use seawall::{Database, Durability, Options, Result};
use seawall_wal::disk::SimDisk;
use seawall_wal::disk::sim::{CrashPlan, EIO, Fault, FaultEffect, OperationKind};

fn open(disk: &SimDisk) -> Result<Database> {
    Options::new()
        .disk_injected(Arc::new(disk.clone()))
        .manual_background(true)
        .unchecked_limits()
        .cache_bytes(1 << 20)
        .max_wal_bytes(8 << 20)
        .segment_bytes(512 << 10)
        .page_bytes(4096)
        .open("/db")
}

/// Fills a database on a disk without direct I/O, lets the sync of a batch of pages fail, kills the
/// process, opens and closes the database, and cuts the power. `is_new`: the log still reaches back to
/// the creation of the pages.
fn lose_a_sync(is_new: bool) -> Result<()> {
    let disk = SimDisk::new();
    disk.set_direct(false);
    let database = open(&disk)?;
    let tree = database.tree("t")?;
    let fill = |value: u8| {
        (0..2000_u32)
            .try_for_each(|i| tree.insert_with(i.to_be_bytes(), [value; 100], Durability::Relaxed))
    };
    fill(b'a')?;
    if !is_new {
        database.checkpoint()?;
        fill(b'b')?;
    }
    database.sync()?;
    let of_pages = |path: &std::path::Path| path.ends_with("pages");
    let fault = Fault::new(FaultEffect::Errno(EIO)).kind(OperationKind::Sync).path(of_pages);
    disk.add_fault(fault.at(1));
    assert!(database.checkpoint().is_err());
    assert!(tree.insert("more", "").is_err(), "the database is poisoned");

    // The process ends, and the cache stays: the pages look as if they had been written.
    let killed = disk.fork();
    open(&killed)?.close()?;
    let cut = killed.crash(CrashPlan::NothingUnsynced);
    let database = open(&cut)?;
    let tree = database.tree("t")?;
    assert_eq!(tree.len()?, 2000);
    let newest = if is_new { b'a' } else { b'b' };
    for i in 0..2000_u32 {
        assert_eq!(tree.get(i.to_be_bytes())?.as_deref(), Some(&[newest; 100][..]));
    }
    let findings = database.verify(|_| {})?.findings;
    assert!(findings.is_empty(), "{findings:?}");
    Ok(())
}

/// Slots that a failed sync left in the page cache only are no images to count on: before a page is
/// overwritten by one, it is made durable.
#[test]
fn images_that_a_failed_sync_left_in_the_cache_only_are_durable_before_a_page_is_restored()
-> Result<()> {
    let disk = SimDisk::new();
    disk.set_direct(false);
    let database = open(&disk)?;
    let tree = database.tree("t")?;
    for value in [b'a', b'b'] {
        for i in 0..60_u32 {
            tree.insert_with(i.to_be_bytes(), [value; 100], Durability::Relaxed)?;
        }
        if value == b'a' {
            database.checkpoint()?;
        }
    }
    database.sync()?;
    let of_images = |path: &std::path::Path| path.ends_with("doublewrite");
    let fault = Fault::new(FaultEffect::Errno(EIO)).kind(OperationKind::WriteSync);
    disk.add_fault(fault.path(of_images));
    assert!(database.checkpoint().is_err());

    let killed = disk.fork();
    killed.record_forks();
    open(&killed)?;
    let forks = killed.take_forks();
    assert!(forks.len() > 10, "{}", forks.len());
    for fork in forks {
        for (plan, cut) in fork.disk().crash_states(0..4) {
            let what = || format!("{} {plan:?}", fork.describe());
            let database = open(&cut).unwrap_or_else(|error| panic!("{}: {error}", what()));
            let tree = database.tree("t")?;
            for i in 0..60_u32 {
                let value = tree.get(i.to_be_bytes())?;
                assert_eq!(value.as_deref(), Some(&[b'b'; 100][..]), "{}", what());
            }
        }
    }
    Ok(())
}

#[test]
fn recovery_writes_again_new_pages_that_a_failed_sync_left_in_the_cache_only() -> Result<()> {
    lose_a_sync(true)
}

#[test]
fn recovery_writes_again_old_pages_that_a_failed_sync_left_in_the_cache_only() -> Result<()> {
    lose_a_sync(false)
}
