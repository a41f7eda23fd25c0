//! OpenVPN: ids that every server counts from 0, that are the same in both directions, and that pass
//! from one client to the next.

use crate::{client, forwarded, refused};
use dataplane::abi::{Directory, Endpoint, KIND_ENDPOINT};
use dataplane::fixture::World;
use dataplane::fixture::openvpn::{
    NO_PEER, acknowledgement, control, data, data_v1, hard_reset_client, hard_reset_server,
    soft_reset,
};
use dataplane::fixture::site::{Listener, OVPN, OVPN6, WAN};
use dataplane::reason::Reason;
use dataplane::table::directory::Table;
use dataplane::table::host::Sizes;
use dataplane::table::slot;
use std::net::SocketAddr;

fn state(world: &World, l: &Listener, at: SocketAddr) -> Option<u8> {
    world.slot(l, at).map(|(_, slot)| slot::state(slot.state.load()))
}

/// The ids by which both directions know the session of a flow.
fn ids(world: &World, at: SocketAddr) -> (u32, u32) {
    let (_, slot) = world.slot(&OVPN, at).expect("a session on the flow");
    (slot.in_id.get(), slot.out_id.get())
}

#[test]
fn resets_leave_no_trace_a_handshake_is_tentative_and_data_opens() {
    for l in [OVPN, OVPN6] {
        let world = World::new();
        let at = client(&l, 1);
        let before = world.image();
        let outcome = world.inbound(&l, at, hard_reset_client());
        forwarded(&outcome, Reason::InUnestablished);
        let ordinal = outcome.backend(&l);
        // The answer to a reset may go to a forged address.
        forwarded(&world.answer(&l, ordinal, at, hard_reset_server()), Reason::OutStateless);
        forwarded(&world.answer(&l, ordinal, at, acknowledgement()), Reason::OutStateless);
        assert_eq!(world.image(), before);
        forwarded(&world.answer(&l, ordinal, at, control(0)), Reason::OutEstablished);
        assert_eq!(state(&world, &l, at), Some(slot::TENTATIVE));
        forwarded(&world.inbound(&l, at, control(0)), Reason::InEstablished);
        forwarded(&world.inbound(&l, at, data(0, 1)), Reason::InEstablished);
        assert_eq!(state(&world, &l, at), Some(slot::TENTATIVE));
        forwarded(&world.answer(&l, ordinal, at, data(0, 1)), Reason::OutEstablished);
        assert_eq!(state(&world, &l, at), Some(slot::OPEN));
        assert_eq!((world.sessions(), world.tables.settings.used.load()), (1, 1));
        for n in 2..200 {
            forwarded(&world.inbound(&l, at, data(0, n)), Reason::InEstablished);
            forwarded(&world.answer(&l, ordinal, at, data(0, n)), Reason::OutEstablished);
        }
        assert_eq!(world.count(Reason::IdLearned), 1);
        assert_eq!(world.count(Reason::IdCollision), 0);
    }
}

#[test]
fn a_handshake_that_goes_on_keeps_its_tentative_session() {
    let world = World::new();
    let at = client(&OVPN, 1);
    world.answer(&OVPN, 0, at, control(0));
    let made = world.detail(&OVPN, at).opened.get();
    world.advance(9_000);
    world.answer(&OVPN, 0, at, control(0));
    assert_eq!(world.detail(&OVPN, at).opened.get(), made + 9_000_000_000);
}

#[test]
fn a_full_count_of_tentative_sessions_stops_no_handshake() {
    let world = World::new();
    world.tables.tenants[1].max_tentative.set(1);
    for n in 1..20 {
        let at = client(&OVPN, n);
        let ordinal = world.inbound(&OVPN, at, hard_reset_client()).backend(&OVPN);
        assert!(world.answer(&OVPN, ordinal, at, control(0)).is_forwarded());
        assert_eq!(world.inbound(&OVPN, at, control(0)).backend(&OVPN), ordinal);
    }
    let ordinal = world.inbound(&OVPN, client(&OVPN, 5), hard_reset_client()).backend(&OVPN);
    world.answer(&OVPN, ordinal, client(&OVPN, 5), data(7, 1));
    assert_eq!(state(&world, &OVPN, client(&OVPN, 5)), Some(slot::OPEN));
    assert_eq!(world.tables.tenants[1].tentative.load(), 1);
}

