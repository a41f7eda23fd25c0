//! What is refused by name: fragments, options, extension headers, what is
//! malformed, and what has travelled too far.

use crate::{answer, beginning, client, forwarded, refused, untouched};
use dataplane::abi::ENDPOINT_ACCEPTS;
use dataplane::fixture::message::data;
use dataplane::fixture::site::{DTLS6, LAN, LISTENERS, UDP, WAN, WG, WG6};
use dataplane::fixture::{Frame, World};
use dataplane::reason::Reason;

/// The frame is refused, and the tables stay as they are.
#[track_caller]
fn check(frame: &Frame, ingress: u32, reason: Reason) {
    let world = World::new();
    let before = world.image();
    refused(&world.receive(&frame.bytes(), ingress), reason);
    assert_eq!(world.image(), before);
}

/// To a service, and from a backend.
fn both(l: &dataplane::fixture::site::Listener) -> [Frame; 2] {
    let at = client(l, 1);
    [Frame::new(at, l.at, beginning(l)), Frame::new(l.backend(0), at, answer(l))]
}

#[test]
fn later_fragments_are_never_read_as_if_they_had_ports() {
    // From a backend: its payload looks like the ports of an endpoint and a client.
    let world = World::new();
    let before = world.image();
    let mut ports = WG.backend(0).port().to_be_bytes().to_vec();
    ports.extend([0x9c, 0x40, 0, 40, 0, 0]);
    ports.extend(data(100, 1));
    let mut frame = Frame::new(WG.backend(0), client(&WG, 1), ports);
    frame.fragment = Some((10, false));
    untouched(&world, &frame.bytes(), LAN, Reason::NotOurs);
    assert_eq!(world.image(), before);
}

#[test]
fn ipv4_options_are_refused_both_ways() {
    for l in [WG, UDP] {
        for words in [1, 2, 10] {
            for (mut frame, ingress) in both(&l).into_iter().zip([WAN, LAN]) {
                frame.options = [1; 40][..4 * words].to_vec();
                check(&frame, ingress, Reason::Ipv4Options);
            }
        }
    }
}

#[test]
fn ipv6_extension_headers_are_refused() {
    for extensions in [vec![0], vec![60], vec![43], vec![0, 60, 43], vec![135]] {
        let [mut frame, _] = both(&WG6);
        frame.extensions = extensions;
        check(&frame, WAN, Reason::Ipv6Extension);
        // Before and behind a fragment header.
        frame.fragment = Some((0, true));
        check(&frame, WAN, Reason::Ipv6Extension);
    }
}

/// It was taken for a packet without ports, and passed to the host.
#[test]
fn a_fragment_header_behind_another_is_refused() {
    let world = World::new();
    for l in [WG6, DTLS6] {
        let mut frame = Frame::new(client(&l, 1), l.at, data(7, 1));
        frame.extensions = vec![44];
        frame.fragment = Some((0, false));
        refused(&world.receive(&frame.bytes(), WAN), Reason::Ipv6Extension);
    }
}

#[test]
fn options_and_fragments_of_other_protocols_to_a_vip_are_the_hosts() {
    let world = World::new();
    let mut frame = Frame::new(client(&WG, 1), WG.at, vec![8, 0, 0, 0, 0, 0, 0, 0]);
    frame.protocol = 1;
    frame.options = vec![1; 4];
    untouched(&world, &frame.bytes(), WAN, Reason::NotOurs);
    frame.fragment = Some((0, true));
    untouched(&world, &frame.bytes(), WAN, Reason::NotOurs);
}

#[test]
fn a_ttl_that_is_used_up_ends_here() {
    for l in LISTENERS {
        for (mut frame, ingress) in both(&l).into_iter().zip([WAN, LAN]) {
            for ttl in [0, 1] {
                frame.ttl = ttl;
                check(&frame, ingress, Reason::TtlExpired);
            }
            frame.ttl = 2;
            let outcome = World::new().receive(&frame.bytes(), ingress);
            assert!(outcome.is_forwarded());
            assert_eq!(outcome.seen().ttl, 1);
        }
    }
}

#[test]
fn messages_of_a_wrong_length_or_type_are_refused() {
    let world = World::new();
    for kind in 0..=255_u8 {
        for len in [0, 1, 11, 12, 31, 32, 63, 64, 65, 91, 92, 93, 147, 148, 149, 400] {
            let mut payload = vec![0; len];
            if let Some(first) = payload.first_mut() {
                *first = kind;
            }
            let right = matches!((kind, len), (1, 148) | (2, 92) | (3, 64) | (4, 32..));
            for l in [WG, WG6] {
                let outcome = world.inbound(&l, client(&l, 1), payload.clone());
                if right {
                    forwarded(&outcome, Reason::InUnestablished);
                } else {
                    refused(&outcome, Reason::WireGuardMalformed);
                    let answer = world.answer(&l, 0, client(&l, 1), payload.clone());
                    refused(&answer, Reason::WireGuardMalformed);
                }
            }
        }
    }
}

#[test]
fn a_udp_length_that_contradicts_the_packet_is_refused() {
    for l in LISTENERS {
        for (frame, ingress) in both(&l).into_iter().zip([WAN, LAN]) {
            let bytes = frame.bytes();
            let at = if l.at.is_ipv4() { 14 + 20 + 4 } else { 14 + 40 + 4 };
            let right = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
            for wrong in [0, 1, 7, right + 1, 0xffff] {
                let mut bytes = bytes.clone();
                bytes[at..at + 2].copy_from_slice(&wrong.to_be_bytes());
                refused(&World::new().receive(&bytes, ingress), Reason::UdpMalformed);
            }
        }
    }
}

#[test]
fn an_ip_length_or_version_that_contradicts_the_frame_is_refused() {
    let v4 = both(&WG)[0].bytes();
    let v6 = both(&WG6)[0].bytes();
    let world = World::new();
    for (frame, reason, wrong) in [
        (
            &v4,
            Reason::Ipv4Malformed,
            &[(14, 0x55), (14, 0x44), (14, 0x65), (16, 0xff), (17, 1)][..],
        ),
        (&v6, Reason::Ipv6Malformed, &[(14, 0x40), (14, 0x70), (18, 0xff)][..]),
    ] {
        for (at, byte) in wrong {
            let mut frame = frame.clone();
            frame[*at] = *byte;
            if *at == 17 {
                frame[16] = 0;
            }
            refused(&world.receive(&frame, WAN), reason);
        }
    }
}

#[test]
fn a_dead_backend_takes_no_packet_of_its_sessions() {
    let mut world = World::new();
    let at = client(&WG, 1);
    let ordinal = world.shake_hands(&WG, at, (100, 500));
    world.flag(WG.endpoint(ordinal), ENDPOINT_ACCEPTS);
    refused(&world.inbound(&WG, at, data(500, 2)), Reason::BackendDown);
    refused(&world.inbound(&WG, client(&WG, 2), data(500, 2)), Reason::BackendDown);
}
