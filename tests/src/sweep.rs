//! The error sweep: each operation of the disk fails, in each way, once or from then on.
//!
//! A scenario is run again for every fault, from its prepared disk on, opening and closing included. A
//! random workload is run again with a few faults at a time, in places that follow from its seed.
//! Whatever fails, the engine must answer with one of the errors that it has for this; nothing panics
//! or hangs; reads show what was committed; and the next open, from a kill and from several power
//! cuts, finds every acknowledged commit, and nothing of a call that was refused (R3, W2, L4). A call
//! that says `CommitUnknown` may have done either.

use std::fmt;

use seawall::{Error, Lsn};
use seawall_wal::codec::{to_u64, to_usize};
use seawall_wal::disk::SimDisk;
use seawall_wal::disk::sim::{
    CrashPlan, EIO, ENOSPC, FailedSync, Fault, FaultEffect, OperationKind,
};

use crate::crash::recover;
use crate::ensure;
use crate::failure::{Failure, Outcome};
use crate::oracle::Oracle;
use crate::random::Random;
use crate::scenario::Scenario;
use crate::session::Session;
use crate::trials::{contain, try_all};

/// Failures after which a sweep gives up.
const FAILURES_MAX: usize = 10;
/// Faults of one run of a random workload, at most.
const FAULTS_MAX: u64 = 3;

/// What a sweep has tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Runs with a fault.
    pub runs: u64,
    /// Operations of the workload that got an error.
    pub refused: u64,
    /// Of the runs, those that were closed without an error.
    pub closed: u64,
    /// Disks that were opened after a run, all faults gone.
    pub reopened: u64,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { runs, refused, closed, reopened } = self;
        write!(f, "{runs} faults, {refused} calls refused, {closed} closed, {reopened} reopened")
    }
}

/// What a sweep found.
#[derive(Debug, Default)]
pub struct Report {
    /// What was tried.
    pub counts: Counts,
    /// What went wrong, each with the place.
    pub failures: Vec<Failure>,
}

impl Report {
    /// Adds what another sweep found.
    pub fn add(&mut self, other: Self) {
        self.counts.runs += other.counts.runs;
        self.counts.refused += other.counts.refused;
        self.counts.closed += other.counts.closed;
        self.counts.reopened += other.counts.reopened;
        self.failures.extend(other.failures);
    }
}

/// Runs a scenario once for each fault; of the faults one in `one_in`.
#[must_use]
pub fn sweep(scenario: &Scenario, one_in: usize) -> Report {
    run_with(scenario, |faults| faults.iter().step_by(one_in).map(|&one| vec![one]).collect())
}

/// Runs a scenario `runs` times, each time with one to three faults where `random` says.
#[must_use]
pub fn sweep_randomly(scenario: &Scenario, runs: usize, random: &mut Random) -> Report {
    run_with(scenario, |faults| {
        let mut any = || faults[to_usize(random.below(to_u64(faults.len())))];
        let mut some = |count| (0..count).map(|_| any()).collect();
        (0..runs).map(|run| some(1 + to_u64(run) % FAULTS_MAX)).collect()
    })
}

/// Runs a scenario once for each list of faults that `choose` makes of all there are.
fn run_with(scenario: &Scenario, choose: impl FnOnce(&[Failing]) -> Vec<Vec<Failing>>) -> Report {
    match contain(|| Prepared::new(scenario)) {
        Ok(prepared) => prepared.run_each(&choose(&prepared.faults())),
        Err(why) => {
            let failures = vec![why.at(format!("{}, without faults", scenario.name))];
            Report { failures, ..Report::default() }
        }
    }
}

/// One way in which one operation fails.
#[derive(Clone, Copy, Debug)]
struct Failing {
    /// Number of the operation, of those that change something or of those that read.
    number: u64,
    is_read: bool,
    effect: FaultEffect,
    is_lasting: bool,
}

impl Failing {
    fn plan(&self) -> Fault {
        let fault = Fault::new(self.effect).at(self.number);
        let fault = if self.is_read { fault.kind(OperationKind::Read) } else { fault };
        if self.is_lasting { fault.lasting() } else { fault }
    }

    /// What the engine may say when it meets this.
    fn allows(&self, error: &Error) -> bool {
        match error {
            Error::Io { .. }
            | Error::NoSpace { .. }
            | Error::Poisoned { .. }
            | Error::CommitUnknown { .. }
            | Error::Closed => true,
            // A file that ends too early is damage.
            Error::Corrupt { .. } => {
                self.effect == FaultEffect::Kind(std::io::ErrorKind::UnexpectedEof)
            }
            _ => false,
        }
    }
}

impl fmt::Display for Failing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, effect, .. } = self;
        let what = if self.is_read { "read" } else { "operation" };
        let how_long = if self.is_lasting { "from there on" } else { "once" };
        write!(f, "{what} {number}, {effect:?} {how_long}")
    }
}

/// A scenario whose first part is done.
struct Prepared<'a> {
    scenario: &'a Scenario,
    disk: SimDisk,
    oracle: Oracle,
    floor: Lsn,
    /// The disk after a run without faults.
    last: SimDisk,
}