#[test]
fn the_first_data_of_a_client_goes_to_the_server_it_shook_hands_with() {
    let world = World::new();
    world.connect_to(&OVPN, 0, client(&OVPN, 1), 0);
    let at = client(&OVPN, 2);
    world.answer(&OVPN, 1, at, control(0));
    // Its server has not said yet that it is its peer 0, too.
    for n in 1..10 {
        let outcome = world.inbound(&OVPN, at, data(0, n));
        forwarded(&outcome, Reason::InEstablished);
        assert_eq!(outcome.backend(&OVPN), 1);
    }
    world.answer(&OVPN, 1, at, data(0, 1));
    assert_eq!(world.inbound(&OVPN, at, data(0, 10)).backend(&OVPN), 1);
    assert_eq!(world.sessions(), 2);
}

#[test]
fn a_client_that_floats_keeps_its_server_and_its_session() {
    for l in [OVPN, OVPN6] {
        let world = World::new();
        let (home, train) = (client(&l, 1), client(&l, 2));
        let ordinal = world.connect(&l, home, 0);
        let id = world.identity(&l, home);
        let outcome = world.inbound(&l, train, data(0, 2));
        forwarded(&outcome, Reason::InById);
        assert_eq!(outcome.backend(&l), ordinal);
        assert!(world.slot(&l, train).is_none(), "nothing has moved yet");
        forwarded(&world.answer(&l, ordinal, train, data(0, 2)), Reason::OutEstablished);
        assert_eq!(world.identity(&l, train), id);
        assert_eq!(world.detail(&l, train).moves.get(), 1);
        assert!(world.slot(&l, home).is_none());
        forwarded(&world.inbound(&l, train, data(0, 3)), Reason::InEstablished);
        // A renegotiation at the new address, and on to the next.
        forwarded(&world.inbound(&l, train, soft_reset(1)), Reason::InEstablished);
        world.answer(&l, ordinal, train, control(1));
        world.answer(&l, ordinal, train, data(0, 1));
        world.inbound(&l, train, data(0, 1));
        let tram = client(&l, 3);
        assert_eq!(world.inbound(&l, tram, data(0, 2)).backend(&l), ordinal);
        world.answer(&l, ordinal, tram, data(0, 2));
        assert_eq!(world.detail(&l, tram).moves.get(), 2);
        assert_eq!((world.sessions(), world.count(Reason::SessionOpened)), (1, 1));
    }
}

#[test]
fn a_control_message_to_a_new_address_before_its_data_is_no_new_session() {
    let world = World::new();
    let (home, train) = (client(&OVPN, 1), client(&OVPN, 2));
    let ordinal = world.connect(&OVPN, home, 0);
    let id = world.identity(&OVPN, home);
    world.inbound(&OVPN, train, data(0, 2));
    world.answer(&OVPN, ordinal, train, control(0));
    world.answer(&OVPN, ordinal, train, data(0, 2));
    assert_eq!(world.identity(&OVPN, train), id);
    assert_eq!(world.sessions(), 1);
    assert_eq!(world.tables.tenants[1].tentative.load(), 0);
}

