//! The error sweep: each operation of the disk fails, in each way, once or from then on.
//!
//! `SEAWALL_SCENARIO=name` sweeps one scenario; `SEAWALL_FAULTS_ONE_IN=N` tries one fault in N.
//! `SEAWALL_FAULTY_SEEDS=N` runs N random workloads with faults, from `SEAWALL_FIRST_SEED` on; what fails
//! is made small, and `SEAWALL_KEEP=0,3-5` repeats these operations of a seed.
#![expect(clippy::print_stderr, reason = "counts and failures are shown to whoever runs it")]

use seawall_tests::counts;
use seawall_tests::effort::number;
use seawall_tests::random::Random;
use seawall_tests::scenario::{self, Scenario};
use seawall_tests::shrink;
use seawall_tests::sweep::{Report, sweep, sweep_randomly};

/// Of the faults, one in this many is tried when nobody says otherwise.
const FAULTS_ONE_IN: usize = 1;
/// Random workloads when nobody says how many.
const SEEDS: u64 = 40;
/// Operations of each.
const OPERATIONS: usize = 150;
/// Runs of each, with other faults.
const RUNS: usize = 24;
/// Runs of a workload that making it small may take, all faults counted as one.
const SHRINK_TRIES_MAX: usize = 500;

#[test]
fn whatever_fails_the_answer_is_an_error_and_the_next_open_finds_every_commit() {
    let one_in = std::env::var("SEAWALL_FAULTS_ONE_IN").ok();
    let one_in = one_in.map_or(FAULTS_ONE_IN, |text| text.parse().expect("a number"));
    let chosen = std::env::var("SEAWALL_SCENARIO").ok();
    let mut scenarios = scenario::all();
    scenarios.push(scenario::backup());
    scenarios.retain(|scenario| chosen.as_ref().is_none_or(|name| scenario.name == *name));
    let mut all = Report::default();
    for scenario in &scenarios {
        let report = sweep(scenario, one_in);
        eprintln!("{:>27}: {}", scenario.name, report.counts);
        all.add(report);
    }
    eprintln!("error sweep: {}", all.counts);
    let failures: Vec<_> = all.failures.iter().map(ToString::to_string).collect();
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

fn run(seed: u64, scenario: &Scenario) -> Report {
    sweep_randomly(scenario, RUNS, &mut Random::new(seed))
}

#[test]
fn whatever_fails_in_a_random_workload_the_next_open_finds_every_commit() {
    let first = number("SEAWALL_FIRST_SEED").unwrap_or(1);
    let count = number("SEAWALL_FAULTY_SEEDS").unwrap_or(SEEDS);
    let mut all = Report::default();
    for seed in first..first + count {
        let mut scenario = scenario::random(seed, OPERATIONS);
        if let Ok(kept) = std::env::var("SEAWALL_KEEP") {
            scenario = scenario.only(&shrink::parse(&kept));
        }
        let report = run(seed, &scenario);
        if !report.failures.is_empty() {
            tell(seed, &scenario);
        }
        all.add(report);
    }
    eprintln!("random workloads with faults: {count} seeds, {}", all.counts);
    let failures: Vec<_> = all.failures.iter().map(ToString::to_string).collect();
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
    assert!(all.counts.refused > 0, "no fault has struck");
    counts::tell("random workloads with faults", count);
    counts::tell("runs with faults", all.counts.runs);
}

/// Makes a random workload that fails small, and says how to repeat it.
fn tell(seed: u64, scenario: &Scenario) {
    let fails = |kept: &[usize]| !run(seed, &scenario.only(kept)).failures.is_empty();
    let kept = shrink::shrink(scenario.operations.len(), SHRINK_TRIES_MAX, fails);
    for operation in scenario.only(&kept).operations {
        eprintln!("  {operation:?}");
    }
    eprintln!(
        "  repeat with SEAWALL_FIRST_SEED={seed} SEAWALL_FAULTY_SEEDS=1 SEAWALL_KEEP={} cargo test \
         -p seawall-tests --test sweep random",
        shrink::show(&kept)
    );
}
