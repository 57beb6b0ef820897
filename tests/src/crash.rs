//! The crash runner: cuts the power at every operation of a run, in several ways, and asks what is
//! left.
//!
//! A scenario runs once on a simulated disk that keeps a fork before each operation. Each fork gives
//! several crashed disks, by [`CrashPlan`]; each is opened, and must hold a state that R3 allows:
//! every acknowledged synchronous commit, all others whole or absent, a prefix of commit order. Then
//! the recovery itself is cut at each of its operations, and must come to the same state (R2); and
//! the recovery from that one, where [`Effort`] says so.

use std::fmt;
use std::sync::Arc;

use seawall::Lsn;
use seawall_wal::disk::SimDisk;
use seawall_wal::disk::sim::{CrashPlan, SimFork};

use crate::check::{read_all, verify};
use crate::ensure;
use crate::failure::{Failure, Outcome};
use crate::oracle::{Forest, Oracle, difference};
use crate::scenario::Scenario;
use crate::session::Session;
use crate::settings::Settings;
use crate::trials::{contain, try_all};
use crate::watch::Watch;

/// Failures after which a run gives up.
const FAILURES_MAX: usize = 5;
/// Crashed states that are written to, closed and opened again: one in this many.
const GO_ON_ONE_IN: u64 = 16;

/// Where recoveries are sampled, a longer one is cut at no more than this many of its operations.
const SAMPLED_CUTS_MAX: usize = 48;

/// How much is tried.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Seeds of the plans that have one, for each cut.
    pub seeds: u64,
    /// Of the crashed states, the recovery of one in this many is cut as well; 0 is none.
    pub second_one_in: u64,
    /// Of those again, one in this many; 0 is none.
    pub third_one_in: u64,
    /// Stop at the first failure.
    pub is_first_failure_enough: bool,
}

/// Crash states that were tried, by depth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Operations of the disk at which the power was cut.
    pub cuts: u64,
    /// Pages that redo on an old copy has made again as they are live, to the byte.
    pub replayed: u64,
    /// States after one crash, after a crash of the recovery, after a crash of that recovery.
    pub states: [u64; 3],
    /// The same states by what the last crash left.
    pub plans: [u64; CrashPlan::NAMES.len()],
}

impl Counts {
    /// All crash states.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.states.iter().sum()
    }

    fn add(&mut self, other: &Self) {
        self.cuts += other.cuts;
        self.replayed += other.replayed;
        self.states.iter_mut().zip(other.states).for_each(|(sum, count)| *sum += count);
        self.plans.iter_mut().zip(other.plans).for_each(|(sum, count)| *sum += count);
    }

    /// A state at this depth, from 0.
    fn note(&mut self, depth: usize, plan: CrashPlan) {
        self.states[depth] += 1;
        self.plans[plan.kind()] += 1;
    }

    /// How many states each kind of crash has left, where no other had left the same.
    #[must_use]
    pub fn by_plan(&self) -> String {
        let plans = CrashPlan::NAMES.iter().zip(self.plans);
        plans.map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [one, two, three] = self.states;
        let total = self.total();
        write!(f, "{total} (cuts {}, depth one {one}, two {two}, three {three})", self.cuts)
    }
}

/// What the crash runner found.
#[derive(Debug, Default)]
pub struct Report {
    /// What was tried.
    pub counts: Counts,
    /// What went wrong, each with the place.
    pub failures: Vec<Failure>,
}

impl Report {
    /// Adds what another run found.
    pub fn add(&mut self, other: Self) {
        self.counts.add(&other.counts);
        self.failures.extend(other.failures);
    }
}

/// A scenario that has run.
struct Recorded<'a> {
    scenario: &'a Scenario,
    forks: Vec<SimFork>,
    /// The disk when everything was done.
    last: SimDisk,
    oracle: Oracle,
    watch: Arc<Watch>,
    /// Pages that redo has made again, to the byte.
    replayed: u64,
}

