//! The way out of the gateway: next hops, tags, MTU, what is left to the stack.

use crate::{beginning, client, forwarded, refused};
use dataplane::abi::NEXTHOP_RESOLVED;
use dataplane::fixture::message::{data, data_of, initiation};
use dataplane::fixture::site::{self, BACKENDS, LAN, LISTENERS, Listener, UDP, WAN, WG};
use dataplane::fixture::{Frame, Outcome, World};
use dataplane::pipeline::Action;
use dataplane::reason::Reason;
use dataplane::table::host::HostTables;
use std::net::SocketAddr;

/// The frame went out as its next hop wants it.
#[track_caller]
fn went_by(outcome: &Outcome, hop: u32, ingress: u32) {
    let interface = site::interface(hop);
    let action = if interface == ingress { Action::Transmit } else { Action::Redirect(interface) };
    assert_eq!(outcome.verdict.action, action);
    let seen = outcome.seen();
    assert_eq!(seen.to_mac, site::mac(hop));
    assert_eq!(seen.from_mac, site::own_mac(interface));
    assert_eq!(seen.tags, Vec::from_iter(site::tag(hop)));
}

/// The frame was translated and left to the stack: its TTL and link layer are as they were.
#[track_caller]
fn left_to_the_stack(outcome: &Outcome, frame: &Frame, reason: Reason) {
    assert_eq!((outcome.reason(), outcome.verdict.action), (reason, Action::Pass));
    let (seen, bytes) = (outcome.seen(), frame.bytes());
    let before = dataplane::fixture::read::read(&bytes).expect("a UDP frame");
    assert_eq!((seen.ttl, &seen.tags), (before.ttl, &before.tags));
    assert_eq!((seen.to_mac, seen.from_mac), (before.to_mac, before.from_mac));
    assert!((seen.source, seen.destination) != (before.source, before.destination));
    assert!(seen.ip_sum_right && seen.udp_sum_right);
}

fn v4(c: u8) -> SocketAddr {
    SocketAddr::from(([198, 18, c, 1], 40_000))
}

#[test]
fn inbound_packets_go_by_the_next_hop_of_their_backend() {
    for l in LISTENERS {
        for ordinal in 0..BACKENDS {
            let mut world = World::new();
            world.place(&l, |_| ordinal);
            for tags in [vec![], vec![(0x8100, 7)], vec![(0x88a8, 7), (0x8100, 9)]] {
                for ingress in [WAN, LAN] {
                    let mut frame = Frame::new(client(&l, 1), l.at, beginning(&l));
                    frame.tags = tags.clone();
                    let outcome = world.receive(&frame.bytes(), ingress);
                    forwarded(&outcome, Reason::InUnestablished);
                    went_by(&outcome, l.hop(ordinal), ingress);
                }
            }
        }
    }
}

#[test]
fn answers_go_by_the_longest_route_to_the_client() {
    let world = World::new();
    for (l, at, hop) in [
        (WG, v4(1), site::CLIENTS),
        (WG, v4(7), site::CLIENTS_TAGGED),
        (WG, v4(9), site::CLIENTS_NARROW),
        (site::WG6, client(&site::WG6, 3), site::CLIENTS6),
    ] {
        for ordinal in 0..BACKENDS {
            let outcome = world.answer(&l, ordinal, at, data(100 + ordinal, 1));
            assert!(outcome.is_forwarded(), "{outcome:?}");
            went_by(&outcome, hop, Listener::arm(ordinal));
        }
    }
}

#[test]
fn stateless_answers_have_a_route_too() {
    let world = World::new();
    let outcome = world.answer(&WG, 0, v4(7), dataplane::fixture::message::cookie(5));
    forwarded(&outcome, Reason::OutStateless);
    went_by(&outcome, site::CLIENTS_TAGGED, LAN);
}

#[test]
fn an_answer_without_a_route_is_refused_by_name() {
    let world = World::new();
    let nowhere = SocketAddr::from(([192, 0, 2, 1], 40_000));
    refused(&world.answer(&WG, 0, nowhere, data(5, 1)), Reason::NoRoute);
    refused(&world.answer(&WG, 0, nowhere, data(5, 2)), Reason::NoRoute);
    refused(&world.answer(&UDP, 0, nowhere, vec![1]), Reason::NoRoute);
}

