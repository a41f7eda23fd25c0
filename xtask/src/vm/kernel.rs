//! Which of Debian's kernels the virtual machine boots. Its programs are Debian 12's whatever it is.

use clap::ValueEnum;

/// A kernel of Debian's archive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kernel {
    /// Debian 12's own.
    #[default]
    #[value(name = "6.1")]
    Stable,
    /// Debian 13's, as Debian 12 gets it.
    #[value(name = "6.12")]
    Backport,
    /// What Debian 13 gets from the release after it.
    #[value(name = "newest")]
    Newest,
}

impl Kernel {
    /// As it is written on the command line.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Stable => "6.1",
            Self::Backport => "6.12",
            Self::Newest => "newest",
        }
    }

    /// The suite that has it, if it is another than that of the programs. Packages of such suites are taken only when asked for by name
    /// (`NotAutomatic`), so that nothing else comes from there.
    pub(super) fn suite(self) -> Option<&'static str> {
        match self {
            Self::Stable => None,
            Self::Backport => Some("bookworm-backports"),
            Self::Newest => Some("trixie-backports"),
        }
    }
}
