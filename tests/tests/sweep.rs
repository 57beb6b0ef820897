//! The error sweep: each operation of the disk fails, in each way, once or from then on.
//!
//! `SEAWALL_SCENARIO=name` sweeps one scenario; `SEAWALL_FAULTS_ONE_IN=N` tries one fault in N.
#![expect(clippy::print_stderr, reason = "counts and failures are shown to whoever runs it")]

use seawall_tests::scenario;
use seawall_tests::sweep::{Report, sweep};

/// Of the faults, one in this many is tried when nobody says otherwise.
const FAULTS_ONE_IN: usize = 1;

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
