//! What operators said at run time, kept across restarts: the files of the state directory.
//!
//! * `slot`: one file, what it is to hold, and what it may hold.
//! * `disk`: what is done to files.
//!
//! A disk may take for ever. So a thread of its own does what is to be done, one thing after the other, and of what is asked for only the
//! newest; who has to know waits for a moment.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use self::slot::{Answer, Job, Slot};
use super::trial::Trial;
use crate::model::Overrides;

mod disk;
mod slot;

/// A disk that needs longer for one thing does not answer. The daemon's loop stands still for as long, and as long again for what is read first.
const PATIENCE: Duration = Duration::from_secs(3);
/// Nor one that needs longer at a start. Packets are forwarded meanwhile, if they were before.
const PATIENCE_AT_START: Duration = Duration::from_secs(15);

/// How often it is tried again what failed.
const AGAIN: Duration = Duration::from_secs(60);

const OVERRIDES_LOST: &str = "drains and weights set at run time are lost";
const TRIAL_LOST: &str = "if a configuration was on trial, it is not taken back";

/// The files of the overrides, and of a configuration on trial, in the state directory.
#[derive(Debug)]
pub(super) struct Store(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    files: Mutex<Files>,
    /// Something was done.
    done: Condvar,
}

#[derive(Debug)]
struct Files {
    trial: Slot<Trial>,
    overrides: Slot<Overrides>,
    /// Since when the disk has been at what it does now.
    at_work: Option<Instant>,
    /// Which directory it was when the daemon began, if there was one: what it may write to when it has given up its rights.
    place: Option<Option<disk::Identity>>,
    /// Nothing is written before the place is the daemon's own.
    may_write: bool,
    /// It is to be found out whether anything can be written.
    probe_is_due: bool,
    /// Why nothing can be.
    trouble: Option<String>,
    /// It did not answer in time; until it does.
    is_slow: bool,
    /// When what failed is tried again.
    retry_at: Instant,
    /// What was lost, until somebody takes it.
    lost: Vec<String>,
    /// Whether the daemon has begun: a thread that was there before it gave up its rights does nothing more.
    has_begun: bool,
}

/// The state cannot be kept.
#[derive(Debug, thiserror::Error)]
#[error("cannot keep state in {path}: {why}")]
pub(super) struct StoreError {
    path: PathBuf,
    why: String,
}

/// What was kept, as far as it could be read by now.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Found {
    pub(super) trial: Option<Trial>,
    pub(super) overrides: Option<Overrides>,
}

/// Which of the files.
type Of<T> = fn(&mut Files) -> &mut Slot<T>;

const TRIAL: Of<Trial> = |files| &mut files.trial;
const OVERRIDES: Of<Overrides> = |files| &mut files.overrides;

impl Store {
    /// The store in a directory. What is there is read, and nothing is changed.
    pub(super) fn open(dir: &Path) -> Self {
        let store = Self::of(dir);
        store.start_and_wait();
        store
    }

    fn of(dir: &Path) -> Self {
        let files = Files {
            trial: Slot::new(dir.join("trial.json"), TRIAL_LOST),
            overrides: Slot::new(dir.join("overrides.json"), OVERRIDES_LOST),
            at_work: None,
            place: None,
            may_write: false,
            probe_is_due: false,
            trouble: None,
            is_slow: false,
            retry_at: Instant::now() + AGAIN,
            lost: Vec::new(),
            has_begun: false,
        };
        Self(Arc::new(Shared {
            dir: dir.to_owned(),
            files: Mutex::new(files),
            done: Condvar::new(),
        }))
    }

    /// Takes the directory, which is made if it is not there and can be made; what nobody can understand is put aside.
    pub(super) fn begin(&self) {
        {
            let mut files = self.0.lock();
            (files.may_write, files.probe_is_due) = (true, true);
        }
        self.start_and_wait();
        let mut files = self.0.lock();
        files.has_begun = true;
        // One that could not be found yet is another one.
        files.place.get_or_insert(None);
    }

