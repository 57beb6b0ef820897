//! Workloads in which one thing happens in the middle of another.

use seawall::Isolation;

use super::{Scenario, begin, commit, insert, put, remove, scenario, span, take, value};
use crate::operation::{End, Inside, Operation, Span, Step, Window};

use Operation::{
    Checkpoint, Collect, CompareAll, CompareSnapshot, Do, DropSnapshot, During, Finish, Flush,
    Insert, TakeCheckpoint, TakeSnapshot,
};
use seawall::Durability::{Relaxed, Sync};

fn insert_during(window: Window, number: u16, bytes: u32) -> Operation {
    During(window, Inside::Insert(0, number, value(bytes, number)))
}

/// Checkpoints are taken while pages are being written.
#[must_use]
pub fn checkpoint_meets_page_write() -> Scenario {
    let operations = [
        insert(0, 300),
        insert(3, 500),
        During(Window::PageSync, Inside::TakeCheckpoint),
        Checkpoint,
        insert(6, 40),
        During(Window::ImageWrite, Inside::TakeCheckpoint),
        Checkpoint,
        insert(9, 30),
    ];
    let prepare = (1..6).map(|number| insert(number, 300)).chain([Checkpoint]);
    scenario("checkpoint meets page write", prepare, operations)
}

/// Pages, among them new ones, are changed while they are being written.
#[must_use]
pub fn change_meets_page_write() -> Scenario {
    let split = (0..6).map(|number| insert(number, 900));
    let rest = [
        // On the leaf of the last insert, which the split has made.
        insert_during(Window::PageSync, 13, 60),
        insert_during(Window::PageSync, 0, 50),
        Checkpoint,
        insert(9, 20),
        Checkpoint,
        insert(11, 30),
        insert_during(Window::ImageWrite, 1, 70),
        Checkpoint,
        TakeCheckpoint,
        insert(12, 30),
    ];
    scenario("change meets page write", [insert(4, 100), Checkpoint], split.chain(rest))
}

/// A commit comes in while a master record is being written.
#[must_use]
pub fn commit_meets_master_record() -> Scenario {
    let operations = [
        insert(0, 300),
        insert_during(Window::ControlWrite, 2, 400),
        TakeCheckpoint,
        insert_during(Window::ControlWrite, 4, 200),
        Checkpoint,
        insert(6, 10),
    ];
    scenario("commit meets master record", [insert(1, 100), Checkpoint], operations)
}

/// Snapshots see what was deleted, replaced and freed since.
#[must_use]
pub fn snapshots() -> Scenario {
    let prepare = (0..9).map(|number| insert(number, 200)).chain([insert(12, 30_000), Checkpoint]);
    let operations = [
        TakeSnapshot(0),
        remove(3),
        insert(4, 20),
        remove(12),
        Collect,
        Collect,
        insert(15, 28_000),
        TakeSnapshot(1),
        remove(6),
        insert(3, 50),
        Collect,
        CompareSnapshot(0),
        DropSnapshot(0),
        Collect,
        Collect,
        CompareSnapshot(1),
        DropSnapshot(1),
        Collect,
        insert(18, 12_000),
        TakeCheckpoint,
        CompareAll,
    ];
    scenario("snapshots", prepare, operations)
}

/// What serializable transactions have read is changed by others.
#[must_use]
pub fn serializable_reads() -> Scenario {
    let all = Span { from: 0, to: 40, is_backwards: false, pairs_max: u16::MAX };
    let operations = [
        begin(0),
        Do(0, Step::Range(0, all)),
        insert(16, 20),
        put(0, 4, 30),
        commit(0),
        begin(1),
        Do(1, Step::Range(0, span(4, 12))),
        put(1, 5, 30),
        insert(24, 10),
        commit(1),
        begin(2),
        Do(2, Step::Get(0, 8)),
        put(2, 9, 30),
        insert(8, 10),
        commit(2),
    ];
    let prepare = [0, 8, 24, 32].map(|number| insert(number, 100));
    scenario("serializable reads", prepare, operations)
}

/// A transaction that has shortened a value is rolled back on a leaf that has filled up since.
#[must_use]
pub fn shortened_values() -> Scenario {
    let prepare = (0..6).map(|number| insert(8 * number, 600)).chain([Checkpoint]);
    let start = [begin(0), put(0, 8, 10), put(0, 16, 10), Flush];
    let others = (6..10).map(|number| insert(8 * number, 250));
    let end = [Finish(0, End::Rollback), TakeCheckpoint];
    let operations = start.into_iter().chain(others).chain(end);
    scenario("shortened values", prepare, operations)
}

