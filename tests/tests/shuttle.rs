//! A whole database under shuttle: its threads take turns at every lock, condition and atomic, and a seed
//! decides whose turn it is. loom tries every interleaving of a few steps of the lock-free parts; what
//! rests on conditions (group commit, waits for log room and for other writers, checkpoints, close) takes
//! too many steps for that, so many interleavings are tried here instead of all.
//!
//! Built with `RUSTFLAGS="--cfg seawall_shuttle"`. `SEAWALL_SHUTTLE=N` runs N interleavings of each model,
//! from `SEAWALL_FIRST_SEED` on. What is not covered stands at the top of `wal/src/sync/model.rs`. A lost
//! wake-up is a deadlock, which shuttle tells; a failure prints the command that repeats it.
#![cfg(seawall_shuttle)]
#![expect(clippy::print_stderr, reason = "what is to be repeated is shown to whoever runs it")]
#![expect(clippy::unwrap_used, reason = "a test ends where it fails")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use seawall::{Database, Durability, Error, Isolation, TransactionOptions, Tree, testing};
use seawall_tests::check::verify;
use seawall_tests::counts;
use seawall_tests::effort::number;
use seawall_tests::log_space::check_bound_simulated;
use seawall_tests::random::Random;
use seawall_tests::settings::{PATH, Settings};
use seawall_wal::disk::SimDisk;
use seawall_wal::disk::sim::CrashPlan;
use seawall_wal::sync::thread;
use shuttle::scheduler::{
    PctScheduler, RandomScheduler, Scheduler, UncontrolledNondeterminismCheckScheduler,
};
use shuttle::{Config, FailurePersistence, MaxSteps, Runner};

/// Interleavings of a model, half of each kind, when nobody says how many.
const INTERLEAVINGS: u64 = 100;
/// Those of closing, which must come between two certain steps of a writer.
const CLOSINGS: u64 = 400;
/// Places where the second scheduler takes the turn away.
const PREEMPTIONS: usize = 3;
/// Turns that others have while a slow disk is at it.
const TURNS_OF_THE_DISK: usize = 40;
/// Stack of a thread, in bytes.
const STACK_BYTES: usize = 1 << 20;
/// More steps than any model takes: one that takes so many has no end.
const STEPS_MAX: usize = 20_000_000;

type Pair = (String, Vec<u8>);

/// Prints what repeats an interleaving, unless it ends well.
struct Repeat {
    model: &'static str,
    first_seed: u64,
    interleavings: u64,
}

impl Drop for Repeat {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!(
                "again: SEAWALL_FIRST_SEED={} SEAWALL_SHUTTLE={} RUSTFLAGS=\"--cfg seawall_shuttle\" \
                 cargo test -p seawall-tests --test shuttle {}",
                self.first_seed, self.interleavings, self.model
            );
        }
    }
}

/// Runs a model many times, by two schedulers: one that draws at each step, from a seed for each
/// interleaving, and one that lets a thread run on and takes the turn away at a few places (Burckhardt et
/// al. 2010), which has to know how many steps there are and so repeats only as a whole.
fn explore(name: &'static str, usual: u64, model: fn(&SimDisk)) {
    let interleavings = number("SEAWALL_SHUTTLE").unwrap_or(usual);
    let first_seed = number("SEAWALL_FIRST_SEED").unwrap_or(0);
    let drawn = interleavings.div_ceil(2);
    let mut ran = 0;
    for seed in first_seed..first_seed + drawn {
        let _repeat = Repeat { model: name, first_seed: seed, interleavings: 1 };
        ran += run(RandomScheduler::new_from_seed(seed, 1), model);
    }
    let placed = usize::try_from(interleavings - drawn).unwrap();
    let _repeat = Repeat { model: name, first_seed, interleavings };
    ran += run(PctScheduler::new_from_seed(first_seed, PREEMPTIONS + 1, placed), model);
    assert_eq!(ran, interleavings);
    counts::tell("interleavings of whole databases", ran);
}

