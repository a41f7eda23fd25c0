//! What is known of an interface.

use netlink_packet_route::link::{
    InfoData, InfoVlan, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage,
    VlanQosMapping,
};

use crate::model::Vlan;

/// An interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// Set up by the administrator.
    pub up: bool,
    /// There is a carrier.
    pub carrier: bool,
    /// It carries Ethernet frames and asks for neighbours' MACs.
    pub ethernet: bool,
    /// Its MAC.
    pub mac: Option<[u8; 6]>,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// For a VLAN, the interface below it and the tag.
    pub vlan: Option<Tagged>,
}

/// What makes an interface a VLAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tagged {
    /// The interface below; `None` if it is in another namespace.
    pub lower: Option<u32>,
    /// The tag that frames get.
    pub tag: Vlan,
}

impl Link {
    /// Frames can be sent.
    pub fn usable(&self) -> bool {
        self.up && self.carrier
    }

    /// Takes a message in. What it does not mention stays as it was.
    pub(super) fn update(&mut self, message: &LinkMessage) {
        let flags = message.header.flags;
        self.up = flags.contains(LinkFlags::Up);
        self.carrier = flags.contains(LinkFlags::LowerUp);
        self.ethernet = message.header.link_layer_type == LinkLayerType::Ether
            && !flags.intersects(LinkFlags::Noarp | LinkFlags::Loopback);
        let mut lower = None;
        let mut elsewhere = false;
        let mut tag = None;
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => self.name.clone_from(name),
                LinkAttribute::Mtu(mtu) => self.mtu = *mtu,
                LinkAttribute::Address(bytes) => self.mac = bytes.as_slice().try_into().ok(),
                LinkAttribute::Link(index) => lower = Some(*index),
                LinkAttribute::LinkNetNsId(_) => elsewhere = true,
                LinkAttribute::LinkInfo(infos) => tag = vlan_tag(infos),
                _ => {}
            }
        }
        if let Some(tag) = tag {
            self.vlan = Some(Tagged { lower: lower.filter(|_| !elsewhere), tag });
        }
    }
}

fn vlan_tag(infos: &[LinkInfo]) -> Option<Vlan> {
    let data = infos.iter().find_map(|info| match info {
        LinkInfo::Data(InfoData::Vlan(data)) => Some(data),
        _ => None,
    })?;
    let mut id = None;
    let mut protocol = 0x8100;
    let mut priority = 0;
    for info in data {
        match info {
            InfoVlan::Id(value) => id = Some(*value),
            InfoVlan::Protocol(value) => protocol = u16::from(*value),
            // Forwarded packets have the socket priority 0 unless they ask for more.
            InfoVlan::EgressQos(map) => {
                let default = map.iter().find_map(|entry| match entry {
                    VlanQosMapping::Mapping(0, to) => Some(*to),
                    _ => None,
                });
                priority = default.unwrap_or(0) as u16 & 7;
            }
            _ => {}
        }
    }
    id.map(|id| Vlan { protocol, tci: priority << 13 | (id & 0x0fff) })
}
