//! Files that are changed: right answers or errors, never a panic, never other bytes.
#![expect(clippy::print_stderr, reason = "counts are shown to whoever runs it")]

use seawall_tests::damage::{Counts, Specimen};
use seawall_tests::failure::{Failure, Outcome};

/// Failures that are told.
const FAILURES_MAX: usize = 20;

/// Tries every change of every file. Of the files that are read, some changes must be noticed.
fn sweep(specimen: Outcome<Specimen>, read: &[&str]) {
    let specimen = specimen.unwrap_or_else(|why| panic!("{why}"));
    let mut failures: Vec<Failure> = Vec::new();
    for (file, changes) in specimen.files() {
        let mut counts = Counts::default();
        for change in changes {
            failures.extend(specimen.try_change(&file, change, &mut counts).err());
        }
        eprintln!("{}: {counts}", file.display());
        let is_noticed = counts.refused + counts.reported > 0;
        assert!(is_noticed || !read.iter().any(|name| file.ends_with(name)), "{}", file.display());
    }
    let sentences: Vec<_> = failures.iter().take(FAILURES_MAX).map(ToString::to_string).collect();
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), sentences.join("\n"));
}

const FIRST_SEGMENT: &str = "wal/00000000000000000001.wal";

#[test]
fn a_change_of_a_closed_database_is_an_error_or_nothing() {
    sweep(Specimen::closed(), &["control", "pages", "doublewrite", FIRST_SEGMENT]);
}

#[test]
fn a_change_of_a_killed_database_is_an_error_or_nothing_or_takes_the_last_commit() {
    sweep(Specimen::killed(), &["control", "pages", "doublewrite", FIRST_SEGMENT]);
}