    fn start_and_wait(&self) {
        let files = self.0.lock();
        // It had its time.
        if files.is_late(PATIENCE_AT_START) {
            return;
        }
        let files = self.start(files);
        let is_at_work = |files: &mut Files| files.at_work.is_some();
        let waited = self.0.done.wait_timeout_while(files, PATIENCE_AT_START, is_at_work);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// Goes on with what is to be done, if nobody does, and tries again from time to time what failed.
    pub(super) fn tend(&self) {
        let files = self.0.lock();
        if Instant::now() >= files.retry_at {
            drop(files);
            self.retry();
        } else {
            drop(self.start(files));
        }
    }

    /// Whether there was a directory when the daemon began.
    pub(super) fn has_place(&self) -> bool {
        self.0.lock().place.flatten().is_some()
    }

    /// What was found since this was asked last, of what nobody has asked to be otherwise.
    pub(super) fn found(&self) -> Found {
        let mut files = self.0.lock();
        Found { trial: files.trial.take_news(), overrides: files.overrides.take_news() }
    }

    /// What was lost, since this was asked last.
    pub(super) fn lost(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().lost)
    }

    /// Keeps other drains and weights: all of them, or none. Those that hold now stay if these cannot be kept.
    pub(super) fn keep_overrides(
        &self,
        overrides: &Overrides,
        now: &Overrides,
    ) -> Result<(), StoreError> {
        self.keep(OVERRIDES, Some(overrides.clone()), Some(now.clone()))
    }

    /// Keeps the drains and weights that hold, as soon as that is possible: why not now.
    pub(super) fn note_overrides(&self, overrides: &Overrides) -> Result<(), StoreError> {
        // What could not be read is worth more than nothing.
        if *overrides == Overrides::default() && self.0.lock().overrides.may_be_news() {
            return Ok(());
        }
        self.note(OVERRIDES, Some(overrides.clone()))
    }

    /// Keeps another configuration on trial, or that there is none. What is so now stays if that cannot be kept.
    pub(super) fn keep_trial(
        &self,
        trial: Option<&Trial>,
        now: Option<&Trial>,
    ) -> Result<(), StoreError> {
        self.keep(TRIAL, trial.cloned(), now.cloned())
    }

    /// Keeps the configuration that is on trial, or that there is none, as soon as that is possible: why not now.
    pub(super) fn note_trial(&self, trial: Option<&Trial>) -> Result<(), StoreError> {
        // Nobody has said so of one of which nobody knows yet.
        if trial.is_none() && self.0.lock().trial.may_be_news() {
            return Ok(());
        }
        self.note(TRIAL, trial.cloned())
    }

    /// Whether there may be other drains and weights, which could not be read.
    pub(super) fn has_unread_overrides(&self) -> bool {
        self.0.lock().overrides.is_unread()
    }

    /// Whether there may be a configuration on trial of which nobody could read.
    pub(super) fn has_unread_trial(&self) -> bool {
        self.0.lock().trial.is_unread()
    }

    /// Whether a start that finds the file of the trial may take this configuration for the one that was on trial.
    pub(super) fn takes_for_tried(&self, text: &str) -> bool {
        self.0.lock().trial.may_hold(|trial| trial.tried == text)
    }

    /// Tries again what failed, and whether anything can be written.
    pub(super) fn retry(&self) {
        let mut files = self.0.lock();
        files.trial.retry();
        files.overrides.retry();
        files.probe_is_due = true;
        files.retry_at = Instant::now() + AGAIN;
        drop(self.start(files));
    }