/// A database that was opened after a crash.
pub(crate) struct Recovered {
    pub(crate) found: Forest,
    /// Whether it had been shut down cleanly.
    pub(crate) is_clean: bool,
    /// The disk before each operation of the recovery, where that is recorded.
    forks: Vec<SimFork>,
    watch: Arc<Watch>,
}

/// Runs scenarios, and crashes them everywhere.
#[must_use]
pub fn run(scenarios: &[Scenario], effort: Effort) -> Report {
    let mut report = Report::default();
    for scenario in scenarios {
        match contain(|| record(scenario)) {
            Ok(recorded) => {
                report.counts.replayed += recorded.replayed;
                report.add(try_cuts(&recorded, effort));
            }
            Err(why) => report.failures.push(why.at(&scenario.name)),
        }
    }
    report
}

/// Runs a scenario, and crashes it before one of its operations of the disk or behind the last: those
/// are counted round and round until `cut` is reached.
#[must_use]
pub fn run_cut(scenario: &Scenario, cut: usize, effort: Effort) -> Report {
    match contain(|| record(scenario)) {
        Ok(recorded) => try_cut(&recorded, cut % (recorded.forks.len() + 1), effort),
        Err(why) => Report { failures: vec![why.at(&scenario.name)], ..Report::default() },
    }
}

fn record(scenario: &Scenario) -> Outcome<Recorded<'_>> {
    let disk = SimDisk::new();
    if scenario.is_creation_recorded {
        disk.record_forks();
    }
    let mut session = Session::create_on(disk.clone(), &scenario.settings)?;
    session.keep_old_copy();
    session.run(&scenario.prepare)?;
    if !scenario.is_creation_recorded {
        disk.record_forks();
    }
    session.run(&scenario.operations)?;
    let forks = disk.take_forks();
    let last = disk.fork();
    if scenario.must_open_windows {
        session.check_windows()?;
    }
    session.compare_all()?;
    let (oracle, watch) = (session.oracle.clone(), Arc::clone(session.watch()));
    session.close()?;
    let replayed = session.replayed;
    ensure!(replayed > 0, "redo has made nothing again");
    Ok(Recorded { scenario, forks, last, oracle, watch, replayed })
}

/// Tries every cut of a run.
fn try_cuts(recorded: &Recorded<'_>, effort: Effort) -> Report {
    let enough = if effort.is_first_failure_enough { 1 } else { FAILURES_MAX };
    let name = |index: usize| format!("scenario {}, cut {index}", recorded.scenario.name);
    let run = |index: usize| try_cut(recorded, index, effort);
    let is_enough = |report: &Report| report.failures.len() >= enough;
    try_all(recorded.forks.len() + 1, name, run, Report::add, is_enough)
}

/// Cuts the power before the fork's operation, or after the last one.
fn try_cut(recorded: &Recorded<'_>, index: usize, effort: Effort) -> Report {
    let (disk, cut, what) = match recorded.forks.get(index) {
        Some(fork) => (fork.disk(), fork.operation(), fork.describe()),
        None => (&recorded.last, recorded.last.operation_count() + 1, "the end".into()),
    };
    let mut trial = Trial { recorded, effort, cut, report: Report::default() };
    trial.report.counts.cuts = 1;
    for (plan, crashed) in disk.crash_states(cut..cut + effort.seeds) {
        if let Err(why) = trial.first(plan, &crashed) {
            let name = &recorded.scenario.name;
            let place = format!("scenario {name}, cut {cut} before {what}, {plan:?}");
            trial.report.failures.push(why.at(place));
        }
    }
    trial.report
}

/// One cut of a run.
struct Trial<'a> {
    recorded: &'a Recorded<'a>,
    effort: Effort,
    cut: u64,
    report: Report,
}

