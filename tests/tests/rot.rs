//! Rot of what was durable is healed or refused, never passed on.
#![expect(clippy::print_stderr, reason = "counts and failures are shown to whoever runs it")]

use seawall_tests::rot::{Report, run};
use seawall_tests::scenario;

#[test]
fn rotten_blocks_are_healed_or_refused_and_never_passed_on() {
    let scenarios = [
        scenario::checkpoints(),
        scenario::long_transaction(),
        scenario::overflow_values(),
        scenario::page_writes(),
        scenario::segments(),
        scenario::trees(),
        scenario::splits().with_records_alone(),
    ];
    let mut all = Report::default();
    for scenario in &scenarios {
        let report = run(scenario);
        eprintln!("{:>24}: {}", scenario.name, report.counts);
        all.add(report);
    }
    eprintln!("rot: {}", all.counts);
    let failures: Vec<_> = all.failures.iter().map(ToString::to_string).collect();
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}
