//! Rings that no disk uses, as many as disks of this process have used at the same time.

use std::os::fd::RawFd;
use std::sync::{Mutex, PoisonError};
use std::{io, mem, process};

use super::NO_LOCK;
use super::ring::{LOCKS_MAX, Ring};

static IDLE: Mutex<Idle> = Mutex::new(Idle { process: 0, rings: Vec::new() });

struct Idle {
    /// Whose they are: a fork copies what stands here, and the rings' memory not.
    process: u32,
    rings: Vec<Ring>,
}

/// An idle ring, or a new one, with these locks in its file table.
pub(super) fn ring(locks: &[RawFd; LOCKS_MAX]) -> io::Result<Ring> {
    let Some(mut ring) = with_idle(Vec::pop) else { return Ring::new(locks) };
    let mut held = locks.iter().enumerate().filter(|(_, lock)| **lock != NO_LOCK);
    match held.try_for_each(|(slot, &lock)| ring.set_lock(slot, lock)) {
        Ok(()) => Ok(ring),
        Err(_refused) => Ring::new(locks),
    }
}

/// Keeps rings whose file tables are empty.
pub(super) fn keep(rings: impl Iterator<Item = Ring>) {
    with_idle(|idle| idle.extend(rings));
}

fn with_idle<T>(act: impl FnOnce(&mut Vec<Ring>) -> T) -> T {
    let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
    let process = process::id();
    if mem::replace(&mut idle.process, process) != process {
        // To unmap what is not there could hit what has taken its place.
        mem::take(&mut idle.rings).into_iter().for_each(mem::forget);
    }
    act(&mut idle.rings)
}
