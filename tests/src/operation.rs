//! What can be done to a database, as values: a workload is a list of them.
//!
//! Operations name trees, keys, slots of transactions and snapshots by small numbers, and mean
//! nothing by themselves: what is not possible when its turn comes (a step of a transaction that is
//! not open) is skipped. So any part of a workload is a workload, and a failing one can be shrunk.

use seawall::{Durability, Isolation};

use crate::random::Random;

/// Slots of transactions that are open at the same time.
pub const SLOTS: usize = 3;

/// A value: how long, and what fills it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValueSpec {
    /// Length in bytes.
    pub bytes: u32,
    /// Decides the bytes.
    pub seed: u32,
}

impl ValueSpec {
    /// The value's bytes. Half of them compress.
    #[must_use]
    pub fn make(self) -> Vec<u8> {
        let mut random = Random::new(u64::from(self.seed));
        let pattern = random.next().to_le_bytes();
        let length = usize::try_from(self.bytes).expect("usize has at least 32 bits");
        let mut value: Vec<u8> = pattern.iter().copied().cycle().take(length).collect();
        for chunk in value.chunks_mut(16) {
            let noise = random.next().to_le_bytes();
            chunk.iter_mut().zip(noise).for_each(|(byte, noise)| *byte ^= noise);
        }
        value
    }
}

/// The key of this number: their lengths differ, many share a long prefix, and numbers are in the
/// order of keys only where those have the same prefix.
#[must_use]
pub fn key(number: u16) -> Vec<u8> {
    match number % 8 {
        0 => format!("k{number:05}").into_bytes(),
        1 => {
            let mut key = b"a common prefix of some length/".to_vec();
            key.extend(number.to_be_bytes());
            key
        }
        2 => {
            let mut key = vec![0xff; usize::from(number % 5)];
            key.extend(number.to_be_bytes());
            key
        }
        3 => format!("k{number:05}/{}", "x".repeat(usize::from(number % 200))).into_bytes(),
        _ => format!("m{number:05}").into_bytes(),
    }
}

/// The name of the tree of this number.
#[must_use]
pub fn tree_name(number: u8) -> String {
    format!("tree-{number}")
}

/// Part of a tree that is read or removed.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// One end, a key's number.
    pub from: u16,
    /// The other end; both may come in either order.
    pub to: u16,
    /// From the high end.
    pub is_backwards: bool,
    /// Pairs that are read at most.
    pub pairs_max: u16,
}

/// One step of a transaction.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// Inserts or replaces.
    Insert(u8, u16, ValueSpec),
    /// Removes.
    Remove(u8, u16),
    /// Removes a range.
    RemoveRange(u8, Span),
    /// Reads a key.
    Get(u8, u16),
    /// Reads a range.
    Range(u8, Span),
    /// Opens or creates a tree.
    Tree(u8),
    /// Drops a tree.
    DropTree(u8),
    /// Renames a tree.
    RenameTree(u8, u8),
    /// Remembers this point.
    Savepoint,
    /// Goes back to the last point remembered that many before the newest.
    RollbackTo(u8),
}

/// How a transaction ends.
#[derive(Clone, Copy, Debug)]
pub enum End {
    /// It commits.
    Commit(Durability),
    /// It commits, and nobody waits for it yet.
    CommitAsync,
    /// It is rolled back.
    Rollback,
    /// Its handle is dropped.
    Drop,
}

/// A moment inside of an operation at which another thread may come in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// Pages are written in place, and about to be synced.
    PageSync,
    /// Images of pages are about to be written to the doublewrite file.
    ImageWrite,
    /// A master record is about to be written.
    ControlWrite,
    /// A snapshot is being registered; in builds with planted bugs.
    RegisteringSnapshot,
    /// The collection horizon is being worked out; in builds with planted bugs.
    WorkingOutHorizon,
    /// A transaction was validated, and has not committed; in builds with planted bugs.
    Validated,
    /// A reader without a latch is about to copy a value; in builds with planted bugs.
    CellSeen,
}

/// What is done in a window.
#[derive(Clone, Copy, Debug)]
pub enum Inside {
    /// Auto-commit insert, synchronous.
    Insert(u8, u16, ValueSpec),
    /// Takes a snapshot into a slot.
    TakeSnapshot(usize),
    /// A checkpoint of the pages as they are.
    TakeCheckpoint,
    /// The collector, until it has nothing to do.
    Collect,
}

/// One operation.
#[derive(Clone, Copy, Debug)]
pub enum Operation {
    /// Auto-commit insert.
    Insert(u8, u16, ValueSpec, Durability),
    /// Auto-commit insert that nobody waits for yet.
    InsertAsync(u8, u16, ValueSpec),
    /// Auto-commit remove.
    Remove(u8, u16, Durability),
    /// Auto-commit compare-and-swap, from the value that is there or from another one.
    Swap(u8, u16, bool, Option<ValueSpec>),
    /// Reads a key.
    Get(u8, u16),
    /// Reads a range.
    Range(u8, Span),
    /// Reads the first and the last pair.
    Ends(u8),
    /// Opens or creates a tree.
    CreateTree(u8),
    /// Drops a tree.
    DropTree(u8),
    /// Renames a tree.
    RenameTree(u8, u8),
    /// Begins a transaction in a slot.
    Begin(usize, Isolation),
    /// A step of a transaction.
    Do(usize, Step),
    /// Ends a transaction.
    Finish(usize, End),
    /// Waits for the commits that nobody has waited for.
    Await,
    /// Takes a snapshot into a slot.
    TakeSnapshot(usize),
    /// Compares a snapshot with what was there when it was taken.
    CompareSnapshot(usize),
    /// Lets a snapshot go.
    DropSnapshot(usize),
    /// Makes everything durable.
    Sync,
    /// A step of the page cleaner.
    Maintain,
    /// A step of the collector.
    Collect,
    /// A step of the log's flusher.
    Flush,
    /// A checkpoint of the pages as they are.
    TakeCheckpoint,
    /// [`seawall::Database::checkpoint`].
    Checkpoint,
    /// Compares everything that is visible.
    CompareAll,
    /// Makes a backup, opens it, and compares it with everything that was committed.
    Backup,
    /// Closes the database and opens it again.
    Reopen,
    /// Kills the process, so to speak, and opens the database again.
    Kill,
    /// Has something done when this window opens during the next operation.
    During(Window, Inside),
}
