//! Gives every name its index: the one it has, or the first that is free.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Range;

use dataplane::abi::{
    Encapsulation, Endpoint, MAX_LISTENERS, MAX_RINGS, MAX_SERVICES, MAX_TENANTS, NAME_BACKEND,
    NAME_LISTENER, NAME_LISTENER_POOL, NAME_POOL, NAME_RETIRED, NAME_SERVICE, NAME_TENANT, NameKey,
    POOL_STRIDE,
};

use super::{Registry, Wanted};
use crate::config::{self, Backend, BackendId, Config, Family, Listener, Mode, Pool, Service};

/// The tables cannot hold what is wanted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    /// All indexes of a kind are in use.
    #[error(
        "no place is left for {what} `{name}`: all {places} are taken, {retired} of them by removed \
         ones whose sessions are still ending; try again when they are gone"
    )]
    NoPlace {
        /// What it is.
        what: &'static str,
        /// Its name.
        name: String,
        /// How many places there are.
        places: u32,
        /// How many of them are taken by what is no longer configured.
        retired: usize,
    },
}

/// The index of everything that is configured.
#[derive(Debug, Default)]
pub(super) struct Indexes {
    pub(super) tenants: BTreeMap<String, u32>,
    pub(super) services: BTreeMap<String, u32>,
    pub(super) pools: BTreeMap<String, u32>,
    pub(super) listeners: BTreeMap<Listener, u32>,
    /// Ordinals in their pools.
    pub(super) backends: BTreeMap<BackendId, u32>,
}

/// What the tables hold that a session may refer to: without released endpoints.
pub(super) struct Held<'a> {
    pub(super) tables: &'a Wanted,
    pub(super) registry: Registry<'a>,
    pub(super) released: BTreeSet<u32>,
}

impl<'a> Held<'a> {
    pub(super) fn new(tables: &'a Wanted, released: &BTreeSet<u32>) -> Self {
        let registry = Registry::of(tables);
        // One that came back in the meantime is not to be let go of.
        let released = released.intersection(&registry.retired()).copied().collect();
        Self { tables, registry, released }
    }

    /// The endpoints that a session may refer to, by the places of backends: pools' indexes
    /// and ordinals in one.
    fn by_place(&self) -> BTreeMap<u32, Vec<&'a Endpoint>> {
        let mut rows: BTreeMap<u32, Vec<_>> = BTreeMap::new();
        let mut pools = BTreeMap::new();
        for (index, row) in &self.tables.endpoints {
            let (listener, ordinal) = (index / POOL_STRIDE, index % POOL_STRIDE);
            let pool =
                pools.entry(listener).or_insert_with(|| self.registry.listener_pool(listener));
            if let (Some(pool), false) = (*pool, self.released.contains(index)) {
                rows.entry(pool * POOL_STRIDE + ordinal).or_default().push(row);
            }
        }
        rows
    }

    /// The endpoints of a listener that a session may refer to.
    fn block(&self, listener: u32) -> impl Iterator<Item = &'a Endpoint> {
        self.registry
            .block(listener)
            .filter(|(index, _)| !self.released.contains(index))
            .map(|(_, endpoint)| endpoint)
    }
}

/// The places of one kind while they are being given away.
struct Places<'a> {
    what: &'static str,
    range: Range<u32>,
    /// Names that have a place, and whether they are live.
    taken: BTreeMap<u32, (&'a str, bool)>,
    given: BTreeSet<u32>,
}

impl<'a> Places<'a> {
    fn new(what: &'static str, kind: u32, range: Range<u32>, held: &Held<'a>) -> Self {
        let mut taken = held.registry.all(kind);
        taken.retain(|index, _| range.contains(index));
        Self { what, range, taken, given: BTreeSet::new() }
    }

