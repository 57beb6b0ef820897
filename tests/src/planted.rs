//! Which check finds which of the bugs that can be planted: the cheapest that does. The suite `planted`
//! runs them in a build in which bugs can be switched on; [`table`] is what `RELIABILITY.md` says.

use std::fmt::Write as _;

use seawall::planted::Bug;

use crate::crash::{self, Effort};
use crate::failure::Failure;
use crate::scenario::{self, Scenario};
use crate::{rot, sweep};

const EFFORT: Effort =
    Effort { seeds: 2, second_one_in: 0, third_one_in: 0, is_first_failure_enough: true };
/// Of the faults of a sweep, one in this many.
const FAULTS_ONE_IN: usize = 1;
/// Where the bugs are described.
const SOURCE: &str = include_str!("../../wal/src/planted.rs");

/// What finds a bug.
#[derive(Debug)]
pub enum Check {
    /// The crash runner, or the run that it records.
    Crash(Scenario),
    /// The error sweep.
    Sweep(Scenario),
    /// Rot of what a run leaves.
    Rot(Scenario),
}

impl Check {
    /// Names it, as in the table of `RELIABILITY.md`.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::Crash(scenario) => format!("crashes of `{}`", scenario.name),
            Self::Sweep(scenario) => format!("errors in `{}`", scenario.name),
            Self::Rot(scenario) => format!("rot after `{}`", scenario.name),
        }
    }

    /// What was tried, and what was found.
    #[must_use]
    pub fn run(&self) -> (String, Vec<Failure>) {
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
#[must_use]
pub fn check(bug: Bug) -> Check {
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

/// The table of all bugs: what each does, in the words of its place, and what finds it.
///
/// # Panics
/// When a bug is not described.
#[must_use]
pub fn table() -> String {
    let mut table = String::from("| bug | what it does | found by |\n|---|---|---|\n");
    for bug in Bug::ALL {
        let name = format!("{bug:?}");
        let what = description(&name).unwrap_or_else(|| panic!("{name} is not described"));
        writeln!(table, "| {name} | {what} | {} |", check(bug).name())
            .expect("writing to a string does not fail");
    }
    table
}

/// What the comment above a variant says.
fn description(name: &str) -> Option<String> {
    let lines: Vec<_> = SOURCE.lines().map(str::trim).collect();
    let place = lines.iter().position(|line| line.strip_suffix(',') == Some(name))?;
    let comment: Vec<_> =
        lines[..place].iter().rev().map_while(|line| line.strip_prefix("/// ")).collect();
    let sentence = comment.into_iter().rev().collect::<Vec<_>>().join(" ");
    (!sentence.is_empty()).then(|| sentence.trim_end_matches('.').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RELIABILITY: &str = include_str!("../../RELIABILITY.md");

    #[test]
    fn the_table_of_planted_bugs_is_the_one_that_is_published() {
        let table = table();
        assert!(RELIABILITY.contains(&table), "RELIABILITY.md needs this table:\n{table}");
    }
}
