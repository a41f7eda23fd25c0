//! A configuration that is taken back unless somebody confirms it.

use serde::{Deserialize, Serialize};

use super::wall_clock::time;
use crate::config::{Config, ConfigErrors};

/// A configuration on trial, or one that was taken back while its file still stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Trial {
    /// Text of the configuration that it goes back to.
    pub(super) before: String,
    /// Text of the one on trial, as the file had it.
    pub(super) tried: String,
    /// When it is taken back, in seconds since the epoch; `None` once it was.
    pub(super) until: Option<u64>,
}

/// What a daemon that starts goes by.
#[derive(Debug, PartialEq)]
pub(super) enum Start {
    /// The file; and the trial, if it goes on.
    File(Option<Trial>),
    /// The configuration before the file's, with its text.
    Before(Box<Config>, Trial),
    /// The file, although nobody has confirmed it, because the one before it cannot be used any more: why.
    Lost(String),
}

impl Trial {
    /// True if it can still be confirmed.
    pub(super) fn is_pending(&self) -> bool {
        self.until.is_some()
    }

    /// What to start with when this was kept and the file has this text. A file that was changed since is meant as it is.
    pub(super) fn start(self, file: &str, now: u64) -> Start {
        if file != self.tried {
            return Start::File(None);
        }
        if self.until.is_some_and(|until| now < until) {
            return Start::File(Some(self));
        }
        // Another version may not understand it, or a file that it names is gone; then this one is all there is.
        match self.config_before() {
            Ok(config) => Start::Before(Box::new(config), Self { until: None, ..self }),
            Err(e) => Start::Lost(e.0.render(false)),
        }
    }

    /// The configuration that it goes back to, with what the files that it names hold now.
    pub(super) fn config_before(&self) -> Result<Config, ConfigErrors> {
        Config::parse_with_files(&self.before, "the configuration before")
    }

    /// For `fernpass status`.
    pub(super) fn warning(&self) -> String {
        match self.until {
            Some(until) => format!(
                "the configuration is on trial until {}: `fernpass confirm` keeps it, `fernpass revert` takes it back",
                time(until)
            ),
            None => "the configuration file was not confirmed: the one before it is in force. Mend the file, and `fernpass reload`; \
                     `fernpass diff` shows the difference"
                .to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_in_the_middle_goes_on_and_one_afterwards_goes_back() {
        let before = include_str!("../../../docs/fernpass.toml");
        let tried = before.replace("12000", "13000");
        let trial = Trial { before: before.to_owned(), tried: tried.clone(), until: Some(100) };
        assert_eq!(trial.clone().start(&tried, 99), Start::File(Some(trial.clone())));
        let old = Box::new(Config::parse(before, "before").unwrap());
        let over = Trial { until: None, ..trial.clone() };
        for (kept, now) in [(&trial, 100), (&over, 5)] {
            assert_eq!(kept.clone().start(&tried, now), Start::Before(old.clone(), over.clone()));
        }
        // The file was mended.
        assert_eq!(trial.clone().start(before, 99), Start::File(None));
        assert_eq!(over.clone().start(before, 99), Start::File(None));
        // It is no configuration any more.
        let lost = Trial { before: "[gateway]".to_owned(), ..over };
        assert!(matches!(lost.start(&tried, 99), Start::Lost(why) if why.contains("interfaces")));
    }
}
