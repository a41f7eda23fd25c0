//! Backends that answer their clients by themselves: what reaches them, and which one.

use super::{beginning, client, refused, untouched};
use dataplane::abi::{
    ENDPOINT_ACCEPTS, ENDPOINT_DIRECT, ENDPOINT_LIVE, Encapsulation, LISTENER_BY_FLOW,
};
use dataplane::fixture::site::{
    self, ANSWERED, BACKENDS, DIRECT, DIRECT_TCP, DIRECT6, GUE, IPSEC, IPSEC6, LAN, Listener,
    TUNNEL4, TUNNEL6, WAN, WG,
};
use dataplane::fixture::{Frame, Outcome, World, icmp, ipsec};
use dataplane::header::PROTO_ESP;
use dataplane::pipeline::Action;
use dataplane::reason::Reason;
use etherparse::{IpNumber, Ipv4Header, Ipv6Header, UdpHeader};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

/// What a backend gets.
#[derive(Debug)]
struct Arrived {
    ordinal: u32,
    /// The outer packet's: the first word of the header without the length, source port of a datagram.
    class: u8,
    label: u32,
    source_port: u16,
    /// The packet that its client sent.
    packet: Vec<u8>,
}

/// Takes a frame out of its tunnel, as the backend that it is for would.
fn arrived(l: &Listener, outcome: &Outcome) -> Arrived {
    assert!(outcome.is_forwarded(), "{:?}", outcome.verdict);
    let frame = &outcome.frame;
    let ordinal = (0..BACKENDS).find(|n| frame[..6] == site::mac(l.hop(*n))).expect("a backend's");
    let interface = site::interface(l.hop(ordinal));
    assert_eq!(frame[6..12], site::own_mac(interface));
    let l3 = match site::tag(l.hop(ordinal)) {
        Some((protocol, tci)) => {
            assert_eq!(frame[12..14], protocol.to_be_bytes());
            assert_eq!(frame[14..16], tci.to_be_bytes());
            18
        }
        None => 14,
    };
    let kind = u16::from_be_bytes([frame[l3 - 2], frame[l3 - 1]]);
    let backend = l.backend(ordinal);
    // What lies behind a packet is the link layer's padding.
    let field = |at: usize| usize::from(u16::from_be_bytes([frame[l3 + at], frame[l3 + at + 1]]));
    let length = if frame[l3] >> 4 == 4 { field(2) } else { 40 + field(4) };
    let packet = &frame[l3..l3 + length];
    let mut out = Arrived { ordinal, class: 0, label: 0, source_port: 0, packet: packet.to_vec() };
    if l.encapsulation(ordinal) == Encapsulation::None {
        assert_eq!(kind, if l.at.is_ipv4() { 0x0800 } else { 0x86dd });
        return out;
    }
    let (protocol, inside) = if backend.is_ipv4() {
        assert_eq!(kind, 0x0800);
        let (ip, inside) = Ipv4Header::from_slice(packet).unwrap();
        assert_eq!(
            (IpAddr::from(ip.source), IpAddr::from(ip.destination)),
            (TUNNEL4, backend.ip())
        );
        assert_eq!(
            (ip.time_to_live, ip.dont_fragment, usize::from(ip.total_len)),
            (64, true, packet.len())
        );
        assert_eq!(ip.header_checksum, ip.calc_header_checksum());
        out.class = ip.dscp.value() << 2 | ip.ecn.value();
        (ip.protocol, inside)
    } else {
        assert_eq!(kind, 0x86dd);
        let (ip, inside) = Ipv6Header::from_slice(packet).unwrap();
        assert_eq!(
            (IpAddr::from(ip.source), IpAddr::from(ip.destination)),
            (TUNNEL6, backend.ip())
        );
        assert_eq!((ip.hop_limit, usize::from(ip.payload_length)), (64, inside.len()));
        (out.class, out.label) = (ip.traffic_class, ip.flow_label.value());
        (ip.next_header, inside)
    };
    out.packet = if l.encapsulation(ordinal) == Encapsulation::Gue {
        assert_eq!(protocol, IpNumber::UDP);
        let (udp, inside) = UdpHeader::from_slice(inside).unwrap();
        assert_eq!((udp.destination_port, udp.checksum), (GUE, 0));
        assert_eq!(usize::from(udp.length), 8 + inside.len());
        assert!(udp.source_port >= 0xc000);
        out.source_port = udp.source_port;
        inside.to_vec()
    } else {
        assert_eq!(protocol.0, if l.at.is_ipv4() { 4 } else { 41 });
        inside.to_vec()
    };
    out
}

