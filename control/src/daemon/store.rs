//! What operators said at run time, kept across restarts.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread;
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
    disk: Arc<Disk>,
}

/// What is known of the disk.
#[derive(Debug, Default)]
struct Disk {
    /// It was asked for something, and has not answered yet.
    busy: AtomicBool,
    /// It did not answer in time: what was given up may come to be there nevertheless.
    late: AtomicBool,
    /// The overrides are there, and could not be read.
    unread: AtomicBool,
}

/// A disk that needs longer does not answer. The daemon's loop stands still for as long.
const PATIENCE: Duration = Duration::from_secs(3);

/// The state cannot be kept.
#[derive(Debug, thiserror::Error)]
#[error("cannot keep state in {path}: {source}")]
pub(super) struct StoreError {
    path: PathBuf,
    source: io::Error,
}

impl Store {
    /// The store in a directory, which is made if it is not there and can be made: [`Self::obstacle`] says why not.
    pub(super) fn open(dir: &Path) -> Self {
        let _ = fs::create_dir_all(dir);
        let (file, trial) = (dir.join("overrides.json"), dir.join("trial.json"));
        Self { file, trial, disk: Arc::default() }
    }

    /// What was kept, and a warning if that is lost.
    pub(super) fn load(&self) -> (Overrides, Option<String>) {
        let lost = "drains and weights set at run time are lost";
        // It may be sound, and the next start may read it.
        if let Err(e) = fs::read(&self.file)
            && !is_absent(&e)
        {
            self.disk.unread.store(true, Ordering::Relaxed);
            let path = self.file.display();
            let warning = format!(
                "{path} could not be read ({e}): {lost}, unless the next start can read it. It is put aside when there is something else to keep"
            );
            return (Overrides::default(), Some(warning));
        }
        let (kept, warning) = read(&self.file, lost);
        (kept.unwrap_or_default(), warning)
    }

    /// Replaces what was kept: all of it, or nothing.
    pub(super) fn save(&self, overrides: &Overrides) -> Result<(), StoreError> {
        if self.disk.unread.load(Ordering::Relaxed) {
            let file = self.file.clone();
            self.ask(&self.file, move || fs::rename(&file, aside(&file)))?;
            self.disk.unread.store(false, Ordering::Relaxed);
        }
        self.replace(&self.file, overrides)
    }

    /// The configuration that was on trial, and a warning if that is lost.
    pub(super) fn trial(&self) -> (Option<Trial>, Option<String>) {
        read(&self.trial, "if a configuration was on trial, it is not taken back")
    }

    /// Keeps the configuration on trial, or that there is none.
    pub(super) fn keep_trial(&self, trial: Option<&Trial>) -> Result<(), StoreError> {
        let Some(trial) = trial else {
            let path = self.trial.clone();
            // A directory that is read-only refuses to remove what is not there, too.
            return self.ask(&self.trial, move || match fs::exists(&path) {
                Ok(false) => Ok(()),
                _ => fs::remove_file(&path),
            });
        };
        self.replace(&self.trial, trial)
    }

    /// Why nothing can be kept, for `fernpass status`.
    pub(super) fn obstacle(&self) -> Option<String> {
        let path = self.file.with_extension("json.try");
        let dir = path.parent().unwrap_or(&path).to_owned();
        let to = dir.clone();
        let tried = self.ask(&dir, move || {
            fs::create_dir_all(&to)?;
            let mut file = File::create(&path)?;
            file.write_all(b"\n")?;
            file.sync_all()?;
            fs::remove_file(&path)
        });
        let e = tried.err()?;
        Some(format!(
            "{e}: `drain`, `undrain`, `weight`, `apply --confirm` and `confirm` are refused; all else goes on"
        ))
    }

    /// True once after a disk that did not answer does so again: what was refused meanwhile may be on it.
    pub(super) fn answers_again(&self) -> bool {
        !self.disk.busy.load(Ordering::Acquire) && self.disk.late.swap(false, Ordering::Relaxed)
    }

    /// Replaces what a file holds: all of it, or nothing.
    fn replace(&self, path: &Path, what: &impl Serialize) -> Result<(), StoreError> {
        let failed =
            |source: serde_json::Error| StoreError { path: path.to_owned(), source: source.into() };
        let mut text = serde_json::to_vec_pretty(what).map_err(failed)?;
        text.push(b'\n');
        let (path, new) = (path.to_owned(), path.with_extension("json.new"));
        self.ask(&path.clone(), move || {
            let mut file = File::create(&new)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&new, path)
        })
    }

    /// Lets a thread of its own do what may take for ever, so that nobody else has to wait that long, nor whoever ends the daemon.
    fn ask(
        &self,
        path: &Path,
        work: impl FnOnce() -> io::Result<()> + Send + 'static,
    ) -> Result<(), StoreError> {
        let failed = |source| StoreError { path: path.to_owned(), source };
        let silent = || failed(io::Error::other("the disk does not answer"));
        if self.disk.busy.swap(true, Ordering::Acquire) {
            return Err(silent());
        }
        let disk = Arc::clone(&self.disk);
        let (tell, told) = sync_channel(1);
        let asked = thread::Builder::new().name("disk".to_owned()).spawn(move || {
            let done = work();
            disk.busy.store(false, Ordering::Release);
            // Who asked may have given up.
            let _ = tell.send(done);
        });
        if let Err(e) = asked {
            self.disk.busy.store(false, Ordering::Release);
            return Err(failed(e));
        }
        match told.recv_timeout(PATIENCE) {
            Ok(done) => done.map_err(failed),
            Err(_) => {
                self.disk.late.store(true, Ordering::Relaxed);
                Err(silent())
            }
        }
    }
}

