//! What operators said at run time, kept across restarts.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::trial::Trial;
use crate::model::Overrides;

/// A disk that needs longer does not answer. The daemon's loop stands still for as long.
const PATIENCE: Duration = Duration::from_secs(3);
/// Nor one that needs longer at a start. Packets are forwarded meanwhile, if they were before.
const PATIENCE_AT_START: Duration = Duration::from_secs(15);

/// The files of the overrides, and of a configuration on trial, in the state directory.
#[derive(Clone, Debug)]
pub(super) struct Store {
    dir: PathBuf,
    overrides: Place,
    trial: Place,
    /// Which directory it was at the start: what a daemon may write to that gave up its rights.
    begun: Option<(u64, u64)>,
    disk: Arc<Disk>,
}

/// A file of the store.
#[derive(Clone, Debug)]
struct Place {
    path: PathBuf,
    known: Arc<Known>,
}

/// What is known of a file.
#[derive(Debug, Default)]
struct Known {
    /// It may be sound, but could not be read: it stays until somebody asks for something else to be kept.
    unread: AtomicBool,
    /// It may be another one than that which was to be kept last.
    stale: AtomicBool,
    /// What it says of when it was kept, if that was before the host was started last.
    boot: Mutex<Option<String>>,
}

/// What is known of the disk.
#[derive(Debug, Default)]
struct Disk {
    /// It was asked for something, and has not answered yet.
    busy: AtomicBool,
    /// It did not answer in time.
    late: AtomicBool,
    /// Configurations that were on trial by what the file holds, or may hold: what was given up may come to be there.
    tried: Mutex<Vec<String>>,
}

/// The state cannot be kept.
#[derive(Debug, thiserror::Error)]
#[error("cannot keep state in {path}: {source}")]
pub(super) struct StoreError {
    path: PathBuf,
    source: io::Error,
}

/// What a start finds.
#[derive(Debug, PartialEq)]
pub(super) struct Found<T> {
    pub(super) kept: Option<T>,
    /// It was kept before the host was started last, when its clock may have been another.
    pub(super) is_older: bool,
    /// Why it is lost, if it is.
    pub(super) warning: Option<String>,
}

/// As a file has it: with the kernel's name for the time from one start of the host to the next.
#[derive(Serialize, Deserialize)]
pub(super) struct Kept<T> {
    #[serde(default)]
    boot: String,
    #[serde(flatten)]
    pub(super) kept: T,
}

impl Store {
    /// The store in a directory, which is made if it is not there and can be made: [`Self::obstacle`] says why not.
    pub(super) fn open(dir: &Path) -> Self {
        let place = |name| Place { path: dir.join(name), known: Arc::default() };
        let mut store = Self {
            dir: dir.to_owned(),
            overrides: place("overrides.json"),
            trial: place("trial.json"),
            begun: None,
            disk: Arc::default(),
        };
        let made = dir.to_owned();
        let make = move || fs::create_dir_all(&made).and_then(|()| identity(&made));
        let begun = store.ask_for(PATIENCE_AT_START, dir, make);
        store.begun = begun.ok();
        store
    }

    /// The drains and weights that were kept.
    pub(super) fn load(&self) -> Found<Overrides> {
        let lost = "drains and weights set at run time are lost";
        let found = self.read::<Overrides>(&self.overrides, lost);
        let mut drained = found.kept.iter().flat_map(|kept| kept.drained.values());
        if drained.all(|drain| drain.deadline.is_none()) {
            *lock(&self.overrides.known.boot) = None;
        }
        found
    }

    /// The configuration that was on trial.
    pub(super) fn trial(&self) -> Found<Trial> {
        let lost = "if a configuration was on trial, it is not taken back";
        let found = self.read::<Trial>(&self.trial, lost);
        *lock(&self.disk.tried) = found.kept.iter().map(|trial| trial.tried.clone()).collect();
        found
    }