impl Trial<'_> {
    fn settings(&self) -> &Settings {
        &self.recorded.scenario.settings
    }

    /// A number that is the same in every run and different for every state.
    fn turn(&self) -> u64 {
        self.report.counts.total().wrapping_add(self.cut.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    fn first(&mut self, plan: CrashPlan, crashed: &SimDisk) -> Outcome {
        let turn = self.turn();
        self.report.counts.note(0, plan);
        let is_cut_again = is_one_in(self.effort.second_one_in, turn);
        if is_cut_again {
            crashed.record_forks();
        }
        let goes_on = is_one_in(GO_ON_ONE_IN, turn / 3);
        let Recorded { oracle, watch, .. } = self.recorded;
        let floor = watch.issued_before(self.cut);
        let recovered = recover(crashed, self.settings(), floor, goes_on)?;
        oracle.survivor(self.cut, &recovered.found)?;
        let step = match self.effort.second_one_in {
            0..=1 => 1,
            _ => recovered.forks.len().div_ceil(SAMPLED_CUTS_MAX).max(1),
        };
        let forks = recovered.forks.iter().step_by(step);
        forks.into_iter().try_for_each(|fork| self.again(fork, &recovered, plan))
    }

    /// Cuts a recovery before the fork's operation.
    fn again(&mut self, fork: &SimFork, first_try: &Recovered, first: CrashPlan) -> Outcome {
        let found = &first_try.found;
        let floor = first_try.watch.issued_before(fork.operation());
        for (plan, crashed) in fork.disk().crash_states(self.cut..self.cut + 1) {
            let turn = self.turn();
            self.report.counts.note(1, plan);
            let is_cut_again = is_one_in(self.effort.third_one_in, turn);
            if is_cut_again {
                crashed.record_forks();
            }
            let place = format!("{first:?}, recovery cut before {}, {plan:?}", fork.describe());
            let again = self.same(&crashed, found, floor).map_err(|why| why.at(&place))?;
            for third in again.forks {
                let floor = again.watch.issued_before(third.operation());
                for (third_plan, crashed) in third.disk().crash_states(turn..turn + 1) {
                    self.report.counts.note(2, third_plan);
                    let same = self.same(&crashed, found, floor);
                    same.map_err(|why| {
                        let what = third.describe();
                        why.at(format!("{place}, cut again before {what}, {third_plan:?}"))
                    })?;
                }
            }
        }
        Ok(())
    }

    /// Recovers to the same state.
    fn same(&self, crashed: &SimDisk, found: &Forest, floor: Lsn) -> Outcome<Recovered> {
        let again = recover(crashed, self.settings(), floor, false)?;
        let is_same = found.is_same(&again.found);
        ensure!(is_same, "recovers to another state: {}", difference(found, &again.found));
        Ok(again)
    }
}

fn is_one_in(n: u64, turn: u64) -> bool {
    n != 0 && turn.is_multiple_of(n)
}

/// Opens a crashed disk and reads everything. `goes_on`: writes to it, too, closes it and opens it
/// again. Log up to `floor` had been written before the crash.
pub(crate) fn recover(
    disk: &SimDisk,
    settings: &Settings,
    floor: Lsn,
    goes_on: bool,
) -> Outcome<Recovered> {
    contain(|| {
        let watch = Arc::new(Watch::new(settings.page_bytes, disk.operation_count(), floor));
        let seen = Arc::clone(&watch);
        disk.set_monitor(Arc::new(move |operation| seen.see(operation)));
        let database = settings.open(disk)?;
        let forks = disk.take_forks();
        let is_clean = database.recovery_report().clean;
        let checked = read_all(&database).and_then(|found| verify(&database).map(|()| found));
        if !goes_on || checked.is_err() {
            seawall::testing::abandon(database);
            watch.check()?;
            return checked.map(|found| Recovered { found, is_clean, forks, watch });
        }
        let tree = database.tree("after the crash")?;
        tree.insert("key", "value")?;
        database.close()?;
        let database = settings.open(disk)?;
        let tree = database.tree("after the crash")?;
        let value = tree.get("key")?;
        ensure!(value.as_deref() == Some(b"value"), "what was written after the crash is gone");
        ensure!(database.drop_tree("after the crash")?, "the tree that was just read is gone");
        let again = read_all(&database)?;
        verify(&database)?;
        let found = checked?;
        ensure!(found.is_same(&again), "changed by a reopen: {}", difference(&found, &again));
        watch.check()?;
        Ok(Recovered { found, is_clean, forks, watch })
    })
}
