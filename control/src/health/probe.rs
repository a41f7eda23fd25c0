//! What a probe may find.

use std::fmt;
use std::io;
use std::time::Duration;

use rustix::io::Errno;

/// Why a probe brought no good result. The texts are for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The backend cannot be reached, or does not do what is expected of it.
    Backend(String),
    /// Nothing came from it in time.
    Late(String),
    /// The gateway lacks the means to probe: nothing is known.
    Gateway(String),
}

impl Failure {
    /// An error of a system call while probing something.
    pub(super) fn of(to: impl fmt::Display, error: &io::Error) -> Self {
        let text = format!("{to}: {error}");
        match Errno::from_io_error(error) {
            // EAGAIN and EADDRNOTAVAIL: all local ports are taken. EPERM and EACCES: a rule of the gateway's own firewall.
            Some(
                Errno::PERM
                | Errno::ACCESS
                | Errno::MFILE
                | Errno::NFILE
                | Errno::NOBUFS
                | Errno::NOMEM
                | Errno::AGAIN
                | Errno::ADDRNOTAVAIL,
            ) => Self::Gateway(text),
            _ => Self::Backend(text),
        }
    }

    /// Nothing came in time.
    pub(super) fn late(to: impl fmt::Display, what: &str, patience: Duration) -> Self {
        Self::Late(format!("{to}: no {what} within {}", humantime::format_duration(patience)))
    }

    /// Says what may be the reason, if nothing came.
    pub(super) fn if_late(self, why: impl FnOnce() -> String) -> Self {
        match self {
            Self::Late(text) => Self::Late(format!("{text}: {}", why())),
            other => other,
        }
    }

    /// Whether it says something about the backend.
    pub(super) const fn is_backends(&self) -> bool {
        matches!(self, Self::Backend(_) | Self::Late(_))
    }

    /// For people.
    pub(super) fn into_text(self) -> String {
        match self {
            Self::Backend(text) | Self::Late(text) | Self::Gateway(text) => text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_whose_fault_it_is() {
        let of = |errno: Errno| Failure::of("10.0.0.1", &io::Error::from(errno));
        for own in [Errno::MFILE, Errno::NOBUFS, Errno::AGAIN, Errno::PERM, Errno::ACCESS] {
            assert!(matches!(of(own), Failure::Gateway(_)), "{own}");
        }
        for theirs in [Errno::CONNREFUSED, Errno::NETUNREACH, Errno::HOSTUNREACH] {
            assert!(matches!(of(theirs), Failure::Backend(_)), "{theirs}");
        }
        let late = Failure::late("10.0.0.1", "reply", Duration::from_millis(500));
        assert!(late.is_backends());
        let late = late.if_late(|| "is it there?".to_owned());
        assert_eq!(late.into_text(), "10.0.0.1: no reply within 500ms: is it there?");
        let refused = of(Errno::CONNREFUSED);
        assert_eq!(refused.clone().if_late(|| "is it there?".to_owned()), refused);
    }
}
