//! What transactions see of each other, by name, under both isolation levels.

#![expect(clippy::unwrap_used, reason = "a test ends where it fails")]

use seawall::{
    Database, Durability, Isolation, Result, Snapshot, Transaction, TransactionOptions, Tree,
};
use seawall_tests::settings::Settings;
use seawall_wal::disk::SimDisk;

const LEVELS: [Isolation; 2] = [Isolation::Serializable, Isolation::Snapshot];

/// A database with a tree in which `a` and `b` are `1`.
fn database() -> (Database, Tree) {
    let database = Settings::default().open(&SimDisk::new()).unwrap();
    let tree = database.tree("accounts").unwrap();
    for key in ["a", "b"] {
        tree.insert(key, "1").unwrap();
    }
    (database, tree)
}

fn begin(database: &Database, isolation: Isolation) -> Transaction {
    database.begin_with(TransactionOptions::new().isolation(isolation)).unwrap()
}

fn is_conflict<T>(result: Result<T>) -> bool {
    match result {
        Ok(_) => false,
        Err(error) if error.is_conflict() => true,
        Err(error) => panic!("neither done nor in conflict: {error}"),
    }
}

fn text(value: Option<seawall::Value>) -> Option<String> {
    value.map(|value| String::from_utf8(value.into_vec()).unwrap())
}

/// The second of two transactions, each of which reads what the other writes, conflicts if and only
/// if they are serializable.
fn write_skew(isolation: Isolation) -> bool {
    let (database, tree) = database();
    let (mut first, mut second) = (begin(&database, isolation), begin(&database, isolation));
    first.get(&tree, "a").unwrap();
    second.get(&tree, "b").unwrap();
    first.insert(&tree, "b", "0").unwrap();
    second.insert(&tree, "a", "0").unwrap();
    first.commit().unwrap();
    is_conflict(second.commit())
}

#[test]
fn write_skew_conflicts_when_serializable() {
    assert!(write_skew(Isolation::Serializable));
}

#[test]
fn write_skew_is_let_through_by_snapshot_isolation() {
    assert!(!write_skew(Isolation::Snapshot));
}

#[test]
fn a_lost_update_conflicts_at_both_levels() {
    for isolation in LEVELS {
        let (database, tree) = database();
        let (mut first, mut second) = (begin(&database, isolation), begin(&database, isolation));
        first.get(&tree, "a").unwrap();
        second.get(&tree, "a").unwrap();
        first.insert(&tree, "a", "2").unwrap();
        assert!(is_conflict(second.insert(&tree, "a", "3")), "{isolation:?}: open write");
        drop(second);
        let mut third = begin(&database, isolation);
        assert_eq!(text(third.get(&tree, "a").unwrap()).as_deref(), Some("1"));
        first.commit().unwrap();
        assert!(is_conflict(third.insert(&tree, "a", "3")), "{isolation:?}: committed write");
        drop(third);
        assert_eq!(text(tree.get("a").unwrap()).as_deref(), Some("2"));
    }
}

#[test]
fn a_blind_write_after_a_commit_is_no_lost_update() {
    for isolation in LEVELS {
        let (database, tree) = database();
        let mut transaction = begin(&database, isolation);
        tree.insert("a", "2").unwrap();
        transaction.insert(&tree, "a", "3").unwrap();
        transaction.commit().unwrap();
        assert_eq!(text(tree.get("a").unwrap()).as_deref(), Some("3"));
    }
}

/// A transaction that found a range empty, and then a key in it was committed, conflicts if and only
/// if it is serializable; it never sees the key.
fn phantom(isolation: Isolation) -> bool {
    let (database, tree) = database();
    let mut transaction = begin(&database, isolation);
    assert_eq!(transaction.range(&tree, "c".."d").unwrap().count(), 0);
    tree.insert("cc", "phantom").unwrap();
    assert_eq!(transaction.range(&tree, "c".."d").unwrap().count(), 0);
    transaction.insert(&tree, "z", "nothing in the range").unwrap();
    is_conflict(transaction.commit())
}