#[test]
fn clients_with_one_id_at_two_servers_roam_each_to_its_own() {
    let world = World::new();
    let homes = [client(&OVPN, 1), client(&OVPN, 2)];
    let ids = [0, 1].map(|n| {
        world.connect_to(&OVPN, n, homes[n as usize], 0);
        world.identity(&OVPN, homes[n as usize])
    });
    for n in 2..60 {
        world.inbound(&OVPN, homes[0], data(0, n));
        world.inbound(&OVPN, homes[1], data(0, 1000 + n));
    }
    world.inbound(&OVPN, homes[1], data(0, 1088));
    let trains = [client(&OVPN, 3), client(&OVPN, 4)];
    for (n, counter) in [(0, 60), (1, 1090)] {
        let train = trains[n as usize];
        let outcome = world.inbound(&OVPN, train, data(0, counter));
        forwarded(&outcome, Reason::InById);
        assert_eq!(outcome.backend(&OVPN), n);
        world.answer(&OVPN, n, train, data(0, counter));
        assert_eq!(world.identity(&OVPN, train), ids[n as usize]);
        assert_eq!(world.detail(&OVPN, train).moves.get(), 1);
    }
    assert_eq!(world.count(Reason::IdCollision), 2);
    for n in [0, 1] {
        let outcome = world.inbound(&OVPN, trains[n as usize], data(0, 5000));
        forwarded(&outcome, Reason::InEstablished);
        assert_eq!(outcome.backend(&OVPN), n);
    }
}

#[test]
fn a_client_that_another_is_like_is_tried_with_both_and_found() {
    let world = World::new();
    let (idle, other, train) = (client(&OVPN, 1), client(&OVPN, 2), client(&OVPN, 3));
    world.connect_to(&OVPN, 0, idle, 0);
    world.connect_to(&OVPN, 1, other, 0);
    let mut tries = 0;
    for n in 2.. {
        // The other is always nearer.
        world.inbound(&OVPN, other, data(0, n - 1));
        tries += 1;
        if world.inbound(&OVPN, train, data(0, n)).backend(&OVPN) == 0 {
            world.answer(&OVPN, 0, train, data(0, n));
            break;
        }
    }
    assert!(tries <= 16, "{tries} tries");
    assert_eq!(world.detail(&OVPN, train).moves.get(), 1);
}

#[test]
fn a_packet_counter_that_was_met_is_another_sessions() {
    let world = World::new();
    world.connect_to(&OVPN, 0, client(&OVPN, 1), 0);
    world.connect_to(&OVPN, 1, client(&OVPN, 2), 0);
    for n in 2..22 {
        world.inbound(&OVPN, client(&OVPN, 1), data(0, n));
    }
    world.inbound(&OVPN, client(&OVPN, 2), data(0, 22));
    assert_eq!(world.inbound(&OVPN, client(&OVPN, 3), data(0, 22)).backend(&OVPN), 0);
}

#[test]
fn an_id_that_passed_to_the_next_client_is_that_clients() {
    let world = World::new();
    let (gone, new) = (client(&OVPN, 1), client(&OVPN, 2));
    world.connect_to(&OVPN, 0, gone, 0);
    let first = world.identity(&OVPN, gone);
    for n in 2..10 {
        world.answer(&OVPN, 0, gone, data(0, n));
    }
    world.connect_to(&OVPN, 0, new, 0);
    let second = world.identity(&OVPN, new);
    assert_ne!(first, second);
    assert_eq!((world.identity(&OVPN, gone), ids(&world, gone)), (first, (0, 0)));
    assert_eq!(ids(&world, new), (1, 1));
    assert_eq!((world.sessions(), world.count(Reason::SessionMoved)), (2, 0));
    assert_eq!(world.tables.tenants[1].tentative.load(), 0);
    // It roams as if nobody had ever had its id.
    let train = client(&OVPN, 3);
    world.inbound(&OVPN, train, data(0, 2));
    world.answer(&OVPN, 0, train, data(0, 2));
    assert_eq!(world.identity(&OVPN, train), second);
    assert_eq!(world.count(Reason::IdCollision), 0);
}

