//! Sessions move to larger tables while packets are forwarded, and whoever moves them dies between any two steps. With the
//! kernel's own tables, programs and links: needs root.

#[path = "../kernel/netns.rs"]
mod netns;
#[path = "../scratch/mod.rs"]
mod scratch;
mod world;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::Arc;

use control::loader::{
    Bpffs, Found, PacketLog, Pins, Sizes, Tables, Writer, create, find, remove_all,
};
use control::migration::Migration;
use dataplane::fixture::site::{LAN, WAN};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use scratch::Scratch;
use world::{Gateway, LARGE, SMALL, known};

/// Sessions at the beginning: as many as small tables hold well.
const SESSIONS: usize = 300;
/// How many of them are talked to at every step.
const BUSY: usize = 40;

/// What happens at every moment: sessions talk, roam, get new keys, and open.
fn life(gateway: &mut Gateway, step: usize) {
    for n in 0..BUSY {
        gateway.talk(n);
    }
    gateway.roam(BUSY + step);
    gateway.rekey(2 * BUSY + step);
    gateway.talk(2 * BUSY + step);
    gateway.join(false);
}

/// Moves all sessions, with `most` steps, or all: how many there were.
fn move_on(gateway: &mut Gateway, migration: &mut Migration, most: usize) -> usize {
    for step in 0..most.min(1_000) {
        if !migration.advance().unwrap() {
            return step;
        }
        life(gateway, step);
    }
    most
}

fn grow(gateway: &Gateway, to: Sizes) -> Migration {
    let Found::Own(tables) = find(&gateway.bpffs).unwrap() else { panic!("no tables") };
    let held = Writer::open(&gateway.pins, Arc::new(*tables)).unwrap().read().unwrap();
    Migration::grow(&gateway.bpffs, &held, to, PacketLog::Off).unwrap().0
}

/// What the next daemon does.
fn start(gateway: &mut Gateway, to: Sizes) {
    let mut migration = match find(&gateway.bpffs).unwrap() {
        Found::Own(tables) if tables.sizes() == to => return,
        Found::Own(_) => grow(gateway, to),
        Found::Moving(tables, old) => {
            let tables = Arc::new(*tables);
            let held = Writer::open(&gateway.pins, Arc::clone(&tables)).unwrap().read().unwrap();
            Migration::resume(&gateway.bpffs, *old, tables, &held, PacketLog::Off).unwrap()
        }
        other => panic!("{other:?}"),
    };
    while migration.advance().unwrap() {
        for n in 0..BUSY {
            gateway.talk(n);
        }
    }
}

/// The directories of a bpffs: each has tables.
fn dirs(bpffs: &Bpffs) -> Vec<PathBuf> {
    let all = fs::read_dir(bpffs.path()).unwrap().map(|entry| entry.unwrap().path());
    all.filter(|path| path.is_dir()).collect()
}

fn tables(gateway: &Gateway) -> Tables {
    let Found::Own(tables) = find(&gateway.bpffs).unwrap() else { panic!("no tables") };
    *tables
}

#[test]
fn whoever_dies_between_any_two_steps_of_a_move_is_made_good_by_the_next() {
    netns::enter().unwrap();
    let scratch = Scratch::new("moved");
    let mut gateway = Gateway::start(scratch.bpffs());
    (0..SESSIONS).for_each(|_| gateway.join(true));
    gateway.is_whole(&tables(&gateway), &[], true);
    // First nobody dies: then not a packet is missing in any account.
    let mut to = LARGE;
    let mut steps = usize::MAX;
    for died in [usize::MAX].into_iter().chain(0..) {
        if died > steps && died != usize::MAX {
            break;
        }
        let before = known(&tables(&gateway));
        let mut migration = grow(&gateway, to);
        let done = move_on(&mut gateway, &mut migration, died);
        drop(migration);
        if died == usize::MAX {
            steps = done;
        }
        start(&mut gateway, to);
        life(&mut gateway, done);

        let tables = tables(&gateway);
        assert_eq!((tables.sizes(), gateway.pins.linked()), (to, vec![WAN, LAN]));
        gateway.is_whole(&tables, &before, died == usize::MAX);
        assert_eq!(dirs(&gateway.bpffs), [gateway.pins.dir()], "nothing is left of the move");
        // The next one is to somewhat larger tables.
        to.ids += 8;
    }
    assert!(steps > 10, "{steps}");
    gateway.pins.remove().unwrap();
}

