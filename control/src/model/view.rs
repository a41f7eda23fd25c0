//! What the tables are computed from, beside the configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use dataplane::abi::{MAX_NEXTHOPS, MAX_ROUTES};
use serde::{Deserialize, Serialize};

use super::{NextHop, Wanted};
use crate::clock::Moment;
use crate::config::{BackendId, Config, Family};

/// Everything [`compute`](fn@super::compute) depends on.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// The configuration in force.
    pub config: &'a Config,
    /// What operators said since.
    pub overrides: &'a Overrides,
    /// Which backends answer.
    pub health: &'a HealthView,
    /// Which backends are full.
    pub load: &'a Load,
    /// How packets leave.
    pub routes: &'a RouteView,
    /// What the tables hold now; it tells what an index means.
    pub current: &'a Wanted,
    /// Endpoint indexes (see [`Registry::retired`](super::Registry::retired)) to which
    /// no slot of the session table refers any more.
    pub released: &'a BTreeSet<u32>,
}

/// What operators said at run time. Kept by the daemon across restarts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Overrides {
    /// Backends that get no new sessions.
    pub drained: BTreeMap<BackendId, Drain>,
    /// Weights in place of the configured ones. Zero places no new sessions.
    pub weights: BTreeMap<BackendId, u32>,
}

/// A drain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    /// When it is over: from then on the sessions that are left are ended.
    pub deadline: Option<Moment>,
    /// Over how many seconds they are ended.
    #[serde(default)]
    pub spread: u64,
    /// The deadline has come: the backend's answers open no sessions.
    #[serde(default)]
    pub released: bool,
}

/// What is known of a backend's health.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Not probed yet, or never; counts as up.
    #[default]
    Unknown,
    /// It answers.
    Up,
    /// It does not.
    Down,
}

/// A backend's health at each of its addresses. Of one that it does not have, nothing is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AddressHealth {
    v4: Status,
    v6: Status,
}

impl AddressHealth {
    /// The same at both.
    pub const fn both(status: Status) -> Self {
        Self { v4: status, v6: status }
    }

    /// At the address of a family.
    pub const fn of(self, family: Family) -> Status {
        match family {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        }
    }

    /// Says what it is at the address of a family.
    pub const fn set(&mut self, family: Family, status: Status) {
        match family {
            Family::V4 => self.v4 = status,
            Family::V6 => self.v6 = status,
        }
    }

    /// Of the backend as a whole: down if it is at all addresses of which anything is known.
    pub fn overall(self) -> Status {
        match (self.v4, self.v6) {
            (Status::Up, _) | (_, Status::Up) => Status::Up,
            (Status::Down, _) | (_, Status::Down) => Status::Down,
            (Status::Unknown, Status::Unknown) => Status::Unknown,
        }
    }

    /// Whether one of its addresses does not answer.
    pub fn is_impaired(self) -> bool {
        self.v4 == Status::Down || self.v6 == Status::Down
    }
}

/// The health of backends. Of one that is not in it, nothing is known.
pub type HealthView = BTreeMap<BackendId, AddressHealth>;

/// Backends that do not answer their sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Silent {
    /// All of them.
    pub all: BTreeSet<BackendId>,
    /// Those of them that get no new sessions.
    pub avoided: BTreeSet<BackendId>,
    /// Those of them that were silent while others of their pool were heard: the way to the pool is not to blame.
    pub alone: BTreeSet<BackendId>,
}

/// How full the backends are, and which are silent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Load {
    full: BTreeSet<BackendId>,
    empty: BTreeSet<BackendId>,
    silent: Silent,
}

impl Load {
    /// Whether the backend takes no new sessions because it has enough.
    pub fn is_full(&self, id: &BackendId) -> bool {
        self.full.contains(id)
    }

    /// Whether the backend had no sessions when they were counted last.
    pub fn is_empty(&self, id: &BackendId) -> bool {
        self.empty.contains(id)
    }

    /// Which backends do not answer the sessions that they have.
    pub const fn silent(&self) -> &Silent {
        &self.silent
    }

    /// Says which backends are silent: true if it was otherwise.
    pub fn set_silent(&mut self, silent: Silent) -> bool {
        let changed = self.silent != silent;
        self.silent = silent;
        changed
    }

    /// Takes in the number of sessions of each backend; true if one became full
    /// or ceased to be. A backend is full from its `max_sessions` on, until
    /// it is a twentieth below: a ring is not rebuilt for every session that ends.
    pub fn observe(&mut self, config: &Config, sessions: &BTreeMap<BackendId, u64>) -> bool {
        let full = config
            .backends()
            .filter_map(|(id, _, backend)| {
                let max = backend.max_sessions?;
                let now = sessions.get(&id).copied().unwrap_or(0);
                let was = self.full.contains(&id);
                let full = now >= max || (was && now > max - max.div_ceil(20));
                full.then_some(id)
            })
            .collect();
        let changed = full != self.full;
        self.full = full;
        let has_none = |id: &BackendId| sessions.get(id).is_none_or(|count| *count == 0);
        self.empty = config.backends().map(|(id, ..)| id).filter(has_none).collect();
        changed
    }
}

/// How packets leave: what the routing room mirrors from the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteView {
    /// Next hops.
    pub hops: BTreeMap<HopKey, NextHop>,
    /// Routes to clients. A route whose next hop is not in `hops` is left to the kernel's stack.
    pub routes: BTreeMap<Prefix, HopKey>,
    /// Interfaces on which XDP may send.
    pub devices: BTreeSet<u32>,
    /// Next hop towards each backend's address. One that is missing is left to the kernel's stack.
    pub backends: BTreeMap<IpAddr, HopKey>,
    /// Addresses of the host's own that backends may answer.
    pub own: BTreeSet<IpAddr>,
}

impl RouteView {
    /// What the tables cannot hold of it, if anything: the kernel's stack, which
    /// is slower, then forwards what XDP cannot.
    pub fn excess(&self) -> Option<String> {
        if self.routes.len() > MAX_ROUTES as usize {
            return Some(format!(
                "{} routes do not fit into the route table ({MAX_ROUTES}): answers to clients are forwarded by the kernel's stack",
                self.routes.len()
            ));
        }
        (self.hops.len() > MAX_HOPS as usize).then(|| {
            format!(
                "{} next hops do not fit into their table ({MAX_HOPS}): the rest is forwarded by the kernel's stack",
                self.hops.len()
            )
        })
    }
}

/// Next hops of the view that fit: the last index is the stack's.
pub(super) const MAX_HOPS: u32 = MAX_NEXTHOPS - 1;

/// What makes a next hop the same one while its properties change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HopKey {
    /// Index of the interface that has the route (a VLAN's own, not its lower device).
    pub interface: u32,
    /// The neighbour: a gateway, or the destination itself on a direct route.
    pub neighbour: IpAddr,
}

/// A prefix of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix {
    /// Its first address.
    pub address: IpAddr,
    /// Its length in bits of the address as it is: an IPv4 prefix has at most 32.
    pub length: u8,
}
