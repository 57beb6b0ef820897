//! What the parts of a verification share: what was found, which pages have owners, how far it is.

use seawall_wal::codec::to_u64;
use seawall_wal::{Error, Lsn, PageId};

use super::findings::{Findings, Suspect};
use super::owners::{Noted, Owned};
use crate::VerifyProgress;
use crate::engine::{Engine, ReadAt};
use crate::txn::SnapshotSlot;

/// State of a verification.
pub(super) struct Scan<'e> {
    pub(super) engine: &'e Engine,
    pub(super) owned: Owned,
    pub(super) findings: Findings,
    /// Findings that a change made meanwhile may explain.
    pub(super) suspects: Vec<Suspect>,
    /// Whether every page that is in use has been seen through its owner.
    pub(super) is_whole: bool,
    /// Keys and log records looked at.
    pub(super) records: u64,
    pub(super) trees: u64,
    pub(super) progress: Progress<'e>,
}

/// Tells the caller how far the verification is; never called with a latch held.
pub(super) struct Progress<'f> {
    told: VerifyProgress,
    tell: &'f mut dyn FnMut(&VerifyProgress),
}

impl<'f> Progress<'f> {
    pub(super) fn new(total: u64, tell: &'f mut dyn FnMut(&VerifyProgress)) -> Self {
        Self { told: VerifyProgress { done: 0, total }, tell }
    }

    pub(super) fn advance(&mut self, pages: usize) {
        self.told.done += to_u64(pages);
        // Trees may grow while they are walked.
        self.told.total = self.told.total.max(self.told.done);
        (self.tell)(&self.told);
    }
}

impl Scan<'_> {
    /// Notes that something refers to a page.
    pub(super) fn own(&mut self, page: PageId, who: impl FnOnce() -> String) {
        match self.owned.note(page) {
            Noted::First => {}
            Noted::Again => {
                let finding = format!("page {page} has two owners, one of them {}", who());
                self.suspects.push(Suspect { pages: vec![page], finding });
            }
            Noted::Beyond => self.own_beyond(page, who),
        }
    }

    /// The file may have grown since it was last asked.
    fn own_beyond(&mut self, page: PageId, who: impl FnOnce() -> String) {
        let pages = self.engine.file.pages();
        self.owned.grow_to(pages);
        if page.get() < pages {
            return self.own(page, who);
        }
        let expected = format!("page {page} of {}", who());
        let end = pages * to_u64(self.engine.page_bytes);
        let path = self.engine.file.path();
        let error = Error::corrupt(path, end, expected, "the end of the file");
        self.findings.add(error.to_string());
    }

    pub(super) fn suspect(&mut self, pages: Vec<PageId>, finding: String) {
        self.suspects.push(Suspect { pages, finding });
    }
}

/// A registered reader, so that what it sees is not collected.
pub(super) struct Reader<'e> {
    engine: &'e Engine,
    slot: Option<SnapshotSlot>,
    pub(super) read_lsn: Lsn,
    low_lsn: Lsn,
}

impl<'e> Reader<'e> {
    pub(super) fn new(engine: &'e Engine) -> Self {
        let (slot, read_lsn, low_lsn) = engine.register(|| engine.log.visible_lsn());
        Self { engine, slot: Some(slot), read_lsn, low_lsn }
    }

    pub(super) fn at(&self) -> ReadAt<'_> {
        let revoked = self.slot.as_ref().map(|slot| &**slot.revoked());
        ReadAt { read_lsn: self.read_lsn, low_lsn: self.low_lsn, own: None, revoked }
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            self.engine.snapshots.release(slot);
        }
    }
}
