use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use seawall_wal::codec::{to_u64, to_usize};
use seawall_wal::disk::OpenMode;
use seawall_wal::disk::sim::{EIO, Fault, FaultEffect, OperationKind};
use seawall_wal::{Error, PageId};

use super::{LOAD_BATCH_MAX, Pool};
use crate::page::{PageLoad, PageRead, PageView};
use crate::writeback::rig::{PAGE_BYTES, Rig, open_pages, value_of};

fn page(number: u64) -> PageId {
    PageId::new(number)
}

/// A rig whose pages 1 to `pages - 1` are on disk with their number as value, and evicted.
fn filled(frames: usize, pages: u64) -> Rig {
    let rig = Rig::new(frames, pages, 4);
    for number in 1..pages {
        rig.put(number, number);
    }
    rig.clean();
    rig
}

#[test]
fn more_pages_than_frames_are_read_back_as_they_were_left() {
    let rig = filled(4, 40);
    for round in 1..4 {
        for number in 1..40 {
            let pin = rig.pool.pin(page(number)).unwrap();
            let mut latched = pin.exclusive();
            assert_eq!(value_of(latched.bytes()), Ok(number * round));
            rig.change(&mut latched, number * (round + 1));
        }
    }
    assert_eq!((rig.pool.frames(), rig.pool.table.resident_count()), (4, 4));
    let misses = rig.pool.stats().misses;
    assert!(misses >= 4 * 35, "{misses}");
}

#[test]
fn pinned_and_dirty_pages_stay_where_they_are() {
    let rig = filled(4, 40);
    let pinned = rig.pool.pin(page(1)).unwrap();
    let frame = pinned.frame();
    rig.put(2, 22);
    for number in 3..40 {
        rig.pool.pin(page(number)).unwrap();
    }
    assert_eq!(rig.pool.hint(page(1)), Some(frame));
    assert!(rig.pool.pin_resident(page(2)).is_some(), "a clean frame was there for the others");
    drop(pinned);
}

#[test]
fn a_cache_whose_every_page_is_pinned_says_so() {
    let rig = filled(2, 8);
    let _pins = [rig.pool.pin(page(1)).unwrap(), rig.pool.pin(page(2)).unwrap()];
    let refused = rig.pool.pin(page(3)).map(drop);
    let Err(Error::NoSpace { source, .. }) = refused else { panic!("{refused:?}") };
    assert!(source.to_string().ends_with("raise cache_bytes"), "{source}");
}

#[test]
fn a_page_asked_for_again_outlives_a_scan() {
    let rig = filled(8, 200);
    for _ in 0..4 {
        rig.pool.pin(page(1)).unwrap();
    }
    let first_misses = rig.pool.stats().misses;
    let mut misses = 0;
    for number in 2..200 {
        rig.pool.pin(page(number)).unwrap();
        misses += u64::from(rig.pool.hint(page(1)).is_none());
        if number % 4 == 0 {
            rig.pool.pin(page(1)).unwrap();
        }
    }
    assert_eq!(misses, 0);
    assert!(rig.pool.stats().misses - first_misses >= 190);
}

#[test]
fn a_damaged_or_unwritten_page_is_corruption_and_can_be_tried_again() {
    let rig = filled(4, 8);
    for number in 1..8 {
        rig.pool.pin(page(number)).unwrap();
    }
    // Page 1 has been evicted; any of its bits will do.
    assert!(rig.pool.hint(page(1)).is_none());
    let offset = to_u64(PAGE_BYTES) + 2000;
    rig.disk.flip_bit(Path::new("/pages"), offset, 5);
    for _ in 0..10 {
        assert!(matches!(rig.pool.pin(page(1)), Err(Error::Corrupt { .. })));
        assert!(rig.pool.load_many(&[page(2), page(1), page(3)]).is_err());
    }
    rig.disk.flip_bit(Path::new("/pages"), offset, 5);
    assert_eq!(value_of(rig.pool.pin(page(1)).unwrap().shared().bytes()), Ok(1));
    for number in [0, 100, 1 << 40] {
        assert!(matches!(rig.pool.pin(page(number)), Err(Error::Corrupt { .. })), "{number}");
    }
}

#[test]
fn a_failed_read_is_an_error_and_leaves_no_trace() {
    let rig = filled(4, 40);
    rig.disk.add_fault(Fault::new(FaultEffect::Errno(EIO)).kind(OperationKind::Read));
    let resident = rig.pool.table.resident_count();
    assert!(matches!(rig.pool.pin(page(1)), Err(Error::Io { .. })));
    assert!(rig.pool.table.resident_count() <= resident);
    assert_eq!(value_of(rig.pool.pin(page(1)).unwrap().shared().bytes()), Ok(1));
}

#[test]
fn many_pages_are_loaded_in_order_with_repeats_and_residents() {
    let pages = 3 * to_u64(LOAD_BATCH_MAX);
    let rig = filled(4 * LOAD_BATCH_MAX, pages);
    let fresh = Pool::new(
        open_pages(&rig.disk, OpenMode::ReadOnly).into(),
        4 * LOAD_BATCH_MAX,
        std::sync::Arc::clone(rig.pool.dirty()),
    )
    .unwrap();
    fresh.pin(page(5)).unwrap();
    let wanted: Vec<_> = (1..pages).rev().chain([7, 5, 7]).map(PageId::new).collect();
    let pins = fresh.load_many(&wanted).unwrap();
    let found: Vec<_> = pins.iter().map(super::Pin::id).collect();
    assert_eq!(found, wanted);
    for pin in &pins {
        assert_eq!(value_of(pin.shared().bytes()), Ok(pin.id().get()));
    }
    assert_eq!(fresh.stats().misses, pages - 1);
}

