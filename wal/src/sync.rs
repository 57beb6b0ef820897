//! The seam to the thread primitives: atomics, mutexes, condition variables, cells, threads and the
//! clock of waits come from here, `parking_lot` and std normally, `loom` under `cfg(loom)`, `shuttle`
//! under `cfg(seawall_shuttle)`.
//!
//! All sides have the shape of `parking_lot` and std. What differs under a model checker is written at the
//! top of `sync/model.rs`. Mutexes do not poison: a panic inside the engine is caught at its own seam
//! (invariant L4).
//!
//! What belongs to the process and not to a database comes from std on every side: a count of ids, the
//! registry of held directory locks, memory that a thread keeps from one call to the next.

#[cfg(not(any(loom, seawall_shuttle)))]
mod imp {
    pub use super::cell::UnsafeCell;
    pub use parking_lot::{
        Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard, WaitTimeoutResult,
    };
    pub use std::sync::atomic;
    pub use std::time::Instant;
    pub use std::{hint, thread, thread_local};
}

#[cfg(any(loom, seawall_shuttle))]
#[path = "sync/model.rs"]
mod imp;

#[cfg(not(loom))]
mod cell;
#[cfg(seawall_shuttle)]
mod shuttle;

pub use imp::{
    Condvar, Instant, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard, UnsafeCell,
    WaitTimeoutResult, atomic, hint, thread, thread_local,
};

#[cfg(test)]
#[cfg(not(any(loom, seawall_shuttle)))]
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
