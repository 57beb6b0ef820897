//! Short workloads that together reach every kind of record and every step of checkpoint, page
//! write, segment switch and recovery.

mod meeting;

use seawall::{Durability, Isolation};

use crate::generate::Generator;
use crate::operation::{End, Operation, Span, Step, ValueSpec};
use crate::random::Random;
use crate::settings::Settings;

pub use meeting::{
    backup, change_meets_page_write, checkpoint_meets_page_write, commit_before_checkpoint,
    commit_meets_master_record, frees_before_checkpoint, late_first_write, read_meets_write,
    registering_snapshot, serializable_reads, settled_values, shortened_values, snapshots,
    validated, working_out_horizon,
};

use Durability::{Relaxed, Sync};
use Operation::{
    Begin, Checkpoint, Collect, CreateTree, Do, DropTree, Finish, Flush, Insert, Maintain, Remove,
    RenameTree, Reopen, TakeCheckpoint,
};

/// A short workload.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Its name.
    pub name: String,
    /// How the database is opened.
    pub settings: Settings,
    /// What is done before it counts.
    pub prepare: Vec<Operation>,
    /// What is cut at every operation of the disk.
    pub operations: Vec<Operation>,
    /// Whether the creation of the database is cut as well.
    pub is_creation_recorded: bool,
    /// Whether every window that it names must open.
    pub must_open_windows: bool,
}

impl Scenario {
    /// The same with these of its operations alone.
    #[must_use]
    pub fn only(&self, kept: &[usize]) -> Self {
        let operations = kept.iter().map(|&place| self.operations[place]).collect();
        Self { operations, ..self.clone() }
    }
}

fn scenario(
    name: &str,
    prepare: impl IntoIterator<Item = Operation>,
    operations: impl IntoIterator<Item = Operation>,
) -> Scenario {
    Scenario {
        name: name.into(),
        settings: Settings::default(),
        prepare: [CreateTree(0)].into_iter().chain(prepare).collect(),
        operations: operations.into_iter().collect(),
        is_creation_recorded: false,
        must_open_windows: true,
    }
}

/// A value of this length, which the key's number fills.
fn value(bytes: u32, number: u16) -> ValueSpec {
    ValueSpec { bytes, seed: u32::from(number) + 7 * bytes }
}

fn insert(number: u16, bytes: u32) -> Operation {
    Insert(0, number, value(bytes, number), if number.is_multiple_of(3) { Sync } else { Relaxed })
}

fn remove(number: u16) -> Operation {
    Remove(0, number, if number.is_multiple_of(3) { Sync } else { Relaxed })
}

fn put(slot: usize, number: u16, bytes: u32) -> Operation {
    Do(slot, Step::Insert(0, number, value(bytes, number)))
}

fn take(slot: usize, number: u16) -> Operation {
    Do(slot, Step::Remove(0, number))
}

fn begin(slot: usize) -> Operation {
    Begin(slot, Isolation::Serializable)
}

fn commit(slot: usize) -> Operation {
    Finish(slot, End::Commit(Sync))
}

/// Every scenario.
#[must_use]
pub fn all() -> Vec<Scenario> {
    vec![
        creation(),
        splits(),
        merges(),
        root_growth(),
        overflow_values(),
        overflow_transaction(),
        abort(),
        savepoint(),
        long_transaction(),
        huge_commit(),
        huge_rollback(),
        checkpoints(),
        segments(),
        file_growth(),
        trees(),
        trees_rolled_back(),
        relaxed_commits(),
        async_commits(),
        page_writes(),
        reuse_of_pages(),
        reopening(),
        checkpoint_meets_page_write(),
        change_meets_page_write(),
        commit_meets_master_record(),
        snapshots(),
        serializable_reads(),
        shortened_values(),
        settled_values(),
        commit_before_checkpoint(),
        frees_before_checkpoint(),
        late_first_write(),
    ]
}

impl Scenario {
    /// The same with a frame for each record, so that the power is cut between any two.
    #[must_use]
    pub fn with_records_alone(mut self) -> Self {
        self.name += ", records alone";
        self.settings.is_record_alone = true;
        self.settings.max_wal_bytes = self.settings.max_wal_bytes.max(16 << 20);
        self
    }
}

/// The database is created, and used at once.
#[must_use]
pub fn creation() -> Scenario {
    let mut scenario = scenario("creation", [], [insert(0, 10), insert(3, 500), Checkpoint]);
    scenario.operations.splice(..0, scenario.prepare.drain(..));
    scenario.is_creation_recorded = true;
    scenario
}

