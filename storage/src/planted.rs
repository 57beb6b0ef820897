//! Bugs that a test build can switch on, to prove that the crash suites find them.
//!
//! A switch exists only under `cfg(seawall_planted)`; otherwise [`is_planted`] is a constant `false`
//! that leaves no trace in the program.

/// A bug that can be planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Pages are written before the log that changed them is durable (breaks W1).
    SkipLogFlushBeforePageWrite,
    /// Pages are written in place before their doublewrite images are durable (torn pages).
    SkipDoublewriteSync,
    /// A log segment is recycled before the master record that lets it go is durable (breaks C3).
    RecycleSegmentEarly,
    /// A dirty entry takes its `rec_lsn` after the record was reserved (breaks P1).
    RecLsnAfterReserve,
}

impl Bug {
    /// Every bug.
    pub const ALL: [Self; 4] = [
        Self::SkipLogFlushBeforePageWrite,
        Self::SkipDoublewriteSync,
        Self::RecycleSegmentEarly,
        Self::RecLsnAfterReserve,
    ];
}

/// Whether `bug` is switched on.
#[cfg(not(seawall_planted))]
#[must_use]
pub const fn is_planted(_bug: Bug) -> bool {
    false
}

#[cfg(seawall_planted)]
pub use switches::{is_planted, plant};

#[cfg(seawall_planted)]
mod switches {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::Bug;

    static PLANTED: [AtomicBool; Bug::ALL.len()] = [const { AtomicBool::new(false) }; 4];

    fn switch(bug: Bug) -> &'static AtomicBool {
        let index = Bug::ALL.iter().position(|&other| other == bug);
        &PLANTED[index.expect("ALL lists every bug")]
    }

    /// Whether `bug` is switched on.
    #[must_use]
    pub fn is_planted(bug: Bug) -> bool {
        switch(bug).load(Ordering::SeqCst)
    }

    /// Switches `bug` on or off, for the whole process.
    pub fn plant(bug: Bug, on: bool) {
        switch(bug).store(on, Ordering::SeqCst);
    }
}
