//! DTLS: a session is known by the server's connection id, if there is one, and by its flow.

use crate::{client, forwarded, refused};
use dataplane::fixture::World;
use dataplane::fixture::dtls::Kind::{Alert, ChangeCipherSpec, Data, Handshake, WithId};
use dataplane::fixture::dtls::{
    RETRY, ServerHello, client_hello, data, data_to, hello_verify_request, record, unified,
};
use dataplane::fixture::quic::id;
use dataplane::fixture::site::{BACKENDS, DTLS, DTLS6, Listener};
use dataplane::reason::Reason;
use dataplane::table::slot;
use std::net::SocketAddr;

const SERVERS: u32 = 0x2222;

fn state(world: &World, l: &Listener, at: SocketAddr) -> Option<u8> {
    world.slot(l, at).map(|(_, slot)| slot::state(slot.state.load()))
}

/// A record to the server, and one to the client, of a version.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Version {
    V12,
    V13,
}
use Version::{V12, V13};

impl Version {
    fn to_server(self, server: u32, n: u32) -> Vec<u8> {
        match self {
            V12 => data_to(&id(server), n),
            V13 => unified(&id(server), 3),
        }
    }

    fn to_client(self, n: u32) -> Vec<u8> {
        match self {
            V12 => data(n),
            V13 => unified(&[], 3),
        }
    }
}

/// A session with an id, and data each way: the server's ordinal.
fn connect(world: &World, l: &Listener, at: SocketAddr, version: Version, server: u32) -> u32 {
    let ordinal = world.inbound(l, at, client_hello()).backend(l);
    let hello = ServerHello::new(Some(&id(server))).record();
    forwarded(&world.answer(l, ordinal, at, hello), Reason::OutEstablished);
    data_of(world, l, ordinal, at, version, server);
    ordinal
}

#[track_caller]
fn data_of(
    world: &World,
    l: &Listener,
    ordinal: u32,
    at: SocketAddr,
    version: Version,
    server: u32,
) {
    let to = world.inbound(l, at, version.to_server(server, 7));
    forwarded(&to, Reason::InEstablished);
    assert_eq!(to.backend(l), ordinal);
    forwarded(&world.answer(l, ordinal, at, version.to_client(7)), Reason::OutEstablished);
}

#[test]
fn who_gives_the_servers_id_back_has_a_session() {
    for (l, version) in [(DTLS, V12), (DTLS6, V12), (DTLS, V13), (DTLS6, V13)] {
        let world = World::new();
        let at = client(&l, 1);
        let ordinal = world.inbound(&l, at, client_hello()).backend(&l);
        let hello = || ServerHello::new(Some(&id(7))).record();
        for _ in 0..2 {
            forwarded(&world.answer(&l, ordinal, at, hello()), Reason::OutEstablished);
            assert_eq!(state(&world, &l, at), Some(slot::TENTATIVE));
        }
        // What a server may send before it knows that anybody is there, and what anybody can send.
        world.answer(&l, ordinal, at, record(Handshake, 1, 0, &[], &[1; 40]));
        world.answer(&l, ordinal, at, record(ChangeCipherSpec, 0, 2, &[], &[1]));
        world.answer(&l, ordinal, at, unified(&[], 2));
        world.inbound(&l, at, client_hello());
        world.inbound(&l, at, version.to_server(6, 1));
        assert_eq!((state(&world, &l, at), world.sessions()), (Some(slot::TENTATIVE), 0));
        world.inbound(&l, at, version.to_server(7, 1));
        assert_eq!((state(&world, &l, at), world.sessions()), (Some(slot::OPEN), 1));
        assert_eq!(world.slot(&l, at).unwrap().1.in_id.get(), 7);
    }
}

