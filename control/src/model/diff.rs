//! The way from what the tables hold to what they should hold, in steps.
//!
//! The order makes every prefix of the steps safe to stop at: what is referred to is
//! there before the reference and goes after it, a ring is complete before a
//! listener has it, a backend is out of the rings before it stops accepting.

use std::collections::BTreeMap;

use dataplane::abi::{Address, AddressKey, Directory, Endpoint, NO_RING, NameKey, RouteKey};

use super::wanted::{KnownHop, Live, MeterLimits, Ring, TenantLimits, Wanted};
use super::writer::{TableWriter, Written};

/// One write to one table; see the functions of [`TableWriter`]. `None` takes away.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "the fields are the parameters of the writer's functions")]
pub enum Step {
    /// [`TableWriter::name`].
    Name { key: NameKey, name: Option<String> },
    /// [`TableWriter::tenant`].
    Tenant { index: u32, limits: Option<TenantLimits> },
    /// [`TableWriter::device`].
    Device { ifindex: u32, present: bool },
    /// [`TableWriter::nexthop`].
    NextHop { index: u32, hop: Option<KnownHop> },
    /// [`TableWriter::route`].
    Route { key: RouteKey, nexthop: Option<u32> },
    /// [`TableWriter::endpoint`].
    Endpoint { index: u32, endpoint: Option<Endpoint> },
    /// [`TableWriter::source`].
    Source { index: u16, source: Option<Address> },
    /// [`TableWriter::pace`].
    Pace { index: u32, limits: Option<MeterLimits> },
    /// [`TableWriter::ring`].
    Ring { number: u16, ring: Option<Ring> },
    /// [`TableWriter::directory`].
    Directory { key: AddressKey, entry: Option<Directory> },
    /// [`TableWriter::live`].
    Live(Live),
    /// [`TableWriter::raise_route_generation`].
    RaiseRouteGeneration,
}

impl Step {
    /// Writes it.
    pub(super) fn write(&self, to: &mut dyn TableWriter) -> Written {
        match self {
            Self::Name { key, name } => to.name(*key, name.as_deref()),
            Self::Tenant { index, limits } => to.tenant(*index, *limits),
            Self::Device { ifindex, present } => to.device(*ifindex, *present),
            Self::NextHop { index, hop } => to.nexthop(*index, hop.as_ref()),
            Self::Route { key, nexthop } => to.route(*key, *nexthop),
            Self::Endpoint { index, endpoint } => to.endpoint(*index, endpoint.as_ref()),
            Self::Source { index, source } => to.source(*index, *source),
            Self::Pace { index, limits } => to.pace(*index, *limits),
            Self::Ring { number, ring } => to.ring(*number, ring.as_ref()),
            Self::Directory { key, entry } => to.directory(*key, entry.as_ref()),
            Self::Live(live) => to.live(live),
            Self::RaiseRouteGeneration => to.raise_route_generation(),
        }
    }
}

/// What is new or different in one table, and what is gone.
struct Changes<K, V> {
    put: Vec<(K, V)>,
    gone: Vec<K>,
}

fn changes<K: Ord + Copy, V: PartialEq + Clone>(
    current: &BTreeMap<K, V>,
    wanted: &BTreeMap<K, V>,
) -> Changes<K, V> {
    let put = wanted.iter().filter(|(key, value)| current.get(key) != Some(value));
    let gone = current.keys().filter(|key| !wanted.contains_key(key));
    Changes {
        put: put.map(|(key, value)| (*key, value.clone())).collect(),
        gone: gone.copied().collect(),
    }
}

/// Listeners that have a ring which is about to hold something else, and will not use it then.
/// There are none unless steps were interrupted: otherwise the ring's other buffer is free. They
/// place no new sessions until they have their new ring, or are gone.
fn strays(
    current: &Wanted,
    wanted: &Wanted,
    rings: &[(u16, Ring)],
) -> impl Iterator<Item = (AddressKey, Directory)> {
    let overwritten =
        |entry: &Directory| entry.places() && rings.iter().any(|(number, _)| *number == entry.ring);
    // A pool has four rings. Where its mode has changed, its backends' places are others.
    let user = |entry: &Directory| (entry.listener(), entry.ring / 4, entry.is_direct());
    current
        .directory
        .iter()
        .filter(move |(key, entry)| {
            let stays = wanted.directory.get(key).is_some_and(|new| user(new) == user(entry));
            overwritten(entry) && !stays
        })
        .map(|(key, entry)| (*key, Directory { ring: NO_RING, ..*entry }))
}