fn run(scheduler: impl Scheduler + 'static, model: fn(&SimDisk)) -> u64 {
    let mut config = Config::new();
    config.stack_size = STACK_BYTES;
    config.max_steps = MaxSteps::FailAfter(STEPS_MAX);
    config.silence_warnings = true;
    // A schedule of so many steps fills the screen; its seed says the same.
    config.failure_persistence = FailurePersistence::None;
    let ran = Runner::new(scheduler, config).run(move || model(&SimDisk::new()));
    ran.try_into().unwrap()
}

fn open(disk: &SimDisk) -> Database {
    Settings::default().open(disk).unwrap()
}

/// What a tree holds, read by its pairs.
fn pairs(tree: &Tree) -> Vec<Pair> {
    let pair = |pair: seawall::Result<(seawall::Value, seawall::Value)>| {
        let (key, value) = pair.unwrap();
        (String::from_utf8(key.to_vec()).unwrap(), value.to_vec())
    };
    tree.range(..).unwrap().map(pair).collect()
}

/// The disk as a power cut leaves it now, which keeps no more than was promised.
fn power_cut(disk: &SimDisk) -> SimDisk {
    disk.crash(CrashPlan::NothingUnsynced)
}

/// Recovers a database: it is sound, and `look` finds in its tree what it asks for.
fn recover(disk: &SimDisk, look: impl FnOnce(&Tree)) {
    let database = open(disk);
    look(&database.tree("t").unwrap());
    verify(&database).unwrap_or_else(|why| panic!("{why}"));
    database.close().unwrap();
}

fn assert_holds(tree: &Tree, acknowledged: &[Pair]) {
    for (key, value) in acknowledged {
        assert_eq!(tree.get(key).unwrap().as_deref(), Some(value.as_slice()), "{key}");
    }
}

#[test]
fn commits_that_share_flushes_are_durable_and_visible_when_they_return() {
    let name = "commits_that_share_flushes_are_durable_and_visible_when_they_return";
    explore(name, INTERLEAVINGS, commits_share_flushes);
}

fn commits_share_flushes(disk: &SimDisk) {
    let database = open(disk);
    let tree = database.tree("t").unwrap();
    // Others commit while a frame is written, until more of them wait than frames can be on their way.
    disk.set_monitor(Arc::new(|_| (0..TURNS_OF_THE_DISK).for_each(|_| thread::yield_now())));
    let write = |writer: usize| {
        let (disk, tree) = (disk.clone(), tree.clone());
        move || {
            let mut known = Vec::new();
            for number in 0..3 {
                let key = format!("{writer} {number}");
                let value = vec![7; 50 + 400 * number];
                let durability = [Durability::Sync, Durability::Relaxed, Durability::Sync][number];
                tree.insert_with(&key, &value, durability).unwrap();
                assert_eq!(tree.get(&key).unwrap().as_deref(), Some(value.as_slice()));
                known.push((key, value));
            }
            // What a read has shown of others' synchronous commits is as durable as one's own (T1),
            // which covers the relaxed one before it.
            for other in (0..3).filter(|&other| other != writer) {
                let key = format!("{other} 2");
                known.extend(tree.get(&key).unwrap().map(|value| (key, value.to_vec())));
            }
            (power_cut(&disk), known)
        }
    };
    let writers: Vec<_> = (0..3).map(|writer| thread::spawn(write(writer))).collect();
    let ends: Vec<_> = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
    assert_eq!(tree.len().unwrap(), 9);
    assert_eq!(pairs(&tree).len(), 9);
    for (cut, known) in ends {
        recover(&cut, |tree| assert_holds(tree, &known));
    }
    database.close().unwrap();
}

#[test]
fn counters_that_many_transactions_increase_lose_no_step() {
    explore("counters_that_many_transactions_increase_lose_no_step", INTERLEAVINGS, counters);
}