/// Also those with an id that is too short to be followed.
#[test]
fn data_of_the_server_open_a_session_without_an_id() {
    let short = [1, 2, 3, 4, 5, 6, 7];
    for (l, version, server) in
        [(DTLS, V12, None), (DTLS6, V13, None), (DTLS, V12, Some(&short[..]))]
    {
        let world = World::new();
        let at = client(&l, 1);
        let ordinal = world.inbound(&l, at, client_hello()).backend(&l);
        forwarded(
            &world.answer(&l, ordinal, at, ServerHello::new(server).record()),
            Reason::OutEstablished,
        );
        let data_in = || match server {
            Some(server) => data_to(server, 1),
            None => version.to_client(1),
        };
        world.inbound(&l, at, data_in());
        assert_eq!(state(&world, &l, at), Some(slot::TENTATIVE));
        world.answer(&l, ordinal, at, version.to_client(1));
        assert_eq!(state(&world, &l, at), Some(slot::OPEN));
        let to = world.inbound(&l, at, data_in());
        forwarded(&to, Reason::InEstablished);
        assert_eq!(to.backend(&l), ordinal);
    }
}

#[test]
fn a_server_that_remembers_nothing_is_not_remembered() {
    let world = World::new();
    let at = client(&DTLS, 1);
    let retry = ServerHello { random: RETRY, ..ServerHello::new(None) }.record();
    let alert = record(Alert, 0, 0, &[], &[2, 40]);
    for answer in [hello_verify_request(), retry, alert, unified(&[], 2)] {
        forwarded(&world.answer(&DTLS, 0, at, answer), Reason::OutStateless);
    }
    assert_eq!((state(&world, &DTLS, at), world.sessions()), (None, 0));
}

#[test]
fn the_id_is_found_wherever_it_is_in_the_hello() {
    let session = [5; 33];
    let at = client(&DTLS, 1);
    let learned = |hello: ServerHello<'_>, cut: usize| {
        let world = World::new();
        let mut record = hello.record();
        record.truncate(record.len() - cut);
        forwarded(&world.answer(&DTLS, 0, at, record), Reason::OutEstablished);
        world.detail(&DTLS, at).in_id_next.get()
    };
    let server = id(7);
    let hello = ServerHello::new(Some(&server));
    for before in [&[][..], &[0], &[0; 11], &[1120, 100], &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]] {
        for len in 0..=32 {
            let hello = ServerHello { before, session: &session[..len], ..hello };
            assert_eq!(learned(hello, 0), 7, "{before:?}, {len}");
            assert_eq!(learned(hello, 1), 0, "its last byte is missing: {before:?}, {len}");
        }
    }
    // Beyond what is looked at, or no hello.
    for before in [&[0; 12][..], &[1201]] {
        assert_eq!(learned(ServerHello { before, ..hello }, 0), 0);
    }
    assert_eq!(learned(ServerHello { session: &session, ..hello }, 0), 0);
    // What lies behind the extensions is none.
    let (none, world) = (ServerHello::new(None).record(), World::new());
    let extension = [0, 54, 0, 9, 8, 1, 1, 1, 1, 2, 2, 2, 2];
    forwarded(
        &world.answer(&DTLS, 0, at, [&none[..], &extension].concat()),
        Reason::OutEstablished,
    );
    assert_eq!(world.detail(&DTLS, at).in_id_next.get(), 0);
}

#[test]
fn a_client_behind_another_address_is_carried_and_its_answers_move_it() {
    for (l, version) in [(DTLS, V12), (DTLS6, V12), (DTLS, V13), (DTLS6, V13)] {
        for n in 1..30 {
            let world = World::new();
            let (home, away) = (client(&l, n), client(&l, n + 100));
            let ordinal = connect(&world, &l, home, version, SERVERS);
            let identity = world.identity(&l, home);
            let carried = world.inbound(&l, away, version.to_server(SERVERS, 8));
            forwarded(&carried, Reason::InById);
            assert_eq!(carried.backend(&l), ordinal);
            assert_eq!(world.detail(&l, home).moves.get(), 0, "a client proves nothing");
            let answer = world.answer(&l, ordinal, away, version.to_client(8));
            forwarded(&answer, Reason::OutEstablished);
            data_of(&world, &l, ordinal, away, version, SERVERS);
            assert_eq!(world.identity(&l, away), identity);
            assert_eq!((world.detail(&l, away).moves.get(), world.sessions()), (1, 1));
        }
    }
}

