//! ICMP errors go the way of the packets that they are about, translated like these.

use crate::{answer, answers_open, client, untouched};
use dataplane::fixture::icmp::{TOO_BIG, checksum, error};
use dataplane::fixture::site::{DTLS, LAN, Listener, TRANSLATED, UDP, WAN, WG};
use dataplane::fixture::{Frame, Outcome, World};
use dataplane::reason::Reason;
use std::net::{IpAddr, SocketAddr};

const ROUTER4: [u8; 4] = [198, 19, 77, 1];
const ROUTER6: [u16; 8] = [0x2001, 0xdb8, 0xc, 0x77, 0, 0, 0, 1];

fn router(l: &Listener) -> IpAddr {
    if l.at.is_ipv4() { ROUTER4.into() } else { ROUTER6.into() }
}

fn kind(l: &Listener) -> (u8, u8) {
    TOO_BIG[usize::from(l.at.is_ipv6())]
}

/// A world in which the client has a session on this backend.
fn world(l: &Listener, ordinal: u32, at: SocketAddr) -> World {
    let world = World::new();
    for _ in 0..2 {
        world.answer(l, ordinal, at, answer(l));
    }
    world
}

/// The IP packet of a listener's protocol.
fn packet(l: &Listener, from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    Frame::of(l, from, to, answer(l)).bytes()[14..].to_vec()
}

/// Source, destination and message of an ICMP frame, perhaps with one tag, whose IP header is right.
fn parts(frame: &[u8]) -> (IpAddr, IpAddr, Vec<u8>) {
    let ip = &frame[if matches!(frame[12..14], [0x81, 0] | [0x88, 0xa8]) { 18 } else { 14 }..];
    if ip[0] >> 4 == 4 {
        let sum = ip[..20].chunks_exact(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]])));
        let sum: u32 = sum.sum();
        assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff, "the outer header's checksum");
        let address = |at: usize| <[u8; 4]>::try_from(&ip[at..at + 4]).unwrap().into();
        (address(12), address(16), ip[20..].to_vec())
    } else {
        let address = |at: usize| <[u8; 16]>::try_from(&ip[at..at + 16]).unwrap().into();
        (address(8), address(24), ip[40..].to_vec())
    }
}

#[track_caller]
fn forwarded(outcome: &Outcome) -> (IpAddr, IpAddr, Vec<u8>) {
    assert!(outcome.is_forwarded(), "{:?}", outcome.verdict);
    assert_eq!(outcome.reason(), Reason::IcmpError);
    let (from, to, message) = parts(&outcome.frame);
    assert_eq!(checksum(from, to, &message), 0, "the message's checksum");
    (from, to, message)
}

/// How much of a packet's transport header is told, and of that what translation reaches: TCP's
/// checksum lies beyond the first eight bytes.
fn told(l: &Listener) -> usize {
    (if l.at.is_ipv4() { 20 } else { 40 }) + if l.protocol() == 6 { 8 } else { 1000 }
}

#[test]
fn an_error_from_outside_reaches_the_backend_whose_packet_it_is_about() {
    for l in TRANSLATED.into_iter().filter(answers_open) {
        let at = client(&l, 1);
        let world = world(&l, 1, at);
        let about = packet(&l, l.at, at);
        let frame = error(kind(&l), router(&l), l.at.ip(), &about, told(&l));
        let (from, to, message) = forwarded(&world.receive(&frame.bytes(), WAN));
        assert_eq!((from, to), (router(&l), l.backend(1).ip()));
        let should = packet(&l, l.backend(1), at);
        assert_eq!(message[8..], should[..told(&l).min(should.len())], "{l:?}");
        assert_eq!(message[..2], frame.bytes()[if l.at.is_ipv4() { 34..36 } else { 54..56 }]);
        assert_eq!(world.count(Reason::IcmpError), 1);
    }
}

#[test]
fn an_error_from_outside_reaches_the_port_of_the_listener_whose_packet_it_is_about() {
    let at = client(&UDP, 1);
    let world = world(&UDP, 1, at);
    let about = packet(&DTLS, DTLS.at, at);
    let frame = error(kind(&DTLS), router(&DTLS), DTLS.at.ip(), &about, 28);
    let (_, to, message) = forwarded(&world.receive(&frame.bytes(), WAN));
    assert_eq!(to, DTLS.backend(1).ip());
    assert_eq!(message[8..], packet(&DTLS, DTLS.backend(1), at)[..28]);
}

