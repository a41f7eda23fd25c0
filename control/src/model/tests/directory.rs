//! What packets are looked up by.

use std::net::IpAddr;

use dataplane::abi::{
    AddressKey, Directory, ENDPOINT_ACCEPTS, ENDPOINT_DIRECT, ENDPOINT_LIVE, Encapsulation,
    Endpoint, KIND_BACKEND, KIND_ENDPOINT, KIND_LISTENER, KIND_SERVER, KIND_TUNNEL, KIND_VIP,
    NO_NEXTHOP, NO_RING, POOL_STRIDE,
};
use dataplane::profile::quic_lb;

use super::World;
use crate::config::{Affinity, Mode};
use crate::model::{HopKey, NextHop, Step, diff};

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
    assert_eq!(
        (count(KIND_LISTENER), count(KIND_VIP), count(KIND_ENDPOINT)),
        (4 + 2, 3 + 2, 6 + 2)
    );

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

/// Answers do not come back, so nothing is known by a backend's address but the errors of routers on the way to it.
#[test]
fn backends_that_answer_by_themselves_are_known_by_their_tunnels_alone() {
    let mut world = World::new(EXAMPLE);
    world.settle();
    let listener = world.entry("203.0.113.12:51820").expect("a listener");
    assert!(listener.is_direct() && !world.entry("203.0.113.10:51820").unwrap().is_direct());
    assert_eq!((world.entry("10.30.0.11:51820"), world.entry("10.30.0.11:0")), (None, None));
    for (tunnel, ordinal) in [("10.30.0.11:6080", 0), ("[2001:db8:30::12]:6080", 1)] {
        let entry = world.entry(tunnel).expect("the end of a tunnel");
        assert_eq!((entry.kind, entry.index % POOL_STRIDE), (KIND_TUNNEL, ordinal));
    }
    // Clients of both families reach the backends of either.
    for at in ["203.0.113.12:51820", "[2001:db8::12]:51820"] {
        let listener = world.entry(at).expect("a listener").listener();
        let endpoint = |ordinal| world.tables.endpoints[&(listener * POOL_STRIDE + ordinal)];
        let all = [endpoint(0), endpoint(1)];
        let sources = all.map(|e| IpAddr::from(world.tables.sources[&e.source]).to_string());
        assert_eq!(sources, ["10.20.0.1", "2001:db8:20::1"]);
        let flags = ENDPOINT_LIVE | ENDPOINT_ACCEPTS | ENDPOINT_DIRECT;
        // Five minutes, in units of 1.07 s.
        let as_it_should = |e: &Endpoint| {
            e.flags == flags && e.encapsulation == Encapsulation::Gue as u8 && e.idle == 280
        };
        assert!(all.iter().all(as_it_should), "{all:?}");
    }
}

/// A frame to a router would come back: the VIP is the gateway's.
#[test]
fn without_a_tunnel_only_neighbours_are_sent_to() {
    let mut world = World::new(EXAMPLE);
    (world.config.pools[2].mode, world.config.pools[2].tunnel) = (Mode::Dsr, None);
    let address: IpAddr = "10.30.0.11".parse().unwrap();
    for (neighbour, is_sent_to) in [("10.30.0.1", false), ("10.30.0.11", true)] {
        let key = HopKey { interface: 2, neighbour: neighbour.parse().unwrap() };
        world.routes.hops.insert(key, NextHop { ifindex: 2, ..NextHop::default() });
        world.routes.backends.insert(address, key);
        world.settle();
        let listener = world.entry("203.0.113.12:51820").expect("a listener").listener();
        let hop = world.tables.endpoints[&(listener * POOL_STRIDE)].nexthop;
        assert_eq!(hop != NO_NEXTHOP, is_sent_to, "{neighbour}");
    }
}

/// Steps that were interrupted may have left no free buffer: then a ring is overwritten that a listener still has, whose
/// backends have other places from now on.
#[test]
fn a_ring_is_taken_from_a_listener_before_it_is_that_of_another_mode() {
    let mut world = World::new(EXAMPLE);
    world.settle();
    let at = "203.0.113.12:51820";
    let old = world.entry(at).expect("a listener");
    let pool = &mut world.config.pools[2];
    (pool.mode, pool.tunnel, pool.agent) = (Mode::Nat, None, false);
    let mut wanted = world.wanted().unwrap();
    let key = *wanted.directory.iter().find(|(_, entry)| entry.index == old.listener()).unwrap().0;
    let new = wanted.directory[&key].ring;
    assert_ne!(new, old.ring, "another buffer, if there is one");
    let ring = wanted.rings.remove(&new).expect("its ring");
    wanted.rings.insert(old.ring, ring);
    for entry in wanted.directory.values_mut().filter(|entry| entry.ring == new) {
        entry.ring = old.ring;
    }
    let steps = diff(&world.tables, &wanted);
    let overwritten = steps.iter().position(
        |step| matches!(step, Step::Ring { number, ring: Some(_) } if *number == old.ring),
    );
    let taken = steps.iter().position(|step| {
        matches!(step, Step::Directory { key: of, entry: Some(entry) } if *of == key && entry.ring == NO_RING)
    });
    assert!(taken.expect("it places nothing meanwhile") < overwritten.expect("overwritten"));
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
            assert_eq!((entry.pack(), entry.listener()), (old.pack(), old.listener()));
        } else {
            assert_eq!(*entry, old);
        }
    }
    assert_eq!((&world.tables.endpoints, &world.tables.rings), (&before.endpoints, &before.rings));
}

/// Servers that name themselves in connection ids are known by that at their service, and what has no such ids knows nothing of it.
#[test]
fn servers_are_known_by_what_connection_ids_call_them() {
    let mut world = World::new(&format!("{EXAMPLE}{SERVICE}"));
    world.settle();
    let servers = |world: &World| -> Vec<_> {
        let all = world.tables.directory.iter().filter(|(_, entry)| entry.kind == KIND_SERVER);
        all.map(|(key, entry)| (*key, entry.index)).collect()
    };
    let listener = world.entry("203.0.113.50:443").expect("a listener");
    assert_eq!(listener.server_id(), 2);
    assert_eq!(world.entry("203.0.113.10:51820").expect("a listener").server_id(), 0);
    let named = |ordinal, number| {
        let name = quic_lb::name_of(3, number, 2);
        (AddressKey::of_server(listener.service, name), ordinal)
    };
    assert_eq!(servers(&world), [named(0, 0x0a01), named(1, 0x0a02)]);
    // Drained or not; and another name at once, without the old one.
    let pool = world.config.pools.last_mut().expect("the pool");
    pool.backends[1].server_id = "0b02".parse().ok();
    world.settle();
    assert_eq!(servers(&world), [named(0, 0x0a01), named(1, 0x0b02)]);
    world.config.pools.last_mut().expect("the pool").quic_lb = None;
    world.settle();
    assert_eq!(servers(&world), []);
    assert_eq!(world.entry("203.0.113.50:443").expect("a listener").server_id(), 0);
}

/// Over UDP and, beside, TCP: which has no connection ids.
const SERVICE: &str = r#"
[[pool]]
name = "named"
quic_lb = { config_id = 3, server_id_length = 2 }

  [[pool.backend]]
  name = "named-1"
  address = "10.40.0.11"
  server_id = "0a01"

  [[pool.backend]]
  name = "named-2"
  address = "10.40.0.12"
  server_id = "0a02"

[[service]]
name = "named"
tenant = "justiz"
profile = "quic"
listen = ["203.0.113.50:443/udp", "203.0.113.50:443/tcp"]
pool = "named"
"#;
