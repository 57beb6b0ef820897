//! Validation of serializable transactions: nothing they read was written by a commit since their
//! snapshot. The steps and their order are those of [`CommitGate`](crate::txn::CommitGate).

use std::ops::Bound;

use seawall_wal::{Lsn, Result};

use super::Engine;
use super::append::page_lsn;
use super::read::ReadAt;
use super::unit::Unit;
use crate::page::{LeafView, PageRead};
use crate::pool::SharedPage;
use crate::tree::Seek;
use crate::txn::{ReadRange, Validation};
use crate::version::VersionKey;

impl Engine {
    /// Starts the validation of a unit and compares everything it read with what is committed by
    /// now. `None` where there is nothing to validate.
    pub(super) fn validate(&self, unit: &Unit) -> Result<Option<Validation<'_>>> {
        let Some(at) = unit.view().filter(|_| unit.is_serializable()) else { return Ok(None) };
        let reads = unit.reads.lock();
        if reads.is_empty() {
            return Ok(None);
        }
        let validation = self.gate.validate();
        for key in reads.points() {
            if self.is_newer(key, at.read_lsn) {
                return Err(self.conflict());
            }
        }
        for range in reads.ranges() {
            if !self.is_range_unchanged(range, at)? {
                return Err(self.conflict());
            }
        }
        drop(reads);
        Ok(Some(validation))
    }

    /// Whether a commit beyond `read_lsn` wrote the key, be there an open write on top of it or not.
    /// Versions above a registered snapshot are not collected, so the newest one tells.
    fn is_newer(&self, key: &VersionKey, read_lsn: Lsn) -> bool {
        self.versions.newest_commit(key).is_some_and(|lsn| lsn > read_lsn)
    }

    /// Whether no key of the range was written, or became part of it, by a commit since the
    /// snapshot. Keys on the pages are a superset of the keys of any version (T3).
    fn is_range_unchanged(&self, range: &ReadRange, at: ReadAt<'_>) -> Result<bool> {
        let Some(tree) = self.trees.get(range.tree) else { return Ok(true) };
        let mut from = match &range.lower {
            Bound::Included(key) | Bound::Excluded(key) => key.clone(),
            Bound::Unbounded => Vec::new(),
        };
        let mut key = VersionKey::new(range.tree, &[]);
        loop {
            let page: SharedPage<'_> = self.descent(&tree).leaf(Seek::Key(&from))?;
            let leaf = LeafView::new(page.bytes());
            if page_lsn(&page) > at.low_lsn {
                for slot in 0..leaf.count() {
                    key.set_key(&leaf.key_at(slot).to_vec());
                    if range.contains(&key) && self.is_newer(&key, at.read_lsn) {
                        return Ok(false);
                    }
                }
            }
            match leaf.high_fence().map(|fence| fence.to_vec()) {
                Some(fence) if range.reaches(&fence) => from = fence,
                _ => return Ok(true),
            }
        }
    }
}