/// The packet a hop further.
fn hop(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    if packet[0] >> 4 == 4 {
        packet[8] -= 1;
        let mut header = Ipv4Header::from_slice(&packet).unwrap().0;
        header.header_checksum = header.calc_header_checksum();
        packet[10..12].copy_from_slice(&header.header_checksum.to_be_bytes());
    } else {
        packet[7] -= 1;
    }
    packet
}

/// A world in which one backend gets everything.
fn world(l: &Listener, ordinal: u32) -> World {
    let mut world = World::new();
    world.place(l, |_| ordinal);
    world
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]
    #[test]
    fn what_a_client_sent_arrives_as_it_was(
        which in 0..ANSWERED.len(),
        ordinal in 0..BACKENDS,
        n in 0..500_u16,
        ttl in 2..=255_u8,
        len in 0..1300_usize,
        padding in 0..20_usize,
        tags in 0..3_usize,
    ) {
        let l = ANSWERED[which];
        let world = world(&l, ordinal);
        let mut payload = beginning(&l);
        if l == DIRECT_TCP {
            payload.resize(payload.len() + len, 0x77);
        }
        let mut frame = Frame::of(&l, client(&l, n), l.at, payload);
        frame.ttl = ttl;
        frame.padding = padding;
        frame.tags = [(0x88a8, 5), (0x8100, 6)][2 - tags..].to_vec();
        let mut bytes = frame.bytes();
        let l3 = 14 + 4 * tags;
        // A class, and ECN's bits.
        let class = if l.at.is_ipv4() {
            bytes[l3 + 1] = 0xb9;
            let mut header = Ipv4Header::from_slice(&bytes[l3..]).unwrap().0;
            header.header_checksum = header.calc_header_checksum();
            bytes[l3 + 10..l3 + 12].copy_from_slice(&header.header_checksum.to_be_bytes());
            0xb9
        } else {
            bytes[l3] = 0x6b;
            bytes[l3 + 1] |= 0x90;
            0xb9
        };
        let outcome = world.receive(&bytes, WAN);
        prop_assert_eq!(outcome.reason(), Reason::InDirect);
        let got = arrived(&l, &outcome);
        prop_assert_eq!(got.ordinal, ordinal);
        let sent = &bytes[l3..bytes.len() - padding];
        // Padding is the link layer's: where there is a tunnel, it lies behind the inner packet, and is not counted.
        let hop = hop(sent);
        prop_assert_eq!(&got.packet[..sent.len()], &hop[..]);
        if ordinal > 0 {
            prop_assert_eq!(got.class, class);
        }
        prop_assert_eq!(world.sessions(), 0);
    }
}

#[test]
fn flows_go_different_ways_through_a_tunnel_and_each_its_own() {
    for (l, ordinal) in [(DIRECT, 2), (DIRECT6, 2), (DIRECT_TCP, 2)] {
        let world = world(&l, ordinal);
        let spread = |port| {
            let at = SocketAddr::new(client(&l, 1).ip(), port);
            let got = arrived(&l, &world.inbound(&l, at, beginning(&l)));
            (got.source_port, got.label)
        };
        let all: BTreeSet<_> = (1..100).map(spread).collect();
        assert!(all.len() > 95, "{}", all.len());
        assert_eq!(spread(7), spread(7));
    }
}

