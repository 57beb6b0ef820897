//! The latch of a page frame: shared, exclusive, and optimistic by version.
//!
//! | bits | meaning |
//! |---|---|
//! | 0 | held exclusively |
//! | 1 | somebody is parked; whoever frees the latch wakes it |
//! | 2 | a writer is parked; readers that come now let it go first |
//! | 3..16 | number of sharers |
//! | 16..64 | version: grows with every exclusive release, wraps after 2^48 |
//!
//! What holds: while the exclusive bit is set there are no sharers. An optimistic reader that finds
//! the same version before and after its loads, and the exclusive bit clear both times, has seen no
//! store of any holder. A latch is not reentrant, not even shared: a parked writer between the two
//! would stop both. Nothing is waited for here but holders of the same latch (invariant L1 makes
//! that short).
//!
//! Fairness: a parked writer closes the latch for new sharers, so the sharers that are in drain and
//! it, or another writer, gets the latch. Every exclusive release wakes all who are parked, and readers
//! compete on equal terms again.
//!
//! Orderings weaker than SeqCst, with their pairings:
//!
//! * acquire (either mode): `Acquire` on the compare-exchange, paired with the `Release` of every
//!   release. A sharer's release is `Release` too, so that a writer's stores come after the reads.
//! * optimistic read: `version` loads with `Acquire`, paired with the exclusive release (the stores
//!   of the last holder are seen). The `Acquire` fence in `validate` is paired with the `Release`
//!   fence behind the exclusive acquisition: a load that saw a store of a holder makes the load
//!   behind the fence see that holder's exclusive bit, or a later state.
//! * parking: bits 1 and 2 are set, and bit 1 is cleared, under the bucket's mutex, which orders
//!   them; the releasing operation is a read-modify-write, so it either sees bit 1, or comes before
//!   the parker's compare-exchange, which then fails or finds the latch free.

use seawall_wal::codec::{to_u64, to_usize};
use seawall_wal::sync::atomic::{AtomicU64, Ordering, fence};
use seawall_wal::sync::{Condvar, Mutex, hint};

const EXCLUSIVE: u64 = 1;
const PARKED: u64 = 1 << 1;
const WRITER_WAITS: u64 = 1 << 2;
const SHARED_ONE: u64 = 1 << 3;
const SHARED_MASK: u64 = ((1 << 13) - 1) << 3;
const VERSION_SHIFT: u32 = 16;
const VERSION_ONE: u64 = 1 << VERSION_SHIFT;
const _: () = assert!(EXCLUSIVE | PARKED | WRITER_WAITS | SHARED_MASK == VERSION_ONE - 1);

/// Tries before a thread parks. Holders run for well under a microsecond.
const SPINS: u32 = if cfg!(any(loom, seawall_shuttle)) { 0 } else { 64 };
/// Buckets of parked threads. Latches that share one wake each other's waiters in vain, no more.
const BUCKETS: u64 = if cfg!(any(loom, seawall_shuttle)) { 1 } else { 64 };

/// Where threads park that wait for a latch.
#[derive(Debug)]
pub struct Parking {
    buckets: Box<[Bucket]>,
}

#[derive(Debug)]
struct Bucket {
    mutex: Mutex<()>,
    freed: Condvar,
}

impl Parking {
    /// Nobody parked.
    #[must_use]
    pub fn new() -> Self {
        let bucket = |_| Bucket { mutex: Mutex::new(()), freed: Condvar::new() };
        Self { buckets: (0..BUCKETS).map(bucket).collect() }
    }

    fn bucket(&self, latch: &Latch) -> &Bucket {
        // Frames are laid out at a fixed stride; the multiplication spreads them (Knuth).
        let address = to_u64(std::ptr::from_ref(latch).addr());
        let hash = address.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        &self.buckets[to_usize(hash % BUCKETS)]
    }
}

impl Default for Parking {
    fn default() -> Self {
        Self::new()
    }
}

/// What an optimistic reader saw when it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version(u64);

/// The latch; see the module.
#[derive(Debug)]
pub struct Latch {
    state: AtomicU64,
}

#[derive(Clone, Copy)]
enum Mode {
    Shared,
    Exclusive,
}

impl Latch {
    /// A free latch.
    #[must_use]
    pub fn new() -> Self {
        Self { state: AtomicU64::new(0) }
    }

    /// Becomes a sharer unless a holder has it exclusively; parked writers are overtaken.
    #[inline]
    #[must_use]
    pub fn try_shared(&self) -> bool {
        self.acquire(|state| can_share(state).then(|| state + SHARED_ONE))
    }

