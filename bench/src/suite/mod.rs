//! The questions.

mod open;
mod packet;

use clap::ValueEnum;

use crate::report::Report;

/// A suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Suite {
    /// What the kernel program costs for a packet, in test runs.
    Packet,
    /// How many sessions a second are opened, by answers.
    Open,
}

impl Suite {
    pub(crate) const ALL: &'static [Self] = &[Self::Packet, Self::Open];

    /// Measures, and adds the results to the report.
    pub(crate) fn run(self, quick: bool, report: &mut Report) -> anyhow::Result<()> {
        match self {
            Self::Packet => packet::run(quick, report),
            Self::Open => open::run(quick, report),
        }
    }
}