/// Leaves split, in the middle and at the end.
#[must_use]
pub fn splits() -> Scenario {
    let inserts = (0..30).map(|number| insert(number * 7 % 31, 800));
    scenario("splits", [], inserts.chain([Checkpoint]))
}

/// Leaves merge, and are freed.
#[must_use]
pub fn merges() -> Scenario {
    let prepare = (0..48).map(|number| insert(number, 700)).chain([Checkpoint]);
    let removes = (0..32).flat_map(|number| {
        let collect = number % 6 == 5;
        [remove(number * 5 % 48)].into_iter().chain(collect.then_some(Collect))
    });
    scenario("merges", prepare, removes.chain([Collect, Collect, Checkpoint]))
}

/// The tree gets a third level.
#[must_use]
pub fn root_growth() -> Scenario {
    // Long keys, so that inner nodes hold few children.
    let long = |number: u16| insert(195 + 200 * (number / 25) + 8 * (number % 25), 900);
    let prepare = (0..60).map(long).chain([Checkpoint]);
    let more = (60..95).map(long);
    scenario("root growth", prepare, more.chain([Flush, TakeCheckpoint]))
}

/// Values with pages of their own come, change and go.
#[must_use]
pub fn overflow_values() -> Scenario {
    let operations = [
        insert(0, 9000),
        insert(1, 40_000),
        insert(3, 10),
        insert(3, 12_000),
        Maintain,
        insert(0, 30_000),
        remove(1),
        Collect,
        insert(0, 5),
        Collect,
        TakeCheckpoint,
        insert(6, 25_000),
        remove(6),
        Collect,
        Checkpoint,
    ];
    scenario("overflow values", [], operations)
}

/// Large values in transactions that end either way.
#[must_use]
pub fn overflow_transaction() -> Scenario {
    let operations = [
        begin(0),
        put(0, 1, 20_000),
        put(0, 2, 50),
        take(0, 0),
        Flush,
        Finish(0, End::Rollback),
        begin(1),
        put(1, 0, 10_000),
        TakeCheckpoint,
        put(1, 0, 18_000),
        put(1, 4, 7000),
        commit(1),
        Collect,
        Collect,
        Checkpoint,
    ];
    scenario("overflow transaction", [insert(0, 15_000), Checkpoint], operations)
}

/// A transaction is rolled back after its pages were written, while others commit.
#[must_use]
pub fn abort() -> Scenario {
    let prepare = (0..24).map(|number| insert(number, 600)).chain([Checkpoint]);
    let changes = (0..10).flat_map(|number| [put(0, number, 900), take(0, number + 12)]);
    let others = [Checkpoint, insert(30, 100), Finish(0, End::Drop), insert(33, 100), Collect];
    scenario("abort", prepare, [begin(0)].into_iter().chain(changes).chain(others))
}

/// Part of a transaction is taken back.
#[must_use]
pub fn savepoint() -> Scenario {
    let operations = [
        begin(0),
        put(0, 1, 500),
        put(0, 2, 500),
        Do(0, Step::Savepoint),
        put(0, 2, 900),
        take(0, 0),
        put(0, 9, 3000),
        Flush,
        Do(0, Step::Savepoint),
        put(0, 10, 800),
        Do(0, Step::RollbackTo(0)),
        put(0, 11, 300),
        Do(0, Step::RollbackTo(1)),
        put(0, 12, 200),
        TakeCheckpoint,
        commit(0),
        insert(15, 10),
        Collect,
    ];
    scenario("savepoint", [insert(0, 400), insert(2, 10), Checkpoint], operations)
}

/// A transaction lives through checkpoints, and holds the log.
#[must_use]
pub fn long_transaction() -> Scenario {
    let start = [begin(0), put(0, 1, 400), take(0, 0), insert(3, 900), Checkpoint];
    let middle = (6..14).map(|number| insert(number, 800));
    let end = [put(0, 20, 700), Checkpoint, begin(1), put(1, 30, 100), TakeCheckpoint];
    let ends = [commit(0), insert(33, 10), TakeCheckpoint, Finish(1, End::Rollback), insert(36, 9)];
    let operations = start.into_iter().chain(middle).chain(end).chain(ends);
    scenario("long transaction", [insert(0, 300), Checkpoint], operations)
}

/// A scenario in which every transaction is huge from its first write on: it writes stamps, and each
/// checkpoint moves its undo information out of the log.
fn huge(name: &str, operations: impl IntoIterator<Item = Operation>) -> Scenario {
    let prepare = (0..12).map(|number| insert(number, 300)).chain([Checkpoint]);
    let mut scenario = scenario(name, prepare, operations);
    scenario.settings.bulk_budget_bytes = Some(0);
    scenario.settings.held_log_bytes = Some(0);
    scenario
}

