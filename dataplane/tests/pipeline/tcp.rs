//! TCP: a connection opens with the server's first data, and closes with FIN or reset.

use crate::{client, forwarded, refused};
use dataplane::fixture::site::{BACKENDS, LAN, Listener, TCP, TCP6, UDP, UDP6, WAN};
use dataplane::fixture::tcp::{ACK, FIN, RST, SYN, data, segment, segment_with};
use dataplane::fixture::{Frame, World};
use dataplane::reason::Reason;
use dataplane::table::slot;

fn state(world: &World, l: &Listener, n: u16) -> Option<u8> {
    world.slot(l, client(l, n)).map(|(_, slot)| slot::state(slot.state.load()))
}

/// A connection's first three packets and the first answer with data: the backend it is on.
fn connect(world: &World, l: &Listener, n: u16) -> u32 {
    let at = client(l, n);
    let backend = world.inbound(l, at, segment(SYN, &[])).backend(l);
    forwarded(&world.answer(l, backend, at, segment(SYN | ACK, &[])), Reason::OutEstablished);
    forwarded(&world.inbound(l, at, data(1)), Reason::InEstablished);
    forwarded(&world.answer(l, backend, at, data(2)), Reason::OutEstablished);
    backend
}

#[test]
fn a_connection_opens_by_what_follows_the_syn_ack() {
    for l in [TCP, TCP6] {
        let mut world = World::new();
        let at = client(&l, 1);
        let backend = world.inbound(&l, at, segment(SYN, &[])).backend(&l);
        assert_eq!(state(&world, &l, 1), None, "a SYN is remembered nowhere");
        world.answer(&l, backend, at, segment(SYN | ACK, &[]));
        assert_eq!(state(&world, &l, 1), Some(slot::TENTATIVE));
        assert_eq!(world.sessions(), 0);
        // The pool changes: the connection that is being made stays where it is.
        world.place(&l, |_| (backend + 1) % BACKENDS);
        assert_eq!(world.inbound(&l, at, segment(ACK, &[])).backend(&l), backend);
        assert_eq!(state(&world, &l, 1), Some(slot::TENTATIVE), "anybody can send that");
        world.answer(&l, backend, at, data(1));
        assert_eq!(state(&world, &l, 1), Some(slot::OPEN));
        assert_eq!(world.sessions(), 1);
        assert_eq!(world.inbound(&l, at, data(2)).backend(&l), backend);
    }
}

/// A server sends one, too, for a second SYN that does not fit the first, to whoever forged both.
#[test]
fn an_acknowledgement_alone_opens_nothing() {
    for l in [TCP, TCP6] {
        let world = World::new();
        let at = client(&l, 1);
        let backend = world.inbound(&l, at, segment(SYN, &[])).backend(&l);
        world.answer(&l, backend, at, segment(SYN | ACK, &[]));
        forwarded(&world.answer(&l, backend, at, segment(ACK, &[])), Reason::OutEstablished);
        assert_eq!((state(&world, &l, 1), world.sessions()), (Some(slot::TENTATIVE), 0));
        let other = client(&l, 2);
        let answer = world.answer(&l, backend, other, segment_with(ACK, &[1, 1, 1, 0], &[]));
        forwarded(&answer, Reason::OutStateless);
        assert_eq!(state(&world, &l, 2), None);
        // What has an end or data after it is for one that is there.
        for (n, last) in [(1, segment(FIN | ACK, &[])), (2, data(1))] {
            world.answer(&l, backend, client(&l, n), last);
            assert_eq!(state(&world, &l, n), Some(slot::OPEN));
        }
    }
}

#[test]
fn a_flood_of_syns_opens_nothing_and_lets_others_connect() {
    let world = World::new();
    for tenant in &world.tables.tenants {
        tenant.max_tentative.set(10);
    }
    for n in 100..160 {
        let at = client(&TCP, n);
        let backend = world.inbound(&TCP, at, segment(SYN, &[])).backend(&TCP);
        // Beyond the limit they are let through, because a client's own is among them.
        assert!(world.answer(&TCP, backend, at, segment(SYN | ACK, &[])).is_forwarded());
    }
    assert_eq!(world.sessions(), 0);
    assert_eq!(world.tables.tenants[1].tentative.load(), 10);
    assert_eq!(world.tables.settings.used.load(), 10);
    let at = client(&TCP, 1);
    let backend = world.inbound(&TCP, at, segment(SYN, &[])).backend(&TCP);
    forwarded(&world.answer(&TCP, backend, at, segment(SYN | ACK, &[])), Reason::OutStateless);
    forwarded(&world.inbound(&TCP, at, segment(ACK, &[])), Reason::InUnestablished);
    forwarded(&world.answer(&TCP, backend, at, data(1)), Reason::OutEstablished);
    assert_eq!(state(&world, &TCP, 1), Some(slot::OPEN));
}

