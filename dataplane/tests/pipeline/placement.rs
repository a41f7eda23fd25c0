//! Where packets without a session go.

use crate::{answer, beginning, client, forwarded, refused};
use dataplane::abi::{
    ENDPOINT_ACCEPTS, ENDPOINT_LIVE, ENDPOINT_RELEASED, LISTENER_BY_FLOW, NO_RING,
};
use dataplane::fixture::World;
use dataplane::fixture::message::{data, initiation, keepalive, response};
use dataplane::fixture::site::{BACKENDS, LISTENERS, Listener, UDP, WG};
use dataplane::reason::Reason;

fn placed(world: &World, l: &Listener, n: u16) -> u32 {
    world.inbound(l, client(l, n), beginning(l)).backend(l)
}

#[test]
fn clients_spread_over_the_ring_evenly() {
    for l in LISTENERS {
        let world = World::new();
        let mut counts = [0_u32; BACKENDS as usize];
        for n in 0..1500 {
            counts[placed(&world, &l, n) as usize] += 1;
        }
        assert!(counts.iter().all(|n| (420..=580).contains(n)), "{counts:?}");
    }
}

#[test]
fn a_client_is_placed_by_its_address_and_not_by_its_port() {
    let world = World::new();
    for n in 0..100 {
        let first = placed(&world, &WG, n);
        for port in [1, 1000, 65535] {
            let mut at = client(&WG, n);
            at.set_port(port);
            assert_eq!(world.inbound(&WG, at, initiation(2)).backend(&WG), first);
        }
    }
}

#[test]
fn two_gateways_with_different_keys_place_alike() {
    let (one, two) = (World::new(), World::new());
    two.tables.settings.hash_key[0].set(1);
    two.tables.settings.hash_key[1].set(2);
    two.tables.settings.flow_key[3].set(3);
    for n in 0..200 {
        assert_eq!(placed(&one, &WG, n), placed(&two, &WG, n));
    }
}

#[test]
fn a_ring_is_read_at_every_position() {
    let mut world = World::new();
    let mut seen = std::collections::BTreeSet::new();
    // Backend 1 where the position's lowest three bits say so: each byte of a word.
    for byte in 0..8 {
        world.place(&WG, |position| u32::from(position % 8 == byte));
        let hits = (0..400).filter(|n| placed(&world, &WG, *n) == 1).collect::<Vec<_>>();
        assert!(!hits.is_empty());
        seen.extend(hits);
    }
    assert_eq!(seen.len(), 400, "every client is at one of the eight");
}

#[test]
fn a_swapped_ring_places_new_clients_and_leaves_sessions() {
    let mut world = World::new();
    let ordinal = world.shake_hands(&WG, client(&WG, 1), (100, 500));
    let next = (ordinal + 1) % BACKENDS;
    world.place(&WG, |_| next);
    for n in 10..60 {
        assert_eq!(placed(&world, &WG, n), next);
    }
    assert_eq!(world.inbound(&WG, client(&WG, 1), initiation(101)).backend(&WG), ordinal);
    assert_eq!(world.inbound(&WG, client(&WG, 1), data(500, 1)).backend(&WG), ordinal);
}

#[test]
fn the_hint_brings_a_known_address_back_to_its_backend() {
    let mut world = World::new();
    let ordinal = world.shake_hands(&WG, client(&WG, 1), (100, 500));
    world.place(&WG, |_| (ordinal + 1) % BACKENDS);
    // The next connection from the same address, another port.
    let mut at = client(&WG, 1);
    at.set_port(999);
    assert_eq!(world.inbound(&WG, at, initiation(1)).backend(&WG), ordinal);
    assert_eq!(world.count(Reason::HintUsed), 1);
    // Not to a backend that is draining, full or dead.
    for flags in [ENDPOINT_LIVE, ENDPOINT_ACCEPTS, 0] {
        world.flag(WG.endpoint(ordinal), flags);
        assert_ne!(world.inbound(&WG, at, initiation(1)).backend(&WG), ordinal);
    }
    world.flag(WG.endpoint(ordinal), ENDPOINT_LIVE | ENDPOINT_ACCEPTS);
    assert_eq!(world.inbound(&WG, at, initiation(1)).backend(&WG), ordinal);
}

