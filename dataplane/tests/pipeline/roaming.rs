//! Clients that change their address, impostors that claim to, idle clients.

use crate::{client, forwarded};
use dataplane::fixture::World;
use dataplane::fixture::message::{data, initiation, keepalive, response};
use dataplane::fixture::site::{WG, WG6};
use dataplane::reason::Reason;
use dataplane::table::slot;

#[test]
fn a_data_answer_to_a_new_address_moves_the_session() {
    for l in [WG, WG6] {
        let world = World::new();
        let (home, train) = (client(&l, 1), client(&l, 2));
        let ordinal = world.shake_hands(&l, home, (100, 500));
        let id = world.identity(&l, home);
        let outcome = world.inbound(&l, train, data(500, 7));
        forwarded(&outcome, Reason::InById);
        assert_eq!(outcome.backend(&l), ordinal);
        assert!(world.slot(&l, train).is_none(), "nothing has moved yet");
        forwarded(&world.answer(&l, ordinal, train, data(100, 8)), Reason::OutEstablished);
        assert_eq!(world.identity(&l, train), id);
        assert!(world.slot(&l, home).is_none());
        let (_, slot) = world.slot(&l, train).expect("the session");
        assert_eq!(world.detail(&l, train).moves.get(), 1);
        // Counters go along: keepalive and data; response and two of data.
        assert_eq!((slot.rx_packets.get(), slot.tx_packets.get()), (2, 3));
        forwarded(&world.inbound(&l, train, data(500, 9)), Reason::InEstablished);
        assert_eq!((world.sessions(), world.tables.settings.used.load()), (1, 1));
        assert_eq!(world.count(Reason::SessionMoved), 1);
        assert_eq!(world.count(Reason::SessionOpened), 1);
    }
}

#[test]
fn an_id_leads_nowhere_from_the_other_family() {
    for (l, other) in [(WG, WG6), (WG6, WG)] {
        let world = World::new();
        world.shake_hands(&l, client(&l, 1), (100, 500));
        // Its endpoint has no address of that family.
        for n in 0..20 {
            let outcome = world.inbound(&other, client(&other, n), data(500, n.into()));
            forwarded(&outcome, Reason::InUnestablished);
            outcome.backend(&other);
        }
    }
}

#[test]
fn a_session_moves_as_often_as_its_client() {
    let world = World::new();
    let ordinal = world.shake_hands(&WG, client(&WG, 1), (100, 500));
    let id = world.identity(&WG, client(&WG, 1));
    for n in 2..40 {
        world.inbound(&WG, client(&WG, n), data(500, n.into()));
        world.answer(&WG, ordinal, client(&WG, n), data(100, n.into()));
        let detail = world.detail(&WG, client(&WG, n));
        assert_eq!((detail.identity.get(), detail.moves.get()), (id, n - 1));
        assert_eq!(world.sessions(), 1);
    }
}

#[test]
fn a_packet_from_the_old_address_is_still_carried_and_moves_nothing() {
    let world = World::new();
    let (home, train) = (client(&WG, 1), client(&WG, 2));
    let ordinal = world.shake_hands(&WG, home, (100, 500));
    world.answer(&WG, ordinal, train, data(100, 8));
    let outcome = world.inbound(&WG, home, data(500, 3));
    forwarded(&outcome, Reason::InById);
    assert_eq!(outcome.backend(&WG), ordinal);
    assert!(world.slot(&WG, home).is_none());
    assert_eq!(world.count(Reason::SessionMoved), 1);
}

#[test]
fn an_impostor_moves_nothing_and_the_traffic_goes_on() {
    let world = World::new();
    let home = client(&WG, 1);
    let ordinal = world.shake_hands(&WG, home, (100, 500));
    let before = world.image();
    for n in 0..50 {
        // Forged and replayed: the concentrator will not answer them.
        let outcome = world.inbound(&WG, client(&WG, 60 + n), data(500, n.into()));
        forwarded(&outcome, Reason::InById);
        assert_eq!(outcome.backend(&WG), ordinal);
        forwarded(&world.inbound(&WG, home, data(500, 100)), Reason::InEstablished);
        forwarded(&world.answer(&WG, ordinal, home, data(100, 100)), Reason::OutEstablished);
    }
    assert_eq!(world.image(), before);
}

