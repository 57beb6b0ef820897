//! What a verification has found, and what it still has to make sure of.

use seawall_wal::PageId;

/// Most findings that are kept; of the rest only the number is told.
const FINDINGS_MAX: usize = 1000;

/// Sentences for the report.
#[derive(Debug, Default)]
pub(super) struct Findings {
    kept: Vec<String>,
    left_out: u64,
}

/// A finding that a change made meanwhile may explain: it stands unless the log of the verification
/// names one of its pages.
#[derive(Clone, Debug)]
pub(super) struct Suspect {
    pub(super) pages: Vec<PageId>,
    pub(super) finding: String,
}

impl Findings {
    pub(super) fn add(&mut self, finding: impl Into<String>) {
        if self.kept.len() < FINDINGS_MAX {
            self.kept.push(finding.into());
        } else {
            self.left_out += 1;
        }
    }

    pub(super) fn into_sentences(mut self) -> Vec<String> {
        if self.left_out > 0 {
            self.kept.push(format!("and {} more findings", self.left_out));
        }
        self.kept
    }
}

#[cfg(test)]
#[cfg(not(loom))]
mod tests {
    use super::*;

    #[test]
    fn findings_beyond_the_bound_are_counted() {
        let mut findings = Findings::default();
        (0..FINDINGS_MAX + 7).for_each(|i| findings.add(format!("finding {i}")));
        let sentences = findings.into_sentences();
        assert_eq!(sentences.len(), FINDINGS_MAX + 1);
        assert_eq!(sentences[FINDINGS_MAX], "and 7 more findings");
    }
}
