//! One file: what it is to hold, and what it may hold.

use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::disk::{Aside, Failed};

/// What is known of a file, and wanted of it.
#[derive(Debug)]
pub(super) struct Slot<T> {
    path: PathBuf,
    /// What follows if it cannot be read.
    lost: &'static str,
    /// What it is to hold, or that it is not to be there. While nobody has asked for anything, it stays as it is.
    wanted: Option<Option<T>>,
    /// What it may hold: one where that is known. Not what nobody could read, or understand.
    may_hold: Vec<Option<T>>,
    /// What is being written.
    under_way: Option<Option<T>>,
    content: Content,
    /// What was read, until somebody takes it.
    news: Option<T>,
    /// It is being read.
    is_reading: bool,
    /// What it holds may be something else after the next start of the host.
    is_unsafe: bool,
    /// There may be something to do.
    is_due: bool,
    /// The last demand; the last one that was begun with; and the last one that came to an end, and how.
    asked: u64,
    begun: u64,
    ended: (u64, Option<String>),
}

/// What of a file is known.
#[derive(Debug)]
enum Content {
    /// It could not be read: why. It may be sound, and stays until something else is to be kept.
    Unread(String),
    /// It could not be understood: why.
    Garbled(String),
    Known,
}

/// What is to be done.
#[derive(Debug)]
pub(super) enum Job<T> {
    Read,
    PutAside,
    Replace { what: Option<T>, aside: Aside },
}

/// How a demand ended.
#[derive(Debug, PartialEq)]
pub(super) enum Answer {
    Kept,
    Refused(String),
}

