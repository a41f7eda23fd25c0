//! IPsec: one service of two ports, IKE known by the concentrator's SPI, ESP by an SPI that nobody tells in clear text.

use crate::{client, forwarded, refused};
use dataplane::fixture::ipsec::Exchange::{Auth, CreateChildSa, Informational, SaInit};
use dataplane::fixture::ipsec::{
    Exchange, OWN_REQUEST, REQUEST, RESPONSE, esp, ike, keepalive, marked,
};
use dataplane::fixture::site::{BACKENDS, IKE, IKE6, IPSEC, IPSEC6, Listener, WAN};
use dataplane::fixture::{Frame, World};
use dataplane::reason::Reason;
use dataplane::table::slot;
use std::net::SocketAddr;

/// A client's SPI, and its concentrator's.
type Spis = (u64, u64);

const SPIS: Spis = (0x1111_2222_3333_4444, 0x5555_6666_7777_8888);
/// What the concentrator chose for ESP.
const SPI: u32 = 0xc0de_0001;

/// The port for the first message, as a NAT has mapped it, beside that for the rest.
fn first(at: SocketAddr) -> SocketAddr {
    SocketAddr::new(at.ip(), at.port() + 1)
}

fn state(world: &World, l: &Listener, at: SocketAddr) -> Option<u8> {
    world.slot(l, at).map(|(_, slot)| slot::state(slot.state.load()))
}

fn request(exchange: Exchange, spis: Spis) -> Vec<u8> {
    marked(ike(exchange, REQUEST, spis))
}

fn response(exchange: Exchange, spis: Spis) -> Vec<u8> {
    marked(ike(exchange, RESPONSE, spis))
}

/// A client connects, and sends: its concentrator's ordinal.
fn connect(
    world: &World,
    (l500, l4500): (&Listener, &Listener),
    at: SocketAddr,
    spis: Spis,
    spi: u32,
) -> u32 {
    let init = world.inbound(l500, first(at), ike(SaInit, REQUEST, (spis.0, 0)));
    let ordinal = init.backend(l500);
    world.answer(l500, ordinal, first(at), ike(SaInit, RESPONSE, spis));
    let auth = world.inbound(l4500, at, request(Auth, spis));
    assert_eq!(auth.backend(l4500), ordinal);
    forwarded(&world.answer(l4500, ordinal, at, response(Auth, spis)), Reason::OutEstablished);
    for n in 1..4 {
        forwarded(&world.inbound(l4500, at, esp(spi, n)), Reason::InEstablished);
        forwarded(&world.answer(l4500, ordinal, at, esp(9000, n)), Reason::OutEstablished);
    }
    ordinal
}

#[test]
fn the_first_message_is_tentative_and_authentication_opens() {
    for (l500, l4500) in [(IKE, IPSEC), (IKE6, IPSEC6)] {
        let mut world = World::new();
        let at = client(&l4500, 1);
        let init = world.inbound(&l500, first(at), ike(SaInit, REQUEST, (SPIS.0, 0)));
        forwarded(&init, Reason::InUnestablished);
        let ordinal = init.backend(&l500);
        // A concentrator that wants a cookie keeps nothing, and neither does the gateway.
        let image = world.image();
        let cookie = ike(SaInit, RESPONSE, (SPIS.0, 0));
        forwarded(&world.answer(&l500, ordinal, first(at), cookie), Reason::OutStateless);
        assert_eq!(world.image(), image);
        world.answer(&l500, ordinal, first(at), ike(SaInit, RESPONSE, SPIS));
        assert_eq!(state(&world, &l500, first(at)), Some(slot::TENTATIVE));
        // Meanwhile the ring leads elsewhere, but the SPI here.
        world.place(&l4500, |_| (ordinal + 1) % BACKENDS);
        let auth = world.inbound(&l4500, at, request(Auth, SPIS));
        forwarded(&auth, Reason::InById);
        assert_eq!(auth.backend(&l4500), ordinal);
        assert_eq!(world.sessions(), 0);
        forwarded(&world.answer(&l4500, ordinal, at, response(Auth, SPIS)), Reason::OutEstablished);
        assert_eq!(state(&world, &l4500, at), Some(slot::OPEN));
        assert_eq!(world.sessions(), 1);
        forwarded(&world.inbound(&l4500, at, keepalive()), Reason::InEstablished);
        forwarded(&world.inbound(&l4500, at, request(Informational, SPIS)), Reason::InEstablished);
    }
}