/// The ordinal of the backend that a packet of the client's goes to.
fn goes_to(world: &World, l: &Listener, at: SocketAddr) -> u32 {
    arrived(l, &world.inbound(l, at, beginning(l))).ordinal
}

#[test]
fn a_client_stays_while_the_ring_changes_until_it_was_silent_for_long() {
    for l in ANSWERED {
        let mut world = world(&l, 0);
        let (known, new) = (client(&l, 1), client(&l, 2));
        assert_eq!(goes_to(&world, &l, known), 0);
        world.place(&l, |_| 1);
        // Also where nothing new is to go; each packet counts.
        world.flag(l.endpoint(0), ENDPOINT_LIVE | ENDPOINT_DIRECT);
        for _ in 0..5 {
            world.advance(50_000);
            assert_eq!(goes_to(&world, &l, known), 0, "{l:?}");
        }
        assert_eq!(goes_to(&world, &l, new), 1);
        // Another port of the client's, too: by its address.
        let other = SocketAddr::new(known.ip(), 999);
        assert_eq!(goes_to(&world, &l, other), 0);
        world.advance(70_000);
        assert_eq!(goes_to(&world, &l, known), 1, "{l:?}");
        // Of a dead one everybody goes.
        world.place(&l, |_| 2);
        world.flag(l.endpoint(1), ENDPOINT_DIRECT);
        assert_eq!((goes_to(&world, &l, known), goes_to(&world, &l, new)), (2, 2));
    }
}

#[test]
fn by_flow_each_flow_stays_by_itself() {
    let l = DIRECT;
    let mut world = World::new();
    world.change(&l, |entry| entry.index |= LISTENER_BY_FLOW);
    let flow = |port| SocketAddr::new(client(&l, 1).ip(), port);
    let before: Vec<_> = (1..50).map(|port| goes_to(&world, &l, flow(port))).collect();
    assert_eq!(before.iter().collect::<BTreeSet<_>>().len(), BACKENDS as usize);
    world.place(&l, |_| 1);
    let after: Vec<_> = (1..50).map(|port| goes_to(&world, &l, flow(port))).collect();
    // There are more flows than places to remember: the last ones are remembered.
    let kept = before.iter().zip(&after).filter(|(before, after)| before == after).count();
    assert!(kept > 40, "{kept}");
    assert_eq!(goes_to(&world, &l, flow(60)), 1);
}

#[test]
fn tcp_and_datagrams_of_a_client_go_to_one_backend() {
    let mut world = World::new();
    let at = client(&DIRECT, 1);
    let ordinal = goes_to(&world, &DIRECT, at);
    world.place(&DIRECT, |_| (ordinal + 1) % BACKENDS);
    assert_eq!(goes_to(&world, &DIRECT_TCP, at), ordinal);
}

#[test]
fn packets_without_a_session_are_not_limited() {
    let l = DIRECT;
    let world = world(&l, 1);
    world.tables.settings.budget_cost.set(1_000_000);
    world.tables.tenants[usize::from(l.tenant)].max_sessions.set(0);
    for _ in 0..1000 {
        goes_to(&world, &l, client(&l, 1));
    }
    assert_eq!(world.count(Reason::InDirect), 1000);
}

