//! What the kernel tells of interfaces, addresses, routes and neighbours.

use std::net::IpAddr;

use control::fuzz::hear;
use control::routing::{State, ViewSpec};
use netlink_packet_core::{NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    InfoData, InfoKind, InfoVlan, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage,
    VlanProtocol, VlanQosMapping,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteMetric, RouteNextHop, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::Target;

pub(crate) const TARGET: Target = Target {
    longest: 2048,
    ..Target::new(
        "netlink",
        "what the kernel tells of routes, and the next hops that follow",
        run,
        seeds,
    )
};

const WAN: u32 = 2;
const LAN: u32 = 3;

/// A datagram of messages, to a mirror that knows a few things.
fn run(data: &[u8]) {
    let mut state = State::default();
    for message in known() {
        hear(&mut state, &bytes(message));
    }
    hear(&mut state, data);
    let backends: [IpAddr; 2] = ["10.20.0.11", "fd00:20::11"].map(ip);
    let spec = ViewSpec { interfaces: [WAN, LAN].into(), backends: backends.into() };
    let view = state.view(&spec);
    for (key, hop) in &view.hops {
        assert!(
            !hop.resolved || view.devices.contains(&key.interface),
            "{key:?} by another device"
        );
    }
    assert_eq!(view, state.view(&spec));
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

fn bytes(message: RouteNetlinkMessage) -> Vec<u8> {
    let mut message = NetlinkMessage::new(NetlinkHeader::default(), NetlinkPayload::from(message));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

fn link(index: u32, name: &str) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.link_layer_type = LinkLayerType::Ether;
    message.header.flags = LinkFlags::Up | LinkFlags::LowerUp | LinkFlags::Running;
    message.attributes = vec![
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::Mtu(1500),
        LinkAttribute::Address(vec![2, 0, 0, 0, 0, index as u8]),
    ];
    message
}

fn vlan() -> LinkMessage {
    let mut message = link(4, "wan0.100");
    message.attributes.push(LinkAttribute::Link(WAN));
    message.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Vlan),
        LinkInfo::Data(InfoData::Vlan(vec![
            InfoVlan::Protocol(VlanProtocol::Ieee8021Ad),
            InfoVlan::Id(100),
            InfoVlan::EgressQos(vec![VlanQosMapping::Mapping(0, 3)]),
        ])),
    ]));
    message
}

fn address(index: u32, address: &str) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = index;
    message.attributes =
        vec![AddressAttribute::Local(ip(address)), AddressAttribute::Address(ip(address))];
    message
}

fn neighbour(interface: u32, address: &str) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = family(ip(address));
    message.header.ifindex = interface;
    message.header.state = NeighbourState::Reachable;
    message.attributes = vec![
        NeighbourAttribute::Destination(NeighbourAddress::from(ip(address))),
        NeighbourAttribute::LinkLayerAddress(vec![6, 0, 0, 0, 0, 1]),
    ];
    message
}

fn route(to: &str, length: u8, interface: u32, via: Option<&str>) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(ip(to));
    message.header.destination_prefix_length = length;
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.kind = RouteType::Unicast;
    message.attributes = vec![RouteAttribute::Table(RouteHeader::RT_TABLE_MAIN.into())];
    if length > 0 {
        message.attributes.push(RouteAttribute::Destination(RouteAddress::from(ip(to))));
    }
    if interface > 0 {
        message.attributes.push(RouteAttribute::Oif(interface));
    }
    message.attributes.extend(via.map(|via| RouteAttribute::Gateway(RouteAddress::from(ip(via)))));
    message
}

fn multipath() -> RouteMessage {
    let mut message = route("198.18.0.0", 15, 0, None);
    let hops = ["192.0.2.1", "192.0.2.5"].map(|via| {
        let mut hop = RouteNextHop::default();
        hop.interface_index = WAN;
        hop.attributes = vec![RouteAttribute::Gateway(RouteAddress::from(ip(via)))];
        hop
    });
    message.attributes.push(RouteAttribute::MultiPath(hops.to_vec()));
    message.attributes.push(RouteAttribute::Metrics(vec![RouteMetric::Mtu(1400)]));
    message.attributes.push(RouteAttribute::Priority(100));
    message
}

/// A default route over the WAN, and backends on the LAN.
fn known() -> Vec<RouteNetlinkMessage> {
    vec![
        RouteNetlinkMessage::NewLink(link(WAN, "wan0")),
        RouteNetlinkMessage::NewLink(link(LAN, "lan0")),
        RouteNetlinkMessage::NewAddress(address(WAN, "192.0.2.2")),
        RouteNetlinkMessage::NewRoute(route("0.0.0.0", 0, WAN, Some("192.0.2.1"))),
        RouteNetlinkMessage::NewRoute(route("10.20.0.0", 24, LAN, None)),
        RouteNetlinkMessage::NewNeighbour(neighbour(WAN, "192.0.2.1")),
        RouteNetlinkMessage::NewNeighbour(neighbour(LAN, "10.20.0.11")),
    ]
}

fn seeds() -> Vec<Vec<u8>> {
    let mut messages = known();
    messages.extend([
        RouteNetlinkMessage::NewLink(vlan()),
        RouteNetlinkMessage::NewRoute(multipath()),
        RouteNetlinkMessage::NewRoute(route("2001:db8:c::", 48, WAN, Some("2001:db8:1::1"))),
        RouteNetlinkMessage::NewRoute(route("fd00:20::", 64, LAN, None)),
        RouteNetlinkMessage::NewNeighbour(neighbour(LAN, "fd00:20::11")),
        RouteNetlinkMessage::DelLink(link(WAN, "wan0")),
        RouteNetlinkMessage::DelAddress(address(WAN, "192.0.2.2")),
        RouteNetlinkMessage::DelRoute(route("0.0.0.0", 0, WAN, Some("192.0.2.1"))),
        RouteNetlinkMessage::DelNeighbour(neighbour(LAN, "10.20.0.11")),
    ]);
    let single: Vec<_> = messages.into_iter().map(bytes).collect();
    let pairs = single.windows(2).map(<[_]>::concat).collect::<Vec<_>>();
    single.into_iter().chain(pairs).collect()
}
