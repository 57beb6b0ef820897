//! The public interface: the database, its trees, snapshots, transactions and ranges.

mod background;
pub(crate) mod core;
mod future;
mod range;
mod registered;
mod rollbacks;
mod snapshot;
mod stats;
mod transaction;
mod tree;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use seawall_wal::codec::to_u64;
use seawall_wal::sync::{Instant, thread};
use seawall_wal::{Error, Lsn, Result};

use crate::catalogue::row::{NAMES, name_of};
use crate::engine::{End, Rest, View, check_name};
use crate::key_range::KeyBounds;
use crate::{
    BackupReport, CheckpointReport, Options, RecoveryReport, Stats, TransactionOptions,
    VerifyProgress, VerifyReport,
};

use self::core::Shared;
use self::registered::Registered;

pub use self::future::CommitFuture;
pub use self::range::Range;
pub use self::snapshot::Snapshot;
pub use self::transaction::{Savepoint, Transaction};
pub use self::tree::Tree;

/// First wait before a transaction is run again; it doubles up to [`BACK_OFF_MAX`].
const BACK_OFF_MIN: Duration = Duration::from_micros(20);
const BACK_OFF_MAX: Duration = Duration::from_millis(10);

/// An open database. Cloning it is cheap; it is closed when the last handle to it goes (trees,
/// snapshots, transactions and ranges are handles as well), or by [`Database::close`].
///
/// ```
/// # fn main() -> seawall::Result<()> {
/// # let dir = tempfile::tempdir().expect("a directory");
/// let database = seawall::Database::open(dir.path().join("db"))?;
/// let users = database.tree("users")?;
/// users.insert("ada", "lovelace")?;
/// assert_eq!(users.get("ada")?.as_deref(), Some(&b"lovelace"[..]));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Database {
    shared: Arc<Shared>,
}

impl Options {
    /// Opens the database in `dir`, creating or recovering it as needed.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for options out of range and for a directory that is not a
    /// database; [`Error::NotFound`] where there is none and none may be created;
    /// [`Error::Locked`]; [`Error::RecoveryNeeded`]; [`Error::Corrupt`];
    /// [`Error::UnsupportedFormat`]; [`Error::NoSpace`]; [`Error::Io`].
    pub fn open(self, dir: impl AsRef<Path>) -> Result<Database> {
        Ok(Database { shared: Shared::open(&self, dir.as_ref())? })
    }
}

impl Database {
    /// Opens the database in `dir` with the default [`Options`].
    ///
    /// # Errors
    /// Those of [`Options::open`].
    pub fn open(dir: impl AsRef<Path>) -> Result<Self> {
        Options::new().open(dir)
    }

    fn of(shared: &Arc<Shared>) -> Self {
        Self { shared: Arc::clone(shared) }
    }

    /// What lies below the interface, for tests and their seams.
    pub(crate) fn shared_core(&self) -> &Arc<core::Core> {
        &self.shared.core
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.shared.core.path
    }

    /// What opening it found and did.
    #[must_use]
    pub fn recovery_report(&self) -> &RecoveryReport {
        &self.shared.core.report
    }

    /// The tree of this name, created where it is missing.
    ///
    /// # Errors
    /// Those of [every call](crate#errors-of-every-call) that reads, and where the tree is missing
    /// of one that writes and commits; [`Error::InvalidArgument`] for an empty name and one longer
    /// than [`MAX_TREE_NAME_BYTES`](crate::MAX_TREE_NAME_BYTES); [`Error::Conflict`] when others
    /// create or drop it at the same time, after trying for some ten seconds.
    pub fn tree(&self, name: &str) -> Result<Tree> {
        loop {
            let Some(tree) = self.open_tree(name)? else {
                return self.transact(|transaction| transaction.tree(name));
            };
            match tree.dropped_lsn() {
                None => return Ok(tree),
                // Dropped by a commit that nobody sees yet: this is a tree to read, not to write.
                Some(dropped_lsn) => self.shared.core.wait_for(dropped_lsn)?,
            }
        }
    }

    /// The tree of this name, if there is one.
    ///
    /// # Errors
    /// Those of [every call](crate#errors-of-every-call) that reads; [`Error::InvalidArgument`] for
    /// a name that no tree can have.
    pub fn open_tree(&self, name: &str) -> Result<Option<Tree>> {
        check_name(name)?;
        let engine = &self.shared.core.engine;
        engine.check_open()?;
        let registered = Registered::new(engine);
        let info = engine.find_tree(name, View::At(registered.at(None)))?;
        Ok(info.map(|info| Tree::new(&self.shared, info, name)))
    }

