//! The kernel's links, routes and neighbours as plain data.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use crate::model::{Prefix, Vlan};

/// What the kernel told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Links by index.
    pub links: BTreeMap<u32, Link>,
    /// Routes of the main table. Of several to a prefix, the one with the lowest metric.
    pub routes: Routes,
    /// Neighbours by link and address.
    pub neighbours: HashMap<(u32, IpAddr), Neighbour>,
}

/// A link.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// Its MAC address; `None` where it has none of six bytes.
    pub mac: Option<[u8; 6]>,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Up, with a carrier.
    pub up: bool,
    /// For a VLAN: the lower device, and the tag.
    pub vlan: Option<(u32, Vlan)>,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Its metric.
    pub metric: u32,
    /// Where packets go: `None` where the kernel refuses them, or where it does something to them
    /// that XDP does not do.
    pub hop: Option<Hop>,
}

/// A route's next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// The link.
    pub link: u32,
    /// The gateway; `None` if the destination itself is a neighbour.
    pub gateway: Option<IpAddr>,
    /// The route's own MTU, if it has one.
    pub mtu: Option<u32>,
}

/// A neighbour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Neighbour {
    /// Its MAC address, if it is known.
    pub mac: Option<[u8; 6]>,
    /// The address is good for sending (NUD_VALID).
    pub valid: bool,
    /// The kernel keeps it resolved.
    pub managed: bool,
    /// An operator's or the kernel's own entry, which is not to be touched.
    pub fixed: bool,
}

/// Routes, to be looked up by longest prefix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Routes {
    by_prefix: BTreeMap<Prefix, Route>,
    lengths_v4: BTreeSet<u8>,
    lengths_v6: BTreeSet<u8>,
}

impl Routes {
    /// Takes a route in, unless there is one with a lower metric.
    pub fn add(&mut self, prefix: Prefix, route: Route) {
        let prefix = Prefix { address: masked(prefix.address, prefix.length), ..prefix };
        let lengths =
            if prefix.address.is_ipv4() { &mut self.lengths_v4 } else { &mut self.lengths_v6 };
        lengths.insert(prefix.length);
        match self.by_prefix.get(&prefix) {
            Some(there) if there.metric <= route.metric => {}
            _ => drop(self.by_prefix.insert(prefix, route)),
        }
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&Prefix, &Route)> {
        self.by_prefix.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_prefix.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_prefix.is_empty()
    }

    /// The route towards an address.
    pub fn lookup(&self, to: IpAddr) -> Option<(&Prefix, &Route)> {
        let lengths = if to.is_ipv4() { &self.lengths_v4 } else { &self.lengths_v6 };
        lengths.iter().rev().find_map(|length| {
            let prefix = Prefix { address: masked(to, *length), length: *length };
            self.by_prefix.get_key_value(&prefix)
        })
    }
}

/// An address without the bits behind its prefix.
fn masked(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length.min(32))).unwrap_or(0);
            IpAddr::V4((u32::from(v4) & mask).into())
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length.min(128))).unwrap_or(0);
            IpAddr::V6((u128::from(v6) & mask).into())
        }
    }
}