/// It says that there is no such association, and anybody could have asked.
#[test]
fn an_answer_that_is_not_encrypted_moves_and_opens_nothing() {
    for (l500, l4500) in [(IKE, IPSEC), (IKE6, IPSEC6)] {
        let world = World::new();
        let (home, away) = (client(&l4500, 1), client(&l4500, 2));
        let ordinal = connect(&world, (&l500, &l4500), home, SPIS, SPI);
        let mut plain = response(Informational, SPIS);
        // A Notify payload, behind the marker and the header's SPIs.
        plain[4 + 16] = 41;
        forwarded(&world.answer(&l4500, ordinal, away, plain.clone()), Reason::OutStateless);
        assert_eq!(state(&world, &l4500, away), None);
        assert_eq!(state(&world, &l4500, home), Some(slot::OPEN));
        let parts = {
            plain[4 + 16] = 53;
            plain
        };
        forwarded(&world.answer(&l4500, ordinal, away, parts), Reason::OutEstablished);
        assert_eq!(state(&world, &l4500, away), Some(slot::OPEN));
    }
}

/// Ethernet makes it longer than itself: it was read as ESP, and refused.
#[test]
fn a_keepalive_with_padding_behind_it_is_one() {
    for (l500, l4500) in [(IKE, IPSEC), (IKE6, IPSEC6)] {
        let world = World::new();
        let at = client(&l4500, 1);
        connect(&world, (&l500, &l4500), at, SPIS, SPI);
        for byte in [0, 0xff] {
            for padding in [0, 17, 40] {
                let frame = Frame { padding, ..Frame::new(at, l4500.at, vec![byte]) };
                forwarded(&world.receive(&frame.bytes(), WAN), Reason::InEstablished);
            }
        }
    }
}

#[test]
fn a_client_that_roams_keeps_its_session_by_ike_and_by_esp() {
    for (l500, l4500) in [(IKE, IPSEC), (IKE6, IPSEC6)] {
        let mut world = World::new();
        let (home, train) = (client(&l4500, 1), client(&l4500, 2));
        let ordinal = connect(&world, (&l500, &l4500), home, SPIS, SPI);
        let id = world.identity(&l4500, home);
        world.place(&l4500, |_| (ordinal + 1) % BACKENDS);
        for payload in [esp(SPI, 80), request(Informational, SPIS)] {
            let outcome = world.inbound(&l4500, train, payload);
            forwarded(&outcome, Reason::InById);
            assert_eq!(outcome.backend(&l4500), ordinal);
        }
        forwarded(
            &world.answer(&l4500, ordinal, train, response(Informational, SPIS)),
            Reason::OutEstablished,
        );
        assert_eq!(world.identity(&l4500, train), id);
        assert_eq!(world.detail(&l4500, train).moves.get(), 1);
        assert!(world.slot(&l4500, home).is_none());
        // The new address teaches a new child's SPI at once, and both are carried on.
        for n in 1..4 {
            forwarded(&world.inbound(&l4500, train, esp(SPI + 7, n)), Reason::InEstablished);
        }
        let tram = client(&l4500, 3);
        for payload in [esp(SPI + 7, 90), esp(SPI, 81), request(CreateChildSa, SPIS)] {
            let outcome = world.inbound(&l4500, tram, payload);
            forwarded(&outcome, Reason::InById);
            assert_eq!(outcome.backend(&l4500), ordinal);
        }
        assert_eq!((world.sessions(), world.count(Reason::SessionMoved)), (1, 1));
    }
}

#[test]
fn a_new_ike_association_is_learned_and_the_old_one_may_end() {
    let world = World::new();
    let at = client(&IPSEC, 1);
    let ordinal = connect(&world, (&IKE, &IPSEC), at, SPIS, SPI);
    // The concentrator's request to rekey it is the client's no proof; the first message under it teaches.
    let next: Spis = (0xaaaa, 0xbbbb_0000_cccc);
    world.answer(&IPSEC, ordinal, at, marked(ike(CreateChildSa, OWN_REQUEST, SPIS)));
    world.answer(&IPSEC, ordinal, at, response(Informational, next));
    // The end of the old one is told under it, and does not bring it back.
    world.answer(&IPSEC, ordinal, at, response(Informational, SPIS));
    let train = client(&IPSEC, 2);
    let outcome = world.inbound(&IPSEC, train, request(Informational, next));
    forwarded(&outcome, Reason::InById);
    assert_eq!(outcome.backend(&IPSEC), ordinal);
    let (_, slot) = world.slot(&IPSEC, at).expect("its flow");
    assert_eq!(slot.out_id.get(), 0xbbbb + 0xcccc);
    // Of an association that the concentrator began, its SPI is the initiator's.
    let own: Spis = (0xdddd, 0x1);
    world.answer(&IPSEC, ordinal, at, marked(ike(Informational, RESPONSE | REQUEST, own)));
    forwarded(&world.inbound(&IPSEC, train, marked(ike(Informational, 0, own))), Reason::InById);
}

