//! WATCH: versions of the keys that anybody watches.
//!
//! A watched key has a version, which every command that changes it makes one greater, whatever the
//! values before and after. Keys that nobody watches have none and cost one load. Versions change under
//! the key's lock; EXEC compares them under the exclusive gate.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

/// A key of a database.
pub(crate) type WatchedKey = (usize, Vec<u8>);

/// Versions of watched keys.
#[derive(Debug, Default)]
pub(crate) struct Watches {
    keys: Mutex<HashMap<WatchedKey, Watched>>,
    count: AtomicUsize,
}

#[derive(Debug, Default)]
struct Watched {
    version: u64,
    watchers: usize,
}

/// What a connection remembers of a key it watches.
#[derive(Clone, Debug)]
pub(crate) struct Watch {
    pub(crate) key: WatchedKey,
    version: u64,
    /// When the key expires, if it was there.
    pub(crate) expires_ms: Option<u64>,
}

impl Watches {
    /// Begins to watch a key.
    pub(crate) fn watch(&self, key: WatchedKey, expires_ms: Option<u64>) -> Watch {
        let mut keys = self.keys.lock();
        let watched = keys.entry(key.clone()).or_default();
        watched.watchers += 1;
        let version = watched.version;
        self.count.store(keys.len(), Ordering::SeqCst);
        Watch { key, version, expires_ms }
    }

    /// Whether nothing has changed the key since, and it has not expired either.
    pub(crate) fn holds(&self, watch: &Watch, now_ms: u64) -> bool {
        let keys = self.keys.lock();
        let is_same = keys.get(&watch.key).is_some_and(|watched| watched.version == watch.version);
        is_same && watch.expires_ms.is_none_or(|expires_ms| expires_ms > now_ms)
    }

    /// Ends to watch a key.
    pub(crate) fn unwatch(&self, watch: &Watch) {
        let mut keys = self.keys.lock();
        if let Some(watched) = keys.get_mut(&watch.key) {
            watched.watchers -= 1;
            if watched.watchers == 0 {
                keys.remove(&watch.key);
            }
        }
        self.count.store(keys.len(), Ordering::SeqCst);
    }

    /// A key is changed.
    pub(crate) fn touch(&self, database: usize, key: &[u8]) {
        if self.is_empty() {
            return;
        }
        if let Some(watched) = self.keys.lock().get_mut(&(database, key.to_vec())) {
            watched.version += 1;
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count.load(Ordering::SeqCst) == 0
    }

    /// The watched keys of a database.
    pub(crate) fn of(&self, database: usize) -> Vec<Vec<u8>> {
        let keys = self.keys.lock();
        keys.keys().filter(|(of, _)| *of == database).map(|(_, key)| key.clone()).collect()
    }
}
