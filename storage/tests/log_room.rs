//! The room of the log, where undo files find none on the disk: with the background threads that a
//! database has, nobody waits for ever, and every transaction that must end is told.

#![expect(clippy::unwrap_used, reason = "what fails, fails the test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use seawall::Durability::Relaxed;
use seawall::{Error, Event, Options, StallReason, testing};
use seawall_wal::disk::SimDisk;

/// Nothing here takes a tenth of this.
const AT_MOST: Duration = Duration::from_secs(60);

fn options(disk: &SimDisk) -> Options {
    Options::new()
        .disk_injected(Arc::new(disk.clone()))
        .unchecked_limits()
        .cache_bytes(256 << 10)
        .max_wal_bytes(4 << 20)
        .segment_bytes(256 << 10)
        .page_bytes(4096)
}

fn key(i: u32) -> [u8; 4] {
    i.wrapping_mul(0x9e37_79b9).to_be_bytes()
}

/// Runs `act` on a thread of its own, and fails when it does not end.
fn in_time(act: impl FnOnce() + Send + 'static) {
    let (done, ended) = channel();
    let thread = thread::spawn(move || {
        act();
        done.send(()).unwrap();
    });
    if let Err(std::sync::mpsc::RecvTimeoutError::Timeout) = ended.recv_timeout(AT_MOST) {
        panic!("it waits for ever");
    }
    thread.join().unwrap();
}

#[test]
fn a_transaction_that_is_spilled_in_part_is_rolled_back_while_others_wait_for_the_log() {
    in_time(|| {
        let disk = SimDisk::new();
        let database = options(&disk).held_log_bytes(0).open("/db").unwrap();
        let tree = database.tree("t").unwrap();
        let mut old = database.begin().unwrap();
        for i in 0..1500 {
            old.insert(&tree, key(i), [b'o'; 900]).unwrap();
        }
        drop(old.savepoint());
        database.checkpoint().unwrap();
        assert!(database.stats().undo_bytes > 1 << 20, "its first part is in a file");
        testing::refuse_undo_files(&disk);
        old.insert(&tree, "newest", "its undo stays in the log").unwrap();
        thread::scope(|scope| {
            for writer in 0..3 {
                let tree = &tree;
                scope.spawn(move || {
                    for i in 0..4000 {
                        tree.insert_with(key(10_000 * (writer + 1) + i), [b'n'; 900], Relaxed)
                            .unwrap();
                    }
                });
            }
        });
        let outcome = old.insert(&tree, "more", "");
        assert!(matches!(outcome, Err(Error::TransactionTooOld)), "{outcome:?}");
        database.close().unwrap();
        let database = options(&disk).open("/db").unwrap();
        assert_eq!(database.tree("t").unwrap().range(..).unwrap().count(), 12_000);
    });
}

/// Fills the log while a transaction has freed `values` large values and waits to commit. Returns the
/// outcome of that, and after how many inserts the log was full; `inserts` are made before it.
fn commit_at_a_full_log(values: u32, inserts: Option<u32>) -> (seawall::Result<()>, u32) {
    let disk = SimDisk::new();
    testing::refuse_undo_files(&disk);
    let full = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&full);
    let tell = move |event: &Event| {
        if matches!(event, Event::StallBegin { reason: StallReason::WalBound }) {
            seen.store(true, Ordering::SeqCst);
        }
    };
    let options = options(&disk).manual_background(true).on_event(tell);
    let database = options.open("/db").unwrap();
    let tree = database.tree("t").unwrap();
    for i in 0..values {
        tree.insert_with(key(i), [b'l'; 1500], Relaxed).unwrap();
    }
    database.checkpoint().unwrap();
    let mut old = database.begin().unwrap();
    for i in 0..values {
        old.insert(&tree, key(i), "short").unwrap();
    }
    drop(old.savepoint());
    full.store(false, Ordering::SeqCst);
    let mut made = 0;
    while inserts.map_or_else(|| !full.load(Ordering::SeqCst), |inserts| made < inserts) {
        tree.insert_with(key(1_000_000 + made), [b'n'; 900], Relaxed).unwrap();
        made += 1;
    }
    let outcome = old.commit().map(drop);
    assert_eq!(tree.range(..).unwrap().count(), (values + made) as usize);
    let is_kept = outcome.is_err();
    for i in (0..values).step_by(100) {
        let length = tree.get(key(i)).unwrap().unwrap().len();
        assert_eq!(length == 1500, is_kept, "{length} bytes after {outcome:?}");
    }
    for i in 0..4000 {
        tree.insert_with(key(2_000_000 + i), [b'n'; 900], Relaxed).unwrap();
    }
    assert!(database.verify(|_| {}).unwrap().findings.is_empty());
    (outcome, made)
}

#[test]
fn a_commit_that_frees_many_values_is_told_when_it_waits_for_the_log_that_it_holds_itself() {
    in_time(|| {
        let (outcome, full) = commit_at_a_full_log(2500, None);
        assert!(matches!(outcome, Err(Error::TransactionTooOld)), "{outcome:?}");
        let (outcome, _) = commit_at_a_full_log(2500, Some(full - 2));
        assert!(matches!(outcome, Err(Error::TransactionTooOld)), "{outcome:?}");
        // It waits with the second of its records, or with the third, or not at all.
        for short_of in (20..36).step_by(3) {
            let (outcome, _) = commit_at_a_full_log(2500, Some(full - short_of));
            assert!(matches!(outcome, Ok(()) | Err(Error::TransactionTooOld)), "{outcome:?}");
        }
    });
}

/// What a kill leaves of a transaction that has filled the log, on a disk without room for undo files.
fn killed_at_a_full_log() -> SimDisk {
    let disk = SimDisk::new();
    testing::refuse_undo_files(&disk);
    let database = options(&disk).manual_background(true).open("/db").unwrap();
    let tree = database.tree("t").unwrap();
    tree.insert("before", "kept").unwrap();
    let mut huge = database.begin().unwrap();
    let filled = (0..).try_for_each(|i: u32| huge.insert(&tree, i.to_be_bytes(), [b'h'; 200]));
    assert!(matches!(filled, Err(Error::TransactionTooOld)), "{filled:?}");
    database.sync().unwrap();
    disk.fork()
}

fn check_recovered(disk: &SimDisk) {
    testing::refuse_undo_files(disk);
    let database = options(disk).manual_background(true).open("/db").unwrap();
    let tree = database.tree("t").unwrap();
    assert_eq!(tree.range(..).unwrap().count(), 1);
    for i in 0..4000 {
        tree.insert_with(key(i), [b'n'; 900], Relaxed).unwrap();
    }
    assert!(database.verify(|_| {}).unwrap().findings.is_empty());
}

#[test]
fn recovery_undoes_what_has_filled_the_log_without_room_for_undo_files() {
    check_recovered(&killed_at_a_full_log());
}

#[test]
fn recovery_may_be_killed_many_times_while_it_undoes_what_has_filled_the_log() {
    let mut disk = killed_at_a_full_log();
    for round in 0..20 {
        testing::refuse_undo_files(&disk);
        disk.record_forks_where(|number| number % 20 == 0);
        let opened = options(&disk).manual_background(true).open("/db");
        testing::abandon(opened.unwrap_or_else(|error| panic!("after {round} kills: {error:?}")));
        let forks = disk.take_forks();
        let killed = &forks[forks.len() * (round % 7 + 1) / 9];
        disk = killed.disk().fork();
    }
    check_recovered(&disk);
}