impl<T: Clone + PartialEq + Serialize + DeserializeOwned> Slot<T> {
    pub(super) fn new(path: PathBuf, lost: &'static str) -> Self {
        let content = Content::Unread("was not read: the disk does not answer".to_owned());
        Self {
            path,
            lost,
            wanted: None,
            may_hold: Vec::new(),
            under_way: None,
            content,
            news: None,
            is_reading: false,
            is_unsafe: false,
            is_due: true,
            asked: 0,
            begun: 0,
            ended: (0, None),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Asks for something. What was asked for before, and was not begun with, is forgotten.
    pub(super) fn want(&mut self, what: Option<T>) -> u64 {
        (self.wanted, self.is_due) = (Some(what), true);
        self.asked += 1;
        self.asked
    }

    /// Takes a demand back that was not fulfilled: the file is to stay as it is if that is certain to be possible, else to hold this.
    pub(super) fn take_back(&mut self, wanted_before: Option<Option<T>>, now: Option<T>) {
        let is_certain = self.wanted.as_ref().is_none_or(|what| {
            !self.may_hold.contains(what) && self.under_way.as_ref() != Some(what)
        });
        if is_certain {
            (self.wanted, self.is_due) = (wanted_before, true);
        } else {
            self.want(now);
        }
    }

    pub(super) fn wanted(&self) -> Option<Option<T>> {
        self.wanted.clone()
    }

    /// How a demand ended, if it did.
    pub(super) fn answer(&self, demand: u64) -> Option<Answer> {
        let (ended, refused) = &self.ended;
        (*ended >= demand).then(|| refused.clone().map_or(Answer::Kept, Answer::Refused))
    }

    /// What is to be done now. It is begun with.
    pub(super) fn job(&mut self, may_write: bool) -> Option<Job<T>> {
        if !self.is_due {
            return None;
        }
        match (&self.wanted, &self.content) {
            (None, Content::Unread(_)) => {
                (self.is_due, self.is_reading) = (false, true);
                return Some(Job::Read);
            }
            _ if !may_write => return None,
            _ => self.is_due = false,
        }
        match (&self.wanted, &self.content) {
            (None, Content::Garbled(_)) => Some(Job::PutAside),
            (None, _) => None,
            (Some(_), _) if self.is_settled() => {
                (self.begun, self.ended) = (self.asked, (self.asked, None));
                None
            }
            (Some(what), content) => {
                let aside = match content {
                    Content::Unread(_) => Aside::Must,
                    Content::Garbled(_) => Aside::Try,
                    Content::Known => Aside::No,
                };
                (self.begun, self.under_way) = (self.asked, Some(what.clone()));
                Some(Job::Replace { what: what.clone(), aside })
            }
        }
    }

    /// Whether there is anything to do.
    pub(super) fn is_due(&self, may_write: bool) -> bool {
        let reads = self.wanted.is_none() && matches!(self.content, Content::Unread(_));
        self.is_due && (reads || may_write)
    }

    /// Tries again what failed.
    pub(super) fn retry(&mut self) {
        self.is_due |= !self.is_settled() || matches!(self.content, Content::Unread(_));
    }

    pub(super) fn has_read(&mut self, read: io::Result<Option<Vec<u8>>>) {
        self.is_reading = false;
        self.content = match read {
            Ok(None) => {
                self.may_hold = vec![None];
                Content::Known
            }
            Ok(Some(text)) => match serde_json::from_slice::<T>(&text) {
                Ok(what) => {
                    self.may_hold = vec![Some(what.clone())];
                    self.news = Some(what).filter(|_| self.wanted.is_none());
                    Content::Known
                }
                Err(e) => Content::Garbled(format!("could not be understood ({e})")),
            },
            Err(e) => Content::Unread(format!("could not be read ({e})")),
        };
        self.is_due |= !matches!(self.content, Content::Unread(_));
    }

    /// What is to be said of a file that was to be put aside.
    pub(super) fn was_put_aside(&mut self, done: io::Result<PathBuf>) -> Option<String> {
        let Content::Garbled(why) = &self.content else { return None };
        let now = match &done {
            Ok(aside) => format!("is now {}", aside.display()),
            Err(e) => format!("cannot be put aside ({e})"),
        };
        let said = format!("{} {why} and {now}: {}", self.path.display(), self.lost);
        if done.is_ok() {
            (self.content, self.may_hold) = (Content::Known, vec![None]);
        }
        Some(said)
    }

    pub(super) fn was_replaced(&mut self, what: Option<T>, done: Result<(), Failed>) {
        self.under_way = None;
        let refused = match done {
            Ok(()) => {
                (self.content, self.may_hold) = (Content::Known, vec![what]);
                self.is_unsafe = false;
                None
            }
            Err(Failed { source, may_hold }) => {
                if may_hold {
                    self.is_unsafe = true;
                    if !matches!(self.content, Content::Known) {
                        (self.content, self.may_hold) = (Content::Known, vec![None]);
                    }
                    self.may_hold.retain(|held| *held != what);
                    self.may_hold.push(what);
                }
                Some(source.to_string())
            }
        };
        self.ended = (self.begun, refused);
    }

    /// Whether it is being read, or will be at once.
    pub(super) fn is_to_be_read(&self) -> bool {
        self.is_reading || (self.is_unread() && self.is_due)
    }

    /// Whether there is something that nobody knows of yet, or may be.
    pub(super) fn may_be_news(&self) -> bool {
        self.is_unread() || self.has_news()
    }

    /// Whether something was read that nobody has taken.
    pub(super) fn has_news(&self) -> bool {
        self.news.is_some()
    }

    /// What was read, once.
    pub(super) fn take_news(&mut self) -> Option<T> {
        self.news.take().filter(|_| self.wanted.is_none())
    }

    /// Whether it could not be made to hold what it is to hold.
    pub(super) fn is_stale(&self) -> bool {
        !self.is_settled() && self.ended.1.is_some()
    }

    /// Whether it holds what it is to hold.
    fn is_settled(&self) -> bool {
        let holds = |what: &Option<T>| {
            let is_it = self.may_hold == [what.clone()];
            is_it && matches!(self.content, Content::Known) && !self.is_unsafe
        };
        self.wanted.as_ref().is_none_or(holds)
    }

    /// It may hold something that nobody has read, and that is to stay.
    pub(super) fn is_unread(&self) -> bool {
        self.wanted.is_none() && matches!(self.content, Content::Unread(_))
    }

    /// Whether it may hold such a thing.
    pub(super) fn may_hold(&self, such: impl Fn(&T) -> bool) -> bool {
        self.may_hold.iter().chain(&self.under_way).flatten().any(such)
    }

    /// For `fernpass status`.
    pub(super) fn warning(&self) -> Option<String> {
        let Content::Unread(why) = &self.content else { return None };
        let path = self.path.display();
        self.is_unread().then(|| {
            format!("{path} {why}, and stays until there is something else to keep: {}", self.lost)
        })
    }
}
