//! What indexes of old tables are in new ones.

use std::collections::{BTreeMap, HashMap};

use dataplane::abi::{
    Endpoint, NAME_BACKEND, NAME_LISTENER, NAME_LISTENER_POOL, NAME_POOL, NAME_RETIRED,
    NAME_TENANT, NameKey, Profile, SERVICE_TCP, service_index,
};
use dataplane::table::carry::Session;

use crate::config::{BackendId, Family};
use crate::loader::Old;
use crate::model::{HealthView, Registry, Status, Wanted};

/// An endpoint of the new tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Target {
    index: u16,
    service: u16,
    tenant: u32,
    control: bool,
}

impl Target {
    fn of(index: u32, row: &Endpoint) -> Self {
        // Of IKE and ESP the ids of answers are their associations', too.
        let control = row.profile == Profile::Ike as u8 || row.profile == Profile::Ipsec as u8;
        let (service, tenant) = (service_index(row.service), row.tenant.into());
        Self { index: index as u16, service, tenant, control }
    }
}

/// From indexes of old tables to those of new ones: the same name is the same thing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Translation {
    endpoints: HashMap<u32, Target>,
    /// Tenants: old index, new index.
    pub(super) tenants: Vec<(u32, u32)>,
}

impl Translation {
    /// Into tables that hold this, and in which every index is what it was.
    pub(crate) fn same(held: &Wanted) -> Self {
        let endpoints = held.endpoints.iter().map(|(index, row)| (*index, Target::of(*index, row)));
        Self {
            endpoints: endpoints.collect(),
            tenants: held.tenants.keys().map(|index| (*index, *index)).collect(),
        }
    }

    /// Into tables that hold this, by names. What is no longer configured is left out.
    pub(crate) fn by_names(old: &Old, held: &Wanted) -> Self {
        let names = Names::of(old);
        let registry = Registry::of(held);
        let mut there = HashMap::new();
        for (index, row) in &held.endpoints {
            if let Some(names) = registry.endpoint(*index) {
                there.insert(
                    (names.listener, names.backend),
                    (Target::of(*index, row), names.service),
                );
            }
        }
        let endpoints = names.endpoints().into_iter().filter_map(|(index, listener, backend)| {
            let (target, _) = there.get(&(listener.to_owned(), backend))?;
            Some((index, *target))
        });
        let tenants = names
            .live(NAME_TENANT)
            .filter_map(|(old, name)| Some((old, registry.index(NAME_TENANT, name)?)));
        Self { endpoints: endpoints.collect(), tenants: tenants.collect() }
    }

    /// A session of the old tables as one of the new ones, with its tenant; `None` if it is of nothing that these have.
    pub(super) fn session(&self, old: &Session) -> Option<(Session, u32)> {
        let target = self.endpoints.get(&old.endpoint.into())?;
        let mut session = Session { endpoint: target.index, control: target.control, ..*old };
        session.flow.service = target.service | old.flow.service & SERVICE_TCP;
        Some((session, target.tenant))
    }
}

/// The names that other tables have, so that everything gets the index there that it has here.
pub(crate) fn kept_names(old: &Old) -> impl Iterator<Item = (NameKey, &str)> {
    let live = old.names().iter().filter(|(key, _)| key.kind & NAME_RETIRED == 0);
    // Without the same stride a backend's index is another one.
    let stays = |key: &NameKey| {
        key.kind != NAME_BACKEND || old.pool_stride() == dataplane::abi::POOL_STRIDE
    };
    live.filter(move |(key, _)| stays(key)).map(|(key, name)| (*key, name.as_str()))
}

/// Which backends other tables call dead, at which of their addresses.
pub(crate) fn health(old: &Old) -> HealthView {
    let names = Names::of(old);
    let backends: HashMap<u32, BackendId> =
        names.endpoints().into_iter().map(|(index, _, backend)| (index, backend)).collect();
    let mut health = HealthView::new();
    for (index, address) in old.dead_endpoints() {
        if let Some(backend) = backends.get(&index) {
            let family = Family::of(address.into());
            health.entry(backend.clone()).or_default().set(family, Status::Down);
        }
    }
    health
}

/// What indexes of old tables mean.
struct Names<'a> {
    names: &'a BTreeMap<NameKey, String>,
    stride: u32,
}

impl<'a> Names<'a> {
    fn of(old: &'a Old) -> Self {
        Self { names: old.names(), stride: old.pool_stride() }
    }

    fn live(&self, kind: u32) -> impl Iterator<Item = (u32, &'a str)> + use<'a> {
        let range = NameKey { kind, index: 0 }..=NameKey { kind, index: u32::MAX };
        self.names.range(range).map(|(key, name)| (key.index, name.as_str()))
    }

    /// All endpoints of what is configured: index, listener, backend.
    fn endpoints(&self) -> Vec<(u32, &'a str, BackendId)> {
        let mut pools: HashMap<&str, u32> = HashMap::new();
        pools.extend(self.live(NAME_POOL).map(|(index, name)| (name, index)));
        let backends: Vec<(u32, &str)> = self.live(NAME_BACKEND).collect();
        let mut all = Vec::new();
        for (listener, name) in self.live(NAME_LISTENER) {
            let key = NameKey { kind: NAME_LISTENER_POOL, index: listener };
            let Some(pool_name) = self.names.get(&key) else { continue };
            let Some(pool) = pools.get(pool_name.as_str()) else { continue };
            let first = pool * self.stride;
            let of_pool =
                backends.iter().filter(|(place, _)| place.wrapping_sub(first) < self.stride);
            all.extend(of_pool.map(|(place, backend)| {
                let index = listener * self.stride + (place - first);
                (index, name, BackendId::new(pool_name, backend))
            }));
        }
        all
    }
}
