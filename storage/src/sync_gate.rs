//! No durable write of a file after one has failed (W2), and one at a time where that matters.
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
    /// Whether writes go past the page cache.
    is_direct: bool,
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
    pub(crate) fn new(is_direct: bool) -> Self {
        Self { is_direct, failed: Mutex::new(None) }
    }

    /// Makes one's own writes durable by `sync`: beside others where they go past the page cache, and
    /// each is told of its own.
    ///
    /// # Errors
    /// That of the first sync that failed, from then on.
    pub(crate) fn pass(&self, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        if self.is_direct { self.pass_beside(sync) } else { self.pass_alone(sync) }
    }

    /// [`SyncGate::pass`] alone, for earlier writes that another's failed sync may lose.
    ///
    /// # Errors
    /// Those of [`SyncGate::pass`].
    pub(crate) fn pass_alone(&self, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let mut failed = self.failed.lock();
        if let Some(failed) = &*failed {
            return Err(failed.error());
        }
        sync().inspect_err(|error| *failed = Some(Failed::of(error)))
    }

    /// The failure of one that overlaps may come too late for this one.
    fn pass_beside(&self, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        self.check()?;
        match sync() {
            Ok(()) => self.check(),
            Err(error) => {
                self.failed.lock().get_or_insert_with(|| Failed::of(&error));
                Err(error)
            }
        }
    }

    fn check(&self) -> io::Result<()> {
        self.failed.lock().as_ref().map_or(Ok(()), |failed| Err(failed.error()))
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use std::io;

    use super::SyncGate;

    #[test]
    fn after_a_failed_sync_all_fail_for_the_same_reason() {
        let full = || io::Error::from_raw_os_error(28);
        for (is_direct, is_alone) in [(true, true), (true, false), (false, true), (false, false)] {
            let gate = SyncGate::new(is_direct);
            gate.pass(|| Ok(())).unwrap();
            gate.pass_alone(|| Ok(())).unwrap();
            let failed = || Err(full());
            assert!(if is_alone { gate.pass_alone(failed) } else { gate.pass(failed) }.is_err());
            let nobody = || unreachable!("nobody may sync now");
            for later in [gate.pass(nobody), gate.pass_alone(nobody)] {
                let later = later.unwrap_err();
                assert_eq!((later.raw_os_error(), later.kind()), (Some(28), full().kind()));
            }
        }
    }

    #[test]
    fn a_success_beside_a_failure_is_none() {
        let gate = SyncGate::new(true);
        let beside = gate.pass(|| {
            drop(gate.pass(|| Err(io::Error::from_raw_os_error(5))));
            Ok(())
        });
        assert_eq!(beside.unwrap_err().raw_os_error(), Some(5));
    }
}