    /// The same, and waits for how it goes.
    pub(super) fn retry_now(&self) {
        self.retry();
        let is_at_work = |files: &mut Files| files.at_work.is_some() && !files.is_late(PATIENCE);
        let waited = self.0.done.wait_timeout_while(self.0.lock(), PATIENCE, is_at_work);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// What is to be known, for `fernpass status`.
    pub(super) fn warnings(&self) -> Vec<String> {
        let files = self.0.lock();
        let unread = [files.trial.warning(), files.overrides.warning()];
        let is_silent = files.is_slow || files.is_late(PATIENCE);
        let why = if is_silent { Some(SILENT) } else { files.trouble.as_deref() };
        let obstacle = why.map(|why| {
            let path = self.0.dir.clone();
            let e = StoreError { path, why: why.to_owned() };
            format!(
                "{e}: `drain`, `undrain`, `weight`, `apply --confirm` and `confirm` are refused; all else goes on"
            )
        });
        let stale = (files.trial.is_stale() || files.overrides.is_stale()).then(|| {
            "what the next start goes by is not what holds now, and could not be written: it is tried again each minute".to_owned()
        });
        unread.into_iter().flatten().chain(obstacle.or(stale)).collect()
    }

    fn keep<T: Text>(&self, of: Of<T>, what: Option<T>, now: Option<T>) -> Result<(), StoreError> {
        let mut files = self.0.lock();
        let path = of(&mut files).path().to_owned();
        let refused = |why| Err(StoreError { path, why });
        // What is read may be worth more.
        files = self.start(files);
        let read = self.0.done.wait_timeout_while(files, PATIENCE, |files| {
            of(files).is_to_be_read() && !files.is_late(PATIENCE)
        });
        files = read.unwrap_or_else(PoisonError::into_inner).0;
        if files.is_late(PATIENCE) || of(&mut files).is_to_be_read() {
            return refused(SILENT.to_owned());
        }
        if of(&mut files).has_news() {
            return refused("what was kept there before was read only now; ask again".to_owned());
        }
        let before = of(&mut files).wanted();
        let demand = of(&mut files).want(what);
        let (mut files, answer) = self.answer(files, of, demand);
        let why = match answer {
            Answer::Kept => return Ok(()),
            Answer::Refused(why) => why,
        };
        of(&mut files).take_back(before, now);
        drop(self.start(files));
        refused(why)
    }

    fn note<T: Text>(&self, of: Of<T>, what: Option<T>) -> Result<(), StoreError> {
        let mut files = self.0.lock();
        let path = of(&mut files).path().to_owned();
        let demand = of(&mut files).want(what);
        match self.answer(files, of, demand).1 {
            Answer::Kept => Ok(()),
            Answer::Refused(why) => Err(StoreError { path, why }),
        }
    }

    /// Waits until a demand is fulfilled, or refused.
    fn answer<'a, T: Text>(
        &'a self,
        mut files: MutexGuard<'a, Files>,
        of: Of<T>,
        demand: u64,
    ) -> (MutexGuard<'a, Files>, Answer) {
        let until = Instant::now() + PATIENCE;
        loop {
            // The thread that was at work may have had to stop.
            files = self.start(files);
            if let Some(answer) = of(&mut files).answer(demand) {
                return (files, answer);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || files.is_late(PATIENCE) || files.at_work.is_none() {
                return (files, Answer::Refused(SILENT.to_owned()));
            }
            let waited = self.0.done.wait_timeout(files, left);
            files = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Lets what is to be done be done.
    fn start<'a>(&'a self, mut files: MutexGuard<'a, Files>) -> MutexGuard<'a, Files> {
        if files.at_work.is_none() && files.is_due() {
            let (shared, is_late) = (Arc::clone(&self.0), files.has_begun);
            let work = move || while shared.work(is_late) {};
            match thread::Builder::new().name("disk".to_owned()).spawn(work) {
                Ok(_) => files.at_work = Some(Instant::now()),
                Err(e) => files.trouble = Some(e.to_string()),
            }
        }
        files
    }
}

/// Why a demand is refused that may still be fulfilled.
const SILENT: &str = "the disk does not answer";

/// What a file holds.
trait Text: Clone + PartialEq + Serialize + DeserializeOwned {}

impl<T: Clone + PartialEq + Serialize + DeserializeOwned> Text for T {}

impl Files {
    fn is_due(&self) -> bool {
        let may_write = self.may_write;
        self.trial.is_due(may_write)
            || self.overrides.is_due(may_write)
            || (may_write && self.probe_is_due)
    }

    /// Takes note of a disk that was too long at what it has just done: only what takes no time shows that it is as it should be.
    fn heed_pace(&mut self) {
        if self.is_late(PATIENCE) && !self.is_slow {
            (self.is_slow, self.probe_is_due) = (true, true);
        }
    }

    /// Whether the disk has been at one thing for so long.
    fn is_late(&self, patience: Duration) -> bool {
        self.at_work.is_some_and(|since| since.elapsed() >= patience)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Files> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does one thing of what is due: true if there may be more. A thread may do it that `is_late` enough to have the daemon's rights alone, or as
    /// long as the daemon has not begun.
    fn work(&self, is_late: bool) -> bool {
        let _ = self.tend(TRIAL) || self.tend(OVERRIDES) || self.probe(is_late);
        let mut files = self.lock();
        files.heed_pace();
        let goes_on = files.is_due() && files.has_begun == is_late;
        files.at_work = goes_on.then(Instant::now);
        self.done.notify_all();
        goes_on
    }

    /// Does what is due with one of the files: true if there was anything.
    fn tend<T: Text>(&self, of: Of<T>) -> bool {
        let (path, job, place) = {
            let mut files = self.lock();
            files.at_work = Some(Instant::now());
            let may_write = files.may_write;
            let slot = of(&mut files);
            let Some(job) = slot.job(may_write) else { return false };
            (slot.path().to_owned(), job, files.place)
        };
        match job {
            Job::Read => {
                let read = disk::read(&path);
                of(&mut self.lock()).has_read(read);
            }
            Job::PutAside => {
                let done = disk::put_aside(&path);
                let mut files = self.lock();
                let lost = of(&mut files).was_put_aside(done);
                files.lost.extend(lost);
            }
            Job::Replace { what, aside } => {
                let text = what.as_ref().map(|what| {
                    let mut text = serde_json::to_vec_pretty(what)?;
                    text.push(b'\n');
                    Ok::<_, io::Error>(text)
                });
                let unchanged = |source| disk::Failed { source, may_hold: false };
                let replaced = text.transpose().map_err(unchanged).and_then(|text| {
                    disk::replace(&path, text.as_deref(), aside).map_err(|mut failed| {
                        failed.source = disk::explain(failed.source, &self.dir, place.flatten());
                        failed
                    })
                });
                let mut files = self.lock();
                files.probe_is_due |= replaced.is_err() || files.trouble.is_some();
                of(&mut files).was_replaced(what, replaced);
            }
        }
        self.done.notify_all();
        true
    }

    /// Finds out whether anything can be written, where it is time to: true if it was.
    fn probe(&self, is_late: bool) -> bool {
        let place = {
            let mut files = self.lock();
            if !files.may_write || !std::mem::take(&mut files.probe_is_due) {
                return false;
            }
            files.at_work = Some(Instant::now());
            files.place
        };
        let place = place.unwrap_or_else(|| disk::make(&self.dir).ok());
        let probed = disk::probe(&self.dir);
        let trouble = probed.err().map(|e| disk::explain(e, &self.dir, place).to_string());
        let mut files = self.lock();
        files.place.get_or_insert(place);
        (files.trouble, files.is_slow) = (trouble, files.is_late(PATIENCE));
        // With other rights it may end otherwise.
        files.probe_is_due |= files.has_begun != is_late;
        true
    }
}

/// What a file of the store holds.
#[cfg(feature = "fuzz")]
pub(super) fn parse<T: DeserializeOwned>(text: &[u8]) -> serde_json::Result<T> {
    serde_json::from_slice(text)
}

#[cfg(test)]
mod tests;