#[test]
fn a_client_that_connects_again_from_its_port_may_get_another_id() {
    let world = World::new();
    let (at, left) = (client(&OVPN, 1), client(&OVPN, 2));
    world.connect_to(&OVPN, 0, left, 0);
    world.connect_to(&OVPN, 0, at, 1);
    let id = world.identity(&OVPN, at);
    // Its server has forgotten both; it is the first to come back. Another server has a peer 0, too.
    world.connect_to(&OVPN, 1, client(&OVPN, 3), 0);
    world.answer(&OVPN, 0, at, control(0));
    let outcome = world.inbound(&OVPN, at, data(0, 1));
    forwarded(&outcome, Reason::InEstablished);
    assert_eq!(outcome.backend(&OVPN), 0);
    world.answer(&OVPN, 0, at, data(0, 1));
    assert_eq!((world.identity(&OVPN, at), ids(&world, at)), (id, (1, 1)));
    assert_eq!(ids(&world, left), (0, 0));
    assert_eq!(world.count(Reason::SessionMoved), 0);
    // Its old id is nobody's.
    let outcome = world.inbound(&OVPN, client(&OVPN, 9), data(1, 5));
    forwarded(&outcome, Reason::InUnestablished);
}

#[test]
fn a_roamed_client_takes_the_address_of_one_that_left() {
    let world = World::new();
    let (left, home) = (client(&OVPN, 1), client(&OVPN, 2));
    world.connect_to(&OVPN, 0, left, 3);
    world.connect_to(&OVPN, 0, home, 4);
    let (first, second) = (world.identity(&OVPN, left), world.identity(&OVPN, home));
    // No handshake: it is the other one, come here.
    forwarded(&world.inbound(&OVPN, left, data(4, 9)), Reason::InById);
    world.answer(&OVPN, 0, left, data(4, 9));
    assert_eq!(world.identity(&OVPN, left), second);
    assert_eq!(world.count(Reason::SessionDisplaced), 1);
    let outcome = world.inbound(&OVPN, client(&OVPN, 3), data(3, 9));
    forwarded(&outcome, Reason::InById);
    world.answer(&OVPN, 0, client(&OVPN, 3), data(3, 9));
    assert_eq!(world.identity(&OVPN, client(&OVPN, 3)), first);
}

#[test]
fn clients_without_an_id_are_known_by_their_flows() {
    for payload in [data(NO_PEER, 1), data_v1()] {
        let world = World::new();
        let at = client(&OVPN, 1);
        forwarded(&world.answer(&OVPN, 2, at, payload.clone()), Reason::OutEstablished);
        assert_eq!(state(&world, &OVPN, at), Some(slot::OPEN));
        let outcome = world.inbound(&OVPN, at, payload.clone());
        forwarded(&outcome, Reason::InEstablished);
        assert_eq!(outcome.backend(&OVPN), 2);
        forwarded(&world.answer(&OVPN, 2, at, payload.clone()), Reason::OutEstablished);
        let outcome = world.inbound(&OVPN, client(&OVPN, 2), payload);
        forwarded(&outcome, Reason::InUnestablished);
        assert_eq!(ids(&world, at), (0, 0));
        // What only a client says is not learned.
        world.inbound(&OVPN, at, data(5, 2));
        assert_eq!(ids(&world, at), (0, 0));
        assert_eq!(world.count(Reason::IdLearned), 0);
    }
}

#[test]
fn the_highest_id_is_an_id() {
    let world = World::new();
    world.connect_to(&OVPN, 1, client(&OVPN, 1), NO_PEER - 1);
    let outcome = world.inbound(&OVPN, client(&OVPN, 2), data(NO_PEER - 1, 2));
    forwarded(&outcome, Reason::InById);
    assert_eq!(outcome.backend(&OVPN), 1);
}

