//! An extent is freed while a checkpoint lists those that wait for that, which the build with planted bugs
//! can be stopped at.

#![cfg(seawall_planted)]
#![expect(clippy::unwrap_used, reason = "a test ends where it fails")]

use std::cell::Cell;
use std::rc::Rc;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use seawall::planted::{Point, at_points};
use seawall::{Database, Options, Result, testing};
use seawall_wal::disk::SimDisk;
use seawall_wal::disk::sim::CrashPlan;

/// How long the collector stays between the list and its record, unless the checkpoint ends before.
const PAUSE: Duration = Duration::from_millis(500);
/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

fn open(disk: &SimDisk) -> Result<Database> {
    let options = Options::new().disk_injected(Arc::new(disk.clone())).manual_background(true);
    options.page_bytes(4096).open("/db")
}

#[test]
fn an_extent_that_no_checkpoint_lists_any_more_is_freed_whenever_the_power_fails() -> Result<()> {
    let disk = SimDisk::new();
    let database = open(&disk)?;
    let tree = database.tree("t")?;
    tree.insert("large", vec![7; 20_000])?;
    tree.remove("large")?;
    let (ended, has_ended) = mpsc::channel();
    let (freeing, is_freeing) = mpsc::channel();
    let collect = {
        let database = database.clone();
        move || -> Result<()> {
            let is_first = Cell::new(true);
            at_points(Some(Rc::new(move |point| {
                if point == Point::Freeing && is_first.replace(false) {
                    freeing.send(()).unwrap();
                    // A checkpoint that waits for the record does not end meanwhile.
                    has_ended.recv_timeout(PAUSE).ok();
                }
            })));
            while testing::collect_step(&database)? {}
            Ok(())
        }
    };
    let (collector, started) = (Cell::new(Some(collect)), Rc::new(Cell::new(None)));
    let handle = Rc::clone(&started);
    at_points(Some(Rc::new(move |point| {
        if point == Point::ListingFrees
            && let Some(collect) = collector.take()
        {
            handle.set(Some(thread::spawn(collect)));
            is_freeing.recv_timeout(LONG).unwrap();
        }
    })));
    testing::take_checkpoint(&database)?;
    at_points(None);
    let crashed = disk.crash(CrashPlan::NothingUnsynced);
    // It has gone on by itself where the checkpoint waited.
    ended.send(()).ok();
    started.take().expect("the checkpoint listed").join().unwrap()?;
    let database = open(&crashed)?;
    let findings = database.verify(|_| {})?.findings;
    assert!(findings.is_empty(), "{findings:?}");
    Ok(())
}
