//! Answers make sessions, and nothing else does.

use crate::{client, forwarded};
use dataplane::fixture::World;
use dataplane::fixture::message::{cookie, data, initiation, keepalive, marked, response};
use dataplane::fixture::site::{UDP, UDP6, WG, WG6};
use dataplane::reason::Reason;
use dataplane::table::slot;

fn state(world: &World, l: &dataplane::fixture::site::Listener, n: u16) -> Option<u8> {
    world.slot(l, client(l, n)).map(|(_, slot)| slot::state(slot.state.load()))
}

#[test]
fn inbound_packets_never_change_a_table() {
    for l in [WG, WG6, UDP, UDP6] {
        let world = World::new();
        let before = world.image();
        for n in 0..200 {
            for payload in [initiation(7), response(7, 8), data(9, 1), cookie(3), keepalive(9, 2)] {
                let outcome = world.inbound(&l, client(&l, n), payload);
                forwarded(&outcome, Reason::InUnestablished);
            }
        }
        assert_eq!(world.image(), before);
    }
}

#[test]
fn a_data_answer_opens_a_session() {
    for l in [WG, WG6] {
        let world = World::new();
        let outcome = world.answer(&l, 1, client(&l, 1), data(77, 5));
        forwarded(&outcome, Reason::OutEstablished);
        assert_eq!(state(&world, &l, 1), Some(slot::OPEN));
        assert_eq!(world.sessions(), 1);
        assert_eq!(world.count(Reason::SessionOpened), 1);
        // Its packets go to the backend that answered, whatever the ring says.
        for n in 1..5 {
            let outcome = world.inbound(&l, client(&l, 1), data(1234, n));
            forwarded(&outcome, Reason::InEstablished);
            assert_eq!(outcome.backend(&l), 1);
        }
    }
}

#[test]
fn a_response_makes_a_tentative_session_outside_the_quota() {
    let world = World::new();
    let outcome = world.answer(&WG, 2, client(&WG, 1), response(500, 100));
    forwarded(&outcome, Reason::OutEstablished);
    assert_eq!(state(&world, &WG, 1), Some(slot::TENTATIVE));
    assert_eq!(world.sessions(), 0);
    assert_eq!(world.tables.tenants[0].tentative.load(), 1);
    assert_eq!(world.tables.settings.used.load(), 1);
}

#[test]
fn giving_back_the_id_opens_a_session_without_a_data_answer() {
    let world = World::new();
    world.answer(&WG, 2, client(&WG, 1), response(500, 100));
    // Another id gives nothing back.
    let outcome = world.inbound(&WG, client(&WG, 1), keepalive(501, 0));
    forwarded(&outcome, Reason::InEstablished);
    assert_eq!(state(&world, &WG, 1), Some(slot::TENTATIVE));
    // Neither does a message that is no data.
    world.inbound(&WG, client(&WG, 1), cookie(500));
    assert_eq!(state(&world, &WG, 1), Some(slot::TENTATIVE));
    let outcome = world.inbound(&WG, client(&WG, 1), keepalive(500, 0));
    forwarded(&outcome, Reason::InEstablished);
    assert_eq!(outcome.backend(&WG), 2);
    assert_eq!(state(&world, &WG, 1), Some(slot::OPEN));
    assert_eq!((world.sessions(), world.tables.tenants[0].tentative.load()), (1, 0));
}

#[test]
fn giving_back_the_id_from_another_address_opens_nothing() {
    let world = World::new();
    world.answer(&WG, 2, client(&WG, 1), response(500, 100));
    let outcome = world.inbound(&WG, client(&WG, 9), keepalive(500, 0));
    forwarded(&outcome, Reason::InById);
    assert_eq!(outcome.backend(&WG), 2);
    assert_eq!(state(&world, &WG, 1), Some(slot::TENTATIVE));
    assert_eq!(state(&world, &WG, 9), None);
}

