//! No durable write of a file after one has failed (W2), and one at a time where that matters.
//!
//! Of two threads that sync a file the kernel tells one what could not be written, and calls the other's
//! sync a success: with a page cache always, and without one where what a drive had cached is gone. Whoever
//! syncs next must not believe that its own writes are there.
//!
//! A turn may be held for a sync; what the first failure was is looked up within it, and never locked
//! across I/O.

use std::io;

use seawall_wal::sync::Mutex;

/// Where the syncs of a file pass.
#[derive(Debug)]
pub(crate) struct SyncGate {
    /// Whether writes go past the page cache.
    is_direct: bool,
    /// Held by those who pass alone.
    turn: Mutex<()>,
    /// What the first failure was.
    failed: Mutex<Option<String>>,
}

impl SyncGate {
    pub(crate) fn new(is_direct: bool) -> Self {
        Self { is_direct, turn: Mutex::new(()), failed: Mutex::new(None) }
    }

    /// Makes one's own writes durable by `sync`: beside others where they go past the page cache, and
    /// each is told of its own.
    ///
    /// # Errors
    /// Its own; once a sync has failed, one that names the first failure.
    pub(crate) fn pass(&self, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        if self.is_direct { self.pass_beside(sync) } else { self.pass_alone(sync) }
    }

    /// [`SyncGate::pass`] by one at a time, for earlier writes that another's failed sync may lose.
    ///
    /// # Errors
    /// Those of [`SyncGate::pass`].
    pub(crate) fn pass_alone(&self, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let _turn = self.turn.lock();
        self.pass_beside(sync)
    }

    /// Beside others: one that overlaps may note its failure after this one's last look.
    fn pass_beside(&self, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        self.check()?;
        match sync() {
            Ok(()) => self.check(),
            Err(error) => {
                self.failed.lock().get_or_insert_with(|| error.to_string());
                Err(error)
            }
        }
    }

    /// Whether a sync may still succeed.
    ///
    /// # Errors
    /// One that names the first failure; not of its kind, since that may have been a full disk, and to
    /// try again is of no use.
    pub(crate) fn check(&self) -> io::Result<()> {
        self.failed.lock().as_ref().map_or(Ok(()), |failed| {
            Err(io::Error::other(format!("an earlier sync of the file failed: {failed}")))
        })
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use std::io;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::SyncGate;

    fn full() -> io::Error {
        io::Error::from_raw_os_error(28)
    }

    #[test]
    fn after_a_failed_sync_all_fail_and_name_it() {
        for (is_direct, is_alone) in [(true, true), (true, false), (false, true), (false, false)] {
            let gate = SyncGate::new(is_direct);
            gate.pass(|| Ok(())).unwrap();
            gate.pass_alone(|| Ok(())).unwrap();
            let failed = || Err(full());
            let first = if is_alone { gate.pass_alone(failed) } else { gate.pass(failed) };
            assert_eq!(first.unwrap_err().kind(), full().kind());
            let nobody = || unreachable!("nobody may sync now");
            for later in [gate.pass(nobody), gate.pass_alone(nobody)] {
                let later = later.unwrap_err();
                assert_eq!(later.kind(), io::ErrorKind::Other, "trying again is of no use");
                assert!(later.to_string().contains(&full().to_string()), "{later}");
            }
        }
    }

    #[test]
    fn a_success_beside_a_failure_is_none() {
        for is_alone in [true, false] {
            let gate = SyncGate::new(true);
            let sync = || {
                drop(gate.pass(|| Err(full())));
                Ok(())
            };
            let beside = if is_alone { gate.pass_alone(sync) } else { gate.pass(sync) };
            assert!(beside.is_err());
        }
    }

    #[test]
    fn those_who_pass_alone_do_so_one_at_a_time() {
        let gate = SyncGate::new(true);
        let (inside, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let sync = || {
            most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            for _ in 0..50 {
                thread::yield_now();
            }
            inside.fetch_sub(1, Ordering::SeqCst);
            Ok(())
        };
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..50).for_each(|_| gate.pass_alone(sync).unwrap()));
            }
        });
        assert_eq!(most.load(Ordering::SeqCst), 1);
    }
}
