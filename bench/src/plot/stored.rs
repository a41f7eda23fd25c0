//! Results as they lie in a file, to be drawn.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use serde::Deserialize;

use crate::machine::Machine;

/// A file's contents: one suite's.
#[derive(Debug, Deserialize)]
pub(super) struct Stored {
    pub(super) machine: Machine,
    pub(super) results: Vec<Row>,
    pub(super) series: Vec<Line>,
}

/// What was measured of one case; see [`crate::report::Measured`].
#[derive(Debug, Deserialize)]
pub(super) struct Row {
    pub(super) case: String,
    pub(super) family: Option<String>,
    pub(super) flows: u64,
    pub(super) unit: String,
    pub(super) median: f64,
    pub(super) min: f64,
    pub(super) max: f64,
}

/// Points of one case; see [`crate::series::Series`].
#[derive(Debug, Deserialize)]
pub(super) struct Line {
    pub(super) case: String,
    pub(super) unit: String,
    pub(super) points: Vec<(f64, f64)>,
}

impl Stored {
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = fs::read_to_string(path)
            .with_context(|| format!("cannot read the results in {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} has no results", path.display()))
    }

    /// The first row of a case.
    pub(super) fn row(&self, case: &str, family: Option<&str>, flows: u64) -> Option<&Row> {
        self.results.iter().find(|row| {
            row.case == case
                && row.flows == flows
                && (family.is_none() || row.family.as_deref() == family)
        })
    }

    /// Medians of a case by numbers of flows.
    pub(super) fn medians(&self, case: &str, family: &str) -> Vec<(f64, f64)> {
        let flows = self.flows();
        let rows = flows.iter().filter_map(|flows| self.row(case, Some(family), *flows));
        rows.map(|row| (row.flows as f64, row.median)).collect()
    }

    /// All numbers of flows that there are, in order.
    pub(super) fn flows(&self) -> Vec<u64> {
        let mut flows: Vec<u64> = self.results.iter().map(|row| row.flows).collect();
        flows.sort_unstable();
        flows.dedup();
        flows
    }
}
