//! The seam to the thread primitives: atomics, mutexes, condition variables and threads come from
//! here, `parking_lot` and std normally, `loom` under `cfg(loom)`.
//!
//! Mutexes do not poison: a panic inside the engine is caught at its own seam (invariant L4).

#[cfg(not(loom))]
mod imp {
    pub use parking_lot::{Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};
    pub use std::sync::atomic;
    pub use std::{hint, thread};
}

#[cfg(loom)]
mod imp {}

pub use imp::{
    Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard, atomic, hint, thread,
};
