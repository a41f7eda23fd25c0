//! Fragments: the first one decides, the others follow it, and a flood of them costs nobody anything.

use crate::{answer, answers_open, beginning, client, forwarded, refused, untouched};
use dataplane::abi::LISTENER_BY_FLOW;
use dataplane::fixture::site::{BACKENDS, LAN, Listener, TRANSLATED, UDP, UDP6, WAN, WG};
use dataplane::fixture::{Frame, Outcome, World};
use dataplane::reason::Reason;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

/// A packet of some hundred bytes.
fn packet(l: &Listener, from: SocketAddr, to: SocketAddr, mut payload: Vec<u8>) -> Frame {
    let head = payload.len();
    payload.resize(600, 0);
    for (n, byte) in payload[head..].iter_mut().enumerate() {
        *byte = n as u8;
    }
    let mut frame = Frame::of(l, from, to, payload);
    frame.fragmentable = true;
    frame.identification = 0x1234;
    frame
}

/// Addresses, TTL, and what is behind IP's headers, of a frame without tags or with one.
fn parts(frame: &[u8], v4: bool, fragment: bool) -> (Vec<u8>, u8, Vec<u8>) {
    let l3 = if frame[12] == 0x81 || frame[12] == 0x88 { 18 } else { 14 };
    let ip = &frame[l3..];
    if v4 {
        let header = etherparse::Ipv4Header::from_slice(ip).unwrap().0;
        assert_eq!(header.header_checksum, header.calc_header_checksum());
        (ip[12..20].to_vec(), ip[8], ip[20..].to_vec())
    } else {
        (ip[8..40].to_vec(), ip[7], ip[if fragment { 48 } else { 40 }..].to_vec())
    }
}

/// The ordinal of the backend that it goes to.
#[track_caller]
fn backend(l: &Listener, outcome: &Outcome) -> u32 {
    assert!(outcome.is_forwarded(), "{:?}", outcome.verdict);
    let addresses = parts(&outcome.frame, l.at.is_ipv4(), true).0;
    let is_to = |ordinal: &u32| match l.backend(*ordinal).ip() {
        IpAddr::V4(ip) => addresses.ends_with(&ip.octets()),
        IpAddr::V6(ip) => addresses.ends_with(&ip.octets()),
    };
    (0..BACKENDS).find(is_to).expect("a backend's address")
}

/// The fragments, translated and put together again, are the packet, translated.
#[track_caller]
fn arrives(world: &World, whole: &Frame, ingress: u32, reason: Reason, later: Reason) {
    let v4 = whole.source.is_ipv4();
    let expected = World::new().receive(&whole.bytes(), ingress);
    let (addresses, ttl, transport) = parts(&expected.frame, v4, false);
    let mut together = Vec::new();
    for (n, fragment) in whole.fragments(200).into_iter().enumerate() {
        let outcome = world.receive(&fragment, ingress);
        forwarded(&outcome, if n == 0 { reason } else { later });
        assert_eq!(outcome.verdict.action, expected.verdict.action);
        let (to, hops, piece) = parts(&outcome.frame, v4, true);
        assert_eq!((to, hops), (addresses.clone(), ttl), "fragment {n}");
        together.extend(piece);
    }
    assert_eq!(together, transport);
}

#[test]
fn the_fragments_of_a_packet_follow_its_first_one_both_ways() {
    for l in TRANSLATED {
        let at = client(&l, 1);
        let world = World::new();
        // What opens nothing may be in fragments, too.
        let reason = match World::new().inbound(&l, at, answer(&l)).reason() {
            Reason::InUnestablished => Reason::InUnestablished,
            other => panic!("{other:?}"),
        };
        let inbound = packet(&l, at, l.at, answer(&l));
        arrives(&world, &inbound, WAN, reason, Reason::InFragment);
        for ordinal in 0..BACKENDS {
            let whole = packet(&l, l.backend(ordinal), at, answer(&l));
            let first = World::new().receive(&whole.bytes(), Listener::arm(ordinal)).reason();
            let world = World::new();
            arrives(&world, &whole, Listener::arm(ordinal), first, Reason::OutFragment);
        }
    }
}

/// An IKE_AUTH with certificates, for instance.
#[test]
fn an_answer_in_fragments_proves_what_a_whole_one_does() {
    for l in TRANSLATED.into_iter().filter(answers_open) {
        let at = client(&l, 1);
        let (one, other) = (World::new(), World::new());
        let whole = packet(&l, l.backend(0), at, answer(&l));
        for _ in 0..2 {
            one.receive(&whole.bytes(), LAN);
            for fragment in whole.fragments(200) {
                other.receive(&fragment, LAN);
            }
        }
        assert_eq!((one.sessions(), other.sessions()), (1, 1), "{l:?}");
        let endpoint = |world: &World| world.slot(&l, at).map(|(_, slot)| slot.endpoint.get());
        assert_eq!(endpoint(&one), endpoint(&other));
    }
}

