//! What was said of backends, by other tables and by operators, is not forgotten before its time.

use std::sync::Arc;

use dataplane::abi::ENDPOINT_LIVE;

use super::scratch::Scratch;
use super::world::{CONFIG, SIZES, parsed, routes};
use crate::clock::Clock;
use crate::config::BackendId;
use crate::daemon::state::State;
use crate::loader::{Pins, Writer, create};
use crate::model::{AddressHealth, Drain, HealthView, Overrides, Status};

/// A state with tables of its own, and one of its backends.
fn state(scratch: &Scratch) -> (State, Pins, BackendId) {
    let bpffs = scratch.bpffs();
    let pins = Pins::under(&bpffs);
    let tables = Arc::new(create(&bpffs, &pins, SIZES).unwrap());
    let writer = Writer::open(&pins, Arc::clone(&tables)).unwrap();
    let (config, overrides, routes) = (parsed(CONFIG), Overrides::default(), Arc::new(routes()));
    let mut state = State::new(config, overrides, routes, tables, writer).unwrap();
    state.reconcile().unwrap();
    (state, pins, BackendId::new("wg", "wg-1"))
}

/// A backend that was down when another version's tables were taken over.
#[test]
fn who_was_dead_in_other_tables_is_dead_until_probes_say_otherwise() {
    let scratch = Scratch::new("adopted");
    let (mut state, pins, dead) = state(&scratch);
    state.adopt(HealthView::from([
        (dead.clone(), AddressHealth::both(Status::Down)),
        (BackendId::new("other", "gone"), AddressHealth::both(Status::Down)),
    ]));
    state.reconcile().unwrap();
    let live = |state: &State| {
        let of = |(index, info): (&u32, &_)| {
            let info: &crate::daemon::published::EndpointInfo = info;
            let is_live = state.current.endpoints[index].flags & ENDPOINT_LIVE != 0;
            (info.names.backend == dead).then_some(is_live)
        };
        state.endpoints.iter().filter_map(of).collect::<Vec<_>>()
    };
    assert_eq!(live(&state), [false]);
    for _ in 0..3 {
        if state.scan(&Clock::now()).2 {
            state.reconcile().unwrap();
        }
        assert_eq!(live(&state), [false], "time alone brings nobody back");
    }
    assert_eq!(state.probed.len(), 1);
    pins.remove().unwrap();
}

#[test]
fn drains_and_weights_outlive_a_configuration_without_their_backend() {
    let scratch = Scratch::new("strangers");
    let (mut state, pins, id) = state(&scratch);
    state.overrides.drained.insert(id.clone(), Drain::default());
    state.overrides.weights.insert(id.clone(), 7);
    let said = state.overrides.clone();
    state.reconcile().unwrap();
    let with = state.current.clone();
    let without = CONFIG.replace("wg-1", "wg-9").replace("10.20.1.11", "10.20.1.19");
    state.configure(parsed(&without)).unwrap();
    assert_eq!(state.overrides, said, "it may be on trial");
    state.configure(parsed(CONFIG)).unwrap();
    assert_eq!((&state.overrides, &state.current.rings), (&said, &with.rings));
    state.forget_strangers();
    assert_eq!(state.overrides, said);
    state.configure(parsed(&without)).unwrap();
    state.forget_strangers();
    assert_eq!(state.overrides, Overrides::default());
    pins.remove().unwrap();
}