#[test]
fn a_new_page_is_not_read_and_starts_as_zeros() {
    let rig = filled(4, 40);
    let reads = rig.disk.read_count();
    for number in 1..20 {
        let pin = rig.pool.pin_new(page(number)).unwrap();
        assert!(pin.shared().bytes().iter().all(|&byte| byte == 0), "page {number}");
    }
    assert_eq!(rig.disk.read_count(), reads);
}

#[test]
fn a_hint_finds_its_page_until_it_is_evicted() {
    let rig = filled(4, 40);
    let frame = rig.pool.pin(page(1)).unwrap().frame();
    assert!(rig.pool.pin_hinted(frame, page(1)).is_some());
    assert!(rig.pool.pin_hinted(frame, page(2)).is_none());
    assert!(rig.pool.pin_hinted(99, page(1)).is_none());
    let optimistic = rig.pool.optimistic_hinted(frame, page(1)).unwrap();
    for number in 2..40 {
        rig.pool.pin(page(number)).unwrap();
    }
    assert!(!optimistic.validate());
    assert!(rig.pool.optimistic_hinted(frame, page(1)).is_none());
    assert!(rig.pool.pin_hinted(frame, page(1)).is_none());
    // The failed pins have let go: every frame can still be used.
    let pins: Vec<_> = (1..5).map(|number| rig.pool.pin(page(number)).unwrap()).collect();
    assert_eq!(pins.iter().map(super::Pin::frame).collect::<BTreeSet<_>>().len(), 4);
}

#[test]
fn a_guard_that_keeps_its_pin_lets_go_of_both() {
    let rig = filled(4, 8);
    let latched = rig.pool.pin(page(3)).unwrap().into_exclusive();
    assert!(rig.pool.pin_resident(page(3)).unwrap().try_shared().is_none());
    drop(latched);
    assert_eq!(rig.pool.pin_resident(page(3)).unwrap().shared().id(), page(3));
    // Neither latch nor pin is left: the frame can be used for another page.
    (4..8).cycle().take(40).for_each(|number| drop(rig.pool.pin(page(number)).unwrap()));
    assert!(rig.pool.pin_resident(page(3)).is_none());
}

#[cfg(debug_assertions)]
#[test]
#[should_panic(expected = "L1")]
fn a_read_under_a_latch_is_caught() {
    let rig = filled(4, 8);
    let pin = rig.pool.pin(page(1)).unwrap();
    let _latched = pin.shared();
    drop(rig.pool.pin(page(2)));
}

/// Threads that change, read and evict pages of a pool much too small, with optimistic readers.
#[test]
fn threads_on_a_small_pool_lose_no_change_and_see_no_mixture() {
    const PAGES: u64 = 40;
    const THREADS: u64 = 4;
    let rig = filled(8, PAGES);
    let values: Vec<_> = (0..PAGES).map(Mutex::new).collect();
    let validated = AtomicU64::new(0);
    thread::scope(|scope| {
        for seed in 0..THREADS {
            let (rig, values, validated) = (&rig, &values, &validated);
            scope.spawn(move || {
                let mut random = seed;
                for _ in 0..3000 {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1 + seed);
                    let number = (random >> 33) % (PAGES - 1) + 1;
                    let pin = rig.pool.pin(page(number)).unwrap();
                    match random >> 62 {
                        0 => {
                            let mut latched = pin.exclusive();
                            let mut value = values[to_usize(number)].lock().unwrap();
                            assert_eq!(value_of(latched.bytes()), Ok(*value));
                            *value += 1;
                            rig.change(&mut latched, *value);
                        }
                        1 => {
                            let latched = pin.into_shared();
                            let value = values[to_usize(number)].lock().unwrap();
                            assert_eq!(value_of(latched.bytes()), Ok(*value));
                        }
                        _ => {
                            // Without the pin, so that the frame may get another page.
                            let frame = pin.frame();
                            drop(pin);
                            let Some(read) = rig.pool.optimistic_hinted(frame, page(number)) else {
                                continue;
                            };
                            let mut bytes = Vec::new();
                            read.append_to(0, PAGE_BYTES, &mut bytes);
                            if read.validate() {
                                assert_eq!(PageView::new(&bytes).page_id(), page(number));
                                assert!(value_of(&bytes).is_ok());
                                validated.fetch_add(1, Ordering::Relaxed);
                            }
                        }
                    }
                }
            });
        }
    });
    assert!(validated.load(Ordering::Relaxed) > 0);
    rig.clean();
    let file = open_pages(&rig.disk, OpenMode::ReadOnly);
    let mut buffer = seawall_wal::disk::AlignedBuf::new(PAGE_BYTES);
    for number in 1..PAGES {
        file.read_page(page(number), &mut buffer).unwrap();
        assert_eq!(value_of(&buffer), Ok(*values[to_usize(number)].lock().unwrap()));
    }
}
