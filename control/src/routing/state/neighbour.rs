//! What is known of a neighbour.

use std::net::IpAddr;

use netlink_packet_route::AddressFamily;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourFlags, NeighbourMessage,
    NeighbourState,
};
use netlink_packet_route::route::RouteProtocol;

use crate::model::HopKey;

/// The originator (`NDA_PROTOCOL`) of neighbour entries that the gateway has
/// the kernel keep. It tells a later daemon which of them are not the operator's.
pub const OUR_PROTOCOL: u8 = 0xf7;

/// An entry of a neighbour table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Where frames to it go; `None` as long as nobody knows.
    pub mac: Option<[u8; 6]>,
    /// The kernel keeps it resolved.
    pub managed: bool,
    /// The kernel gave up.
    pub failed: bool,
    /// Somebody set it by hand, or another daemon looks after it.
    pub foreign: bool,
    /// The gateway asked the kernel to keep it.
    pub ours: bool,
}

/// The neighbour of a message, and what the message says. `None` if it is not about
/// an IP neighbour.
pub(super) fn read(message: &NeighbourMessage) -> Option<(HopKey, Neighbour)> {
    let header = &message.header;
    let is_ip = matches!(header.family, AddressFamily::Inet | AddressFamily::Inet6);
    if !is_ip || header.flags.contains(NeighbourFlags::Proxy) {
        return None;
    }
    let mut address = None;
    let mut mac = None;
    let mut managed = false;
    let mut ours = false;
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(v4)) => {
                address = Some(IpAddr::V4(*v4));
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(v6)) => {
                address = Some(IpAddr::V6(*v6));
            }
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes.as_slice().try_into().ok(),
            NeighbourAttribute::ExtFlags(flags) => {
                managed = flags.contains(NeighbourExtFlags::Managed);
            }
            NeighbourAttribute::Protocol(protocol) => {
                ours = *protocol == RouteProtocol::Other(OUR_PROTOCOL);
            }
            _ => {}
        }
    }
    let state = header.state;
    let resolved = matches!(
        state,
        NeighbourState::Reachable
            | NeighbourState::Stale
            | NeighbourState::Delay
            | NeighbourState::Probe
            | NeighbourState::Permanent
            | NeighbourState::Noarp
    );
    let neighbour = Neighbour {
        // Broadcast and multicast destinations have entries, too.
        mac: mac.filter(|mac: &[u8; 6]| resolved && mac[0] & 1 == 0),
        managed,
        failed: state == NeighbourState::Failed,
        foreign: matches!(state, NeighbourState::Permanent | NeighbourState::Noarp)
            || header.flags.contains(NeighbourFlags::ExtLearned),
        ours,
    };
    Some((HopKey { interface: header.ifindex, neighbour: address? }, neighbour))
}
