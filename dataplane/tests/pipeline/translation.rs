//! What changes in a packet, and that nothing else does; checksums are computed
//! anew by another implementation.

use dataplane::abi::Profile;
use dataplane::fixture::read::read;
use dataplane::fixture::site::{
    BACKENDS, DTLS, DTLS6, IKE, IKE6, IPSEC, IPSEC6, Listener, TRANSLATED, UDP, UDP6, WAN,
};
use dataplane::fixture::{Checksum, Frame, World, dtls, ipsec, message, openvpn, quic, tcp};
use dataplane::reason::Reason;
use proptest::prelude::*;
use std::net::{IpAddr, SocketAddr};

fn payload(l: &Listener, noise: &[u8]) -> Vec<u8> {
    let mut payload = match l.profile {
        Profile::WireGuard => message::data_of(0, 0, 32),
        Profile::OpenVpn => openvpn::data_of(0, 0, 24),
        Profile::Tcp => tcp::segment(tcp::ACK, &[]),
        Profile::Ike => ipsec::ike(ipsec::Exchange::Auth, ipsec::RESPONSE, (1, 1)),
        Profile::Ipsec => ipsec::esp_of(256, 1, 24),
        Profile::Quic => quic::short(&quic::id(78)),
        Profile::Dtls => dtls::data(1),
        Profile::Udp => Vec::new(),
    };
    payload.extend(noise);
    payload
}

/// The bytes without TCP's checksum, which is there.
fn without_sum(is_tcp: bool, at: usize, mut bytes: Vec<u8>) -> Vec<u8> {
    if is_tcp {
        bytes[at..at + 2].fill(0);
    }
    bytes
}

/// A client whose address has a route.
fn client(l: &Listener, bits: u128, port: u16) -> SocketAddr {
    let ip: IpAddr = if l.at.is_ipv4() {
        [198, 18, (bits >> 8) as u8 & 3, bits as u8].into()
    } else {
        (0x2001_0db8_000c_0000_0000_0000_0000_0000 | (bits & (u128::MAX >> 48)))
            .to_be_bytes()
            .into()
    };
    SocketAddr::new(ip, port)
}

/// A flow is a service's, but each listener has its own port on a backend, and its own sum.
#[test]
fn a_client_that_uses_a_port_for_two_listeners_of_a_service_reaches_each_of_them() {
    for (first, second) in [(UDP, DTLS), (DTLS, UDP), (UDP6, DTLS6), (IKE, IPSEC), (IPSEC6, IKE6)] {
        for ordinal in 0..BACKENDS {
            let (world, at) = (World::new(), client(&first, 9, 999));
            for _ in 0..2 {
                world.answer(&first, ordinal, at, crate::answer(&first));
            }
            for (l, reason) in [(first, Reason::InEstablished), (second, Reason::InEstablished)] {
                let outcome = world.inbound(&l, at, payload(&l, b"something"));
                crate::forwarded(&outcome, reason);
                let seen = outcome.seen();
                assert_eq!((seen.source, seen.destination), (at, l.backend(ordinal)));
                assert!(seen.ip_sum_right && seen.udp_sum_right, "{first:?}, {l:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn both_directions_change_addresses_ports_ttl_and_sums_alone(
        listener in 0..TRANSLATED.len(),
        ordinal in 0..BACKENDS,
        bits in any::<u128>(),
        port in any::<u16>(),
        ttl in 2..=255_u8,
        noise in prop::collection::vec(any::<u8>(), 0..300),
        no_sum in any::<bool>(),
        padding in 0..20_usize,
        tags in 0..3_usize,
        inbound in any::<bool>(),
    ) {
        let mut world = World::new();
        let l = TRANSLATED[listener];
        world.place(&l, |_| ordinal);
        let (client, backend) = (client(&l, bits, port), l.backend(ordinal));
        let payload = payload(&l, &noise);
        let (from, to, expected) = if inbound {
            (client, l.at, (client, backend))
        } else {
            (backend, client, (l.at, client))
        };
        let mut frame = Frame::of(&l, from, to, payload);
        let is_tcp = l.profile == Profile::Tcp;
        frame.ttl = ttl;
        frame.padding = padding;
        frame.tags = [(0x88a8, 5), (0x8100, 6)][2 - tags..].to_vec();
        if no_sum && !is_tcp {
            frame.checksum = Checksum::None;
        }
        let bytes = frame.bytes();
        let before = read(&bytes).expect("a UDP frame");
        let outcome = world.receive(&bytes, WAN);
        prop_assert!(outcome.is_forwarded(), "{:?}", outcome.verdict);
        let seen = outcome.seen();
        prop_assert_eq!((seen.source, seen.destination), expected);
        prop_assert_eq!(seen.ttl, ttl - 1);
        prop_assert!(seen.ip_sum_right);
        prop_assert!(seen.udp_sum_right);
        prop_assert_eq!(seen.checksum == 0, before.checksum == 0);
        prop_assert_eq!(seen.ip_len, before.ip_len);
        prop_assert_eq!(without_sum(is_tcp, 8, seen.payload), without_sum(is_tcp, 8, before.payload));
        // Identification, traffic class and the padding behind the packet stay.
        let rest = |frame: &[u8], l3: usize| {
            let ip = &frame[l3..];
            if l.at.is_ipv4() { without_sum(is_tcp, 17, [&ip[..8], &ip[9..10], &ip[28..]].concat()) }
            else { without_sum(is_tcp, 15, [&ip[..7], &ip[48..]].concat()) }
        };
        let after = 14 + 4 * seen.tags.len();
        prop_assert_eq!(rest(&bytes, 14 + 4 * tags), rest(&outcome.frame, after));
    }

    /// There and back is what it was, up to the TTL.
    #[test]
    fn a_wrong_checksum_stays_wrong(bit in 0..16_u32, inbound in any::<bool>(), listener in 0..TRANSLATED.len()) {
        let world = World::new();
        let l = TRANSLATED[listener];
        let payload = payload(&l, b"something");
        let (from, to) = (client(&l, 9, 999), l.at);
        let frame = if inbound { Frame::of(&l, from, to, payload) } else { Frame::of(&l, l.backend(0), from, payload) };
        let mut bytes = frame.bytes();
        let field = if l.at.is_ipv4() { 14 + 20 } else { 14 + 40 };
        let field = field + if l.profile == Profile::Tcp { 16 } else { 6 };
        let sum = u16::from_be_bytes([bytes[field], bytes[field + 1]]) ^ (1 << bit);
        prop_assume!(sum != 0);
        bytes[field..field + 2].copy_from_slice(&sum.to_be_bytes());
        let outcome = world.receive(&bytes, WAN);
        prop_assert!(outcome.is_forwarded());
        prop_assert!(!outcome.seen().udp_sum_right, "a damaged datagram must not be repaired");
    }
}
