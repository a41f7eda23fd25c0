//! Addresses and ports that several clients use, one after the other or at once;
//! ids that several concentrators hand out.

use crate::{client, forwarded};
use dataplane::fixture::World;
use dataplane::fixture::message::{data, initiation, keepalive, response};
use dataplane::fixture::site::{UDP, WG, WG_OTHER};
use dataplane::reason::Reason;
use dataplane::table::slot;
use std::net::SocketAddr;

/// A session with this backend, whatever the ring says.
fn on(world: &World, ordinal: u32, at: SocketAddr, ids: (u32, u32)) -> u64 {
    world.answer(&WG, ordinal, at, response(ids.1, ids.0));
    world.inbound(&WG, at, keepalive(ids.1, 0));
    world.answer(&WG, ordinal, at, data(ids.0, 0));
    world.identity(&WG, at)
}

#[test]
fn two_clients_behind_one_address_keep_their_concentrators() {
    let world = World::new();
    let (mut a, mut b) = (client(&WG, 1), client(&WG, 1));
    a.set_port(1111);
    b.set_port(2222);
    let ids = (on(&world, 0, a, (100, 500)), on(&world, 1, b, (200, 600)));
    assert_ne!(ids.0, ids.1);
    for n in 1..20 {
        assert_eq!(world.inbound(&WG, a, data(500, n)).backend(&WG), 0);
        assert_eq!(world.inbound(&WG, b, data(600, n)).backend(&WG), 1);
        world.answer(&WG, 0, a, data(100, n));
        world.answer(&WG, 1, b, data(200, n));
    }
    assert_eq!((world.identity(&WG, a), world.identity(&WG, b)), ids);
    assert_eq!(world.count(Reason::SessionMoved), 0);
}

#[test]
fn a_port_reused_by_a_roamed_client_of_another_concentrator_leads_to_its_own() {
    let world = World::new();
    let (shared, home) = (client(&WG, 1), client(&WG, 2));
    let first = on(&world, 0, shared, (100, 500));
    let second = on(&world, 1, home, (200, 600));
    // The second client comes to the first one's address and port: its id goes before the flow.
    let outcome = world.inbound(&WG, shared, data(600, 5));
    forwarded(&outcome, Reason::InById);
    assert_eq!(outcome.backend(&WG), 1);
    forwarded(&world.answer(&WG, 1, shared, data(200, 6)), Reason::OutEstablished);
    assert_eq!(world.identity(&WG, shared), second);
    assert_eq!(world.count(Reason::SessionDisplaced), 1);
    // The first is aside: its id still leads to its concentrator, from anywhere.
    let elsewhere = client(&WG, 3);
    for from in [shared, elsewhere] {
        let outcome = world.inbound(&WG, from, data(500, 9));
        forwarded(&outcome, Reason::InById);
        assert_eq!(outcome.backend(&WG), 0);
    }
    assert_eq!(world.sessions(), 2);
    // And it is itself again when it is answered at its new address.
    world.answer(&WG, 0, elsewhere, data(100, 9));
    assert_eq!(world.identity(&WG, elsewhere), first);
    assert_eq!(world.identity(&WG, shared), second);
    assert_eq!((world.sessions(), world.tables.settings.used.load()), (2, 2));
}

#[test]
fn a_handshake_on_a_foreign_flow_is_remembered_aside() {
    let world = World::new();
    let shared = client(&WG, 1);
    let first = on(&world, 0, shared, (100, 500));
    world.answer(&WG, 2, shared, response(700, 300));
    assert_eq!(world.identity(&WG, shared), first, "the flow stays with the proven session");
    let outcome = world.inbound(&WG, shared, keepalive(700, 0));
    forwarded(&outcome, Reason::InById);
    assert_eq!(outcome.backend(&WG), 2);
    forwarded(&world.inbound(&WG, shared, data(500, 3)), Reason::InEstablished);
    // Data proves it: it has the flow, the first is aside.
    world.answer(&WG, 2, shared, data(300, 0));
    assert_ne!(world.identity(&WG, shared), first);
    assert_eq!(world.inbound(&WG, shared, data(500, 4)).backend(&WG), 0);
    assert_eq!(world.inbound(&WG, shared, data(700, 4)).backend(&WG), 2);
    assert_eq!(world.sessions(), 2);
    assert_eq!(world.tables.tenants[0].tentative.load(), 0);
}

