//! What an index of the tables means.
//!
//! Indexes are kept for as long as a session may refer to them: across reloads, and
//! across restarts of the daemon, because what they mean is written in the
//! tables. A name that is no longer configured is *retired*: its index is not given
//! to another until nothing refers to it.

use std::collections::{BTreeMap, BTreeSet};

use dataplane::abi::{
    ENDPOINT_DIRECT, ENDPOINT_LIVE, Endpoint, KIND_ENDPOINT, NAME_BACKEND, NAME_LISTENER,
    NAME_LISTENER_POOL, NAME_POOL, NAME_RETIRED, NAME_SERVICE, NAME_TENANT, NameKey, POOL_STRIDE,
};

use super::{HealthView, Status, Wanted};
use crate::config::{BackendId, Family};

/// What the tables say about the meaning of indexes.
#[derive(Clone, Copy, Debug)]
pub struct Registry<'a> {
    tables: &'a Wanted,
}

/// Who an endpoint is. A name that the tables do not have is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointNames {
    /// The tenant's name.
    pub tenant: String,
    /// The service's name.
    pub service: String,
    /// The pool and the backend.
    pub backend: BackendId,
    /// The listener: `address:port/protocol`.
    pub listener: String,
}

impl<'a> Registry<'a> {
    /// The registry that these tables hold.
    pub fn of(tables: &'a Wanted) -> Self {
        Self { tables }
    }

    /// The name of an index, whether live or retired. `kind` is one of the
    /// `NAME_` constants of the ABI.
    pub fn name(&self, kind: u32, index: u32) -> Option<&'a str> {
        let look = |kind| self.tables.names.get(&NameKey { kind, index });
        look(kind).or_else(|| look(kind | NAME_RETIRED)).map(String::as_str)
    }

    /// The index of a live name. Not for backends, whose names are unique only
    /// in their pool.
    pub fn index(&self, kind: u32, name: &str) -> Option<u32> {
        self.live(kind).find(|(_, found)| *found == name).map(|(index, _)| index)
    }

    /// All live names of a kind, by index.
    pub fn live(&self, kind: u32) -> impl Iterator<Item = (u32, &'a str)> + use<'a> {
        self.of_kind(kind)
    }

    /// All retired names of a kind, by index.
    pub fn retired_names(&self, kind: u32) -> impl Iterator<Item = (u32, &'a str)> + use<'a> {
        self.of_kind(kind | NAME_RETIRED)
    }

    fn of_kind(&self, kind: u32) -> impl Iterator<Item = (u32, &'a str)> + use<'a> {
        let range = NameKey { kind, index: 0 }..=NameKey { kind, index: u32::MAX };
        self.tables.names.range(range).map(|(key, name)| (key.index, name.as_str()))
    }

    /// The index of the pool that a listener places on.
    pub fn listener_pool(&self, listener: u32) -> Option<u32> {
        let name = self.name(NAME_LISTENER_POOL, listener)?;
        let retired = || self.retired_names(NAME_POOL).find(|(_, found)| *found == name);
        self.index(NAME_POOL, name).or_else(|| retired().map(|(index, _)| index))
    }

    /// Who an endpoint is, live or retired; `None` if there is no such endpoint.
    pub fn endpoint(&self, index: u32) -> Option<EndpointNames> {
        let row = self.tables.endpoints.get(&index)?;
        let (listener, ordinal) = (index / POOL_STRIDE, index % POOL_STRIDE);
        let backend = self
            .listener_pool(listener)
            .and_then(|pool| self.name(NAME_BACKEND, pool * POOL_STRIDE + ordinal));
        let text = |name: Option<&str>| name.unwrap_or_default().to_owned();
        Some(EndpointNames {
            tenant: text(self.name(NAME_TENANT, row.tenant.into())),
            service: text(self.name(NAME_SERVICE, row.service.into())),
            backend: BackendId {
                pool: text(self.name(NAME_LISTENER_POOL, listener)),
                name: text(backend),
            },
            listener: text(self.name(NAME_LISTENER, listener)),
        })
    }

    /// The endpoints of a backend, live and retired.
    pub fn endpoints_of(&self, id: &BackendId) -> BTreeSet<u32> {
        let same = |index: &u32| self.endpoint(*index).is_some_and(|names| names.backend == *id);
        self.tables.endpoints.keys().copied().filter(same).collect()
    }

    /// Endpoints that the directory no longer leads to (of those that answer by themselves it never does, and they have lost
    /// their flags): no session comes to them
    /// any more, those they have must be ended, and when no slot refers to
    /// them (slots in quarantine included), by a scan that began after they were retired,
    /// they go into [`Inputs::released`](super::Inputs::released).
    pub fn retired(&self) -> BTreeSet<u32> {
        let live: BTreeSet<_> = self
            .tables
            .directory
            .values()
            .filter(|entry| entry.kind == KIND_ENDPOINT)
            .map(|entry| entry.index)
            .collect();
        let is_retired = |(index, row): &(&u32, &Endpoint)| {
            !live.contains(index) && row.flags & ENDPOINT_DIRECT == 0
        };
        self.tables.endpoints.iter().filter(is_retired).map(|(index, _)| *index).collect()
    }

    /// Endpoints whose sessions must be ended: of backends that were declared
    /// dead, and retired ones.
    pub fn not_live(&self) -> BTreeSet<u32> {
        let dead = |endpoint: &Endpoint| endpoint.flags & ENDPOINT_LIVE == 0;
        self.tables.endpoints.iter().filter(|(_, row)| dead(row)).map(|(index, _)| *index).collect()
    }

    /// What the tables say of the health of backends: which of them were declared dead, and
    /// at which of their addresses. Retired endpoints say nothing of the backend of that name.
    pub fn health(&self) -> HealthView {
        let mut health = HealthView::new();
        for index in self.not_live().difference(&self.retired()) {
            if let (Some(row), Some(names)) =
                (self.tables.endpoints.get(index), self.endpoint(*index))
            {
                let family = Family::of(row.backend.into());
                health.entry(names.backend).or_default().set(family, Status::Down);
            }
        }
        health
    }

    /// All endpoints of a listener.
    pub(super) fn block(
        &self,
        listener: u32,
    ) -> impl Iterator<Item = (u32, &'a Endpoint)> + use<'a> {
        let first = listener * POOL_STRIDE;
        self.tables
            .endpoints
            .range(first..first + POOL_STRIDE)
            .map(|(index, endpoint)| (*index, endpoint))
    }

    /// All names of a kind, live ones first.
    pub(super) fn all(&self, kind: u32) -> BTreeMap<u32, (&'a str, bool)> {
        let mut all: BTreeMap<_, _> =
            self.retired_names(kind).map(|(index, name)| (index, (name, false))).collect();
        all.extend(self.live(kind).map(|(index, name)| (index, (name, true))));
        all
    }
}