#[test]
fn a_reset_proves_nothing() {
    let world = World::new();
    let at = client(&TCP, 1);
    for flags in [RST, RST | ACK] {
        forwarded(&world.answer(&TCP, 0, at, segment(flags, &[])), Reason::OutStateless);
        assert_eq!(state(&world, &TCP, 1), None);
    }
    world.answer(&TCP, 0, at, segment(SYN | ACK, &[]));
    world.answer(&TCP, 0, at, segment(RST | ACK, &[]));
    assert_eq!(state(&world, &TCP, 1), Some(slot::TENTATIVE));
    assert_eq!(world.sessions(), 0);
}

#[test]
fn fin_and_reset_close_and_a_new_connection_on_the_flow_opens_again() {
    let closings: [(bool, u8); 4] =
        [(false, FIN | ACK), (false, RST), (false, RST | ACK), (true, RST | ACK)];
    for l in [TCP, TCP6] {
        for (inbound, flags) in closings {
            let world = World::new();
            let (at, backend) = (client(&l, 1), connect(&world, &l, 1));
            let closing = || world.detail(&l, at).closing.get();
            world.inbound(&l, at, segment(FIN | ACK, &[]));
            assert_eq!(closing(), 0, "the other half is open");
            let outcome = if inbound {
                world.inbound(&l, at, segment(flags, &[]))
            } else {
                world.answer(&l, backend, at, segment(flags, &[]))
            };
            assert!(outcome.is_forwarded());
            assert_eq!(closing(), 1, "{inbound} {flags:#x}");
            // Late packets are forwarded, and change nothing of it.
            forwarded(&world.inbound(&l, at, segment(ACK, &[])), Reason::InEstablished);
            forwarded(&world.answer(&l, backend, at, data(1)), Reason::OutEstablished);
            assert_eq!(closing(), 1);
            world.inbound(&l, at, segment(SYN, &[]));
            world.answer(&l, backend, at, segment(SYN | ACK, &[]));
            assert_eq!(closing(), 0);
            assert_eq!(world.sessions(), 1);
        }
    }
}

#[test]
fn a_connection_is_found_again_after_tables_were_lost() {
    let world = World::new();
    let at = client(&TCP, 1);
    let placed = world.inbound(&TCP, at, data(1));
    forwarded(&placed, Reason::InUnestablished);
    forwarded(&world.answer(&TCP, placed.backend(&TCP), at, data(2)), Reason::OutEstablished);
    assert_eq!(state(&world, &TCP, 1), Some(slot::OPEN));
}

#[test]
fn tcp_and_udp_of_a_service_go_to_the_same_backend_and_are_two_sessions() {
    for (tcp, udp) in [(TCP, UDP), (TCP6, UDP6)] {
        let mut world = World::new();
        let backend = connect(&world, &tcp, 1);
        // Whatever the ring says since.
        world.place(&tcp, |_| (backend + 1) % BACKENDS);
        let at = client(&udp, 1);
        let datagram = world.inbound(&udp, at, vec![0x17; 60]);
        forwarded(&datagram, Reason::InUnestablished);
        assert_eq!(datagram.backend(&udp), backend);
        assert_eq!(world.count(Reason::HintUsed), 1);
        for _ in 0..2 {
            world.answer(&udp, backend, at, vec![0x17; 60]);
        }
        // The same address and port, and not the same flow.
        assert_eq!(world.sessions(), 2);
        forwarded(&world.inbound(&udp, at, vec![0x17; 60]), Reason::InEstablished);
        forwarded(&world.inbound(&tcp, at, data(3)), Reason::InEstablished);
    }
}

