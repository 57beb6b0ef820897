//! One durable write of a file at a time, and none after one has failed (W2).
//!
//! Of two threads that sync a file the kernel tells one what could not be written, and calls the other's
//! sync a success: with a page cache always, and without one where what a drive had cached is gone. Whoever
//! syncs next must not believe that its own writes are there.
//!
//! The gate is held for the sync alone, and nothing else is locked within.

use std::io;

use seawall_wal::sync::Mutex;

/// Where the syncs of a file pass.
#[derive(Debug)]
pub(crate) struct SyncGate {
    failed: Mutex<Option<Failed>>,
}

/// What the first failure was.
#[derive(Debug)]
struct Failed {
    code: Option<i32>,
    kind: io::ErrorKind,
    text: String,
}

impl Failed {
    fn of(error: &io::Error) -> Self {
        Self { code: error.raw_os_error(), kind: error.kind(), text: error.to_string() }
    }

    fn error(&self) -> io::Error {
        match self.code {
            Some(code) => io::Error::from_raw_os_error(code),
            None => io::Error::new(self.kind, self.text.clone()),
        }
    }
}

impl SyncGate {
    pub(crate) fn new() -> Self {
        Self { failed: Mutex::new(None) }
    }

    /// Makes writes durable by `sync`.
    ///
    /// # Errors
    /// That of the first sync that failed, from then on.
    pub(crate) fn pass(&self, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let mut failed = self.failed.lock();
        if let Some(failed) = &*failed {
            return Err(failed.error());
        }
        sync().inspect_err(|error| *failed = Some(Failed::of(error)))
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use std::io;

    use super::SyncGate;

    #[test]
    fn after_a_failed_sync_all_fail_for_the_same_reason() {
        let gate = SyncGate::new();
        gate.pass(|| Ok(())).unwrap();
        let full = || io::Error::from_raw_os_error(28);
        assert!(gate.pass(|| Err(full())).is_err());
        let later = gate.pass(|| unreachable!("nobody may sync now")).unwrap_err();
        assert_eq!((later.raw_os_error(), later.kind()), (Some(28), full().kind()));
    }
}