#[test]
fn unresolved_next_hops_leave_the_translated_packet_to_the_stack() {
    let world = World::new();
    let answer = Frame::new(WG.backend(0), v4(8), data(5, 1));
    let outcome = world.receive(&answer.bytes(), LAN);
    left_to_the_stack(&outcome, &answer, Reason::StackOutbound);
    assert_eq!(outcome.seen().source, WG.at);
    for ordinal in 0..BACKENDS {
        world.tables.nexthops[WG.hop(ordinal) as usize].flags.set(0);
    }
    let mut frame = Frame::new(v4(1), WG.at, initiation(5));
    frame.tags = vec![(0x8100, 5)];
    let outcome = world.receive(&frame.bytes(), WAN);
    left_to_the_stack(&outcome, &frame, Reason::StackInbound);
}

#[test]
fn a_backend_without_a_next_hop_is_left_to_the_stack() {
    let mut world = World::new();
    for ordinal in 0..BACKENDS {
        world.tables.endpoints[WG.endpoint(ordinal) as usize].nexthop = dataplane::abi::NO_NEXTHOP;
    }
    let frame = Frame::new(v4(1), WG.at, initiation(5));
    let outcome = world.receive(&frame.bytes(), WAN);
    left_to_the_stack(&outcome, &frame, Reason::StackInbound);
}

#[test]
fn the_mtu_counts_to_the_byte() {
    let world = World::new();
    let narrow = usize::from(site::NARROW);
    for (len, fits) in [(narrow - 1, true), (narrow, true), (narrow + 1, false)] {
        let mut answer = Frame::new(WG.backend(0), v4(9), data_of(5, 1, len - 28));
        answer.fragmentable = true;
        let outcome = world.receive(&answer.bytes(), LAN);
        if fits {
            forwarded(&outcome, Reason::OutEstablished);
        } else {
            left_to_the_stack(&outcome, &answer, Reason::StackTooBig);
        }
    }
    for hop in &world.tables.nexthops {
        hop.mtu.set(200);
    }
    let mut frame = Frame::new(v4(1), WG.at, data_of(5, 1, 173));
    frame.fragmentable = true;
    left_to_the_stack(&world.receive(&frame.bytes(), WAN), &frame, Reason::StackTooBig);
}

#[test]
fn every_change_of_routes_is_seen_by_the_next_answer() {
    let mut world = World::new();
    let at = v4(1);
    world.answer(&WG, 0, at, data(5, 1));
    let generation = |world: &World| world.tables.settings.route_generation.get();
    let key = *world.tables.routes.iter().find(|(_, hop)| **hop == site::CLIENTS).unwrap().0;
    let mut hops = [site::CLIENTS, site::CLIENTS_TAGGED].into_iter().cycle();
    // Across 16 bits, of which a slot remembers the generation.
    for start in [1, 0xffe8, 0x1_ffe0, 0x7fff_ffe0] {
        world.tables.settings.route_generation.set(start);
        for _ in 0..50 {
            let hop = hops.next().unwrap();
            world.tables.routes.insert(key, hop);
            let next = generation(&world).wrapping_add(1);
            world.tables.settings.route_generation.set(next);
            went_by(&world.answer(&WG, 0, at, data(5, 1)), hop, LAN);
        }
    }
}

#[test]
fn a_next_hop_found_while_routes_change_is_looked_up_again() {
    let mut world = World::new();
    let at = v4(1);
    world.answer(&WG, 0, at, data(5, 1));
    let raise = |tables: &HostTables| {
        let generation = &tables.settings.route_generation;
        generation.set(generation.get() + 1);
    };
    raise(&world.tables);
    world.tables.amid_route = Some(raise);
    went_by(&world.answer(&WG, 0, at, data(5, 1)), site::CLIENTS, LAN);
    world.tables.amid_route = None;
    let key = *world.tables.routes.iter().find(|(_, hop)| **hop == site::CLIENTS).unwrap().0;
    world.tables.routes.insert(key, site::CLIENTS_TAGGED);
    went_by(&world.answer(&WG, 0, at, data(5, 1)), site::CLIENTS_TAGGED, LAN);
}

#[test]
fn a_resolved_next_hop_is_used_at_once_and_a_lost_one_not_any_more() {
    let world = World::new();
    let hop = &world.tables.nexthops[site::CLIENTS as usize];
    for _ in 0..3 {
        forwarded(&world.answer(&WG, 0, v4(1), data(5, 1)), Reason::OutEstablished);
        hop.flags.set(0);
        assert_eq!(world.answer(&WG, 0, v4(1), data(5, 1)).reason(), Reason::StackOutbound);
        hop.flags.set(NEXTHOP_RESOLVED);
    }
}

#[test]
fn a_known_route_is_not_looked_up_again() {
    let world = World::new();
    for n in 0..20 {
        world.answer(&WG, 0, v4(1), data(5, n));
    }
    assert_eq!(world.count(Reason::RouteLookup), 1);
}
