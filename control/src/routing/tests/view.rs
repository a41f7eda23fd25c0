//! What the view says.

use std::collections::BTreeSet;

use netlink_packet_route::RouteNetlinkMessage as M;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkLayerType};
use netlink_packet_route::neighbour::NeighbourState;
use netlink_packet_route::route::{RouteAttribute, RouteLwEnCapType, RouteType};

use super::messages::*;
use super::*;
use crate::model::Vlan;
use crate::routing::STACK;

#[test]
fn gateways_and_backends_become_next_hops() {
    let view = state().view(&spec());
    assert_eq!(view.devices, BTreeSet::from([WAN, LAN]));
    assert_eq!(view.routes[&prefix("0.0.0.0/0")], key(WAN, "192.0.2.1"));
    let hop = view.hops[&key(WAN, "192.0.2.1")];
    let expected = NextHop {
        ifindex: WAN,
        mtu: 1500,
        dst_mac: [6, 0, 0, 0, 0, 1],
        src_mac: [2, 0, 0, 0, 0, 1],
        vlan: None,
        resolved: true,
    };
    assert_eq!(hop, expected);
    assert_eq!(view.backends[&ip("10.20.0.11")], key(LAN, "10.20.0.11"));
    assert!(view.hops[&key(LAN, "10.20.0.11")].resolved);
    assert!(!view.hops[&key(LAN, "10.20.0.12")].resolved, "nobody has heard of it yet");
    assert_eq!(view.backends[&ip("10.99.0.1")], key(WAN, "192.0.2.1"));
}

#[test]
fn a_connected_network_is_the_stacks_but_for_known_neighbours() {
    let view = view_with(&[
        neighbour(WAN, "192.0.2.77", 77),
        M::NewNeighbour(neighbour_message(WAN, "192.0.2.78", 78, NeighbourState::Failed)),
        // Known on another interface than the route's.
        neighbour(LAN, "192.0.2.79", 79),
        // On a link, but routed elsewhere.
        neighbour(WAN, "10.20.0.80", 80),
    ]);
    let connected = view.routes[&prefix("192.0.2.0/24")];
    assert_eq!(connected, key(WAN, "0.0.0.0"));
    assert!(!view.hops.contains_key(&connected));
    assert_eq!(way(&view, "192.0.2.77/32").map(|hop| hop.dst_mac[5]), Some(77));
    for unknown in ["192.0.2.78/32", "192.0.2.79/32", "10.20.0.80/32"] {
        assert!(!view.routes.contains_key(&prefix(unknown)), "{unknown}");
    }
}

#[test]
fn a_route_to_one_neighbour_leads_to_it() {
    let to = "203.0.113.5/32";
    let view = view_with(&[route(to, WAN, None)]);
    assert_eq!(view.routes[&prefix(to)], key(WAN, "203.0.113.5"));
    assert_eq!(way(&view, to), None);
    let view = view_with(&[route(to, WAN, None), neighbour(WAN, "203.0.113.5", 5)]);
    assert!(way(&view, to).is_some());
}

#[test]
fn what_is_down_or_not_ours_or_not_ethernet_is_not_resolved() {
    let up = LinkFlags::Up | LinkFlags::LowerUp;
    for (flags, resolved) in [
        (up, true),
        (LinkFlags::Up, false),
        (LinkFlags::empty(), false),
        (up | LinkFlags::Noarp, false),
    ] {
        let view = view_with(&[link_with(WAN, "wan0", 1, flags)]);
        assert_eq!(view.hops[&key(WAN, "192.0.2.1")].resolved, resolved, "{flags:?}");
        assert_eq!(view.devices.contains(&WAN), flags.contains(up), "{flags:?}");
        assert!(view.hops[&key(LAN, "10.20.0.11")].resolved);
    }
    let mut tunnel = link_message(WAN, "wan0", 1);
    tunnel.header.link_layer_type = LinkLayerType::None;
    assert_eq!(way(&view_with(&[M::NewLink(tunnel)]), "0.0.0.0/0"), None);

    let elsewhere = ViewSpec { interfaces: BTreeSet::from([LAN]), ..spec() };
    let view = state().view(&elsewhere);
    assert!(!view.hops[&key(WAN, "192.0.2.1")].resolved);
    assert!(view.hops[&key(LAN, "10.20.0.11")].resolved);
}