    /// Takes it exclusively where nobody holds it.
    #[inline]
    #[must_use]
    pub fn try_exclusive(&self) -> bool {
        let taken = self.acquire(|state| {
            let free = state & (EXCLUSIVE | SHARED_MASK) == 0;
            free.then_some((state | EXCLUSIVE) & !WRITER_WAITS)
        });
        if taken {
            // Paired with the fence in `validate`.
            fence(Ordering::Release);
        }
        taken
    }

    /// Becomes a sharer; waits for holders and for parked writers.
    #[inline]
    pub fn shared(&self, parking: &Parking) {
        if !self.attempt(Mode::Shared) {
            self.wait(parking, Mode::Shared);
        }
    }

    /// Takes it exclusively; waits for holders.
    #[inline]
    pub fn exclusive(&self, parking: &Parking) {
        if !self.attempt(Mode::Exclusive) {
            self.wait(parking, Mode::Exclusive);
        }
    }

    /// Lets go of a share. The caller holds one.
    #[inline]
    pub fn release_shared(&self, parking: &Parking) {
        let before = self.state.fetch_sub(SHARED_ONE, Ordering::Release);
        debug_assert_ne!(before & SHARED_MASK, 0, "released a share that nobody held");
        if before & (SHARED_MASK | PARKED) == SHARED_ONE | PARKED {
            self.wake(parking);
        }
    }

    /// Lets go of an exclusive hold and starts the next version. The caller holds it.
    #[inline]
    pub fn release_exclusive(&self, parking: &Parking) {
        // One addition: the exclusive bit goes, the version grows, and its carry leaves at the top.
        let before = self.state.fetch_add(VERSION_ONE.wrapping_sub(EXCLUSIVE), Ordering::Release);
        debug_assert_ne!(before & EXCLUSIVE, 0, "released a latch that nobody held");
        if before & PARKED != 0 {
            self.wake(parking);
        }
    }

    /// Begins an optimistic read; `None` while somebody holds the latch exclusively.
    #[inline]
    #[must_use]
    pub fn version(&self) -> Option<Version> {
        let state = self.state.load(Ordering::Acquire);
        (state & EXCLUSIVE == 0).then_some(Version(state >> VERSION_SHIFT))
    }

    /// Whether everything loaded since `version` is what stood there then.
    #[inline]
    #[must_use]
    pub fn validate(&self, version: Version) -> bool {
        fence(Ordering::Acquire);
        let state = self.state.load(Ordering::Relaxed);
        state & EXCLUSIVE == 0 && state >> VERSION_SHIFT == version.0
    }

    #[inline]
    fn acquire(&self, next: impl Fn(u64) -> Option<u64>) -> bool {
        let mut state = self.state.load(Ordering::Relaxed);
        while let Some(held) = next(state) {
            match self.state.compare_exchange_weak(
                state,
                held,
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => return true,
                Err(now) => state = now,
            }
        }
        false
    }

    #[inline]
    fn attempt(&self, mode: Mode) -> bool {
        match mode {
            Mode::Exclusive => self.try_exclusive(),
            Mode::Shared => self.acquire(|state| {
                let open = can_share(state) && state & WRITER_WAITS == 0;
                open.then(|| state + SHARED_ONE)
            }),
        }
    }