#[test]
fn what_no_connection_has_is_refused() {
    let world = World::new();
    let at = client(&TCP, 1);
    for flags in [0, SYN | FIN, SYN | RST, 0x20, SYN | FIN | ACK] {
        refused(&world.inbound(&TCP, at, segment(flags, &[])), Reason::TcpMalformed);
        refused(&world.answer(&TCP, 0, at, segment(flags, &[])), Reason::TcpMalformed);
    }
    // A header that is longer than the packet, and one that is too short.
    for offset in [0_u8, 4, 6] {
        let mut short = segment(ACK, &[]);
        short[4] = offset << 4;
        refused(&world.inbound(&TCP, at, short), Reason::TcpMalformed);
    }
    for length in 0..12 {
        refused(&world.inbound(&TCP, at, vec![0x50; length]), Reason::TcpMalformed);
    }
}

/// What is behind the ports, of a translated frame, and whether its checksum is right.
fn options(frame: &[u8], l: &Listener) -> (Vec<u8>, bool) {
    let l3 = if frame[12] == 0x81 { 18 } else { 14 };
    let l4 = l3 + if l.at.is_ipv4() { 20 } else { 40 };
    let header = usize::from(frame[l4 + 12] >> 4) * 4;
    let seen = dataplane::fixture::read::read(frame).expect("a segment");
    (frame[l4 + 20..l4 + header].to_vec(), seen.udp_sum_right)
}

#[test]
fn the_largest_segment_is_lowered_where_a_connection_begins_and_nowhere_else() {
    // (options, as they leave)
    let cases: [(&[u8], &[u8]); 9] = [
        (&[2, 4, 5, 0xb4], &[2, 4, 5, 0x50]),
        // Not more than it was; the same.
        (&[2, 4, 5, 0x4f], &[2, 4, 5, 0x4f]),
        (&[2, 4, 5, 0x50], &[2, 4, 5, 0x50]),
        // At an odd place, behind others, and behind the list's end.
        (&[1, 2, 4, 0xff, 0xff, 1, 1, 0], &[1, 2, 4, 5, 0x50, 1, 1, 0]),
        (&[3, 3, 7, 1, 4, 2, 2, 4, 9, 9, 1, 0], &[3, 3, 7, 1, 4, 2, 2, 4, 5, 0x50, 1, 0]),
        (&[0, 2, 4, 9, 9, 0, 0, 0], &[0, 2, 4, 9, 9, 0, 0, 0]),
        // Of another length; a length that is none; cut off.
        (&[2, 3, 9, 1], &[2, 3, 9, 1]),
        (&[9, 0, 2, 4, 9, 9, 0, 0], &[9, 0, 2, 4, 9, 9, 0, 0]),
        (&[1, 1, 2, 4], &[1, 1, 2, 4]),
    ];
    for l in [TCP, TCP6] {
        let at = client(&l, 1);
        for (before, after) in cases {
            let mut world = World::new();
            for endpoint in &mut world.tables.endpoints {
                endpoint.mss = 0x550;
            }
            let syn = Frame::of(&l, at, l.at, segment_with(SYN, before, &[]));
            let answer = segment_with(SYN | ACK, before, &[]);
            let answer = Frame::of(&l, l.backend(0), at, answer);
            for (frame, ingress) in [(syn, WAN), (answer, LAN)] {
                let outcome = world.receive(&frame.bytes(), ingress);
                assert!(outcome.is_forwarded());
                assert_eq!(options(&outcome.frame, &l), (after.to_vec(), true), "{before:?}");
            }
            // An open connection's flow used again, and data that looks alike.
            world.answer(&l, 0, at, data(1));
            assert_eq!(world.sessions(), 1);
            for (flags, wanted) in [(SYN, after), (ACK, before)] {
                let frame = Frame::of(&l, at, l.at, segment_with(flags, before, &[7; 9]));
                let outcome = world.receive(&frame.bytes(), WAN);
                forwarded(&outcome, Reason::InEstablished);
                assert_eq!(options(&outcome.frame, &l), (wanted.to_vec(), true), "{before:?}");
            }
        }
        // Without a limit they are told what the other says.
        let world = World::new();
        let frame = Frame::of(&l, at, l.at, segment_with(SYN, &[2, 4, 5, 0xb4], &[]));
        let outcome = world.receive(&frame.bytes(), WAN);
        assert_eq!(options(&outcome.frame, &l), (vec![2, 4, 5, 0xb4], true));
    }
}
