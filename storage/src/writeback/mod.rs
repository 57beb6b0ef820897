//! Pages on their way back to disk: the doublewrite file, the one place that writes pages, the page
//! cleaner that decides which, and the mending of torn pages after a crash.
//!
//! A page write, and what an error at each step means:
//!
//! 1. Dirty entry -> Writing; copy under the shared latch; checksum the copy. In the order of page ids. No
//!    error.
//! 2. Wait until the log is durable up to the highest `page_lsn` (W1). Error: the log is poisoned;
//!    nothing was issued, the entries are dirty as before.
//! 3. Images of those that redo does not re-create whole into the doublewrite area of the batch, and sync.
//!    Error: poison (W2), entries stay.
//! 4. The copies in place, those of neighbours in a piece by one write. Error: poison, entries stay.
//! 5. Sync of the page file. Error: poison, entries stay.
//! 6. The area may be used again; entries of unchanged pages go, the others are dirty again (P2, P3).
//!
//! In 3 and 4 a gentle batch is written in pieces, with rests in which commits flush the log. No sync
//! of 3 or 5 passes after one of the same file has failed. 4 does not begin where the log was poisoned
//! after 1: the pages are dirty as before, and the area is free. Where that happens during 4 and 5, the
//! entries stay, as after an error there. Where it was poisoned already, pages are still cleaned, for
//! readers. Behind a page cache one sync of a file passes at a time. Past it those of 5
//! pass beside each other, and those of 3 unless it is in pieces; of two that overlap the one that succeeds
//! may return before the other has told of its failure.

pub mod cleaner;
pub mod doublewrite;
pub mod restore;
mod rests;
mod slot;
pub mod writer;

/// A batch takes a millisecond of computing and more, which a scheduler may give its thread in one piece,
/// while one that commits waits for the processor.
fn let_others_run() {
    // In a model it would only be one more place to stop at.
    #[cfg(not(any(loom, seawall_shuttle)))]
    std::thread::yield_now();
}

#[cfg(test)]
#[cfg(not(loom))]
mod crash_tests;
#[cfg(test)]
#[cfg(not(loom))]
pub(crate) mod rig;
#[cfg(test)]
#[cfg(not(loom))]
mod tests;
