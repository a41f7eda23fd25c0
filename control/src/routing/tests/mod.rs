//! From the kernel's messages to a view: pure.

mod keep;
mod messages;
mod state;
mod view;

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{State, ViewSpec};
use crate::model::{HopKey, NextHop, Prefix, RouteView};

const WAN: u32 = 2;
const LAN: u32 = 3;
const VLAN: u32 = 4;

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn prefix(text: &str) -> Prefix {
    let (address, length) = text.split_once('/').expect("a prefix");
    Prefix { address: ip(address), length: length.parse().expect("a length") }
}

fn key(interface: u32, neighbour: &str) -> HopKey {
    HopKey { interface, neighbour: ip(neighbour) }
}

fn spec() -> ViewSpec {
    ViewSpec {
        interfaces: BTreeSet::from([WAN, LAN]),
        backends: ["10.20.0.11", "10.20.0.12", "10.99.0.1"].map(ip).into(),
    }
}

/// A default route to 192.0.2.1 on the WAN, backends in 10.20.0.0/24 on the LAN.
fn state() -> State {
    let mut state = State::default();
    for message in [
        messages::link(WAN, "wan0", 1),
        messages::link(LAN, "lan0", 2),
        messages::address(WAN, "192.0.2.2"),
        messages::route("0.0.0.0/0", WAN, Some("192.0.2.1")),
        messages::route("192.0.2.0/24", WAN, None),
        messages::route("10.20.0.0/24", LAN, None),
        messages::neighbour(WAN, "192.0.2.1", 1),
        messages::neighbour(LAN, "10.20.0.11", 11),
    ] {
        state.apply(0, &message);
    }
    state
}

/// The state's view with some more messages.
fn view_with(more: &[netlink_packet_route::RouteNetlinkMessage]) -> RouteView {
    let mut state = state();
    for message in more {
        state.apply(0, message);
    }
    state.view(&spec())
}

/// The next hop that a route's packets take, if XDP sends them.
fn way(view: &RouteView, to: &str) -> Option<NextHop> {
    view.hops.get(view.routes.get(&prefix(to))?).copied().filter(|hop| hop.resolved)
}