fn counters(disk: &SimDisk) {
    let database = open(disk);
    let tree = database.tree("t").unwrap();
    tree.insert("counter", [0]).unwrap();
    let count = |isolation: Isolation| {
        let (database, tree) = (database.clone(), tree.clone());
        move || {
            let options = TransactionOptions::new().isolation(isolation);
            let mut done = 0;
            for _ in 0..2 {
                let mut transaction = database.begin_with(options.clone()).unwrap();
                let value = transaction.get(&tree, "counter").unwrap().unwrap()[0];
                let written = transaction.insert(&tree, "counter", [value + 1]);
                match written.and_then(|()| transaction.commit().map(drop)) {
                    Ok(()) => done += 1,
                    Err(error) => assert!(error.is_conflict(), "{error:?}"),
                }
            }
            done
        }
    };
    let kinds = [Isolation::Snapshot, Isolation::Serializable, Isolation::Serializable];
    let workers: Vec<_> = kinds.into_iter().map(|kind| thread::spawn(count(kind))).collect();
    let done: u8 = workers.into_iter().map(|worker| worker.join().unwrap()).sum();
    assert_eq!(tree.get("counter").unwrap().unwrap()[0], done);
    assert!(done > 0, "somebody always comes first");
    let expected = [("counter".to_owned(), vec![done])];
    recover(&power_cut(disk), |tree| assert_holds(tree, &expected));
    database.close().unwrap();
}

#[test]
fn checkpoints_page_writes_and_the_collector_meet_writers() {
    explore(
        "checkpoints_page_writes_and_the_collector_meet_writers",
        INTERLEAVINGS,
        background_meets_writers,
    );
}

/// What the tree of [`background_meets_writers`] holds after so many writes of its writer: it puts a new
/// key and removes an old one by turns.
fn after_writes(writes: usize) -> Vec<Pair> {
    let new = (0..writes.div_ceil(2)).map(|number| (format!("new {number}"), vec![2; 700]));
    let old = (writes / 2..8).map(|number| (format!("old {number}"), vec![1; 300]));
    new.chain(old).collect()
}

