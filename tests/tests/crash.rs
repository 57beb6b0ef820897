//! The crash runner over every scenario and over random workloads.
//!
//! `SEAWALL_SCENARIO=name` runs one scenario with every recovery cut; `SEAWALL_RANDOM_CRASHES=N` runs N
//! random ones, from `SEAWALL_FIRST_SEED` on. Random ones that fail are made small and printed as a
//! command, with the operations that are needed in `SEAWALL_KEEP`.
#![expect(clippy::print_stderr, reason = "counts and failures are shown to whoever runs it")]

use seawall::Durability;
use seawall_tests::counts;
use seawall_tests::crash::{Effort, Report, run};
use seawall_tests::effort::number;
use seawall_tests::operation::{Inside, Operation, ValueSpec, Window};
use seawall_tests::scenario::{self, Scenario};
use seawall_tests::session::Session;
use seawall_tests::settings::Settings;
use seawall_tests::shrink;
use seawall_tests::trace::run_twice;

/// Random workloads that are run when nobody says how many.
const RANDOM: u64 = 24;
/// Operations of a random workload.
const LENGTH: usize = 80;
/// How much is tried of a random workload.
const RANDOM_EFFORT: Effort =
    Effort { seeds: 1, second_one_in: 0, third_one_in: 0, is_first_failure_enough: false };
/// Runs that making a failure small may take.
const SHRINK_TRIES_MAX: usize = 300;

fn check(what: &str, report: &Report) {
    eprintln!("crash states: {} ({what})", report.counts);
    eprintln!("  {}", report.counts.by_plan());
    eprintln!("  redo equals live: {} pages", report.counts.replayed);
    let failures: Vec<_> = report.failures.iter().map(ToString::to_string).collect();
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    counts::tell("crash states", report.counts.total());
}

/// Runs scenarios one after the other, and says what each came to.
fn run_all(scenarios: &[Scenario], effort: Effort) -> Report {
    let mut all = Report::default();
    for scenario in scenarios {
        let report = run(std::slice::from_ref(scenario), effort);
        eprintln!("{:>38}: {}", scenario.name, report.counts);
        all.add(report);
    }
    all
}

#[test]
fn every_scenario_recovers_from_a_crash_at_every_operation() {
    let mut effort =
        Effort { seeds: 3, second_one_in: 18, third_one_in: 0, is_first_failure_enough: false };
    if let Ok(name) = std::env::var("SEAWALL_SCENARIO") {
        let every = scenario::all().into_iter();
        let mut scenarios: Vec<_> =
            every.flat_map(|scenario| [scenario.clone().with_records_alone(), scenario]).collect();
        scenarios.retain(|scenario| scenario.name == name);
        assert!(!scenarios.is_empty(), "there is no scenario {name:?}");
        effort.second_one_in = 1;
        check(&name, &run_all(&scenarios, effort));
        return;
    }
    let report = run_all(&scenario::all(), effort);
    check("scenarios", &report);
    assert!(report.counts.total() >= 50_000, "fewer states than ever");
    let plans = report.counts.plans.iter().filter(|&&count| count > 0).count();
    assert!(plans >= 8, "only {plans} kinds of crashes have left anything new");
}

#[test]
fn every_scenario_recovers_from_a_crash_between_any_two_records() {
    let scenarios = [
        scenario::splits(),
        scenario::merges(),
        scenario::overflow_transaction(),
        scenario::abort(),
        scenario::savepoint(),
        scenario::huge_commit(),
        scenario::huge_rollback(),
        scenario::trees(),
        scenario::trees_rolled_back(),
        scenario::relaxed_commits(),
        scenario::reuse_of_pages(),
        scenario::recycled_segments(),
    ];
    let effort =
        Effort { seeds: 2, second_one_in: 40, third_one_in: 0, is_first_failure_enough: false };
    let report = run_all(&scenarios.map(Scenario::with_records_alone), effort);
    check("records alone", &report);
    assert!(report.counts.total() >= 20_000, "fewer states than ever");
}