    #[cold]
    fn wait(&self, parking: &Parking, mode: Mode) {
        for _ in 0..SPINS {
            hint::spin_loop();
            if self.attempt(mode) {
                return;
            }
        }
        let marks = match mode {
            Mode::Shared => PARKED,
            Mode::Exclusive => PARKED | WRITER_WAITS,
        };
        let bucket = parking.bucket(self);
        let mut guard = bucket.mutex.lock();
        while !self.attempt(mode) {
            let seen = self.state.load(Ordering::Relaxed);
            if !refuses(seen, mode) {
                continue;
            }
            // Parks only on the state that refused: a release in between makes this fail.
            let marked = self.state.compare_exchange(
                seen,
                seen | marks,
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
            if marked.is_ok() {
                bucket.freed.wait(&mut guard);
            }
        }
    }

    #[cold]
    fn wake(&self, parking: &Parking) {
        let bucket = parking.bucket(self);
        let _guard = bucket.mutex.lock();
        self.state.fetch_and(!PARKED, Ordering::Relaxed);
        bucket.freed.notify_all();
    }
}

impl Default for Latch {
    fn default() -> Self {
        Self::new()
    }
}

const fn can_share(state: u64) -> bool {
    state & EXCLUSIVE == 0 && state & SHARED_MASK != SHARED_MASK
}

const fn refuses(state: u64, mode: Mode) -> bool {
    match mode {
        Mode::Shared => !can_share(state) || state & WRITER_WAITS != 0,
        Mode::Exclusive => state & (EXCLUSIVE | SHARED_MASK) != 0,
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use std::thread;

    use super::{Latch, Parking, SHARED_MASK, SHARED_ONE};

    #[derive(Default)]
    struct Guarded {
        latch: Latch,
        parking: Parking,
        // Two counters that only an exclusive holder changes, one after the other.
        first: AtomicU64,
        second: AtomicU64,
    }

    impl Guarded {
        fn read(&self) -> (u64, u64) {
            (self.first.load(Ordering::Relaxed), self.second.load(Ordering::Relaxed))
        }

        fn increment(&self) {
            self.first.store(self.first.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
            self.second.store(self.second.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        }
    }

    #[test]
    fn holders_exclude_each_other_as_their_modes_say() {
        let (latch, parking) = (Latch::new(), Parking::new());
        assert!(latch.try_shared() && latch.try_shared());
        assert!(!latch.try_exclusive());
        latch.release_shared(&parking);
        latch.release_shared(&parking);
        assert!(latch.try_exclusive());
        assert!(!latch.try_shared() && !latch.try_exclusive());
        latch.release_exclusive(&parking);
        assert!(latch.try_shared());
    }

    #[test]
    fn only_an_exclusive_release_starts_a_new_version() {
        let (latch, parking) = (Latch::new(), Parking::new());
        let version = latch.version().unwrap();
        assert!(latch.try_shared());
        assert_eq!(latch.version(), Some(version));
        latch.release_shared(&parking);
        assert!(latch.validate(version));
        assert!(latch.try_exclusive());
        assert!(latch.version().is_none() && !latch.validate(version));
        latch.release_exclusive(&parking);
        assert!(!latch.validate(version));
        assert_ne!(latch.version(), Some(version));
    }

    #[test]
    fn a_version_that_wraps_leaves_the_other_bits_alone() {
        let parking = Parking::new();
        let latch = Latch { state: AtomicU64::new(u64::MAX << super::VERSION_SHIFT) };
        assert!(latch.try_exclusive());
        latch.release_exclusive(&parking);
        assert_eq!(latch.state.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn as_many_sharers_as_the_bits_count_are_let_in_and_no_more() {
        let (latch, parking) = (Latch::new(), Parking::new());
        let sharers = SHARED_MASK / SHARED_ONE;
        assert!((0..sharers).all(|_| latch.try_shared()));
        assert!(!latch.try_shared());
        latch.release_shared(&parking);
        assert!(latch.try_shared());
    }

    #[test]
    fn threads_of_all_modes_see_whole_states() {
        let guarded = Arc::new(Guarded::default());
        let threads: Vec<_> = (0..4)
            .map(|number| {
                let guarded = Arc::clone(&guarded);
                thread::spawn(move || {
                    let mut validated = 0;
                    for round in 0..20_000 {
                        match (round + number) % 4 {
                            0 => {
                                guarded.latch.exclusive(&guarded.parking);
                                guarded.increment();
                                guarded.latch.release_exclusive(&guarded.parking);
                            }
                            1 | 2 => {
                                guarded.latch.shared(&guarded.parking);
                                let (first, second) = guarded.read();
                                assert_eq!(first, second);
                                guarded.latch.release_shared(&guarded.parking);
                            }
                            _ => {
                                let Some(version) = guarded.latch.version() else { continue };
                                let (first, second) = guarded.read();
                                if guarded.latch.validate(version) {
                                    assert_eq!(first, second);
                                    validated += 1;
                                }
                            }
                        }
                    }
                    validated
                })
            })
            .collect();
        let validated: u32 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert!(validated > 0);
        assert_eq!(guarded.read(), (20_000, 20_000));
    }

    #[test]
    fn a_writer_gets_in_while_readers_come_and_go() {
        let guarded = Arc::new(Guarded::default());
        let done = Arc::new(AtomicBool::new(false));
        let readers: Vec<_> = (0..3)
            .map(|_| {
                let (guarded, done) = (Arc::clone(&guarded), Arc::clone(&done));
                thread::spawn(move || {
                    while !done.load(Ordering::Relaxed) {
                        guarded.latch.shared(&guarded.parking);
                        thread::yield_now();
                        guarded.latch.release_shared(&guarded.parking);
                    }
                })
            })
            .collect();
        for _ in 0..200 {
            guarded.latch.exclusive(&guarded.parking);
            guarded.increment();
            guarded.latch.release_exclusive(&guarded.parking);
        }
        done.store(true, Ordering::Relaxed);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
        assert_eq!(guarded.read(), (200, 200));
    }
}
