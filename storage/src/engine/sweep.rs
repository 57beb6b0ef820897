//! Sweeps: leaves that are purged one by one on the trail of a huge transaction, which has no list of
//! its keys.
//!
//! A commit that leaves such a trail notes it in the catalogue, as part of itself, so the note is as
//! durable as what it tells of. The sweep begins when no reader needs what was there before, and its
//! last step takes the note away. If we crash in between, or the database is closed, the next open
//! finds the note and begins again; leaves that are purged already cost a look. A note may outlive its
//! tree: then there is nothing to sweep.
//!
//! What a rollback leaves, here or in recovery, is swept without a note: a crash forgets that.

use std::collections::BTreeMap;

use seawall_wal::log::{CreditRequest, Purpose};
use seawall_wal::record::{Body, Cell, Op};
use seawall_wal::{Lsn, Result, TreeId, TxnId};

use super::auto_commit::CHANGE_RECORD_BYTES;
use super::structure::page_ref;
use super::unit::Unit;
use super::{Chain, Decision, Engine};
use crate::catalogue::TrailRow;
use crate::catalogue::row::trail_key;
use crate::page::{InnerView, LeafView, PageRead};
use crate::pool::{ExclusivePage, SharedPage};
use crate::tree::Seek;
use crate::version::{KeySpan, VersionKey};

/// Leaves that one step purges.
const SWEEP_PER_STEP: usize = 64;

/// Leaves to be purged.
#[derive(Debug)]
pub(super) struct Sweep {
    next: VersionKey,
    high: Vec<u8>,
    /// Key of the catalogue's row that tells of it.
    note: Option<Vec<u8>>,
    /// Only the note is left.
    is_swept: bool,
}

/// What is due in a tree that a change of the catalogue holds: it may take the tree away, or not.
#[derive(Debug, Default)]
pub(super) struct Aside {
    keys: Vec<VersionKey>,
    sweeps: Vec<Sweep>,
}

impl Sweep {
    fn new(tree: TreeId, span: KeySpan, note: Option<Vec<u8>>) -> Self {
        Self { next: VersionKey::new(tree, &span.low), high: span.high, note, is_swept: false }
    }
}

impl Engine {
    /// Notes in the catalogue, as part of the unit, what its commit leaves to be swept.
    pub(super) fn note_trails(&self, unit: &mut Unit) -> Result<()> {
        for (txn, tree, span) in unit.trails() {
            let row = TrailRow::of(&span).encode();
            let key = trail_key(tree, txn);
            let put = |_: Option<Cell<'_>>| Decision::Put(&row[..]);
            self.unit_write(unit, &self.catalogue, &key, row.len(), put)?;
        }
        Ok(())
    }

    /// Forgets huge transactions behind whose stamps nobody looks any more, and has their trail swept.
    pub(crate) fn reap_bulks(&self, horizon: Lsn) {
        for bulk in self.bulks.reap(horizon) {
            let trails = bulk.take_spans().into_iter().filter(|(_, span)| span.needs_purge);
            let sweep = |(tree, span)| Sweep::new(tree, span, Some(trail_key(tree, bulk.id)));
            self.sweeps.lock().extend(trails.map(sweep));
        }
    }

    /// Has the leaves of these keys purged: those that a huge transaction wrote before it was rolled
    /// back.
    pub(crate) fn sweep_all(&self, spans: impl IntoIterator<Item = (TreeId, KeySpan)>) {
        let sweeps = spans.into_iter().map(|(tree, span)| Sweep::new(tree, span, None));
        self.sweeps.lock().extend(sweeps);
    }

    /// Has a trail swept of which a row of the catalogue tells.
    pub(crate) fn sweep_noted(&self, tree: TreeId, txn: TxnId, row: TrailRow) {
        let span = KeySpan { low: row.low, high: row.high, needs_purge: true };
        let sweep = Sweep::new(tree, span, Some(trail_key(tree, txn)));
        self.sweeps.lock().push_back(sweep);
    }

    /// Purges the next leaves of the oldest sweep. Returns how many it has looked at, the note's
    /// counted.
    pub(super) fn sweep_step(&self, horizon: Lsn) -> Result<usize> {
        let Some(mut sweep) = self.next_sweep() else { return Ok(0) };
        let mut looked_at = 0;
        while !sweep.is_swept && looked_at < SWEEP_PER_STEP {
            match self.sweep_leaf(&mut sweep, horizon) {
                Ok(true) => looked_at += 1,
                Ok(false) => {
                    self.set_aside(sweep.next.tree(), |aside| aside.sweeps.push(sweep));
                    return Ok(looked_at);
                }
                Err(error) => {
                    self.sweeps.lock().push_front(sweep);
                    return Err(error);
                }
            }
        }
        if !sweep.is_swept {
            self.sweeps.lock().push_front(sweep);
            return Ok(looked_at);
        }
        if self.must_wait(&sweep) {
            self.sweeps.lock().push_back(sweep);
            return Ok(looked_at);
        }
        match self.forget_trail(&sweep, horizon) {
            Err(error) if self.tell_damage(&error) => {}
            Err(error) => {
                self.sweeps.lock().push_front(sweep);
                return Err(error);
            }
            Ok(()) => {}
        }
        Ok(looked_at + 1)
    }

