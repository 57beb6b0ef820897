//! Histories of concurrent transactions with power cuts in between, for two checkers, which are
//! first shown to find what is planted. `SEAWALL_HISTORIES=N` runs N seeds of each kind,
//! from `SEAWALL_FIRST_SEED` on.

#![expect(clippy::print_stderr, reason = "counts are shown to whoever runs it")]
#![expect(clippy::unwrap_used, reason = "a test ends where it fails")]

use seawall::Isolation;
use seawall_tests::counts;
use seawall_tests::effort::number;
use seawall_tests::history::checker::{Anomaly, check, counted};
use seawall_tests::history::workload::Workload;
use seawall_tests::history::{Ending, History, Kind, Step, Transaction, elle};
use seawall_wal::codec::to_u64;

/// Seeds of each kind when nobody says how many.
const HISTORIES: u64 = 25;

fn write(key: u32, element: u32) -> Step {
    Step::Write { key, element }
}

fn read(key: u32, found: &[u32]) -> Step {
    Step::Read { key, found: found.to_vec() }
}

/// A transaction with a thread of its own, from one moment to another.
fn transaction(began: u64, ended: u64, ending: Ending, steps: Vec<Step>) -> Transaction {
    let thread = u32::try_from(began).unwrap();
    let ended = if ending == Ending::Unknown { u64::MAX } else { ended };
    Transaction { thread, began, ended, steps, ending, commit_lsn: Some(began) }
}

fn committed(began: u64, ended: u64, steps: Vec<Step>) -> Transaction {
    transaction(began, ended, Ending::Committed, steps)
}

fn lists(transactions: Vec<Transaction>) -> History {
    History { kind: Kind::Lists, transactions }
}

fn registers(transactions: Vec<Transaction>) -> History {
    History { kind: Kind::Registers, transactions }
}

/// Both checkers must find it under this level.
fn assert_found(history: &History, isolation: Isolation, anomaly: Anomaly) {
    let findings = check(history, isolation);
    assert!(findings.iter().any(|finding| finding.anomaly == anomaly), "{findings:?}");
    let report = elle::check(history, isolation);
    assert_eq!(report.valid, adya::Valid::False, "{report:?}");
}

fn assert_clean(history: &History, isolation: Isolation) {
    let findings = check(history, isolation);
    assert!(findings.is_empty(), "{} findings, first {}", findings.len(), findings[0]);
    let report = elle::check(history, isolation);
    assert_eq!(report.valid, adya::Valid::True, "{report:?}");
}

/// Each read both, and each wrote the other one.
fn write_skew() -> History {
    lists(vec![
        committed(1, 5, vec![read(1, &[]), read(2, &[]), write(1, 10)]),
        committed(2, 6, vec![read(1, &[]), read(2, &[]), write(2, 20)]),
        committed(7, 8, vec![read(1, &[10]), read(2, &[20])]),
    ])
}

#[test]
fn checkers_find_write_skew_where_transactions_are_serializable_and_allow_it_to_snapshots() {
    assert_found(&write_skew(), Isolation::Serializable, Anomaly::Cycle);
    assert_clean(&write_skew(), Isolation::Snapshot);
}

#[test]
fn checkers_find_a_lost_update() {
    let of = |kind| History {
        kind,
        transactions: vec![
            committed(1, 5, vec![read(1, &[]), write(1, 10)]),
            committed(2, 6, vec![read(1, &[]), write(1, 11)]),
            committed(7, 8, vec![read(1, if kind == Kind::Lists { &[10, 11] } else { &[11] })]),
        ],
    };
    for isolation in [Isolation::Serializable, Isolation::Snapshot] {
        assert_found(&of(Kind::Lists), isolation, Anomaly::Cycle);
        assert_found(&of(Kind::Registers), isolation, Anomaly::Cycle);
    }
}

#[test]
fn checkers_find_a_read_of_two_moments() {
    let history = lists(vec![
        committed(1, 2, vec![write(1, 10), write(2, 20)]),
        committed(3, 6, vec![write(1, 11), write(2, 21)]),
        committed(4, 7, vec![read(1, &[10]), read(2, &[20, 21])]),
        committed(8, 9, vec![read(1, &[10, 11]), read(2, &[20, 21])]),
    ]);
    assert_found(&history, Isolation::Snapshot, Anomaly::Cycle);
}

#[test]
fn checkers_find_two_readers_who_disagree_about_the_order() {
    let history = lists(vec![
        committed(1, 5, vec![write(1, 10)]),
        committed(2, 6, vec![write(2, 20)]),
        committed(3, 7, vec![read(1, &[10]), read(2, &[])]),
        committed(4, 8, vec![read(1, &[]), read(2, &[20])]),
        committed(9, 10, vec![read(1, &[10]), read(2, &[20])]),
    ]);
    assert_found(&history, Isolation::Snapshot, Anomaly::Cycle);
}

#[test]
fn checkers_find_a_read_of_what_was_rolled_back() {
    let history = lists(vec![
        transaction(1, 3, Ending::Aborted, vec![write(1, 10)]),
        committed(2, 4, vec![read(1, &[10])]),
    ]);
    assert_found(&history, Isolation::Snapshot, Anomaly::AbortedRead);
}