    /// What a file holds. One that cannot be understood is put aside where that is possible, and the warning says so, and what follows.
    fn read<T: DeserializeOwned + Send + 'static>(&self, from: &Place, lost: &str) -> Found<T> {
        let path = from.path.clone();
        let read = self.ask_for(PATIENCE_AT_START, &from.path, move || match fs::read(&path) {
            Ok(text) => Ok(parse::<T>(&text).map(Some).map_err(|e| {
                let aside = aside(&path);
                let now = match fs::rename(&path, &aside) {
                    Ok(()) => format!("is now {}", aside.display()),
                    Err(e) => format!("cannot be put aside ({e})"),
                };
                format!("could not be understood ({e}) and {now}")
            })),
            Err(e) if is_absent(&e) => Ok(Ok(None)),
            Err(e) => Err(e),
        });
        let why = match read {
            Ok(Ok(None)) => return Found { kept: None, is_older: false, warning: None },
            Ok(Ok(Some(Kept { boot: of, kept }))) => {
                let is_older = of != boot();
                *lock(&from.known.boot) = is_older.then_some(of);
                return Found { kept: Some(kept), is_older, warning: None };
            }
            Ok(Err(why)) => why,
            Err(StoreError { source, .. }) => {
                from.known.unread.store(true, Ordering::Relaxed);
                format!(
                    "could not be read ({source}), and stays until there is something else to keep"
                )
            }
        };
        let warning = Some(format!("{} {why}: {lost}", from.path.display()));
        Found { kept: None, is_older: false, warning }
    }

    /// Replaces the drains and weights that were kept: all of them, or none.
    pub(super) fn save(&self, overrides: &Overrides) -> Result<(), StoreError> {
        self.replace(&self.overrides, overrides)
    }

    /// Whether there may be other drains and weights, which could not be read.
    pub(super) fn has_others(&self) -> bool {
        self.overrides.known.unread.load(Ordering::Relaxed)
    }

    /// Keeps the configuration on trial, or that there is none.
    pub(super) fn keep_trial(&self, trial: Option<&Trial>) -> Result<(), StoreError> {
        let tried = trial.map(|trial| trial.tried.clone());
        lock(&self.disk.tried).extend(tried.clone());
        if trial.is_none_or(|trial| !trial.is_pending()) {
            // The next one is of its own time.
            *lock(&self.trial.known.boot) = None;
        }
        match trial {
            Some(trial) => self.replace(&self.trial, trial)?,
            None => {
                let (path, known) = (self.trial.path.clone(), Arc::clone(&self.trial.known));
                self.write(&self.trial, move || {
                    // A directory that is read-only refuses to remove what is not there, too.
                    match fs::exists(&path) {
                        Ok(false) => return Ok(()),
                        Err(e) if is_absent(&e) => return Ok(()),
                        _ => {}
                    }
                    if known.unread.load(Ordering::Relaxed) {
                        fs::rename(&path, aside(&path))?;
                        known.unread.store(false, Ordering::Relaxed);
                        return Ok(());
                    }
                    fs::remove_file(&path)
                })?;
            }
        }
        *lock(&self.disk.tried) = tried.into_iter().collect();
        Ok(())
    }

    /// The same, where nobody has asked for it: one that could not be read stays, as the next start may be able to.
    pub(super) fn keep_trial_again(&self, trial: Option<&Trial>) -> Result<(), StoreError> {
        if trial.is_none() && self.trial.known.unread.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.keep_trial(trial)
    }

    /// Whether a start that finds the file of the trial may take this configuration for the one that was on trial.
    pub(super) fn takes_for_tried(&self, text: &str) -> bool {
        lock(&self.disk.tried).iter().any(|tried| tried == text)
    }

    /// Why nothing can be kept, for `fernpass status`.
    pub(super) fn obstacle(&self) -> Option<String> {
        let (dir, path) = (self.dir.clone(), self.dir.join("overrides.json.try"));
        let begun = self.begun;
        let tried = self.ask(&self.dir, move || {
            fs::create_dir_all(&dir)?;
            let write = || {
                let mut file = File::create(&path)?;
                file.write_all(b"\n")?;
                file.sync_all()?;
                fs::remove_file(&path)
            };
            write().map_err(|e| match (e.kind(), identity(&dir)) {
                // Who gave up his rights has them for the directory that there was.
                (io::ErrorKind::PermissionDenied, Ok(there)) if Some(there) != begun => {
                    let why = "it was not there, or another one, when the daemon was started";
                    io::Error::other(format!("{e}; {why}: restart it"))
                }
                _ => e,
            })
        });
        let e = tried.err()?;
        Some(format!(
            "{e}: `drain`, `undrain`, `weight`, `apply --confirm` and `confirm` are refused; all else goes on"
        ))
    }

    /// True once after a disk that did not answer does so again.
    pub(super) fn answers_again(&self) -> bool {
        !self.disk.busy.load(Ordering::Acquire) && self.disk.late.swap(false, Ordering::Relaxed)
    }

    /// Whether a start may find something else than what was to be kept last.
    pub(super) fn is_stale(&self) -> bool {
        [&self.overrides, &self.trial].iter().any(|of| of.known.stale.load(Ordering::Relaxed))
    }

    /// Replaces what a file holds: all of it, or nothing.
    fn replace(&self, to: &Place, what: &impl Serialize) -> Result<(), StoreError> {
        let boot = lock(&to.known.boot).clone().unwrap_or_else(boot);
        let kept = Kept { boot, kept: what };
        let text = serde_json::to_vec_pretty(&kept)
            .map_err(|e| StoreError { path: to.path.clone(), source: e.into() })?;
        let (path, new) = (to.path.clone(), to.path.with_extension("json.new"));
        let known = Arc::clone(&to.known);
        self.write(to, move || {
            let mut file = File::create(&new)?;
            file.write_all(&text)?;
            file.write_all(b"\n")?;
            file.sync_all()?;
            if known.unread.load(Ordering::Relaxed) {
                match fs::rename(&path, aside(&path)) {
                    Err(e) if !is_absent(&e) => return Err(e),
                    _ => known.unread.store(false, Ordering::Relaxed),
                }
            }
            fs::rename(&new, path)
        })
    }

    /// Changes a file.
    fn write(
        &self,
        to: &Place,
        work: impl FnOnce() -> io::Result<()> + Send + 'static,
    ) -> Result<(), StoreError> {
        let done = self.ask(&to.path, work);
        to.known.stale.store(done.is_err(), Ordering::Relaxed);
        done
    }

    /// Lets a thread of its own do what may take for ever, so that nobody else has to wait that long, nor whoever ends the daemon.
    fn ask<T: Send + 'static>(
        &self,
        path: &Path,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.ask_for(PATIENCE, path, work)
    }

    fn ask_for<T: Send + 'static>(
        &self,
        patience: Duration,
        path: &Path,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
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
        match told.recv_timeout(patience) {
            Ok(done) => done.map_err(failed),
            Err(_) => {
                self.disk.late.store(true, Ordering::Relaxed);
                Err(silent())
            }
        }
    }
}

