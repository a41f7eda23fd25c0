//! What packets are looked up by.

use dataplane::abi::{Directory, KIND_BACKEND, KIND_ENDPOINT, KIND_LISTENER, KIND_VIP, NO_RING};

use super::World;
use crate::config::Affinity;

const EXAMPLE: &str = include_str!("../../../../docs/fernpass.toml");

#[test]
fn an_address_with_listeners_is_known_without_a_port() {
    let mut world = World::new(EXAMPLE);
    let listener = "203.0.113.11:51821/udp".parse().unwrap();
    world.config.services[1].listen.push(listener);
    world.settle();
    // As one of its listeners.
    let vip = |world: &World, at| {
        let entry = world.entry(at).expect("a listener");
        Some(Directory { kind: KIND_VIP, ..entry })
    };
    for (address, listener) in [
        ("203.0.113.10:0", "203.0.113.10:51820"),
        ("[2001:db8::10]:0", "[2001:db8::10]:51820"),
        ("203.0.113.11:0", "203.0.113.11:51820"),
    ] {
        assert_eq!(world.entry(address), vip(&world, listener), "{address}");
    }
    let backend = world.entry("10.20.0.11:51820").expect("an endpoint");
    let without_port = Directory { kind: KIND_BACKEND, ..backend };
    assert_eq!(world.entry("10.20.0.11:0"), Some(without_port));
    let count = |kind| world.tables.directory.values().filter(|entry| entry.kind == kind).count();
    assert_eq!((count(KIND_LISTENER), count(KIND_VIP), count(KIND_ENDPOINT)), (4, 3, 6 + 2));

    // One listener of two at the address is gone, then the other.
    world.config.services[1].listen.pop();
    world.settle();
    assert_eq!(world.entry("203.0.113.11:0"), vip(&world, "203.0.113.11:51820"));
    world.config.services[1].listen.remove(0);
    world.settle();
    assert_eq!(world.entry("203.0.113.11:0"), None);
    assert_eq!(world.entry("203.0.113.10:0"), vip(&world, "203.0.113.10:51820"));
}

/// Without a port nobody knows which of two services is meant.
#[test]
fn an_address_of_two_services_places_nothing_without_a_port() {
    let mut world = World::new(EXAMPLE);
    let listener = "203.0.113.10:51821/udp".parse().unwrap();
    world.config.services[1].listen.push(listener);
    world.settle();
    let vip = world.entry("203.0.113.10:0").expect("an address with listeners");
    assert_eq!((vip.kind, vip.ring, vip.is_by_flow()), (KIND_VIP, NO_RING, true));
}

/// Only the listeners change: what leads packets of sessions stays as it is.
#[test]
fn another_affinity_changes_where_new_sessions_go_and_nothing_else() {
    let mut world = World::new(EXAMPLE);
    world.settle();
    let before = world.tables.clone();
    for service in &mut world.config.services {
        service.affinity = Affinity::Flow;
    }
    world.settle();
    for (key, entry) in &world.tables.directory {
        let old = before.directory[key];
        // Those without ports as well: without them nothing can be placed by flow.
        if entry.places() {
            assert!(entry.is_by_flow() && !old.is_by_flow());
            assert_eq!((entry.pack(), entry.listener()), (old.pack(), old.index));
        } else {
            assert_eq!(*entry, old);
        }
    }
    assert_eq!((&world.tables.endpoints, &world.tables.rings), (&before.endpoints, &before.rings));
}
