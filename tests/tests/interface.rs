//! The public interface as other programs compile against it: names, signatures, `Send` and `Sync`.
//!
//! Nothing here runs but a few lines: that it compiles is the test.

use std::error::Error as StdError;
use std::fmt::{Debug, Display};
use std::future::Future;
use std::hash::Hash;
use std::iter::FusedIterator;
use std::ops::{Bound, ControlFlow, Deref};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use seawall::{
    BackupReport, CheckpointReport, CommitFuture, Database, DiskKind, Durability, Error, Event,
    Isolation, KeyRange, Lsn, MAX_KEY_BYTES, MAX_TREE_NAME_BYTES, MAX_VALUE_BYTES, Options, Range,
    RecoveryPhase, RecoveryReport, Result, Savepoint, Snapshot, StallReason, Stats, Transaction,
    TransactionOptions, Tree, Value, VerifyProgress, VerifyReport,
};

fn shared<T: Send + Sync + 'static>() {}
fn sent<T: Send + 'static>() {}
fn handle<T: Clone + Debug + Send + Sync + 'static>() {}
fn choice<T: Copy + Default + Debug>() {}
fn figures<T: Clone + Debug + Default + Display + Send + Sync>() {}

/// Takes a value of this type.
fn is<T>(_: T) {}

trait IsNotSync<Marker> {
    fn hold() {}
}
impl<T> IsNotSync<()> for T {}
impl<T: Sync> IsNotSync<u8> for T {}

#[test]
fn types_can_go_where_programs_take_them() {
    handle::<Database>();
    handle::<Tree>();
    handle::<Snapshot>();
    sent::<Transaction>();
    // Ambiguous, and no program, if a transaction were `Sync`.
    <Transaction as IsNotSync<_>>::hold();
    fn future<T: Future<Output = Result<Lsn>> + Send + Unpin + 'static>() {}
    future::<CommitFuture>();
    fn iterator<'a, T>()
    where
        T: Iterator<Item = Result<(Value, Value)>>
            + DoubleEndedIterator
            + FusedIterator
            + Send
            + 'a,
    {
    }
    iterator::<Range<'static>>();
    fn options<T: Clone + Debug + Default + Send + Sync>() {}
    options::<Options>();
    options::<TransactionOptions>();
    choice::<Durability>();
    choice::<Isolation>();
    choice::<DiskKind>();
    figures::<Stats>();
    figures::<RecoveryReport>();
    figures::<CheckpointReport>();
    figures::<VerifyReport>();
    figures::<VerifyProgress>();
    figures::<BackupReport>();
    fn error<T: StdError + Clone + Send + Sync + 'static>() {}
    error::<Error>();
    shared::<Event>();
    shared::<Savepoint>();
    fn position<T: Copy + Ord + Hash + Default + Display>() {}
    position::<Lsn>();
    fn bytes<T>()
    where
        T: Clone + Deref<Target = [u8]> + AsRef<[u8]> + std::borrow::Borrow<[u8]>,
        T: Ord + Hash + Debug + PartialEq<[u8]> + PartialEq<Vec<u8>> + PartialEq<[u8; 3]>,
        Vec<u8>: From<T>,
    {
    }
    bytes::<Value>();
}

#[test]
fn defaults_and_limits_are_those_of_the_listing() {
    assert_eq!((MAX_KEY_BYTES, MAX_VALUE_BYTES, MAX_TREE_NAME_BYTES), (1024, 1 << 30, 255));
    assert!(matches!(Durability::default(), Durability::Sync));
    assert!(matches!(Isolation::default(), Isolation::Serializable));
    assert!(matches!(DiskKind::default(), DiskKind::Auto));
    assert_eq!(Lsn::new(7).get(), 7);
}

fn key_ranges() -> impl KeyRange {
    fn range(_: impl KeyRange) {}
    range(..);
    range("a".."b");
    range(b"a"..=b"b");
    range(vec![1_u8]..);
    range(.."b");
    range(..="b");
    (Bound::Excluded("a"), Bound::<&str>::Unbounded)
}

fn options() -> Options {
    Options::new()
        .cache_bytes(256 << 20)
        .page_bytes(8192)
        .max_wal_bytes(1 << 30)
        .recovery_target(Duration::from_secs(2))
        .flush_interval(Duration::from_millis(100))
        .disk(DiskKind::Blocking)
        .durability(Durability::Relaxed)
        .isolation(Isolation::Snapshot)
        .create_if_missing(true)
        .read_only(false)
        .on_event(|event: &Event| drop(format!("{event}")))
}

