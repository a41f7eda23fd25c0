//! A configuration that is taken back unless somebody confirms it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::time::time;
use crate::clock::{Clock, Moment};
use crate::config::{Config, ConfigErrors};

/// A configuration on trial, or one that was taken back while its file still stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Trial {
    /// Text of the configuration that it goes back to.
    pub(super) before: String,
    /// Text of the one on trial, as the file had it.
    pub(super) tried: String,
    /// When it is taken back; `None` once it was.
    pub(super) until: Option<Moment>,
}

/// What a daemon that starts goes by.
#[derive(Debug, PartialEq)]
pub(super) enum Start {
    /// The file; and the trial, if it goes on.
    File(Option<Trial>),
    /// The configuration before the file's.
    Before(Trial),
}

impl Trial {
    /// True if it can still be confirmed.
    pub(super) fn is_pending(&self) -> bool {
        self.until.is_some()
    }

    /// What to start with when this was kept and the file has this text. A file that was changed since is meant as it is.
    pub(super) fn start(self, file: &str, now: &Clock) -> Start {
        if file != self.tried {
            return Start::File(None);
        }
        if self.until.is_some_and(|until| until.passed(now).is_none()) {
            return Start::File(Some(self));
        }
        Start::Before(Self { until: None, ..self })
    }

    /// The same where it cannot be taken back yet: that is due.
    pub(super) fn due(self, now: &Clock) -> Self {
        Self { until: Some(Moment::after(now, Duration::ZERO)), ..self }
    }

    /// The configuration that it goes back to, with what the files that it names hold now.
    pub(super) fn config_before(&self) -> Result<Config, ConfigErrors> {
        Config::parse_with_files(&self.before, "the configuration before")
    }

    /// For `fernpass status`.
    pub(super) fn warning(&self, now: &Clock) -> String {
        match self.until {
            Some(until) => format!(
                "the configuration is on trial until {}: `fernpass confirm` keeps it, `fernpass revert` takes it back",
                time(until.wall(now))
            ),
            None => "the configuration file was not confirmed: the one before it is in force. Mend the file, and `fernpass reload`; \
                     `fernpass diff` shows the difference"
                .to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn a_start_in_the_middle_goes_on_and_one_afterwards_goes_back() {
        let at = |seconds: u64| Clock { monotonic: seconds * 1_000_000_000, wall: UNIX_EPOCH };
        let (before, tried) = ("a", "b");
        let until = Some(Moment::after(&at(0), Duration::from_secs(100)));
        let trial = Trial { before: before.to_owned(), tried: tried.to_owned(), until };
        assert_eq!(trial.clone().start(tried, &at(99)), Start::File(Some(trial.clone())));
        let over = Trial { until: None, ..trial.clone() };
        for (kept, now) in [(&trial, 100), (&over, 5)] {
            assert_eq!(kept.clone().start(tried, &at(now)), Start::Before(over.clone()));
        }
        let due = over.clone().due(&at(7));
        assert!(due.is_pending());
        assert_eq!(due.start(tried, &at(7)), Start::Before(over.clone()));
        // The file was mended.
        assert_eq!(trial.start(before, &at(99)), Start::File(None));
        assert_eq!(over.start(before, &at(99)), Start::File(None));
    }
}
