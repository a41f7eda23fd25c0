//! Results, for people and for programs.

use std::io::Write as _;

use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;

use crate::machine::Machine;
use crate::measure::Spread;
use crate::series::Series;

/// What was measured of one case.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Measured {
    pub(crate) suite: &'static str,
    pub(crate) case: String,
    /// `ipv4` or `ipv6`, where it matters.
    pub(crate) family: Option<&'static str>,
    /// Among how many flows or sessions.
    pub(crate) flows: u64,
    pub(crate) unit: &'static str,
    #[serde(flatten)]
    pub(crate) spread: Spread,
    /// What it stands beside, measured in the same rounds.
    pub(crate) against: Option<&'static str>,
    /// Median of the rounds' ratios: how many times as much the other costs, or this does more.
    pub(crate) ratio: Option<f64>,
}

/// All results.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    machine: Machine,
    results: Vec<Measured>,
    /// Not printed: only kept, for plots.
    #[serde(skip)]
    series: Vec<Series>,
}

/// One suite's part of a report, as it is kept in a file.
#[derive(Debug, Serialize)]
pub(crate) struct Part<'r> {
    machine: &'r Machine,
    results: Vec<&'r Measured>,
    series: Vec<&'r Series>,
}

impl Report {
    pub(crate) fn new(machine: Machine) -> Self {
        Self { machine, results: Vec::new(), series: Vec::new() }
    }

    pub(crate) fn add(&mut self, measured: Measured) {
        self.results.push(measured);
    }

    /// Adds points for a plot.
    pub(crate) fn record(&mut self, series: Series) {
        self.series.push(series);
    }

    /// What is of this suite.
    pub(crate) fn of(&self, suite: &str) -> Part<'_> {
        Part {
            machine: &self.machine,
            results: self.results.iter().filter(|measured| measured.suite == suite).collect(),
            series: self.series.iter().filter(|series| series.suite == suite).collect(),
        }
    }

    /// Prints everything on standard output.
    pub(crate) fn print(&self, json: bool) -> anyhow::Result<()> {
        let text = if json { serde_json::to_string_pretty(self)? } else { self.markdown() };
        writeln!(std::io::stdout(), "{text}")?;
        Ok(())
    }

    fn markdown(&self) -> String {
        let machine = &self.machine;
        let mut table = Table::new();
        table.load_style(ASCII_MARKDOWN);
        table.set_header([
            "suite", "case", "family", "flows", "median", "min", "max", "unit", "ratio", "against",
        ]);
        for measured in &self.results {
            let figure = |value: f64| {
                if value >= 1000.0 { format!("{value:.0}") } else { format!("{value:.1}") }
            };
            table.add_row([
                measured.suite.to_owned(),
                measured.case.clone(),
                measured.family.unwrap_or_default().to_owned(),
                measured.flows.to_string(),
                figure(measured.spread.median),
                figure(measured.spread.min),
                figure(measured.spread.max),
                measured.unit.to_owned(),
                measured.ratio.map(|ratio| format!("{ratio:.2}")).unwrap_or_default(),
                measured.against.unwrap_or_default().to_owned(),
            ]);
        }
        for column in [3, 4, 5, 6, 8] {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        format!(
            "{}, {} processors, {} MiB, Linux {}; {}\n\n{table}",
            machine.processor,
            machine.processors,
            machine.memory_mib,
            machine.kernel,
            machine.spectre_v2
        )
    }
}

/// Says on standard error how far a suite is.
#[derive(Debug)]
pub(crate) struct Progress {
    suite: &'static str,
    done: usize,
    steps: usize,
}

impl Progress {
    /// Of a suite with so many steps.
    pub(crate) const fn new(suite: &'static str, steps: usize) -> Self {
        Self { suite, done: 0, steps }
    }

    /// The next step begins.
    pub(crate) fn step(&mut self, what: &str) {
        self.done += 1;
        eprintln!("  {} {}/{}: {what}", self.suite, self.done, self.steps);
    }
}
