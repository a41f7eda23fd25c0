//! Sessions move to larger tables while packets are forwarded, and whoever moves them dies between any two steps. With the
//! kernel's own tables, programs and links: needs root.

#[path = "../kernel/netns.rs"]
mod netns;
#[path = "../scratch/mod.rs"]
mod scratch;
mod world;

use std::sync::Arc;

use control::loader::{Found, PacketLog, Sizes, Tables, Writer, find};
use control::migration::Migration;
use dataplane::fixture::site::{LAN, WAN};
use scratch::Scratch;
use world::{Gateway, LARGE, known};

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
        let left = std::fs::read_dir(gateway.bpffs.path()).unwrap();
        let left = left.filter(|e| e.as_ref().unwrap().file_type().unwrap().is_dir()).count();
        assert_eq!(left, 1, "nothing is left of the move");
        // The next one is to somewhat larger tables.
        to.ids += 8;
    }
    assert!(steps > 10, "{steps}");
    gateway.pins.remove().unwrap();
}