#[test]
fn an_id_of_two_concentrators_leads_to_the_one_whose_flow_it_is() {
    let world = World::new();
    let (a, b) = (client(&WG, 1), client(&WG, 2));
    on(&world, 0, a, (100, 500));
    on(&world, 1, b, (200, 500));
    assert_eq!(world.inbound(&WG, a, data(500, 1)).backend(&WG), 0);
    assert_eq!(world.inbound(&WG, b, data(500, 1)).backend(&WG), 1);
}

#[test]
fn an_id_of_two_concentrators_leads_from_elsewhere_to_the_nearest_counter() {
    let world = World::new();
    let (a, b) = (client(&WG, 1), client(&WG, 2));
    on(&world, 0, a, (100, 500));
    on(&world, 1, b, (200, 500));
    // Of counters beyond the first ones each 64th is noted.
    for n in 0..64 {
        world.inbound(&WG, a, data(500, 1_000 + n));
        world.inbound(&WG, b, data(500, 900_000 + n));
    }
    let train = client(&WG, 3);
    assert_eq!(world.inbound(&WG, train, data(500, 1_001)).backend(&WG), 0);
    assert_eq!(world.inbound(&WG, train, data(500, 900_001)).backend(&WG), 1);
    assert_eq!(world.count(Reason::IdCollision), 2);
}

#[test]
fn a_marked_answer_with_data_takes_the_flow_of_another_backend() {
    let world = World::new();
    let at = client(&WG, 1);
    on(&world, 0, at, (100, 500));
    let data = dataplane::fixture::message::marked(data(0, 0));
    world.answer(&WG, 1, at, data);
    let (_, slot) = world.slot(&WG, at).expect("a session");
    assert_eq!(u32::from(slot.endpoint.get()), WG.endpoint(1));
    assert_eq!(world.inbound(&WG, client(&WG, 2), keepalive(500, 0)).backend(&WG), 0);
}

#[test]
fn answers_of_another_backend_do_not_take_a_flow_that_proves_nothing() {
    let world = World::new();
    let at = client(&UDP, 1);
    for _ in 0..2 {
        world.answer(&UDP, 0, at, b"first".to_vec());
    }
    let before = world.image();
    for _ in 0..5 {
        forwarded(&world.answer(&UDP, 1, at, b"stray".to_vec()), Reason::OutStateless);
    }
    assert_eq!(world.image(), before);
    assert_eq!(world.inbound(&UDP, at, b"more".to_vec()).backend(&UDP), 0);
}

#[test]
fn one_client_at_two_services_has_two_sessions() {
    let world = World::new();
    let at = client(&WG, 1);
    on(&world, 0, at, (100, 500));
    world.answer(&WG_OTHER, 1, at, response(500, 100));
    world.answer(&WG_OTHER, 1, at, data(100, 0));
    assert_eq!(world.inbound(&WG, at, data(500, 1)).backend(&WG), 0);
    assert_eq!(world.inbound(&WG_OTHER, at, data(500, 1)).backend(&WG_OTHER), 1);
    // Ids belong to their service.
    world.inbound(&WG_OTHER, client(&WG, 2), data(500, 1));
    assert_eq!(world.count(Reason::IdCollision), 0);
    assert_eq!(world.tables.tenants[0].sessions.load(), 1);
    assert_eq!(world.tables.tenants[1].sessions.load(), 1);
}

#[test]
fn a_handshake_of_the_next_client_at_the_port_of_one_that_left_is_not_lost() {
    let world = World::new();
    let at = client(&WG, 1);
    on(&world, 2, at, (100, 500));
    // The newcomer's initiation follows the flow; its concentrator is the old one's.
    let ordinal = world.inbound(&WG, at, initiation(900)).backend(&WG);
    assert_eq!(ordinal, 2);
    world.answer(&WG, 2, at, response(901, 900));
    forwarded(&world.inbound(&WG, at, keepalive(901, 0)), Reason::InEstablished);
    forwarded(&world.answer(&WG, 2, at, data(900, 0)), Reason::OutEstablished);
    let (_, slot) = world.slot(&WG, at).expect("a session");
    assert_eq!(slot::state(slot.state.load()), slot::OPEN);
}
