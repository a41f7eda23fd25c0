//! The store on a real directory, and on pipes for disks that do not answer: who opens one waits for the other end.

use std::fs;
use std::time::UNIX_EPOCH;

use rustix::fs::{FileType, Mode};

use super::*;
use crate::clock::{Clock, Moment};
use crate::config::BackendId;
use crate::model::Drain;

const NOTHING: Found = Found { trial: None, overrides: None };

/// A directory that goes with its test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("fernpass-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    /// As a daemon that starts has it.
    fn store(&self) -> Store {
        let store = Store::open(&self.0);
        store.begin();
        store
    }

    /// What a daemon that starts finds.
    fn found(&self) -> Found {
        Store::open(&self.0).found()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn pipe(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::Fifo, Mode::RWXU, 0).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn weight(weight: u32) -> Overrides {
    let weights = [(BackendId::new("p", "wg-1"), weight)].into();
    Overrides { weights, ..Overrides::default() }
}

fn trial(tried: &str) -> Trial {
    let clock = Clock { monotonic: 5_000_000_000, wall: UNIX_EPOCH };
    let until = Some(Moment::after(&clock, Duration::from_secs(60)));
    Trial { before: "before".to_owned(), tried: tried.to_owned(), until }
}

fn overrides(overrides: Overrides) -> Found {
    Found { overrides: Some(overrides), ..NOTHING }
}

/// Waits until everything is done that was asked for.
fn settle(store: &Store) {
    let files = store.0.lock();
    drop(store.0.done.wait_while(files, |files| files.at_work.is_some()).unwrap());
}

#[test]
fn what_was_kept_is_found_and_garbage_is_put_aside() {
    let scratch = Scratch::new("kept");
    let store = scratch.store();
    assert_eq!((store.found(), store.lost(), store.warnings()), (NOTHING, vec![], vec![]));
    let mut with = weight(5);
    let deadline = Some(Moment::after(&Clock::now(), Duration::from_secs(60)));
    let drain = Drain { deadline, spread: 30, released: true };
    with.drained.insert(BackendId::new("p", "wg-1"), drain);
    store.keep_overrides(&with, &Overrides::default()).unwrap();
    store.keep_trial(Some(&trial("b")), None).unwrap();
    assert!(store.takes_for_tried("b") && !store.takes_for_tried("a"));
    assert_eq!(scratch.found(), Found { trial: Some(trial("b")), overrides: Some(with) });
    assert!(!scratch.path("trial.json.new").exists());

    for name in ["overrides.json", "trial.json"] {
        let text = fs::read(scratch.path(name)).unwrap();
        fs::write(scratch.path(name), &text[..text.len() / 2]).unwrap();
        let store = scratch.store();
        let found = store.found();
        let [lost] = &store.lost()[..] else { panic!("one is lost") };
        assert!(lost.contains("could not be understood"), "{lost}");
        assert!(lost.contains(&format!("{name}.bad: ")), "{lost}");
        let is_trial = name == "trial.json";
        assert_eq!(lost.contains("it is not taken back"), is_trial, "{lost}");
        assert_eq!(lost.contains("drains and weights"), !is_trial, "{lost}");
        assert_eq!(found.trial.is_some(), !is_trial);
        assert_eq!(found.overrides, None);
        assert!(!store.takes_for_tried("b") || !is_trial);
        let aside = scratch.path(&format!("{name}.bad"));
        assert_eq!(fs::read(aside).unwrap().len(), text.len() / 2);
        assert_eq!((store.lost(), store.warnings()), (vec![], vec![]));
    }
    assert_eq!(scratch.found(), NOTHING);

    store.keep_trial(Some(&trial("c")), None).unwrap();
    store.keep_trial(None, Some(&trial("c"))).unwrap();
    assert!(!scratch.path("trial.json").exists() && !store.takes_for_tried("c"));
    // As earlier versions wrote it.
    let text = "{\"boot\": \"x\", \"drained\": {\"p/wg-1\": {\"deadline\": 7}}, \"weights\": {}}";
    fs::write(scratch.path("overrides.json"), text).unwrap();
    let found = scratch.found().overrides.unwrap();
    let [drain] = found.drained.values().collect::<Vec<_>>()[..] else { panic!("one") };
    assert_eq!(drain.deadline, Some(Moment::by_wall(7)));
}

#[test]
fn a_disk_that_does_not_answer_holds_nobody_up() {
    let scratch = Scratch::new("silent");
    let store = scratch.store();
    store.note_overrides(&weight(1)).unwrap();
    store.note_trial(Some(&trial("b"))).unwrap();
    let pipe = scratch.pipe("overrides.json.new");
    let begun = Instant::now();
    let refused = store.keep_overrides(&weight(2), &weight(1)).unwrap_err().to_string();
    assert!(refused.contains("does not answer"), "{refused}");
    assert!(begun.elapsed() >= PATIENCE);
    // Nothing more is asked of it; what is so is so, and is written later.
    let asked = |store: &Store| store.0.lock().overrides.wanted();
    let before = asked(&store);
    assert_eq!(before, Some(Some(weight(1))), "what holds is to be kept");
    store.keep_overrides(&weight(3), &weight(1)).unwrap_err();
    store.keep_trial(None, Some(&trial("b"))).unwrap_err();
    assert_eq!(asked(&store), before);
    store.note_trial(Some(&trial("c"))).unwrap_err();
    let [warning] = &store.warnings()[..] else { panic!("one") };
    assert!(warning.contains("does not answer") && warning.contains("confirm"), "{warning}");
    // What stands there, and what is to.
    assert!(store.takes_for_tried("b") && !store.takes_for_tried("d"));

    // It answers: what was refused may be there, and what holds is written over it.
    let written = fs::read_to_string(&pipe).unwrap();
    assert!(written.contains('2'), "{written}");
    settle(&store);
    store.retry();
    settle(&store);
    assert_eq!(store.warnings(), Vec::<String>::new());
    let found = Found { trial: Some(trial("c")), overrides: Some(weight(1)) };
    assert_eq!(scratch.found(), found);
    store.keep_overrides(&weight(4), &weight(1)).unwrap();
    store.keep_trial(None, Some(&trial("c"))).unwrap();
    assert_eq!(scratch.found(), overrides(weight(4)));
}

#[test]
fn what_a_slow_disk_tells_too_late_is_found_unless_something_else_was_asked_for() {
    let scratch = Scratch::new("slow");
    for name in ["trial.json", "overrides.json"] {
        scratch.pipe(name);
    }
    let (text, other) =
        (serde_json::to_vec(&trial("b")).unwrap(), serde_json::to_vec(&weight(2)).unwrap());
    // Not as long as a start waits.
    let store = Store::of(&scratch.0);
    drop(store.start(store.0.lock()));
    assert_eq!((store.found(), store.has_unread_trial()), (NOTHING, true));
    store.0.lock().may_write = true;
    let warnings = store.warnings();
    assert!(warnings.len() == 2 && warnings[0].contains("it is not taken back"), "{warnings:?}");
    // Drains and weights that nobody set are not worth those that are there.
    store.note_overrides(&Overrides::default()).unwrap();
    // A demand that is refused before it was begun with changes nothing.
    store.keep_overrides(&weight(7), &Overrides::default()).unwrap_err();
    assert!(store.has_unread_overrides());

    fs::write(scratch.path("trial.json"), &text).unwrap();
    while store.has_unread_trial() {
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(store.found(), Found { trial: Some(trial("b")), overrides: None });
    assert_eq!(store.found(), NOTHING);
    assert!(store.takes_for_tried("b"));
    // What an operator wants goes before what was kept.
    store.0.lock().overrides.want(Some(weight(9)));
    fs::write(scratch.path("overrides.json"), &other).unwrap();
    settle(&store);
    assert_eq!((store.found(), store.warnings()), (NOTHING, vec![]));
    let kept = fs::read_to_string(scratch.path("overrides.json")).unwrap();
    assert!(kept.contains('9'), "{kept}");
}

#[test]
fn what_cannot_be_read_stays_until_there_is_something_else() {
    let scratch = Scratch::new("unread");
    // Nobody reads a directory as a file, root neither.
    for name in ["overrides.json", "trial.json"] {
        fs::create_dir(scratch.path(name)).unwrap();
    }
    let store = scratch.store();
    assert_eq!((store.found(), store.lost()), (NOTHING, vec![]));
    let warnings = store.warnings();
    for (warning, words) in warnings.iter().zip(["is not taken back", "drains and weights"]) {
        assert!(warning.contains("could not be read") && warning.contains(words), "{warning}");
    }
    assert_eq!(warnings.len(), 2);
    store.note_overrides(&Overrides::default()).unwrap();
    assert!(store.has_unread_overrides() && scratch.path("overrides.json").is_dir());
    store.note_trial(None).unwrap();
    assert!(store.has_unread_trial() && scratch.path("trial.json").is_dir());
    store.keep_trial(None, None).unwrap();
    assert!(scratch.path("trial.json.bad").is_dir() && !scratch.path("trial.json").exists());
    // It can be read, later.
    fs::remove_dir(scratch.path("overrides.json")).unwrap();
    fs::write(scratch.path("overrides.json"), serde_json::to_vec(&weight(3)).unwrap()).unwrap();
    store.retry();
    settle(&store);
    assert_eq!((store.found(), store.warnings()), (overrides(weight(3)), vec![]));

    // It cannot be put aside: nothing is lost. Until somebody removes it.
    let scratch = Scratch::new("unreadable");
    let (file, bad) = (scratch.path("overrides.json"), scratch.path("overrides.json.bad"));
    fs::create_dir(&file).unwrap();
    fs::write(&bad, "").unwrap();
    let store = scratch.store();
    store.keep_overrides(&weight(1), &Overrides::default()).unwrap_err();
    assert!(store.has_unread_overrides() && file.is_dir());
    store.note_overrides(&weight(1)).unwrap_err();
    settle(&store);
    let warnings = store.warnings();
    assert!(warnings.len() == 1 && warnings[0].contains("what the next start goes by"));
    fs::remove_dir(&file).unwrap();
    store.retry();
    settle(&store);
    assert_eq!((store.warnings(), scratch.found()), (vec![], overrides(weight(1))));
    fs::create_dir(scratch.path("overrides.json.try")).unwrap();
    store.retry();
    settle(&store);
    assert!(store.warnings()[0].contains("cannot keep state in"));
}

#[test]
fn what_is_there_is_not_written_over_before_anybody_knows_it() {
    let scratch = Scratch::new("news");
    let store = scratch.store();
    store.note_overrides(&weight(1)).unwrap();
    let store = scratch.store();
    let refused = store.keep_overrides(&weight(2), &Overrides::default()).unwrap_err().to_string();
    assert!(refused.contains("ask again"), "{refused}");
    store.note_overrides(&Overrides::default()).unwrap();
    assert_eq!(store.found(), overrides(weight(1)));
    store.keep_overrides(&weight(2), &weight(1)).unwrap();
    // Also where it is yet to be read.
    let store = Store::of(&scratch.0);
    store.0.lock().may_write = true;
    let refused = store.keep_overrides(&weight(3), &Overrides::default()).unwrap_err().to_string();
    assert!(refused.contains("ask again"), "{refused}");
    assert_eq!(store.found(), overrides(weight(2)));
    // Nor a trial, of which nobody knows that it is over.
    store.keep_trial(Some(&trial("a")), None).unwrap();
    let store = scratch.store();
    store.note_trial(None).unwrap();
    assert_eq!(store.found().trial, Some(trial("a")));
    store.note_trial(None).unwrap();
    assert_eq!(scratch.found().trial, None);

    // Nor what nobody understands, before it has another name.
    fs::write(scratch.path("trial.json"), "{").unwrap();
    let store = Store::open(&scratch.0);
    store.note_trial(Some(&trial("b"))).unwrap_err();
    store.begin();
    assert_eq!(fs::read_to_string(scratch.path("trial.json.bad")).unwrap(), "{");
    assert_eq!(scratch.found(), Found { trial: Some(trial("b")), overrides: Some(weight(2)) });
}

#[test]
fn what_is_refused_is_not_kept_and_what_holds_stays() {
    let scratch = Scratch::new("refused");
    let store = scratch.store();
    store.note_overrides(&weight(1)).unwrap();
    // Nobody writes to a directory as to a file.
    let new = scratch.path("overrides.json.new");
    fs::create_dir(&new).unwrap();
    for _ in 0..2 {
        store.keep_overrides(&weight(2), &weight(1)).unwrap_err();
        settle(&store);
        // It is certain that nothing was changed, and nothing is to be done.
        assert_eq!((store.warnings(), scratch.found()), (vec![], overrides(weight(1))));
    }
    // What is so, is so.
    store.note_overrides(&weight(3)).unwrap_err();
    assert!(store.warnings()[0].contains("tried again each minute"));
    store.keep_overrides(&weight(4), &weight(3)).unwrap_err();
    fs::remove_dir(&new).unwrap();
    store.retry();
    settle(&store);
    assert_eq!((store.warnings(), scratch.found()), (vec![], overrides(weight(3))));
    // One of the files alone.
    fs::create_dir(scratch.path("trial.json.new")).unwrap();
    store.keep_trial(Some(&trial("b")), None).unwrap_err();
    assert!(!store.takes_for_tried("b"));
    store.keep_overrides(&weight(5), &weight(3)).unwrap();
}

#[test]
fn a_directory_that_cannot_be_made_is_told_and_made_later() {
    let scratch = Scratch::new("later");
    let place = scratch.path("state");
    fs::write(&place, "").unwrap();
    let store = Store::open(&place.join("fernpass"));
    store.begin();
    assert_eq!((store.found(), store.lost()), (NOTHING, vec![]));
    let [warning] = &store.warnings()[..] else { panic!("one") };
    for words in ["cannot keep state in", "drain", "confirm"] {
        assert!(warning.contains(words), "{warning}");
    }
    store.keep_overrides(&weight(1), &Overrides::default()).unwrap_err();
    store.note_overrides(&weight(2)).unwrap_err();
    fs::remove_file(&place).unwrap();
    store.retry();
    settle(&store);
    store.retry();
    settle(&store);
    assert_eq!(store.warnings(), Vec::<String>::new());
    assert_eq!(Store::open(&place.join("fernpass")).found(), overrides(weight(2)));
}
