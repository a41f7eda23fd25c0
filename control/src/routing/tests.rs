//! From what the kernel told to a view: pure.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::*;
use crate::model::{HopKey, Prefix, Vlan};

const WAN: u32 = 2;
const LAN: u32 = 3;
const VLAN: u32 = 4;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn prefix(text: &str) -> Prefix {
    let (address, length) = text.split_once('/').unwrap();
    Prefix { address: ip(address), length: length.parse().unwrap() }
}

fn link(name: &str, mac: u8) -> Link {
    let mac = Some([2, 0, 0, 0, 0, mac]);
    Link { name: name.to_owned(), mac, mtu: 1500, up: true, vlan: None }
}

fn neighbour(mac: u8) -> Neighbour {
    Neighbour { mac: Some([6, 0, 0, 0, 0, mac]), valid: true, managed: false, fixed: false }
}

fn via(link: u32, gateway: Option<&str>) -> Route {
    Route { metric: 0, hop: Some(Hop { link, gateway: gateway.map(ip), mtu: None }) }
}

/// A default route to 192.0.2.1 on the WAN, backends in 10.20.0.0/24 on the LAN.
fn state() -> State {
    let mut state = State::default();
    state.links.insert(WAN, link("wan0", 1));
    state.links.insert(LAN, link("lan0", 2));
    state.routes.add(prefix("0.0.0.0/0"), via(WAN, Some("192.0.2.1")));
    state.routes.add(prefix("192.0.2.0/24"), via(WAN, None));
    state.routes.add(prefix("10.20.0.0/24"), via(LAN, None));
    state.neighbours.insert((WAN, ip("192.0.2.1")), neighbour(1));
    state.neighbours.insert((LAN, ip("10.20.0.11")), neighbour(11));
    state
}

fn spec() -> ViewSpec {
    ViewSpec {
        interfaces: BTreeSet::from([WAN, LAN]),
        backends: BTreeSet::from([ip("10.20.0.11"), ip("10.20.0.12"), ip("10.99.0.1")]),
    }
}

fn key(interface: u32, neighbour: &str) -> HopKey {
    HopKey { interface, neighbour: ip(neighbour) }
}

#[test]
fn gateways_and_backends_become_next_hops() {
    let view = state().view(&spec());
    assert_eq!(view.devices, BTreeSet::from([WAN, LAN]));
    assert_eq!(view.routes[&prefix("0.0.0.0/0")], key(WAN, "192.0.2.1"));
    let hop = view.hops[&key(WAN, "192.0.2.1")];
    assert!(hop.resolved);
    assert_eq!((hop.ifindex, hop.dst_mac[5], hop.src_mac[5], hop.mtu), (WAN, 1, 1, 1500));
    assert_eq!(view.backends[&ip("10.20.0.11")], key(LAN, "10.20.0.11"));
    assert!(view.hops[&key(LAN, "10.20.0.11")].resolved);
    assert!(!view.hops[&key(LAN, "10.20.0.12")].resolved, "nobody has heard of it yet");
    assert_eq!(view.backends[&ip("10.99.0.1")], key(WAN, "192.0.2.1"));
}

#[test]
fn a_connected_network_is_the_stacks_but_for_known_neighbours() {
    let mut state = state();
    let view = state.view(&spec());
    let connected = view.routes[&prefix("192.0.2.0/24")];
    assert!(!view.hops.contains_key(&connected));
    state.neighbours.insert((WAN, ip("192.0.2.77")), neighbour(77));
    state.neighbours.insert((WAN, ip("192.0.2.78")), Neighbour::default());
    // Known on another link than the route's.
    state.neighbours.insert((LAN, ip("192.0.2.79")), neighbour(79));
    let view = state.view(&spec());
    assert_eq!(view.routes[&prefix("192.0.2.77/32")], key(WAN, "192.0.2.77"));
    assert!(!view.routes.contains_key(&prefix("192.0.2.78/32")));
    assert!(!view.routes.contains_key(&prefix("192.0.2.79/32")));
}

