//! Detection of a forked child that uses its parent's handle (invariant L4), with one load.
//!
//! The argument for the `unsafe` here: a [`ForkGuard`] owns one private anonymous mapping of
//! `MAPPED_BYTES`, made by `new`, unmapped by the drop and moved never. It is only reached as one
//! `AtomicU64` at its start, which is aligned to the page and initialised (a fresh mapping is zero).
//! The kernel replaces the mapping by zeros in a forked child (`MADV_WIPEONFORK`, Linux 4.14); to the
//! child that looks like a store of zero made before its first instruction.

use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};
use std::{io, process};

use rustix::mm::{self, Advice, MapFlags, ProtFlags};

/// Bytes of the mapping; the kernel rounds up to its page size.
const MAPPED_BYTES: usize = 4096;
/// What stands in the mapping in the process that made it.
const PARENT: u64 = 0x5345_4157_414c_4c31;

/// Tells the process that made it from its forked children.
#[derive(Debug)]
pub struct ForkGuard {
    mark: NonNull<AtomicU64>,
    /// Where the kernel does not wipe, the id of the process is compared, a system call each time.
    fallback_pid: Option<u32>,
}

impl ForkGuard {
    /// A guard of this process.
    ///
    /// # Errors
    /// When the kernel gives no memory.
    pub fn new() -> io::Result<Self> {
        // SAFETY: a new private anonymous mapping at an address of the kernel's choice overlaps
        // nothing.
        let mapped = unsafe {
            mm::mmap_anonymous(
                ptr::null_mut(),
                MAPPED_BYTES,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE,
            )
        }?;
        let mark = NonNull::new(mapped.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        let mut guard = Self { mark, fallback_pid: None };
        if !guard.wipe_on_fork() {
            guard.fallback_pid = Some(process::id());
        }
        guard.mark().store(PARENT, Ordering::Relaxed);
        Ok(guard)
    }

    /// Whether this process is a child of the one that made the guard. The child has no other
    /// threads, and its own load comes after the fork, so no ordering is needed.
    #[inline]
    #[must_use]
    pub fn is_forked(&self) -> bool {
        self.mark().load(Ordering::Relaxed) != PARENT
            || self.fallback_pid.is_some_and(|pid| pid != process::id())
    }

    fn mark(&self) -> &AtomicU64 {
        // SAFETY: the mapping is there until the drop, aligned, initialised, and only reached as
        // this atomic (see the module).
        unsafe { self.mark.as_ref() }
    }

    #[cfg(target_os = "linux")]
    fn wipe_on_fork(&self) -> bool {
        // SAFETY: the range is the mapping that this guard owns; the advice changes nothing in this
        // process.
        let advised = unsafe {
            mm::madvise(self.mark.as_ptr().cast(), MAPPED_BYTES, Advice::LinuxWipeOnFork)
        };
        advised.is_ok()
    }

    #[cfg(not(target_os = "linux"))]
    fn wipe_on_fork(&self) -> bool {
        false
    }
}

impl Drop for ForkGuard {
    fn drop(&mut self) {
        // SAFETY: the mapping is owned by this guard, and every reference into it borrowed the guard.
        let unmapped = unsafe { mm::munmap(self.mark.as_ptr().cast(), MAPPED_BYTES) };
        debug_assert!(unmapped.is_ok(), "the range is a mapping of this process");
    }
}

// SAFETY: the guard owns its mapping like a `Box<AtomicU64>`.
unsafe impl Send for ForkGuard {}
// SAFETY: shared access is one atomic load.
unsafe impl Sync for ForkGuard {}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use std::io;
    use std::os::unix::process::CommandExt;
    use std::process::Command;
    use std::sync::Arc;

    use super::ForkGuard;

    #[test]
    fn a_forked_child_is_told_from_its_parent() {
        let guard = Arc::new(ForkGuard::new().unwrap());
        let mut child = Command::new("true");
        let in_child = {
            let guard = Arc::clone(&guard);
            move || if guard.is_forked() { Ok(()) } else { Err(io::ErrorKind::Other.into()) }
        };
        // SAFETY: between fork and exec the closure loads a word and allocates nothing.
        unsafe { child.pre_exec(in_child) };
        assert!(child.status().unwrap().success());
        assert!(!guard.is_forked());
    }

    #[test]
    fn the_fallback_without_wiping_knows_its_own_process() {
        let mut guard = ForkGuard::new().unwrap();
        guard.fallback_pid = Some(std::process::id());
        assert!(!guard.is_forked());
        guard.fallback_pid = Some(0);
        assert!(guard.is_forked());
    }
}