fn database(dir: &Path) -> Result<()> {
    let opened: Result<Database> = options().open(dir);
    let database = opened.or_else(|_| Database::open(dir))?;
    is::<(&Path, &RecoveryReport)>((database.path(), database.recovery_report()));
    let tree: Tree = database.tree("name")?;
    is::<Option<Tree>>(database.open_tree("name")?);
    is::<Vec<String>>(database.tree_names()?);
    is::<bool>(database.drop_tree("other")?);
    let begun: [Transaction; 2] =
        [database.begin()?, database.begin_with(TransactionOptions::new())?];
    drop(begun);
    let seven: u32 = database.transact(|transaction: &mut Transaction| {
        transaction.insert(&tree, "key", "value")?;
        Ok(7)
    })?;
    assert_eq!(seven, 7);
    let options = TransactionOptions::new()
        .isolation(Isolation::Serializable)
        .durability(Durability::Sync)
        .max_retries(3);
    let own: std::result::Result<(), Box<dyn StdError>> =
        database.transact_with(options, |_| Err("an error of the caller's".into()));
    assert!(own.is_err());
    is::<Snapshot>(database.snapshot()?);
    is::<Stats>(database.stats());
    is::<Lsn>(database.sync()?);
    let future: CommitFuture = database.sync_async()?;
    is::<(Lsn, Lsn)>((future.lsn(), future.wait()?));
    is::<CheckpointReport>(database.checkpoint()?);
    is::<VerifyReport>(database.verify(|_: &VerifyProgress| {})?);
    is::<BackupReport>(database.backup(dir.with_extension("copy"))?);
    database.clone().close()
}

fn tree(tree: &Tree) -> Result<()> {
    is::<&str>(tree.name());
    tree.insert("key", b"value")?;
    tree.insert_with(vec![1_u8], [2_u8], Durability::Relaxed)?;
    is::<CommitFuture>(tree.insert_async("key", "value")?);
    is::<bool>(tree.remove("key")?);
    is::<bool>(tree.remove_with("key", Durability::Sync)?);
    is::<bool>(tree.compare_and_swap("key", None, Some(b"value"))?);
    is::<Option<Value>>(tree.get("key")?);
    is::<bool>(tree.contains_key("key")?);
    is::<Option<usize>>(tree.get_with("key", <[u8]>::len)?);
    is::<Range<'static>>(tree.range(key_ranges())?);
    is::<Range<'static>>(tree.prefix("k")?);
    is::<Option<u8>>(tree.scan(.., |key: &[u8], _: &[u8]| ControlFlow::Break(key[0]))?);
    is::<[Option<(Value, Value)>; 2]>([tree.first()?, tree.last()?]);
    is::<(u64, bool)>((tree.len()?, tree.is_empty()?));
    Ok(())
}

fn snapshot(snapshot: &Snapshot, tree: &Tree) -> Result<()> {
    is::<Lsn>(snapshot.lsn());
    is::<Option<Value>>(snapshot.get(tree, "key")?);
    is::<bool>(snapshot.contains_key(tree, "key")?);
    is::<Option<usize>>(snapshot.get_with(tree, "key", <[u8]>::len)?);
    is::<Range<'static>>(snapshot.range(tree, "a".."b")?);
    is::<Range<'static>>(snapshot.prefix(tree, "k")?);
    is::<Option<()>>(snapshot.scan(tree, .., |_, _| ControlFlow::Continue(()))?);
    is::<[Option<(Value, Value)>; 2]>([snapshot.first(tree)?, snapshot.last(tree)?]);
    is::<u64>(snapshot.len(tree)?);
    Ok(())
}

fn transaction(mut begin: impl FnMut() -> Transaction, tree: &Tree) -> Result<()> {
    let mut transaction = begin();
    transaction.insert(tree, "key", "value")?;
    let savepoint: Savepoint = transaction.savepoint();
    is::<bool>(transaction.remove(tree, "key")?);
    is::<u64>(transaction.remove_range(tree, "a"..)?);
    transaction.rollback_to(&savepoint)?;
    is::<Option<Value>>(transaction.get(tree, "key")?);
    is::<bool>(transaction.contains_key(tree, "key")?);
    is::<Option<usize>>(transaction.get_with(tree, "key", <[u8]>::len)?);
    let range: Range<'_> = transaction.range(tree, ..)?;
    drop(range);
    let range: Range<'_> = transaction.prefix(tree, "k")?;
    drop(range);
    is::<Option<()>>(transaction.scan(tree, .., |_, _| ControlFlow::Continue(()))?);
    is::<Tree>(transaction.tree("created")?);
    is::<bool>(transaction.rename_tree("created", "renamed")?);
    is::<bool>(transaction.drop_tree("renamed")?);
    transaction.rollback()?;
    is::<Lsn>(begin().commit()?);
    is::<Lsn>(begin().commit_with(Durability::Relaxed)?);
    is::<CommitFuture>(begin().commit_async()?);
    Ok(())
}

