//! What operators said at run time, kept across restarts.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::trial::Trial;
use crate::model::Overrides;

/// The files of the overrides, and of a configuration on trial, in the state directory.
#[derive(Clone, Debug)]
pub(super) struct Store {
    file: PathBuf,
    trial: PathBuf,
    /// Somebody is trying whether it can be written to.
    asked: Arc<AtomicBool>,
}

/// A disk that needs longer does not answer.
const PATIENCE: Duration = Duration::from_secs(1);

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
        let (file, trial) = (dir.join("overrides.json"), dir.join("trial.json"));
        Ok(Self { file, trial, asked: Arc::default() })
    }

    /// What was kept, and a warning if that is lost.
    pub(super) fn load(&self) -> (Overrides, Option<String>) {
        let (kept, warning) = read(&self.file, "drains and weights set at run time are lost");
        (kept.unwrap_or_default(), warning)
    }

    /// Replaces what was kept: all of it, or nothing.
    pub(super) fn save(&self, overrides: &Overrides) -> Result<(), StoreError> {
        replace(&self.file, overrides)
    }

    /// The configuration that was on trial, and a warning if that is lost.
    pub(super) fn trial(&self) -> (Option<Trial>, Option<String>) {
        read(&self.trial, "if a configuration was on trial, it is not taken back")
    }

    /// Why nothing can be kept, for `fernpass status`. A disk that does not answer is waited for by a thread of its own, once.
    pub(super) async fn obstacle(&self) -> Option<String> {
        let silent =
            || Some(format!("cannot keep state in {}: the disk does not answer", self.dir()));
        if self.asked.swap(true, Ordering::Relaxed) {
            return silent();
        }
        let store = self.clone();
        let ask = tokio::task::spawn_blocking(move || {
            let found = store.try_writing();
            store.asked.store(false, Ordering::Relaxed);
            found
        });
        match tokio::time::timeout(PATIENCE, ask).await {
            Ok(found) => found.unwrap_or_default(),
            Err(_) => silent(),
        }
    }

    fn dir(&self) -> String {
        self.file.parent().unwrap_or(&self.file).display().to_string()
    }

    fn try_writing(&self) -> Option<String> {
        let path = self.file.with_extension("json.try");
        let write = || {
            File::create(&path)?.write_all(b"\n")?;
            fs::remove_file(&path)
        };
        let source = write().err()?;
        let dir = path.parent().unwrap_or(&path).to_owned();
        Some(format!(
            "{}: `drain`, `undrain`, `weight` and `apply --confirm` are refused; all else goes on",
            StoreError { path: dir, source }
        ))
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
}

/// What a file holds. One that cannot be read or understood is put aside where that is possible, and the warning says so, and
/// what follows.
fn read<T: DeserializeOwned>(path: &Path, lost: &str) -> (Option<T>, Option<String>) {
    let why = match fs::read(path) {
        Ok(text) => match serde_json::from_slice(&text) {
            Ok(kept) => return (Some(kept), None),
            Err(e) => format!("could not be understood ({e})"),
        },
        Err(e) if e.kind() == io::ErrorKind::NotFound => return (None, None),
        Err(e) => format!("could not be read ({e})"),
    };
    let aside = path.with_extension("json.bad");
    let now = match fs::rename(path, &aside) {
        Ok(()) => format!("is now {}", aside.display()),
        Err(e) => format!("cannot be put aside ({e})"),
    };
    (None, Some(format!("{} {why} and {now}: {lost}", path.display())))
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
    use rustix::fs::{FileType, Mode};

    use super::*;
    use crate::config::BackendId;
    use crate::model::Drain;

    /// A store in a directory of its own, which goes with it.
    struct Kept(PathBuf, Store);

    impl Kept {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("fernpass-{name}-{}", std::process::id()));
            let store = Store::open(&dir).unwrap();
            Self(dir, store)
        }
    }

    impl Drop for Kept {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn keeps_overrides_and_puts_garbage_aside() {
        let Kept(dir, store) = &Kept::new("overrides");
        assert_eq!(store.load(), (Overrides::default(), None));

        let mut overrides = Overrides::default();
        overrides.drained.insert(
            BackendId::new("p", "wg-1"),
            Drain { deadline: Some(17), spread: 30, released: true },
        );
        overrides.weights.insert(BackendId::new("p", "wg-2"), 5);
        store.save(&overrides).unwrap();
        assert_eq!(store.load(), (overrides, None));

        fs::write(dir.join("overrides.json"), "{\"drained\": 3}").unwrap();
        let (empty, warning) = store.load();
        assert_eq!(empty, Overrides::default());
        assert!(warning.unwrap().contains("overrides.json.bad"));
        assert!(dir.join("overrides.json.bad").exists());
        assert_eq!(store.load(), (Overrides::default(), None));
    }

    #[test]
    fn a_trial_that_is_cut_off_is_put_aside_and_told() {
        let Kept(dir, store) = &Kept::new("trial");
        assert_eq!(store.trial(), (None, None));
        let trial = Trial { before: "a".to_owned(), tried: "b".to_owned(), until: Some(7) };
        store.keep_trial(Some(&trial)).unwrap();
        assert_eq!(store.trial(), (Some(trial), None));

        let path = dir.join("trial.json");
        let text = fs::read(&path).unwrap();
        fs::write(&path, &text[..text.len() / 2]).unwrap();
        let (none, warning) = store.trial();
        let warning = warning.unwrap();
        assert!(none.is_none() && warning.contains("trial.json.bad"), "{warning}");
        assert!(warning.contains("not taken back"), "{warning}");
        store.keep_trial(None).unwrap();
        assert_eq!(fs::read(dir.join("trial.json.bad")).unwrap().len(), text.len() / 2);
    }

    #[tokio::test]
    async fn a_disk_that_does_not_answer_holds_nobody_up() {
        let Kept(dir, store) = &Kept::new("silent");
        // Who opens a pipe to write waits for somebody who reads.
        let silent = dir.join("overrides.json.try");
        rustix::fs::mknodat(rustix::fs::CWD, &silent, FileType::Fifo, Mode::RWXU, 0).unwrap();
        let obstacle = tokio::time::timeout(PATIENCE * 4, store.obstacle()).await.unwrap();
        assert!(obstacle.unwrap().contains("does not answer"));
        // Who asks again does not wait at all, and nobody waits twice.
        let obstacle = tokio::time::timeout(PATIENCE / 2, store.obstacle()).await.unwrap();
        assert!(obstacle.unwrap().contains("does not answer"));
        // It answers again.
        assert_eq!(tokio::fs::read(&silent).await.unwrap(), b"\n");
        while store.obstacle().await.is_some() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(!silent.exists());
    }

    #[test]
    fn what_cannot_be_read_nor_put_aside_stops_nobody() {
        let Kept(dir, store) = &Kept::new("unreadable");
        assert_eq!(store.try_writing(), None);
        fs::create_dir(dir.join("overrides.json")).unwrap();
        // A file cannot be replaced by a directory.
        fs::write(dir.join("overrides.json.bad"), "").unwrap();
        let (none, warning) = store.load();
        let warning = warning.unwrap();
        assert_eq!(none, Overrides::default());
        for words in ["could not be read", "cannot be put aside"] {
            assert!(warning.contains(words), "{warning}");
        }
        fs::create_dir(dir.join("overrides.json.try")).unwrap();
        let obstacle = store.try_writing().unwrap();
        assert!(
            obstacle.contains("cannot keep state in") && obstacle.contains("drain"),
            "{obstacle}"
        );
    }
}
