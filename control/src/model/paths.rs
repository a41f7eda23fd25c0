//! Next hops, routes and devices: the routing room's view in terms of the tables.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use dataplane::abi::{Address, MAX_NEXTHOPS, MAX_ROUTES, RouteKey};

use super::view::MAX_HOPS;
use super::wanted::{KnownHop, Wanted};
use super::{HopKey, NextHop, Prefix, RouteView};

/// The view in terms of the tables.
#[derive(Debug)]
pub(super) struct Paths {
    pub(super) devices: BTreeSet<u32>,
    pub(super) nexthops: BTreeMap<u32, KnownHop>,
    pub(super) routes: BTreeMap<RouteKey, u32>,
    /// The next hop, and whether it is the backend itself.
    towards: BTreeMap<IpAddr, (u32, bool)>,
}

/// Next hop index of what only the kernel's stack can forward: never resolved.
const STACK: u32 = MAX_NEXTHOPS - 1;

impl Paths {
    pub(super) fn new(view: &RouteView, current: &Wanted) -> Self {
        let mut nexthops = indexed(view, current);
        let index: BTreeMap<HopKey, u32> =
            nexthops.iter().filter_map(|(index, hop)| Some((hop.key?, *index))).collect();
        let hop_of = |key: &HopKey| index.get(key).copied().unwrap_or(STACK);
        let routes: BTreeMap<_, _> = if view.routes.len() > MAX_ROUTES as usize {
            // A part of the routes would send packets the wrong way; none, to nobody.
            let everything: [IpAddr; 2] =
                [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
            let prefix = |address| route_key(&Prefix { address, length: 0 });
            everything.map(|address| (prefix(address), STACK)).into()
        } else {
            view.routes.iter().map(|(prefix, key)| (route_key(prefix), hop_of(key))).collect()
        };
        if routes.values().any(|index| *index == STACK) {
            nexthops.insert(STACK, KnownHop { key: None, hop: NextHop::default() });
        }
        let towards = view.backends.iter().filter_map(|(address, key)| {
            Some((*address, (*index.get(key)?, key.neighbour == *address)))
        });
        Self { devices: view.devices.clone(), routes, towards: towards.collect(), nexthops }
    }

    /// The next hop towards a backend, if it is known.
    pub(super) fn towards(&self, address: IpAddr) -> Option<u32> {
        self.towards.get(&address).map(|(index, _)| *index)
    }

    /// The same of a backend that is on the gateway's own link.
    pub(super) fn on_link(&self, address: IpAddr) -> Option<u32> {
        self.towards
            .get(&address)
            .filter(|(_, is_neighbour)| *is_neighbour)
            .map(|(index, _)| *index)
    }
}

/// A prefix as the route table has it.
fn route_key(prefix: &Prefix) -> RouteKey {
    let mapped = if prefix.address.is_ipv4() { 96 } else { 0 };
    RouteKey {
        prefix_len: mapped + u32::from(prefix.length),
        address: Address::from(prefix.address),
    }
}

/// Gives every next hop the index it has, or a new one. An index is not given
/// to another at once: sessions remember it until the route generation is raised.
fn indexed(view: &RouteView, current: &Wanted) -> BTreeMap<u32, KnownHop> {
    let mut indexed = BTreeMap::new();
    let mut known: BTreeMap<HopKey, u32> = BTreeMap::new();
    // As read from the table by an adopting daemon: known by what they are.
    let mut unnamed: BTreeMap<NextHop, u32> = BTreeMap::new();
    for (index, entry) in current.nexthops.iter().filter(|(index, _)| **index != STACK) {
        match entry.key {
            Some(key) => drop(known.insert(key, *index)),
            None => drop(unnamed.insert(entry.hop, *index)),
        }
    }
    let mut free = (0..MAX_HOPS).filter(|index| !current.nexthops.contains_key(index));
    for (key, hop) in &view.hops {
        // A frame can be sent on devices of the table only.
        let hop = NextHop { resolved: hop.resolved && view.devices.contains(&hop.ifindex), ..*hop };
        let index =
            known.get(key).copied().or_else(|| unnamed.remove(&hop)).or_else(|| free.next());
        if let Some(index) = index {
            indexed.insert(index, KnownHop { key: Some(*key), hop });
        }
    }
    indexed
}
