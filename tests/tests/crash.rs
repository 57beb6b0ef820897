//! The crash runner over every scenario and over random workloads.
//!
//! `SEAWALL_SCENARIO=name` runs one scenario whole; `SEAWALL_RANDOM_CRASHES=N` runs N random ones, from
//! `SEAWALL_FIRST_SEED` on.
#![expect(clippy::print_stderr, reason = "counts and failures are shown to whoever runs it")]

use seawall_tests::crash::{Effort, Report, run};
use seawall_tests::scenario::{self, Scenario};

/// Random workloads that are run when nobody says how many.
const RANDOM: u64 = 8;
/// Operations of a random workload.
const LENGTH: usize = 80;

fn check(what: &str, report: &Report) {
    eprintln!("crash states: {} ({what})", report.counts);
    let failures: Vec<_> = report.failures.iter().map(ToString::to_string).collect();
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

fn chosen() -> Option<String> {
    std::env::var("SEAWALL_SCENARIO").ok()
}

#[test]
fn every_scenario_recovers_from_a_crash_at_every_operation() {
    let mut scenarios = scenario::all();
    let mut effort =
        Effort { seeds: 2, second_one_in: 40, third_one_in: 0, is_first_failure_enough: false };
    if let Some(name) = chosen() {
        scenarios.retain(|scenario| scenario.name == name);
        effort.second_one_in = 1;
    }
    let mut all = Report::default();
    for scenario in &scenarios {
        let report = run(std::slice::from_ref(scenario), effort);
        eprintln!("{:>22}: {}", scenario.name, report.counts);
        all.add(report);
    }
    check("scenarios", &all);
}

#[test]
fn every_recovery_recovers_from_a_crash_at_every_operation() {
    let effort =
        Effort { seeds: 1, second_one_in: 1, third_one_in: 400, is_first_failure_enough: false };
    let scenarios =
        [scenario::savepoint(), scenario::async_commits(), scenario::trees_rolled_back()];
    check("recoveries", &run(&scenarios, effort));
}

#[test]
fn random_workloads_recover_from_a_crash_at_every_operation() {
    let number = |variable: &str| {
        let text = std::env::var(variable).ok();
        text.map(|text| text.parse::<u64>().expect("a number"))
    };
    let first = number("SEAWALL_FIRST_SEED").unwrap_or(1);
    let count = number("SEAWALL_RANDOM_CRASHES").unwrap_or(RANDOM);
    let effort =
        Effort { seeds: 1, second_one_in: 0, third_one_in: 0, is_first_failure_enough: false };
    let seeds = first..first + count;
    let scenarios: Vec<Scenario> = seeds.map(|seed| scenario::random(seed, LENGTH)).collect();
    check("random", &run(&scenarios, effort));
}
