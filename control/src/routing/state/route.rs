//! What is known of a route.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric, RouteNextHop,
    RouteNextHopFlags, RouteType, RouteVia,
};

use super::super::prefix;
use crate::model::Prefix;

/// A route of the main table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Its metric: the lowest wins.
    pub metric: u32,
    /// Applies to some packets only (type of service, source prefix).
    pub condition: Option<Condition>,
    /// The ways to go; empty for a route that only the kernel's stack can follow: a
    /// blackhole, a tunnel, and the like.
    pub paths: Vec<Path>,
    /// The MTU it sets, in bytes.
    pub mtu: Option<u32>,
    /// What else tells it from another route: they are added and deleted one by one.
    pub identity: Identity,
}

/// What distinguishes routes that lead to the same next hops.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// `RTN_UNICAST`, `RTN_BLACKHOLE` and so on.
    pub kind: u8,
    /// `RTPROT_STATIC`, `RTPROT_BGP` and so on.
    pub protocol: u8,
    /// The source address of the host's own packets.
    pub source: Option<IpAddr>,
}

/// For which packets a route is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    /// Type of service, or zero.
    pub tos: u8,
    /// Length of the source prefix, or zero.
    pub source: u8,
}

/// One way to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// The interface to leave by.
    pub interface: u32,
    /// The router; `None` if destinations are on the interface's own link.
    pub gateway: Option<IpAddr>,
    /// The kernel does not use it.
    pub dead: bool,
}

impl Path {
    /// The same way, whether it can be gone or not.
    fn is(&self, other: &Self) -> bool {
        (self.interface, self.gateway) == (other.interface, other.gateway)
    }
}

impl Route {
    /// The same place in the table: a route that is replaced is replaced by one that rivals it.
    pub(super) fn rivals(&self, other: &Self) -> bool {
        (self.metric, self.condition) == (other.metric, other.condition)
    }

    /// The same route, but for the state of its paths.
    pub(super) fn same(&self, other: &Self) -> bool {
        self.rivals(other)
            && (self.identity, self.mtu) == (other.identity, other.mtu)
            && self.paths.len() == other.paths.len()
            && self.paths.iter().zip(&other.paths).all(|(a, b)| a.is(b))
    }

    /// All of its paths lead over routers: IPv6 makes one route of those that rival each other.
    pub(super) fn joins(&self) -> bool {
        !self.paths.is_empty() && self.paths.iter().all(|path| path.gateway.is_some())
    }

    /// Takes the paths of another route away; true if there were some.
    pub(super) fn subtract(&mut self, other: &Self) -> bool {
        let before = self.paths.len();
        self.paths.retain(|path| !other.paths.iter().any(|gone| gone.is(path)));
        self.paths.len() < before
    }
}

/// The prefix and the route of a message. `None` if it is not about a route of the main
/// table that packets to clients or backends can take.
pub(super) fn read(message: &RouteMessage) -> Option<(Prefix, Route)> {
    let header = &message.header;
    let any = match header.address_family {
        AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    if header.flags.contains(RouteFlags::Cloned) {
        return None;
    }
    let mut table = u32::from(header.table);
    let mut destination = any;
    let mut metric = 0;
    let mut mtu = None;
    let mut source = None;
    let mut single =
        Path { interface: 0, gateway: None, dead: header.flags.contains(RouteFlags::Dead) };
    let mut several = None;
    let mut encapsulated = false;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(value) => table = *value,
            RouteAttribute::Destination(value) => destination = address(value)?,
            RouteAttribute::Priority(value) => metric = *value,
            RouteAttribute::Oif(value) => single.interface = *value,
            RouteAttribute::Metrics(values) => {
                mtu = values.iter().find_map(|value| match value {
                    RouteMetric::Mtu(mtu) if *mtu > 0 => Some(*mtu),
                    _ => None,
                });
            }
            RouteAttribute::MultiPath(hops) => several = Some(hops),
            RouteAttribute::PrefSource(value) => source = address(value),
            other => {
                single.gateway = gateway(other).or(single.gateway);
                encapsulated |= encapsulates(other);
            }
        }
    }
    let prefix = prefix::around(destination, header.destination_prefix_length);
    if table != u32::from(RouteHeader::RT_TABLE_MAIN) || !prefix::is_forwardable(prefix) {
        return None;
    }
    let paths = if header.kind != RouteType::Unicast || encapsulated {
        Vec::new()
    } else if let Some(hops) = several {
        hops.iter().map(path).collect::<Option<_>>().unwrap_or_default()
    } else {
        vec![single]
    };
    let condition = Condition { tos: header.tos, source: header.source_prefix_length };
    let condition = (condition.tos != 0 || condition.source != 0).then_some(condition);
    let identity = Identity { kind: header.kind.into(), protocol: header.protocol.into(), source };
    Some((prefix, Route { metric, condition, paths, mtu, identity }))
}

/// One of several paths; `None` if only the kernel's stack can go it.
fn path(hop: &RouteNextHop) -> Option<Path> {
    if hop.attributes.iter().any(encapsulates) {
        return None;
    }
    Some(Path {
        interface: hop.interface_index,
        gateway: hop.attributes.iter().find_map(gateway),
        dead: hop.flags.contains(RouteNextHopFlags::Dead),
    })
}

fn gateway(attribute: &RouteAttribute) -> Option<IpAddr> {
    match attribute {
        RouteAttribute::Gateway(value) => address(value),
        RouteAttribute::Via(RouteVia::Inet(v4)) => Some(IpAddr::V4(*v4)),
        RouteAttribute::Via(RouteVia::Inet6(v6)) => Some(IpAddr::V6(*v6)),
        _ => None,
    }
}

fn encapsulates(attribute: &RouteAttribute) -> bool {
    matches!(attribute, RouteAttribute::EncapType(_) | RouteAttribute::Encap(_))
}

fn address(value: &RouteAddress) -> Option<IpAddr> {
    match value {
        RouteAddress::Inet(v4) => Some(IpAddr::V4(*v4)),
        RouteAddress::Inet6(v6) => Some(IpAddr::V6(*v6)),
        _ => None,
    }
}