/// A huge transaction inserts, replaces, shortens and deletes, and commits; another one is left open.
#[must_use]
pub fn huge_commit() -> Scenario {
    let writes = [begin(0), put(0, 20, 400), put(0, 1, 500), put(0, 2, 20), take(0, 3)];
    let again = [TakeCheckpoint, put(0, 1, 100), take(0, 20), put(0, 3, 700), insert(30, 50)];
    let large = [put(0, 4, 20_000), TakeCheckpoint, commit(0), Collect, insert(1, 60), Checkpoint];
    let open = [begin(1), put(1, 5, 10), take(1, 6), put(1, 40, 900), TakeCheckpoint, put(1, 5, 9)];
    huge("huge commit", [writes.as_slice(), &again, &large, &open].concat())
}

/// Huge transactions are rolled back: whole, to a savepoint, and across checkpoints.
#[must_use]
pub fn huge_rollback() -> Scenario {
    let writes = [begin(0), put(0, 20, 400), put(0, 1, 500), take(0, 3), TakeCheckpoint];
    let part = [Do(0, Step::Savepoint), put(0, 1, 10), take(0, 4), put(0, 21, 300), TakeCheckpoint];
    let back = [Do(0, Step::RollbackTo(0)), TakeCheckpoint, put(0, 5, 600), TakeCheckpoint];
    let ends = [Finish(0, End::Rollback), insert(1, 70), TakeCheckpoint, Collect, Checkpoint];
    huge("huge rollback", [writes.as_slice(), &part, &back, &ends].concat())
}

/// Checkpoints with and without cleaning, dirty pages old and new.
#[must_use]
pub fn checkpoints() -> Scenario {
    let operations = [
        insert(0, 300),
        TakeCheckpoint,
        insert(3, 300),
        insert(4, 300),
        Checkpoint,
        // The page is clean: its next change is the first of a dirty period.
        insert(5, 300),
        TakeCheckpoint,
        TakeCheckpoint,
        insert(6, 300),
        remove(0),
        Checkpoint,
        Checkpoint,
        insert(7, 20),
        Flush,
        insert(8, 20),
        TakeCheckpoint,
        remove(3),
    ];
    scenario("checkpoints", [insert(1, 100), Checkpoint], operations)
}

/// The log goes through several segments, which are used again.
#[must_use]
pub fn segments() -> Scenario {
    let writes = (0..14).flat_map(|number| {
        let checkpoint = number % 4 == 3;
        [insert(number % 8 * 3, 20_000)].into_iter().chain(checkpoint.then_some(Checkpoint))
    });
    let mut scenario = scenario("segments", [], writes);
    scenario.settings.segment_bytes = 128 << 10;
    scenario.settings.max_wal_bytes = 2 << 20;
    scenario
}

/// The log goes through segments that it has used before, in the same life of the database.
#[must_use]
pub fn recycled_segments() -> Scenario {
    let writes = |from: u16, to: u16| {
        (from..to).flat_map(|number| {
            let checkpoint = number % 4 == 3;
            [insert(number % 8 * 3, 20_000)].into_iter().chain(checkpoint.then_some(Checkpoint))
        })
    };
    scenario("recycled segments", writes(0, 132), writes(132, 148))
}

/// The page file grows.
#[must_use]
pub fn file_growth() -> Scenario {
    let writes = (0..4).map(|number| insert(number, 90_000));
    scenario("file growth", [], writes.chain([Checkpoint, remove(0), Collect, insert(9, 60_000)]))
}

/// Trees are created, filled, renamed and dropped.
#[must_use]
pub fn trees() -> Scenario {
    let fill = (0..8).map(|number| Insert(1, number, value(900, number), Relaxed));
    let rest = [
        RenameTree(1, 2),
        Insert(2, 20, value(50, 1), Sync),
        DropTree(2),
        Collect,
        TakeCheckpoint,
        Collect,
        CreateTree(2),
        Insert(2, 3, value(60, 2), Sync),
        DropTree(0),
        Collect,
        Collect,
        Checkpoint,
    ];
    let operations = [CreateTree(1)].into_iter().chain(fill).chain(rest);
    scenario("trees", [insert(0, 700), Checkpoint], operations)
}

