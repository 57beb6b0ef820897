//! A full disk: what is asked for fails with `NoSpace`, nothing is lost, reads and rollback go on, and
//! writes go on once there is space again, without reopening (invariants W2, T2).

use std::sync::Arc;

use seawall::{Database, Durability, Error, Options, Result};
use seawall_wal::disk::SimDisk;

const MIB: u64 = 1 << 20;

fn open(disk: &SimDisk) -> Result<Database> {
    options(disk).open("/db")
}

fn options(disk: &SimDisk) -> Options {
    Options::new()
        .disk_injected(Arc::new(disk.clone()))
        .manual_background(true)
        .unchecked_limits()
        .cache_bytes(512 << 10)
        .max_wal_bytes(8 * MIB)
        .segment_bytes(512 << 10)
        .page_bytes(4096)
}

fn key(i: u32) -> [u8; 4] {
    i.wrapping_mul(0x9e37_79b9).to_be_bytes()
}

/// Fills the disk by inserts until one fails; returns how many did not.
fn insert_until_full(tree: &seawall::Tree, durability: Durability) -> (u32, Error) {
    for i in 0.. {
        if let Err(error) = tree.insert_with(key(i), [b'v'; 200], durability) {
            return (i, error);
        }
    }
    unreachable!("the disk has a capacity")
}

fn check(tree: &seawall::Tree, count: u32) -> Result<()> {
    for i in 0..count {
        assert!(tree.get(key(i))?.is_some(), "insert {i} was acknowledged");
    }
    Ok(())
}

#[test]
fn a_full_disk_stops_writes_and_nothing_else_and_they_go_on_when_it_has_space() -> Result<()> {
    for durability in [Durability::Sync, Durability::Relaxed] {
        let disk = SimDisk::new();
        let database = open(&disk)?;
        let tree = database.tree("t")?;
        disk.set_capacity(Some(disk.used_bytes() + 6 * MIB));
        let (count, error) = insert_until_full(&tree, durability);
        assert!(matches!(error, Error::NoSpace { .. }), "{error:?}");
        assert!(count > 1000, "{count}");
        check(&tree, count)?;
        assert!(tree.range(..)?.count() >= count as usize);

        disk.set_capacity(None);
        for i in count..count + 2000 {
            tree.insert_with(key(i), [b'v'; 200], durability)?;
        }
        check(&tree, count + 2000)?;
        assert_eq!(tree.len()?, u64::from(count + 2000));
        database.close()?;
        let database = open(&disk)?;
        check(&database.tree("t")?, count + 2000)?;
        assert!(database.verify(|_| {})?.findings.is_empty());
    }
    Ok(())
}

#[test]
fn a_transaction_can_be_rolled_back_on_a_full_disk() -> Result<()> {
    let disk = SimDisk::new();
    let database = open(&disk)?;
    let tree = database.tree("t")?;
    for i in 0..500 {
        tree.insert_with(key(i), [b'a'; 200], Durability::Relaxed)?;
    }
    disk.set_capacity(Some(disk.used_bytes() + 2 * MIB));
    let mut transaction = database.begin()?;
    let filled = (0..).try_for_each(|i| transaction.insert(&tree, key(i), [b'b'; 300]));
    assert!(matches!(filled, Err(Error::NoSpace { .. })), "{filled:?}");
    transaction.rollback()?;
    assert_eq!(tree.len()?, 500);
    assert_eq!(tree.get(key(7))?.unwrap(), [b'a'; 200]);
    disk.set_capacity(None);
    tree.insert("after", "more")?;
    assert!(database.verify(|_| {})?.findings.is_empty());
    Ok(())
}

#[test]
fn the_threads_of_the_database_outlive_a_full_disk() -> Result<()> {
    for room in [MIB, 2 * MIB, 3 * MIB] {
        let disk = SimDisk::new();
        let (sender, poisoned) = std::sync::mpsc::channel();
        let options = options(&disk).manual_background(false).on_event(move |event| {
            if let seawall::Event::Poisoned { error } = event {
                // Nobody listens any more once the test is over.
                drop(sender.send(error.clone()));
            }
        });
        let database = options.open("/db")?;
        let tree = database.tree("t")?;
        for i in 0..500 {
            tree.insert_with(key(i), [b'a'; 200], Durability::Relaxed)?;
        }
        disk.set_capacity(Some(disk.used_bytes() + room));
        let mut transaction = database.begin()?;
        let filled = (0..).try_for_each(|i| transaction.insert(&tree, key(i), [b'b'; 300]));
        assert!(matches!(filled, Err(Error::NoSpace { .. })), "{filled:?}");
        transaction.rollback()?;
        assert_eq!(tree.len()?, 500);
        let poisoned = poisoned.recv_timeout(std::time::Duration::from_secs(1));
        assert!(poisoned.is_err(), "{room}: {poisoned:?}");
        disk.set_capacity(None);
        for i in 500..1500 {
            tree.insert_with(key(i), [b'a'; 200], Durability::Relaxed)?;
        }
        tree.insert("after", "more")?;
        assert!(database.verify(|_| {})?.findings.is_empty());
    }
    Ok(())
}