#[test]
fn neighbours_count_as_long_as_the_kernel_would_use_them() {
    use NeighbourState as S;
    for (state, resolved) in [
        (S::Reachable, true),
        (S::Stale, true),
        (S::Delay, true),
        (S::Probe, true),
        (S::Permanent, true),
        (S::Noarp, true),
        (S::Incomplete, false),
        (S::Failed, false),
        (S::None, false),
    ] {
        let entry = M::NewNeighbour(neighbour_message(WAN, "192.0.2.1", 1, state));
        assert_eq!(way(&view_with(&[entry]), "0.0.0.0/0").is_some(), resolved, "{state}");
    }
}

#[test]
fn a_vlan_is_sent_on_its_lower_interface_with_its_tag() {
    let way_out = |vlan| {
        let view = view_with(&[
            M::NewLink(vlan),
            route("198.51.100.0/24", VLAN, Some("192.0.2.9")),
            neighbour(VLAN, "192.0.2.9", 9),
        ]);
        view.hops[&key(VLAN, "192.0.2.9")]
    };
    let hop = way_out(vlan(VLAN, WAN, 7));
    let tag = Vlan { protocol: 0x88a8, tci: 3 << 13 | 100 };
    assert_eq!((hop.ifindex, hop.vlan, hop.mtu), (WAN, Some(tag), 1400));
    assert_eq!((hop.src_mac[5], hop.dst_mac[5], hop.resolved), (7, 9, true));

    let mut foreign = vlan(VLAN, WAN, 7);
    foreign.attributes.push(LinkAttribute::LinkNetNsId(0));
    assert!(!way_out(foreign).resolved, "its lower interface is in another namespace");
    assert!(!way_out(vlan(VLAN, 99, 7)).resolved, "its lower interface is not there");

    let double = view_with(&[
        M::NewLink(vlan(VLAN, WAN, 7)),
        M::NewLink(vlan(5, VLAN, 8)),
        route("198.51.100.0/24", 5, Some("192.0.2.9")),
        neighbour(5, "192.0.2.9", 9),
    ]);
    assert!(!double.hops[&key(5, "192.0.2.9")].resolved, "a tag within a tag");
}

#[test]
fn of_several_routes_the_lowest_metric_counts() {
    let to = "198.51.100.0/24";
    let good = || metric(route_message(to, WAN, Some("192.0.2.1")), 10);
    let worse = metric(route_message(to, LAN, Some("10.20.0.11")), 20);
    let better = metric(route_message(to, LAN, Some("10.20.0.11")), 5);
    let next = |more: &[M]| view_with(more).routes[&prefix(to)];
    assert_eq!(next(&[M::NewRoute(good()), M::NewRoute(worse)]), key(WAN, "192.0.2.1"));
    assert_eq!(next(&[M::NewRoute(good()), M::NewRoute(better)]), key(LAN, "10.20.0.11"));
}

#[test]
fn of_several_paths_the_first_counts_that_works() {
    let to = "198.51.100.0/24";
    let next = |paths: &[(u32, &str, bool)]| {
        view_with(&[M::NewRoute(multipath(to, paths))]).routes[&prefix(to)]
    };
    let (known, other) = ((WAN, "192.0.2.1", false), (LAN, "10.20.0.11", false));
    let (unknown, dead) = ((WAN, "192.0.2.200", false), (WAN, "192.0.2.1", true));
    assert_eq!(next(&[known, other]), key(WAN, "192.0.2.1"));
    assert_eq!(next(&[other, known]), key(LAN, "10.20.0.11"));
    assert_eq!(next(&[unknown, other]), key(LAN, "10.20.0.11"));
    assert_eq!(next(&[dead, other]), key(LAN, "10.20.0.11"));
    assert_eq!(next(&[dead, unknown]), key(WAN, "192.0.2.200"));
}

