//! Messages as the kernel sends them.

use std::net::IpAddr;

use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVlan, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage,
    VlanProtocol, VlanQosMapping,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteMetric, RouteNextHop,
    RouteNextHopFlags, RouteProtocol, RouteType, RouteVia,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{ip, prefix};
use crate::routing::OUR_PROTOCOL;

/// An Ethernet interface that is up.
pub(super) fn link(index: u32, name: &str, mac: u8) -> RouteNetlinkMessage {
    RouteNetlinkMessage::NewLink(link_message(index, name, mac))
}

pub(super) fn link_message(index: u32, name: &str, mac: u8) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.link_layer_type = LinkLayerType::Ether;
    message.header.flags = LinkFlags::Up | LinkFlags::LowerUp | LinkFlags::Running;
    message.attributes = vec![
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::Mtu(1500),
        LinkAttribute::Address(vec![2, 0, 0, 0, 0, mac]),
    ];
    message
}

/// An interface with other flags.
pub(super) fn link_with(index: u32, name: &str, mac: u8, flags: LinkFlags) -> RouteNetlinkMessage {
    let mut message = link_message(index, name, mac);
    message.header.flags = flags;
    RouteNetlinkMessage::NewLink(message)
}

/// VLAN 100 (802.1ad) with an MTU of 1400; its frames have priority 3.
pub(super) fn vlan(index: u32, lower: u32, mac: u8) -> LinkMessage {
    let mut message = link_message(index, "wan0.100", mac);
    message.attributes.push(LinkAttribute::Link(lower));
    message.attributes.push(LinkAttribute::Mtu(1400));
    message.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Vlan),
        LinkInfo::Data(InfoData::Vlan(vec![
            InfoVlan::Protocol(VlanProtocol::Ieee8021Ad),
            InfoVlan::Id(100),
            InfoVlan::EgressQos(vec![VlanQosMapping::Mapping(6, 6), VlanQosMapping::Mapping(0, 3)]),
        ])),
    ]));
    message
}

pub(super) fn address(interface: u32, address: &str) -> RouteNetlinkMessage {
    let mut message = AddressMessage::default();
    message.header.index = interface;
    message.attributes =
        vec![AddressAttribute::Local(ip(address)), AddressAttribute::Address(ip(address))];
    RouteNetlinkMessage::NewAddress(message)
}

/// A reachable neighbour with the MAC 06:00:00:00:00:xx.
pub(super) fn neighbour(interface: u32, address: &str, mac: u8) -> RouteNetlinkMessage {
    RouteNetlinkMessage::NewNeighbour(neighbour_message(
        interface,
        address,
        mac,
        NeighbourState::Reachable,
    ))
}

pub(super) fn neighbour_message(
    interface: u32,
    address: &str,
    mac: u8,
    state: NeighbourState,
) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(ip(address));
    message.header.ifindex = interface;
    message.header.state = state;
    message.attributes = vec![
        NeighbourAttribute::Destination(NeighbourAddress::from(ip(address))),
        NeighbourAttribute::LinkLayerAddress(vec![6, 0, 0, 0, 0, mac]),
    ];
    message
}

/// One that the kernel keeps because the gateway asked.
pub(super) fn kept(interface: u32, address: &str, state: NeighbourState) -> RouteNetlinkMessage {
    let mut message = neighbour_message(interface, address, 1, state);
    message.attributes.push(NeighbourAttribute::ExtFlags(NeighbourExtFlags::Managed));
    message.attributes.push(NeighbourAttribute::Protocol(RouteProtocol::Other(OUR_PROTOCOL)));
    RouteNetlinkMessage::NewNeighbour(message)
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

pub(super) fn route(to: &str, interface: u32, via: Option<&str>) -> RouteNetlinkMessage {
    RouteNetlinkMessage::NewRoute(route_message(to, interface, via))
}

pub(super) fn route_message(to: &str, interface: u32, via: Option<&str>) -> RouteMessage {
    let mut message = bare_route(to);
    message.attributes.push(RouteAttribute::Oif(interface));
    message.attributes.extend(via.map(|via| gateway(to, via)));
    message
}

/// A unicast route of the main table that leads nowhere yet.
pub(super) fn bare_route(to: &str) -> RouteMessage {
    let to = prefix(to);
    let mut message = RouteMessage::default();
    message.header.address_family = family(to.address);
    message.header.destination_prefix_length = to.length;
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.kind = RouteType::Unicast;
    message.attributes = vec![RouteAttribute::Table(RouteHeader::RT_TABLE_MAIN.into())];
    if to.length > 0 {
        message.attributes.push(RouteAttribute::Destination(RouteAddress::from(to.address)));
    }
    message
}

/// `RTA_GATEWAY`, or `RTA_VIA` where the families differ.
fn gateway(to: &str, via: &str) -> RouteAttribute {
    if prefix(to).address.is_ipv4() == ip(via).is_ipv4() {
        RouteAttribute::Gateway(RouteAddress::from(ip(via)))
    } else {
        RouteAttribute::Via(RouteVia::from(ip(via)))
    }
}

pub(super) fn metric(mut message: RouteMessage, metric: u32) -> RouteMessage {
    message.attributes.push(RouteAttribute::Priority(metric));
    message
}

pub(super) fn mtu(mut message: RouteMessage, mtu: u32) -> RouteMessage {
    message.attributes.push(RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu)]));
    message
}

/// A route over several routers, some of which may be dead.
pub(super) fn multipath(to: &str, paths: &[(u32, &str, bool)]) -> RouteMessage {
    let mut message = bare_route(to);
    let hops = paths.iter().map(|&(interface, via, dead)| {
        let mut hop = RouteNextHop::default();
        hop.interface_index = interface;
        hop.attributes = vec![gateway(to, via)];
        if dead {
            hop.flags = RouteNextHopFlags::Dead | RouteNextHopFlags::Linkdown;
        }
        hop
    });
    message.attributes.push(RouteAttribute::MultiPath(hops.collect()));
    message
}
