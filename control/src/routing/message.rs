//! Netlink messages into the state. Pure.

use std::net::IpAddr;

use netlink_packet_route::AddressFamily;
use netlink_packet_route::link::{
    InfoData, InfoVlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteMetric, RouteNextHopFlags,
    RouteType, RouteVia,
};

use super::state::{Hop, Link, Neighbour, Route, State};
use crate::model::{Prefix, Vlan};

/// 802.1Q (linux/if_ether.h); a VLAN link that does not say otherwise has it.
const ETH_P_8021Q: u16 = 0x8100;

impl State {
    /// Takes a link in.
    pub(super) fn add_link(&mut self, message: &LinkMessage) {
        let mut link = Link {
            // A veth or a VLAN whose other end is down is up without being able to send.
            up: message.header.flags.contains(LinkFlags::Up | LinkFlags::LowerUp),
            ..Link::default()
        };
        let (mut lower, mut id, mut protocol) = (None, None, ETH_P_8021Q);
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::Address(bytes) => link.mac = mac(bytes),
                LinkAttribute::Link(index) => lower = Some(*index),
                LinkAttribute::LinkInfo(infos) => {
                    for info in infos {
                        let LinkInfo::Data(InfoData::Vlan(vlan)) = info else { continue };
                        for info in vlan {
                            match info {
                                InfoVlan::Id(tag) => id = Some(*tag),
                                InfoVlan::Protocol(p) => protocol = u16::from(*p),
                                _ => {}
                            }
                        }
                    }
                }
                _ => {}
            }
        }
        link.vlan = lower.zip(id).map(|(lower, tci)| (lower, Vlan { protocol, tci }));
        self.links.insert(message.header.index, link);
    }

    /// Takes a route in, if it is one that decides about forwarding.
    pub(super) fn add_route(&mut self, message: &RouteMessage) {
        let header = &message.header;
        let any: IpAddr = match header.address_family {
            AddressFamily::Inet => std::net::Ipv4Addr::UNSPECIFIED.into(),
            AddressFamily::Inet6 => std::net::Ipv6Addr::UNSPECIFIED.into(),
            _ => return,
        };
        let mut table = u32::from(header.table);
        let mut prefix = Prefix { address: any, length: header.destination_prefix_length };
        let mut metric = 0;
        let mut plain = header.kind == RouteType::Unicast && header.tos == 0;
        for attribute in &message.attributes {
            match attribute {
                RouteAttribute::Table(number) => table = *number,
                RouteAttribute::Destination(to) => match address(to) {
                    Some(to) => prefix.address = to,
                    None => return,
                },
                RouteAttribute::Priority(number) => metric = *number,
                // A tunnel.
                RouteAttribute::EncapType(_) | RouteAttribute::Encap(_) => plain = false,
                _ => {}
            }
        }
        let cloned = header.flags.contains(netlink_packet_route::route::RouteFlags::Cloned);
        let kind = matches!(
            header.kind,
            RouteType::Unicast
                | RouteType::BlackHole
                | RouteType::Unreachable
                | RouteType::Prohibit
                | RouteType::Throw
        );
        if table != u32::from(RouteHeader::RT_TABLE_MAIN) || cloned || !kind {
            return;
        }
        let multicast = match prefix.address {
            IpAddr::V4(v4) => v4.is_multicast(),
            IpAddr::V6(v6) => v6.is_multicast(),
        };
        if !multicast {
            let hop = if plain { hop(&message.attributes) } else { None };
            self.routes.add(prefix, Route { metric, hop });
        }
    }

    /// Takes a neighbour in.
    pub(super) fn add_neighbour(&mut self, message: &NeighbourMessage) {
        use NeighbourState as S;
        let state = message.header.state;
        let mut neighbour = Neighbour {
            valid: matches!(
                state,
                S::Reachable | S::Stale | S::Delay | S::Probe | S::Permanent | S::Noarp
            ),
            fixed: matches!(state, S::Permanent | S::Noarp),
            ..Neighbour::default()
        };
        let mut to = None;
        for attribute in &message.attributes {
            match attribute {
                NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => {
                    to = Some(IpAddr::V4(*v4));
                }
                NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => {
                    to = Some(IpAddr::V6(*v6));
                }
                NeighbourAttribute::LinkLayerAddress(bytes) => neighbour.mac = mac(bytes),
                NeighbourAttribute::ExtFlags(flags) => {
                    neighbour.managed = flags.contains(NeighbourExtFlags::Managed);
                }
                _ => {}
            }
        }
        if let Some(to) = to.filter(|to| !to.is_multicast()) {
            self.neighbours.insert((message.header.ifindex, to), neighbour);
        }
    }
}

fn mac(bytes: &[u8]) -> Option<[u8; 6]> {
    <[u8; 6]>::try_from(bytes).ok().filter(|mac| *mac != [0; 6])
}

fn address(from: &RouteAddress) -> Option<IpAddr> {
    match from {
        RouteAddress::Inet(v4) => Some((*v4).into()),
        RouteAddress::Inet6(v6) => Some((*v6).into()),
        _ => None,
    }
}

/// The next hop of a route, or of its first usable one. Of equal paths always the same is
/// taken: packets of one session stay in order.
fn hop(attributes: &[RouteAttribute]) -> Option<Hop> {
    let (mut link, mut gateway, mut mtu, mut paths) = (None, None, None, None);
    for attribute in attributes {
        match attribute {
            RouteAttribute::Oif(index) => link = Some(*index),
            RouteAttribute::Gateway(to) => gateway = Some(address(to)?),
            RouteAttribute::Via(RouteVia::Inet(v4)) => gateway = Some((*v4).into()),
            RouteAttribute::Via(RouteVia::Inet6(v6)) => gateway = Some((*v6).into()),
            RouteAttribute::Via(_) => return None,
            RouteAttribute::Metrics(metrics) => {
                mtu = metrics.iter().find_map(|metric| match metric {
                    RouteMetric::Mtu(mtu) => Some(*mtu),
                    _ => None,
                });
            }
            RouteAttribute::MultiPath(all) => paths = Some(all),
            _ => {}
        }
    }
    if let Some(link) = link {
        return Some(Hop { link, gateway, mtu });
    }
    let unusable = RouteNextHopFlags::Dead | RouteNextHopFlags::Linkdown;
    paths?.iter().filter(|path| !path.flags.intersects(unusable)).find_map(|path| {
        let mut attributes = path.attributes.clone();
        attributes.push(RouteAttribute::Oif(path.interface_index));
        hop(&attributes).map(|hop| Hop { mtu, ..hop })
    })
}
