//! What operators said at run time, kept across restarts.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::trial::Trial;
use crate::model::Overrides;

/// The files of the overrides, and of a configuration on trial, in the state directory.
#[derive(Clone, Debug)]
pub(super) struct Store {
    file: PathBuf,
    trial: PathBuf,
}

/// The state cannot be kept.
#[derive(Debug, thiserror::Error)]
#[error("cannot keep state in {path}: {source}")]
pub struct StoreError {
    path: PathBuf,
    source: io::Error,
}

impl Store {
    /// The store in a directory, which is made if it is not there.
    pub(super) fn open(dir: &Path) -> Result<Self, StoreError> {
        fs::create_dir_all(dir).map_err(|source| StoreError { path: dir.to_owned(), source })?;
        Ok(Self { file: dir.join("overrides.json"), trial: dir.join("trial.json") })
    }

    /// What was kept. A file that cannot be understood is put aside, and the warning says so.
    pub(super) fn load(&self) -> Result<(Overrides, Option<String>), StoreError> {
        let text = match fs::read(&self.file) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Default::default()),
            Err(source) => return Err(self.failed(source)),
        };
        match serde_json::from_slice(&text) {
            Ok(overrides) => Ok((overrides, None)),
            Err(e) => {
                let aside = self.file.with_extension("json.bad");
                fs::rename(&self.file, &aside).map_err(|source| self.failed(source))?;
                let warning = format!(
                    "{} could not be understood ({e}) and is now {}: drains and weights set at run time are lost",
                    self.file.display(),
                    aside.display()
                );
                Ok((Overrides::default(), Some(warning)))
            }
        }
    }

    /// Replaces what was kept: all of it, or nothing.
    pub(super) fn save(&self, overrides: &Overrides) -> Result<(), StoreError> {
        replace(&self.file, overrides)
    }

    /// The configuration that was on trial. One that cannot be understood is none: then the file counts.
    pub(super) fn trial(&self) -> Option<Trial> {
        trial(&fs::read(&self.trial).ok()?)
    }

    /// Keeps the configuration on trial, or that there is none.
    pub(super) fn keep_trial(&self, trial: Option<&Trial>) -> Result<(), StoreError> {
        let Some(trial) = trial else {
            // A directory that is read-only refuses to remove what is not there, too.
            if !self.trial.exists() {
                return Ok(());
            }
            return match fs::remove_file(&self.trial) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    Err(StoreError { path: self.trial.clone(), source })
                }
                _ => Ok(()),
            };
        };
        replace(&self.trial, trial)
    }

    fn failed(&self, source: io::Error) -> StoreError {
        StoreError { path: self.file.clone(), source }
    }
}

/// The trial that a file's bytes tell of.
pub(super) fn trial(bytes: &[u8]) -> Option<Trial> {
    serde_json::from_slice(bytes).ok()
}

/// Replaces what a file holds: all of it, or nothing.
fn replace(path: &Path, what: &impl Serialize) -> Result<(), StoreError> {
    let new = path.with_extension("json.new");
    let write = || {
        let mut file = File::create(&new)?;
        serde_json::to_writer_pretty(&mut file, what)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    write().map_err(|source| StoreError { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::BackendId;
    use crate::model::Drain;

    #[test]
    fn keeps_overrides_and_puts_garbage_aside() {
        let dir = std::env::temp_dir().join(format!("fernpass-store-{}", std::process::id()));
        let store = Store::open(&dir).unwrap();
        assert_eq!(store.load().unwrap(), (Overrides::default(), None));

        let mut overrides = Overrides::default();
        overrides.drained.insert(
            BackendId::new("p", "wg-1"),
            Drain { deadline: Some(17), spread: 30, released: true },
        );
        overrides.weights.insert(BackendId::new("p", "wg-2"), 5);
        store.save(&overrides).unwrap();
        assert_eq!(store.load().unwrap(), (overrides, None));

        fs::write(dir.join("overrides.json"), "{\"drained\": 3}").unwrap();
        let (empty, warning) = store.load().unwrap();
        assert_eq!(empty, Overrides::default());
        assert!(warning.unwrap().contains("overrides.json.bad"));
        assert!(dir.join("overrides.json.bad").exists());
        fs::remove_dir_all(dir).unwrap();
    }
}
