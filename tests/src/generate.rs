//! Random workloads by seed.

use seawall::{Durability, Isolation};

use crate::operation::{End, Inside, Operation, SLOTS, Span, Step, ValueSpec, Window};
use crate::random::Random;

/// Trees that a workload uses.
const TREES: u8 = 4;

/// Draws operations.
#[derive(Debug)]
pub struct Generator {
    random: Random,
    keys: u16,
    value_bytes_max: u32,
    next_value: u32,
}

impl Generator {
    /// Operations of this seed. How many keys there are and how long values get follow from it.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let keys = [30, 150, 600][random.below_usize(3)];
        let value_bytes_max = [40, 300, 1500][random.below_usize(3)];
        Self { random, keys, value_bytes_max, next_value: 0 }
    }

    /// A workload.
    pub fn workload(&mut self, length: usize) -> Vec<Operation> {
        let mut operations = first_trees();
        while operations.len() < length {
            self.one(&mut operations);
        }
        operations.push(Operation::CompareAll);
        operations.push(Operation::Reopen);
        operations
    }

    /// Creates the trees, and then does what each of these numbers means, whatever was in front of it.
    #[must_use]
    pub fn by_numbers(&mut self, numbers: impl IntoIterator<Item = u64>) -> Vec<Operation> {
        let mut operations = first_trees();
        for number in numbers {
            self.random = Random::new(number);
            self.one(&mut operations);
        }
        operations
    }

    /// Draws an operation, or a few that belong together.
    fn one(&mut self, operations: &mut Vec<Operation>) {
        if self.random.one_in(25) {
            self.burst(operations);
        } else if self.random.one_in(25) {
            self.meeting(operations);
        } else {
            let operation = self.operation();
            operations.push(operation);
        }
    }

    /// Many inserts or removes of neighbours, so that trees grow and shrink.
    fn burst(&mut self, operations: &mut Vec<Operation>) {
        let tree = self.tree();
        let from = self.key();
        let is_removing = self.random.one_in(2);
        for number in from..from.saturating_add(40).min(self.keys) {
            operations.push(if is_removing {
                Operation::Remove(tree, number, Durability::Relaxed)
            } else {
                Operation::Insert(tree, number, self.value(), Durability::Relaxed)
            });
        }
    }

    /// Something in the middle of the writing of pages or of a checkpoint.
    fn meeting(&mut self, operations: &mut Vec<Operation>) {
        let windows = [Window::PageSync, Window::ImageWrite, Window::ControlWrite];
        for _ in 0..=self.random.below(3) {
            let window = windows[self.random.below_usize(windows.len())];
            let inside = match self.random.below(6) {
                0..=2 => Inside::Insert(self.tree(), self.key(), self.value()),
                // A second checkpoint would wait for the end of the first.
                3 if window != Window::ControlWrite => Inside::TakeCheckpoint,
                3..=4 => Inside::Collect,
                _ => Inside::TakeSnapshot(self.slot()),
            };
            operations.push(Operation::During(window, inside));
        }
        let around = [Operation::Checkpoint, Operation::TakeCheckpoint, Operation::Maintain];
        operations.push(around[self.random.below_usize(around.len())]);
    }

    fn tree(&mut self) -> u8 {
        let tree = self.random.below_u16(u16::from(TREES));
        u8::try_from(tree).expect("there are few trees")
    }

    fn key(&mut self) -> u16 {
        self.random.below_u16(self.keys)
    }

    fn slot(&mut self) -> usize {
        self.random.below_usize(SLOTS)
    }

    fn value(&mut self) -> ValueSpec {
        self.next_value += 1;
        let bytes = match self.random.below(40) {
            0 => 0,
            1 => 1000 + self.random.below_u32(3000),
            2 => 5000 + self.random.below_u32(20_000),
            _ => self.random.below_u32(self.value_bytes_max),
        };
        ValueSpec { bytes, seed: self.next_value }
    }

    fn durability(&mut self) -> Durability {
        if self.random.one_in(3) { Durability::Sync } else { Durability::Relaxed }
    }

    fn span(&mut self) -> Span {
        let pairs_max = if self.random.one_in(4) { self.random.below_u16(6) } else { u16::MAX };
        let from = self.key();
        let to = if self.random.one_in(2) {
            self.key()
        } else {
            from.saturating_add(self.random.below_u16(16))
        };
        Span { from, to, is_backwards: self.random.one_in(2), pairs_max }
    }

    fn operation(&mut self) -> Operation {
        match self.random.below(100) {
            0..=17 => Operation::Insert(self.tree(), self.key(), self.value(), self.durability()),
            18..=19 => Operation::InsertAsync(self.tree(), self.key(), self.value()),
            20..=25 => Operation::Remove(self.tree(), self.key(), self.durability()),
            26..=28 => {
                let is_right = !self.random.one_in(3);
                let new = (!self.random.one_in(3)).then(|| self.value());
                Operation::Swap(self.tree(), self.key(), is_right, new)
            }
            29..=32 => Operation::Get(self.tree(), self.key()),
            33..=35 => Operation::Range(self.tree(), self.span()),
            36 => Operation::Ends(self.tree()),
            37..=38 => Operation::CreateTree(self.tree()),
            39 if self.random.one_in(2) => Operation::DropTree(self.tree()),
            39 => Operation::RenameTree(self.tree(), self.tree()),
            40..=46 => {
                let isolation = if self.random.one_in(2) {
                    Isolation::Serializable
                } else {
                    Isolation::Snapshot
                };
                Operation::Begin(self.slot(), isolation)
            }
            47..=73 => {
                let slot = self.slot();
                Operation::Do(slot, self.step())
            }
            74..=79 => {
                let end = match self.random.below(8) {
                    0..=2 => End::Commit(Durability::Sync),
                    3..=4 => End::Commit(Durability::Relaxed),
                    5 => End::CommitAsync,
                    6 => End::Rollback,
                    _ => End::Drop,
                };
                Operation::Finish(self.slot(), end)
            }
            80 => Operation::Await,
            81..=82 => Operation::TakeSnapshot(self.slot()),
            83..=84 => Operation::CompareSnapshot(self.slot()),
            85 => Operation::DropSnapshot(self.slot()),
            86 => Operation::Sync,
            87..=89 => Operation::Maintain,
            90..=93 => Operation::Collect,
            94..=95 => Operation::Flush,
            96 => Operation::TakeCheckpoint,
            97 => Operation::Checkpoint,
            98 if self.random.one_in(3) => Operation::Backup,
            98 => Operation::CompareAll,
            _ if self.random.one_in(3) => Operation::Reopen,
            _ => Operation::Kill,
        }
    }

    fn step(&mut self) -> Step {
        match self.random.below(40) {
            0..=15 => Step::Insert(self.tree(), self.key(), self.value()),
            16..=21 => Step::Remove(self.tree(), self.key()),
            22 => Step::RemoveRange(self.tree(), self.span()),
            23..=28 => Step::Get(self.tree(), self.key()),
            29..=31 => Step::Range(self.tree(), self.span()),
            32 => Step::Tree(self.tree()),
            33 if self.random.one_in(2) => Step::DropTree(self.tree()),
            33 => Step::RenameTree(self.tree(), self.tree()),
            34..=36 => Step::Savepoint,
            _ => Step::RollbackTo(u8::from(self.random.one_in(3))),
        }
    }
}

/// Creates all trees but the last.
fn first_trees() -> Vec<Operation> {
    (0..TREES - 1).map(Operation::CreateTree).collect()
}
