//! What a workload may ask of an engine. The adapters implement it; workloads are compiled once for each, so
//! that no engine pays for an indirect call on its way to a value.

use std::path::Path;

use anyhow::Result;

/// How a database is opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    /// Memory for the engine's own cache.
    pub(crate) cache_bytes: u64,
    /// Whether a commit returns only when it is durable. Otherwise it may be lost in a power cut for
    /// as long as [`RELAXED_SYNC`].
    pub(crate) is_durable: bool,
    /// Threads that will write at the same time.
    #[cfg_attr(
        not(feature = "canopydb"),
        expect(dead_code, reason = "the other engines need not know")
    )]
    pub(crate) writers: usize,
    /// Length of the values.
    #[cfg_attr(
        not(any(feature = "fjall", feature = "rocksdb", feature = "sqlite")),
        expect(dead_code, reason = "the other engines need not know")
    )]
    pub(crate) value_bytes: usize,
}

/// How long a relaxed commit may stay without a sync: Seawall's default, and asked of every engine that
/// can be asked.
pub(crate) const RELAXED_SYNC: std::time::Duration = std::time::Duration::from_millis(100);

/// Who syncs relaxed commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RelaxedSync {
    /// The engine does by itself, every [`RELAXED_SYNC`].
    Engine,
    /// The harness calls [`Engine::sync`] as often.
    Harness,
}

/// What the tables say of an engine; one row each of the settings' table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) version: &'static str,
    pub(crate) cache: &'static str,
    pub(crate) durable: &'static str,
    pub(crate) relaxed: &'static str,
    pub(crate) reads: &'static str,
    pub(crate) other: &'static str,
}

/// An open database with one ordered map of bytes.
pub(crate) trait Engine: Sized + Sync {
    /// Its name in tables and on the command line.
    const NAME: &'static str;
    const SETTINGS: Settings;
    const RELAXED_SYNC_BY: RelaxedSync;

    /// What one thread works with.
    type Session<'e>: Session
    where
        Self: 'e;

    /// Creates the database in an empty directory, or opens the one that is there.
    fn open(dir: &Path, setup: &Setup) -> Result<Self>;

    /// What a thread needs to read and write.
    fn session(&self) -> Result<Self::Session<'_>>;

    /// Makes every commit durable that has returned.
    fn sync(&self) -> Result<()>;

    /// Lets the engine finish what it does in the background after a load.
    fn settle(&self) -> Result<()>;

    /// Closes the database, with whatever it writes when it is closed.
    fn close(self) -> Result<()>;
}

/// One thread's way to a database.
pub(crate) trait Session {
    /// Calls `read` with the value of a key. Begins and ends whatever a read by itself needs.
    fn get<R>(&mut self, key: &[u8], read: impl FnOnce(&[u8]) -> R) -> Result<Option<R>>;

    /// Calls `visit` with the pairs from `from` on in order, `limit` of them at most, all of one moment. Returns
    /// how many there were.
    fn scan(&mut self, from: &[u8], limit: u64, visit: impl FnMut(&[u8], &[u8])) -> Result<u64>;

    /// Writes one pair as a transaction of its own.
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()>;

    /// Runs `write` as one transaction, again if it has lost against another one.
    fn transaction(&mut self, write: &mut dyn FnMut(&mut dyn Writer) -> Result<()>) -> Result<()>;

    /// Replaces the value of a key by one that `change` makes of it, as one step. `change` puts it into the
    /// buffer. Returns whether the key was there.
    fn update(&mut self, key: &[u8], change: &mut dyn FnMut(&[u8], &mut Vec<u8>)) -> Result<bool>;
}

/// A transaction that writes.
pub(crate) trait Writer {
    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()>;
    fn delete(&mut self, key: &[u8]) -> Result<()>;
}
