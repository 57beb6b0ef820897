//! Bugs that a test build can switch on, to prove that the suites find them, and points at which
//! another thread may come in between.
//!
//! Both exist only under `cfg(seawall_planted)`. Otherwise [`is_planted`] is a constant `false` and
//! [`reach`] does nothing, and neither leaves a trace in the program. A bug is a deviation of one line
//! at the very place where its rule is carried out.

/// A bug that can be planted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A synchronous commit returns when its frame is written and not synced (breaks R3).
    AcknowledgeBeforeSync,
    /// Renamed segments are used before their names are durable.
    SkipDirectorySync,
    /// A segment is used before its header is durable.
    SkipSegmentHeaderSync,
    /// A sync of the log that failed is tried again, and believed (breaks W2).
    RetryFailedSync,
    /// Readers see synchronous commits that are not durable (breaks T1).
    VisibleBeforeDurable,
    /// An epoch has the number of the one before.
    EpochNotBumped,
    /// An epoch begins right behind the end of the log, where records were lost (breaks W4).
    LsnsGivenOutTwice,
    /// A frame left over from an earlier use of its segment is taken for the next one.
    StaleFrameAccepted,
    /// A frame is taken whose records are not whole.
    TornFrameAccepted,
    /// Durable log that is gone is taken for a torn tail.
    LostLogAccepted,
    /// A master record counts before it is durable (breaks C3).
    MasterRecordWithoutSync,
    /// Pages are written before the log that changed them is durable (breaks W1).
    SkipLogFlushBeforePageWrite,
    /// Pages are written in place before their doublewrite images are durable (torn pages).
    SkipDoublewriteSync,
    /// A doublewrite batch counts as done before its pages are synced in place (torn pages).
    ReleaseDoublewriteEarly,
    /// A page that has its content in an image only, and no record that re-creates it any more, is
    /// written without one (torn pages).
    KeepDoublewriteExemption,
    /// A page that was changed while it was written counts as clean (breaks P2).
    CleanThoughChanged,
    /// A page is read from where another one belongs (breaks P4).
    MisplacedPageAccepted,
    /// A log segment is recycled before the master record that lets it go is durable (breaks C3).
    RecycleSegmentEarly,
    /// A dirty entry takes its `rec_lsn` after the record was reserved (breaks P1).
    RecLsnAfterReserve,
    /// A checkpoint leaves out an active transaction.
    MissTransactionInCapture,
    /// A checkpoint leaves out pages that are being written (breaks C1).
    MissPagesBeingWritten,
    /// A checkpoint leaves out freed extents that snapshots may need (breaks P5).
    MissPendingFrees,
    /// A checkpoint lists a committed transaction as active.
    CommitStaysActive,
    /// Redo applies records that the page has.
    RedoWithoutPageLsnTest,
    /// Redo leaves out changes that no reader sees: room that cells have kept is not given back.
    RedoWithoutSettling,
    /// A compensation record does not say which record is undone next.
    CompensationWithoutUndoNext,
    /// A shortened cell gives its room away before its writer has committed (breaks T2).
    CapacityNotKept,
    /// A commit record does not carry the changes of the trees' sizes.
    CommitDeltaLost,
    /// A page is marked as used by another record than the one that links it (breaks P5).
    AllocateApartFromLink,
    /// A ghost is purged while a snapshot needs it (breaks T3).
    PurgeGhostEarly,
    /// An extent is freed while a snapshot needs it.
    FreeExtentEarly,
    /// A snapshot reads its position before it is registered (breaks T3).
    RegisterSnapshotLate,
    /// The collector scans the snapshots before it reads the watermark (breaks T3).
    HorizonAfterScan,
    /// Ranges that were read are not validated.
    ValidateWithoutRanges,
    /// What commits during a validation is not compared.
    ValidateWithoutRecent,
    /// A read without a latch counts though its leaf has changed meanwhile (breaks T3).
    ReadWithoutValidation,
    /// A hint to a frame is believed without a look at the page that the frame holds (breaks P4).
    TrustHint,
}

impl Bug {
    /// Every bug.
    pub const ALL: [Self; 37] = [
        Self::AcknowledgeBeforeSync,
        Self::SkipDirectorySync,
        Self::SkipSegmentHeaderSync,
        Self::RetryFailedSync,
        Self::VisibleBeforeDurable,
        Self::EpochNotBumped,
        Self::LsnsGivenOutTwice,
        Self::StaleFrameAccepted,
        Self::TornFrameAccepted,
        Self::LostLogAccepted,
        Self::MasterRecordWithoutSync,
        Self::SkipLogFlushBeforePageWrite,
        Self::SkipDoublewriteSync,
        Self::ReleaseDoublewriteEarly,
        Self::KeepDoublewriteExemption,
        Self::CleanThoughChanged,
        Self::MisplacedPageAccepted,
        Self::RecycleSegmentEarly,
        Self::RecLsnAfterReserve,
        Self::MissTransactionInCapture,
        Self::MissPagesBeingWritten,
        Self::MissPendingFrees,
        Self::CommitStaysActive,
        Self::RedoWithoutPageLsnTest,
        Self::RedoWithoutSettling,
        Self::CompensationWithoutUndoNext,
        Self::CapacityNotKept,
        Self::CommitDeltaLost,
        Self::AllocateApartFromLink,
        Self::PurgeGhostEarly,
        Self::FreeExtentEarly,
        Self::RegisterSnapshotLate,
        Self::HorizonAfterScan,
        Self::ValidateWithoutRanges,
        Self::ValidateWithoutRecent,
        Self::ReadWithoutValidation,
        Self::TrustHint,
    ];
}

/// A point without latches and locks, unless it says so, at which another thread may do anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// A snapshot is being registered.
    RegisteringSnapshot,
    /// The collection horizon is being worked out.
    WorkingOutHorizon,
    /// A transaction was validated, and does not hold the gate yet.
    Validated,
    /// A reader without a latch knows which version of a cell it sees, and has not copied it yet.
    CellSeen,
    /// A checkpoint is about to list the extents that wait to be freed.
    ListingFrees,
    /// An extent is in no list any more, and the record that frees it is to come. Its bitmap page is
    /// latched.
    Freeing,
}

/// Whether `bug` is switched on.
#[cfg(not(seawall_planted))]
#[must_use]
pub const fn is_planted(_bug: Bug) -> bool {
    false
}

/// Lets in whoever waits for this point.
#[cfg(not(seawall_planted))]
pub const fn reach(_point: Point) {}

#[cfg(seawall_planted)]
pub use switches::{at_points, is_planted, plant, reach};

#[cfg(seawall_planted)]
mod switches {
    use std::cell::RefCell;
    use std::rc::Rc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::{Bug, Point};

    static PLANTED: [AtomicBool; Bug::ALL.len()] =
        [const { AtomicBool::new(false) }; Bug::ALL.len()];

    type Visitor = Rc<dyn Fn(Point)>;

    thread_local! {
        static VISITOR: RefCell<Option<Visitor>> = const { RefCell::new(None) };
    }

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

    /// Has `visitor` called at each point that this thread reaches from now on.
    pub fn at_points(visitor: Option<Visitor>) {
        VISITOR.set(visitor);
    }

    /// Lets in whoever waits for this point.
    pub fn reach(point: Point) {
        let visitor = VISITOR.with_borrow(Clone::clone);
        if let Some(visitor) = visitor {
            visitor(point);
        }
    }
}