#[test]
fn tables_whose_removal_is_cut_short_are_nobodys() {
    netns::enter().unwrap();
    let scratch = Scratch::new("removed");
    let bpffs = scratch.bpffs();
    let pins = Pins::under(&bpffs);
    let at = |name: &str| bpffs.path().join(name);
    let own = pins.dir().file_name().unwrap().to_str().unwrap();
    for name in [own, "v7", "v7-old"] {
        create(&bpffs, &pins, SMALL).unwrap();
        if name != own {
            fs::rename(pins.dir(), at(name)).unwrap();
        }
        // Somebody else's mount stops it on its way.
        fs::create_dir(at(name).join("stop")).unwrap();
        mount("tmpfs", at(name).join("stop"), "tmpfs", MountFlags::empty(), None).unwrap();
        assert!(remove_all(&bpffs).is_err());
        let [left] = dirs(&bpffs).try_into().unwrap();
        unmount(left.join("stop"), UnmountFlags::empty()).unwrap();
        for map in ["LAYOUT", "SLOTS"].map(|map| left.join(map)).iter().filter(|map| map.exists()) {
            fs::remove_file(map).unwrap();
        }
        let found = find(&bpffs);
        assert!(matches!(found, Ok(Found::Nothing)), "{found:?} of {name} as {left:?}");
        assert_eq!(dirs(&bpffs), [] as [PathBuf; 0], "{name}");
    }
}

#[test]
fn tables_that_do_not_fit_into_memory_are_refused_and_nothing_changes() {
    let scratch = Scratch::new("room");
    let bpffs = scratch.bpffs();
    let pins = Pins::under(&bpffs);
    let tables = Arc::new(create(&bpffs, &pins, SMALL).unwrap());
    let held = Writer::open(&pins, tables).unwrap().read().unwrap();
    let huge = Sizes { slots: 1 << 31, ..LARGE };
    let refused = Migration::grow(&bpffs, &held, huge, PacketLog::Off).map(drop);
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("MB are available"), "{refused}");
    let Found::Own(tables) = find(&bpffs).unwrap() else { panic!("no tables") };
    assert_eq!(tables.sizes(), SMALL);
    pins.remove().unwrap();
}

#[test]
fn tables_of_another_version_are_found_or_refused_in_words() {
    netns::enter().unwrap();
    let scratch = Scratch::new("versions");
    let gateway = Gateway::start(scratch.bpffs());
    let at = |name: &str| gateway.bpffs.path().join(name);
    fs::rename(gateway.pins.dir(), at("v7")).unwrap();
    assert!(matches!(find(&gateway.bpffs), Ok(Found::Foreign(_))));
    // Killed where its own tables were set aside: they go back.
    fs::rename(at("v7"), at("v7-old")).unwrap();
    assert!(matches!(find(&gateway.bpffs), Ok(Found::Foreign(_))));
    assert!(at("v7").exists() && !at("v7-old").exists());
    let refused = || find(&gateway.bpffs).unwrap_err().to_string();
    fs::create_dir(at("v6")).unwrap();
    symlink("../v6", at("v7/from")).unwrap();
    assert!(refused().contains("start that version again"), "{}", refused());
    fs::remove_file(at("v7/from")).unwrap();
    fs::remove_file(at("v7/LAYOUT")).unwrap();
    assert!(refused().contains("do not say what lies where"), "{}", refused());
    assert_eq!(remove_all(&gateway.bpffs).unwrap(), Some(2));
    assert!(matches!(find(&gateway.bpffs), Ok(Found::Nothing)));
}