fn background_meets_writers(disk: &SimDisk) {
    let database = open(disk);
    let tree = database.tree("t").unwrap();
    for number in 0..8 {
        tree.insert(format!("old {number}"), [1; 300]).unwrap();
    }
    // Of std: no model's step, and known to be there when the disk is cut.
    let acknowledged = Arc::new(AtomicUsize::new(0));
    let writer = thread::spawn({
        let (tree, acknowledged) = (tree.clone(), Arc::clone(&acknowledged));
        move || {
            for number in 0..6 {
                tree.insert(format!("new {number}"), vec![2; 700]).unwrap();
                acknowledged.fetch_add(1, Ordering::SeqCst);
                tree.remove(format!("old {number}")).unwrap();
                acknowledged.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    let checkpointer = thread::spawn({
        let (disk, database) = (disk.clone(), database.clone());
        let acknowledged = Arc::clone(&acknowledged);
        move || {
            let cut = || (acknowledged.load(Ordering::SeqCst), power_cut(&disk));
            testing::take_checkpoint(&database).unwrap();
            let first = cut();
            database.checkpoint().unwrap();
            testing::maintain_step(&database).unwrap();
            [first, cut()]
        }
    });
    let collector = thread::spawn({
        let (database, tree) = (database.clone(), tree.clone());
        move || {
            let snapshot = database.snapshot().unwrap();
            let read = || snapshot.range(&tree, ..).unwrap().map(Result::unwrap).collect();
            let before: Vec<_> = read();
            for _ in 0..3 {
                testing::collect_step(&database).unwrap();
            }
            let after: Vec<_> = read();
            assert_eq!(before, after, "a snapshot sees one moment");
        }
    });
    writer.join().unwrap();
    let cuts = checkpointer.join().unwrap();
    collector.join().unwrap();
    assert_eq!(pairs(&tree), after_writes(12));
    assert_eq!(tree.len().unwrap(), 8);
    for (acknowledged, cut) in cuts.into_iter().chain([(12, power_cut(disk))]) {
        recover(&cut, |tree| {
            let found = pairs(tree);
            let is_prefix = (acknowledged..=12).any(|writes| found == after_writes(writes));
            assert!(is_prefix, "{acknowledged} writes were acknowledged, {found:?} found");
        });
    }
    database.close().unwrap();
}

#[test]
fn closing_meets_writers_and_leaves_a_clean_database() {
    explore("closing_meets_writers_and_leaves_a_clean_database", CLOSINGS, closing_meets_writers);
}

fn closing_meets_writers(disk: &SimDisk) {
    let database = open(disk);
    let tree = database.tree("t").unwrap();
    let write = |writer: u8| {
        let (database, tree) = (database.clone(), tree.clone());
        move || {
            let mut acknowledged = Vec::new();
            for number in 0..3 {
                let (key, value) = (format!("{writer} {number}"), vec![writer; 100]);
                let written = match number {
                    1 => database.transact(|transaction| transaction.insert(&tree, &key, &value)),
                    _ => tree.insert(&key, &value),
                };
                match written {
                    Ok(()) => acknowledged.push((key, value)),
                    Err(error) => assert!(matches!(error, Error::Closed), "{error:?}"),
                }
            }
            acknowledged
        }
    };
    let writers: Vec<_> = (0..2).map(|writer| thread::spawn(write(writer))).collect();
    let closer = thread::spawn(move || database.close().unwrap());
    let mut written: Vec<_> =
        writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect();
    closer.join().unwrap();
    written.sort();
    let database = open(disk);
    assert!(database.recovery_report().clean, "nobody was cut off");
    // To the pair: what was refused is not there.
    assert_eq!(pairs(&database.tree("t").unwrap()), written);
    verify(&database).unwrap_or_else(|why| panic!("{why}"));
    database.close().unwrap();
}

#[test]
fn writers_at_the_bound_of_the_log_wake_each_other() {
    explore("writers_at_the_bound_of_the_log_wake_each_other", INTERLEAVINGS, writers_at_the_bound);
}

/// What no compression makes shorter.
fn large_value(writer: u8, number: u8) -> Vec<u8> {
    let mut random = Random::new(u64::from_le_bytes([writer, number, 0, 0, 0, 0, 0, 0]));
    (0..60_000 / 8).flat_map(|_| random.next().to_le_bytes()).collect()
}

fn writers_at_the_bound(disk: &SimDisk) {
    let max_wal_bytes = 2 << 20;
    let settings = Settings { max_wal_bytes, segment_bytes: 128 << 10, ..Settings::default() };
    let database = settings.open(disk).unwrap();
    let tree = database.tree("t").unwrap();
    let start = database.stats().end_lsn.get();
    let write = |writer: u8| {
        let tree = tree.clone();
        move || {
            for number in 0..20_u8 {
                let key = [b'a' + writer, b'0' + number % 3];
                tree.insert(key, large_value(writer, number)).unwrap();
            }
        }
    };
    let writers: Vec<_> = (0..2).map(|writer| thread::spawn(write(writer))).collect();
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    let last = |writer: u8| [18, 19, 17].map(|number| large_value(writer, number));
    let keys = ["a0", "a1", "a2", "b0", "b1", "b2"].map(str::to_owned);
    let expected: Vec<_> = keys.into_iter().zip(last(0).into_iter().chain(last(1))).collect();
    assert!(pairs(&tree) == expected, "each key holds what was written last");
    assert!(database.stats().end_lsn.get() - start > max_wal_bytes, "the log went round");
    check_bound_simulated(disk, PATH.as_ref(), max_wal_bytes).unwrap_or_else(|why| panic!("{why}"));
    database.close().unwrap();
}

/// Without that no seed would repeat what it has found.
#[test]
fn the_same_turns_lead_to_the_same_steps() {
    let seed = number("SEAWALL_FIRST_SEED").unwrap_or(0);
    for model in [commits_share_flushes, counters, background_meets_writers, closing_meets_writers]
    {
        let drawn = RandomScheduler::new_from_seed(seed, 1);
        assert_eq!(run(UncontrolledNondeterminismCheckScheduler::new(drawn), model), 2);
    }
}