#[test]
fn what_is_too_big_with_its_tunnel_is_told_what_fits() {
    for l in ANSWERED {
        for (ordinal, overhead) in [(0, 0), (1, 20), (2, 48)] {
            let world = world(&l, ordinal);
            let at = client(&l, 1);
            let headers = if l.at.is_ipv4() { 20 } else { 40 };
            let mut payload = if l == DIRECT_TCP { beginning(&l) } else { Vec::new() };
            if l != DIRECT_TCP {
                payload.extend([4, 0, 0, 0]);
            }
            payload.resize(1500 - overhead - headers - 8, 0x77);
            for fragmentable in [false, true] {
                let mut fits = Frame::of(&l, at, l.at, payload.clone());
                fits.fragmentable = fragmentable;
                let got = arrived(&l, &world.receive(&fits.bytes(), WAN));
                assert_eq!(got.packet, hop(&fits.bytes()[14..]), "{l:?} {ordinal}");
                let mut frame = fits.clone();
                frame.payload.push(1);
                let (bytes, outcome) = (frame.bytes(), world.receive(&frame.bytes(), WAN));
                // Nobody behind the gateway could fragment it.
                assert_eq!(outcome.verdict.action, Action::Redirect(WAN), "{l:?} {ordinal}");
                assert_eq!(outcome.reason(), Reason::IcmpTooBig);
                let told = icmp::too_big(l.at.ip(), at.ip(), 1500 - overhead as u16, &bytes[14..]);
                assert_eq!(outcome.frame[14 + headers..], told, "{l:?} {ordinal}");
            }
        }
    }
}

#[test]
fn nothing_is_left_to_the_stack() {
    for l in ANSWERED {
        for ordinal in 0..BACKENDS {
            let world = world(&l, ordinal);
            let hop = &world.tables.nexthops[l.hop(ordinal) as usize];
            hop.flags.set(0);
            refused(&world.inbound(&l, client(&l, 1), beginning(&l)), Reason::Unresolved);
        }
        let mut world = world(&l, 1);
        let flags = ENDPOINT_ACCEPTS | ENDPOINT_DIRECT;
        world.flag(l.endpoint(1), flags);
        refused(&world.inbound(&l, client(&l, 1), beginning(&l)), Reason::BackendDown);
    }
}

/// ESP that is not in UDP: from an address to a listener's.
fn esp(l: &Listener, at: SocketAddr, len: usize) -> Frame {
    Frame { protocol: PROTO_ESP, ..Frame::new(at, l.at, ipsec::esp_of(0x1234, 5, len)) }
}

#[test]
fn esp_without_udp_goes_where_its_clients_ike_went() {
    for l in [DIRECT, DIRECT6] {
        for ordinal in 0..BACKENDS {
            let mut world = world(&l, ordinal);
            let (known, new) = (client(&l, 1), client(&l, 2));
            assert_eq!(goes_to(&world, &l, known), ordinal);
            world.place(&l, |_| (ordinal + 1) % BACKENDS);
            let (frame, other) = (esp(&l, known, 100).bytes(), esp(&l, new, 100).bytes());
            let outcome = world.receive(&frame, WAN);
            assert_eq!(outcome.reason(), Reason::InDirect);
            let got = arrived(&l, &outcome);
            assert_eq!((got.ordinal, got.packet), (ordinal, hop(&frame[14..])));
            assert_eq!(arrived(&l, &world.receive(&other, WAN)).ordinal, (ordinal + 1) % BACKENDS);
            for piece in esp(&l, known, 1000).fragments(304) {
                assert_eq!(arrived(&l, &world.receive(&piece, WAN)).ordinal, ordinal);
            }
            let mut old = esp(&l, known, 100);
            old.ttl = 1;
            refused(&world.receive(&old.bytes(), WAN), Reason::TtlExpired);
            // And who sends too much is told.
            let frame = esp(&l, known, 1500).bytes();
            let outcome = world.receive(&frame, WAN);
            assert_eq!(outcome.reason(), Reason::IcmpTooBig);
            assert_eq!(outcome.verdict.action, Action::Redirect(WAN));
        }
    }
}

