//! Reads and writes that race with the drop of their tree.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use seawall::{Durability, Error, Options, Result, Tree};

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
