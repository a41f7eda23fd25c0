//! From what the kernel told to what the tables need.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::state::{Hop, Route, State};
use crate::model::{HopKey, NextHop, Prefix, RouteView};

/// What a view is made for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ViewSpec {
    /// Interfaces the program is attached to, by index.
    pub interfaces: BTreeSet<u32>,
    /// The backends' addresses.
    pub backends: BTreeSet<IpAddr>,
}

/// Names a next hop that is in no view: the kernel's stack decides.
const NOWHERE: HopKey =
    HopKey { interface: 0, neighbour: IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED) };

impl State {
    /// How packets leave.
    ///
    /// A route to a connected network has no next hop of its own: every neighbour that
    /// is known in it gets a route of its own, and the rest is left to the kernel's
    /// stack, which finds the neighbour; then the view changes.
    pub fn view(&self, spec: &ViewSpec) -> RouteView {
        let is_up = |index: &&u32| self.links.get(index).is_some_and(|link| link.up);
        let mut view = RouteView {
            devices: spec.interfaces.iter().filter(is_up).copied().collect(),
            ..RouteView::default()
        };
        for (prefix, route) in self.routes.iter() {
            let key = match route.hop {
                Some(Hop { link, gateway: Some(gateway), mtu }) => {
                    self.hop(&mut view, HopKey { interface: link, neighbour: gateway }, mtu)
                }
                Some(Hop { link, gateway: None, mtu }) if is_host(prefix) => {
                    self.hop(&mut view, HopKey { interface: link, neighbour: prefix.address }, mtu)
                }
                _ => NOWHERE,
            };
            view.routes.insert(*prefix, key);
        }
        for (link, address) in self.neighbours.keys() {
            let Some((prefix, Route { hop: Some(hop), .. })) = self.routes.lookup(*address) else {
                continue;
            };
            if hop.gateway.is_none() && hop.link == *link && !is_host(prefix) {
                let key = HopKey { interface: *link, neighbour: *address };
                // One that does not answer is left to the stack, which asks again.
                if self.neighbours[&(*link, *address)].valid {
                    let key = self.hop(&mut view, key, hop.mtu);
                    view.routes.insert(host(*address), key);
                }
            }
        }
        for address in &spec.backends {
            if let Some((_, Route { hop: Some(hop), .. })) = self.routes.lookup(*address) {
                let neighbour = hop.gateway.unwrap_or(*address);
                let key = HopKey { interface: hop.link, neighbour };
                let key = self.hop(&mut view, key, hop.mtu);
                view.backends.insert(*address, key);
            }
        }
        view
    }

    /// Puts a next hop into the view, with the lowest MTU of the routes that use it.
    fn hop(&self, view: &mut RouteView, key: HopKey, mtu: Option<u32>) -> HopKey {
        let hop = self.nexthop(&key, mtu);
        let mtu = hop.mtu;
        let there = view.hops.entry(key).or_insert(hop);
        there.mtu = there.mtu.min(mtu);
        key
    }

    fn nexthop(&self, key: &HopKey, mtu: Option<u32>) -> NextHop {
        let Some(link) = self.links.get(&key.interface) else { return NextHop::default() };
        let (device, vlan) = match link.vlan {
            Some((lower, vlan)) => (lower, Some(vlan)),
            None => (key.interface, None),
        };
        let lower = self.links.get(&device);
        // A tag within a tag is the stack's.
        let sendable = lower.is_some_and(|l| l.up && (vlan.is_none() || l.vlan.is_none()));
        let neighbour =
            self.neighbours.get(&(key.interface, key.neighbour)).copied().unwrap_or_default();
        let mtu = mtu.unwrap_or(u32::MAX).min(link.mtu);
        NextHop {
            ifindex: device,
            mtu: u16::try_from(mtu).unwrap_or(u16::MAX),
            dst_mac: neighbour.mac.unwrap_or_default(),
            src_mac: link.mac.unwrap_or_default(),
            vlan,
            resolved: link.up
                && sendable
                && neighbour.valid
                && neighbour.mac.is_some()
                && link.mac.is_some(),
        }
    }

    /// Neighbours that packets go to, and that are therefore to be kept resolved.
    pub(super) fn wanted_neighbours(&self, spec: &ViewSpec) -> BTreeSet<(u32, IpAddr)> {
        let gateways = self.routes.iter().filter_map(|(_, route)| {
            let hop = route.hop?;
            Some((hop.link, hop.gateway?))
        });
        let backends = spec.backends.iter().filter_map(|address| {
            let (_, route) = self.routes.lookup(*address)?;
            let hop = route.hop?;
            Some((hop.link, hop.gateway.unwrap_or(*address)))
        });
        let has_mac = |(link, _): &(u32, IpAddr)| {
            self.links.get(link).is_some_and(|link| link.up && link.mac.is_some())
        };
        gateways.chain(backends).filter(has_mac).collect()
    }
}

fn is_host(prefix: &Prefix) -> bool {
    prefix.length == if prefix.address.is_ipv4() { 32 } else { 128 }
}

fn host(address: IpAddr) -> Prefix {
    Prefix { address, length: if address.is_ipv4() { 32 } else { 128 } }
}
