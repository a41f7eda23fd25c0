//! QUIC-LB: a client that migrates by itself, with an id that nobody has seen, is carried to the server that its id names.

use crate::{client, forwarded};
use dataplane::abi::{
    ENDPOINT_ACCEPTS, ENDPOINT_LIVE, LISTENER_BY_FLOW, Profile, listener_server_id,
};
use dataplane::fixture::World;
use dataplane::fixture::quic::Kind::{Handshake, Initial};
use dataplane::fixture::quic::{V1, id, long, named, short};
use dataplane::fixture::site::{BACKENDS, DIRECT, Listener, QUIC, QUIC_LB, QUIC6, server_id};
use dataplane::reason::Reason;
use std::net::SocketAddr;

/// The id of the client's.
const OWN: u32 = 0x1111;

/// An id that a server gives out.
fn of(ordinal: u32, nonce: u32) -> [u8; 8] {
    named(QUIC_LB, server_id(ordinal), nonce)
}

/// A connection to a server of one's choice, whose first id has the nonce 1.
fn connect(world: &mut World, l: &Listener, at: SocketAddr, ordinal: u32) {
    world.place(l, |_| ordinal);
    let first = world.inbound(l, at, long(Initial, V1, &id(0x7777), &id(OWN)));
    assert_eq!(first.backend(l), ordinal);
    let answer = world.answer(l, ordinal, at, long(Initial, V1, &id(OWN), &of(ordinal, 1)));
    forwarded(&answer, Reason::OutEstablished);
    let back = world.inbound(l, at, long(Handshake, V1, &of(ordinal, 1), &id(OWN)));
    forwarded(&back, Reason::InEstablished);
    assert_eq!(world.sessions(), 1);
}

/// Where the ring leads, if it is not the named one.
fn elsewhere(ordinal: u32) -> u32 {
    (ordinal + 1) % BACKENDS
}

/// The packet is placed as any that begins something.
#[track_caller]
fn placed_as_usual(world: &World, l: &Listener, at: SocketAddr, payload: Vec<u8>, to: u32) {
    let outcome = world.inbound(l, at, payload);
    forwarded(&outcome, Reason::InUnestablished);
    assert_eq!(outcome.backend(l), to);
}

#[test]
fn a_client_that_migrates_by_itself_is_carried_to_its_server_and_writes_nothing() {
    for l in [QUIC, QUIC6] {
        for ordinal in 0..BACKENDS {
            let mut world = World::new();
            connect(&mut world, &l, client(&l, 1), ordinal);
            world.place(&l, |_| elsewhere(ordinal));
            world.tables.settings.budget_cost.set(1000);
            let (before, away) = (world.image(), client(&l, 2));
            for nonce in 0..1000 {
                let carried = world.inbound(&l, away, short(&of(ordinal, 2 + nonce / 100)));
                forwarded(&carried, Reason::InByServer);
                assert_eq!(carried.backend(&l), ordinal);
            }
            let answer = world.answer(&l, ordinal, away, short(&id(OWN + 1)));
            forwarded(&answer, Reason::OutStateless);
            assert_eq!(world.image(), before);
            assert_eq!(world.count(Reason::HintUsed), 0);
        }
    }
}

#[test]
fn a_gateway_that_lost_its_tables_carries_every_connection_also_above_the_quota() {
    let mut world = World::new();
    world.tables.tenants[usize::from(QUIC.tenant)].max_sessions.set(0);
    for ordinal in 0..BACKENDS {
        world.place(&QUIC, |_| elsewhere(ordinal));
        let carried = world.inbound(&QUIC, client(&QUIC, 1), short(&of(ordinal, 1)));
        forwarded(&carried, Reason::InByServer);
        assert_eq!(carried.backend(&QUIC), ordinal);
    }
}

