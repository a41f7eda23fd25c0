//! From text to a configuration, and back.

use std::path::{Path, PathBuf};

use toml::de::DeTable;

use super::finding::Findings;
use super::{Config, ConfigErrors, Report, check, sections};

/// A configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It cannot be read.
    #[error("cannot read {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// There are mistakes in it.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
}

impl Config {
    /// Reads and checks a configuration. `file` is its name in messages.
    ///
    /// # Errors
    /// Every mistake at once, and the warnings.
    pub fn parse(text: &str, file: &str) -> Result<Self, ConfigErrors> {
        match Self::examine(text, file) {
            (Some(config), _) => Ok(config),
            (None, report) => Err(ConfigErrors(report)),
        }
    }

    /// Reads and checks a configuration file.
    ///
    /// # Errors
    /// It cannot be read, or there are mistakes in it.
    pub fn load(path: &Path) -> Result<Self, ReadError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ReadError::File { path: path.to_owned(), source })?;
        Ok(Self::parse(&text, &path.display().to_string())?)
    }

    /// Like [`Config::parse`], but returns the warnings also where there are no
    /// mistakes. There is a configuration if and only if the report has no errors.
    pub fn examine(text: &str, file: &str) -> (Option<Self>, Report) {
        Self::find(text, file, Findings::default())
    }

    /// The same for a configuration that is to be used on this machine: the files that it names are read,
    /// and what is wrong with them is among the findings.
    pub fn examine_with_files(text: &str, file: &str) -> (Option<Self>, Report) {
        Self::find(text, file, Findings::with_files())
    }

    /// Like [`Config::parse`], with the files that it names.
    ///
    /// # Errors
    /// Every mistake at once, and the warnings.
    pub fn parse_with_files(text: &str, file: &str) -> Result<Self, ConfigErrors> {
        match Self::examine_with_files(text, file) {
            (Some(config), _) => Ok(config),
            (None, report) => Err(ConfigErrors(report)),
        }
    }

    fn find(text: &str, file: &str, mut findings: Findings) -> (Option<Self>, Report) {
        let (root, syntax) = DeTable::parse_recoverable(text);
        for error in &syntax {
            let finding = findings.error(error.span().unwrap_or(0..0), error.message());
            // All others say what is expected.
            if error.message() == "duplicate key" {
                finding.help("it is said before, too: remove one of the two");
            }
        }
        let draft = sections::read(root.get_ref(), &mut findings);
        check::check(&draft, &mut findings);
        let report = findings.report(file, text, !syntax.is_empty());
        let config = if report.has_errors() { None } else { draft.finish() };
        (config, report)
    }

    /// The configuration as a file, with every default written out. It reads back the same.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a configuration has only values that TOML has")
    }
}
