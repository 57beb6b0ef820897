//! Random operations, every answer compared with the oracle's, and redo with what the database has
//! written. One seed in twenty is run twice, and must do the same to the byte.
//!
//! `SEAWALL_SEEDS=N` runs N seeds, from `SEAWALL_FIRST_SEED` on; `SEAWALL_SEED=S` runs one, and with
//! `SEAWALL_KEEP=0,3-5` these operations of it alone. What fails is made small and printed as such a
//! command.
#![expect(clippy::print_stderr, reason = "counts and failures are shown to whoever runs it")]

use seawall_tests::counts;
use seawall_tests::effort::number;
use seawall_tests::failure::Outcome;
use seawall_tests::generate::Generator;
use seawall_tests::operation::Operation;
use seawall_tests::random::Random;
use seawall_tests::session::Session;
use seawall_tests::settings::Settings;
use seawall_tests::shrink;
use seawall_tests::trace::run_twice;
use seawall_tests::trials::contain;

/// Seeds that are run when nobody says how many.
const SEEDS: u64 = 1500;
/// Operations of a seed.
const OPERATIONS: usize = 400;
/// Redo begins with a copy of the pages from when the database was opened, and for every other seed
/// with one that is no older than so many operations.
const COPY_EVERY: usize = 90;
/// One seed in this many is run twice.
const TWICE_ONE_IN: u64 = 20;
/// Runs that making a failure small may take.
const SHRINK_TRIES_MAX: usize = 2000;
/// Failures after which no more are looked for.
const FAILURES_MAX: usize = 5;

/// What was done.
#[derive(Default)]
struct Counts {
    seeds: u64,
    operations: u64,
    /// Pages that redo made as they were.
    replayed: u64,
    twice: u64,
}

fn run(seed: u64, settings: &Settings, operations: &[Operation], counts: &mut Counts) -> Outcome {
    let (done, replayed) = contain(|| {
        let mut session = Session::create(settings)?;
        session.keep_old_copy();
        if seed.is_multiple_of(2) {
            session.run(operations)?;
        } else {
            for part in operations.chunks(COPY_EVERY) {
                session.run(part)?;
                session.keep_old_copy();
            }
        }
        session.close()?;
        Ok((session.done, session.replayed))
    })?;
    counts.seeds += 1;
    counts.operations += done;
    counts.replayed += replayed;
    if seed.is_multiple_of(TWICE_ONE_IN) {
        counts.twice += 1;
        contain(|| run_twice(settings, operations))?;
    }
    Ok(())
}

fn workload(seed: u64) -> (Settings, Vec<Operation>) {
    let settings = Settings::random(&mut Random::new(!seed));
    (settings, Generator::new(seed).workload(OPERATIONS))
}

/// Makes the workload of a seed that fails small, and says how to repeat it.
fn tell(seed: u64, why: &impl std::fmt::Display) {
    let (settings, operations) = workload(seed);
    let of = |kept: &[usize]| kept.iter().map(|&place| operations[place]).collect::<Vec<_>>();
    let fails = |kept: &[usize]| run(seed, &settings, &of(kept), &mut Counts::default()).is_err();
    let kept = shrink::shrink(operations.len(), SHRINK_TRIES_MAX, fails);
    eprintln!("seed {seed}: {why}");
    for operation in of(&kept) {
        eprintln!("  {operation:?}");
    }
    eprintln!(
        "  repeat with SEAWALL_SEED={seed} SEAWALL_KEEP={} cargo test -p seawall-tests --test model",
        shrink::show(&kept)
    );
}

#[test]
fn every_answer_is_the_oracles() {
    let mut counts = Counts::default();
    if let Some(seed) = number("SEAWALL_SEED") {
        let (settings, mut operations) = workload(seed);
        if let Ok(kept) = std::env::var("SEAWALL_KEEP") {
            operations = shrink::parse(&kept).iter().map(|&place| operations[place]).collect();
        }
        run(seed, &settings, &operations, &mut counts).unwrap_or_else(|why| panic!("{why}"));
        return;
    }
    let first = number("SEAWALL_FIRST_SEED").unwrap_or(1);
    let count = number("SEAWALL_SEEDS").unwrap_or(SEEDS);
    let mut failed = Vec::new();
    for seed in first..first + count {
        let (settings, operations) = workload(seed);
        if let Err(why) = run(seed, &settings, &operations, &mut counts) {
            tell(seed, &why);
            failed.push(seed);
            if failed.len() == FAILURES_MAX {
                break;
            }
        }
    }
    let Counts { seeds, operations, replayed, twice } = counts;
    eprintln!(
        "model: {seeds} seeds, {operations} operations, {replayed} pages redone as live, {twice} seeds \
         run twice"
    );
    assert!(failed.is_empty(), "seeds that failed: {failed:?}");
    counts::tell("model seeds", seeds);
    counts::tell("model operations", operations);
    counts::tell("pages redone as live", replayed);
}
