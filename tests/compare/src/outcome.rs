//! What was measured, as lines of JSON: a run's child prints them, the results' file keeps them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What a child tells of one workload.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Row {
    /// Id of the workload, see `report::rows`.
    pub(crate) workload: String,
    /// What is compared, in the workload's unit.
    pub(crate) figure: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) latency: Option<LatencyUs>,
    /// What else was measured.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) beside: BTreeMap<String, f64>,
    /// Operations in each second of the run, where their evenness is the question.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) seconds: Vec<f64>,
}

impl Row {
    pub(crate) fn new(workload: impl Into<String>, figure: f64) -> Self {
        let (beside, seconds) = (BTreeMap::new(), Vec::new());
        Self { workload: workload.into(), figure, latency: None, beside, seconds }
    }

    pub(crate) fn beside(mut self, name: &str, figure: f64) -> Self {
        self.beside.insert(name.to_owned(), figure);
        self
    }
}

/// How long operations took, in microseconds.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct LatencyUs {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
}

/// What makes a run the same one as another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct RunKey {
    pub(crate) session: String,
    pub(crate) engine: String,
    pub(crate) repetition: u32,
    pub(crate) scale: f64,
}

/// A line of the results' file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Line {
    /// What the following runs were measured on.
    Machine { machine: String },
    /// A figure of a run.
    Row {
        #[serde(flatten)]
        run: RunKey,
        #[serde(flatten)]
        row: Row,
    },
    /// The run has ended; without an error all of it was measured and verified.
    End {
        #[serde(flatten)]
        run: RunKey,
        seconds: f64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
}
