//! From the mirror to what the tables need: a pure function.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use super::hops;
use super::prefix::{self, Lengths};
use super::state::{Path, Route, State};
use crate::model::{HopKey, Prefix, RouteView};

/// What the view is to cover.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ViewSpec {
    /// Indexes of the interfaces that the XDP program is attached to.
    pub interfaces: BTreeSet<u32>,
    /// Addresses of all backends.
    pub backends: BTreeSet<IpAddr>,
}

/// The key of routes that only the kernel's stack can follow. It has no next hop.
pub const STACK: HopKey = HopKey { interface: 0, neighbour: IpAddr::V4(Ipv4Addr::UNSPECIFIED) };

/// A view, and the neighbours it needs.
pub(super) struct Outlook {
    pub(super) view: RouteView,
    /// Routers and backends that XDP sends to: the kernel is to keep them resolved.
    pub(super) keep: BTreeSet<HopKey>,
}

impl State {
    /// How packets leave, according to the main table.
    ///
    /// - Of the routes to a prefix the one with the lowest metric counts that has a path which
    ///   is not dead. Of several paths the first counts whose neighbour is known, else
    ///   the first: the table of the kernel program has one next hop a route.
    /// - A route to neighbours on an interface's own link becomes a host route for each that is
    ///   known. The prefix itself leads to a key without a next hop (its neighbour is the
    ///   unspecified address): the stack gets the packet and asks for the neighbour.
    /// - What XDP cannot follow leads to [`STACK`]: blackholes, tunnels, and prefixes with routes
    ///   for some types of service or sources only.
    /// - A next hop is resolved if its neighbour's MAC is known and XDP may send on its
    ///   interface. The MTU is the smallest of interface and routes to it: routes that
    ///   share a next hop share it, too; the stack knows better about what is larger.
    pub fn view(&self, spec: &ViewSpec) -> RouteView {
        self.outlook(spec).view
    }

    pub(super) fn outlook(&self, spec: &ViewSpec) -> Outlook {
        let devices: BTreeSet<u32> = spec
            .interfaces
            .iter()
            .filter(|index| self.links.get(index).is_some_and(|link| link.usable()))
            .copied()
            .collect();
        let mut work = Work {
            state: self,
            devices: &devices,
            routes: BTreeMap::new(),
            mtus: BTreeMap::new(),
            keep: BTreeSet::new(),
        };
        work.choose();
        let lengths = Lengths::of(&work.routes);
        let backends = work.backends(&lengths, &spec.backends);
        work.expand(&lengths);
        let Work { routes, mtus, keep, .. } = work;
        let keys: BTreeSet<&HopKey> =
            routes.values().chain(backends.values()).filter(|key| !is_stacks(key)).collect();
        let hops = keys
            .into_iter()
            .map(|key| (*key, hops::build(self, &devices, key, mtus.get(key).copied())))
            .collect();
        let own = self.own().collect();
        Outlook { view: RouteView { hops, routes, devices, backends, own }, keep }
    }
}

struct Work<'a> {
    state: &'a State,
    devices: &'a BTreeSet<u32>,
    routes: BTreeMap<Prefix, HopKey>,
    mtus: BTreeMap<HopKey, u32>,
    keep: BTreeSet<HopKey>,
}

impl Work<'_> {
    /// One route for each prefix.
    fn choose(&mut self) {
        for (prefix, routes) in &self.state.routes {
            let Some(route) = best(routes) else { continue };
            let conditional = routes.iter().any(|route| route.condition.is_some());
            let path = self.path(&route.paths).filter(|_| !conditional);
            let key = path.map_or(STACK, |path| HopKey {
                interface: path.interface,
                neighbour: path.gateway.unwrap_or_else(|| on_link(*prefix)),
            });
            self.limit(key, route.mtu);
            if path.is_some_and(|path| path.gateway.is_some()) {
                self.need(key);
            }
            self.routes.insert(*prefix, key);
        }
    }

    fn path<'p>(&self, paths: &'p [Path]) -> Option<&'p Path> {
        let alive = || {
            paths.iter().filter(|path| {
                !path.dead && self.state.links.get(&path.interface).is_some_and(|l| l.usable())
            })
        };
        let known = |path: &&Path| {
            path.gateway.is_some_and(|neighbour| {
                let key = HopKey { interface: path.interface, neighbour };
                self.state.neighbour(&key).is_some_and(|neighbour| neighbour.mac.is_some())
            })
        };
        alive().find(known).or_else(|| alive().next()).or_else(|| paths.first())
    }

    /// The smallest MTU of the routes that share a next hop.
    fn limit(&mut self, key: HopKey, mtu: Option<u32>) {
        if let Some(mtu) = mtu {
            self.mtus.entry(key).and_modify(|least| *least = mtu.min(*least)).or_insert(mtu);
        }
    }

    fn need(&mut self, key: HopKey) {
        if hops::sends(self.state, self.devices, key.interface) {
            self.keep.insert(key);
        }
    }

    /// Where packets to backends go.
    fn backends(
        &mut self,
        lengths: &Lengths,
        addresses: &BTreeSet<IpAddr>,
    ) -> BTreeMap<IpAddr, HopKey> {
        let mut backends = BTreeMap::new();
        for &address in addresses {
            // A backend on the gateway itself is the stack's.
            if self.state.is_local(address) {
                continue;
            }
            let Some((_, &key)) = lengths.lookup(&self.routes, address) else { continue };
            if key == STACK {
                continue;
            }
            let key = self.towards(key, address);
            self.need(key);
            backends.insert(address, key);
        }
        backends
    }

    /// Host routes for the neighbours on connected prefixes.
    fn expand(&mut self, lengths: &Lengths) {
        let mut hosts = Vec::new();
        for (key, neighbour) in &self.state.neighbours {
            if neighbour.mac.is_none() {
                continue;
            }
            let found = lengths.lookup(&self.routes, key.neighbour);
            let Some((_, &route)) = found else { continue };
            let direct = is_stacks(&route) && route != STACK;
            if direct && route.interface == key.interface {
                hosts.push((prefix::host(key.neighbour), route, *key));
            }
        }
        for (host, route, key) in hosts {
            self.limit(key, self.mtus.get(&route).copied());
            self.routes.insert(host, key);
        }
    }

    /// The next hop to an address whose route has this key.
    fn towards(&mut self, key: HopKey, address: IpAddr) -> HopKey {
        if !is_stacks(&key) {
            return key;
        }
        let own = HopKey { neighbour: address, ..key };
        self.limit(own, self.mtus.get(&key).copied());
        own
    }
}

/// The route that the kernel takes: the first of the lowest metric, unless all its paths are dead.
fn best(routes: &[Route]) -> Option<&Route> {
    let dead = |route: &Route| !route.paths.is_empty() && route.paths.iter().all(|path| path.dead);
    routes.iter().filter(|route| !dead(route)).min_by_key(|route| route.metric)
}

/// Whether a key has no next hop, so that packets are left to the stack.
fn is_stacks(key: &HopKey) -> bool {
    key.neighbour.is_unspecified()
}

/// The neighbour of a route without a router: the destination, if it is a single address.
fn on_link(prefix: Prefix) -> IpAddr {
    if prefix.length == prefix::width(prefix.address) {
        prefix.address
    } else {
        prefix::unspecified(prefix.address)
    }
}
