//! Salvage of damaged databases: what can be read is saved, what cannot is told.
#![expect(clippy::print_stderr, reason = "counts are shown to whoever runs it")]

use std::collections::BTreeMap;

use seawall_tests::counts;
use seawall_tests::damage::{Change, Specimen};
use seawall_tests::failure::{Failure, Outcome};
use seawall_tests::salvage::{Counts, Wreck};
use seawall_tests::trials::try_all;

/// Failures that are told.
const FAILURES_MAX: usize = 20;
/// Of the changes of a file, one in this many is tried: of single bits, and of cuts. Primes.
const FLIPS_ONE_IN: usize = 29;
const CUTS_ONE_IN: usize = 13;
/// A block is filled with zeros, or with something else.
const BLOCK_BYTES: usize = 4096;

#[derive(Default)]
struct Found {
    counts: Counts,
    failures: Vec<Failure>,
}

fn sweep(specimen: Outcome<Specimen>) -> Counts {
    let wreck = specimen.and_then(Wreck::new).unwrap_or_else(|why| panic!("{why}"));
    assert!(wreck.records() > 60, "a specimen without records proves nothing");
    wreck.try_whole().unwrap_or_else(|why| panic!("undamaged: {why}"));
    let mut all = Counts::default();
    for (file, mut changes) in wreck.files() {
        let blocks = wreck_blocks(&changes);
        let mut number = 0;
        changes.retain(|change| {
            number += 1;
            match change {
                Change::Flip { .. } => number % FLIPS_ONE_IN == 0,
                Change::Cut { .. } => number % CUTS_ONE_IN == 0,
                Change::Fill { .. } | Change::Gone => true,
            }
        });
        changes.extend(blocks);
        let found = try_all(
            changes.len(),
            |index| format!("{}, {:?}", file.display(), changes[index]),
            |index| {
                let mut found = Found::default();
                let tried = wreck.try_change(&file, changes[index], &mut found.counts);
                found.failures.extend(tried.err());
                found
            },
            |all, found: Found| {
                all.counts.add(found.counts);
                all.failures.extend(found.failures);
            },
            |all| all.failures.len() >= FAILURES_MAX,
        );
        eprintln!("{}: {}", file.display(), found.counts);
        let sentences: Vec<_> = found.failures.iter().map(ToString::to_string).collect();
        assert!(sentences.is_empty(), "{} failures:\n{}", sentences.len(), sentences.join("\n"));
        all.add(found.counts);
    }
    counts::tell("salvages of damaged databases", all.tried);
    all
}

/// Blocks of the bits that may change, one for each.
fn blocks_of(changes: &[Change]) -> impl Iterator<Item = usize> {
    changes.iter().filter_map(|change| match change {
        Change::Flip { offset, .. } => usize::try_from(*offset).ok().map(|at| at / BLOCK_BYTES),
        _ => None,
    })
}

/// The blocks that were written, in which many bits may change, each zeroed and overwritten.
fn wreck_blocks(changes: &[Change]) -> Vec<Change> {
    let mut bits: BTreeMap<usize, usize> = BTreeMap::new();
    blocks_of(changes).for_each(|block| *bits.entry(block).or_default() += 1);
    let written = bits.into_iter().filter(|&(_, bits)| bits > 1).map(|(block, _)| block);
    let fill = |block: usize, byte| {
        let (offset, length) = (block * BLOCK_BYTES, BLOCK_BYTES);
        Change::Fill { offset, length, byte }
    };
    written.flat_map(|block| [fill(block, 0), fill(block, 0xa5)]).collect()
}

#[test]
fn salvage_of_a_closed_database_saves_every_record_as_long_as_its_log_is_there() {
    let counts = sweep(Specimen::closed());
    assert!(counts.whole > 0 && counts.lossy == 0, "{counts}");
}

/// Its log is that of the last life alone, in which next to nothing was written.
#[test]
fn salvage_of_a_closed_database_saves_every_record_of_the_undamaged_pages() {
    let counts = sweep(Specimen::closed_twice());
    assert!(counts.whole > 0 && counts.lossy > 0, "{counts}");
}

#[test]
fn salvage_of_a_killed_database_saves_what_pages_and_log_still_say() {
    let counts = sweep(Specimen::killed());
    assert!(counts.whole > 0 && counts.lossy > 0, "{counts}");
}
