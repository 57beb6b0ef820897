//! What was saved, and what was not.

use std::fmt;
use std::time::Duration;

/// Sentences of one kind that are kept; of the rest only the number is told.
const SENTENCES_MAX: usize = 10_000;

/// What a salvage has saved and lost.
#[non_exhaustive]
#[derive(Clone, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct SalvageReport {
    /// Pages that were looked at.
    pub pages: u64,
    /// Of these, the ones that cannot be read.
    pub pages_damaged: u64,
    /// Records of the log that were read.
    pub log_records: u64,
    /// Transactions that had not committed, and were taken back.
    pub transactions_undone: u64,
    /// The trees, by name.
    pub trees: Vec<SalvagedTree>,
    /// What is damaged, be anything lost by it or not.
    pub damage: Vec<String>,
    /// What is lost, or may be other than it was.
    pub losses: Vec<String>,
    /// How long it took.
    #[cfg_attr(feature = "serde", serde(serialize_with = "crate::report::seconds"))]
    pub elapsed: Duration,
}

/// A tree that was saved.
#[non_exhaustive]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct SalvagedTree {
    /// Its name; one made up where it is lost.
    pub name: String,
    /// Records saved.
    pub records: u64,
    /// Records that it had, where the log still tells.
    pub expected: Option<u64>,
}

/// Sentences up to a bound.
#[derive(Debug, Default)]
pub(super) struct Sentences {
    kept: Vec<String>,
    left_out: u64,
}

impl Sentences {
    pub(super) fn add(&mut self, sentence: impl Into<String>) {
        if self.kept.len() < SENTENCES_MAX {
            self.kept.push(sentence.into());
        } else {
            self.left_out += 1;
        }
    }

    pub(super) fn into_vec(mut self) -> Vec<String> {
        if self.left_out > 0 {
            self.kept.push(format!("and {} more", self.left_out));
        }
        self.kept
    }
}

impl fmt::Display for SalvageReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<22}{}", "pages", self.pages)?;
        writeln!(f, "{:<22}{}", "pages_damaged", self.pages_damaged)?;
        writeln!(f, "{:<22}{}", "log_records", self.log_records)?;
        writeln!(f, "{:<22}{}", "transactions_undone", self.transactions_undone)?;
        for tree in &self.trees {
            let SalvagedTree { name, records, expected } = tree;
            let of = expected.map_or(String::new(), |expected| format!(" of {expected}"));
            writeln!(f, "tree {name:?}: {records}{of} records")?;
        }
        for damage in &self.damage {
            writeln!(f, "damaged: {damage}")?;
        }
        for loss in &self.losses {
            writeln!(f, "lost: {loss}")?;
        }
        write!(f, "{:<22}{:.1?}", "elapsed", self.elapsed)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn sentences_beyond_the_bound_are_counted() {
        let mut sentences = Sentences::default();
        (0..SENTENCES_MAX + 7).for_each(|i| sentences.add(format!("sentence {i}")));
        let sentences = sentences.into_vec();
        assert_eq!(sentences.len(), SENTENCES_MAX + 1);
        assert_eq!(sentences[SENTENCES_MAX], "and 7 more");
    }

    #[test]
    fn a_report_names_trees_damage_and_losses() {
        let tree = SalvagedTree { name: "a\nb".into(), records: 3, expected: Some(5) };
        let report = SalvageReport {
            trees: vec![tree],
            damage: vec!["page 3".into()],
            losses: vec!["two records".into()],
            ..SalvageReport::default()
        };
        let text = report.to_string();
        for line in ["tree \"a\\nb\": 3 of 5 records", "damaged: page 3", "lost: two records"] {
            assert!(text.lines().any(|found| found == line), "{text}");
        }
    }
}