#[test]
fn one_that_comes_before_its_first_goes_where_that_will_go() {
    for l in [UDP, UDP6] {
        for n in 1..40 {
            let world = World::new();
            let at = client(&l, n);
            let whole = packet(&l, at, l.at, vec![7; 30]);
            let mut fragments = whole.fragments(200);
            fragments.reverse();
            let to: BTreeSet<u32> = fragments
                .iter()
                .map(|fragment| backend(&l, &world.receive(fragment, WAN)))
                .collect();
            assert_eq!(to.len(), 1);
            // And where its session is, if that is another: the answer of another backend opens it there.
            let ordinal = (0..BACKENDS).find(|ordinal| !to.contains(ordinal)).unwrap();
            for _ in 0..2 {
                world.answer(&l, ordinal, at, answer(&l));
            }
            let mut next = packet(&l, at, l.at, vec![8; 30]);
            next.identification = 77;
            let late = next.fragments(200).pop().unwrap();
            let outcome = world.receive(&late, WAN);
            forwarded(&outcome, Reason::InFragment);
            assert_eq!(backend(&l, &outcome), ordinal);
            assert_eq!(backend(&l, &world.receive(&next.fragments(200)[0], WAN)), ordinal);
            // The way back: it is known whose client that is.
            let mut back = packet(&l, l.backend(ordinal), at, vec![9; 30]);
            back.identification = 99;
            let late = back.fragments(200).pop().unwrap();
            forwarded(&world.receive(&late, Listener::arm(ordinal)), Reason::OutFragment);
        }
    }
}

#[test]
fn without_a_port_nothing_is_guessed_where_two_services_may_be_meant() {
    let world = World::new();
    let whole = packet(&WG, client(&WG, 1), WG.at, beginning(&WG));
    let before = world.image();
    for fragment in &whole.fragments(200)[1..] {
        refused(&world.receive(fragment, WAN), Reason::Fragment);
    }
    assert_eq!(world.image(), before);
    // Nor where a client's address tells nothing.
    let mut world = World::new();
    let without_port = Listener { at: SocketAddr::new(UDP.at.ip(), 0), ..UDP };
    world.change(&without_port, |entry| entry.index |= LISTENER_BY_FLOW);
    let whole = packet(&UDP, client(&UDP, 1), UDP.at, beginning(&UDP));
    refused(&world.receive(&whole.fragments(200)[1], WAN), Reason::Fragment);
}

#[test]
fn a_first_fragment_is_forgotten_soon() {
    let world = World::new();
    let fragments = packet(&WG, client(&WG, 1), WG.at, answer(&WG)).fragments(200);
    forwarded(&world.receive(&fragments[0], WAN), Reason::InUnestablished);
    world.advance(3_900);
    forwarded(&world.receive(&fragments[1], WAN), Reason::InFragment);
    world.advance(200);
    refused(&world.receive(&fragments[2], WAN), Reason::Fragment);
    // Another packet's, or from elsewhere, is nobody's at any time.
    forwarded(&world.receive(&fragments[0], WAN), Reason::InUnestablished);
    let mut other = packet(&WG, client(&WG, 1), WG.at, answer(&WG));
    other.identification += 1;
    refused(&world.receive(&other.fragments(200)[1], WAN), Reason::Fragment);
    let other = packet(&WG, client(&WG, 2), WG.at, answer(&WG));
    refused(&world.receive(&other.fragments(200)[1], WAN), Reason::Fragment);
}

/// What stands where its ports would be is its frame's padding.
#[test]
fn a_first_fragment_that_ends_before_its_ports_is_malformed() {
    for (l, length_at, header) in [(UDP, 14 + 2, 20), (UDP6, 14 + 4, 8)] {
        let whole = packet(&l, client(&l, 1), l.at, beginning(&l));
        for length in 0..=8 {
            let mut first = whole.fragments(200).remove(0);
            first[length_at + 1] = header + length;
            first[length_at] = 0;
            let outcome = World::new().receive(&first, WAN);
            match length {
                8 => forwarded(&outcome, Reason::InUnestablished),
                _ => refused(&outcome, Reason::UdpMalformed),
            }
        }
    }
}

#[test]
fn a_flood_of_later_fragments_is_held_to_its_sources_budgets_and_changes_nothing() {
    let world = World::new();
    let at = client(&UDP, 1);
    for _ in 0..2 {
        world.answer(&UDP, 0, at, answer(&UDP));
    }
    // 100 packets, and then one each 1.05 s.
    world.tables.settings.budget_cost.set(1 << 20);
    world.tables.settings.budget_burst.set(99 << 20);
    let before = world.image();
    let mut passed = 0;
    for n in 0..10_000_u16 {
        let mut bogus = packet(&UDP, client(&UDP, 2), UDP.at, vec![1; 30]);
        bogus.identification = n;
        let outcome = world.receive(&bogus.fragments(200)[1], WAN);
        passed += u32::from(outcome.is_forwarded());
    }
    assert_eq!(passed, 100);
    assert_eq!(world.count(Reason::SourceBudget), 9_900);
    assert_eq!(world.image(), before);
    // The established session goes on, in fragments as well.
    for fragment in packet(&UDP, at, UDP.at, vec![2; 30]).fragments(200) {
        assert!(world.receive(&fragment, WAN).is_forwarded());
    }
}

#[test]
fn what_backends_send_beside_their_service_is_the_hosts_in_fragments_too() {
    let world = World::new();
    let from = SocketAddr::new(UDP.backend(0).ip(), 53);
    let frame = packet(&UDP, from, client(&UDP, 1), vec![3; 30]);
    for fragment in frame.fragments(200) {
        untouched(&world, &fragment, LAN, Reason::NotOurs);
    }
}

#[test]
fn a_later_fragment_has_a_ttl() {
    let world = World::new();
    let mut frame = packet(&UDP, client(&UDP, 1), UDP.at, vec![3; 30]);
    frame.ttl = 1;
    refused(&world.receive(&frame.fragments(200)[1], WAN), Reason::TtlExpired);
}
