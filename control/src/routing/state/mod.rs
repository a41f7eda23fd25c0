//! The mirror as plain data, fed by the kernel's messages.
//!
//! The kernel does not tell everything. When an interface or an address comes or goes it flushes
//! IPv4 routes and declares paths dead or alive without a word; of several routes with one
//! metric it does not say which one a new one took the place of. [`State::apply`] then asks for a fresh dump
//! ([`Effect::Stale`]): what it has guessed is in use until then.

mod link;
mod neighbour;
mod route;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::LinkMessage;
use netlink_packet_route::neighbour::NeighbourMessage;
use netlink_packet_route::route::RouteMessage;
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::packet_core::{NLM_F_APPEND, NLM_F_REPLACE};

pub use link::{Link, Tagged};
pub use neighbour::{Neighbour, OUR_PROTOCOL};
pub use route::{Condition, Identity, Path, Route};

use crate::model::{HopKey, Prefix};

/// What the kernel knows of links, addresses, neighbours and the main table's routes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub(super) links: BTreeMap<u32, Link>,
    pub(super) addresses: BTreeSet<(IpAddr, u32)>,
    pub(super) neighbours: BTreeMap<HopKey, Neighbour>,
    /// Routes of each prefix, in the kernel's order. None of the lists is empty.
    pub(super) routes: BTreeMap<Prefix, Vec<Route>>,
}

/// What a message meant for the mirror.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// Nothing that is mirrored has changed.
    Nothing,
    /// Something has.
    Changed,
    /// And more may have, of which the kernel does not tell: a fresh dump is needed.
    Stale,
}

impl State {
    /// Interfaces by index.
    pub fn links(&self) -> &BTreeMap<u32, Link> {
        &self.links
    }

    /// An entry of the neighbour tables.
    pub fn neighbour(&self, key: &HopKey) -> Option<&Neighbour> {
        self.neighbours.get(key)
    }

    /// Whether the address is one of the host's own.
    pub fn is_local(&self, address: IpAddr) -> bool {
        self.addresses.range((address, 0)..=(address, u32::MAX)).next().is_some()
    }