#[test]
fn checkers_find_a_read_between_two_writes_of_one_transaction() {
    let history = lists(vec![
        committed(1, 5, vec![write(1, 10), write(1, 11)]),
        committed(2, 4, vec![read(1, &[10])]),
        committed(6, 7, vec![read(1, &[10, 11])]),
    ]);
    assert_found(&history, Isolation::Snapshot, Anomaly::IntermediateRead);
}

#[test]
fn checkers_find_a_transaction_that_does_not_read_its_own_write() {
    let history = lists(vec![
        committed(1, 2, vec![write(1, 10), read(1, &[])]),
        committed(3, 4, vec![read(1, &[10])]),
    ]);
    assert_found(&history, Isolation::Snapshot, Anomaly::Internal);
}

#[test]
fn checkers_find_a_read_from_before_a_commit_that_had_been_acknowledged() {
    for kind in [Kind::Lists, Kind::Registers] {
        let history = History {
            kind,
            transactions: vec![
                committed(1, 2, vec![write(1, 10)]),
                committed(3, 4, vec![read(1, &[])]),
                committed(5, 6, vec![read(1, &[10])]),
            ],
        };
        for isolation in [Isolation::Serializable, Isolation::Snapshot] {
            assert_found(&history, isolation, Anomaly::Cycle);
        }
    }
}

/// The other checker leaves an element aside that nobody ever read; ours does not.
#[test]
fn checker_finds_a_commit_that_was_lost() {
    let history = lists(vec![
        committed(1, 2, vec![write(1, 10)]),
        committed(3, 4, vec![write(1, 11)]),
        committed(5, 6, vec![read(1, &[10])]),
    ]);
    let findings = check(&history, Isolation::Snapshot);
    assert_eq!(findings[0].anomaly, Anomaly::LostWrite, "{findings:?}");
}

#[test]
fn whose_end_nobody_was_told_of_may_have_happened_or_not() {
    let told = |found: &[u32]| {
        lists(vec![
            committed(1, 2, vec![write(1, 10)]),
            transaction(3, 4, Ending::Unknown, vec![read(1, &[10]), write(1, 11)]),
            committed(5, 6, vec![read(1, found), write(2, 20)]),
            committed(7, 8, vec![read(1, found), read(2, &[20])]),
        ])
    };
    assert_clean(&told(&[10]), Isolation::Serializable);
    assert_clean(&told(&[10, 11]), Isolation::Serializable);
    assert_eq!((counted(&told(&[10])), counted(&told(&[10, 11]))), (3, 4));
    // Seen, and then gone.
    let history = lists(vec![
        transaction(1, 2, Ending::Unknown, vec![write(1, 11)]),
        committed(3, 4, vec![read(1, &[11])]),
        committed(5, 6, vec![read(1, &[])]),
    ]);
    assert_found(&history, Isolation::Snapshot, Anomaly::Cycle);
}

#[test]
fn registers_are_ordered_by_their_commits() {
    let history = registers(vec![
        committed(1, 2, vec![write(1, 10)]),
        committed(3, 6, vec![write(1, 11), write(2, 20)]),
        committed(4, 7, vec![read(1, &[10]), read(2, &[20])]),
    ]);
    assert_found(&history, Isolation::Snapshot, Anomaly::Cycle);
}

fn run(kind: Kind, isolation: Isolation) {
    let histories = number("SEAWALL_HISTORIES").unwrap_or(HISTORIES);
    let first = number("SEAWALL_FIRST_SEED").unwrap_or(1);
    let mut totals = [0; 3];
    for seed in first..first + histories {
        let workload = Workload { seed, kind, isolation, threads: 6, lives: 4, transactions: 400 };
        let history = workload.run().unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        assert_clean(&history, isolation);
        let endings = [Ending::Committed, Ending::Aborted, Ending::Unknown];
        for (count, ending) in totals.iter_mut().zip(endings) {
            *count += history.count(ending);
        }
    }
    let [committed, aborted, unknown] = totals;
    // A workload without conflicts, or of conflicts alone, would show nothing.
    assert!(committed > aborted && aborted > 0, "{committed} committed, {aborted} aborted");
    eprintln!(
        "{kind:?}, {isolation:?}: {histories} histories with 3 power cuts each, {committed} \
         transactions committed, {aborted} aborted, {unknown} of unknown end; nothing found"
    );
    counts::tell("transactions in checked histories", to_u64(committed + aborted + unknown));
    if kind == Kind::Lists && isolation == Isolation::Serializable {
        counts::tell("seeds of histories", histories);
    }
}

#[test]
fn lists_of_serializable_transactions_show_no_anomaly() {
    run(Kind::Lists, Isolation::Serializable);
}

#[test]
fn lists_of_snapshot_transactions_show_what_snapshots_allow() {
    run(Kind::Lists, Isolation::Snapshot);
}

#[test]
fn registers_of_serializable_transactions_show_no_anomaly() {
    run(Kind::Registers, Isolation::Serializable);
}

#[test]
fn registers_of_snapshot_transactions_show_what_snapshots_allow() {
    run(Kind::Registers, Isolation::Snapshot);
}