    /// The place that the name has and that fits, a live one first; else a new one.
    fn place(&mut self, name: &str, fits: impl Fn(u32) -> bool) -> Result<u32, ModelError> {
        let own = |(index, (found, live)): (&u32, &(&str, bool))| {
            (*found == name && fits(*index)).then_some((!live, *index))
        };
        let index = match self.taken.iter().filter_map(own).min() {
            Some((_, index)) => index,
            None => {
                let free =
                    |index: &u32| !self.taken.contains_key(index) && !self.given.contains(index);
                self.range.clone().find(free).ok_or_else(|| self.no_place(name))?
            }
        };
        self.given.insert(index);
        Ok(index)
    }

    fn no_place(&self, name: &str) -> ModelError {
        ModelError::NoPlace {
            what: self.what,
            name: name.to_owned(),
            places: self.range.len() as u32,
            retired: self.taken.keys().filter(|index| !self.given.contains(index)).count(),
        }
    }
}

/// Gives everything in the configuration its index.
pub(super) fn assign(config: &Config, held: &Held<'_>) -> Result<Indexes, ModelError> {
    let mut out = Indexes::default();
    let mut places = Places::new("tenant", NAME_TENANT, 0..MAX_TENANTS, held);
    for tenant in &config.tenants {
        out.tenants.insert(tenant.name.clone(), places.place(&tenant.name, |_| true)?);
    }
    let mut places = Places::new("service", NAME_SERVICE, 0..MAX_SERVICES, held);
    for service in &config.services {
        out.services.insert(service.name.clone(), places.place(&service.name, |_| true)?);
    }
    let mut places = Places::new("pool", NAME_POOL, 0..MAX_RINGS / 4, held);
    for pool in &config.pools {
        out.pools.insert(pool.name.clone(), places.place(&pool.name, |_| true)?);
    }
    let mut places = Places::new("listener", NAME_LISTENER, 0..MAX_LISTENERS, held);
    for service in &config.services {
        for listener in &service.listen {
            let fits = |index| keeps_listener(index, (service, listener), &out, held);
            let index = places.place(&listener.to_string(), fits)?;
            out.listeners.insert(*listener, index);
        }
    }
    let rows = held.by_place();
    for pool in &config.pools {
        let index = out.pools[&pool.name];
        let range = index * POOL_STRIDE..(index + 1) * POOL_STRIDE;
        let mut places = Places::new("backend", NAME_BACKEND, range.clone(), held);
        for backend in &pool.backends {
            let fits =
                |place| rows.get(&place).is_none_or(|rows| keeps_backend(rows, pool, backend));
            let place = places.place(&backend.name, fits)?;
            out.backends.insert(BackendId::new(&pool.name, &backend.name), place - range.start);
        }
    }
    Ok(out)
}

/// Whether a listener's sessions would still be what they are: a listener that
/// changes its service, tenant, profile or pool is another one.
fn keeps_listener(
    index: u32,
    (service, listener): (&Service, &Listener),
    indexes: &Indexes,
    held: &Held<'_>,
) -> bool {
    let same = |endpoint: &Endpoint| {
        u32::from(endpoint.service) == indexes.services[&service.name]
            && u32::from(endpoint.tenant) == indexes.tenants[&service.tenant]
            && endpoint.profile == service.profile.of_listener(listener) as u8
    };
    let mut block = held.block(index).peekable();
    block.peek().is_none()
        || (block.all(same)
            && held.registry.name(NAME_LISTENER_POOL, index) == Some(service.pool.as_str()))
}

/// Whether a backend's sessions would still be what they are: a backend that
/// changes its address, its port or the pool's mode is another one. Endpoints of listeners that are no longer
/// configured count, too: such a listener may come back.
fn keeps_backend(rows: &[&Endpoint], pool: &Pool, backend: &Backend) -> bool {
    rows.iter().all(|row| {
        let family = Family::of(row.vip.into());
        let port = target_port(pool, backend, u16::from_be(row.vip_port)).to_be();
        pool.address_for(backend, family).is_none_or(|address| {
            row.backend == address.into()
                && row.backend_port == port
                && row.encapsulation == encapsulation(pool) as u8
        })
    })
}

