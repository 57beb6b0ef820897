//! Random operations, every answer compared with the oracle's.
//!
//! `SEAWALL_SEEDS=N` runs N seeds, `SEAWALL_SEED=S` runs one and shrinks what fails.
#![expect(clippy::print_stderr, reason = "counts and failures are shown to whoever runs it")]

use std::panic::{AssertUnwindSafe, catch_unwind};

use seawall_tests::failure::{Failure, Outcome};
use seawall_tests::generate::Generator;
use seawall_tests::operation::Operation;
use seawall_tests::random::Random;
use seawall_tests::session::Session;
use seawall_tests::settings::Settings;

/// Seeds that are run when nobody says how many.
const SEEDS: u64 = 1500;
/// Operations of a seed.
const OPERATIONS: usize = 400;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

fn run(settings: &Settings, operations: &[Operation]) -> Outcome<u64> {
    let body = || {
        let mut session = Session::create(settings)?;
        session.run(operations)?;
        Ok(session.done)
    };
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(Failure::new(format!("panic: {}", text.unwrap_or_default())))
    })
}

fn workload(seed: u64) -> (Settings, Vec<Operation>) {
    let settings = Settings::random(&mut Random::new(!seed));
    (settings, Generator::new(seed).workload(OPERATIONS))
}

/// Leaves out what is not needed for the workload to fail.
fn shrink(settings: &Settings, mut operations: Vec<Operation>) -> Vec<Operation> {
    let mut size = operations.len() / 2;
    while size > 0 {
        let mut start = 0;
        while start < operations.len() {
            let mut fewer = operations.clone();
            fewer.drain(start..(start + size).min(operations.len()));
            if run(settings, &fewer).is_err() {
                operations = fewer;
            } else {
                start += size;
            }
        }
        size /= 2;
    }
    operations
}

#[test]
fn every_answer_is_the_oracles() {
    let (first, count) = match number("SEAWALL_SEED") {
        Some(seed) => (seed, 1),
        None => {
            (number("SEAWALL_FIRST_SEED").unwrap_or(1), number("SEAWALL_SEEDS").unwrap_or(SEEDS))
        }
    };
    let mut done = 0;
    let mut failed = Vec::new();
    for seed in first..first + count {
        let (settings, operations) = workload(seed);
        match run(&settings, &operations) {
            Ok(operations) => done += operations,
            Err(why) => {
                eprintln!(
                    "seed {seed}: {why}\n  repeat with SEAWALL_SEED={seed} cargo test -p \
                     seawall-tests --test model"
                );
                failed.push(seed);
            }
        }
    }
    if count == 1 && !failed.is_empty() {
        let (settings, operations) = workload(first);
        let shrunk = shrink(&settings, operations);
        let why = run(&settings, &shrunk).expect_err("it still fails");
        eprintln!("{settings:#?}\n{shrunk:#?}\n{why}");
    }
    eprintln!("model: {count} seeds, {done} operations");
    assert!(failed.is_empty(), "seeds that failed: {failed:?}");
}
