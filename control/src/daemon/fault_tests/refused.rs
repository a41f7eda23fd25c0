//! A reload of which a write fails.

use std::sync::atomic::Ordering;

use super::world::{CONFIG, World, parsed};
use crate::model::drift;

/// A backend and a service less, another of each, a tenant's limits.
fn after() -> String {
    let changed = CONFIG.replace("wg-2", "wg-3").replace("10.20.1.12", "10.20.1.13");
    let changed =
        changed.replace("max_sessions = 90", "max_sessions = 80\nnew_sessions = { rate = 50 }");
    changed.replace("\"old\"", "\"new\"").replace("203.0.113.20:1194", "203.0.113.30:1195")
}

#[test]
fn a_reload_of_which_any_write_fails_leaves_everything_as_it_was() {
    let mut world = World::new("refused");
    let mut state = world.start();
    // The new configuration has the first backend, too, and not the second.
    for backend in [0, 1, 0, 1] {
        world.join(backend);
    }
    world.tick(&mut state);
    let (before, config) = (state.current.clone(), state.config.clone());
    let new = parsed(&after());
    let all = state.writes_for(&new).unwrap();
    assert!(all > 20, "{all}");
    for nth in 0..all {
        world.until.store(nth, Ordering::Relaxed);
        let refused = state.configure(new.clone()).unwrap_err().to_string();
        assert!(refused.contains("refused by the test"), "{refused}");
        assert!(refused.contains(&format!("(step {nth} of {all})")), "{refused}");
        world.talk_on(0);
        state.reconcile().unwrap();
        [0, 1].into_iter().for_each(|backend| world.talk_on(backend));
        assert_eq!(*state.config, *config);
        let now = &state.current;
        assert_eq!(now.directory, before.directory, "after {nth} of {all} writes");
        assert_eq!((&now.tenants, now.live), (&before.tenants, before.live));
        // Nobody refers to what was new, which a scan has to find.
        (0..3).for_each(|_| world.tick(&mut state));
        assert!(state.current == before, "after {nth}: {:?}", drift(&before, &state.current, 100));
    }
    world.until.store(usize::MAX, Ordering::Relaxed);
    assert_eq!(state.verify().unwrap(), (Vec::new(), 0));
    world.is_accounted(&state);
    world.pins.remove().unwrap();
}
