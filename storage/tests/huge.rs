//! Transactions larger than cache and log: they commit, roll back, survive crashes, and readers see
//! none of them before their commit.

#![expect(clippy::unwrap_used, reason = "what fails, fails the test")]

use std::ops::ControlFlow;
use std::path::Path;

use seawall::{
    Database, Durability, Error, Options, TransactionOptions, Tree, VerifyReport, testing,
};

/// Pairs of the trees: some ten times the log's bound with their undo information.
const PAIRS: u64 = 40_960;
const MAX_WAL_BYTES: u64 = 4 << 20;

fn options() -> Options {
    Options::new()
        .unchecked_limits()
        .cache_bytes(2 << 20)
        .max_wal_bytes(MAX_WAL_BYTES)
        .segment_bytes(256 << 10)
}

fn open(dir: &Path) -> Database {
    options().open(dir).unwrap()
}

/// Keys of which neighbours are written some time apart, on pages that fit the cache.
fn key(index: u64) -> [u8; 24] {
    let mut key = [b'k'; 24];
    let shuffled = index & !0xfff | index.wrapping_mul(0x9e5) & 0xfff;
    key[..8].copy_from_slice(&shuffled.to_be_bytes());
    key
}

fn value(index: u64, round: u8) -> Vec<u8> {
    let mut value = vec![round; 150];
    value[..8].copy_from_slice(&index.to_le_bytes());
    value
}

fn load(database: &Database, tree: &Tree, round: u8) {
    let mut transaction = database.begin().unwrap();
    for index in 0..PAIRS {
        transaction.insert(tree, key(index), value(index, round)).unwrap();
    }
    transaction.commit_with(Durability::Relaxed).unwrap();
}

/// How many pairs there are, and that each is of one of the rounds.
fn count(tree: &Tree, round: u8) -> u64 {
    let mut count = 0;
    let scanned: Option<()> = tree
        .scan(.., |_, value| {
            assert_eq!((value.len(), value[149]), (150, round));
            count += 1;
            ControlFlow::Continue(())
        })
        .unwrap();
    assert!(scanned.is_none());
    count
}

/// The report of a verification that was left the log it held: the purge of what was just committed may
/// need it.
fn verified(database: &Database) -> VerifyReport {
    let mut refused = 0;
    loop {
        match database.verify(|_| {}) {
            Err(Error::NoSpace { .. }) if refused < 100 => refused += 1,
            report => return report.unwrap(),
        }
    }
}

fn check(database: &Database, tree: &Tree, pairs: u64, round: u8) {
    assert_eq!(count(tree, round), pairs);
    assert_eq!(tree.len().unwrap(), pairs);
    for index in (0..PAIRS).step_by(977) {
        let expected = (pairs > 0).then(|| value(index, round));
        assert_eq!(tree.get(key(index)).unwrap().map(Vec::from), expected);
    }
    assert_eq!(verified(database).findings, Vec::<String>::new());
    let stats = database.stats();
    assert!(stats.wal_bytes <= MAX_WAL_BYTES, "{} bytes of log", stats.wal_bytes);
}

#[test]
fn inserts_updates_and_deletes_beyond_cache_and_log_commit() {
    let dir = tempfile::tempdir().unwrap();
    let database = open(dir.path());
    let tree = database.tree("t").unwrap();
    load(&database, &tree, 1);
    check(&database, &tree, PAIRS, 1);
    load(&database, &tree, 2);
    check(&database, &tree, PAIRS, 2);
    let mut transaction = database.begin().unwrap();
    assert_eq!(transaction.remove_range(&tree, ..).unwrap(), PAIRS);
    transaction.commit().unwrap();
    check(&database, &tree, 0, 0);
    database.close().unwrap();
    let database = open(dir.path());
    let tree = database.tree("t").unwrap();
    check(&database, &tree, 0, 0);
}

#[test]
fn inserts_updates_and_deletes_beyond_cache_and_log_roll_back() {
    let dir = tempfile::tempdir().unwrap();
    let database = open(dir.path());
    let tree = database.tree("t").unwrap();
    let mut transaction = database.begin().unwrap();
    for index in 0..PAIRS {
        transaction.insert(&tree, key(index), value(index, 1)).unwrap();
    }
    assert!(database.stats().undo_bytes > 0, "the undo information has outgrown the log");
    transaction.rollback().unwrap();
    check(&database, &tree, 0, 0);
    load(&database, &tree, 2);
    for is_delete in [false, true] {
        let mut transaction = database.begin().unwrap();
        for index in 0..PAIRS {
            if is_delete {
                assert!(transaction.remove(&tree, key(index)).unwrap());
            } else {
                // Shorter, so that rollback has to find the room again.
                transaction.insert(&tree, key(index), b"short").unwrap();
            }
        }
        transaction.rollback().unwrap();
        check(&database, &tree, PAIRS, 2);
    }
}

