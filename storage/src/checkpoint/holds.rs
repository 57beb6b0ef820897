//! Holds on the log: who reads it behind the writers' backs (a backup, a verification) keeps it from
//! being given up, for as long as no writer would have to wait for that.
//!
//! A hold is revoked by the checkpoint that finds the log nearly full; its owner learns of it at the
//! next [`LogHold::check`]. Every answer read from the log counts only if the hold still stood after
//! the read.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use seawall_wal::sync::Mutex;
use seawall_wal::{Error, Lsn, Result};

/// The holds that stand.
#[derive(Debug, Default)]
pub(crate) struct LogHolds {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    next: u64,
    held: BTreeMap<u64, Lsn>,
}

/// Keeps the log from a position on; dropping it lets go.
#[derive(Debug)]
#[must_use = "a hold that is dropped holds nothing"]
pub(crate) struct LogHold<'h> {
    holds: &'h LogHolds,
    number: u64,
}

impl LogHolds {
    /// Keeps the log from `lsn` on, which nobody may be giving up meanwhile.
    pub(super) fn hold(&self, lsn: Lsn) -> LogHold<'_> {
        let mut inner = self.inner.lock();
        let number = inner.next;
        inner.next += 1;
        inner.held.insert(number, lsn);
        LogHold { holds: self, number }
    }

    /// The lowest position that is held; [`Lsn::MAX`] where none is.
    pub(super) fn lowest(&self) -> Lsn {
        self.inner.lock().held.values().copied().min().unwrap_or(Lsn::MAX)
    }

    /// Revokes the holds on positions below `lsn`.
    pub(super) fn revoke_below(&self, lsn: Lsn) {
        self.inner.lock().held.retain(|_, held| *held >= lsn);
    }
}

impl LogHold<'_> {
    /// Whether the hold still stands.
    ///
    /// # Errors
    /// [`Error::NoSpace`] naming `wal_dir`, once it was revoked.
    pub(crate) fn check(&self, wal_dir: &Path) -> Result<()> {
        self.raise(Lsn::NONE, wal_dir)
    }

    /// Lets go of the log below `lsn`.
    ///
    /// # Errors
    /// Those of [`LogHold::check`].
    pub(crate) fn raise(&self, lsn: Lsn, wal_dir: &Path) -> Result<()> {
        if let Some(held) = self.holds.inner.lock().held.get_mut(&self.number) {
            *held = lsn.max(*held);
            return Ok(());
        }
        let why = "writers needed the log that was held; run it again, or with more max_wal_bytes";
        let source = Arc::new(io::Error::new(io::ErrorKind::StorageFull, why));
        Err(Error::NoSpace { path: wal_dir.to_path_buf(), source })
    }
}

impl Drop for LogHold<'_> {
    fn drop(&mut self) {
        self.holds.inner.lock().held.remove(&self.number);
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_hold_counts_until_it_is_dropped_or_revoked() {
        let holds = LogHolds::default();
        assert_eq!(holds.lowest(), Lsn::MAX);
        let (low, high) = (holds.hold(Lsn::new(10)), holds.hold(Lsn::new(20)));
        assert_eq!(holds.lowest(), Lsn::new(10));
        holds.revoke_below(Lsn::new(15));
        assert_eq!(holds.lowest(), Lsn::new(20));
        let dir = Path::new("/db/wal");
        assert!(matches!(low.check(dir), Err(Error::NoSpace { .. })));
        high.raise(Lsn::new(30), dir).unwrap();
        high.check(dir).unwrap();
        assert_eq!(holds.lowest(), Lsn::new(30));
        drop(low);
        drop(high);
        assert_eq!(holds.lowest(), Lsn::MAX);
    }
}