    /// Takes the first sweep for which there is something to do.
    fn next_sweep(&self) -> Option<Sweep> {
        let mut sweeps = self.sweeps.lock();
        let at = sweeps.iter().position(|sweep| !self.must_wait(sweep))?;
        sweeps.remove(at)
    }

    /// Whether only the note is left, and its version is not collected yet.
    fn must_wait(&self, sweep: &Sweep) -> bool {
        let is_needed =
            |note: &Vec<u8>| self.versions.is_needed(&VersionKey::new(TreeId::CATALOGUE, note));
        sweep.is_swept && sweep.note.as_ref().is_some_and(is_needed)
    }

    /// Purges the sweep's next leaf. `false`: its tree is held.
    fn sweep_leaf(&self, sweep: &mut Sweep, horizon: Lsn) -> Result<bool> {
        let rest = match self.purge_leaf(&sweep.next, horizon) {
            Ok(purged) if purged.is_held => return Ok(false),
            Err(error) if self.tell_damage(&error) => self.behind_leaf(&sweep.next),
            purged => purged.map(|purged| purged.rest),
        };
        match rest {
            Ok(Some(rest)) if rest <= sweep.high => sweep.next.set_key(&rest),
            Ok(_) => sweep.is_swept = true,
            // The way to the leaves behind is damaged as well.
            Err(error) if self.tell_damage(&error) => sweep.is_swept = true,
            Err(error) => return Err(error),
        }
        Ok(true)
    }

    /// Where the leaf behind the key's begins, as the page above says.
    fn behind_leaf(&self, due: &VersionKey) -> Result<Option<Vec<u8>>> {
        let Some(tree) = self.trees.get(due.tree()) else { return Ok(None) };
        let parent = self.descent(&tree).at_level::<SharedPage<'_>>(Seek::Key(due.key()), 1)?;
        let Some(parent) = parent else { return Ok(None) };
        let inner = InnerView::new(parent.bytes());
        Ok(inner.next_separator(inner.slot_for(due.key())).map(|separator| separator.to_vec()))
    }

    /// Takes the note of a sweep away, which has come to its end. Nobody reads these rows, so none is
    /// left behind as a ghost.
    fn forget_trail(&self, sweep: &Sweep, horizon: Lsn) -> Result<()> {
        let Some(key) = &sweep.note else { return Ok(()) };
        let mut credit = self.credit(&CreditRequest {
            payload_bytes: CHANGE_RECORD_BYTES,
            is_sync_commit: false,
            purpose: Purpose::Garbage,
        })?;
        let mut appender = self.appenders.acquire();
        let mut page: ExclusivePage<'_> = self.descent(&self.catalogue).leaf(Seek::Key(key))?;
        if LeafView::new(page.bytes()).get(key).is_some() {
            let remove = Op::Remove { tree: TreeId::CATALOGUE, key };
            let body = Body::Purge { horizon, refs: vec![page_ref(&page, remove)] };
            self.append(&mut appender, &mut credit, Chain::NONE, &body, &mut [&mut page], |_| {});
        }
        Ok(())
    }

    /// Keeps a key until nobody holds its tree.
    pub(super) fn set_key_aside(&self, key: VersionKey) {
        self.set_aside(key.tree(), |aside| aside.keys.push(key));
    }

    fn set_aside(&self, tree: TreeId, add: impl FnOnce(&mut Aside)) {
        add(self.aside.lock().entry(tree).or_default());
    }

    /// Takes up again what was set aside in trees that nobody holds any more.
    pub(super) fn take_up_aside(&self) {
        let mut aside = self.aside.lock();
        let is_held = |tree: &TreeId| {
            let tree = self.trees.get(*tree).filter(|tree| tree.dropped_lsn().is_none());
            tree.is_some_and(|tree| tree.collect().is_err())
        };
        let (held, free): (BTreeMap<_, _>, BTreeMap<_, _>) =
            std::mem::take(&mut *aside).into_iter().partition(|(tree, _)| is_held(tree));
        *aside = held;
        drop(aside);
        for Aside { keys, sweeps } in free.into_values() {
            self.versions.put_back_purgeable(keys.into_iter());
            self.sweeps.lock().extend(sweeps);
        }
    }
}