/// The steps that make `wanted` of `current`.
pub fn diff(current: &Wanted, wanted: &Wanted) -> Vec<Step> {
    let names = changes(&current.names, &wanted.names);
    let tenants = changes(&current.tenants, &wanted.tenants);
    let nexthops = changes(&current.nexthops, &wanted.nexthops);
    let routes = changes(&current.routes, &wanted.routes);
    let endpoints = changes(&current.endpoints, &wanted.endpoints);
    let sources = changes(&current.sources, &wanted.sources);
    let paces = changes(&current.paces, &wanted.paces);
    let rings = changes(&current.rings, &wanted.rings);
    let directory = changes(&current.directory, &wanted.directory);

    // An endpoint that loses a flag is still in the ring that is in use, unless it is another
    // one now: then nothing has led to its index for some time.
    let identity =
        |row: &Endpoint| Endpoint { flags: 0, nexthop: 0, mss: 0, idle: 0, share: 0, ..*row };
    let (losing, gaining): (Vec<_>, Vec<_>) =
        endpoints.put.into_iter().partition(|(index, new)| {
            let loses = |old: &Endpoint| old.flags & !new.flags != 0;
            let old = current.endpoints.get(index);
            old.is_some_and(|old| loses(old) && identity(old) == identity(new))
        });
    let (listeners, others): (Vec<_>, Vec<_>) =
        directory.put.into_iter().partition(|(_, entry)| entry.places());
    let (listeners_gone, others_gone): (Vec<_>, Vec<_>) =
        directory.gone.into_iter().partition(|key| current.directory[key].places());
    let put_name = |(key, name)| Step::Name { key, name: Some(name) };
    let put_endpoint = |(index, new)| Step::Endpoint { index, endpoint: Some(new) };
    let put_directory = |(key, entry)| Step::Directory { key, entry: Some(entry) };
    let gone_directory = |key| Step::Directory { key, entry: None };
    let devices = |from: &Wanted, to: &Wanted, present| -> Vec<Step> {
        to.devices
            .difference(&from.devices)
            .map(|ifindex| Step::Device { ifindex: *ifindex, present })
            .collect()
    };

    let mut steps = Vec::new();
    steps.extend(names.put.into_iter().map(put_name));
    if current.live != wanted.live {
        steps.push(Step::Live(wanted.live));
    }
    steps.extend(
        tenants.put.into_iter().map(|(index, new)| Step::Tenant { index, limits: Some(new) }),
    );
    steps.extend(devices(current, wanted, true));
    steps.extend(
        nexthops.put.into_iter().map(|(index, hop)| Step::NextHop { index, hop: Some(hop) }),
    );
    // Sessions remember next hops: a change of one is seen at once, a change of route is not.
    let raise = !(routes.put.is_empty() && routes.gone.is_empty() && nexthops.gone.is_empty());
    steps.extend(routes.put.into_iter().map(|(key, hop)| Step::Route { key, nexthop: Some(hop) }));
    steps.extend(routes.gone.into_iter().map(|key| Step::Route { key, nexthop: None }));
    if raise {
        steps.push(Step::RaiseRouteGeneration);
    }

    steps.extend(
        sources.put.into_iter().map(|(index, new)| Step::Source { index, source: Some(new) }),
    );
    steps.extend(paces.put.into_iter().map(|(index, new)| Step::Pace { index, limits: Some(new) }));
    steps.extend(gaining.into_iter().map(put_endpoint));
    steps.extend(others.into_iter().map(put_directory));
    steps.extend(strays(current, wanted, &rings.put).map(put_directory));
    steps.extend(
        rings.put.into_iter().map(|(number, ring)| Step::Ring { number, ring: Some(ring) }),
    );
    steps.extend(listeners.into_iter().map(put_directory));

    steps.extend(listeners_gone.into_iter().map(gone_directory));
    steps.extend(others_gone.into_iter().map(gone_directory));
    steps.extend(losing.into_iter().map(put_endpoint));
    steps.extend(endpoints.gone.into_iter().map(|index| Step::Endpoint { index, endpoint: None }));
    steps.extend(sources.gone.into_iter().map(|index| Step::Source { index, source: None }));
    steps.extend(paces.gone.into_iter().map(|index| Step::Pace { index, limits: None }));
    steps.extend(rings.gone.into_iter().map(|number| Step::Ring { number, ring: None }));
    steps.extend(nexthops.gone.into_iter().map(|index| Step::NextHop { index, hop: None }));
    steps.extend(devices(wanted, current, false));
    steps.extend(tenants.gone.into_iter().map(|index| Step::Tenant { index, limits: None }));
    steps.extend(names.gone.into_iter().map(|key| Step::Name { key, name: None }));
    steps
}
