//! Threads that commit as fast as they can, each time a random key that is there.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Scope, ScopedJoinHandle};

use seawall::{Durability, Tree};

use super::loaded::{key, value};
use crate::failure::{Failure, Outcome};
use crate::random::Random;

/// Tells threads to end; also when it is dropped, so that a failure between does not wait for ever.
#[derive(Debug)]
pub(super) struct Stop<'a>(&'a AtomicBool);

impl<'a> Stop<'a> {
    pub(super) const fn new(flag: &'a AtomicBool) -> Self {
        Self(flag)
    }
}

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What a committer does, and where it notes how long that took.
#[derive(Clone, Copy, Debug)]
pub(super) struct Commits<'a> {
    pub(super) tree: &'a Tree,
    /// Keys have numbers below.
    pub(super) pairs: u64,
    pub(super) durability: Durability,
    pub(super) stop: &'a AtomicBool,
}

impl<'scope> Commits<'scope> {
    /// Starts a thread that commits until it is told to stop. `timed` runs a commit, times it, and
    /// gives back its result; the thread's result is `notes`.
    pub(super) fn spawn<N: Send + 'scope>(
        self,
        scope: &'scope Scope<'scope, '_>,
        seed: u64,
        mut notes: N,
        timed: impl Fn(&mut N, &mut dyn FnMut() -> seawall::Result<()>) -> seawall::Result<()>
        + Send
        + 'scope,
    ) -> ScopedJoinHandle<'scope, Outcome<N>> {
        scope.spawn(move || {
            let mut random = Random::new(seed << 32);
            while !self.stop.load(Ordering::Relaxed) {
                let key = key(random.below(self.pairs));
                let value = value(&mut random);
                let mut commit = || self.tree.insert_with(key, value, self.durability);
                timed(&mut notes, &mut commit)?;
            }
            Ok(notes)
        })
    }
}

/// What a thread came to.
pub(super) fn join<T>(handle: ScopedJoinHandle<'_, Outcome<T>>) -> Outcome<T> {
    handle.join().unwrap_or_else(|_| Err(Failure::new("a thread panicked")))
}