    /// The names of all trees, in order.
    ///
    /// # Errors
    /// Those of [every call](crate#errors-of-every-call) that reads one moment.
    pub fn tree_names(&self) -> Result<Vec<String>> {
        let engine = &self.shared.core.engine;
        engine.check_open()?;
        let registered = Registered::new(engine);
        let mut bounds = KeyBounds::prefix(NAMES);
        let mut names = Vec::new();
        let mut leaf = crate::engine::LeafPairs::default();
        loop {
            leaf.clear();
            let lower = bounds.lower.as_ref().map(|key| &key[..]);
            let upper = bounds.upper.as_ref().map(|key| &key[..]);
            let at = registered.at(None);
            let rest =
                engine.copy_leaf(&engine.catalogue, End::Front, (lower, upper), at, &mut leaf)?;
            for index in 0..leaf.len() {
                let name = name_of(leaf.get(index).0).map_err(|error| {
                    engine.corrupt_page(engine.catalogue.root, error.expected, error.found)
                })?;
                names.push(name.to_owned());
            }
            match rest {
                Rest::Done => return Ok(names),
                Rest::From(key) => bounds.lower = std::ops::Bound::Included(key.into()),
            }
        }
    }

    /// Drops a tree. Returns whether there was one.
    ///
    /// # Errors
    /// Those of [every call](crate#errors-of-every-call) that writes and commits;
    /// [`Error::InvalidArgument`] for a name that no tree can have; [`Error::Conflict`] while
    /// transactions write to it, after trying for some ten seconds.
    pub fn drop_tree(&self, name: &str) -> Result<bool> {
        self.transact(|transaction| transaction.drop_tree(name))
    }

    /// Begins a transaction with the database's isolation and durability.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub fn begin(&self) -> Result<Transaction> {
        self.begin_with(TransactionOptions::new())
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub fn begin_with(&self, options: TransactionOptions) -> Result<Transaction> {
        Transaction::begin(&self.shared, &options)
    }

    /// Runs `run` in a transaction and commits it; runs it again, with growing pauses, when it
    /// conflicts with another one, 1000 times at most. An error of `run` rolls back; where a call in it
    /// gave [`Error::Conflict`], it is run again whatever it returns.
    ///
    /// Inside of `run` everything goes through the transaction: a call such as
    /// [`Tree::insert`](crate::Tree::insert) is a transaction of its own, and waits in vain for a key
    /// that this one has written, until it is [`Error::Conflict`]; so does every next run.
    ///
    /// # Errors
    /// Those of `run`, and of [`Transaction::commit`]; [`Error::Conflict`] only when it still
    /// conflicts after the last try. Other errors do not run it again, neither
    /// [`Error::TransactionTooOld`] nor [`Error::SnapshotTooOld`].
    pub fn transact<T>(&self, run: impl FnMut(&mut Transaction) -> Result<T>) -> Result<T> {
        self.transact_with(TransactionOptions::new(), run)
    }

    /// [`Database::transact`] with options, and with an error type of the caller's.
    ///
    /// # Errors
    /// Those of [`Database::transact`].
    pub fn transact_with<T, E: From<Error>>(
        &self,
        options: TransactionOptions,
        mut run: impl FnMut(&mut Transaction) -> Result<T, E>,
    ) -> Result<T, E> {
        let patience = Patience::Tries(options.max_retries);
        let (result, lsn) = self.try_transact(&options, patience, &mut run)?;
        self.shared.core.wait_for(lsn)?;
        Ok(result)
    }

    /// [`Database::transact_with`], which leaves the wait for the commit to the caller: the commit ends
    /// at the position given beside the result.
    fn try_transact<T, E: From<Error>>(
        &self,
        options: &TransactionOptions,
        patience: Patience,
        run: &mut impl FnMut(&mut Transaction) -> Result<T, E>,
    ) -> Result<(T, Lsn), E> {
        let mut back_off = BackOff::new();
        for tries in 0.. {
            let mut transaction = self.begin_with(options.clone())?;
            let result = run(&mut transaction);
            let committed = match result {
                Ok(result) => transaction.log_commit().map(|end| (result, end)),
                Err(error) => {
                    let has_conflicted = transaction.has_conflicted();
                    drop(transaction);
                    if !has_conflicted || !patience.allows_more_than(tries) {
                        return Err(error);
                    }
                    back_off.wait();
                    continue;
                }
            };
            match committed {
                Ok(committed) => return Ok(committed),
                Err(error) if error.is_conflict() && patience.allows_more_than(tries) => {
                    back_off.wait();
                }
                Err(error) => return Err(error.into()),
            }
        }
        unreachable!("the loop ends by a return")
    }

