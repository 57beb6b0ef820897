//! The crash runner over every scenario and over random workloads.
//!
//! `SEAWALL_SCENARIO=name` runs one scenario whole; `SEAWALL_RANDOM_CRASHES=N` runs N random ones.
#![expect(clippy::print_stderr, reason = "counts and failures are shown to whoever runs it")]

use seawall_tests::crash::{Effort, Report, run};
use seawall_tests::scenario::{self, Scenario};

/// Random workloads that are run when nobody says how many.
const RANDOM: u64 = 6;

fn check(what: &str, report: &Report) {
    eprintln!("crash states: {} ({what})", report.counts);
    let failures: Vec<_> = report.failures.iter().map(ToString::to_string).collect();
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn every_scenario_recovers_from_a_crash_at_every_operation() {
    let mut scenarios = scenario::all();
    let mut effort =
        Effort { seeds: 2, second_one_in: 60, third_one_in: 0, is_first_failure_enough: false };
    if let Ok(name) = std::env::var("SEAWALL_SCENARIO") {
        scenarios.retain(|scenario| scenario.name == name);
        effort.second_one_in = 1;
    }
    let started = std::time::Instant::now();
    let mut all = Report::default();
    for scenario in &scenarios {
        let report = run(std::slice::from_ref(scenario), effort);
        eprintln!("{:>22}: {} {:?}", scenario.name, report.counts, started.elapsed());
        all.add(report);
    }
    check("scenarios", &all);
}

#[test]
fn random_workloads_recover_from_a_crash_at_every_operation() {
    let count = std::env::var("SEAWALL_RANDOM_CRASHES").ok();
    let count = count.map_or(RANDOM, |text| text.parse().expect("a number"));
    let effort =
        Effort { seeds: 1, second_one_in: 0, third_one_in: 0, is_first_failure_enough: false };
    let scenarios: Vec<Scenario> = (1..=count).map(|seed| scenario::random(seed, 60)).collect();
    check("random", &run(&scenarios, effort));
}
