//! The host's own traffic, and what only passes through: untouched.

use crate::{answer, client, untouched};
use dataplane::fixture::site::{LAN, LISTENERS, TRANSLATED, UDP, WAN, WG, WG6};
use dataplane::fixture::{Frame, World};
use dataplane::reason::Reason;
use std::net::SocketAddr;

fn passes(frame: &Frame, ingress: u32) {
    for tags in [vec![], vec![(0x8100, 5)], vec![(0x88a8, 5), (0x8100, 6)]] {
        let frame = Frame { tags, ..frame.clone() };
        untouched(&World::new(), &frame.bytes(), ingress, Reason::NotOurs);
    }
}

#[test]
fn arp_and_other_link_layer_protocols_pass() {
    let world = World::new();
    for kind in [0x0806_u16, 0x88cc, 0x8847, 0x0003, 0x9100] {
        let mut frame = vec![0xff; 60];
        frame[12..14].copy_from_slice(&kind.to_be_bytes());
        untouched(&world, &frame, WAN, Reason::NotIp);
        // With a tag, and with more tags than are read.
        let tagged = [&frame[..12], &[0x81, 0, 0, 5], &frame[12..]].concat();
        untouched(&world, &tagged, LAN, Reason::NotIp);
        let tags = [0x88, 0xa8, 0, 5, 0x81, 0, 0, 6, 0x81, 0, 0, 7];
        let tagged = [&frame[..12], &tags, &frame[12..]].concat();
        untouched(&world, &tagged, LAN, Reason::NotIp);
    }
}

#[test]
fn icmp_to_a_vip_and_neighbour_discovery_pass() {
    for l in LISTENERS {
        // Of this service TCP is a listener's, too.
        let others = [1, 58, 6, 47, 50, 132].into_iter();
        for protocol in others.filter(|p| *p != 6 || l.service != UDP.service) {
            let mut frame = Frame::new(client(&l, 1), l.at, vec![0x80; 32]);
            frame.protocol = protocol;
            frame.ttl = 255;
            passes(&frame, WAN);
            // From a backend: a ping, a TCP connection, an ICMP error.
            let mut frame = Frame::new(l.backend(0), client(&l, 1), vec![0; 32]);
            frame.protocol = protocol;
            frame.ttl = 1;
            passes(&frame, LAN);
        }
    }
}

#[test]
fn udp_that_is_neither_to_a_service_nor_from_an_endpoint_passes() {
    for l in LISTENERS {
        let backend = l.backend(0);
        let other = SocketAddr::new(backend.ip(), 53_535);
        let resolver = client(&l, 53);
        // A backend's DNS, and the answer.
        passes(&Frame::new(other, resolver, b"query".to_vec()), LAN);
        passes(&Frame::new(resolver, other, b"answer".to_vec()), WAN);
        // Another port of a VIP; the service's port at another address.
        passes(&Frame::new(client(&l, 1), SocketAddr::new(l.at.ip(), 53), vec![1]), WAN);
        passes(
            &Frame::new(client(&l, 1), SocketAddr::new(client(&l, 9).ip(), l.at.port()), vec![1]),
            WAN,
        );
        // To a backend's endpoint, directly.
        passes(&Frame::new(client(&l, 1), backend, vec![1]), WAN);
    }
}

/// A probe of a service's own port is answered from there.
#[test]
fn what_backends_answer_the_host_passes_and_is_no_session() {
    for l in TRANSLATED {
        let mut world = World::new();
        let (own, other) = (client(&l, 1), client(&l, 2));
        world.own(own.ip());
        for _ in 0..3 {
            let frame = Frame::of(&l, l.backend(0), own, answer(&l)).bytes();
            untouched(&world, &frame, LAN, Reason::NotOurs);
        }
        assert!(world.slot(&l, own).is_none());
        // And only at that address.
        assert!(world.answer(&l, 0, other, answer(&l)).is_forwarded(), "{l:?}");
    }
}

#[test]
fn what_is_short_but_not_ours_passes() {
    for l in [WG, UDP, WG6] {
        let mut frame = Frame::new(client(&l, 1), client(&l, 2), vec![1, 2, 3]);
        frame.fragment = Some((0, false));
        frame.fragment = None;
        let bytes = frame.bytes();
        let udp = if l.at.is_ipv4() { 34 } else { 54 };
        // An IP packet of no payload at all, whose protocol says UDP.
        let mut cut = bytes[..udp].to_vec();
        if l.at.is_ipv4() {
            cut[16..18].copy_from_slice(&20_u16.to_be_bytes());
        } else {
            cut[18..20].copy_from_slice(&0_u16.to_be_bytes());
        }
        untouched(&World::new(), &cut, WAN, Reason::NotOursTruncated);
    }
}