/// A transaction has shortened values; once nobody can roll back, the room they kept is given back.
#[must_use]
pub fn settled_values() -> Scenario {
    let prepare = (0..5).map(|number| insert(8 * number, 500)).chain([Checkpoint]);
    let operations = [
        begin(0),
        put(0, 8, 10),
        put(0, 16, 20),
        commit(0),
        Collect,
        Collect,
        Insert(0, 48, value(900, 48), Relaxed),
        TakeCheckpoint,
        insert(24, 700),
    ];
    scenario("settled values", prepare, operations)
}

/// Two transactions are in the log when a checkpoint is taken, one committed, one not.
#[must_use]
pub fn commit_before_checkpoint() -> Scenario {
    let operations = [
        begin(0),
        put(0, 1, 100),
        begin(1),
        put(1, 3, 100),
        commit(0),
        TakeCheckpoint,
        put(1, 5, 100),
        Insert(0, 9, value(30, 9), Relaxed),
        commit(1),
        TakeCheckpoint,
        insert(6, 10),
    ];
    scenario("commit before checkpoint", [insert(1, 300), Checkpoint], operations)
}

/// A transaction that has changed nothing for long writes when the log from its beginning is gone.
#[must_use]
pub fn late_first_write() -> Scenario {
    let prepare = [begin(0), take(0, 1)];
    let writes = (0..20).flat_map(|number| {
        let checkpoint = number % 5 == 4;
        [insert(3 * (number % 4), 20_000)].into_iter().chain(checkpoint.then_some(Checkpoint))
    });
    let operations = [put(0, 2, 100), TakeCheckpoint, put(0, 4, 100), commit(0), TakeCheckpoint];
    scenario("late first write", prepare.into_iter().chain(writes), operations)
}

/// Extents are freed and a checkpoint is taken before they can be given to others.
#[must_use]
pub fn frees_before_checkpoint() -> Scenario {
    let operations = [
        remove(0),
        TakeCheckpoint,
        insert(3, 10),
        TakeCheckpoint,
        insert(6, 9000),
        Collect,
        insert(9, 10),
    ];
    scenario("frees before checkpoint", [insert(0, 20_000), Checkpoint], operations)
}

/// A backup is made while a transaction is open, and compared.
#[must_use]
pub fn backup() -> Scenario {
    let operations = [
        begin(0),
        put(0, 1, 400),
        insert(3, 9000),
        Flush,
        Operation::Backup,
        Insert(0, 5, value(90, 5), Sync),
        commit(0),
    ];
    scenario("backup", [insert(0, 700), insert(1, 100), Checkpoint], operations)
}

/// Commits and the collector come in while a snapshot is being registered.
#[must_use]
pub fn registering_snapshot() -> Scenario {
    let operations = [
        insert_during(Window::RegisteringSnapshot, 0, 50),
        During(Window::RegisteringSnapshot, Inside::Collect),
        TakeSnapshot(0),
        insert(3, 10),
        Collect,
        CompareSnapshot(0),
    ];
    scenario("registering a snapshot", [insert(0, 100), insert(3, 100)], operations)
}

/// A snapshot and a commit come in while the collector works out the horizon.
#[must_use]
pub fn working_out_horizon() -> Scenario {
    let operations = [
        During(Window::WorkingOutHorizon, Inside::TakeSnapshot(0)),
        insert_during(Window::WorkingOutHorizon, 0, 50),
        Collect,
        Collect,
        CompareSnapshot(0),
    ];
    scenario("working out the horizon", [insert(0, 100), insert(3, 100)], operations)
}

/// A commit comes in between the validation of a transaction and its own commit.
#[must_use]
pub fn validated() -> Scenario {
    let operations = [
        Operation::Begin(0, Isolation::Serializable),
        Do(0, Step::Range(0, span(0, 16))),
        put(0, 32, 10),
        insert_during(Window::Validated, 8, 50),
        commit(0),
    ];
    scenario("validated", [insert(0, 100), insert(16, 100)], operations)
}

/// A commit comes in while a reader of the same key copies the value without a latch.
#[must_use]
pub fn read_meets_write() -> Scenario {
    let operations = [
        begin(0),
        Do(0, Step::Get(0, 0)),
        insert_during(Window::CellSeen, 16, 50),
        Do(0, Step::Get(0, 16)),
        commit(0),
    ];
    scenario("read meets write", [insert(0, 100), insert(16, 100)], operations)
}
