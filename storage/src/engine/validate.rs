//! Validation of serializable transactions: nothing they read was written by a commit since their
//! snapshot. The steps and their order are those of [`CommitGate`](crate::txn::CommitGate).

use std::ops::Bound;

use seawall_wal::record::{Cell, Stamp};
use seawall_wal::{Lsn, Result};

use super::Engine;
use super::append::page_lsn;
use super::read::{Looked, ReadAt, StampSeen};
use super::unit::Unit;
use crate::catalogue::TreeInfo;
use crate::page::{LeafView, PageRead};
use crate::planted::{Bug, is_planted};
use crate::pool::SharedPage;
use crate::tree::Seek;
use crate::txn::{ReadRange, Validation, Written};
use crate::version::VersionKey;

/// How the newest commit of a key stands to a snapshot.
#[derive(Clone, Copy, Debug)]
enum Age {
    Seen,
    Newer,
    /// It lies behind the stamp of a transaction that is open: only its undo information tells.
    Behind(StampSeen),
}

impl Engine {
    /// Starts the validation of a unit and compares everything it read with what is committed by
    /// now. `None` where there is nothing to validate.
    pub(super) fn validate(&self, unit: &Unit) -> Result<Option<Validation<'_>>> {
        let Some(at) = unit.view().filter(|_| unit.is_serializable()) else { return Ok(None) };
        let reads = unit.reads.lock();
        if reads.is_empty() {
            return Ok(None);
        }
        let mut validation = self.gate.validate();
        let is_met = |written: &Written| reads.meets(written);
        let rows: Vec<_> = reads.tree_rows().collect();
        for key in rows.iter().chain(reads.points()) {
            let is_changed = self.is_point_changed(key, at);
            at.check()?;
            if is_changed? || validation.catch_up(is_met) {
                return Err(self.conflict());
            }
        }
        for range in reads.ranges() {
            if is_planted(Bug::ValidateWithoutRanges) {
                continue;
            }
            let is_unchanged = self.is_range_unchanged(range, at, || !validation.catch_up(is_met));
            at.check()?;
            if !is_unchanged? {
                return Err(self.conflict());
            }
        }
        drop(reads);
        at.check()?;
        Ok(Some(validation))
    }

    fn is_point_changed(&self, key: &VersionKey, at: ReadAt<'_>) -> Result<bool> {
        let tree = self.trees.get(key.tree());
        if tree.as_ref().is_some_and(|tree| is_gone(tree, at)) {
            return Ok(false);
        }
        // Only stamps have to be looked for in the page.
        let tree = tree.filter(|_| self.bulks.has_commit_beyond(at.read_lsn));
        loop {
            let age = match &tree {
                None => self.age(key, None, at),
                Some(tree) => {
                    let page: SharedPage<'_> = self.descent(tree).leaf(Seek::Key(key.key()))?;
                    self.age(key, LeafView::new(page.bytes()).get(key.key()).as_ref(), at)
                }
            };
            if let Some(is_newer) = self.is_newer(age, at)? {
                return Ok(is_newer);
            }
        }
    }

    /// Whether a commit beyond the snapshot wrote the key, be there an open write on top of it or
    /// not. Versions above a registered snapshot are not collected, so the newest one tells, or a
    /// stamp.
    fn age(&self, key: &VersionKey, cell: Option<&Cell<'_>>, at: ReadAt<'_>) -> Age {
        let newest = |cell: &Cell<'_>| cell.stamp.and_then(|stamp| self.bulks.commit_of(&stamp));
        let in_page = cell.and_then(newest);
        let in_store = self.versions.newest_commit(key, newest);
        if in_page.max(in_store).is_some_and(|lsn| lsn > at.read_lsn) {
            return Age::Newer;
        }
        let stamp = cell.and_then(|cell| cell.stamp);
        let is_open = |stamp: &Stamp| !self.bulks.sees(stamp, Lsn::MAX, None);
        match stamp.filter(is_open) {
            Some(stamp) if self.bulks.has_commit_beyond(at.read_lsn) => {
                Age::Behind(self.stamp_seen(stamp))
            }
            _ => Age::Seen,
        }
    }

    /// The answer, once no latch is held. `None`: a transaction was rolled back meanwhile, and the
    /// page has to be looked at again.
    fn is_newer(&self, age: Age, at: ReadAt<'_>) -> Result<Option<bool>> {
        let seen = match age {
            Age::Newer => return Ok(Some(true)),
            Age::Seen => return Ok(Some(false)),
            Age::Behind(seen) => seen,
        };
        let Looked::Cell(before) = self.before_stamp(&seen.stamp, &seen)? else { return Ok(None) };
        // What bears no stamp is in the version store, and was compared.
        let replaced = before.and_then(|before| before.as_cell().stamp);
        let commit_lsn = replaced.and_then(|stamp| self.bulks.commit_of(&stamp));
        Ok(Some(commit_lsn.is_some_and(|lsn| lsn > at.read_lsn)))
    }

    /// Whether no key of the range was written, or became part of it, by a commit since the
    /// snapshot. Keys on the pages are a superset of the keys of any version (T3). `go_on` is asked
    /// behind each leaf.
    fn is_range_unchanged(
        &self,
        range: &ReadRange,
        at: ReadAt<'_>,
        mut go_on: impl FnMut() -> bool,
    ) -> Result<bool> {
        let Some(tree) = self.trees.get(range.tree) else { return Ok(true) };
        if is_gone(&tree, at) {
            return Ok(true);
        }
        let mut from = match &range.lower {
            Bound::Included(key) | Bound::Excluded(key) => key.clone(),
            Bound::Unbounded => Vec::new(),
        };
        loop {
            let (ages, rest) = self.leaf_ages(&tree, range, &from, at)?;
            let mut is_again = false;
            for age in ages {
                match self.is_newer(age, at)? {
                    Some(true) => return Ok(false),
                    Some(false) => {}
                    None => is_again = true,
                }
            }
            if !go_on() {
                return Ok(false);
            }
            match rest {
                _ if is_again => {}
                Some(rest) => from = rest,
                None => return Ok(true),
            }
        }
    }

    /// The ages of the range's keys on the leaf of `from` that are not seen, and where the range goes
    /// on behind the leaf.
    fn leaf_ages(
        &self,
        tree: &TreeInfo,
        range: &ReadRange,
        from: &[u8],
        at: ReadAt<'_>,
    ) -> Result<(Vec<Age>, Option<Vec<u8>>)> {
        let page: SharedPage<'_> = self.descent(tree).leaf(Seek::Key(from))?;
        let leaf = LeafView::new(page.bytes());
        let mut key = VersionKey::new(range.tree, &[]);
        let mut ages = Vec::new();
        if page_lsn(&page) > at.low_lsn {
            for slot in 0..leaf.count() {
                key.set_key(&leaf.key_at(slot).to_vec());
                if range.contains(&key) {
                    let age = self.age(&key, Some(&leaf.cell_at(slot)), at);
                    ages.extend((!matches!(age, Age::Seen)).then_some(age));
                }
            }
        }
        let rest = leaf.high_fence().map(|fence| fence.to_vec());
        Ok((ages, rest.filter(|fence| range.reaches(fence))))
    }
}

/// Whether a tree was dropped at or below a snapshot: nobody has written to it since, and nobody keeps
/// its pages.
fn is_gone(tree: &TreeInfo, at: ReadAt<'_>) -> bool {
    tree.dropped_lsn().is_some_and(|dropped_lsn| dropped_lsn <= at.read_lsn)
}
