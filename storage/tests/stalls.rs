//! What writers wait for, and what is told of it.

use std::sync::{Arc, Mutex};

use seawall::{Durability, Event, Options, Result, StallReason};
use seawall_wal::disk::SimDisk;

type Told = Arc<Mutex<Vec<Event>>>;

fn options(cache_bytes: u64) -> (Options, Told) {
    let told = Told::default();
    let noted = Arc::clone(&told);
    let options = Options::new()
        .disk_injected(Arc::new(SimDisk::new()))
        .manual_background(true)
        .unchecked_limits()
        .page_bytes(4096)
        .cache_bytes(cache_bytes)
        .on_event(move |event| {
            noted.lock().expect("nothing panics under the lock").push(event.clone())
        });
    (options, told)
}

/// Stalls for want of a clean page that began and ended.
fn stalls(told: &Told) -> (usize, usize) {
    const REASON: StallReason = StallReason::NoCleanFrame;
    let told = told.lock().expect("nothing panics under the lock");
    let count = |is: fn(&Event) -> bool| told.iter().filter(|event| is(event)).count();
    (
        count(|event| matches!(event, Event::StallBegin { reason: REASON })),
        count(|event| matches!(event, Event::StallEnd { reason: REASON, .. })),
    )
}

fn key(number: u32) -> [u8; 4] {
    number.wrapping_mul(0x9e37_79b9).to_be_bytes()
}

#[test]
fn there_are_never_more_dirty_pages_than_there_may_be() -> Result<()> {
    let (options, told) = options(8 << 20);
    let database = options.dirty_pages_max(500).open("/db")?;
    let tree = database.tree("t")?;
    for number in 0..3000 {
        tree.insert_with(key(number), [0; 1500], Durability::Relaxed)?;
        // A write that was let pass may touch a few pages.
        let dirty_pages = database.stats().dirty_pages;
        assert!(dirty_pages < 500 + 10, "{dirty_pages}");
    }
    let (begun, ended) = stalls(&told);
    assert!(begun > 0 && begun == ended, "{begun} {ended}");
    database.close()
}

#[test]
fn who_finds_no_clean_frame_tells_of_it() -> Result<()> {
    let (options, told) = options(1 << 20);
    let database = options.open("/db")?;
    let tree = database.tree("t")?;
    for number in 0..2000 {
        tree.insert_with(key(number), [0; 1500], Durability::Relaxed)?;
    }
    let (begun, ended) = stalls(&told);
    assert!(begun > 0 && begun == ended, "{begun} {ended}");
    assert!(database.stats().stalls >= u64::try_from(begun).unwrap());
    database.close()
}