#[test]
fn a_phantom_conflicts_when_serializable() {
    assert!(phantom(Isolation::Serializable));
}

#[test]
fn a_phantom_is_not_seen_and_let_through_by_snapshot_isolation() {
    assert!(!phantom(Isolation::Snapshot));
}

#[test]
fn a_key_that_was_missing_and_then_inserted_conflicts_when_serializable() {
    for isolation in LEVELS {
        let (database, tree) = database();
        let mut transaction = begin(&database, isolation);
        assert_eq!(transaction.get(&tree, "c").unwrap(), None);
        tree.insert("c", "1").unwrap();
        transaction.insert(&tree, "z", "no c").unwrap();
        let is_serializable = isolation == Isolation::Serializable;
        assert_eq!(is_conflict(transaction.commit()), is_serializable);
    }
}

#[test]
fn a_commit_below_an_open_write_conflicts_when_serializable() {
    for isolation in LEVELS {
        let (database, tree) = database();
        let mut reader = begin(&database, isolation);
        reader.get(&tree, "a").unwrap();
        assert_eq!(reader.range(&tree, "b"..).unwrap().count(), 1);
        tree.insert("a", "2").unwrap();
        let mut writer = begin(&database, isolation);
        writer.insert(&tree, "a", "3").unwrap();
        reader.insert(&tree, "z", "a was 1").unwrap();
        let is_serializable = isolation == Isolation::Serializable;
        assert_eq!(is_conflict(reader.commit()), is_serializable);
        writer.commit().unwrap();
    }
}

#[test]
fn a_read_only_transaction_never_conflicts() {
    for isolation in LEVELS {
        let (database, tree) = database();
        let reader = begin(&database, isolation);
        reader.get(&tree, "a").unwrap();
        tree.insert("a", "2").unwrap();
        assert_eq!(text(reader.get(&tree, "a").unwrap()).as_deref(), Some("1"));
        reader.commit().unwrap();
    }
}

#[test]
fn open_writes_are_seen_by_nobody_else() {
    for isolation in LEVELS {
        let (database, tree) = database();
        let mut writer = begin(&database, isolation);
        writer.insert(&tree, "a", "dirty").unwrap();
        writer.remove(&tree, "b").unwrap();
        writer.insert(&tree, "c", "dirty").unwrap();
        let reader = begin(&database, isolation);
        let snapshot = database.snapshot().unwrap();
        let see_nothing = |when: &str| {
            let all: Vec<_> = reader.range(&tree, ..).unwrap().map(|it| it.unwrap().1).collect();
            assert!(all.iter().all(|value| *value == b"1") && all.len() == 2, "{when}");
            assert_eq!(text(tree.get("a").unwrap()).as_deref(), Some("1"), "{when}");
            assert_eq!(tree.get("c").unwrap(), None, "{when}");
            assert_eq!((tree.len().unwrap(), snapshot.len(&tree).unwrap()), (2, 2), "{when}");
            assert_eq!(text(snapshot.get(&tree, "b").unwrap()).as_deref(), Some("1"), "{when}");
        };
        see_nothing("while it is open");
        writer.rollback().unwrap();
        see_nothing("after it was rolled back");
        assert_eq!(database.snapshot().unwrap().range(&tree, ..).unwrap().count(), 2);
    }
}

#[test]
fn a_snapshot_repeats_its_reads() {
    let (database, tree) = database();
    let snapshot: Snapshot = database.snapshot().unwrap();
    tree.insert("a", "2").unwrap();
    tree.remove("b").unwrap();
    assert!(database.drop_tree("accounts").unwrap());
    while seawall::testing::collect_step(&database).unwrap() {}
    assert_eq!(text(snapshot.get(&tree, "a").unwrap()).as_deref(), Some("1"));
    assert_eq!((snapshot.range(&tree, ..).unwrap().count(), snapshot.len(&tree).unwrap()), (2, 2));
}