    /// All addresses of the host's own; those that several interfaces have, several times.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.addresses.iter().map(|(address, _)| *address)
    }

    /// The host's own addresses that others can reach: neither its loopback's, nor those that are a link's alone.
    pub fn own(&self) -> impl Iterator<Item = IpAddr> {
        self.addresses().filter(|address| match address {
            IpAddr::V4(ip) => !ip.is_loopback() && !ip.is_link_local(),
            IpAddr::V6(ip) => !ip.is_loopback() && !ip.is_unicast_link_local(),
        })
    }

    /// Takes in a message of a dump or a notification; `flags` are those of its header
    /// (`NLM_F_REPLACE` and `NLM_F_APPEND` matter).
    pub fn apply(&mut self, flags: u16, message: &RouteNetlinkMessage) -> Effect {
        match message {
            RouteNetlinkMessage::NewLink(link) => self.new_link(link),
            RouteNetlinkMessage::DelLink(link) => self.del_link(link),
            RouteNetlinkMessage::NewAddress(address) => self.new_address(address),
            RouteNetlinkMessage::DelAddress(address) => self.del_address(address),
            RouteNetlinkMessage::NewNeighbour(neighbour) => self.new_neighbour(neighbour),
            RouteNetlinkMessage::DelNeighbour(neighbour) => self.del_neighbour(neighbour),
            RouteNetlinkMessage::NewRoute(route) => self.new_route(flags, route),
            RouteNetlinkMessage::DelRoute(route) => self.del_route(route),
            _ => Effect::Nothing,
        }
    }

    fn new_link(&mut self, message: &LinkMessage) -> Effect {
        // Bridges tell of their ports in the same words.
        if message.header.interface_family != AddressFamily::Unspec {
            return Effect::Nothing;
        }
        let link = self.links.entry(message.header.index).or_default();
        let before = link.clone();
        link.update(message);
        // The kernel changes what its routes are good for, and tells nobody.
        if (before.up, before.carrier) != (link.up, link.carrier) && !before.name.is_empty() {
            Effect::Stale
        } else {
            changed(before != *link)
        }
    }

    fn del_link(&mut self, message: &LinkMessage) -> Effect {
        if message.header.interface_family != AddressFamily::Unspec {
            return Effect::Nothing;
        }
        let index = message.header.index;
        self.neighbours.retain(|key, _| key.interface != index);
        self.addresses.retain(|(_, interface)| *interface != index);
        if self.links.remove(&index).is_some() { Effect::Stale } else { Effect::Nothing }
    }

    fn new_address(&mut self, message: &AddressMessage) -> Effect {
        let Some(address) = local_address(message) else { return Effect::Nothing };
        addressed(address, self.addresses.insert(address))
    }

    fn del_address(&mut self, message: &AddressMessage) -> Effect {
        let Some(address) = local_address(message) else { return Effect::Nothing };
        addressed(address, self.addresses.remove(&address))
    }

    fn new_neighbour(&mut self, message: &NeighbourMessage) -> Effect {
        let Some((key, new)) = neighbour::read(message) else { return Effect::Nothing };
        changed(self.neighbours.insert(key, new) != Some(new))
    }

    fn del_neighbour(&mut self, message: &NeighbourMessage) -> Effect {
        let gone = neighbour::read(message).and_then(|(key, _)| self.neighbours.remove(&key));
        changed(gone.is_some())
    }

    fn new_route(&mut self, flags: u16, message: &RouteMessage) -> Effect {
        let Some((prefix, new)) = route::read(message) else { return Effect::Nothing };
        let routes = self.routes.entry(prefix).or_default();
        let rivals = routes.iter().filter(|known| known.rivals(&new)).count();
        if let Some(known) = routes.iter_mut().find(|known| known.same(&new)) {
            let differs = *known != new;
            *known = new;
            return if rivals > 1 { Effect::Stale } else { changed(differs) };
        }
        let first = routes.iter().position(|known| known.rivals(&new));
        let join = prefix.address.is_ipv6() && new.joins();
        match first {
            None => routes.push(new),
            Some(first) if flags & NLM_F_REPLACE != 0 => routes[first] = new,
            // The message says all of the route it has become part of.
            Some(_) if join => {
                routes.retain(|known| !(known.rivals(&new) && known.joins()));
                routes.push(new);
            }
            Some(_) if flags & NLM_F_APPEND != 0 || prefix.address.is_ipv6() => routes.push(new),
            Some(first) => routes.insert(first, new),
        }
        let certain = rivals == 0 || (rivals == 1 && flags & NLM_F_REPLACE != 0);
        if certain { Effect::Changed } else { Effect::Stale }
    }

    fn del_route(&mut self, message: &RouteMessage) -> Effect {
        let Some((prefix, gone)) = route::read(message) else { return Effect::Nothing };
        let Some(routes) = self.routes.get_mut(&prefix) else { return Effect::Nothing };
        let effect = if let Some(at) = routes.iter().position(|known| known.same(&gone)) {
            routes.remove(at);
            Effect::Changed
        } else {
            // A path of several, or more than one route at once.
            let mut any = false;
            routes.retain_mut(|known| {
                let less = known.rivals(&gone) && known.subtract(&gone);
                any |= less;
                !(less && known.paths.is_empty())
            });
            if any { Effect::Changed } else { Effect::Stale }
        };
        if routes.is_empty() {
            self.routes.remove(&prefix);
        }
        effect
    }
}

/// An IPv4 address takes routes with it, and declares paths dead or alive.
fn addressed((address, _): (IpAddr, u32), changes: bool) -> Effect {
    if changes && address.is_ipv4() { Effect::Stale } else { changed(changes) }
}

fn changed(yes: bool) -> Effect {
    if yes { Effect::Changed } else { Effect::Nothing }
}

/// The host's own address of a message: `IFA_LOCAL`, which only IPv4 distinguishes
/// from the address (on a point-to-point link, that is the other end's).
fn local_address(message: &AddressMessage) -> Option<(IpAddr, u32)> {
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let any = || {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    };
    Some((local.or_else(any)?, message.header.index))
}
