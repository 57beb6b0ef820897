//! The commit gate: makes the validation of a serializable transaction and the reservation of its
//! commit record one step against every other commit.
//!
//! Every commit holds the gate shared while it reserves its record. A validator
//!
//! 1. announces itself, notes the length of the list, and passes the gate exclusively once: commits
//!    that had not seen the announcement, or had left their keys before it, have reserved by then, so
//!    their versions show in what is read next;
//! 2. validates at leisure, without the gate, while later commits leave their keys in a list;
//! 3. takes the gate exclusively, compares the list with what it read, and reserves.
//!
//! So a write that commits before the validator's reservation is found in step 2 or in the list,
//! and the gate is held exclusively for a comparison only (backward validation as in Kung and
//! Robinson's "On Optimistic Methods for Concurrency Control", with the parallel phase unlocked).

use std::sync::Arc;

use seawall_wal::sync::atomic::{AtomicUsize, Ordering};
use seawall_wal::sync::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::version::VersionKey;

/// Keys written by one commit.
pub(crate) type WrittenKeys = Arc<[VersionKey]>;

/// The gate that commits pass.
#[derive(Debug, Default)]
pub(crate) struct CommitGate {
    gate: RwLock<()>,
    validators: AtomicUsize,
    /// Keys of commits that passed while somebody was validating.
    recent: Mutex<Vec<WrittenKeys>>,
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
    /// Entries of the list that were there when the validation began.
    seen: usize,
}

/// The last step of a validation: nobody else commits while it is held.
#[derive(Debug)]
pub(crate) struct ValidatedPass<'a>(
    #[expect(dead_code, reason = "held for its drop")] RwLockWriteGuard<'a, ()>,
);

impl CommitGate {
    /// Passes a commit that does not validate. `keys` is asked for the written keys only when
    /// somebody is validating. Called with leaves latched: the gate ranks below latches, and no
    /// holder of it waits for a latch.
    pub(crate) fn pass(&self, keys: impl FnOnce() -> WrittenKeys) -> CommitPass<'_> {
        let pass = self.gate.read();
        if self.validators.load(Ordering::SeqCst) > 0 {
            self.recent.lock().push(keys());
        }
        CommitPass(pass)
    }

    /// Starts a validation.
    pub(crate) fn validate(&self) -> Validation<'_> {
        self.validators.fetch_add(1, Ordering::SeqCst);
        // Before the gate is passed: a commit that leaves its keys after that may not have reserved
        // by the time step 2 looks at its versions, so the list is the only place to find it.
        let seen = self.recent.lock().len();
        drop(self.gate.write());
        Validation { gate: self, seen }
    }
}

impl<'a> Validation<'a> {
    /// Takes the gate for the reservation, unless a commit since [`CommitGate::validate`] wrote a
    /// key that `is_read` names. The keys written by this transaction are left for other validators.
    pub(crate) fn finish(
        &self,
        mut is_read: impl FnMut(&VersionKey) -> bool,
        written: WrittenKeys,
    ) -> Option<ValidatedPass<'a>> {
        let pass = self.gate.gate.write();
        let mut recent = self.gate.recent.lock();
        if recent[self.seen..].iter().flat_map(|keys| keys.iter()).any(&mut is_read) {
            return None;
        }
        recent.push(written);
        drop(recent);
        Some(ValidatedPass(pass))
    }
}

impl Drop for Validation<'_> {
    fn drop(&mut self) {
        let mut recent = self.gate.recent.lock();
        if self.gate.validators.fetch_sub(1, Ordering::SeqCst) == 1 {
            recent.clear();
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use seawall_wal::TreeId;

    fn key(name: &str) -> VersionKey {
        VersionKey::new(TreeId::new(1), name.as_bytes())
    }

    fn written(names: &[&str]) -> WrittenKeys {
        names.iter().map(|name| key(name)).collect()
    }

    #[test]
    fn a_commit_during_validation_is_compared_and_one_outside_is_not_kept() {
        let gate = CommitGate::default();
        drop(gate.pass(|| unreachable!("nobody validates")));
        let validation = gate.validate();
        drop(gate.pass(|| written(&["a"])));
        assert!(validation.finish(|read| *read == key("a"), written(&[])).is_none());
        assert!(validation.finish(|read| *read == key("b"), written(&["b"])).is_some());
        drop(validation);
        assert!(gate.recent.lock().is_empty());
    }

    #[test]
    fn of_two_validators_that_read_what_the_other_writes_one_fails() {
        let gate = CommitGate::default();
        let (first, second) = (gate.validate(), gate.validate());
        drop(first.finish(|read| *read == key("b"), written(&["a"])).expect("nothing in the way"));
        assert!(second.finish(|read| *read == key("a"), written(&["b"])).is_none());
    }
}