/// What each error tells.
fn errors(error: &Error) -> String {
    is::<bool>(error.is_conflict());
    match error {
        Error::Conflict
        | Error::ReadOnly
        | Error::Closed
        | Error::RecoveryNeeded
        | Error::TransactionTooOld
        | Error::SnapshotTooOld => String::new(),
        Error::InvalidArgument(text) => text.clone(),
        Error::NotFound { what } => what.clone(),
        Error::Locked { path } => PathBuf::clone(path).display().to_string(),
        Error::NoSpace { path, source } | Error::Io { path, source } => {
            let source: &Arc<std::io::Error> = source;
            format!("{} {source}", path.display())
        }
        Error::CommitUnknown { lsn, source } => format!("{lsn} {}", Arc::<Error>::clone(source)),
        Error::Corrupt { file, offset, expected, found } => {
            is::<(u64, &String, &String)>((*offset, expected, found));
            file.display().to_string()
        }
        Error::UnsupportedFormat { found, supported } => {
            is::<(u32, u32)>((*found, *supported));
            String::new()
        }
        Error::Poisoned { source } => {
            let source: &Option<Arc<Error>> = source;
            format!("{source:?}")
        }
        other => other.to_string(),
    }
}

fn events(event: &Event) {
    match event {
        Event::CheckpointBegin { begin_lsn } => is::<Lsn>(*begin_lsn),
        Event::CheckpointEnd(report) => drop::<CheckpointReport>(report.clone()),
        Event::RecoveryProgress { phase, done, total } => {
            is::<(u64, u64)>((*done, *total));
            match phase {
                RecoveryPhase::Analysis
                | RecoveryPhase::Doublewrite
                | RecoveryPhase::Redo
                | RecoveryPhase::Undo
                | RecoveryPhase::Checkpoint => {}
                _ => {}
            }
        }
        Event::StallBegin { reason } => {
            let reasons = [
                StallReason::WalBound,
                StallReason::RecoveryTarget,
                StallReason::NoCleanFrame,
                StallReason::VersionMemory,
            ];
            is::<bool>(reasons.contains(reason));
        }
        Event::StallEnd { reason, waited } => is::<(StallReason, Duration)>((*reason, *waited)),
        Event::Poisoned { error } | Event::CloseFailed { error } => drop(errors(error)),
        _ => {}
    }
}

fn reports(stats: &Stats, recovery: &RecoveryReport, checkpoint: &CheckpointReport) {
    is::<[Lsn; 5]>([
        stats.end_lsn,
        stats.durable_lsn,
        stats.visible_lsn,
        stats.redo_lsn,
        stats.undo_lsn,
    ]);
    is::<[u64; 16]>([
        stats.wal_bytes,
        stats.undo_bytes,
        stats.page_file_bytes,
        stats.cache_pages,
        stats.dirty_pages,
        stats.cache_hits,
        stats.cache_misses,
        stats.version_bytes,
        stats.active_transactions,
        stats.checkpoints,
        stats.stalls,
        stats.commits,
        stats.rollbacks,
        stats.conflicts,
        stats.flushes,
        stats.wal_bytes_written + stats.page_bytes_written,
    ]);
    is::<(Duration, Duration, Option<Duration>)>((
        stats.estimated_recovery,
        stats.stall_time,
        stats.oldest_snapshot_age,
    ));
    is::<(bool, bool, Lsn, Lsn)>((
        recovery.created,
        recovery.clean,
        recovery.redo_lsn,
        recovery.end_lsn,
    ));
    is::<[u64; 8]>([
        recovery.tail_bytes_cut,
        recovery.records_scanned,
        recovery.records_redone,
        recovery.pages_read,
        recovery.pages_restored,
        recovery.losers,
        recovery.records_undone,
        recovery.log_bytes,
    ]);
    is::<[Duration; 4]>([recovery.analysis, recovery.redo, recovery.undo, recovery.total]);
    is::<[Lsn; 4]>([
        checkpoint.begin_lsn,
        checkpoint.end_lsn,
        checkpoint.redo_lsn,
        checkpoint.undo_lsn,
    ]);
    is::<[u64; 3]>([
        checkpoint.dirty_pages,
        checkpoint.active_transactions,
        checkpoint.segments_recycled,
    ]);
    is::<Duration>(checkpoint.elapsed);
}

fn more_reports(verify: &VerifyReport, progress: &VerifyProgress, backup: &BackupReport) {
    let _: ([u64; 3], &Vec<String>) =
        ([verify.pages, verify.records, verify.trees], &verify.findings);
    let _: ([u64; 3], [Duration; 2]) =
        ([progress.done, progress.total, backup.bytes], [verify.elapsed, backup.elapsed]);
    is::<Lsn>(backup.lsn);
}

#[test]
fn everything_in_the_listing_can_be_called() -> Result<()> {
    let dir = tempfile::tempdir()
        .map_err(|error| Error::Io { path: PathBuf::new(), source: Arc::new(error) })?;
    database(&dir.path().join("db"))?;
    let open = options().open(dir.path().join("db"))?;
    let it = open.tree("it")?;
    tree(&it)?;
    snapshot(&open.snapshot()?, &it)?;
    transaction(|| open.begin().expect("the database is open"), &it)?;
    errors(&Error::Conflict);
    events(&Event::CheckpointEnd(CheckpointReport::default()));
    reports(&open.stats(), open.recovery_report(), &CheckpointReport::default());
    let none = (VerifyReport::default(), VerifyProgress::default(), BackupReport::default());
    more_reports(&none.0, &none.1, &none.2);
    Ok(())
}
