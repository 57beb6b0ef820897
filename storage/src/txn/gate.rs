//! The commit gate: makes the validation of a serializable transaction and the reservation of its
//! commit record one step against every other commit.
//!
//! Every commit holds the gate shared while it reserves its record. A validator
//!
//! 1. announces itself, notes the length of the list, and passes the gate exclusively once: commits
//!    that had not seen the announcement, or had left their keys before it, have reserved by then, so
//!    their versions show in what is read next;
//! 2. validates at leisure, without the gate, while later commits leave their keys in a list, with which it
//!    catches up now and then, so that the list stays short;
//! 3. takes the gate exclusively, compares what is left of the list with what it read, and reserves.
//!
//! So a write that commits before the validator's reservation is found in step 2 or in the list,
//! and the gate is held exclusively for a comparison only (backward validation as in Kung and
//! Robinson's "On Optimistic Methods for Concurrency Control", with the parallel phase unlocked).

use std::collections::VecDeque;
use std::collections::btree_map::{BTreeMap, Entry};
use std::sync::Arc;

use seawall_wal::TreeId;
use seawall_wal::codec::{to_u64, to_usize};
use seawall_wal::planted::{Bug, is_planted};
use seawall_wal::sync::atomic::{AtomicUsize, Ordering};
use seawall_wal::sync::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::version::VersionKey;

/// Commits in the list that a validation compares at a time while it is under way.
const CATCH_UP_COMMITS: usize = if cfg!(loom) { 1 } else { 256 };

/// What one commit wrote.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) keys: Arc<[VersionKey]>,
    /// Trees of which a huge transaction may have written any key: it does not list them.
    pub(crate) trees: Arc<[TreeId]>,
}

impl Written {
    /// Written by a transaction that lists its keys.
    pub(crate) fn keys(keys: &[VersionKey]) -> Self {
        Self { keys: Arc::from(keys), trees: Arc::from([]) }
    }
}

/// The gate that commits pass.
#[derive(Debug, Default)]
pub(crate) struct CommitGate {
    gate: RwLock<()>,
    validators: AtomicUsize,
    recent: Mutex<Recent>,
}

/// Writes of commits that passed while somebody was validating.
#[derive(Debug, Default)]
struct Recent {
    /// How many were left before the first one here.
    first: u64,
    written: VecDeque<Written>,
    /// Up to where the validations under way have compared, and how many of them just there.
    seen: BTreeMap<u64, usize>,
}

impl Recent {
    fn end(&self) -> u64 {
        self.first + to_u64(self.written.len())
    }

    fn begin(&mut self) -> u64 {
        let seen = self.end();
        *self.seen.entry(seen).or_default() += 1;
        seen
    }

    /// Ends a validation that has compared up to `seen`. What those do not need that are left goes: validations
    /// may overlap for ever.
    fn finish(&mut self, seen: u64) {
        if let Entry::Occupied(mut entry) = self.seen.entry(seen) {
            *entry.get_mut() -= 1;
            if *entry.get() == 0 {
                entry.remove();
            }
        }
        let needed = self.seen.keys().next().copied().unwrap_or(u64::MAX).min(self.end());
        self.written.drain(..to_usize(needed - self.first));
        self.first = needed;
    }

    /// A validation that had compared up to `seen` has come to `end`.
    fn advance(&mut self, seen: u64, end: u64) {
        *self.seen.entry(end).or_default() += 1;
        self.finish(seen);
    }

    fn behind(&self, seen: u64) -> impl Iterator<Item = &Written> {
        self.written.range(to_usize(seen - self.first)..)
    }
}

/// A commit's hold on the gate: dropped once its record is reserved.
#[derive(Debug)]
pub(crate) struct CommitPass<'a>(
    #[expect(dead_code, reason = "held for its drop")] RwLockReadGuard<'a, ()>,
);

/// A transaction that is being validated.
#[derive(Debug)]
pub(crate) struct Validation<'a> {
    gate: &'a CommitGate,
    /// How many of those that were ever left in the list it need not compare any more.
    seen: u64,
}

/// The last step of a validation: nobody else commits while it is held.
#[derive(Debug)]
pub(crate) struct ValidatedPass<'a>(
    #[expect(dead_code, reason = "held for its drop")] RwLockWriteGuard<'a, ()>,
);

impl CommitGate {
    /// Passes a commit that does not validate. `written` is asked only when somebody is validating.
    /// Called with leaves latched: the gate ranks below latches, and no holder of it waits for a latch.
    pub(crate) fn pass(&self, written: impl FnOnce() -> Written) -> CommitPass<'_> {
        let pass = self.gate.read();
        if self.validators.load(Ordering::SeqCst) > 0 {
            self.recent.lock().written.push_back(written());
        }
        CommitPass(pass)
    }

    /// Starts a validation.
    pub(crate) fn validate(&self) -> Validation<'_> {
        self.validators.fetch_add(1, Ordering::SeqCst);
        // Before the gate is passed: a commit that leaves its keys after that may not have reserved
        // by the time step 2 looks at its versions, so the list is the only place to find it.
        let seen = self.recent.lock().begin();
        drop(self.gate.write());
        Validation { gate: self, seen }
    }
}

