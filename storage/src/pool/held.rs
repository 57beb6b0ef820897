//! How many page latches this thread holds, counted in debug builds only, so that a wait under a
//! latch (invariant L1) is found where it is written and not where it hangs.

#[cfg(all(debug_assertions, not(loom)))]
mod count {
    use std::cell::Cell;

    use seawall_wal::sync::thread_local;

    thread_local! {
        static HELD: Cell<u32> = const { Cell::new(0) };
    }

    pub(in crate::pool) fn latched() {
        HELD.with(|held| held.set(held.get() + 1));
    }

    pub(in crate::pool) fn unlatched() {
        HELD.with(|held| held.set(held.get() - 1));
    }

    /// Asserts, in debug builds, that this thread holds no page latch.
    ///
    /// # Panics
    /// When it holds one.
    #[track_caller]
    pub fn assert_no_latch() {
        assert_eq!(HELD.with(Cell::get), 0, "about to wait with a page latch held (L1)");
    }
}

#[cfg(not(all(debug_assertions, not(loom))))]
mod count {
    pub(in crate::pool) const fn latched() {}

    pub(in crate::pool) const fn unlatched() {}

    /// Asserts, in debug builds, that this thread holds no page latch.
    #[inline]
    pub const fn assert_no_latch() {}
}

pub use count::assert_no_latch;
pub(super) use count::{latched, unlatched};
