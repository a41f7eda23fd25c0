//! What becomes of backends that do not answer.

use std::collections::BTreeSet;

use dataplane::abi::{
    ENDPOINT_ACCEPTS, ENDPOINT_LIVE, ENDPOINT_METERED_IN, ENDPOINT_METERED_OUT, ENDPOINT_PACED,
    NO_RING,
};

use super::World;
use crate::config::{BackendId, Family};
use crate::model::{AddressHealth, Drain, HealthView, Registry, Silent, Status};

const EXAMPLE: &str = include_str!("../../../../docs/fernpass.toml");
const V4: &str = "203.0.113.10:51820";
const V6: &str = "[2001:db8::10]:51820";

fn wg(number: u8) -> BackendId {
    BackendId::new("wg-justiz", &format!("wg-{number}"))
}

/// Down at the address of one family, up at the other.
fn down_at(family: Family) -> AddressHealth {
    let mut health = AddressHealth::both(Status::Up);
    health.set(family, Status::Down);
    health
}

/// The names of the backends to which a listener gives new sessions.
fn placed_on(world: &World, listener: &str) -> BTreeSet<u8> {
    let entry = world.entry(listener).unwrap();
    if entry.ring == NO_RING {
        return BTreeSet::new();
    }
    world.tables.rings[&entry.ring].ordinals().iter().copied().collect()
}

/// The flags of the endpoint at an address, but for those of rates.
fn flags(world: &World, at: &str) -> u8 {
    const RATES: u8 = ENDPOINT_METERED_IN | ENDPOINT_METERED_OUT | ENDPOINT_PACED;
    world.tables.endpoints[&world.entry(at).unwrap().index].flags & !RATES
}

#[test]
fn clients_of_the_other_family_stay_and_come() {
    const BOTH: u8 = ENDPOINT_LIVE | ENDPOINT_ACCEPTS;
    for (dead, dead_at, live_at, dead_listener, live_listener) in [
        (Family::V6, "[2001:db8:20::11]:51820", "10.20.0.11:51820", V6, V4),
        (Family::V4, "10.20.0.11:51820", "[2001:db8:20::11]:51820", V4, V6),
    ] {
        let mut world = World::new(EXAMPLE);
        world.settle();
        let all = placed_on(&world, live_listener);
        assert_eq!((all.len(), flags(&world, dead_at)), (2, BOTH));

        world.health.insert(wg(1), down_at(dead));
        world.settle();
        assert_eq!((flags(&world, dead_at), flags(&world, live_at)), (0, BOTH));
        assert_eq!(placed_on(&world, live_listener), all);
        assert_eq!(placed_on(&world, dead_listener).len(), 1);
        // Only that family's sessions are ended.
        let registry = Registry::of(&world.tables);
        let ended = BTreeSet::from([world.entry(dead_at).unwrap().index]);
        assert_eq!(registry.not_live(), ended);

        world.health.insert(wg(1), AddressHealth::both(Status::Up));
        world.settle();
        assert_eq!(placed_on(&world, dead_listener), all);
        assert_eq!(flags(&world, dead_at), BOTH);
    }
}

#[test]
fn a_family_without_a_living_address_has_no_ring() {
    let mut world = World::new(EXAMPLE);
    world.health.extend([(wg(1), down_at(Family::V6)), (wg(2), down_at(Family::V6))]);
    world.settle();
    assert_eq!(world.entry(V6).unwrap().ring, NO_RING);
    assert_eq!(placed_on(&world, V4).len(), 2);
}

#[test]
fn tables_tell_a_new_daemon_who_was_dead() {
    let mut world = World::new(EXAMPLE);
    world.health.extend([
        (wg(1), AddressHealth::both(Status::Down)),
        (wg(2), AddressHealth::both(Status::Unknown)),
    ]);
    world.health.get_mut(&wg(2)).unwrap().set(Family::V6, Status::Down);
    world.settle();
    let told = Registry::of(&world.tables).health();
    assert_eq!(told, world.health);

    // The endpoint that a backend had at its former address says nothing of it.
    world.health = HealthView::new();
    world.settle();
    world.config.pools[0].backends[0].address = "10.20.0.99".parse().unwrap();
    world.settle();
    let registry = Registry::of(&world.tables);
    assert!(!registry.retired().is_empty());
    assert_eq!(registry.health(), HealthView::new());
}

fn silent(backends: &[u8]) -> Silent {
    let all: BTreeSet<_> = backends.iter().map(|n| wg(*n)).collect();
    Silent { avoided: all.clone(), all, ..Silent::default() }
}

/// It keeps what it has, and gets nothing new: unless all of its pool are silent, for then it is not they.
#[test]
fn a_silent_backend_gets_no_new_sessions_while_others_answer() {
    const LIVE: u8 = ENDPOINT_LIVE;
    let at = "10.20.0.11:51820";
    let mut world = World::new(EXAMPLE);
    world.settle();
    assert_eq!(placed_on(&world, V4).len(), 2);
    assert!(world.load.set_silent(silent(&[1])));
    assert!(!world.load.set_silent(silent(&[1])), "nothing new");
    world.settle();
    assert_eq!((placed_on(&world, V4).len(), flags(&world, at)), (1, LIVE));
    // It is tried.
    assert!(world.load.set_silent(Silent { avoided: BTreeSet::new(), ..silent(&[1]) }));
    world.settle();
    assert_eq!((placed_on(&world, V4).len(), flags(&world, at)), (2, LIVE | ENDPOINT_ACCEPTS));
    assert!(world.load.set_silent(silent(&[1, 2])));
    world.settle();
    assert_eq!((placed_on(&world, V4).len(), flags(&world, at)), (2, LIVE | ENDPOINT_ACCEPTS));
}

/// Rather one that may hang than none.
#[test]
fn a_silent_backend_gets_new_sessions_where_no_other_one_could_take_them() {
    const BOTH: u8 = ENDPOINT_LIVE | ENDPOINT_ACCEPTS;
    let at = "10.20.0.12:51820";
    let mut world = World::new(EXAMPLE);
    world.settle();
    let both = placed_on(&world, V4);
    world.load.set_silent(silent(&[2]));
    world.settle();
    let first = placed_on(&world, V4);
    let second = &both - &first;
    assert_eq!((first.len(), second.len()), (1, 1));

    world.overrides.drained.insert(wg(1), Drain::default());
    world.settle();
    assert_eq!((placed_on(&world, V4), flags(&world, at)), (second.clone(), BOTH));
    world.overrides.drained.clear();
    world.settle();
    assert_eq!((placed_on(&world, V4), flags(&world, at)), (first.clone(), ENDPOINT_LIVE));

    // In the one family in which the other is dead.
    world.health.insert(wg(1), down_at(Family::V4));
    world.settle();
    assert_eq!((placed_on(&world, V4), flags(&world, at)), (second.clone(), BOTH));
    assert_eq!(placed_on(&world, V6), first);
    world.health.clear();

    let most = world.config.pools[0].backends[0].max_sessions.insert(10);
    let full = [(wg(1), *most)].into();
    world.load.observe(&world.config, &full);
    world.settle();
    assert_eq!((placed_on(&world, V4), flags(&world, at)), (second, BOTH));
}