#[test]
fn placed_by_flow_the_sessions_of_one_address_are_spread_and_each_stays() {
    for l in [WG, UDP] {
        let mut world = World::new();
        world.change(&l, |entry| entry.index |= LISTENER_BY_FLOW);
        let mut seen = [0; BACKENDS as usize];
        let mut at = client(&l, 1);
        for port in 1..=300 {
            at.set_port(port);
            let ordinal = world.inbound(&l, at, beginning(&l)).backend(&l);
            seen[ordinal as usize] += 1;
            // Its next packet finds the same, and what another flow of the address has opened does not matter.
            assert_eq!(world.inbound(&l, at, beginning(&l)).backend(&l), ordinal);
            world.answer(&l, (ordinal + 1) % BACKENDS, client(&l, 1), answer(&l));
        }
        assert!(seen.iter().all(|count| *count > 60), "{seen:?}");
        assert_eq!(world.count(Reason::HintUsed), 0);
    }
}

#[test]
fn a_hint_is_for_one_service() {
    let mut world = World::new();
    let mut at = client(&WG, 1);
    world.shake_hands(&WG, at, (100, 500));
    at.set_port(999);
    world.place(&UDP, |_| 2);
    assert_eq!(world.inbound(&UDP, at, vec![1]).backend(&UDP), 2);
    assert_eq!(world.count(Reason::HintUsed), 0);
}

#[test]
fn a_full_hint_bucket_loses_hints_and_nothing_else() {
    let world = World::with(dataplane::table::host::Sizes {
        slots: 1024,
        ids: 256,
        hints: 1,
        ..Default::default()
    });
    world.tables.tenants[0].max_sessions.set(1000);
    for n in 0..200 {
        let id = 100 + u32::from(n);
        world.shake_hands(&WG, client(&WG, n), (id, 10_000 + id));
    }
    assert_eq!(world.sessions(), 200);
    for n in 0..200 {
        let outcome = world.inbound(&WG, client(&WG, n), keepalive(10_100 + u32::from(n), 5));
        forwarded(&outcome, Reason::InEstablished);
    }
}

#[test]
fn without_a_ring_only_sessions_and_hints_lead_on() {
    let mut world = World::new();
    let ordinal = world.shake_hands(&WG, client(&WG, 1), (100, 500));
    world.change(&WG, |entry| entry.ring = NO_RING);
    refused(&world.inbound(&WG, client(&WG, 2), initiation(1)), Reason::NoBackend);
    forwarded(&world.inbound(&WG, client(&WG, 1), initiation(1)), Reason::InEstablished);
    assert_eq!(world.inbound(&WG, client(&WG, 9), data(500, 2)).backend(&WG), ordinal);
}

#[test]
fn an_index_that_leads_nowhere_is_told_and_not_followed() {
    for (index, ring, tenant) in [(600, 0, 0), (0, 2000, 0), (0, 0, 5000)] {
        let mut world = World::new();
        world.change(&WG, |entry| {
            (entry.index, entry.ring, entry.tenant) = (index, ring, tenant);
        });
        refused(&world.inbound(&WG, client(&WG, 1), initiation(1)), Reason::BadTable);
    }
}

#[test]
fn the_handshake_of_one_client_stays_together() {
    let world = World::new();
    for n in 0..100 {
        let at = client(&WG, n);
        let first = placed(&world, &WG, n);
        world.answer(&WG, first, at, response(500 + u32::from(n), 1));
        let outcome = world.inbound(&WG, at, keepalive(500 + u32::from(n), 0));
        assert_eq!(outcome.backend(&WG), first);
        world.answer(&WG, first, at, data(1, 0));
        if world.count(Reason::SessionOpened) == 60 {
            break;
        }
    }
}

/// When a drain is over: whoever has a session there keeps it until it is ended, and nobody gets one.
#[test]
fn a_released_backend_opens_no_session_again() {
    let l = WG;
    let mut world = World::new();
    let (kept, ended, new) = (client(&l, 1), client(&l, 2), client(&l, 3));
    let ordinal = world.shake_hands(&l, kept, (8, 7));
    world.flag(l.endpoint(ordinal), ENDPOINT_LIVE | ENDPOINT_RELEASED);
    forwarded(&world.answer(&l, ordinal, kept, data(8, 3)), Reason::OutEstablished);
    forwarded(&world.inbound(&l, kept, data(7, 3)), Reason::InEstablished);
    for at in [ended, new] {
        for message in [data(80, 3), response(70, 80)] {
            refused(&world.answer(&l, ordinal, at, message), Reason::Released);
        }
        assert!(world.slot(&l, at).is_none());
    }
    assert_eq!(world.sessions(), 1);
}