/// There is no such file.
fn is_absent(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Where a file goes that is of no use.
fn aside(path: &Path) -> PathBuf {
    path.with_extension("json.bad")
}

/// What a file holds. One that cannot be read or understood is put aside where that is possible, and the warning says so, and
/// what follows.
fn read<T: DeserializeOwned>(path: &Path, lost: &str) -> (Option<T>, Option<String>) {
    let why = match fs::read(path) {
        Ok(text) => match serde_json::from_slice(&text) {
            Ok(kept) => return (Some(kept), None),
            Err(e) => format!("could not be understood ({e})"),
        },
        Err(e) if is_absent(&e) => return (None, None),
        Err(e) => format!("could not be read ({e})"),
    };
    let aside = aside(path);
    let now = match fs::rename(path, &aside) {
        Ok(()) => format!("is now {}", aside.display()),
        Err(e) => format!("cannot be put aside ({e})"),
    };
    (None, Some(format!("{} {why} and {now}: {lost}", path.display())))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use rustix::fs::{FileType, Mode};

    use super::*;
    use crate::config::BackendId;
    use crate::model::Drain;

    /// A store in a directory of its own, which goes with it.
    struct Kept(PathBuf, Store);

    impl Kept {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("fernpass-{name}-{}", std::process::id()));
            let store = Store::open(&dir);
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

    #[test]
    fn a_disk_that_does_not_answer_holds_nobody_up() {
        let Kept(dir, store) = &Kept::new("silent");
        // Who opens a pipe to write waits for somebody who reads.
        let pipe = dir.join("overrides.json.new");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, FileType::Fifo, Mode::RWXU, 0).unwrap();
        let overrides = |weight| Overrides {
            weights: [(BackendId::new("p", "wg-1"), weight)].into(),
            ..Overrides::default()
        };
        let begun = Instant::now();
        let refused = store.save(&overrides(2)).unwrap_err().to_string();
        assert!(refused.contains("does not answer"), "{refused}");
        assert!(begun.elapsed() < PATIENCE * 3 && !store.answers_again());
        // Who asks again does not wait at all.
        let begun = Instant::now();
        assert!(store.keep_trial(None).is_err() && store.save(&overrides(3)).is_err());
        assert!(store.obstacle().unwrap().contains("does not answer"));
        assert!(begun.elapsed() < PATIENCE / 2);

        // It answers: what was given up may be there, and is to be written anew, once.
        let written = fs::read_to_string(&pipe).unwrap();
        assert!(written.contains('2'), "{written}");
        fs::remove_file(&pipe).unwrap();
        while !store.answers_again() {
            thread::sleep(Duration::from_millis(5));
        }
        assert!(!store.answers_again());
        store.save(&overrides(4)).unwrap();
        assert_eq!((store.load(), store.obstacle()), ((overrides(4), None), None));
    }

    #[test]
    fn overrides_that_cannot_be_read_stay_until_there_are_others() {
        let Kept(dir, store) = &Kept::new("unread");
        let (file, bad) = (dir.join("overrides.json"), dir.join("overrides.json.bad"));
        // Nobody reads a directory as a file, root neither.
        fs::create_dir(&file).unwrap();
        let (none, warning) = store.load();
        assert_eq!(none, Overrides::default());
        assert!(warning.unwrap().contains("could not be read"));
        assert!(file.is_dir() && !bad.exists());
        store.save(&Overrides::default()).unwrap();
        assert!(file.is_file() && bad.is_dir());
        assert_eq!(store.load(), (Overrides::default(), None));
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_told_and_made_later() {
        let Kept(dir, _) = &Kept::new("later");
        let place = dir.join("state");
        fs::write(&place, "").unwrap();
        let store = Store::open(&place.join("fernpass"));
        assert_eq!((store.load().0, store.trial().0), (Overrides::default(), None));
        assert!(store.save(&Overrides::default()).is_err());
        let obstacle = store.obstacle().unwrap();
        for words in ["cannot keep state in", "drain", "confirm"] {
            assert!(obstacle.contains(words), "{obstacle}");
        }
        fs::remove_file(&place).unwrap();
        assert_eq!(store.obstacle(), None);
        store.save(&Overrides::default()).unwrap();
    }

    #[test]
    fn what_cannot_be_read_nor_put_aside_stops_nobody() {
        let Kept(dir, store) = &Kept::new("unreadable");
        for name in ["overrides.json", "trial.json"] {
            fs::create_dir(dir.join(name)).unwrap();
            // A file cannot be replaced by a directory.
            fs::write(dir.join(format!("{name}.bad")), "").unwrap();
        }
        let (none, warning) = store.load();
        let warning = warning.unwrap();
        assert_eq!(none, Overrides::default());
        assert!(warning.contains("could not be read"), "{warning}");
        assert!(store.save(&none).is_err(), "nothing is lost");
        let (none, warning) = store.trial();
        let warning = warning.unwrap();
        assert!(none.is_none() && warning.contains("cannot be put aside"), "{warning}");
        fs::create_dir(dir.join("overrides.json.try")).unwrap();
        assert!(store.obstacle().unwrap().contains("cannot keep state in"));
    }
}