#[test]
fn a_huge_transaction_is_undone_after_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let database = open(dir.path());
    let tree = database.tree("t").unwrap();
    load(&database, &tree, 1);
    let mut transaction = database.begin().unwrap();
    for index in 0..PAIRS {
        match index % 3 {
            0 => transaction.insert(&tree, key(index), value(index, 9)).unwrap(),
            1 => assert!(transaction.remove(&tree, key(index)).unwrap()),
            _ => transaction.insert(&tree, key(PAIRS + index), value(index, 9)).unwrap(),
        }
    }
    database.sync().unwrap();
    assert!(database.stats().undo_bytes > 0);
    testing::abandon(database);
    drop((transaction, tree));
    let database = open(dir.path());
    assert_eq!(database.recovery_report().losers, 1);
    assert_eq!(database.recovery_report().records_undone, PAIRS);
    let tree = database.tree("t").unwrap();
    check(&database, &tree, PAIRS, 1);
    assert_eq!(database.stats().undo_bytes, 0);
}

#[test]
fn readers_see_what_a_huge_transaction_replaces_until_it_commits_and_snapshots_beyond() {
    let dir = tempfile::tempdir().unwrap();
    let database = open(dir.path());
    let tree = database.tree("t").unwrap();
    load(&database, &tree, 1);
    let old = database.snapshot().unwrap();
    let mut transaction = database.begin().unwrap();
    for index in 0..PAIRS {
        transaction.insert(&tree, key(index), value(index, 2)).unwrap();
        transaction.insert(&tree, key(PAIRS + index), value(index, 2)).unwrap();
    }
    for index in (0..PAIRS).step_by(499) {
        let own = transaction.get(&tree, key(index)).unwrap();
        assert_eq!(own.map(Vec::from), Some(value(index, 2)));
        assert_eq!(tree.get(key(index)).unwrap().map(Vec::from), Some(value(index, 1)));
        assert_eq!(tree.get(key(PAIRS + index)).unwrap(), None);
        assert_eq!(old.get(&tree, key(index)).unwrap().map(Vec::from), Some(value(index, 1)));
    }
    assert_eq!(count(&tree, 1), PAIRS);
    transaction.commit().unwrap();
    let keys = old.range(&tree, ..).unwrap().map(|pair| pair.unwrap());
    let mut seen = 0;
    for (_, value) in keys {
        assert_eq!(value[149], 1);
        seen += 1;
    }
    assert_eq!((seen, old.len(&tree).unwrap()), (PAIRS, PAIRS));
    let backwards =
        old.range(&tree, ..).unwrap().rev().take(1000).all(|pair| pair.unwrap().1[149] == 1);
    assert!(backwards);
    assert_eq!(count(&tree, 2), 2 * PAIRS);
    drop(old);
    assert_eq!(database.verify(|_| {}).unwrap().findings, Vec::<String>::new());
}

#[test]
fn a_huge_transaction_and_others_conflict_over_keys_as_any_two_do() {
    let dir = tempfile::tempdir().unwrap();
    let database = open(dir.path());
    let tree = database.tree("t").unwrap();
    load(&database, &tree, 1);
    let mut early = database.begin().unwrap();
    early.get(&tree, key(0)).unwrap();
    let mut reader = database.begin().unwrap();
    assert_eq!(reader.get(&tree, key(7)).unwrap().map(Vec::from), Some(value(7, 1)));
    reader.insert(&tree, b"another key", b"of a transaction that has read").unwrap();
    let mut huge = database.begin().unwrap();
    for index in 0..PAIRS / 4 {
        huge.insert(&tree, key(index), value(index, 2)).unwrap();
    }
    // The last ones are kept, and written by whatever comes next.
    drop(huge.savepoint());
    let last = key(PAIRS / 4 - 1);
    let mut other = database.begin().unwrap();
    assert!(matches!(other.insert(&tree, last, b"x"), Err(Error::Conflict)));
    assert!(matches!(tree.insert(last, b"x"), Err(Error::Conflict)), "waits, then gives up");
    huge.commit().unwrap();
    assert!(matches!(early.insert(&tree, last, b"x"), Err(Error::Conflict)), "newer than its view");
    assert!(matches!(reader.commit(), Err(Error::Conflict)), "it has read what was replaced");
    tree.insert(last, value(PAIRS / 4 - 1, 3)).unwrap();
    assert_eq!(tree.get(last).unwrap().map(Vec::from), Some(value(PAIRS / 4 - 1, 3)));
}