#[test]
fn the_lowest_mtu_counts() {
    let smaller = mtu(route_message("198.51.100.0/24", WAN, Some("192.0.2.1")), 1280);
    let larger = mtu(route_message("198.51.101.0/24", WAN, Some("192.0.2.1")), 9000);
    let view = view_with(&[M::NewRoute(larger.clone())]);
    assert_eq!(view.hops[&key(WAN, "192.0.2.1")].mtu, 1500);
    let view = view_with(&[M::NewRoute(smaller), M::NewRoute(larger)]);
    assert_eq!(view.hops[&key(WAN, "192.0.2.1")].mtu, 1280);
    // A connected network's MTU is that of its neighbours.
    let connected = M::NewRoute(mtu(route_message("10.30.0.0/24", LAN, None), 1300));
    let view = view_with(&[connected, neighbour(LAN, "10.30.0.9", 9)]);
    assert_eq!(way(&view, "10.30.0.9/32").map(|hop| hop.mtu), Some(1300));
}

#[test]
fn what_xdp_cannot_follow_is_the_stacks() {
    let to = "203.0.113.0/24";
    let of_kind = |kind| {
        let mut message = bare_route(to);
        message.header.kind = kind;
        message
    };
    let plain = || route_message(to, WAN, Some("192.0.2.1"));
    let mut tunnel = plain();
    tunnel.attributes.push(RouteAttribute::EncapType(RouteLwEnCapType::Ip));
    let mut tos = plain();
    tos.header.tos = 0x10;
    for message in [
        of_kind(RouteType::BlackHole),
        of_kind(RouteType::Unreachable),
        of_kind(RouteType::Prohibit),
        of_kind(RouteType::Throw),
        tunnel,
        tos.clone(),
    ] {
        let view = view_with(&[M::NewRoute(message)]);
        assert_eq!(view.routes[&prefix(to)], STACK);
    }
    // A route for one type of service makes the others uncertain, too.
    assert_eq!(view_with(&[M::NewRoute(plain()), M::NewRoute(tos)]).routes[&prefix(to)], STACK);
    assert!(!state().view(&spec()).hops.contains_key(&STACK));
}

#[test]
fn other_tables_and_link_local_routes_do_not_count() {
    let mut local = route_message("203.0.113.0/24", WAN, Some("192.0.2.1"));
    local.header.table = 255;
    local.attributes.retain(|attribute| !matches!(attribute, RouteAttribute::Table(_)));
    let mut wide = route_message("203.0.113.0/24", WAN, Some("192.0.2.1"));
    wide.attributes.push(RouteAttribute::Table(1000));
    let view = view_with(&[
        M::NewRoute(local),
        M::NewRoute(wide),
        route("fe80::/64", WAN, None),
        route("ff00::/8", WAN, None),
    ]);
    assert_eq!(view, state().view(&spec()));
}

#[test]
fn ipv4_over_an_ipv6_router() {
    let to = "203.0.113.0/24";
    let view = view_with(&[route(to, WAN, Some("fe80::1")), neighbour(WAN, "fe80::1", 66)]);
    assert_eq!(view.routes[&prefix(to)], key(WAN, "fe80::1"));
    assert_eq!(way(&view, to).map(|hop| hop.dst_mac[5]), Some(66));
}

#[test]
fn a_backend_on_the_gateway_itself_is_the_stacks() {
    let view = view_with(&[address(LAN, "10.20.0.12")]);
    assert!(!view.backends.contains_key(&ip("10.20.0.12")));
    assert!(view.backends.contains_key(&ip("10.20.0.11")));
}

#[test]
fn broadcast_entries_are_no_neighbours() {
    let mut broadcast = neighbour_message(WAN, "192.0.2.255", 0, NeighbourState::Noarp);
    broadcast.attributes[1] =
        netlink_packet_route::neighbour::NeighbourAttribute::LinkLayerAddress(vec![0xff; 6]);
    let view = view_with(&[M::NewNeighbour(broadcast)]);
    assert!(!view.routes.contains_key(&prefix("192.0.2.255/32")));
}