#[test]
fn what_is_no_message_is_refused() {
    let world = World::new();
    let before = world.image();
    let mut wrong: Vec<Vec<u8>> = vec![Vec::new(), vec![0x48; 11], data(0, 1)[..13].to_vec()];
    for opcode in (0..32).filter(|opcode| !(1..=11).contains(opcode)) {
        wrong.push([vec![opcode << 3], vec![0; 99]].concat());
    }
    wrong.push(hard_reset_client()[..13].to_vec());
    for payload in wrong {
        let at = client(&OVPN, 1);
        refused(&world.inbound(&OVPN, at, payload.clone()), Reason::OpenVpnMalformed);
        refused(&world.answer(&OVPN, 0, at, payload), Reason::OpenVpnMalformed);
    }
    assert_eq!(world.image(), before);
    for opcode in 1..=11_u8 {
        let payload = [vec![opcode << 3], vec![0; 99]].concat();
        assert!(world.inbound(&OVPN, client(&OVPN, 1), payload).is_forwarded());
    }
}

#[test]
fn an_impostor_moves_nothing() {
    let world = World::new();
    let (home, thief) = (client(&OVPN, 1), client(&OVPN, 66));
    let ordinal = world.connect(&OVPN, home, 0);
    let before = world.image();
    for n in 2..200 {
        world.inbound(&OVPN, thief, data(0, n));
        world.inbound(&OVPN, thief, hard_reset_client());
        // A forged reset, answered to the client.
        world.inbound(&OVPN, home, hard_reset_client());
        world.answer(&OVPN, ordinal, home, hard_reset_server());
        forwarded(&world.inbound(&OVPN, home, data(0, n)), Reason::InEstablished);
    }
    assert_eq!(world.image(), before);
}

#[test]
fn a_gateway_without_its_tables_rebuilds_them_from_traffic() {
    let world = World::new();
    let (at, train) = (client(&OVPN, 1), client(&OVPN, 2));
    forwarded(&world.answer(&OVPN, 1, at, data(0, 500)), Reason::OutEstablished);
    assert_eq!(ids(&world, at), (1, 1));
    forwarded(&world.inbound(&OVPN, at, data(0, 500)), Reason::InEstablished);
    assert_eq!(world.inbound(&OVPN, train, data(0, 501)).backend(&OVPN), 1);
    world.answer(&OVPN, 1, train, data(0, 501));
    assert_eq!(world.count(Reason::SessionMoved), 1);
}

/// A world whose pool has so many servers, with tables as a gateway sizes them for `sessions`.
fn farm(servers: u32, sessions: u32) -> World {
    let slots = (2 * sessions).next_power_of_two();
    let sizes = Sizes { slots, overflow: slots / 16, ids: sessions * 6 / 8, ..Sizes::default() };
    let mut world = World::with(sizes);
    world.tables.settings.max_used.set(sessions.into());
    for tenant in &world.tables.tenants {
        tenant.max_sessions.set(sessions.into());
        tenant.max_tentative.set(sessions.into());
    }
    for ordinal in 3..servers {
        let index = OVPN.endpoint(ordinal);
        let entry = Directory {
            kind: KIND_ENDPOINT,
            profile: OVPN.profile as u8,
            service: OVPN.service,
            tenant: OVPN.tenant,
            index,
            ..Directory::default()
        };
        let backend = OVPN.backend(ordinal);
        let key = dataplane::abi::AddressKey {
            address: backend.ip().into(),
            port: backend.port().to_be(),
            protocol: 17,
            zero: 0,
        };
        Table(&world.tables.directory).put(&key, &entry).expect("room in the directory");
        let like = world.tables.endpoints[OVPN.endpoint(0) as usize];
        world.tables.endpoints[index as usize] =
            Endpoint { backend: backend.ip().into(), backend_port: key.port, ..like };
    }
    world
}

/// Which server an inbound packet goes to.
fn server(world: &World, servers: u32, at: SocketAddr, payload: Vec<u8>) -> u32 {
    let frame = dataplane::fixture::Frame::new(at, OVPN.at, payload);
    let to = world.receive(&frame.bytes(), WAN).seen().destination;
    (0..servers).find(|n| OVPN.backend(*n) == to).expect("a server's address")
}

