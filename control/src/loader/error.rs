//! What can go wrong between the daemon and the kernel program.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// The kernel program or its maps cannot be loaded, adopted or attached.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Not enough rights.
    #[error(
        "{what}: permission denied; Fernpass needs root (CAP_BPF, CAP_NET_ADMIN, CAP_SYS_ADMIN)"
    )]
    Rights {
        /// What was tried.
        what: String,
    },
    /// The kernel has no bpffs, or it cannot be mounted.
    #[error("{path} is no bpffs and none can be mounted there: {source}")]
    Bpffs {
        /// The configured place.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The place is under another kind of file system's files.
    #[error("cannot use {path}: {source}")]
    Path {
        /// The place.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another daemon has the maps.
    #[error(
        "another fernpass daemon uses {path}; stop it first, or give this gateway another `bpffs`"
    )]
    Locked {
        /// The bpffs directory.
        path: PathBuf,
    },
    /// Nothing is pinned there.
    #[error("nothing is loaded under {path}; `fernpass load` or `fernpass run` does that")]
    NotLoaded {
        /// The bpffs directory.
        path: PathBuf,
    },
    /// A pinned map of another shape.
    #[error(
        "the pinned map {path} has another shape: {found}, wanted {wanted}; `fernpass unload` takes it away (sessions are then learned again from traffic)"
    )]
    Shape {
        /// The pin.
        path: PathBuf,
        /// As it is.
        found: String,
        /// As it should be.
        wanted: String,
    },
    /// Tables of another version, which do not describe themselves.
    #[error(
        "{path} has tables of another version, which do not say what lies where, so that their sessions cannot be taken over; `fernpass unload` takes them away (sessions are then learned again from traffic)"
    )]
    Foreign {
        /// Their directory.
        path: PathBuf,
    },
    /// Their description lacks something.
    #[error(
        "{path} has tables of another version without `{missing}`, so that their sessions cannot be taken over; `fernpass unload` takes them away (sessions are then learned again from traffic)"
    )]
    Layout {
        /// Their directory.
        path: PathBuf,
        /// What is missing.
        missing: String,
    },
    /// There are sessions that only a daemon takes over.
    #[error("{path} has sessions that are to be taken over, which `fernpass run` does")]
    TakeOver {
        /// Where they are.
        path: PathBuf,
    },
    /// Another version has not finished.
    #[error(
        "sessions are on their way from one version's tables to those under {path}: start that version again, which finishes it, before another one"
    )]
    Unfinished {
        /// Where they are going.
        path: PathBuf,
    },
    /// Several versions' programs are attached.
    #[error(
        "{one} and {other} both have interfaces; `fernpass unload` takes both away (sessions are then learned again from traffic)"
    )]
    Several {
        /// One directory.
        one: PathBuf,
        /// Another.
        other: PathBuf,
    },
    /// There is not enough memory.
    #[error(
        "tables for {sessions} sessions take {needed} MB, and {available} MB are available{where_}"
    )]
    Memory {
        /// How many sessions are to have room.
        sessions: u64,
        /// What they take.
        needed: u64,
        /// What there is.
        available: u64,
        /// Who says so, if it is not the machine.
        where_: &'static str,
    },
    /// A pin is missing or cannot be opened.
    #[error("cannot open {path}: {reason}")]
    Pin {
        /// The pin.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// No such interface.
    #[error("there is no interface `{name}`{hint}")]
    NoInterface {
        /// As asked for.
        name: String,
        /// What there is.
        hint: String,
    },
    /// The driver cannot run XDP programs.
    #[error(
        "interface {name} has no native XDP: {reason}; `xdp_mode = \"generic\"` works everywhere, but slowly"
    )]
    NoNative {
        /// The interface.
        name: String,
        /// What the kernel said.
        reason: String,
    },
    /// Somebody else's program is there.
    #[error(
        "interface {name} has another XDP program already; `ip link set dev {name} xdp off` removes it, or, where a link holds it (`bpftool link`), `bpftool link detach`"
    )]
    Busy {
        /// The interface.
        name: String,
    },
    /// The interface is not attached.
    #[error("fernpass is not attached to {name}")]
    NotAttached {
        /// The interface.
        name: String,
    },
    /// The kernel refused.
    #[error("{what}: {reason}")]
    Kernel {
        /// What was tried.
        what: String,
        /// What the kernel said.
        reason: String,
    },
}

impl LoadError {
    /// A refusal, with its whole chain of causes.
    pub(crate) fn kernel(
        what: impl Into<String>,
        error: &(dyn std::error::Error + 'static),
    ) -> Self {
        let what = what.into();
        match os_error(error) {
            Some(libc::EPERM | libc::EACCES) if !rustix::process::geteuid().is_root() => {
                Self::Rights { what }
            }
            _ => Self::Kernel { what, reason: Chain(error).to_string() },
        }
    }
}

/// The errno at the bottom of an error.
pub(super) fn os_error(error: &(dyn std::error::Error + 'static)) -> Option<i32> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return io.raw_os_error();
        }
        next = error.source();
    }
    None
}

/// True for a line of a verifier log that says what verifying took, and for an empty one.
fn is_figure(line: &str) -> bool {
    let figures = ["processed ", "verification time ", "stack depth "];
    line.is_empty() || figures.iter().any(|figure| line.starts_with(figure))
}

/// An error and its causes, without what is said twice.
pub(super) struct Chain<'a>(pub(super) &'a (dyn std::error::Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said = String::new();
        let mut next = Some(self.0);
        while let Some(error) = next {
            let text = error.to_string();
            if !said.contains(&text) {
                if !said.is_empty() {
                    said += ": ";
                }
                // A verifier log says what is wrong at its end, before its figures.
                let mut lines = text.lines().map(str::trim).filter(|line| !is_figure(line));
                said += lines.next().unwrap_or_default();
                if let Some(last) = lines.next_back() {
                    said += " | ";
                    said += last;
                }
            }
            next = error.source();
        }
        f.write_str(&said)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Said(&'static str);

    #[test]
    fn a_verifier_log_is_told_by_its_first_line_and_what_is_wrong() {
        let log = "refused. Verifier output: 0: R1=ctx()\n1: (b7) r0 = 0\n2: (95) exit\n\
                   combined stack size of 3 calls is 528. Too large\n\
                   verification time 1 usec\nstack depth 288+104\nprocessed 3 insns\n";
        assert_eq!(
            Chain(&Said(log)).to_string(),
            "refused. Verifier output: 0: R1=ctx() | combined stack size of 3 calls is 528. Too large"
        );
        assert_eq!(Chain(&Said("one\ntwo")).to_string(), "one | two");
        assert_eq!(Chain(&Said("one")).to_string(), "one");
    }
}