impl<'a> Validation<'a> {
    /// Compares what others have left in the list, all but the newest, so that little is left to be
    /// compared while nobody may commit, and little is kept however long the validation takes. `true`: a
    /// commit wrote something of which `is_read` says that it was read.
    pub(crate) fn catch_up(&mut self, mut is_read: impl FnMut(&Written) -> bool) -> bool {
        loop {
            let mut recent = self.gate.recent.lock();
            if recent.end() - self.seen < to_u64(CATCH_UP_COMMITS) {
                return false;
            }
            let written: Vec<_> =
                recent.behind(self.seen).take(CATCH_UP_COMMITS).cloned().collect();
            let compared = self.seen + to_u64(written.len());
            recent.advance(std::mem::replace(&mut self.seen, compared), compared);
            drop(recent);
            if written.iter().any(&mut is_read) && !is_planted(Bug::ValidateWithoutRecent) {
                return true;
            }
        }
    }

    /// Catches up, and takes the gate for the reservation, unless a commit since [`CommitGate::validate`] wrote
    /// something of which `is_read` says that it was read. What this transaction has written is left
    /// for other validators.
    pub(crate) fn finish(
        &mut self,
        mut is_read: impl FnMut(&Written) -> bool,
        written: Written,
    ) -> Option<ValidatedPass<'a>> {
        if self.catch_up(&mut is_read) {
            return None;
        }
        let pass = self.gate.gate.write();
        let mut recent = self.gate.recent.lock();
        let is_met = recent.behind(self.seen).any(is_read);
        if is_met && !is_planted(Bug::ValidateWithoutRecent) {
            return None;
        }
        recent.written.push_back(written);
        drop(recent);
        Some(ValidatedPass(pass))
    }
}

impl Drop for Validation<'_> {
    fn drop(&mut self) {
        let mut recent = self.gate.recent.lock();
        self.gate.validators.fetch_sub(1, Ordering::SeqCst);
        recent.finish(self.seen);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn written(names: &[&str]) -> Written {
        let key = |name: &&str| VersionKey::new(TreeId::new(1), name.as_bytes());
        Written::keys(&names.iter().map(key).collect::<Vec<_>>())
    }

    fn reads(name: &str) -> impl Fn(&Written) -> bool {
        let key = VersionKey::new(TreeId::new(1), name.as_bytes());
        move |written| written.keys.contains(&key)
    }

    #[test]
    fn a_commit_during_validation_is_compared_and_one_outside_is_not_kept() {
        let gate = CommitGate::default();
        drop(gate.pass(|| unreachable!("nobody validates")));
        let mut validation = gate.validate();
        drop(gate.pass(|| written(&["a"])));
        assert!(validation.finish(reads("a"), written(&[])).is_none());
        assert!(validation.finish(reads("b"), written(&["b"])).is_some());
        drop(validation);
        assert!(gate.recent.lock().written.is_empty());
    }

    #[test]
    fn the_list_does_not_grow_while_validations_overlap() {
        let gate = CommitGate::default();
        let mut last = gate.validate();
        for _ in 0..1000 {
            drop(gate.pass(|| written(&["a"])));
            let mut next = gate.validate();
            drop(gate.pass(|| written(&["b"])));
            assert!(last.finish(reads("a"), written(&[])).is_none());
            assert!(next.finish(reads("a"), written(&[])).is_some());
            assert!(next.finish(reads("b"), written(&[])).is_none());
            last = next;
        }
        let left = gate.recent.lock().written.len();
        assert!(left < 10, "{left} are left");
        drop(last);
        assert!(gate.recent.lock().written.is_empty());
    }

    #[test]
    fn the_list_stays_short_beside_a_validation_that_catches_up() {
        let gate = CommitGate::default();
        let mut validation = gate.validate();
        for _ in 0..10_000 {
            drop(gate.pass(|| written(&["a"])));
            assert!(!validation.catch_up(reads("b")));
            assert!(gate.recent.lock().written.len() <= CATCH_UP_COMMITS);
        }
        (0..CATCH_UP_COMMITS).for_each(|_| drop(gate.pass(|| written(&["b"]))));
        assert!(validation.catch_up(reads("b")));
    }

    #[test]
    fn of_two_validators_that_read_what_the_other_writes_one_fails() {
        let gate = CommitGate::default();
        let (mut first, mut second) = (gate.validate(), gate.validate());
        drop(first.finish(reads("b"), written(&["a"])).expect("nothing in the way"));
        assert!(second.finish(reads("a"), written(&["b"])).is_none());
    }
}
