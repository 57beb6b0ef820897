//! `max_wal_bytes` is kept to the byte, and by waiting: no writer fails for it.
#![expect(clippy::unwrap_used, reason = "a test ends where it fails")]

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use seawall::{Database, Durability, Event, Options, StallReason, Tree};
use seawall_tests::log_space::WatchedDisk;
use seawall_tests::random::Random;
use seawall_tests::ring::or_leave_out;
use seawall_wal::disk::{DiskKind, SimDisk, select};

const MIB: u64 = 1 << 20;

/// The stalls that were told, in order; `true` where one begins.
type Stalls = Arc<Mutex<Vec<(bool, StallReason)>>>;

fn noting(options: Options) -> (Options, Stalls) {
    let stalls = Stalls::default();
    let noted = Arc::clone(&stalls);
    let note = move |event: &Event| match event {
        Event::StallBegin { reason } => noted.lock().unwrap().push((true, *reason)),
        Event::StallEnd { reason, .. } => noted.lock().unwrap().push((false, *reason)),
        _ => {}
    };
    (options.on_event(note), stalls)
}

fn write(tree: &Tree, random: &mut Random, durability: Durability) {
    let mut value = [0; 1000];
    for chunk in value.chunks_mut(8) {
        chunk.copy_from_slice(&random.next().to_le_bytes());
    }
    let key = random.below(5000).to_be_bytes();
    tree.insert_with(key, value, durability).expect("a writer waits, and does not fail");
}

/// Nobody works in the background here, so each writer that meets the bound makes room himself.
#[test]
fn a_writer_at_the_logs_bound_waits_until_there_is_room_and_does_not_fail() {
    const BOUND: u64 = 4 * MIB;
    let disk = SimDisk::new();
    let watched = WatchedDisk::new(Arc::new(disk.clone()), Path::new("/db"));
    let watch = watched.watch();
    let options = Options::new()
        .disk_injected(Arc::new(watched))
        .manual_background(true)
        .unchecked_limits()
        .cache_bytes(8 * MIB)
        .max_wal_bytes(BOUND)
        .segment_bytes(256 << 10)
        .page_bytes(4096);
    let (options, stalls) = noting(options);
    let database = options.open("/db").unwrap();
    let tree = database.tree("t").unwrap();
    let mut random = Random::new(1);
    for durability in [Durability::Relaxed, Durability::Sync] {
        let before = database.stats();
        while database.stats().end_lsn.get() < before.end_lsn.get() + 3 * BOUND {
            write(&tree, &mut random, durability);
        }
        assert!(database.stats().stalls > before.stalls, "{durability:?}");
    }
    let stalls = stalls.lock().unwrap();
    // Nobody cleans pages in the background either, and whoever needs a frame says so.
    let of_wal = |(_, reason): &&(bool, StallReason)| *reason == StallReason::WalBound;
    let stalls: Vec<_> = stalls.iter().filter(of_wal).collect();
    assert!(stalls.len() >= 4, "{stalls:?}");
    for (index, stall) in stalls.iter().enumerate() {
        assert_eq!(stall.0, index % 2 == 0, "{stalls:?}");
    }
    assert!(watch.segments_named() > BOUND / (256 << 10), "{watch:?}");
    assert!(watch.most_bytes() <= BOUND, "{watch:?}");
    assert!(watch.most_bytes() > BOUND / 2, "the log was never near its bound: {watch:?}");
}

/// Writers at full speed until they were held back, and the log was written several times over.
fn hold_writers_back(kind: DiskKind) {
    const BOUND: u64 = 16 * MIB;
    const THREADS: u64 = 4;
    /// Log after which they should long have been held back.
    const LOG_BYTES_MAX: u64 = 64 * BOUND;
    let disk = match select(kind) {
        tried if kind == DiskKind::Uring => or_leave_out("writers on the ring disk", tried),
        tried => Some(tried.expect("this disk is there on every system")),
    };
    let Some(disk) = disk else { return };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let watched = WatchedDisk::new(Arc::clone(&disk), &path);
    let watch = watched.watch();
    let options =
        Options::new().disk_injected(Arc::new(watched)).cache_bytes(16 * MIB).max_wal_bytes(BOUND);
    let (options, stalls) = noting(options);
    let database = options.open(&path).unwrap();
    let tree = database.tree("t").unwrap();
    let start = database.stats().end_lsn.get();
    let acknowledged = AtomicU64::new(0);
    let is_enough = |database: &Database| {
        let log_bytes = database.stats().end_lsn.get() - start;
        assert!(log_bytes < LOG_BYTES_MAX, "nobody was held back");
        log_bytes > 3 * BOUND && stalls.lock().unwrap().iter().any(|(is_end, _)| !is_end)
    };
    thread::scope(|scope| {
        for seed in 1..=THREADS {
            let (database, tree, acknowledged) = (&database, &tree, &acknowledged);
            scope.spawn(move || {
                let mut random = Random::new(seed << 32);
                for number in 0_u64.. {
                    if number.is_multiple_of(64) && is_enough(database) {
                        break;
                    }
                    let is_durable = number.is_multiple_of(256);
                    let durability =
                        if is_durable { Durability::Sync } else { Durability::Relaxed };
                    write(tree, &mut random, durability);
                    acknowledged.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    watch.sample(&*disk).unwrap();
    assert!(watch.most_bytes() <= BOUND, "{watch:?}");
    assert!(!database.stats().stall_time.is_zero());
    assert_eq!(database.stats().commits, acknowledged.into_inner() + 1, "and the new tree");
    database.close().unwrap();
    watch.sample(&*disk).unwrap();
    assert!(watch.most_bytes() <= BOUND, "{watch:?}");
}

#[test]
fn writers_near_the_logs_bound_are_slowed_and_not_failed_on_the_blocking_disk() {
    hold_writers_back(DiskKind::Blocking);
}

#[test]
fn writers_near_the_logs_bound_are_slowed_and_not_failed_on_the_ring_disk() {
    hold_writers_back(DiskKind::Uring);
}