/// The names of all indexes: those that are configured, and those that the
/// endpoints still refer to.
pub(super) fn names(
    config: &Config,
    indexes: &Indexes,
    endpoints: &BTreeMap<u32, Endpoint>,
    held: &Held<'_>,
) -> BTreeMap<NameKey, String> {
    let mut names = BTreeMap::new();
    let mut add = |kind, index, name: &str| {
        names.insert(NameKey { kind, index }, name.to_owned());
    };
    for (name, index) in &indexes.tenants {
        add(NAME_TENANT, *index, name);
    }
    for (name, index) in &indexes.services {
        add(NAME_SERVICE, *index, name);
    }
    for (name, index) in &indexes.pools {
        add(NAME_POOL, *index, name);
    }
    for (id, ordinal) in &indexes.backends {
        add(NAME_BACKEND, indexes.pools[&id.pool] * POOL_STRIDE + ordinal, &id.name);
    }
    for service in &config.services {
        for listener in &service.listen {
            let index = indexes.listeners[listener];
            add(NAME_LISTENER, index, &listener.to_string());
            add(NAME_LISTENER_POOL, index, &service.pool);
        }
    }
    retired(endpoints, held, &mut names);
    names
}

fn retired(
    endpoints: &BTreeMap<u32, Endpoint>,
    held: &Held<'_>,
    names: &mut BTreeMap<NameKey, String>,
) {
    let keep = |names: &mut BTreeMap<NameKey, String>, kind: u32, index: u32| {
        if names.contains_key(&NameKey { kind, index }) {
            return;
        }
        if let Some(name) = held.registry.name(kind, index) {
            // What a listener's pool is called is told by the listener's own entry.
            let mark = if kind == NAME_LISTENER_POOL { 0 } else { NAME_RETIRED };
            names.insert(NameKey { kind: kind | mark, index }, name.to_owned());
        }
    };
    for (index, endpoint) in endpoints {
        let (listener, ordinal) = (index / POOL_STRIDE, index % POOL_STRIDE);
        keep(names, NAME_TENANT, endpoint.tenant.into());
        keep(names, NAME_SERVICE, endpoint.service.into());
        keep(names, NAME_LISTENER, listener);
        keep(names, NAME_LISTENER_POOL, listener);
        let of_pool = names.get(&NameKey { kind: NAME_LISTENER_POOL, index: listener });
        // The index may have been let go of and be another listener's from now on.
        let same = of_pool.map(String::as_str) == held.registry.name(NAME_LISTENER_POOL, listener);
        if let (true, Some(pool)) = (same, held.registry.listener_pool(listener)) {
            keep(names, NAME_POOL, pool);
            keep(names, NAME_BACKEND, pool * POOL_STRIDE + ordinal);
        }
    }
}

/// Where a listener's packets go on a backend, if it serves the listener's family.
pub(super) fn target(pool: &Pool, backend: &Backend, listener: &Listener) -> Option<(IpAddr, u16)> {
    let address = pool.address_for(backend, listener.family())?;
    Some((address, target_port(pool, backend, listener.port)))
}

/// The same of the port alone, with the listener's.
fn target_port(pool: &Pool, backend: &Backend, listener: u16) -> u16 {
    match (pool.mode, &pool.tunnel) {
        (Mode::Nat, _) => backend.port.unwrap_or(listener),
        (_, Some(tunnel)) => tunnel.port.unwrap_or(listener),
        (_, None) => listener,
    }
}

/// How packets reach a pool's backends, as the tables have it.
pub(super) fn encapsulation(pool: &Pool) -> Encapsulation {
    match (pool.mode, pool.tunnel.map(|tunnel| tunnel.encapsulation)) {
        (Mode::Nat, _) => Encapsulation::Nat,
        (Mode::Tunnel, Some(config::Encapsulation::Gue)) => Encapsulation::Gue,
        (Mode::Tunnel, _) => Encapsulation::IpIp,
        (Mode::Dsr, _) => Encapsulation::None,
    }
}