    /// The database as it is now, for as long as the snapshot lives.
    ///
    /// # Errors
    /// [`Error::Closed`].
    pub fn snapshot(&self) -> Result<Snapshot> {
        self.shared.core.engine.check_open()?;
        Ok(Snapshot::new(&self.shared))
    }

    /// Where the database stands. The figures are of moments close to each other, not of one. It takes
    /// a short lock for each shard of the page table, so it is not for every operation.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.core.stats()
    }

    /// Makes everything that has been committed durable. Returns the position up to which it is.
    ///
    /// # Errors
    /// [`Error::Closed`]; [`Error::NoSpace`] where the log cannot be extended, after which it may
    /// be repeated; [`Error::Poisoned`] when writing the log has failed, now or before.
    pub fn sync(&self) -> Result<Lsn> {
        let engine = &self.shared.core.engine;
        engine.check_open()?;
        // What was given out as committed may lie behind a record that is still being copied.
        let lsn = engine.log.reserved_lsn();
        engine.log.wait_durable(lsn)?;
        Ok(lsn)
    }

    /// [`Database::sync`] without waiting.
    ///
    /// # Errors
    /// [`Error::Closed`]; a failed flush shows in the future.
    pub fn sync_async(&self) -> Result<CommitFuture> {
        let engine = &self.shared.core.engine;
        engine.check_open()?;
        Ok(CommitFuture::new(&self.shared, engine.log.reserved_lsn(), true))
    }

    /// Everything below is on stable storage. Costs one load.
    #[doc(hidden)]
    #[must_use]
    pub fn durable_lsn(&self) -> Lsn {
        self.shared.core.engine.log.durable_lsn()
    }

    /// Every commit that ends at or below has happened, durable or not. Costs one load.
    #[doc(hidden)]
    #[must_use]
    pub fn logged_lsn(&self) -> Lsn {
        self.shared.core.engine.log.contiguous_lsn()
    }

    /// For a server that answers for durability itself: resolves when the commit that ends at `lsn`
    /// is on stable storage, whatever durability it asked for.
    ///
    /// # Errors
    /// [`Error::Closed`]; [`Error::InvalidArgument`] for an LSN that no commit has reached; a failed
    /// flush shows in the future.
    #[doc(hidden)]
    pub fn durable_async(&self, lsn: Lsn) -> Result<CommitFuture> {
        let engine = &self.shared.core.engine;
        engine.check_open()?;
        if lsn > engine.log.contiguous_lsn() {
            return Err(Error::InvalidArgument(format!("no commit ends at {lsn} yet")));
        }
        Ok(CommitFuture::new(&self.shared, lsn, true))
    }

    /// Writes every page that lacks a change up to now, takes a checkpoint and recycles the log.
    /// Stops no transaction.
    ///
    /// # Errors
    /// Those of [every call](crate#errors-of-every-call) that writes. A failed write or sync of a
    /// file also poisons the database.
    pub fn checkpoint(&self) -> Result<CheckpointReport> {
        self.shared.core.checkpoint()
    }

    /// Verifies every page, tree, value and log record, and calls `f` with the progress. Stops no
    /// writer; with none the verification is exact, with some it reports nothing false. It reads
    /// everything, through the cache.
    ///
    /// # Errors
    /// Those of [every call](crate#errors-of-every-call) that reads, but for damage, which is in
    /// the report; [`Error::NoSpace`] also where writers needed the log that the verification held,
    /// [`Error::SnapshotTooOld`] where they needed the memory of the versions: run it again.
    pub fn verify(&self, mut f: impl FnMut(&VerifyProgress)) -> Result<VerifyReport> {
        let core = &self.shared.core;
        crate::verify::verify(&core.engine, &core.checkpointer, &mut f)
    }

    /// Copies the database to `dir`, which must be missing or empty, while writers go on. The copy
    /// holds every commit up to the report's `lsn`, among them all that ended before the call;
    /// opening it restores it. Until it is complete, opening it is refused.
    ///
    /// # Errors
    /// Those of [every call](crate#errors-of-every-call) that writes: a backup takes a checkpoint;
    /// [`Error::InvalidArgument`] where `dir` is not empty; [`Error::NoSpace`] also where writers
    /// needed the log that the copy held. Remove what was copied and run it again. None that
    /// concerns the copy harms the database.
    pub fn backup(&self, dir: impl AsRef<Path>) -> Result<BackupReport> {
        let core = &self.shared.core;
        // To the end: closing waits, since the checkpoint that a copy begins with must not come
        // behind the note of a clean shutdown.
        let _writing = core.admit_write()?;
        crate::backup::backup(&core.engine, &core.checkpointer, dir.as_ref())
    }

    /// Closes the database for every handle: live transactions roll back, everything is written,
    /// and the next open need not recover. Later calls on any handle give [`Error::Closed`].
    ///
    /// # Errors
    /// What stood in the way of a clean shutdown: the next open recovers then.
    pub fn close(self) -> Result<()> {
        self.shared.close()
    }
}

