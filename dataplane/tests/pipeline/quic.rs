//! QUIC: a session is opened by who gives the server's connection id back, and known by it.

use crate::{client, forwarded, refused};
use dataplane::fixture::World;
use dataplane::fixture::quic::Kind::{Handshake, Initial, Retry};
use dataplane::fixture::quic::{V1, V2, id, long, short};
use dataplane::fixture::site::{BACKENDS, Listener, QUIC, QUIC6};
use dataplane::reason::Reason;
use dataplane::table::slot;
use std::net::SocketAddr;

/// What the client chose for the server before it knew better.
const RANDOM: u32 = 0x7777;
/// The client's, and the server's.
const IDS: (u32, u32) = (0x1111, 0x2222);

fn state(world: &World, l: &Listener, at: SocketAddr) -> Option<u8> {
    world.slot(l, at).map(|(_, slot)| slot::state(slot.state.load()))
}

/// A connection, and a packet of data each way: the server's ordinal.
fn connect(world: &World, l: &Listener, at: SocketAddr, version: u32, ids: (u32, u32)) -> u32 {
    let (own, server) = (id(ids.0), id(ids.1));
    let ordinal = world.inbound(l, at, long(Initial, version, &id(RANDOM), &own)).backend(l);
    let answer = world.answer(l, ordinal, at, long(Initial, version, &own, &server));
    forwarded(&answer, Reason::OutEstablished);
    let back = world.inbound(l, at, long(Handshake, version, &server, &own));
    forwarded(&back, Reason::InEstablished);
    assert_eq!(back.backend(l), ordinal);
    data(world, l, ordinal, at, ids);
    ordinal
}

#[track_caller]
fn data(world: &World, l: &Listener, ordinal: u32, at: SocketAddr, ids: (u32, u32)) {
    let to = world.inbound(l, at, short(&id(ids.1)));
    forwarded(&to, Reason::InEstablished);
    assert_eq!(to.backend(l), ordinal);
    forwarded(&world.answer(l, ordinal, at, short(&id(ids.0))), Reason::OutEstablished);
}

#[test]
fn who_gives_the_servers_id_back_has_a_session() {
    for (l, version) in [(QUIC, V1), (QUIC6, V1), (QUIC, V2)] {
        let world = World::new();
        let at = client(&l, 1);
        let ordinal = world.inbound(&l, at, long(Initial, version, &id(9), &id(8))).backend(&l);
        assert_eq!(state(&world, &l, at), None);
        let answer = |kind| long(kind, version, &id(8), &id(7));
        for kind in [Initial, Handshake] {
            forwarded(&world.answer(&l, ordinal, at, answer(kind)), Reason::OutEstablished);
            assert_eq!(state(&world, &l, at), Some(slot::TENTATIVE));
        }
        // What a server sends before it knows that anybody is there, and what anybody can send.
        world.answer(&l, ordinal, at, short(&id(8)));
        world.inbound(&l, at, long(Initial, version, &id(9), &id(8)));
        world.inbound(&l, at, short(&id(6)));
        assert_eq!((state(&world, &l, at), world.sessions()), (Some(slot::TENTATIVE), 0));
        world.inbound(&l, at, long(Initial, version, &id(7), &id(8)));
        assert_eq!((state(&world, &l, at), world.sessions()), (Some(slot::OPEN), 1));
        assert_eq!(world.slot(&l, at).unwrap().1.in_id.get(), 7);
    }
}

#[test]
fn a_server_that_remembers_nothing_is_not_remembered() {
    let world = World::new();
    let at = client(&QUIC, 1);
    for (kind, version) in [(Retry, V1), (Retry, V2), (Initial, 0)] {
        let answer = world.answer(&QUIC, 0, at, long(kind, version, &id(8), &id(7)));
        forwarded(&answer, Reason::OutStateless);
    }
    // Nor one whose ids are too short to be known by.
    let answer = world.answer(&QUIC, 0, at, long(Initial, V1, &id(8), &[1, 2, 3, 4, 5, 6, 7]));
    forwarded(&answer, Reason::OutStateless);
    forwarded(&world.answer(&QUIC, 0, at, short(&id(8))), Reason::OutStateless);
    assert_eq!((state(&world, &QUIC, at), world.sessions()), (None, 0));
}

#[test]
fn a_client_behind_another_address_is_carried_and_its_answers_move_it() {
    for l in [QUIC, QUIC6] {
        for n in 1..30 {
            let world = World::new();
            let (home, away) = (client(&l, n), client(&l, n + 100));
            let ordinal = connect(&world, &l, home, V1, IDS);
            let identity = world.identity(&l, home);
            let carried = world.inbound(&l, away, short(&id(IDS.1)));
            forwarded(&carried, Reason::InById);
            assert_eq!(carried.backend(&l), ordinal);
            assert_eq!(world.detail(&l, home).moves.get(), 0, "a client proves nothing");
            data_moved(&world, &l, ordinal, away);
            assert_eq!(world.identity(&l, away), identity);
            assert_eq!((world.detail(&l, away).moves.get(), world.sessions()), (1, 1));
        }
    }
}

#[track_caller]
fn data_moved(world: &World, l: &Listener, ordinal: u32, at: SocketAddr) {
    forwarded(&world.answer(l, ordinal, at, short(&id(IDS.0))), Reason::OutEstablished);
    data(world, l, ordinal, at, IDS);
}

