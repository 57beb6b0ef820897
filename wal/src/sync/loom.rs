//! The thread primitives over loom, in the shape of `parking_lot`.
//!
//! What differs from the real ones:
//!
//! * There is no clock. [`Condvar::wait_for`] lets the others run and then times out, at every place
//!   where that is possible; a real timed wait returns at one of these places too. A model therefore
//!   proves nothing about a wait that only a timeout ends, and a lost wake-up behind one stays
//!   hidden: a model of wake-ups uses [`Condvar::wait`].
//! * Nothing can be built in a `static`, and everything is built inside a model.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

pub use loom::cell::UnsafeCell;
pub use loom::sync::{RwLockReadGuard, RwLockWriteGuard, atomic};
pub use loom::{hint, thread};

/// Why a lock of loom is never poisoned: a panic in a model ends the model.
const NEVER_POISONED: &str = "a panic ends the model before another thread takes the lock";

/// Mutual exclusion.
pub struct Mutex<T> {
    inner: loom::sync::Mutex<T>,
}

impl<T> Mutex<T> {
    /// Wraps a value.
    pub fn new(value: T) -> Self {
        Self { inner: loom::sync::Mutex::new(value) }
    }

    /// Waits for the lock.
    #[track_caller]
    pub fn lock(&self) -> MutexGuard<'_, T> {
        let guard = self.inner.lock().expect(NEVER_POISONED);
        MutexGuard { mutex: &self.inner, guard: Some(guard) }
    }

    /// Takes the lock where it is free.
    #[track_caller]
    pub fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        let guard = self.inner.try_lock().ok()?;
        Some(MutexGuard { mutex: &self.inner, guard: Some(guard) })
    }

    /// The value, without locking: nobody else has the mutex.
    pub fn get_mut(&mut self) -> &mut T {
        self.inner.get_mut().expect(NEVER_POISONED)
    }

    /// Takes the value out.
    pub fn into_inner(self) -> T {
        self.inner.into_inner().expect(NEVER_POISONED)
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
    mutex: &'a loom::sync::Mutex<T>,
    /// Absent only while a condition variable has it.
    guard: Option<loom::sync::MutexGuard<'a, T>>,
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
    inner: loom::sync::Condvar,
}

impl Condvar {
    /// A condition nobody waits for.
    #[must_use]
    pub fn new() -> Self {
        Self { inner: loom::sync::Condvar::new() }
    }

    /// Lets go of the lock, waits for a notification, and takes the lock again.
    #[track_caller]
    pub fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
        let held = guard.guard.take().expect("a guard in use holds its lock");
        guard.guard = Some(self.inner.wait(held).expect(NEVER_POISONED));
    }

    /// Lets go of the lock, lets the others run, takes the lock again, and has timed out.
    #[track_caller]
    pub fn wait_for<T>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        _timeout: Duration,
    ) -> WaitTimeoutResult {
        guard.guard = None;
        thread::yield_now();
        guard.guard = Some(guard.mutex.lock().expect(NEVER_POISONED));
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
    inner: loom::sync::RwLock<T>,
}

impl<T> RwLock<T> {
    /// Wraps a value.
    pub fn new(value: T) -> Self {
        Self { inner: loom::sync::RwLock::new(value) }
    }

    /// Waits for a share of the lock.
    #[track_caller]
    pub fn read(&self) -> RwLockReadGuard<'_, T> {
        self.inner.read().expect(NEVER_POISONED)
    }

    /// Takes a share of the lock where no writer has it.
    #[track_caller]
    pub fn try_read(&self) -> Option<RwLockReadGuard<'_, T>> {
        self.inner.try_read().ok()
    }

    /// Waits for the whole lock.
    #[track_caller]
    pub fn write(&self) -> RwLockWriteGuard<'_, T> {
        self.inner.write().expect(NEVER_POISONED)
    }

    /// Takes the whole lock where it is free.
    #[track_caller]
    pub fn try_write(&self) -> Option<RwLockWriteGuard<'_, T>> {
        self.inner.try_write().ok()
    }

    /// The value, without locking: nobody else has the lock.
    pub fn get_mut(&mut self) -> &mut T {
        self.inner.get_mut().expect(NEVER_POISONED)
    }

    /// Takes the value out.
    pub fn into_inner(self) -> T {
        self.inner.into_inner().expect(NEVER_POISONED)
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

#[cfg(test)]
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