#[test]
fn a_request_to_an_address_that_the_client_left_moves_nothing() {
    let world = World::new();
    let (home, train) = (client(&IPSEC, 1), client(&IPSEC, 2));
    let ordinal = connect(&world, (&IKE, &IPSEC), home, SPIS, SPI);
    world.answer(&IPSEC, ordinal, train, response(Informational, SPIS));
    let asks = marked(ike(Informational, OWN_REQUEST, SPIS));
    forwarded(&world.answer(&IPSEC, ordinal, home, asks), Reason::OutStateless);
    assert_eq!(world.detail(&IPSEC, train).moves.get(), 1);
}

#[test]
fn two_concentrators_that_chose_the_same_spi_keep_their_clients() {
    let mut world = World::new();
    let (one, two) = (client(&IPSEC, 1), client(&IPSEC, 2));
    world.place(&IKE, |_| 0);
    connect(&world, (&IKE, &IPSEC), one, SPIS, SPI);
    world.place(&IKE, |_| 1);
    connect(&world, (&IKE, &IPSEC), two, (5, 6), SPI);
    for n in 4..300 {
        assert_eq!(world.inbound(&IPSEC, two, esp(SPI, n)).backend(&IPSEC), 1);
    }
    assert_eq!(world.inbound(&IPSEC, one, esp(SPI, 4)).backend(&IPSEC), 0);
    // From elsewhere the sequence number tells whose it is.
    assert_eq!(world.inbound(&IPSEC, client(&IPSEC, 3), esp(SPI, 301)).backend(&IPSEC), 1);
    assert_eq!(world.inbound(&IPSEC, client(&IPSEC, 4), esp(SPI, 5)).backend(&IPSEC), 0);
    assert!(world.count(Reason::IdCollision) > 0);
}

#[test]
fn esp_of_a_flow_that_is_not_open_teaches_nothing() {
    let world = World::new();
    let at = client(&IPSEC, 1);
    for n in 1..10 {
        forwarded(&world.inbound(&IPSEC, at, esp(SPI, n)), Reason::InUnestablished);
    }
    world.answer(&IKE, 0, at, ike(SaInit, RESPONSE, SPIS));
    world.inbound(&IKE, at, ike(Auth, REQUEST, SPIS));
    assert_eq!((world.sessions(), world.count(Reason::IdLearned)), (0, 1));
}

#[test]
fn a_session_that_was_lost_is_known_again_from_what_goes_on() {
    let world = World::new();
    let at = client(&IPSEC, 1);
    // Both are in the middle of it.
    world.inbound(&IPSEC, at, esp(SPI, 70_000));
    forwarded(&world.answer(&IPSEC, 2, at, esp(9000, 70_000)), Reason::OutEstablished);
    for n in 1..3 {
        forwarded(&world.inbound(&IPSEC, at, esp(SPI, 70_000 + n)), Reason::InEstablished);
    }
    let outcome = world.inbound(&IPSEC, client(&IPSEC, 2), esp(SPI, 70_010));
    forwarded(&outcome, Reason::InById);
    assert_eq!(outcome.backend(&IPSEC), 2);
}

#[test]
fn a_full_count_of_tentative_sessions_stops_no_handshake() {
    let world = World::new();
    world.tables.tenants[0].max_tentative.set(1);
    for n in 1..20 {
        let (at, spis) = (client(&IPSEC, n), (1, u64::from(n)));
        let ordinal = world.inbound(&IKE, first(at), ike(SaInit, REQUEST, (1, 0))).backend(&IKE);
        assert!(world.answer(&IKE, ordinal, first(at), ike(SaInit, RESPONSE, spis)).is_forwarded());
        assert_eq!(world.inbound(&IPSEC, at, request(Auth, spis)).backend(&IPSEC), ordinal);
    }
    assert_eq!(world.tables.tenants[0].tentative.load(), 1);
}

#[test]
fn what_is_neither_ike_nor_esp_is_refused_by_name() {
    let world = World::new();
    let at = client(&IPSEC, 1);
    let mut version = ike(SaInit, REQUEST, (1, 0));
    version[17] = 0x10;
    let short = ike(SaInit, REQUEST, (1, 0))[..27].to_vec();
    for payload in [
        marked(version.clone()),
        marked(short.clone()),
        esp(255, 1),
        esp(SPI, 1)[..19].to_vec(),
        vec![0xff; 2],
        vec![0; 4],
        Vec::new(),
    ] {
        refused(&world.inbound(&IPSEC, at, payload.clone()), Reason::IpsecMalformed);
        refused(&world.answer(&IPSEC, 0, at, payload), Reason::IpsecMalformed);
    }
    for payload in [version, short, vec![0xff], marked(ike(SaInit, REQUEST, (0, 0)))] {
        refused(&world.inbound(&IKE, at, payload), Reason::IpsecMalformed);
    }
}