#[test]
fn an_error_from_inside_reaches_the_client_and_hides_who_sent_it() {
    for l in TRANSLATED {
        let at = client(&l, 1);
        let world = world(&l, 0, at);
        let about = packet(&l, at, l.backend(0));
        let inside: IpAddr = if l.at.is_ipv4() {
            [10, 99, 0, 1].into()
        } else {
            [0xfd99, 0, 0, 0, 0, 0, 0, 1].into()
        };
        let frame = error(kind(&l), inside, at.ip(), &about, told(&l));
        let (from, to, message) = forwarded(&world.receive(&frame.bytes(), LAN));
        assert_eq!((from, to), (l.at.ip(), at.ip()));
        let should = packet(&l, at, l.at);
        assert_eq!(message[8..], should[..told(&l).min(should.len())], "{l:?}");
    }
}

/// It is what a link that is too narrow for fragments says, too. Without ports it is the host's.
#[test]
fn an_error_about_a_first_fragment_goes_the_way_of_its_packet() {
    for l in TRANSLATED.into_iter().filter(answers_open) {
        let at = client(&l, 1);
        let world = world(&l, 1, at);
        let pieces = |from, to| {
            let payload = [answer(&l), vec![0x33; 1000]].concat();
            let pieces = Frame::of(&l, from, to, payload).fragments(504);
            pieces.iter().map(|piece| piece[14..].to_vec()).collect::<Vec<_>>()
        };
        let told = told(&l) + if l.at.is_ipv4() { 0 } else { 8 };
        let cut = |packet: &[u8]| packet[..told.min(packet.len())].to_vec();
        let (sent, own) = (pieces(l.at, at), pieces(l.backend(1), at));
        let out = error(kind(&l), router(&l), l.at.ip(), &sent[0], told);
        let (from, to, message) = forwarded(&world.receive(&out.bytes(), WAN));
        assert_eq!((from, to, &message[8..]), (router(&l), l.backend(1).ip(), &cut(&own[0])[..]));
        let later = error(kind(&l), router(&l), l.at.ip(), &sent[1], told);
        untouched(&world, &later.bytes(), WAN, Reason::NotOurs);
        let (sent, own) = (pieces(at, l.backend(1)), pieces(at, l.at));
        let inside = error(kind(&l), router(&l), at.ip(), &sent[0], told);
        let (from, to, message) = forwarded(&world.receive(&inside.bytes(), LAN));
        assert_eq!((from, to, &message[8..]), (l.at.ip(), at.ip(), &cut(&own[0])[..]), "{l:?}");
    }
}

#[test]
fn what_fits_no_session_is_the_hosts() {
    for l in TRANSLATED {
        let at = client(&l, 1);
        let world = world(&l, 0, at);
        let about = packet(&l, l.at, at);
        let to = l.at.ip();
        // Another client's, another port's, of another protocol, told to another than its sender, too short.
        let other = packet(&l, l.at, client(&l, 2));
        let mut port = l.at;
        port.set_port(9);
        let mut protocol = about.clone();
        protocol[if l.at.is_ipv4() { 9 } else { 6 }] = 132;
        let cut = told(&l).min(if l.at.is_ipv4() { 27 } else { 47 });
        for frame in [
            error(kind(&l), router(&l), to, &other, 1000),
            error(kind(&l), router(&l), to, &packet(&l, port, at), 1000),
            error(kind(&l), router(&l), to, &protocol, 1000),
            error(kind(&l), router(&l), router(&l), &about, 1000),
            error(kind(&l), router(&l), to, &about, cut),
            // Echo, and a redirect.
            error((8, 0), router(&l), to, &about, 1000),
            error((5, 0), router(&l), to, &about, 1000),
        ] {
            untouched(&world, &frame.bytes(), WAN, Reason::NotOurs);
        }
    }
}

#[test]
fn a_flood_of_errors_is_limited_by_its_source() {
    let world = world(&WG, 0, client(&WG, 1));
    world.tables.settings.budget_cost.set(1_000_000);
    world.tables.settings.budget_burst.set(1_000_000);
    let about = packet(&WG, WG.at, client(&WG, 1));
    let frame = error(kind(&WG), router(&WG), WG.at.ip(), &about, 1000).bytes();
    for _ in 0..50 {
        world.receive(&frame, WAN);
    }
    let sent = world.count(Reason::IcmpError);
    assert!((1..5).contains(&sent), "{sent}");
    assert_eq!(world.count(Reason::SourceBudget), 50 - sent);
}

#[test]
fn an_error_without_a_resolved_next_hop_is_left_to_the_stack_translated() {
    let at = SocketAddr::new([198, 18, 8, 1].into(), 40_000);
    let world = world(&UDP, 0, at);
    let about = packet(&UDP, at, UDP.backend(0));
    let frame = error(kind(&UDP), [10, 99, 0, 1].into(), at.ip(), &about, 1000);
    let outcome = world.receive(&frame.bytes(), LAN);
    assert_eq!(outcome.reason(), Reason::StackIcmp);
    let (from, _, _) = parts(&outcome.frame);
    assert_eq!(from, UDP.at.ip());
}