/// The client of a server with this peer-id, at home or away.
fn place(server: u32, peer: u32, away: bool) -> SocketAddr {
    let [_, _, high, low] = peer.to_be_bytes();
    let network = if away { 19 } else { 18 };
    (([198, network, 64 + high, low]), 40_000 + server as u16).into()
}

#[test]
fn eight_servers_share_the_ids_of_five_hundred_clients_each() {
    const SERVERS: u32 = 8;
    const PEERS: u32 = 500;
    let connected = |sessions| {
        let world = farm(SERVERS, sessions);
        for peer in 0..PEERS {
            for n in 0..SERVERS {
                world.connect_to(&OVPN, n, place(n, peer, false), peer);
            }
        }
        assert_eq!(world.sessions(), u64::from(SERVERS * PEERS));
        world
    };
    // In a table that they fill to the last, a few find no place for an id.
    let unlearned = connected(SERVERS * PEERS).count(Reason::IdUnlearned);
    println!("{unlearned} without a place in a full table");
    assert!(unlearned <= u64::from(SERVERS * PEERS / 50), "{unlearned}");
    let world = connected(131_072);
    assert_eq!(world.count(Reason::IdUnlearned), 0);
    // Each has said as much as it has, up to a multiple of 64.
    let said = |n: u32, peer: u32| (peer * 7919 + n * 104_729) % 300_000 / 64 * 64;
    for peer in 0..PEERS {
        for n in 0..SERVERS {
            world.inbound(&OVPN, place(n, peer, false), data(peer, said(n, peer)));
        }
    }
    // All roam, one after the other. Packets until its own server has got one:
    let (mut at_once, mut most) = (0, 0);
    for peer in 0..PEERS {
        for n in 0..SERVERS {
            let train = place(n, peer, true);
            // The last ones before were not noted.
            let next = said(n, peer) + 1 + (peer + 7 * n) % 63;
            let meets = |counter: &u32| server(&world, SERVERS, train, data(peer, *counter)) == n;
            let counter = (next..next + 500).find(meets).expect("one that gets there");
            world.answer(&OVPN, n, train, data(peer, 2));
            at_once += u32::from(counter == next);
            most = most.max(counter - next + 1);
            assert_eq!(world.detail(&OVPN, train).moves.get(), 1);
        }
    }
    println!("{at_once} of {} at once, the others within {most} packets", SERVERS * PEERS);
    assert!(at_once >= SERVERS * PEERS * 99 / 100, "{at_once}");
    assert!(most <= 64, "{most}");
    assert_eq!(world.count(Reason::SessionMoved), u64::from(SERVERS * PEERS));
    assert_eq!(world.sessions(), u64::from(SERVERS * PEERS));
    assert_eq!(world.count(Reason::IdUnlearned), 0);
}

#[test]
fn the_sessions_of_a_ninth_server_are_known_by_their_flows() {
    const SERVERS: u32 = 12;
    const PEERS: u32 = 100;
    let world = farm(SERVERS, SERVERS * PEERS + 100);
    for peer in 0..PEERS {
        for n in 0..SERVERS {
            world.connect_to(&OVPN, n, place(n, peer, false), peer);
        }
    }
    assert_eq!(world.sessions(), u64::from(SERVERS * PEERS));
    assert!(world.count(Reason::IdUnlearned) >= u64::from((SERVERS - 8) * PEERS));
    for peer in 0..PEERS {
        for n in 0..SERVERS {
            assert_eq!(server(&world, SERVERS, place(n, peer, false), data(peer, 2)), n);
        }
    }
    // There is room for other ids.
    let before = world.count(Reason::IdTableFull);
    for n in 0..80_u16 {
        let at = client(&dataplane::fixture::site::WG, n);
        world.shake_hands(
            &dataplane::fixture::site::WG,
            at,
            (100 + u32::from(n), 9000 + u32::from(n)),
        );
    }
    assert_eq!(world.count(Reason::IdTableFull), before);
}