#[test]
fn a_replayed_initiation_that_is_answered_moves_nothing() {
    let world = World::new();
    let (home, thief) = (client(&WG, 1), client(&WG, 66));
    let ordinal = world.shake_hands(&WG, home, (100, 500));
    let id = world.identity(&WG, home);
    let other = (ordinal + 1) % 3;
    world.inbound(&WG, thief, initiation(100));
    world.answer(&WG, other, thief, response(900, 100));
    assert_eq!(world.identity(&WG, home), id);
    forwarded(&world.inbound(&WG, home, data(500, 10)), Reason::InEstablished);
    assert_eq!(world.sessions(), 1);
}

#[test]
fn an_idle_client_roams_and_shakes_hands_at_the_same_concentrator() {
    let world = World::new();
    for n in 0..30 {
        let (home, train) = (client(&WG, n), client(&WG, 1000 + n));
        let id = 5000 + u32::from(n);
        // Its session opens by keepalives alone.
        let ordinal = world.inbound(&WG, home, initiation(id)).backend(&WG);
        world.answer(&WG, ordinal, home, response(id + 100, id));
        world.inbound(&WG, home, keepalive(id + 100, 0));
        let (_, slot) = world.slot(&WG, home).expect("a session");
        assert_eq!(slot::state(slot.state.load()), slot::OPEN);
        // From its new address the id carries it, and the hint its next handshake.
        let outcome = world.inbound(&WG, train, keepalive(id + 100, 1));
        forwarded(&outcome, Reason::InById);
        assert_eq!(outcome.backend(&WG), ordinal);
        let outcome = world.inbound(&WG, train, initiation(id + 1000));
        forwarded(&outcome, Reason::InUnestablished);
        assert_eq!(outcome.backend(&WG), ordinal);
    }
    assert_eq!(world.count(Reason::HintUsed), 30);
}

#[test]
fn a_roamed_tentative_session_opens_where_its_data_answer_goes() {
    let world = World::new();
    let (home, train) = (client(&WG, 1), client(&WG, 2));
    let ordinal = world.inbound(&WG, home, initiation(100)).backend(&WG);
    world.answer(&WG, ordinal, home, response(500, 100));
    world.inbound(&WG, train, data(500, 0));
    world.answer(&WG, ordinal, train, data(100, 0));
    let (_, slot) = world.slot(&WG, train).expect("a session");
    assert_eq!(slot::state(slot.state.load()), slot::OPEN);
    assert!(world.slot(&WG, home).is_none());
    assert_eq!((world.sessions(), world.tables.settings.used.load()), (1, 1));
    assert_eq!(world.tables.tenants[0].tentative.load(), 0);
}

#[test]
fn a_session_without_its_flow_moves_on_the_quota_it_has() {
    let world = World::new();
    world.tables.tenants[0].max_sessions.set(1);
    let ordinal = world.shake_hands(&WG, client(&WG, 1), (100, 500));
    forwarded(&world.answer(&WG, ordinal, client(&WG, 2), data(100, 8)), Reason::OutEstablished);
    assert!(world.slot(&WG, client(&WG, 2)).is_some());
    assert_eq!(world.sessions(), 1);
    assert_eq!(world.tables.tenants[0].refused.load(), 0);
}

#[test]
fn a_gateway_without_its_tables_rebuilds_them_from_traffic() {
    let (old, new) = (World::new(), World::new());
    let at = client(&WG, 1);
    let ordinal = old.shake_hands(&WG, at, (100, 500));
    let outcome = new.answer(&WG, ordinal, at, data(100, 50));
    forwarded(&outcome, Reason::OutEstablished);
    // The id of the other direction is learned from the first packet of the proven flow.
    forwarded(&new.inbound(&WG, at, data(500, 50)), Reason::InEstablished);
    let outcome = new.inbound(&WG, client(&WG, 2), data(500, 51));
    forwarded(&outcome, Reason::InById);
    assert_eq!(outcome.backend(&WG), ordinal);
    new.answer(&WG, ordinal, client(&WG, 2), data(100, 51));
    assert_eq!(new.count(Reason::SessionMoved), 1);
}
