//! The seam to the thread primitives: atomics, mutexes, condition variables, cells and threads come
//! from here, `parking_lot` and std normally, `loom` under `cfg(loom)`.
//!
//! Both sides have the shape of `parking_lot`. What differs under loom is written at the top of
//! `sync/loom.rs`. Mutexes do not poison: a panic inside the engine is caught at its own seam
//! (invariant L4).

#[cfg(not(loom))]
mod imp {
    pub use parking_lot::{
        Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard, WaitTimeoutResult,
    };
    pub use std::sync::atomic;
    pub use std::{hint, thread};

    /// A cell whose contents are reached through raw pointers only, so that loom can watch every
    /// access. Not `Sync`: the type around it says why sharing is sound.
    #[derive(Debug, Default)]
    #[repr(transparent)]
    pub struct UnsafeCell<T: ?Sized>(std::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        /// Wraps a value.
        pub const fn new(value: T) -> Self {
            Self(std::cell::UnsafeCell::new(value))
        }

        /// Takes the value out.
        pub fn into_inner(self) -> T {
            self.0.into_inner()
        }
    }

    impl<T: ?Sized> UnsafeCell<T> {
        /// Calls `f` with a pointer for reading; it must not outlive the call.
        #[inline]
        pub fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
            f(self.0.get().cast_const())
        }

        /// Calls `f` with a pointer for writing; it must not outlive the call.
        #[inline]
        pub fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
            f(self.0.get())
        }
    }
}

#[cfg(loom)]
#[path = "sync/loom.rs"]
mod imp;

pub use imp::{
    Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard, UnsafeCell,
    WaitTimeoutResult, atomic, hint, thread,
};

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::{Condvar, Mutex, RwLock, UnsafeCell, thread};

    #[test]
    fn notified_waiter_sees_the_change() {
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
    }

    #[test]
    fn wait_for_gives_up_without_a_notification() {
        let lock = Mutex::new(());
        let mut guard = lock.lock();
        assert!(Condvar::new().wait_for(&mut guard, Duration::from_millis(1)).timed_out());
    }

    #[test]
    fn held_locks_refuse_a_second_holder() {
        let mutex = Mutex::new(1);
        let held = mutex.lock();
        assert!(mutex.try_lock().is_none());
        drop(held);
        assert_eq!(*mutex.try_lock().unwrap(), 1);

        let lock = RwLock::new(2);
        let reader = lock.read();
        assert_eq!(*lock.try_read().unwrap(), 2);
        assert!(lock.try_write().is_none());
        drop(reader);
        *lock.write() += 1;
        assert_eq!(*lock.read(), 3);
    }

    #[test]
    fn cell_gives_out_pointers_to_its_value() {
        let cell = UnsafeCell::new(5);
        let written = cell.with_mut(<*mut i32>::cast_const);
        assert!(cell.with(|read| std::ptr::eq(read, written)));
        assert_eq!(cell.into_inner(), 5);
    }
}