/// Nothing flushes by itself here: a commit that nobody waits for is in the log, and not durable.
fn not_yet_durable() -> (Database, Tree, seawall::CommitFuture) {
    let (database, tree) = database();
    let future = tree.insert_async("a", "2").unwrap();
    assert!(database.stats().durable_lsn < future.lsn());
    (database, tree, future)
}

#[test]
fn what_is_not_yet_durable_is_not_seen_by_reads_that_end_at_once() {
    let (database, tree, future) = not_yet_durable();
    assert_eq!(text(tree.get("a").unwrap()).as_deref(), Some("1"));
    assert_eq!(text(tree.first().unwrap().map(|pair| pair.1)).as_deref(), Some("1"));
    let snapshot = database.snapshot().unwrap();
    assert_eq!(text(snapshot.get(&tree, "a").unwrap()).as_deref(), Some("1"));
    let lsn = future.lsn();
    assert_eq!(future.wait().unwrap(), lsn);
    assert!(database.stats().durable_lsn >= lsn);
    assert_eq!(text(tree.get("a").unwrap()).as_deref(), Some("2"));
    assert_eq!(text(snapshot.get(&tree, "a").unwrap()).as_deref(), Some("1"));
}

#[test]
fn a_transaction_that_read_what_is_not_yet_durable_ends_when_it_is() {
    for isolation in LEVELS {
        for is_writing in [false, true] {
            let (database, tree, future) = not_yet_durable();
            let mut transaction = begin(&database, isolation);
            let value = text(transaction.get(&tree, "a").unwrap());
            if is_writing {
                transaction.insert(&tree, "c", "because of a").unwrap();
            }
            transaction.commit_with(Durability::Relaxed).unwrap();
            let is_durable = database.stats().durable_lsn >= future.lsn();
            assert!(is_durable || value.as_deref() == Some("1"), "{isolation:?} {is_writing}");
        }
    }
}

#[test]
fn answers_that_rest_on_what_is_not_yet_durable_wait_for_it() {
    let (database, tree, future) = not_yet_durable();
    assert!(!tree.compare_and_swap("a", Some(b"1"), Some(b"3")).unwrap());
    assert!(database.stats().durable_lsn >= future.lsn(), "a compare_and_swap that fails");

    let (database, tree, _insert) = not_yet_durable();
    let mut transaction = database.begin().unwrap();
    assert!(transaction.remove(&tree, "b").unwrap());
    let future = transaction.commit_async().unwrap();
    assert!(!tree.remove_with("b", Durability::Relaxed).unwrap());
    assert!(database.stats().durable_lsn >= future.lsn(), "a remove that finds nothing");

    let (database, tree, future) = not_yet_durable();
    tree.insert_with("c", "3", Durability::Relaxed).unwrap();
    let is_behind = database.stats().visible_lsn >= future.lsn();
    assert!(is_behind, "a relaxed commit returns when readers see it, so after those before it");
    assert!(database.stats().durable_lsn >= future.lsn());
}

#[test]
fn changes_of_a_tree_conflict_with_its_open_writers() {
    for isolation in LEVELS {
        let (database, tree) = database();
        let mut writer = begin(&database, isolation);
        writer.insert(&tree, "a", "2").unwrap();
        let mut dropper = begin(&database, isolation);
        assert!(is_conflict(dropper.drop_tree("accounts")));
        assert!(is_conflict(begin(&database, isolation).rename_tree("accounts", "other")));
        drop(dropper);
        writer.commit().unwrap();
        let mut dropper = begin(&database, isolation);
        assert!(dropper.drop_tree("accounts").unwrap());
        let mut writer = begin(&database, isolation);
        assert!(is_conflict(writer.insert(&tree, "a", "3")));
        dropper.rollback().unwrap();
        drop(writer);
        tree.insert("a", "4").unwrap();
        assert_eq!(tree.len().unwrap(), 2);
    }
}
