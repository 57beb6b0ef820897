//! What the threads of one life are told, in one order, up to the moment at which the power goes off.

use seawall_wal::disk::SimDisk;
use seawall_wal::disk::sim::CrashPlan;
use seawall_wal::sync::Mutex;

use super::{Ending, Step, Transaction};

/// Notes beginnings and ends. Cuts the power when there have been enough.
#[derive(Debug)]
pub(super) struct Recorder {
    disk: SimDisk,
    plan: CrashPlan,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Place of the next beginning or end.
    next: u64,
    /// Ends until the power goes off.
    left: usize,
    /// The disk as the power cut left it.
    cut: Option<SimDisk>,
    transactions: Vec<Transaction>,
}

/// A transaction that has begun.
#[derive(Debug)]
pub(super) struct Begun {
    thread: u32,
    began: u64,
    pub(super) steps: Vec<Step>,
}

impl Recorder {
    /// Begins at place `next`; cuts the power of `disk` by `plan` after `left` ends.
    pub(super) fn new(disk: SimDisk, plan: CrashPlan, next: u64, left: usize) -> Self {
        let state = State { next, left, cut: None, transactions: Vec::new() };
        Self { disk, plan, state: Mutex::new(state) }
    }

    /// Notes the beginning of a transaction; `None` once the power is off.
    pub(super) fn begin(&self, thread: u32) -> Option<Begun> {
        let mut state = self.state.lock();
        if state.cut.is_some() {
            return None;
        }
        let began = state.next;
        state.next += 1;
        Some(Begun { thread, began, steps: Vec::new() })
    }

    /// Notes how it ended. Who is told after the power has gone off was not told.
    pub(super) fn end(&self, begun: Begun, ending: Ending, commit_lsn: Option<u64>) {
        let Begun { thread, began, steps } = begun;
        let mut state = self.state.lock();
        let ended = state.next;
        state.next += 1;
        let mut transaction = Transaction { thread, began, ended, steps, ending, commit_lsn };
        if state.cut.is_some() && ending == Ending::Committed {
            transaction.ending = Ending::Unknown;
            transaction.ended = u64::MAX;
        }
        state.transactions.push(transaction);
        state.left = state.left.saturating_sub(1);
        if state.left == 0 && state.cut.is_none() {
            // Nobody is told anything meanwhile.
            state.cut = Some(self.disk.crash(self.plan));
        }
    }

    /// The disk that is left, what was noted, and the next place.
    pub(super) fn finish(self) -> (SimDisk, Vec<Transaction>, u64) {
        let state = self.state.into_inner();
        let cut = state.cut.unwrap_or_else(|| self.disk.crash(self.plan));
        (cut, state.transactions, state.next)
    }
}