impl<'a> Prepared<'a> {
    fn new(scenario: &'a Scenario) -> Outcome<Self> {
        let (mut disk, mut oracle, mut floor) = (SimDisk::new(), Oracle::default(), Lsn::NONE);
        if !scenario.is_creation_recorded {
            let mut session = Session::create_on(disk, &scenario.settings)?;
            session.run(&scenario.prepare)?;
            session.close()?;
            disk = session.disk.fork();
            oracle = session.oracle.clone();
            oracle.cut_after(oracle.newest(), disk.operation_count());
            floor = session.watch().issued_before(u64::MAX);
        }
        let mut prepared = Self { scenario, disk, oracle, floor, last: SimDisk::new() };
        prepared.last = prepared.disk.fork();
        let mut session = prepared.open(prepared.last.clone())?;
        session.run(&scenario.operations)?;
        session.compare_all()?;
        session.close()?;
        Ok(prepared)
    }

    fn open(&self, disk: SimDisk) -> Outcome<Session> {
        Session::open_on(disk, &self.scenario.settings, self.oracle.clone(), self.floor)
    }

    fn faults(&self) -> Vec<Failing> {
        let mut faults = Vec::new();
        let mut add = |number, is_read, effect| {
            for is_lasting in [false, true] {
                faults.push(Failing { number, is_read, effect, is_lasting });
            }
        };
        for number in self.disk.operation_count() + 1..=self.last.operation_count() {
            add(number, false, FaultEffect::Errno(EIO));
            add(number, false, FaultEffect::Errno(ENOSPC));
            if self.last.describe(number).is_some_and(|what| what.starts_with("write ")) {
                add(number, false, FaultEffect::TornWrite { sectors: 1, errno: EIO });
                add(number, false, FaultEffect::TornWrite { sectors: 5, errno: ENOSPC });
            }
        }
        for number in self.disk.read_count() + 1..=self.last.read_count() {
            add(number, true, FaultEffect::Errno(EIO));
            add(number, true, FaultEffect::Kind(std::io::ErrorKind::UnexpectedEof));
        }
        faults
    }

    /// One run for each list of faults.
    fn run_each(&self, runs: &[Vec<Failing>]) -> Report {
        let name = |index: usize| {
            let faults: Vec<_> = runs[index].iter().map(ToString::to_string).collect();
            format!("sweep of {}, {}", self.scenario.name, faults.join("; "))
        };
        let run = |index: usize| {
            let mut report = Report::default();
            report.counts.runs = 1;
            if let Err(why) = self.run(index, &runs[index], &mut report.counts) {
                report.failures.push(why.at(name(index)));
            }
            report
        };
        let is_enough = |report: &Report| report.failures.len() >= FAILURES_MAX;
        try_all(runs.len(), name, run, Report::add, is_enough)
    }

    /// One run with these faults, the `turn`th.
    fn run(&self, turn: usize, failing: &[Failing], counts: &mut Counts) -> Outcome {
        let disk = self.disk.fork();
        failing.iter().for_each(|failing| disk.add_fault(failing.plan()));
        if failing.iter().any(|failing| failing.number.is_multiple_of(3)) {
            disk.set_failed_sync(FailedSync::KeepsWrites);
        }
        let is_allowed = |error: &Error| failing.iter().any(|failing| failing.allows(error));
        let allowed = |result: Outcome<()>| match result {
            Ok(()) => Ok(true),
            Err(why) if why.error().is_some_and(is_allowed) => Ok(false),
            Err(why) if why.is_finding() => Ok(false),
            Err(why) => Err(why),
        };
        let (mut oracle, mut floor, mut is_closed) = (self.oracle.clone(), self.floor, false);
        let mut session = None;
        let opened = contain(|| {
            session = Some(self.open(disk.clone())?);
            Ok(())
        });
        allowed(opened).map_err(|why| why.at("opening"))?;
        if let Some(mut session) = session {
            for (index, operation) in self.scenario.operations.iter().enumerate() {
                let is_done = allowed(contain(|| session.apply(operation)));
                let is_done = is_done.map_err(|why| why.at(format!("{index}: {operation:?}")))?;
                counts.refused += u64::from(!is_done);
            }
            allowed(contain(|| session.compare_all())).map_err(|why| why.at("at the end"))?;
            is_closed = allowed(contain(|| session.close())).map_err(|why| why.at("closing"))?;
            counts.closed += u64::from(is_closed);
            oracle = session.oracle.clone();
            floor = session.watch().issued_before(u64::MAX);
        }
        disk.clear_faults();
        // The faults of one operation come one after the other, so that each plan has its turn.
        let plans =
            [CrashPlan::NothingUnsynced, CrashPlan::Everything, CrashPlan::Sectors { seed: 7 }];
        let plan = plans[turn % plans.len()];
        let states = [("a kill".to_owned(), disk.fork()), (format!("{plan:?}"), disk.crash(plan))];
        let cut = disk.operation_count() + 1;
        for (what, state) in states {
            counts.reopened += 1;
            let reopened = self.reopen(&state, cut, &oracle, floor, is_closed);
            reopened.map_err(|why| why.at(format!("opened after {what}")))?;
        }
        Ok(())
    }

    /// What the next open finds, after a kill or a power cut behind the operations below `cut`.
    fn reopen(
        &self,
        disk: &SimDisk,
        cut: u64,
        oracle: &Oracle,
        floor: Lsn,
        is_closed: bool,
    ) -> Outcome {
        let goes_on = cut.is_multiple_of(8);
        let recovered = recover(disk, &self.scenario.settings, floor, goes_on)?;
        oracle.survivor(cut, &recovered.found)?;
        ensure!(recovered.is_clean || !is_closed, "closed, and not clean");
        Ok(())
    }
}