/// It takes no new sessions, and keeps the connections that it has; a dead one has none.
#[test]
fn a_drained_server_is_still_reached_and_a_dead_one_is_not() {
    let mut world = World::new();
    let at = client(&QUIC, 1);
    world.place(&QUIC, |_| 1);
    world.flag(QUIC.endpoint(0), ENDPOINT_LIVE);
    forwarded(&world.inbound(&QUIC, at, short(&of(0, 1))), Reason::InByServer);
    world.change(&QUIC, |entry| entry.ring = dataplane::abi::NO_RING);
    forwarded(&world.inbound(&QUIC, at, short(&of(0, 1))), Reason::InByServer);
    world.change(&QUIC, |entry| entry.ring = QUIC.ring());
    for flags in [0, ENDPOINT_ACCEPTS] {
        world.flag(QUIC.endpoint(0), flags);
        placed_as_usual(&world, &QUIC, at, short(&of(0, 1)), 1);
    }
}

#[test]
fn an_id_that_names_nobody_is_placed_as_usual() {
    let mut world = World::new();
    let at = client(&QUIC, 1);
    world.place(&QUIC, |_| 1);
    // Another server, another configuration, the one that names none; a client's own choice.
    for id in [of(BACKENDS, 1), named(0, server_id(0), 1), named(7, server_id(0), 1)] {
        placed_as_usual(&world, &QUIC, at, short(&id), 1);
    }
    placed_as_usual(&world, &QUIC, at, long(Initial, V1, &of(0, 1), &id(OWN)), 1);
    // Where it is not configured.
    world.change(&QUIC, |entry| entry.index &= !listener_server_id(3));
    placed_as_usual(&world, &QUIC, at, short(&of(0, 1)), 1);
    // And where sessions are placed by their flows, it is.
    world.change(&QUIC, |entry| entry.index |= LISTENER_BY_FLOW | listener_server_id(2));
    forwarded(&world.inbound(&QUIC, at, short(&of(0, 1))), Reason::InByServer);
}

#[test]
fn an_address_and_port_that_another_had_do_not_lead_to_the_others_server() {
    let mut world = World::new();
    let at = client(&QUIC, 1);
    connect(&mut world, &QUIC, at, 0);
    let before = world.image();
    let carried = world.inbound(&QUIC, at, short(&of(2, 9)));
    forwarded(&carried, Reason::InByServer);
    assert_eq!(carried.backend(&QUIC), 2);
    assert_eq!(world.image(), before, "it is not the session's");
    // A new one of its own server's is.
    for _ in 0..2 {
        forwarded(&world.inbound(&QUIC, at, short(&of(0, 9))), Reason::InEstablished);
    }
    let (_, slot) = world.slot(&QUIC, at).unwrap();
    assert_eq!(slot.in_id.get(), fold(of(0, 9)));
}

/// As the tables have an id.
fn fold(id: [u8; 8]) -> u32 {
    let [high, low] = [&id[..4], &id[4..]].map(|half| half.try_into().map(u32::from_be_bytes));
    high.unwrap().wrapping_add(low.unwrap())
}

/// A client behind a NAT that forgets has the id that is known: its session moves, as without.
#[test]
fn a_session_moves_where_its_known_id_comes_from() {
    let mut world = World::new();
    let (home, away) = (client(&QUIC, 1), client(&QUIC, 2));
    connect(&mut world, &QUIC, home, 2);
    let identity = world.identity(&QUIC, home);
    forwarded(&world.inbound(&QUIC, away, short(&of(2, 1))), Reason::InById);
    forwarded(&world.answer(&QUIC, 2, away, short(&id(OWN))), Reason::OutEstablished);
    assert_eq!((world.identity(&QUIC, away), world.sessions()), (identity, 1));
}

#[test]
fn backends_that_answer_by_themselves_keep_clients_that_migrate() {
    let mut world = World::new();
    world.change(&DIRECT, |entry| {
        entry.profile = Profile::Quic as u8;
        entry.index |= listener_server_id(2);
    });
    world.name_servers(&DIRECT);
    for ordinal in 0..BACKENDS {
        world.place(&DIRECT, |_| elsewhere(ordinal));
        let endpoint = world.tables.endpoints[DIRECT.endpoint(ordinal) as usize];
        let carried = world.inbound(&DIRECT, client(&DIRECT, 1), short(&of(ordinal, 1)));
        forwarded(&carried, Reason::InDirect);
        let mac = dataplane::fixture::site::mac(endpoint.nexthop);
        assert_eq!(carried.frame[..6], mac, "server {ordinal}");
    }
}
