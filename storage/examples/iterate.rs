//! Iteration: ranges, prefixes, both directions, and a snapshot that does not move.

#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::ops::ControlFlow;

use seawall::{Database, Result};

fn main() -> Result<()> {
    let parent = tempfile::tempdir().expect("a temporary directory");
    let database = Database::open(parent.path().join("db"))?;
    let log = database.tree("log")?;
    for day in 1..=28 {
        log.insert(format!("2026-02-{day:02}"), format!("entry of day {day}"))?;
    }

    println!("the last three entries:");
    for pair in log.range(..)?.rev().take(3) {
        let (key, value) = pair?;
        println!("  {}: {}", String::from_utf8_lossy(&key), String::from_utf8_lossy(&value));
    }

    let teens = log.prefix("2026-02-1")?.count();
    assert_eq!(teens, 10);

    // A snapshot sees one moment, whatever happens meanwhile.
    let snapshot = database.snapshot()?;
    log.remove("2026-02-01")?;
    assert_eq!((snapshot.len(&log)?, log.len()?), (28, 27));

    // `scan` borrows each pair and stops when told to.
    let found = log.scan("2026-02-10".."2026-02-20", |key, value| {
        if value.ends_with(b"15") {
            ControlFlow::Break(key.to_vec())
        } else {
            ControlFlow::Continue(())
        }
    })?;
    assert_eq!(found.as_deref(), Some(&b"2026-02-15"[..]));
    println!("the first of the entries that end in 15 is of 2026-02-15");
    database.close()
}
