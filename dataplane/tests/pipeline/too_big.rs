//! What is larger than its next hop takes: its sender is told about the packet that it knows.

use crate::{answer, client};
use dataplane::fixture::icmp::too_big;
use dataplane::fixture::site::{self, LAN, Listener, TRANSLATED, UDP, WAN};
use dataplane::fixture::{Frame, Outcome, World};
use dataplane::pipeline::Action;
use dataplane::reason::Reason;
use std::net::{IpAddr, SocketAddr};

/// A size that no packet here fits.
const MTU: u16 = 130;

/// A world in which the client has a session, and the ways to both ends of it are narrow.
fn world(l: &Listener, at: SocketAddr) -> World {
    let world = World::new();
    for _ in 0..2 {
        world.answer(l, 0, at, answer(l));
    }
    for hop in &world.tables.nexthops {
        hop.mtu.set(MTU);
    }
    world
}

/// A packet of a listener's protocol, of 200 bytes and more.
fn packet(l: &Listener, from: SocketAddr, to: SocketAddr) -> Frame {
    let mut payload = answer(l);
    payload.resize(200, 0x33);
    Frame::of(l, from, to, payload)
}

/// The frame went back as an error about itself, from `from`.
#[track_caller]
fn told(outcome: &Outcome, frame: &[u8], (from, to): (IpAddr, IpAddr), tags: usize) {
    assert_eq!(outcome.reason(), Reason::IcmpTooBig);
    assert!(matches!(outcome.verdict.action, Action::Redirect(WAN | LAN)));
    let l3 = 14 + 4 * tags;
    let out = &outcome.frame;
    assert_eq!([&out[6..12], &out[..6]].concat(), frame[..12], "back to who sent it");
    assert_eq!(out[12..l3], frame[12..l3], "with its tags");
    let ip = &out[l3..];
    let message = too_big(from, to, MTU, &frame[l3..]);
    if from.is_ipv4() {
        let header = etherparse::Ipv4Header::from_slice(ip).unwrap().0;
        assert_eq!(header.header_checksum, header.calc_header_checksum());
        assert_eq!((IpAddr::from(header.source), IpAddr::from(header.destination)), (from, to));
        assert_eq!((header.protocol.0, header.time_to_live), (1, 64));
        assert_eq!(usize::from(header.total_len), ip.len());
        assert_eq!(ip[20..], message);
    } else {
        let header = etherparse::Ipv6Header::from_slice(ip).unwrap().0;
        assert_eq!((IpAddr::from(header.source), IpAddr::from(header.destination)), (from, to));
        assert_eq!((header.next_header.0, header.hop_limit), (58, 64));
        assert_eq!(usize::from(header.payload_length), ip.len() - 40);
        assert_eq!(ip[40..], message);
    }
}

#[test]
fn both_ends_are_told_about_the_packet_that_they_sent() {
    for l in TRANSLATED {
        let at = client(&l, 1);
        for (tags, ingress) in [(vec![], WAN), (vec![(0x88a8, 7), (0x8100, 9)], LAN)] {
            let world = world(&l, at);
            let mut inbound = packet(&l, at, l.at);
            inbound.tags = tags.clone();
            let bytes = inbound.bytes();
            let outcome = world.receive(&bytes, ingress);
            told(&outcome, &bytes, (l.at.ip(), at.ip()), tags.len());
            let mut answer = packet(&l, l.backend(0), at);
            answer.tags = tags.clone();
            let bytes = answer.bytes();
            let outcome = world.receive(&bytes, ingress);
            told(&outcome, &bytes, (at.ip(), l.backend(0).ip()), tags.len());
            assert_eq!(world.count(Reason::IcmpTooBig), 2);
        }
    }
}

#[test]
fn senders_are_told_only_so_often() {
    let at = client(&UDP, 1);
    let world = world(&UDP, at);
    world.tables.settings.budget_cost.set(1_000_000);
    world.tables.settings.budget_burst.set(1_000_000);
    for _ in 0..50 {
        world.receive(&packet(&UDP, at, UDP.at).bytes(), WAN);
    }
    let told = world.count(Reason::IcmpTooBig);
    assert!((1..5).contains(&told), "{told}");
    assert_eq!(world.count(Reason::TooBig), 50 - told);
}

#[test]
fn what_may_be_fragmented_is_left_to_the_stack() {
    let at = client(&UDP, 1);
    let world = world(&UDP, at);
    let mut frame = packet(&UDP, at, UDP.at);
    frame.fragmentable = true;
    let outcome = world.receive(&frame.bytes(), WAN);
    let ends = (outcome.reason(), outcome.verdict.action);
    assert_eq!(ends, (Reason::StackTooBig, Action::Pass));
    assert_eq!(outcome.seen().destination, UDP.backend(0));
}

#[test]
fn a_size_below_what_an_error_has_is_no_reason_to_break() {
    let at = client(&UDP, 1);
    let world = world(&UDP, at);
    for hop in 0..site::HOPS {
        world.tables.nexthops[hop as usize].mtu.set(20);
    }
    for len in 0..80 {
        let frame = Frame::of(&UDP, at, UDP.at, vec![1; len]);
        let outcome = world.receive(&frame.bytes(), WAN);
        let told = if 28 + len >= 60 { Reason::IcmpTooBig } else { Reason::TooBig };
        assert_eq!(outcome.reason(), told, "{len}");
    }
}

/// Sums are right whatever the addresses and ports are.
#[test]
fn errors_to_any_client_have_right_sums() {
    let mut world = world(&UDP, client(&UDP, 1));
    world.place(&site::DIRECT, |_| 0);
    for l in [UDP, site::DIRECT] {
        for n in 0..20_000_u32 {
            let ip = [198, 18, (n >> 8) as u8, n as u8];
            let at = SocketAddr::new(IpAddr::from(ip), (n.wrapping_mul(7919) >> 3) as u16);
            let payload = if l == UDP {
                vec![1; 700]
            } else {
                dataplane::fixture::message::data_of(n, n, 700)
            };
            let frame = Frame::of(&l, at, l.at, payload);
            let bytes = frame.bytes();
            let outcome = world.receive(&bytes, WAN);
            assert_eq!(outcome.reason(), Reason::IcmpTooBig);
            told(&outcome, &bytes, (l.at.ip(), at.ip()), 0);
        }
    }
}
