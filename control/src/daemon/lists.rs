//! Lists that may be long: a row at a time, so that who reads one slowly costs little memory.

use std::net::IpAddr;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use super::handle::Refusal;
use super::links::LinkNames;
use super::published::{EndpointInfo, Published, find_backend, not_found, row, unknown};
use super::view;
use crate::clock::Clock;
use crate::config::BackendId;
use crate::model::Prefix;
use crate::sessions::{Reader, Walk};

/// So many sessions are looked at for one row.
const MOST: usize = 1024;

/// The sessions of a filter, each as it is when its turn comes; nothing where none was found among many, so that others get their turn.
pub struct SessionRows {
    published: Arc<Published>,
    filter: view::SessionFilter,
    /// How many more are asked for.
    more: usize,
    backend: Option<BackendId>,
    walk: Walk,
    unknown: EndpointInfo,
}

impl SessionRows {
    /// Finds where the sessions are.
    ///
    /// # Errors
    /// The filter names what does not exist.
    pub(super) fn new(
        published: Arc<Published>,
        filter: view::SessionFilter,
    ) -> Result<Self, Refusal> {
        let config = &published.config;
        if let Some(name) = filter.tenant.as_ref().filter(|name| config.tenant(name).is_none()) {
            let all = config.tenants.iter().map(|t| t.name.clone()).collect();
            return Err(not_found("tenant", name, all));
        }
        if let Some(name) = filter.service.as_ref().filter(|name| config.service(name).is_none()) {
            let all = config.services.iter().map(|s| s.name.clone()).collect();
            return Err(not_found("service", name, all));
        }
        let backend = filter.backend.as_ref().map(|name| find_backend(config, name)).transpose()?;
        let walk = Walk::new(Reader::new(&*published.tables));
        let more = filter.limit.unwrap_or(usize::MAX);
        Ok(Self { published, filter, more, backend, walk, unknown: unknown() })
    }
}

impl Iterator for SessionRows {
    type Item = Option<view::Session>;

    fn next(&mut self) -> Option<Option<view::Session>> {
        for _ in 0..MOST {
            if self.more == 0 {
                return None;
            }
            let Some(session) = self.walk.next(Reader::new(&*self.published.tables))? else {
                break;
            };
            let endpoints = &self.published.endpoints;
            let info = endpoints.get(&session.endpoint).unwrap_or(&self.unknown);
            let (filter, names) = (&self.filter, &info.names);
            let is_wanted = filter.tenant.as_ref().is_none_or(|name| *name == names.tenant)
                && filter.service.as_ref().is_none_or(|name| *name == names.service)
                && self.backend.as_ref().is_none_or(|id| *id == names.backend)
                && filter.client.is_none_or(|address: IpAddr| address == session.client.ip());
            if is_wanted {
                self.more -= 1;
                return Some(Some(row(&session, info, &Clock::now())));
            }
        }
        Some(None)
    }
}

/// All routes, as they were when the list was asked for.
pub struct RouteRows {
    published: Arc<Published>,
    last: Option<Prefix>,
    links: LinkNames,
}

impl RouteRows {
    pub(super) fn new(published: Arc<Published>) -> Self {
        Self { published, last: None, links: LinkNames::default() }
    }
}

impl Iterator for RouteRows {
    type Item = Option<view::Route>;

    fn next(&mut self) -> Option<Option<view::Route>> {
        let view = &self.published.routes;
        let after = self.last.map_or(Unbounded, Excluded);
        let (prefix, key) = view.routes.range((after, Unbounded)).next()?;
        self.last = Some(*prefix);
        Some(Some(view::Route {
            prefix: format!("{}/{}", prefix.address, prefix.length),
            via: key.neighbour.to_string(),
            interface: self.links.name(key.interface),
            resolved: view.hops.get(key).is_some_and(|hop| hop.resolved),
        }))
    }
}
