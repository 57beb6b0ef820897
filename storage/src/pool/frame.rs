//! Pins of a frame, and how much its page is in demand.
//!
//! ```text
//!    Claimed (free, or being loaded) --publish--> 1 pin <--pin/unpin--> 0 pins --try_claim--> Claimed
//! ```
//!
//! A pinned frame keeps its page. A claimed frame belongs to one thread, or to the free list; nobody
//! can pin it. Claiming is one compare-exchange from 0 pins, so it excludes the pins of those who
//! come by a hint and hold no lock of the page table.

use seawall_wal::sync::atomic::{AtomicU8, AtomicU32, Ordering};

/// In place of a number of pins.
const CLAIMED: u32 = 1 << 31;
/// Visits of the clock that a page in demand survives.
const HEAT_MAX: u8 = 3;

/// State of a frame.
#[derive(Debug)]
pub struct FrameState {
    pins: AtomicU32,
    heat: AtomicU8,
}

impl FrameState {
    /// A claimed frame.
    #[must_use]
    pub fn new() -> Self {
        Self { pins: AtomicU32::new(CLAIMED), heat: AtomicU8::new(0) }
    }

    /// Pins the frame unless it is claimed. `Acquire`, paired with `publish`.
    #[must_use]
    pub fn try_pin(&self) -> bool {
        let mut pins = self.pins.load(Ordering::Relaxed);
        while pins != CLAIMED {
            assert!(pins < CLAIMED - 1, "pins of a frame overflow");
            match self.pins.compare_exchange_weak(
                pins,
                pins + 1,
                Ordering::Acquire,
                Ordering::Relaxed,
            ) {
                Ok(_) => return true,
                Err(now) => pins = now,
            }
        }
        false
    }

    /// Lets go of a pin. `Release`, paired with `try_claim`: the next owner comes after everything
    /// the pin's holder did.
    pub fn unpin(&self) {
        let before = self.pins.fetch_sub(1, Ordering::Release);
        debug_assert!(before != 0 && before < CLAIMED, "unpinned a frame with {before} pins");
    }

    /// Takes the frame for this thread if nobody has it pinned or claimed.
    #[must_use]
    pub fn try_claim(&self) -> bool {
        self.pins.compare_exchange(0, CLAIMED, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Gives a claimed frame back as it was: unpinned.
    pub fn unclaim(&self) {
        debug_assert_eq!(self.pins.load(Ordering::Relaxed), CLAIMED, "nobody had claimed it");
        self.pins.store(0, Ordering::Release);
    }

    /// A claimed frame, now filled, becomes one with a pin, not in demand yet: a page that a scan
    /// passes once leaves before one that was asked for twice.
    pub fn publish(&self) {
        debug_assert_eq!(self.pins.load(Ordering::Relaxed), CLAIMED, "nobody had claimed it");
        self.heat.store(0, Ordering::Relaxed);
        self.pins.store(1, Ordering::Release);
    }

    /// Whether somebody has it pinned or claimed; momentary.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.pins.load(Ordering::Relaxed) != 0
    }

    /// Notes that the page was asked for. Writes nothing once it is hot; an increment lost to
    /// another thread does not matter.
    pub fn warm(&self) {
        let heat = self.heat.load(Ordering::Relaxed);
        if heat < HEAT_MAX {
            self.heat.store(heat + 1, Ordering::Relaxed);
        }
    }

    /// A visit of the clock: whether the page may go now.
    pub fn cool(&self) -> bool {
        let heat = self.heat.load(Ordering::Relaxed);
        if heat > 0 {
            self.heat.store(heat - 1, Ordering::Relaxed);
        }
        heat == 0
    }

    /// Visits after which an unused page may go for certain.
    #[must_use]
    pub const fn visits_max() -> usize {
        HEAT_MAX as usize + 1
    }
}

impl Default for FrameState {
    fn default() -> Self {
        Self::new()
    }
}