/// Changes of the catalogue are taken back.
#[must_use]
pub fn trees_rolled_back() -> Scenario {
    let operations = [
        begin(0),
        Do(0, Step::Tree(1)),
        Do(0, Step::Insert(1, 1, value(900, 1))),
        Do(0, Step::Insert(1, 2, value(900, 2))),
        Do(0, Step::Insert(1, 3, value(2900, 3))),
        Do(0, Step::RenameTree(0, 3)),
        TakeCheckpoint,
        Finish(0, End::Rollback),
        insert(3, 10),
        Collect,
        begin(1),
        Do(1, Step::Savepoint),
        Do(1, Step::DropTree(0)),
        Do(1, Step::RollbackTo(0)),
        Do(1, Step::Tree(2)),
        Do(1, Step::Insert(2, 5, value(100, 5))),
        commit(1),
        Collect,
        insert(6, 10),
    ];
    scenario("trees rolled back", [insert(0, 700), Checkpoint], operations)
}

/// Commits that nobody waits for the disk with, written out a few at a time.
#[must_use]
pub fn relaxed_commits() -> Scenario {
    let relaxed = |number: u16| Insert(0, number, value(700, number), Relaxed);
    let operations = (0..24).flat_map(move |number| {
        let flush = number % 3 == 2;
        [relaxed(number)].into_iter().chain(flush.then_some(Flush))
    });
    let transaction = [begin(0), put(0, 40, 100), put(0, 41, 100), Finish(0, End::Commit(Relaxed))];
    let end = [Flush, relaxed(50), Maintain, Operation::Sync, relaxed(51)];
    scenario("relaxed commits", [], operations.chain(transaction).chain(end))
}

/// Commits that nobody has waited for yet.
#[must_use]
pub fn async_commits() -> Scenario {
    let put_async = |number: u16| Operation::InsertAsync(0, number, value(200, number));
    let operations = [
        put_async(1),
        put_async(2),
        Operation::Get(0, 1),
        Operation::Await,
        begin(0),
        put(0, 10, 100),
        put(0, 11, 2000),
        Finish(0, End::CommitAsync),
        put_async(3),
        Flush,
        insert(4, 10),
        put_async(5),
        Operation::Ends(0),
        Operation::Await,
        put_async(6),
        TakeCheckpoint,
    ];
    scenario("async commits", [], operations)
}

/// Pages are written in batches while a transaction is open and commits are not yet durable.
#[must_use]
pub fn page_writes() -> Scenario {
    let prepare = (0..90).map(|number| insert(number, 900)).chain([Checkpoint]);
    let updates = (0..24).map(|number| match number % 4 {
        0 => put(0, number * 3, 700),
        1 => insert(number * 3, 650),
        2 => Maintain,
        _ => Insert(0, number * 3, value(600, number), Relaxed),
    });
    scenario("page writes", prepare, [begin(0)].into_iter().chain(updates).chain([Checkpoint]))
}

/// Pages are freed and given to others.
#[must_use]
pub fn reuse_of_pages() -> Scenario {
    let prepare = [insert(0, 60_000), insert(3, 60_000), Checkpoint];
    let operations = [
        remove(0),
        Collect,
        Collect,
        insert(6, 50_000),
        TakeCheckpoint,
        remove(3),
        Collect,
        Collect,
        insert(9, 800),
        insert(10, 800),
        insert(11, 800),
        insert(12, 800),
        insert(13, 800),
        insert(15, 30_000),
        Checkpoint,
    ];
    scenario("reuse of pages", prepare, operations)
}

/// The database is closed and opened.
#[must_use]
pub fn reopening() -> Scenario {
    let operations =
        [insert(0, 300), Reopen, insert(3, 300), insert(4, 10), Reopen, Reopen, insert(6, 1)];
    scenario("reopening", [insert(1, 200)], operations)
}

/// A random workload as a scenario.
#[must_use]
pub fn random(seed: u64, length: usize) -> Scenario {
    let mut settings = Settings::random(&mut Random::new(!seed));
    settings.isolation = Isolation::Serializable;
    let mut operations = Generator::new(seed).workload(length);
    // A kill goes on with another disk than the one that is recorded.
    operations.retain(|operation| !matches!(operation, Operation::Kill));
    Scenario {
        name: format!("random {seed}"),
        settings,
        prepare: Vec::new(),
        operations,
        is_creation_recorded: false,
        must_open_windows: false,
    }
}

/// A range of keys' numbers, all of it, forwards.
#[must_use]
pub const fn span(from: u16, to: u16) -> Span {
    Span { from, to, is_backwards: false, pairs_max: u16::MAX }
}
