//! What undo reads of the log: each part of it about once, though it goes back record by record.

#![expect(clippy::unwrap_used, reason = "a test ends where it fails")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use seawall::{Database, Durability, Event, Options, RecoveryPhase, testing};
use seawall_wal::codec::to_u64;
use seawall_wal::disk::SimDisk;
use seawall_wal::disk::sim::{OperationKind, SimOperation};

const INSERTS: u32 = 24_000;

fn options(disk: &SimDisk) -> Options {
    Options::new()
        .disk_injected(Arc::new(disk.clone()))
        .manual_background(true)
        .page_bytes(4096)
        .segment_bytes(64 << 20)
}

/// Bytes read of the log's files from now on, while `is_counted`.
fn count_reads(disk: &SimDisk, is_counted: Arc<AtomicBool>) -> Arc<AtomicU64> {
    let bytes = Arc::new(AtomicU64::new(0));
    disk.set_monitor(Arc::new({
        let bytes = Arc::clone(&bytes);
        move |operation: &SimOperation<'_>| {
            let is_log = operation.path.extension().is_some_and(|extension| extension == "wal");
            if is_log && operation.kind == OperationKind::Read && is_counted.load(Ordering::SeqCst)
            {
                bytes.fetch_add(to_u64(operation.length), Ordering::SeqCst);
            }
        }
    }));
    bytes
}

/// A transaction that has written some megabytes of log, all of it in the files. Gives the bytes.
fn write_much(database: &Database, transaction: &mut seawall::Transaction) -> u64 {
    let tree = database.tree("t").unwrap();
    let start = database.stats().end_lsn;
    for number in 0..INSERTS {
        transaction.insert(&tree, number.to_be_bytes(), [7; 700]).unwrap();
    }
    database.tree("other").unwrap().insert_with("key", "value", Durability::Sync).unwrap();
    testing::flush_step(database).unwrap();
    database.stats().end_lsn.since(start)
}

#[test]
fn a_rollback_reads_the_log_once() {
    let disk = SimDisk::new();
    let database = options(&disk).open("/db").unwrap();
    let mut transaction = database.begin().unwrap();
    let log_bytes = write_much(&database, &mut transaction);
    let read = count_reads(&disk, Arc::new(AtomicBool::new(true)));
    transaction.rollback().unwrap();
    let read = read.load(Ordering::SeqCst);
    assert!(read < 2 * log_bytes, "{read} bytes read of {log_bytes}");
    assert_eq!(database.tree("t").unwrap().len().unwrap(), 0);
}

#[test]
fn recovery_reads_the_log_twice_to_undo_it() {
    let disk = SimDisk::new();
    let database = options(&disk).open("/db").unwrap();
    let mut transaction = database.begin().unwrap();
    let log_bytes = write_much(&database, &mut transaction);
    let killed = disk.fork();
    drop(transaction);
    testing::abandon(database);
    let is_undoing = Arc::new(AtomicBool::new(false));
    let read = count_reads(&killed, Arc::clone(&is_undoing));
    let note = move |event: &Event| {
        if let Event::RecoveryProgress { phase, .. } = event {
            is_undoing.store(*phase == RecoveryPhase::Undo, Ordering::SeqCst);
        }
    };
    let database = options(&killed).on_event(note).open("/db").unwrap();
    let read = read.load(Ordering::SeqCst);
    assert!(read > log_bytes / 4, "the log was not read to undo it");
    // Once to find its way in each file, and once back.
    assert!(read < log_bytes / 2 * 5, "{read} bytes read of {log_bytes}");
    assert_eq!(database.tree("t").unwrap().len().unwrap(), 0);
}
