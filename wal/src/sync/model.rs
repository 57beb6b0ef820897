//! The thread primitives over a model checker, in the shape of `parking_lot`: loom, which tries every
//! interleaving of a few steps, or shuttle, which tries many interleavings of a whole database.
//!
//! What differs from the real ones:
//!
//! * There is no clock. [`Condvar::wait_for`] lets the others run and then times out, at every place
//!   where that is possible; a real timed wait returns at one of these places too. A model therefore
//!   proves nothing about a wait that only a timeout ends, and a lost wake-up behind one stays
//!   hidden: a model of wake-ups uses [`Condvar::wait`]. Under shuttle, deadlines pass by the number of
//!   such waits (`sync/shuttle.rs`).
//! * With loom nothing can be built in a `static`, and everything is built inside a model.
//!
//! What shuttle does not cover:
//!
//! * It takes every atomic access for a sequentially consistent one, and a fence for nothing: orderings
//!   are loom's matter.
//! * Threads take turns at the primitives of this module alone. What stands between two of them happens
//!   at once: the copy of a record into the log's ring and of words into a page, whose own words are
//!   std's, and everything that the simulated disk does under its mutex.
//! * Threads that the engine begins by itself are left out: a model opens its database with the steps of
//!   the background by hand and calls them from threads of its own. Redo by several workers uses std's
//!   threads, so a model's database recovers with one.
//! * Real files: a system call that waits stops every thread of the model.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{LockResult, PoisonError, TryLockError, TryLockResult};
use std::time::Duration;

#[cfg(loom)]
use loom as checker;
#[cfg(not(loom))]
use shuttle as checker;

#[cfg(not(loom))]
pub use super::cell::UnsafeCell;
#[cfg(not(loom))]
pub use super::shuttle::Instant;
pub use checker::sync::{RwLockReadGuard, RwLockWriteGuard, atomic};
pub use checker::{hint, thread_local};
#[cfg(loom)]
pub use loom::cell::UnsafeCell;
#[cfg(loom)]
pub use std::time::Instant;

/// Threads of the checker, with what it lacks of std's.
pub mod thread {
    #[cfg(not(loom))]
    pub use super::super::shuttle::{Builder, JoinHandle, park_timeout, spawn};
    pub use super::checker::thread::*;

    /// Lets the others run once. Nobody is unparked by name: a caller looks again.
    #[cfg(loom)]
    #[track_caller]
    pub fn park_timeout(_at_most: std::time::Duration) {
        yield_now();
    }
}

/// A panic ends the model; until then locks are taken as if it had not been.
fn unpoisoned<G>(locked: LockResult<G>) -> G {
    locked.unwrap_or_else(PoisonError::into_inner)
}

fn try_unpoisoned<G>(locked: TryLockResult<G>) -> Option<G> {
    match locked {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// Lets the others run while a timed wait would last.
#[track_caller]
fn let_others_run() {
    #[cfg(loom)]
    thread::yield_now();
    #[cfg(not(loom))]
    super::shuttle::pass_time();
}

/// Mutual exclusion.
pub struct Mutex<T> {
    inner: checker::sync::Mutex<T>,
}

impl<T> Mutex<T> {
    /// Wraps a value.
    pub fn new(value: T) -> Self {
        Self { inner: checker::sync::Mutex::new(value) }
    }

    /// Waits for the lock.
    #[track_caller]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        let guard = unpoisoned(self.inner.lock());
        MutexGuard { mutex: &self.inner, guard: Some(guard) }
    }

    /// Takes the lock where it is free.
    #[track_caller]
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let guard = try_unpoisoned(self.inner.try_lock())?;
        Some(MutexGuard { mutex: &self.inner, guard: Some(guard) })
    }

    /// The value, without locking: nobody else has the mutex.
    pub fn get_mut(&mut self) -> &mut T {
        unpoisoned(self.inner.get_mut())
    }

    /// Takes the value out.
    pub fn into_inner(self) -> T {
        unpoisoned(self.inner.into_inner())
    }
}

impl<T: Default> Default for Mutex<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> fmt::Debug for Mutex<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Looking at the value would take the lock, and change what the model explores.
        f.write_str("Mutex { .. }")
    }
}

