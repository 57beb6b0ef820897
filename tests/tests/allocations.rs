//! A process that finds no memory aborts, whatever it is in the middle of; what it leaves must be what a
//! kill leaves. The n-th allocation fails, for n close by one another where the database is opened, and further
//! and further apart then. `SEAWALL_ALLOCATIONS=N` tries N of them, `SEAWALL_FIRST_SEED` other ones.
#![expect(clippy::print_stderr, reason = "counts are shown to whoever runs it")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

use seawall::DiskKind;
use seawall_tests::counts;
use seawall_tests::effort::number;
use seawall_tests::kill::{self, CHILD_ALLOCATION, End, KillLoop};

/// Allocations that fail, each in a child of its own, when nobody says how many.
const FAILING: u64 = 60;
/// So many are tried one behind the other at least, before the distances grow.
const CLOSE: u64 = 24;
/// Distance of those; a prime.
const STEP: u64 = 23;
/// No allocation further on fails: a busy machine would not come to it in time.
const PLACE_MAX: u64 = 60_000;
/// Children that find the database of the ones before; then it is a new one.
const CHILDREN: usize = 12;

/// Fails once, when the count has come down to zero; 0 before that means never.
struct Failing {
    left: AtomicU64,
}

#[global_allocator]
static ALLOCATOR: Failing = Failing { left: AtomicU64::new(0) };

impl Failing {
    fn fails(&self) -> bool {
        if self.left.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let count = |left: u64| left.checked_sub(1);
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, count) == Ok(1)
    }
}

// SAFETY: every call goes to the system's allocator with the caller's own arguments, or gives null, which
// says that there is no memory and promises nothing.
unsafe impl GlobalAlloc for Failing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if self.fails() {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller keeps the contract of `GlobalAlloc::alloc`, which is this one.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer is from `alloc` or `realloc`, and so from the system's allocator.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if self.fails() {
            return std::ptr::null_mut();
        }
        // SAFETY: as in `dealloc`, and the caller keeps the contract of `GlobalAlloc::realloc`.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Does nothing unless the kill loop starts it.
#[test]
fn child() {
    if let Ok(number) = std::env::var(CHILD_ALLOCATION) {
        let number = number.parse().expect("the number of an allocation");
        ALLOCATOR.left.store(number, Ordering::Relaxed);
    }
    kill::child();
}

/// Which allocation fails in each child.
fn places(count: u64, first: u64) -> impl Iterator<Item = u64> {
    let mut distance = STEP;
    let mut place = 1 + first % STEP;
    (0..count).map(move |index| {
        let at = place;
        if index >= CLOSE {
            distance += distance / 6;
        }
        place += distance;
        // Long runs come back to where transactions are under way.
        if place > PLACE_MAX {
            (place, distance) = (1 + (first + index) % STEP, STEP);
        }
        at
    })
}

#[test]
fn whichever_allocation_fails_what_was_acknowledged_is_there() {
    let count = number("SEAWALL_ALLOCATIONS").unwrap_or(FAILING);
    let first = number("SEAWALL_FIRST_SEED").unwrap_or(0);
    let dir = tempfile::tempdir().expect("a folder");
    let places: Vec<_> = places(count, first).collect();
    let (mut children, mut aborts, mut acknowledged) = (0, 0, 0);
    // Neighbours go to different databases, so that each meets all kinds of places.
    let databases = places.len().div_ceil(CHILDREN);
    for number in 0..databases {
        let path = dir.path().join(format!("db {number}"));
        let seed = first + u64::try_from(number).expect("usize has at most 64 bits");
        let mut kill_loop = KillLoop::new(&path, DiskKind::Blocking, End::NoMemory, 1 + seed);
        for &place in places.iter().skip(number).step_by(databases) {
            kill_loop.allocation = place;
            let before = kill_loop.counts.aborts;
            kill_loop.round("child").unwrap_or_else(|why| panic!("allocation {place}: {why}"));
            if kill_loop.counts.aborts == before {
                eprintln!("allocation {place}: the child has gone on");
            }
        }
        kill_loop.check().unwrap_or_else(|why| panic!("at the end: {why}"));
        eprintln!("allocations that fail: {:?}", kill_loop.counts);
        children += kill_loop.counts.kills;
        aborts += kill_loop.counts.aborts;
        acknowledged += kill_loop.counts.acknowledged;
    }
    assert!(aborts * 4 >= children * 3, "only {aborts} of {children} children found no memory");
    assert!(acknowledged > 0, "no child came to its first commit");
    counts::tell("allocations that failed", aborts);
}
