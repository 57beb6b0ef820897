//! Bugs planted on purpose: the crash runner finds each, and nothing where none is planted.
//!
//! Built with `RUSTFLAGS="--cfg seawall_planted"`. A planted bug is there for the whole process, so
//! one test tries them one after the other.
#![cfg(seawall_planted)]
#![expect(clippy::print_stderr, reason = "what catches which bug is shown to whoever runs it")]

use seawall::planted::{Bug, plant};
use seawall_tests::crash::{Effort, run};
use seawall_tests::scenario::{self, Scenario};

const EFFORT: Effort =
    Effort { seeds: 2, second_one_in: 0, third_one_in: 0, is_first_failure_enough: true };

/// The scenarios that must catch a bug.
fn scenarios(bug: Bug) -> Vec<Scenario> {
    match bug {
        Bug::SkipLogFlushBeforePageWrite => vec![scenario::page_writes(), scenario::abort()],
        Bug::SkipDoublewriteSync => vec![scenario::page_writes()],
        Bug::RecycleSegmentEarly => vec![scenario::segments()],
        Bug::RecLsnAfterReserve => vec![scenario::checkpoints()],
    }
}

#[test]
fn every_planted_bug_is_found_and_none_where_none_is() {
    for bug in Bug::ALL {
        for scenario in scenarios(bug) {
            let scenario = std::slice::from_ref(&scenario);
            let name = &scenario[0].name;
            let sound = run(scenario, EFFORT);
            assert!(sound.failures.is_empty(), "nothing is planted: {:?}", sound.failures);
            plant(bug, true);
            let broken = run(scenario, EFFORT);
            plant(bug, false);
            let found = broken.failures.first().map(ToString::to_string);
            eprintln!("{bug:?}, {name}, {} states: {found:?}", broken.counts.total());
            assert!(found.is_some(), "{bug:?} is not found by {name}");
        }
    }
}