/// A held [`Mutex`].
pub struct MutexGuard<'a, T> {
    mutex: &'a checker::sync::Mutex<T>,
    /// Absent only while a condition variable has it.
    guard: Option<checker::sync::MutexGuard<'a, T>>,
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.guard.as_ref().expect("a wait puts the guard back before it returns")
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.guard.as_mut().expect("a wait puts the guard back before it returns")
    }
}

impl<T: fmt::Debug> fmt::Debug for MutexGuard<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

/// Whether a timed wait ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    /// Whether the wait ran out.
    #[must_use]
    pub const fn timed_out(self) -> bool {
        self.0
    }
}

/// A condition to wait for, beside a [`Mutex`].
#[derive(Debug, Default)]
pub struct Condvar {
    inner: checker::sync::Condvar,
}

impl Condvar {
    /// A condition nobody waits for.
    #[must_use]
    pub fn new() -> Self {
        Self { inner: checker::sync::Condvar::new() }
    }

    /// Lets go of the lock, waits for a notification, and takes the lock again.
    #[track_caller]
    pub fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        let held = guard.guard.take().expect("a guard in use holds its lock");
        guard.guard = Some(unpoisoned(self.inner.wait(held)));
    }

    /// Lets go of the lock, lets the others run, takes the lock again, and has timed out.
    #[track_caller]
    pub fn wait_for<T>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        _timeout: Duration,
    ) -> WaitTimeoutResult {
        guard.guard = None;
        let_others_run();
        guard.guard = Some(unpoisoned(guard.mutex.lock()));
        WaitTimeoutResult(true)
    }

    /// Wakes one waiter.
    #[track_caller]
    pub fn notify_one(&self) {
        self.inner.notify_one();
    }

    /// Wakes all waiters.
    #[track_caller]
    pub fn notify_all(&self) {
        self.inner.notify_all();
    }
}

/// Many readers or one writer.
pub struct RwLock<T> {
    inner: checker::sync::RwLock<T>,
}

impl<T> RwLock<T> {
    /// Wraps a value.
    pub fn new(value: T) -> Self {
        Self { inner: checker::sync::RwLock::new(value) }
    }

    /// Waits for a share of the lock.
    #[track_caller]
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        unpoisoned(self.inner.read())
    }

    /// Takes a share of the lock where no writer has it.
    #[track_caller]
    pub fn try_read(&self) -> Option<RwLockReadGuard<'_, T>> {
        try_unpoisoned(self.inner.try_read())
    }

    /// Waits for the whole lock.
    #[track_caller]
    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        unpoisoned(self.inner.write())
    }

    /// Takes the whole lock where it is free.
    #[track_caller]
    pub fn try_write(&self) -> Option<RwLockWriteGuard<'_, T>> {
        try_unpoisoned(self.inner.try_write())
    }

    /// The value, without locking: nobody else has the lock.
    pub fn get_mut(&mut self) -> &mut T {
        unpoisoned(self.inner.get_mut())
    }

    /// Takes the value out.
    pub fn into_inner(self) -> T {
        unpoisoned(self.inner.into_inner())
    }
}

impl<T: Default> Default for RwLock<T> {
    fn default() -> Self {
        Self::new(T::default())
    }
}

impl<T> fmt::Debug for RwLock<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RwLock { .. }")
    }
}

#[cfg(all(test, loom))]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::{Condvar, Mutex, thread};

    #[test]
    fn model_of_a_notified_waiter_ends() {
        loom::model(|| {
            let shared = Arc::new((Mutex::new(false), Condvar::new()));
            let notifier = thread::spawn({
                let shared = Arc::clone(&shared);
                move || {
                    *shared.0.lock() = true;
                    shared.1.notify_all();
                }
            });
            let mut ready = shared.0.lock();
            while !*ready {
                shared.1.wait(&mut ready);
            }
            drop(ready);
            notifier.join().unwrap();
        });
    }

    #[test]
    fn timed_wait_lets_the_other_thread_in() {
        loom::model(|| {
            let shared = Arc::new((Mutex::new(0), Condvar::new()));
            let other = thread::spawn({
                let shared = Arc::clone(&shared);
                move || *shared.0.lock() = 1
            });
            let mut value = shared.0.lock();
            while *value == 0 {
                assert!(shared.1.wait_for(&mut value, Duration::from_millis(1)).timed_out());
            }
            drop(value);
            other.join().unwrap();
        });
    }
}