/// It is where its id came from last that counts, and who answers.
#[test]
fn data_to_where_no_id_came_from_are_another_sessions() {
    let world = World::new();
    let home = client(&DTLS, 1);
    let ordinal = connect(&world, &DTLS, home, V12, SERVERS);
    let [nowhere, away] = [50, 51].map(|n| client(&DTLS, n));
    forwarded(&world.inbound(&DTLS, away, data_to(&id(SERVERS), 9)), Reason::InById);
    // One whose tables were lost.
    world.answer(&DTLS, ordinal, nowhere, data(1));
    assert_eq!((world.detail(&DTLS, home).moves.get(), world.sessions()), (0, 2));
    // Another server's are no answer to it.
    world.answer(&DTLS, (ordinal + 1) % BACKENDS, away, data(1));
    assert_eq!((world.detail(&DTLS, home).moves.get(), world.sessions()), (0, 3));
}

/// In 1.3 it is told in secret. In 1.2 there is one, which a forged record does not displace.
#[test]
fn only_the_newer_version_renews_ids() {
    for (version, expected) in [(V13, 0x3333), (V12, SERVERS)] {
        let world = World::new();
        let (home, away) = (client(&DTLS, 1), client(&DTLS, 2));
        let ordinal = connect(&world, &DTLS, home, version, SERVERS);
        for n in 0..3 {
            let renewed = world.inbound(&DTLS, home, version.to_server(0x3333, n));
            forwarded(&renewed, Reason::InEstablished);
            assert_eq!(renewed.backend(&DTLS), ordinal);
        }
        assert_eq!(world.slot(&DTLS, home).unwrap().1.in_id.get(), expected);
        let carried = world.inbound(&DTLS, away, version.to_server(expected, 9));
        forwarded(&carried, Reason::InById);
        assert_eq!(carried.backend(&DTLS), ordinal);
    }
}

/// A gateway that lost its tables: the session is made anew by the server's data, and its id learned from the client's.
#[test]
fn a_lost_session_is_rebuilt_and_followed() {
    for version in [V12, V13] {
        let world = World::new();
        let (home, away) = (client(&DTLS, 1), client(&DTLS, 2));
        world.answer(&DTLS, 1, home, version.to_client(70));
        assert_eq!(world.sessions(), 1);
        forwarded(
            &world.inbound(&DTLS, home, version.to_server(SERVERS, 71)),
            Reason::InEstablished,
        );
        let carried = world.inbound(&DTLS, away, version.to_server(SERVERS, 72));
        forwarded(&carried, Reason::InById);
        assert_eq!(carried.backend(&DTLS), 1);
        world.answer(&DTLS, 1, away, version.to_client(73));
        assert_eq!((world.detail(&DTLS, away).moves.get(), world.sessions()), (1, 1));
    }
}

#[test]
fn what_is_no_record_is_refused() {
    let world = World::new();
    let at = client(&DTLS, 1);
    let none = [
        vec![23],
        data(1)[..13].to_vec(),
        unified(&[], 3)[..17].to_vec(),
        [&[19][..], &data(1)[1..]].concat(),
        [&[27][..], &data(1)[1..]].concat(),
        [&[0x40][..], &data(1)[1..]].concat(),
        vec![0; 40],
        // Too short for any id, and what is protected behind it.
        record(WithId, 1, 1, &id(7), &[])[..18].to_vec(),
    ];
    for payload in none {
        refused(&world.inbound(&DTLS, at, payload.clone()), Reason::DtlsMalformed);
        refused(&world.answer(&DTLS, 0, at, payload), Reason::DtlsMalformed);
    }
    // Data before there are keys may be a handshake's, and prove nothing.
    forwarded(&world.answer(&DTLS, 0, at, record(Data, 0, 1, &[], &[1; 9])), Reason::OutStateless);
}
