//! The questions.

mod control;
mod forward;
mod open;
mod packet;

use clap::ValueEnum;

use crate::player::Family;
use crate::report::Report;
use crate::surge;

/// A suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Suite {
    /// What the kernel program costs for a packet, in test runs.
    Packet,
    /// Frames end to end over veth, beside the kernel's own forwarding and nftables.
    Forward,
    /// How many sessions a second are opened, by answers.
    Open,
    /// What the daemon costs.
    Control,
    /// A day of 60,000 employees, with real packets and the real daemon.
    Surge,
}

/// What of the suites is wanted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    /// Fewer and shorter rounds.
    pub(crate) quick: bool,
    /// Only cases in whose name, with the family and the number of flows, each with a blank behind it, this text is.
    pub(crate) only: &'a str,
}

impl Wanted<'_> {
    /// Whether a case is to be measured.
    fn has(self, case: &str, family: Family, flows: u32) -> bool {
        format!("{case} {} {flows} ", family.name()).contains(self.only)
    }
}

impl Suite {
    pub(crate) const ALL: &'static [Self] =
        &[Self::Packet, Self::Forward, Self::Open, Self::Control, Self::Surge];

    /// Its name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Packet => "packet",
            Self::Forward => "forward",
            Self::Open => "open",
            Self::Control => "control",
            Self::Surge => "surge",
        }
    }

    /// Measures, and adds the results to the report.
    pub(crate) fn run(self, wanted: Wanted<'_>, report: &mut Report) -> anyhow::Result<()> {
        match self {
            Self::Packet => packet::run(wanted, report),
            Self::Forward => forward::run(wanted, report),
            Self::Control => control::run(wanted, report),
            Self::Open => open::run(wanted.quick, report),
            Self::Surge => surge::run(wanted.quick, report),
        }
    }
}
