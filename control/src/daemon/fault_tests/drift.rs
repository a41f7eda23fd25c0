//! What somebody else wrote to the tables, of which the daemon knows what they mean.

use std::sync::Arc;

use dataplane::abi::{NAME_LISTENER, NAME_LISTENER_POOL, NAME_SERVICE, NameKey, maps};

use super::scratch::Scratch;
use super::world::{CONFIG, SIZES, parsed, routes};
use crate::clock::Clock;
use crate::daemon::state::State;
use crate::loader::{Pins, Writer, create};
use crate::model::{Overrides, TableWriter as _};

/// Were they given anew, what is left would have the first places: not those that sessions refer to.
#[test]
fn names_that_are_gone_are_given_to_what_had_them() {
    let scratch = Scratch::new("names");
    let bpffs = scratch.bpffs();
    let pins = Pins::under(&bpffs);
    let tables = Arc::new(create(&bpffs, &pins, SIZES).unwrap());
    let open = || Writer::open(&pins, Arc::clone(&tables)).unwrap();
    let (config, overrides, routes) = (parsed(CONFIG), Overrides::default(), Arc::new(routes()));
    let tables = Arc::clone(&tables);
    let mut state = State::new(config, overrides, routes, tables, open()).unwrap();
    state.reconcile().unwrap();
    // The first service goes, and leaves its place.
    let (head, services) = CONFIG.split_once("[[service]]").unwrap();
    let (_, last) = services.split_once("[[service]]").unwrap();
    state.configure(parsed(&format!("{head}[[service]]{last}"))).unwrap();
    for _ in 0..3 {
        if state.scan(&Clock::now()).2 {
            state.reconcile().unwrap();
        }
    }
    let before = state.current.clone();

    let mut other = open();
    for kind in [NAME_SERVICE, NAME_LISTENER, NAME_LISTENER_POOL] {
        let key = NameKey { kind, index: 1 };
        assert!(before.names.contains_key(&key), "{:?}", before.names);
        other.name(key, None).unwrap();
    }
    state.tables.settings().hash_key[1].set(7);
    state.tables.settings().max_borrowed.set(u64::MAX);
    let (drift, writes) = state.verify().unwrap();
    let told: Vec<_> = drift.iter().flat_map(|d| &d.entries).map(String::as_str).collect();
    let settings = ["different: max_borrowed", "different: hash_key[1]"];
    let names = ["missing: service 1", "missing: listener 1", "missing: listener's pool 1"];
    assert_eq!(told, [&names[..], &settings].concat());
    assert_eq!((drift[0].table, drift[0].missing, writes), (maps::NAMES, 3, 5));
    assert!(state.current == before);
    assert_eq!(state.verify().unwrap(), (Vec::new(), 0));
    pins.remove().unwrap();
}