/// How often a transaction is run again when it conflicts.
#[derive(Clone, Copy, Debug)]
enum Patience {
    Tries(u32),
    Until(Instant),
}

impl Patience {
    fn allows_more_than(self, tries: u32) -> bool {
        match self {
            Self::Tries(most) => tries < most,
            Self::Until(deadline) => Instant::now() < deadline,
        }
    }
}

/// Growing pauses with jitter, so that transactions that met do not meet again.
struct BackOff {
    pause: Duration,
    seed: u64,
}

impl BackOff {
    fn new() -> Self {
        Self { pause: BACK_OFF_MIN, seed: 0 }
    }

    fn wait(&mut self) {
        let started = Instant::now();
        // Stacks lie apart, so two threads that began to wait at once take different pauses.
        let address = to_u64(std::ptr::from_ref(self).addr());
        self.seed = (self.seed ^ address).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31);
        let share = u32::from(self.seed.to_le_bytes()[0]) + 1;
        let pause = self.pause * share / 256;
        while started.elapsed() < pause {
            thread::park_timeout(pause - started.elapsed().min(pause));
        }
        self.pause = (2 * self.pause).min(BACK_OFF_MAX);
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").field("path", &self.path()).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use seawall_wal::TxnId;
    use seawall_wal::disk::SimDisk;
    use seawall_wal::log::{CreditRequest, CreditWait};
    use seawall_wal::record::Body;

    use super::*;
    use crate::Isolation;

    #[test]
    fn a_sync_covers_a_commit_behind_a_record_that_is_still_being_copied() -> Result<()> {
        let options = Options::new().disk_injected(Arc::new(SimDisk::new()));
        let database = options.manual_background(true).open("/db")?;
        let tree = database.tree("t")?;
        let (commit, sync) = while_a_record_is_copied(&database, || {
            let commit = tree.insert_async("key", "value")?;
            let sync = database.sync_async()?;
            assert!(sync.lsn() >= commit.lsn(), "{} and {}", sync.lsn(), commit.lsn());
            Ok((commit, sync))
        })?;
        sync.wait()?;
        commit.wait()?;
        Ok(())
    }

    #[test]
    fn whoever_has_overwritten_a_commit_sees_all_of_it() -> Result<()> {
        let options = Options::new().disk_injected(Arc::new(SimDisk::new()));
        let database = options.manual_background(true).open("/db")?;
        let tree = database.tree("t")?;
        let mut first = database.begin()?;
        first.insert(&tree, "a", "first")?;
        first.insert(&tree, "b", "first")?;
        let isolation = TransactionOptions::new().isolation(Isolation::Snapshot);
        let mut second = database.begin_with(isolation)?;
        let (found, told) = std::sync::mpsc::channel();
        let (first, reader) = while_a_record_is_copied(&database, || {
            let first = first.commit_async()?;
            let tree = tree.clone();
            let reader = std::thread::spawn(move || {
                second.insert(&tree, "b", "second")?;
                let value = second.get(&tree, "a")?;
                found.send(value.is_some()).expect("somebody listens");
                second.commit()
            });
            // Nobody can know yet, and whoever does has not waited.
            assert_eq!(told.recv_timeout(Duration::from_millis(100)).ok(), None, "too early");
            Ok((first, reader))
        })?;
        first.wait()?;
        reader.join().expect("the thread runs to its end")?;
        assert_eq!(told.recv().ok(), Some(true));
        Ok(())
    }

    /// Runs `then` while a record before everything that it logs is reserved and not yet published.
    fn while_a_record_is_copied<T>(
        database: &Database,
        then: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let engine = &database.shared_core().engine;
        let request = CreditRequest { payload_bytes: 256, ..CreditRequest::default() };
        let mut credit = engine.log.credit(&request, &CreditWait::PATIENT)?;
        let mut appender = engine.appenders.acquire();
        let record = appender.encoder.encode(TxnId::NONE, Lsn::NONE, &Body::CheckpointBegin);
        let being_copied = engine.log.reserve(&mut credit, record.padded_length());
        let done = then();
        engine.log.publish(being_copied, record);
        done
    }
}