#[test]
fn a_data_answer_opens_the_tentative_session_of_its_flow() {
    let world = World::new();
    world.answer(&WG, 0, client(&WG, 1), response(500, 100));
    world.answer(&WG, 0, client(&WG, 1), data(100, 0));
    assert_eq!(state(&world, &WG, 1), Some(slot::OPEN));
    assert_eq!((world.sessions(), world.tables.settings.used.load()), (1, 1));
    assert_eq!(world.tables.tenants[0].opened.load(), 1);
}

#[test]
fn any_udp_opens_at_the_second_answer() {
    for l in [UDP, UDP6] {
        let world = World::new();
        let ordinal = world.inbound(&l, client(&l, 1), b"hello".to_vec()).backend(&l);
        world.answer(&l, ordinal, client(&l, 1), b"yes?".to_vec());
        assert_eq!(state(&world, &l, 1), Some(slot::TENTATIVE));
        world.inbound(&l, client(&l, 1), b"still me".to_vec());
        assert_eq!(state(&world, &l, 1), Some(slot::TENTATIVE));
        world.answer(&l, ordinal, client(&l, 1), b"good".to_vec());
        assert_eq!(state(&world, &l, 1), Some(slot::OPEN));
        assert_eq!(world.sessions(), 1);
    }
}

#[test]
fn marked_messages_are_known_by_their_flow_alone() {
    let world = World::new();
    let l = WG;
    world.answer(&l, 1, client(&l, 1), marked(response(500, 100)));
    assert_eq!(state(&world, &l, 1), Some(slot::TENTATIVE));
    world.answer(&l, 1, client(&l, 1), marked(data(100, 0)));
    assert_eq!(state(&world, &l, 1), Some(slot::OPEN));
    let outcome = world.inbound(&l, client(&l, 1), marked(data(500, 0)));
    forwarded(&outcome, Reason::InEstablished);
    // What looks like an id does not carry it from elsewhere.
    let outcome = world.inbound(&l, client(&l, 2), marked(data(500, 0)));
    forwarded(&outcome, Reason::InUnestablished);
    assert_eq!(world.count(Reason::IdLearned), 0);
}

#[test]
fn an_answer_that_proves_nothing_is_forwarded_without_a_session() {
    let world = World::new();
    let before = world.image();
    let outcome = world.answer(&WG, 0, client(&WG, 1), cookie(100));
    forwarded(&outcome, Reason::OutStateless);
    assert_eq!(world.image(), before);
}

#[test]
fn packets_and_bytes_are_counted_in_the_session() {
    let world = World::new();
    world.shake_hands(&WG, client(&WG, 1), (100, 500));
    let (_, slot) = world.slot(&WG, client(&WG, 1)).expect("a session");
    // The keepalive of 32 bytes; the response of 92 and the data of 128; 28 bytes of headers each.
    assert_eq!((slot.rx_packets.get(), slot.rx_bytes.get()), (1, 60));
    assert_eq!((slot.tx_packets.get(), slot.tx_bytes.get()), (2, 120 + 156));
}

#[test]
fn counts_go_on_beyond_their_lower_halves() {
    let world = World::new();
    let at = client(&WG, 1);
    let ordinal = world.shake_hands(&WG, at, (100, 500));
    let (_, slot) = world.slot(&WG, at).expect("a session");
    let detail = world.detail(&WG, at);
    slot.rx_packets.set(u32::MAX);
    slot.rx_bytes.set(u32::MAX - 155);
    slot.tx_bytes.set(u32::MAX - 154);
    // Data of 128 bytes, and 28 of headers, in either direction.
    world.inbound(&WG, at, data(500, 1));
    world.answer(&WG, ordinal, at, data(100, 1));
    assert_eq!((slot.rx_packets.get(), detail.rx_packets_high.get()), (0, 1));
    assert_eq!((slot.rx_bytes.get(), detail.rx_bytes_high.get()), (0, 1));
    assert_eq!((slot.tx_packets.get(), detail.tx_packets_high.get()), (3, 0));
    assert_eq!((slot.tx_bytes.get(), detail.tx_bytes_high.get()), (1, 1));
}