#[test]
fn errors_about_esp_reach_who_sent_it() {
    for l in [DIRECT, DIRECT6] {
        let (kind, at) = (icmp::TOO_BIG[usize::from(l.at.is_ipv6())], client(&l, 1));
        for ordinal in 0..BACKENDS {
            // A backend's, to a client.
            let mut answer = esp(&l, at, 1000);
            (answer.source, answer.destination) = (l.at, at);
            let answer = answer.bytes();
            let error = icmp::error(kind, client(&l, 200).ip(), l.at.ip(), &answer[14..], 1000);
            let outcome = world(&l, ordinal).receive(&error.bytes(), WAN);
            assert_eq!(outcome.reason(), Reason::IcmpError);
            let got = arrived(&l, &outcome);
            assert_eq!((got.ordinal, got.packet), (ordinal, hop(&error.bytes()[14..])));
        }
        // A client's, in the tunnel.
        let sent = world(&l, 1).receive(&esp(&l, at, 400).bytes(), WAN);
        let packet = arrived(&l, &sent).packet;
        let outer = &sent.frame[18..];
        let error = icmp::error(icmp::TOO_BIG[0], router(true), TUNNEL4, outer, 520);
        let outcome = World::new().receive(&error.bytes(), LAN);
        assert_eq!(outcome.reason(), Reason::IcmpError);
        let headers = if l.at.is_ipv4() { 20 } else { 40 };
        let told = icmp::too_big(l.at.ip(), at.ip(), 1300 - 20, &packet);
        assert_eq!(outcome.frame[14 + headers..], told);
    }
}

#[test]
fn esp_without_udp_is_refused_where_packets_are_translated() {
    let world = World::new();
    for l in [IPSEC, IPSEC6] {
        refused(&world.receive(&esp(&l, client(&l, 1), 80).bytes(), WAN), Reason::EspWithoutUdp);
    }
    // The host's, where there is no IPsec.
    let frame = esp(&WG, client(&WG, 1), 80).bytes();
    untouched(&world, &frame, WAN, Reason::NotOurs);
}

#[test]
fn fragments_follow_their_first_one_through_the_tunnel() {
    for l in [DIRECT, DIRECT6] {
        for ordinal in 0..BACKENDS {
            let mut world = world(&l, ordinal);
            let mut payload = vec![4, 0, 0, 0];
            payload.resize(2000, 0x88);
            let frame = Frame {
                identification: 7,
                fragmentable: true,
                ..Frame::of(&l, client(&l, 1), l.at, payload)
            };
            for (n, fragment) in frame.fragments(800).iter().enumerate() {
                let outcome = world.receive(fragment, WAN);
                let reason = if n == 0 { Reason::InDirect } else { Reason::InFragment };
                assert_eq!(outcome.reason(), reason);
                let got = arrived(&l, &outcome);
                assert_eq!((got.ordinal, got.packet), (ordinal, hop(&fragment[14..])), "{l:?}");
                // Where new ones go does not matter to these.
                world.place(&l, |_| (ordinal + 1) % BACKENDS);
            }
        }
    }
}

/// What a router outside says about an answer that it could not send on.
#[test]
fn an_error_about_an_answer_reaches_the_backend_that_gave_it() {
    for l in ANSWERED {
        for ordinal in 0..BACKENDS {
            let mut world = world(&l, ordinal);
            let at = client(&l, 1);
            assert_eq!(goes_to(&world, &l, at), ordinal);
            world.place(&l, |_| (ordinal + 1) % BACKENDS);
            let about = Frame::of(&l, l.at, at, vec![0x50; 60]).bytes();
            let kind = icmp::TOO_BIG[usize::from(l.at.is_ipv6())];
            let router = client(&l, 200).ip();
            let error = icmp::error(kind, router, l.at.ip(), &about[14..], 1000).bytes();
            let outcome = world.receive(&error, WAN);
            assert_eq!(outcome.reason(), Reason::IcmpError);
            let got = arrived(&l, &outcome);
            assert_eq!((got.ordinal, got.packet), (ordinal, hop(&error[14..])), "{l:?}");
        }
    }
}

/// A packet of a client's in the tunnel to a backend, from its IP header on, and the overhead.
fn tunneled(l: &Listener, ordinal: u32, at: SocketAddr) -> (Vec<u8>, Vec<u8>) {
    let world = world(l, ordinal);
    let mut payload = beginning(l);
    if *l == DIRECT_TCP {
        payload.resize(1000, 0x77);
    }
    let outcome = world.inbound(l, at, payload);
    let packet = arrived(l, &outcome).packet;
    let l3 = 14 + 4 * usize::from(site::tag(l.hop(ordinal)).is_some());
    (outcome.frame[l3..].to_vec(), packet)
}

