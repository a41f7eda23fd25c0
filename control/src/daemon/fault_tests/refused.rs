//! A reload of which a write fails, or within which the daemon dies.

use std::sync::atomic::Ordering;

use dataplane::fault;

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

#[test]
fn a_daemon_that_dies_at_any_write_of_a_reload_is_made_good_by_the_next() {
    let mut world = World::new("reload");
    let (before, after) = (parsed(CONFIG), parsed(&after()));
    let mut state = world.start();
    for writes in 0.. {
        // The new configuration has no second backend: its sessions are over then.
        for backend in [0, 1] {
            if !world.clients.iter().any(|client| client.backend == backend) {
                world.join(backend);
            }
        }
        world.tick(&mut state);
        let reload = || state.configure(after.clone()).unwrap();
        let lived = fault::within(writes, reload).is_some();
        drop(state);
        // Nobody is there.
        world.talk_on(0);

        // The file is the new one, or somebody has put the old one back.
        world.config = if writes % 2 == 0 || lived { &after } else { &before }.clone();
        state = world.start();
        world.talk_on(0);
        if writes % 2 == 0 || lived {
            world.clients.retain(|client| client.backend == 0);
        } else {
            world.talk_on(1);
        }
        for _ in 0..3 {
            world.pass(1);
            world.tick(&mut state);
        }
        world.is_settled(&mut state);
        world.is_accounted(&state);
        assert!(state.config.services == world.config.services, "after {writes}");
        assert_eq!(state.verify().unwrap(), (Vec::new(), 0), "after {writes}");
        world.talk_on(0);

        world.config = before.clone();
        state.configure(before.clone()).unwrap();
        world.tick(&mut state);
        world.talk_on(0);
        if lived {
            assert!(writes > 20, "{writes}");
            break;
        }
    }
    world.pins.remove().unwrap();
}
