//! What changes in a packet, and that nothing else does; checksums are computed
//! anew by another implementation.

use dataplane::abi::Profile;
use dataplane::fixture::read::read;
use dataplane::fixture::site::{BACKENDS, LISTENERS, Listener, WAN};
use dataplane::fixture::{Checksum, Frame, World, message, openvpn};
use proptest::prelude::*;
use std::net::{IpAddr, SocketAddr};

fn payload(l: &Listener, noise: &[u8]) -> Vec<u8> {
    let mut payload = match l.profile {
        Profile::WireGuard => message::data_of(0, 0, 32),
        Profile::OpenVpn => openvpn::data_of(0, 0, 24),
        Profile::Udp => Vec::new(),
    };
    payload.extend(noise);
    payload
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn both_directions_change_addresses_ports_ttl_and_sums_alone(
        listener in 0..LISTENERS.len(),
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
        let l = LISTENERS[listener];
        world.place(&l, |_| ordinal);
        let (client, backend) = (client(&l, bits, port), l.backend(ordinal));
        let payload = payload(&l, &noise);
        let (from, to, expected) = if inbound {
            (client, l.at, (client, backend))
        } else {
            (backend, client, (l.at, client))
        };
        let mut frame = Frame::new(from, to, payload.clone());
        frame.ttl = ttl;
        frame.padding = padding;
        frame.tags = [(0x88a8, 5), (0x8100, 6)][2 - tags..].to_vec();
        if no_sum {
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
        prop_assert_eq!(seen.payload, payload);
        // Identification, traffic class and the padding behind the packet stay.
        let rest = |frame: &[u8], l3: usize| {
            let ip = &frame[l3..];
            if l.at.is_ipv4() { [&ip[..8], &ip[9..10], &ip[28..]].concat() }
            else { [&ip[..7], &ip[48..]].concat() }
        };
        let after = 14 + 4 * seen.tags.len();
        prop_assert_eq!(rest(&bytes, 14 + 4 * tags), rest(&outcome.frame, after));
    }

    /// There and back is what it was, up to the TTL.
    #[test]
    fn a_wrong_checksum_stays_wrong(bit in 0..16_u32, inbound in any::<bool>(), listener in 0..LISTENERS.len()) {
        let world = World::new();
        let l = LISTENERS[listener];
        let payload = payload(&l, b"something");
        let (from, to) = (client(&l, 9, 999), l.at);
        let frame = if inbound { Frame::new(from, to, payload) } else { Frame::new(l.backend(0), from, payload) };
        let mut bytes = frame.bytes();
        let field = if l.at.is_ipv4() { 14 + 20 + 6 } else { 14 + 40 + 6 };
        let sum = u16::from_be_bytes([bytes[field], bytes[field + 1]]) ^ (1 << bit);
        prop_assume!(sum != 0);
        bytes[field..field + 2].copy_from_slice(&sum.to_be_bytes());
        let outcome = world.receive(&bytes, WAN);
        prop_assert!(outcome.is_forwarded());
        prop_assert!(!outcome.seen().udp_sum_right, "a damaged datagram must not be repaired");
    }
}