/// What a file of the store holds.
pub(super) fn parse<T: DeserializeOwned>(text: &[u8]) -> serde_json::Result<Kept<T>> {
    serde_json::from_slice(text)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The kernel's name for the time since the host was started (random(4)).
fn boot() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/random/boot_id");
    name.map(|name| name.trim().to_owned()).unwrap_or_default()
}

/// Which directory is at a path.
fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::metadata(path).map(|there| (there.dev(), there.ino()))
}

/// There is no such file.
fn is_absent(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Where a file goes that is of no use.
fn aside(path: &Path) -> PathBuf {
    path.with_extension("json.bad")
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use rustix::fs::{FileType, Mode};

    use super::*;
    use crate::config::BackendId;
    use crate::model::Drain;

    const NOTHING: Found<Overrides> = Found { kept: None, is_older: false, warning: None };

    fn found<T>(kept: T) -> Found<T> {
        Found { kept: Some(kept), is_older: false, warning: None }
    }

    /// A store in a directory of its own, which goes with it.
    struct Scratch(PathBuf, Store);

    impl Scratch {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("fernpass-{name}-{}", std::process::id()));
            let store = Store::open(&dir);
            Self(dir, store)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn keeps_overrides_and_puts_garbage_aside() {
        let Scratch(dir, store) = &Scratch::new("overrides");
        assert_eq!(store.load(), NOTHING);

        let mut overrides = Overrides::default();
        overrides.drained.insert(
            BackendId::new("p", "wg-1"),
            Drain { deadline: Some(17), spread: 30, released: true },
        );
        overrides.weights.insert(BackendId::new("p", "wg-2"), 5);
        store.save(&overrides).unwrap();
        assert_eq!(store.load(), found(overrides));

        fs::write(dir.join("overrides.json"), "{\"drained\": 3}").unwrap();
        let Found { kept, warning, .. } = store.load();
        assert_eq!(kept, None);
        assert!(warning.unwrap().contains("overrides.json.bad"));
        assert!(dir.join("overrides.json.bad").exists());
        assert_eq!(store.load(), NOTHING);
    }

    #[test]
    fn a_trial_that_is_cut_off_is_put_aside_and_told() {
        let Scratch(dir, store) = &Scratch::new("trial");
        assert_eq!(store.trial().kept, None);
        let trial = Trial { before: "a".to_owned(), tried: "b".to_owned(), until: Some(7) };
        store.keep_trial(Some(&trial)).unwrap();
        assert!(store.takes_for_tried("b") && !store.takes_for_tried("a"));
        assert_eq!(store.trial(), found(trial));

        let path = dir.join("trial.json");
        let text = fs::read(&path).unwrap();
        fs::write(&path, &text[..text.len() / 2]).unwrap();
        let Found { kept, warning, .. } = store.trial();
        let warning = warning.unwrap();
        assert!(kept.is_none() && warning.contains("trial.json.bad"), "{warning}");
        assert!(warning.contains("not taken back"), "{warning}");
        store.keep_trial(None).unwrap();
        assert_eq!(fs::read(dir.join("trial.json.bad")).unwrap().len(), text.len() / 2);
    }

    #[test]
    fn a_disk_that_does_not_answer_holds_nobody_up() {
        let Scratch(dir, store) = &Scratch::new("silent");
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
        assert!(store.is_stale());
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
        store.keep_trial(None).unwrap();
        store.save(&overrides(4)).unwrap();
        assert_eq!((store.load(), store.obstacle()), (found(overrides(4)), None));
        assert!(!store.is_stale());
    }

    #[test]
    fn what_cannot_be_read_stays_until_there_is_something_else() {
        let Scratch(dir, store) = &Scratch::new("unread");
        let (file, bad) = (dir.join("overrides.json"), dir.join("overrides.json.bad"));
        // Nobody reads a directory as a file, root neither.
        for name in ["overrides.json", "trial.json"] {
            fs::create_dir(dir.join(name)).unwrap();
        }
        let Found { kept, warning, .. } = store.load();
        assert_eq!(kept, None);
        assert!(warning.unwrap().contains("could not be read"));
        assert!(store.trial().warning.unwrap().contains("is not taken back"));
        store.keep_trial_again(None).unwrap();
        assert!(store.has_others() && file.is_dir() && !bad.exists());
        assert!(dir.join("trial.json").is_dir());
        store.keep_trial(None).unwrap();
        assert!(dir.join("trial.json.bad").is_dir() && !dir.join("trial.json").exists());
        store.save(&Overrides::default()).unwrap();
        assert!(file.is_file() && bad.is_dir());
        assert_eq!(store.load(), found(Overrides::default()));

        // It cannot be put aside: nothing is lost. Until somebody removes it.
        let Scratch(dir, store) = &Scratch::new("unreadable");
        let (file, bad) = (dir.join("overrides.json"), dir.join("overrides.json.bad"));
        fs::create_dir(&file).unwrap();
        fs::write(&bad, "").unwrap();
        assert!(store.load().warning.is_some());
        assert!(store.save(&Overrides::default()).is_err() && store.is_stale() && file.is_dir());
        fs::remove_dir(&file).unwrap();
        store.save(&Overrides::default()).unwrap();
        assert!(file.is_file() && !store.is_stale());
        fs::create_dir(dir.join("overrides.json.try")).unwrap();
        assert!(store.obstacle().unwrap().contains("cannot keep state in"));
    }

    #[test]
    fn what_was_kept_before_the_host_was_started_is_told_from_the_rest() {
        let Scratch(dir, store) = &Scratch::new("boot");
        store.save(&Overrides::default()).unwrap();
        assert!(!store.load().is_older);
        let path = dir.join("overrides.json");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace(&boot(), "of another day")).unwrap();
        assert!(store.load().is_older);
        // As long as it has deadlines it is older for the next daemon, too.
        let drain = Drain { deadline: Some(17), ..Drain::default() };
        let with = Overrides {
            drained: [(BackendId::new("p", "wg-1"), drain)].into(),
            ..Overrides::default()
        };
        store.save(&with).unwrap();
        assert!(!store.load().is_older);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replace(&boot(), "of another day")).unwrap();
        assert!(store.load().is_older);
        store.save(&with).unwrap();
        assert!(store.load().is_older);
        // As earlier versions wrote it.
        fs::write(&path, "{\"drained\": {}, \"weights\": {\"p/wg-2\": 5}}").unwrap();
        let Found { kept, is_older, .. } = store.load();
        assert_eq!((kept.unwrap().weights.len(), is_older), (1, true));
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_told_and_made_later() {
        let Scratch(dir, _) = &Scratch::new("later");
        let place = dir.join("state");
        fs::write(&place, "").unwrap();
        let store = Store::open(&place.join("fernpass"));
        assert_eq!((store.load(), store.trial().kept), (NOTHING, None));
        assert!(store.save(&Overrides::default()).is_err() && store.is_stale());
        let obstacle = store.obstacle().unwrap();
        for words in ["cannot keep state in", "drain", "confirm"] {
            assert!(obstacle.contains(words), "{obstacle}");
        }
        fs::remove_file(&place).unwrap();
        assert_eq!(store.obstacle(), None);
        store.save(&Overrides::default()).unwrap();
    }
}