#[test]
fn every_recovery_recovers_from_a_crash_at_every_operation() {
    let effort =
        Effort { seeds: 1, second_one_in: 1, third_one_in: 300, is_first_failure_enough: false };
    let scenarios = [
        scenario::savepoint(),
        scenario::async_commits(),
        scenario::trees_rolled_back(),
        scenario::commit_before_checkpoint(),
        scenario::shortened_values(),
    ];
    let report = run_all(&scenarios, effort);
    check("recoveries", &report);
    let [_, two, three] = report.counts.states;
    assert!(two >= 10_000 && three >= 500, "fewer states than ever");
}

#[test]
fn random_workloads_recover_from_a_crash_at_every_operation() {
    let first = number("SEAWALL_FIRST_SEED").unwrap_or(1);
    let count = number("SEAWALL_RANDOM_CRASHES").unwrap_or(RANDOM);
    let mut all = Report::default();
    for seed in first..first + count {
        let mut scenario = scenario::random(seed, LENGTH);
        if let Ok(kept) = std::env::var("SEAWALL_KEEP") {
            scenario = scenario.only(&shrink::parse(&kept));
        }
        let report = run(std::slice::from_ref(&scenario), RANDOM_EFFORT);
        if !report.failures.is_empty() {
            tell(seed, &scenario);
        }
        all.add(report);
    }
    check("random", &all);
    counts::tell("random workloads cut at every operation", count);
}

/// Makes a random workload that fails small, and says how to repeat it.
fn tell(seed: u64, scenario: &Scenario) {
    let effort = Effort { is_first_failure_enough: true, ..RANDOM_EFFORT };
    let fails = |kept: &[usize]| !run(&[scenario.only(kept)], effort).failures.is_empty();
    let kept = shrink::shrink(scenario.operations.len(), SHRINK_TRIES_MAX, fails);
    for operation in scenario.only(&kept).operations {
        eprintln!("  {operation:?}");
    }
    eprintln!(
        "  repeat with SEAWALL_FIRST_SEED={seed} SEAWALL_RANDOM_CRASHES=1 SEAWALL_KEEP={} cargo test \
         -p seawall-tests --test crash random",
        shrink::show(&kept)
    );
}

/// A page that the last record before a crash has changed is changed again while it is written: from then
/// on its changes begin where the epoch before has ended, and so may redo.
#[test]
fn a_database_whose_redo_begins_where_an_epoch_has_ended_recovers_and_can_be_copied() {
    let value = |bytes| ValueSpec { bytes, seed: bytes };
    let insert = |key, bytes| Operation::Insert(0, key, value(bytes), Durability::Sync);
    let inside = Inside::Insert(0, 17, value(14));
    let meets_page_write = [Operation::During(Window::PageSync, inside), Operation::Maintain];
    let before = [Operation::CreateTree(0), insert(21, 11), Operation::Kill];
    let behind = [Operation::Backup, Operation::Kill, Operation::CompareAll, insert(3, 5)];
    let checkpoint = [Operation::TakeCheckpoint];
    for operations in [
        [&before[..], &meets_page_write, &behind].concat(),
        [&before[..], &meets_page_write, &checkpoint, &behind[1..]].concat(),
    ] {
        let mut session =
            Session::create(&Settings::default()).unwrap_or_else(|why| panic!("{why}"));
        session.run(&operations).unwrap_or_else(|why| panic!("{why}"));
        session.compare_all().unwrap_or_else(|why| panic!("{why}"));
        session.close().unwrap_or_else(|why| panic!("{why}"));
    }
}

#[test]
fn every_scenario_does_the_same_twice_to_the_byte() {
    for scenario in scenario::all() {
        let operations = [&scenario.prepare[..], &scenario.operations].concat();
        let same = run_twice(&scenario.settings, &operations);
        same.unwrap_or_else(|why| panic!("scenario {}: {why}", scenario.name));
    }
}
