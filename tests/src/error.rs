//! What can go wrong in a lab.

use std::io;
use std::time::Duration;

/// A lab operation failed.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// This machine or this user cannot run a lab at all.
    #[error("the lab cannot run here: {0}")]
    Impossible(String),
    /// A system call or file operation failed.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
    /// A command ended with an error.
    #[error("`{command}` failed ({status}): {stderr}")]
    Command {
        /// The command line.
        command: String,
        /// Its exit status.
        status: String,
        /// What it wrote to standard error.
        stderr: String,
    },
    /// Something did not happen before its deadline.
    #[error("{what} did not happen within {after:?}")]
    Timeout {
        /// What was awaited.
        what: String,
        /// The deadline.
        after: Duration,
    },
    /// The gateway answered something that the lab does not understand.
    #[error("unexpected answer to `fernpass {command}`: {what}")]
    Answer {
        /// The arguments of the call.
        command: String,
        /// What is wrong with the answer.
        what: String,
    },
    /// A scenario met a state in which it cannot go on.
    #[error("{0}")]
    Scenario(String),
}

/// Result of a lab operation.
pub type Result<T, E = LabError> = std::result::Result<T, E>;

/// Says what was tried when an I/O operation fails.
pub(crate) trait Tried<T> {
    /// Turns the error into a [`LabError::Io`].
    fn tried(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<io::Error>> Tried<T> for Result<T, E> {
    fn tried(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| LabError::Io { what: what(), source: source.into() })
    }
}
