//! The purge: removes keys that have expired, so that their space comes back.
//!
//! No command needs it, since each looks at the expiry itself. It follows the time index from its
//! beginning, takes the lock of each key, and removes the key with its row of the index in a
//! transaction, if that row still says the same. A crash leaves both or none. It waits for no flush:
//! a removal that is lost is done again.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

use super::row::split_expiry_key;
use super::{Hold, Keyspace, Space, Unit};
use crate::failure::Outcome;
use crate::limits::{DATABASES, PURGE_KEYS_MAX};

/// Time between two looks at the time index.
const INTERVAL: Duration = Duration::from_millis(100);

/// The thread that purges; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Purger {
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl Purger {
    pub(crate) fn start(keyspace: &Arc<Keyspace>) -> std::io::Result<Self> {
        let stop = Arc::new((Mutex::new(false), Condvar::new()));
        let (keyspace, stopped) = (Arc::clone(keyspace), Arc::clone(&stop));
        let thread = std::thread::Builder::new().name("seawall-purge".into()).spawn(move || {
            let mut is_stopped = stopped.0.lock();
            while !*is_stopped {
                drop(is_stopped);
                // What fails now is tried again in a moment; clients meet the same error.
                let is_more = keyspace.purge(crate::clock::now_ms()).unwrap_or(false);
                is_stopped = stopped.0.lock();
                if !*is_stopped && !is_more {
                    stopped.1.wait_for(&mut is_stopped, INTERVAL);
                }
            }
        })?;
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Purger {
    fn drop(&mut self) {
        *self.stop.0.lock() = true;
        self.stop.1.notify_all();
        if let Some(thread) = self.thread.take() {
            // Its panic is told by the panic's own message.
            drop(thread.join());
        }
    }
}

impl Keyspace {
    /// Removes some of the keys that expired at or before `now_ms`. Returns whether there may be more.
    pub(crate) fn purge(&self, now_ms: u64) -> Outcome<bool> {
        let mut is_more = false;
        for database in 0..DATABASES {
            let space = self.space(database);
            if !space.may_expire() {
                continue;
            }
            let mut due = Vec::new();
            for pair in space.expiry.range(..)?.take(PURGE_KEYS_MAX) {
                let (index_key, _) = pair?;
                match split_expiry_key(&index_key) {
                    Some((expires_ms, key)) if expires_ms <= now_ms => {
                        due.push((expires_ms, key.to_vec()));
                    }
                    _ => break,
                }
            }
            is_more |= due.len() == PURGE_KEYS_MAX;
            for (expires_ms, key) in due {
                self.purge_key(&space, &key, expires_ms, now_ms)?;
            }
        }
        Ok(is_more)
    }

    fn purge_key(&self, space: &Space, key: &[u8], expires_ms: u64, now_ms: u64) -> Outcome {
        let _held = self.locks.hold(Hold::Keys { is_write: true }, std::iter::once(key));
        let mut unit = Unit::new(self, now_ms, false);
        if unit.raw_expiry(space, key)? == Some(expires_ms) {
            unit.remove_rows(space, key, Some(expires_ms))?;
            unit.commit()?;
            self.expired.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}