fn router(v4: bool) -> IpAddr {
    if v4 { [10, 20, 0, 254].into() } else { [0xfd00, 0x20, 0, 0, 0, 0, 0, 0xfe].into() }
}

#[test]
fn a_narrow_link_behind_the_gateway_is_told_to_the_client() {
    for l in ANSWERED {
        for (ordinal, overhead) in [(1, 20_u16), (2, 48)] {
            for n in [1, 0x701] {
                let at = client(&l, n);
                let (outer, packet) = tunneled(&l, ordinal, at);
                let v4 = l.backend(ordinal).is_ipv4();
                let (kind, source) =
                    if v4 { (icmp::TOO_BIG[0], TUNNEL4) } else { (icmp::TOO_BIG[1], TUNNEL6) };
                // Its size is 1300, see the fixture.
                let mut error = icmp::error(kind, router(v4), source, &outer, 520);
                for tags in [vec![], vec![(0x8100, 20)]] {
                    error.tags = tags;
                    let world = World::new();
                    let outcome = world.receive(&error.bytes(), LAN);
                    assert_eq!(outcome.reason(), Reason::IcmpError, "{l:?} {ordinal}");
                    let tagged = l.at.is_ipv4() && n != 1;
                    let hop = match (l.at.is_ipv4(), tagged) {
                        (true, false) => site::CLIENTS,
                        (true, true) => site::CLIENTS_TAGGED,
                        (false, _) => site::CLIENTS6,
                    };
                    assert_eq!(outcome.frame[..6], site::mac(hop), "{l:?} {at}");
                    let told = icmp::too_big(l.at.ip(), at.ip(), 1300 - overhead, &packet);
                    let headers = if l.at.is_ipv4() { 20 } else { 40 };
                    let l3 = 14 + 4 * usize::from(tagged);
                    assert_eq!(outcome.frame[l3 + headers..], told, "{l:?} {ordinal}");
                    if l.at.is_ipv4() {
                        let ip = Ipv4Header::from_slice(&outcome.frame[l3..]).unwrap().0;
                        assert_eq!(ip.header_checksum, ip.calc_header_checksum());
                        assert_eq!(
                            (IpAddr::from(ip.source), IpAddr::from(ip.destination)),
                            (l.at.ip(), at.ip())
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn errors_that_are_about_no_tunneled_packet_are_the_hosts() {
    let l = DIRECT;
    let at = client(&l, 1);
    let (outer, _) = tunneled(&l, 1, at);
    let world = World::new();
    let change = |place: usize, by: u8| {
        let mut outer = outer.clone();
        outer[place] ^= by;
        outer
    };
    let too_big = icmp::TOO_BIG[0];
    let own = TUNNEL4;
    let other: IpAddr = [10, 20, 0, 2].into();
    for (kind, to, about, length) in [
        // Of another kind; to another; from another; to no backend; of another protocol; about no service's; too short.
        ((3, 1), own, outer.clone(), 520),
        ((11, 0), own, outer.clone(), 520),
        (too_big, other, outer.clone(), 520),
        (too_big, other, change(15, 3), 520),
        (too_big, own, change(19, 0x40), 520),
        (too_big, own, change(9, 1), 520),
        (too_big, own, change(39, 1), 520),
        (too_big, own, change(20, 1), 520),
        (too_big, own, outer.clone(), 39),
    ] {
        let error = icmp::error(kind, router(true), to, &about, length);
        untouched(&world, &error.bytes(), LAN, Reason::NotOurs);
    }
    // Enough to know whose it is, and not enough to tell about it.
    let error = icmp::error(too_big, router(true), own, &outer, 60);
    assert_eq!(world.receive(&error.bytes(), LAN).reason(), Reason::TooBig);
}
