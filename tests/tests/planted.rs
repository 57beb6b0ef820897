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
use seawall_tests::counts;
use seawall_tests::planted::check;

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
    let (mut missed, mut found) = (Vec::new(), 0);
    for bug in bugs {
        let check = check(bug);
        plant(bug, true);
        let (tried, failures) = check.run();
        plant(bug, false);
        let finding = failures.first().map(ToString::to_string);
        let finding = finding.as_deref().unwrap_or("NOT FOUND");
        eprintln!("{bug:?} | {} | {tried} | {finding}", check.name());
        match failures.is_empty() {
            true => missed.push(bug),
            false => found += 1,
        }
    }
    assert!(missed.is_empty(), "bugs that are not found: {missed:?}");
    counts::tell("planted bugs that were found", found);
}