#[test]
fn what_is_down_is_not_resolved() {
    for down in [WAN, LAN] {
        let mut state = state();
        state.links.get_mut(&down).unwrap().up = false;
        let view = state.view(&spec());
        assert!(!view.devices.contains(&down));
        assert_eq!(view.hops[&key(WAN, "192.0.2.1")].resolved, down != WAN);
        assert_eq!(view.hops[&key(LAN, "10.20.0.11")].resolved, down != LAN);
    }
    let mut state = state();
    state.neighbours.get_mut(&(WAN, ip("192.0.2.1"))).unwrap().valid = false;
    assert!(!state.view(&spec()).hops[&key(WAN, "192.0.2.1")].resolved);
}

#[test]
fn a_vlan_is_sent_on_its_lower_device_with_its_tag() {
    let mut state = state();
    let tag = Vlan { protocol: 0x8100, tci: 100 };
    let vlan = Link { mtu: 1400, vlan: Some((WAN, tag)), ..link("wan0.100", 9) };
    state.links.insert(VLAN, vlan);
    state.routes.add(prefix("198.51.100.0/24"), via(VLAN, Some("192.0.2.9")));
    state.neighbours.insert((VLAN, ip("192.0.2.9")), neighbour(9));
    let hop = state.view(&spec()).hops[&key(VLAN, "192.0.2.9")];
    assert_eq!((hop.ifindex, hop.vlan, hop.mtu, hop.src_mac[5]), (WAN, Some(tag), 1400, 9));
    assert!(hop.resolved);
    // A tag within a tag.
    state.links.get_mut(&WAN).unwrap().vlan = Some((LAN, tag));
    assert!(!state.view(&spec()).hops[&key(VLAN, "192.0.2.9")].resolved);
}

#[test]
fn the_lowest_metric_the_lowest_mtu_and_refusals_count() {
    let mut state = state();
    let backup = Route { metric: 100, ..via(LAN, Some("10.20.0.1")) };
    state.routes.add(prefix("0.0.0.0/0"), backup);
    assert_eq!(state.view(&spec()).routes[&prefix("0.0.0.0/0")], key(WAN, "192.0.2.1"));

    let hop = Hop { link: WAN, gateway: Some(ip("192.0.2.1")), mtu: Some(1280) };
    state.routes.add(prefix("198.51.100.0/24"), Route { metric: 0, hop: Some(hop) });
    assert_eq!(state.view(&spec()).hops[&key(WAN, "192.0.2.1")].mtu, 1280);

    state.routes.add(prefix("203.0.113.0/24"), Route { metric: 0, hop: None });
    let view = state.view(&spec());
    assert!(!view.hops.contains_key(&view.routes[&prefix("203.0.113.0/24")]));
}

#[test]
fn the_longest_prefix_wins() {
    let mut routes = state().routes;
    routes.add(prefix("10.20.0.128/25"), via(WAN, Some("192.0.2.1")));
    routes.add(prefix("2001:db8::/32"), via(LAN, Some("fe80::1")));
    routes.add(prefix("::/0"), via(WAN, Some("fe80::2")));
    let length = |to: &str| routes.lookup(ip(to)).map(|(prefix, _)| prefix.length);
    assert_eq!(length("10.20.0.130"), Some(25));
    assert_eq!(length("10.20.0.1"), Some(24));
    assert_eq!(length("8.8.8.8"), Some(0));
    assert_eq!(length("2001:db8::9"), Some(32));
    assert_eq!(length("2001:db9::9"), Some(0));
}

#[test]
fn gateways_and_backends_are_kept_resolved_and_nobody_else() {
    let wanted = state().wanted_neighbours(&spec());
    let expected = [(WAN, ip("192.0.2.1")), (LAN, ip("10.20.0.11")), (LAN, ip("10.20.0.12"))];
    assert_eq!(wanted, BTreeSet::from(expected));
}