#[test]
fn a_savepoint_takes_back_a_part_of_a_huge_transaction() {
    let dir = tempfile::tempdir().unwrap();
    let database = open(dir.path());
    let tree = database.tree("t").unwrap();
    load(&database, &tree, 1);
    let mut transaction = database.begin_with(TransactionOptions::new()).unwrap();
    for index in 0..PAIRS / 2 {
        transaction.insert(&tree, key(index), value(index, 2)).unwrap();
    }
    let savepoint = transaction.savepoint();
    for index in 0..PAIRS {
        assert!(transaction.remove(&tree, key(index)).unwrap());
    }
    transaction.rollback_to(&savepoint).unwrap();
    for index in PAIRS / 2..PAIRS {
        transaction.insert(&tree, key(index), value(index, 2)).unwrap();
    }
    transaction.commit().unwrap();
    check(&database, &tree, PAIRS, 2);
}

#[test]
fn an_online_backup_of_a_database_with_a_huge_transaction_opens_without_it() {
    let (dir, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    // The backup holds the log that it has not copied yet.
    let database = options().max_wal_bytes(4 * MAX_WAL_BYTES).open(dir.path()).unwrap();
    let tree = database.tree("t").unwrap();
    load(&database, &tree, 1);
    let mut transaction = database.begin().unwrap();
    for index in 0..PAIRS {
        transaction.insert(&tree, key(index), value(index, 2)).unwrap();
    }
    assert!(database.stats().undo_bytes > 0);
    database.backup(copy.path().join("copy")).unwrap();
    drop(transaction);
    let restored = open(&copy.path().join("copy"));
    let tree = restored.tree("t").unwrap();
    check(&restored, &tree, PAIRS, 1);
}

/// A huge transaction undoes what is spilled already, the log behind goes, and it commits under an older
/// snapshot: what readers need of it begins behind what it has undone.
#[test]
fn what_a_huge_transaction_has_undone_itself_is_not_looked_for_in_the_log() {
    let disk = seawall_wal::disk::SimDisk::new();
    let options = Options::new().disk_injected(std::sync::Arc::new(disk)).manual_background(true);
    let options = options.unchecked_limits().cache_bytes(64 << 20).page_bytes(4096);
    let options = options.max_wal_bytes(16 << 20).segment_bytes(256 << 10);
    let options = options.bulk_budget_bytes(0).held_log_bytes(1 << 20);
    let database = options.open("/db").unwrap();
    let tree = database.tree("t").unwrap();
    tree.insert("key", "old").unwrap();
    let snapshot = database.snapshot().unwrap();
    let end = || database.stats().end_lsn.get();
    let fill_to = |lsn: u64| {
        let mut index = 0;
        while end() < lsn {
            tree.insert_with(key(index % 50), value(index, 3), Durability::Relaxed).unwrap();
            index += 1;
        }
        database.sync().unwrap();
    };
    let mut huge = database.begin().unwrap();
    let savepoint = huge.savepoint();
    huge.insert(&tree, "key", "new").unwrap();
    huge.insert(&tree, "undone", "").unwrap();
    fill_to(end() + (3 << 19));
    testing::take_checkpoint(&database).unwrap();
    assert!(database.stats().undo_bytes > 0);
    let spilled_upto = end();
    huge.rollback_to(&savepoint).unwrap();
    fill_to(spilled_upto + (600 << 10));
    let report = database.checkpoint().unwrap();
    assert!(report.segments_recycled > 0);
    huge.insert(&tree, "last", "").unwrap();
    huge.commit().unwrap();
    assert!(end() < spilled_upto + (1 << 20), "still within its share");
    for lsn in [0, 3 << 19, 5 << 19] {
        fill_to(spilled_upto + lsn);
        testing::take_checkpoint(&database).unwrap();
    }
    assert_eq!(snapshot.get(&tree, "key").unwrap().as_deref(), Some(&b"old"[..]));
    assert_eq!(snapshot.get(&tree, "last").unwrap(), None);
    drop(snapshot);
    database.checkpoint().unwrap();
    database.close().unwrap();
}
