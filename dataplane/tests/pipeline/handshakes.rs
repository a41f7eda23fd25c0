//! WireGuard's ids: rekeys, handshakes that the concentrator begins, cookies.

use crate::{client, forwarded};
use dataplane::fixture::World;
use dataplane::fixture::message::{cookie, data, initiation, keepalive, response};
use dataplane::fixture::site::WG;
use dataplane::reason::Reason;

/// Ids of a slot: inbound, then outbound; each current, next, previous.
fn ids(world: &World) -> [u32; 6] {
    let (_, slot) = world.slot(&WG, client(&WG, 1)).expect("a session");
    let detail = world.detail(&WG, client(&WG, 1));
    [
        slot.in_id.get(),
        detail.in_id_next.get(),
        detail.in_id_previous.get(),
        slot.out_id.get(),
        detail.out_id_next.get(),
        detail.out_id_previous.get(),
    ]
}

/// A rekey on an open session, seen from the gateway.
fn rekey(world: &World, ordinal: u32, id: (u32, u32)) {
    let at = client(&WG, 1);
    for outcome in [
        world.inbound(&WG, at, initiation(id.0)),
        world.answer(&WG, ordinal, at, response(id.1, id.0)),
    ] {
        assert!(outcome.is_forwarded());
    }
}

#[test]
fn a_rekey_keeps_three_generations_of_ids() {
    let world = World::new();
    let at = client(&WG, 1);
    let ordinal = world.shake_hands(&WG, at, (100, 500));
    assert_eq!(ids(&world), [500, 0, 0, 100, 0, 0]);
    rekey(&world, ordinal, (101, 501));
    assert_eq!(ids(&world), [500, 501, 0, 100, 101, 0]);
    // Packets of the old keys are still on their way.
    forwarded(&world.inbound(&WG, at, data(500, 9)), Reason::InEstablished);
    forwarded(&world.answer(&WG, ordinal, at, data(100, 9)), Reason::OutEstablished);
    world.inbound(&WG, at, keepalive(501, 0));
    world.answer(&WG, ordinal, at, data(101, 0));
    assert_eq!(ids(&world), [501, 0, 500, 101, 0, 100]);
    rekey(&world, ordinal, (102, 502));
    assert_eq!(ids(&world), [501, 502, 500, 101, 102, 100]);
    world.inbound(&WG, at, keepalive(502, 0));
    world.answer(&WG, ordinal, at, data(102, 0));
    assert_eq!(ids(&world), [502, 0, 501, 102, 0, 101]);
    // The ids of the generation before the previous are forgotten, the others lead here.
    let elsewhere = client(&WG, 2);
    forwarded(&world.inbound(&WG, elsewhere, data(500, 10)), Reason::InUnestablished);
    forwarded(&world.inbound(&WG, elsewhere, data(501, 10)), Reason::InById);
    forwarded(&world.inbound(&WG, elsewhere, data(502, 10)), Reason::InById);
    assert_eq!(world.count(Reason::SessionOpened), 1);
}

#[test]
fn a_handshake_that_came_to_nothing_gives_way_to_the_next() {
    let world = World::new();
    let ordinal = world.shake_hands(&WG, client(&WG, 1), (100, 500));
    for n in 1..20 {
        rekey(&world, ordinal, (100 + n, 500 + n));
        assert_eq!(ids(&world), [500, 500 + n, 0, 100, 100 + n, 0]);
    }
    // Only the live ids take room in the index: in and out, current and next.
    let entries = world.tables.ids.iter().flat_map(|b| &b.0).filter(|e| e.load() != 0).count();
    assert_eq!(entries, 4);
}

#[test]
fn the_concentrator_may_begin_the_handshake() {
    let world = World::new();
    let at = client(&WG, 1);
    // The client is known to the concentrator from an earlier life of the gateway.
    forwarded(&world.answer(&WG, 2, at, initiation(900)), Reason::OutEstablished);
    assert_eq!(world.sessions(), 0);
    let outcome = world.inbound(&WG, at, response(300, 900));
    forwarded(&outcome, Reason::InEstablished);
    assert_eq!(outcome.backend(&WG), 2);
    assert_eq!(world.sessions(), 0);
    forwarded(&world.answer(&WG, 2, at, data(300, 0)), Reason::OutEstablished);
    assert_eq!(world.sessions(), 1);
    forwarded(&world.inbound(&WG, at, data(900, 0)), Reason::InEstablished);
    assert_eq!(ids(&world), [900, 0, 0, 300, 0, 0]);
}

#[test]
fn a_response_from_a_roamed_client_finds_the_concentrator_that_began() {
    let world = World::new();
    world.answer(&WG, 2, client(&WG, 1), initiation(900));
    let outcome = world.inbound(&WG, client(&WG, 40), response(300, 900));
    forwarded(&outcome, Reason::InById);
    assert_eq!(outcome.backend(&WG), 2);
}

#[test]
fn cookies_pass_both_ways_and_change_no_id() {
    let world = World::new();
    let at = client(&WG, 1);
    let ordinal = world.shake_hands(&WG, at, (100, 500));
    let before = world.image();
    forwarded(&world.answer(&WG, ordinal, at, cookie(101)), Reason::OutEstablished);
    let outcome = world.inbound(&WG, at, cookie(500));
    forwarded(&outcome, Reason::InEstablished);
    assert_eq!(world.image(), before);
    // A client that roamed under load answers a concentrator's handshake with a cookie.
    let outcome = world.inbound(&WG, client(&WG, 30), cookie(500));
    forwarded(&outcome, Reason::InById);
    assert_eq!(outcome.backend(&WG), ordinal);
}

#[test]
fn retries_under_cookies_reach_the_same_concentrator() {
    let world = World::new();
    for n in 0..50 {
        let at = client(&WG, n);
        let first = world.inbound(&WG, at, initiation(1)).backend(&WG);
        world.answer(&WG, first, at, cookie(1));
        for retry in 2..6 {
            assert_eq!(world.inbound(&WG, at, initiation(retry)).backend(&WG), first);
        }
    }
}