/// It is told in secret: whoever has the flow is believed, unless somebody else has the id.
#[test]
fn a_renewed_id_is_learned_where_it_is_first_seen_and_followed() {
    let mut world = World::new();
    let (home, away) = (client(&QUIC, 1), client(&QUIC, 2));
    let ordinal = connect(&world, &QUIC, home, V1, IDS);
    for _ in 0..3 {
        let renewed = world.inbound(&QUIC, home, short(&id(0x3333)));
        forwarded(&renewed, Reason::InEstablished);
        assert_eq!(renewed.backend(&QUIC), ordinal);
    }
    assert_eq!(world.slot(&QUIC, home).unwrap().1.in_id.get(), 0x3333);
    world.place(&QUIC, |_| (ordinal + 1) % BACKENDS);
    let carried = world.inbound(&QUIC, away, short(&id(0x3333)));
    forwarded(&carried, Reason::InById);
    assert_eq!(carried.backend(&QUIC), ordinal);
    // The first one leads there as well, for what was under way.
    assert_eq!(world.inbound(&QUIC, away, short(&id(IDS.1))).backend(&QUIC), ordinal);
    // An address and port that another client had before: its id goes before the flow.
    let other = connect(&world, &QUIC, client(&QUIC, 3), V1, (0x4444, 0x5555));
    let reused = world.inbound(&QUIC, home, short(&id(0x5555)));
    forwarded(&reused, Reason::InById);
    assert_eq!(reused.backend(&QUIC), other);
    assert_eq!(world.slot(&QUIC, home).unwrap().1.in_id.get(), 0x3333);
}

#[test]
fn a_client_without_ids_is_followed_and_never_taken_for_another() {
    let world = World::new();
    let (home, away) = (client(&QUIC, 1), client(&QUIC, 2));
    connect(&world, &QUIC, client(&QUIC, 3), V1, (0x4444, 0x5555));
    let ordinal = world.inbound(&QUIC, home, long(Initial, V1, &id(9), &[])).backend(&QUIC);
    world.answer(&QUIC, ordinal, home, long(Initial, V1, &[], &id(7)));
    world.inbound(&QUIC, home, long(Handshake, V1, &id(7), &[]));
    assert_eq!(world.sessions(), 2);
    // Behind the first byte lies what is protected.
    for n in 0..50 {
        forwarded(
            &world.answer(&QUIC, ordinal, home, short(&id(0x9000 + n))),
            Reason::OutEstablished,
        );
    }
    let slot = world.slot(&QUIC, home).unwrap().1;
    assert_eq!((slot.out_id.get(), slot.in_id.get()), (0, 7));
    let carried = world.inbound(&QUIC, away, short(&id(7)));
    forwarded(&carried, Reason::InById);
    assert_eq!(carried.backend(&QUIC), ordinal);
    let answer = world.answer(&QUIC, ordinal, away, short(&id(0x9100)));
    forwarded(&answer, Reason::OutEstablished);
    let moves = [away, client(&QUIC, 3)].map(|at| world.detail(&QUIC, at).moves.get());
    assert_eq!((moves, world.sessions()), ([1, 0], 2));
}

/// Whatever id of the client's it has: it is where the server's came from last that counts, and who answers.
#[test]
fn an_answer_moves_a_session_only_to_where_its_id_came_from_last() {
    for l in [QUIC, QUIC6] {
        let world = World::new();
        let home = client(&l, 1);
        let ordinal = connect(&world, &l, home, V1, IDS);
        // Nobody came from there, or somebody else did, or another server answers.
        let [nowhere, away, further] = [50, 51, 52].map(|n| client(&l, n));
        let answers = |ordinal, at| world.answer(&l, ordinal, at, short(&id(0x8888))).reason();
        assert_eq!(answers(ordinal, nowhere), Reason::OutStateless);
        forwarded(&world.inbound(&l, away, short(&id(IDS.1))), Reason::InById);
        assert_eq!(answers((ordinal + 1) % BACKENDS, away), Reason::OutStateless);
        forwarded(&world.inbound(&l, further, short(&id(IDS.1))), Reason::InById);
        assert_eq!(answers(ordinal, away), Reason::OutStateless);
        assert_eq!(world.detail(&l, home).moves.get(), 0);
        assert_eq!(answers(ordinal, further), Reason::OutEstablished);
        assert_eq!(world.detail(&l, further).moves.get(), 1);
        // And home again.
        forwarded(&world.inbound(&l, home, short(&id(IDS.1))), Reason::InById);
        assert_eq!(answers(ordinal, home), Reason::OutEstablished);
        assert_eq!((world.detail(&l, home).moves.get(), world.sessions()), (2, 1));
    }
}

#[test]
fn what_is_too_short_is_refused() {
    let world = World::new();
    let at = client(&QUIC, 1);
    for payload in [&short(&id(1))[..20], &[0x40], &long(Initial, V1, &id(1), &id(2))[..20]] {
        refused(&world.inbound(&QUIC, at, payload.to_vec()), Reason::QuicMalformed);
        refused(&world.answer(&QUIC, 0, at, payload.to_vec()), Reason::QuicMalformed);
    }
}
