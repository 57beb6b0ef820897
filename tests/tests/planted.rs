//! Bugs planted on purpose: the suites find each, and nothing where none is planted.
//!
//! Built with `RUSTFLAGS="--cfg seawall_planted"`. A planted bug is there for the whole process, so
//! one test tries them one after the other, each with the cheapest check that finds it.
//! `SEAWALL_BUG=Name` tries one.
#![cfg(seawall_planted)]
#![expect(clippy::print_stderr, reason = "what catches which bug is shown to whoever runs it")]

use std::collections::BTreeMap;
use std::time::Instant;

use seawall::planted::{Bug, plant};
use seawall_tests::crash::{self, Effort};
use seawall_tests::failure::Failure;
use seawall_tests::scenario::{self, Scenario};
use seawall_tests::{rot, sweep};

const EFFORT: Effort =
    Effort { seeds: 2, second_one_in: 0, third_one_in: 0, is_first_failure_enough: true };
/// Of the faults of a sweep, one in this many.
const FAULTS_ONE_IN: usize = 1;

/// What finds a bug.
enum Check {
    /// The crash runner, or the run that it records.
    Crash(Scenario),
    /// The error sweep.
    Sweep(Scenario),
    /// Rot of what a run leaves.
    Rot(Scenario),
}

impl Check {
    fn name(&self) -> String {
        match self {
            Self::Crash(scenario) => format!("crash of {}", scenario.name),
            Self::Sweep(scenario) => format!("sweep of {}", scenario.name),
            Self::Rot(scenario) => format!("rot of {}", scenario.name),
        }
    }

    /// What was tried, and what was found.
    fn run(&self) -> (String, Vec<Failure>) {
        match self {
            Self::Crash(scenario) => {
                let report = crash::run(std::slice::from_ref(scenario), EFFORT);
                (format!("{} states", report.counts.total()), report.failures)
            }
            Self::Sweep(scenario) => {
                let report = sweep::sweep(scenario, FAULTS_ONE_IN);
                (format!("{} faults", report.counts.runs), report.failures)
            }
            Self::Rot(scenario) => {
                let report = rot::run(scenario);
                (format!("{} damages", report.counts.damages), report.failures)
            }
        }
    }
}

/// The cheapest check that must find a bug.
fn check(bug: Bug) -> Check {
    use Check::{Crash, Rot, Sweep};
    match bug {
        Bug::AcknowledgeBeforeSync => Crash(scenario::async_commits()),
        Bug::SkipDirectorySync | Bug::StaleFrameAccepted => Crash(scenario::recycled_segments()),
        Bug::SkipSegmentHeaderSync | Bug::RecycleSegmentEarly => Crash(scenario::segments()),
        Bug::RetryFailedSync => Sweep(scenario::relaxed_commits()),
        Bug::VisibleBeforeDurable => Crash(scenario::async_commits()),
        Bug::EpochNotBumped => Crash(scenario::reopening()),
        Bug::LsnsGivenOutTwice => Crash(scenario::relaxed_commits()),
        Bug::TornFrameAccepted => Crash(scenario::splits()),
        Bug::LostLogAccepted => Rot(scenario::checkpoints()),
        Bug::MasterRecordWithoutSync => Crash(scenario::segments()),
        Bug::SkipLogFlushBeforePageWrite => Crash(scenario::page_writes()),
        Bug::SkipDoublewriteSync => Crash(scenario::page_writes()),
        Bug::ReleaseDoublewriteEarly | Bug::MissPagesBeingWritten => {
            Crash(scenario::checkpoint_meets_page_write())
        }
        Bug::KeepDoublewriteExemption | Bug::CleanThoughChanged => {
            Crash(scenario::change_meets_page_write())
        }
        Bug::MisplacedPageAccepted => Rot(scenario::overflow_values()),
        Bug::RecLsnAfterReserve => Crash(scenario::checkpoints()),
        Bug::MissTransactionInCapture | Bug::CommitStaysActive => {
            Crash(scenario::commit_before_checkpoint())
        }
        Bug::MissPendingFrees => Crash(scenario::frees_before_checkpoint()),
        Bug::RedoWithoutPageLsnTest => Crash(scenario::checkpoints()),
        Bug::RedoWithoutSettling => Crash(scenario::settled_values()),
        Bug::CompensationWithoutUndoNext => Crash(scenario::savepoint().with_records_alone()),
        Bug::CapacityNotKept => Crash(scenario::shortened_values()),
        Bug::CommitDeltaLost => Crash(scenario::reopening()),
        Bug::AllocateApartFromLink => Crash(scenario::splits().with_records_alone()),
        Bug::PurgeGhostEarly | Bug::FreeExtentEarly => Crash(scenario::snapshots()),
        Bug::RegisterSnapshotLate => Crash(scenario::registering_snapshot()),
        Bug::HorizonAfterScan => Crash(scenario::working_out_horizon()),
        Bug::ValidateWithoutRanges => Crash(scenario::serializable_reads()),
        Bug::ValidateWithoutRecent => Crash(scenario::validated()),
        Bug::ReadWithoutValidation => Crash(scenario::read_meets_write()),
        Bug::TrustHint => Crash(scenario::overflow_values()),
    }
}

#[test]
fn every_planted_bug_is_found_and_none_where_none_is() {
    let chosen = std::env::var("SEAWALL_BUG").ok();
    let is_chosen = |bug: &Bug| chosen.as_ref().is_none_or(|name| *name == format!("{bug:?}"));
    let bugs: Vec<_> = Bug::ALL.into_iter().filter(is_chosen).collect();
    // Without bugs first: a check that finds something where there is nothing proves nothing.
    let checks: BTreeMap<_, _> = bugs
        .iter()
        .map(|&bug| {
            let check = check(bug);
            (check.name(), check)
        })
        .collect();
    for (name, check) in &checks {
        let started = Instant::now();
        let (tried, failures) = check.run();
        let failures: Vec<_> = failures.iter().map(ToString::to_string).collect();
        assert!(failures.is_empty(), "{name}, nothing is planted:\n{}", failures.join("\n"));
        eprintln!("nothing planted | {name} | {tried}, {:?}", started.elapsed());
    }
    let mut missed = Vec::new();
    for bug in bugs {
        let check = check(bug);
        plant(bug, true);
        let (tried, failures) = check.run();
        plant(bug, false);
        let found = failures.first().map(ToString::to_string);
        let found = found.as_deref().unwrap_or("NOT FOUND");
        eprintln!("{bug:?} | {} | {tried} | {found}", check.name());
        if failures.is_empty() {
            missed.push(bug);
        }
    }
    assert!(missed.is_empty(), "bugs that are not found: {missed:?}");
}
