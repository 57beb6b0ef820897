//! A tree is dropped and taken apart between the look whether it is there and the registration of its
//! reader, which the build with planted bugs can be stopped at.

#![cfg(seawall_planted)]
#![expect(clippy::unwrap_used, reason = "a test ends where it fails")]

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use seawall::planted::{Point, at_points};
use seawall::{Database, Durability, Error, Options, Result, Tree};
use seawall_wal::codec::to_usize;
use seawall_wal::disk::SimDisk;

const KEYS: u32 = 400;

fn with_tree(disk: &SimDisk) -> Result<(Database, Tree)> {
    let options = Options::new().disk_injected(Arc::new(disk.clone())).manual_background(true);
    let database = options.page_bytes(4096).open("/db")?;
    let tree = database.tree("t")?;
    for i in 0..KEYS {
        tree.insert_with(i.to_be_bytes(), [b'v'; 200], Durability::Relaxed)?;
    }
    tree.insert("large", vec![7; 20_000])?;
    Ok((database, tree))
}

/// When this thread registers a reader next, another one drops the tree, has it taken apart, and
/// gives its pages to another tree, or not.
fn drop_at_registration(database: &Database, steps: usize, is_reused: bool) {
    let database = database.clone();
    let is_done = Cell::new(false);
    at_points(Some(Rc::new(move |point| {
        if point != Point::RegisteringSnapshot || is_done.replace(true) {
            return;
        }
        let database = database.clone();
        let other = std::thread::spawn(move || -> Result<()> {
            assert!(database.drop_tree("t")?);
            for _ in 0..steps {
                if !seawall::testing::collect_step(&database)? {
                    break;
                }
            }
            if is_reused {
                let other = database.tree("other")?;
                for i in 0..4000_u32 {
                    other.insert_with(i.to_be_bytes(), [b'o'; 200], Durability::Relaxed)?;
                }
            }
            Ok(())
        });
        other.join().unwrap().unwrap();
    })));
}

fn check(what: &str, found: Result<usize>, whole: usize) {
    at_points(None);
    match found {
        Err(Error::NotFound { .. }) => {}
        Ok(count) if count == whole => {}
        other => panic!("{what}: neither gone nor whole: {other:?}"),
    }
}

fn scan(steps: usize, is_reused: bool) -> Result<()> {
    let (database, tree) = with_tree(&SimDisk::new())?;
    drop_at_registration(&database, steps, is_reused);
    let found = tree.range(..).and_then(|range| {
        let keys: Result<Vec<_>> = range.collect();
        keys.map(|keys| keys.len())
    });
    check("range", found, to_usize(u64::from(KEYS)) + 1);
    Ok(())
}

#[test]
fn a_range_of_a_tree_that_is_half_taken_apart_ends() -> Result<()> {
    scan(12, false)
}

#[test]
fn a_range_of_a_tree_that_was_taken_apart_finds_no_tree() -> Result<()> {
    scan(usize::MAX, false)
}

#[test]
fn a_range_of_a_tree_whose_pages_are_others_finds_no_tree() -> Result<()> {
    scan(usize::MAX, true)
}

#[test]
fn a_large_value_of_a_tree_whose_pages_are_others_is_not_found() -> Result<()> {
    let (database, tree) = with_tree(&SimDisk::new())?;
    drop_at_registration(&database, usize::MAX, true);
    let found = tree.get("large").map(|value| value.map_or(0, |value| value.len()));
    check("get", found, 20_000);
    Ok(())
}

#[test]
fn a_transaction_that_reads_a_tree_whose_pages_are_others_finds_no_tree() -> Result<()> {
    let (database, tree) = with_tree(&SimDisk::new())?;
    let transaction = database.begin()?;
    drop_at_registration(&database, usize::MAX, true);
    let found = transaction.contains_key(&tree, 7_u32.to_be_bytes()).map(usize::from);
    check("transaction", found, 1);
    Ok(())
}
