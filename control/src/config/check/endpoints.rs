//! A backend's endpoint (address, port, protocol) belongs to one listener:
//! an answer from it would otherwise have two ways back. Where answers do not come back, there is none to be told apart.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;

use super::{called, placed};
use crate::config::draft::{Draft, DraftBackend, DraftPool, DraftService};
use crate::config::finding::Findings;
use crate::config::reader::Field;
use crate::config::{Family, Listener, Protocol};

/// Whose an endpoint is.
#[derive(Clone)]
struct Owner<'a> {
    service: &'a DraftService,
    pool: &'a DraftPool,
    backend: &'a DraftBackend,
    listener: Listener,
    place: Range<usize>,
}

impl Owner<'_> {
    /// What would be the same mistake again: said once.
    fn quarrel(&self, other: &Self) -> (Range<usize>, Range<usize>) {
        if std::ptr::eq(self.pool, other.pool) && std::ptr::eq(self.backend, other.backend) {
            (self.service.span.clone(), other.service.span.clone())
        } else {
            (self.backend.span.clone(), other.backend.span.clone())
        }
    }
}

pub(super) fn check(draft: &Draft, out: &mut Findings) {
    let mut owners: BTreeMap<(SocketAddr, Protocol), Owner<'_>> = BTreeMap::new();
    let mut told = Vec::new();
    for (service, pool) in placed(draft).filter(|(_, pool)| !pool.is_direct()) {
        for listener in &service.listen {
            let place = listener.span();
            let listener = *listener.get_ref();
            for backend in &pool.backends {
                let Some(endpoint) = endpoint(backend, listener) else { continue };
                let owner = Owner { service, pool, backend, listener, place: place.clone() };
                let key = (endpoint, listener.protocol);
                let Some(first) = owners.get(&key) else {
                    owners.insert(key, owner);
                    continue;
                };
                let quarrel = owner.quarrel(first);
                // The same listener twice is `listeners`' to tell.
                let same =
                    owner.backend.span == first.backend.span && owner.listener == first.listener;
                if !same && !told.contains(&quarrel) {
                    told.push(quarrel);
                    complain(endpoint, first, &owner, out);
                }
            }
        }
    }
}

/// Where a listener's packets go on a backend, if both are known.
fn endpoint(backend: &DraftBackend, listener: Listener) -> Option<SocketAddr> {
    let family = listener.family();
    let of = |field: &Field<IpAddr>| {
        field.as_ref().map(|field| *field.get_ref()).filter(|ip| Family::of(*ip) == family)
    };
    let address = of(&backend.address).or_else(|| of(&backend.address6))?;
    let port = backend.port.as_ref().ok()?.as_ref().map_or(listener.port, |port| *port.get_ref());
    Some(SocketAddr::new(address, port))
}

fn complain(endpoint: SocketAddr, first: &Owner<'_>, second: &Owner<'_>, out: &mut Findings) {
    let backend =
        |owner: &Owner<'_>| format!("{}/{}", called(&owner.pool.name), called(&owner.backend.name));
    let why = "answers from it could not be told apart";
    if !std::ptr::eq(first.backend, second.backend) {
        let place =
            second.backend.address.as_ref().map_or(second.backend.span.clone(), |f| f.span());
        let other = first.backend.address.as_ref().map_or(first.backend.span.clone(), |f| f.span());
        let message = format!(
            "backends `{}` and `{}` are the same endpoint {endpoint}",
            backend(first),
            backend(second)
        );
        out.error(place, message)
            .also(other, "the other")
            .help(format!("{why}: give one another address or port"));
    } else if std::ptr::eq(first.service, second.service) {
        let message = format!(
            "{} and {} both lead to {endpoint} on backend `{}`",
            first.listener,
            second.listener,
            backend(first)
        );
        let help = if first.listener.port == second.listener.port {
            "give the listeners different ports, or make a second service with a pool of its own"
        } else {
            "leave the backends' `port` out, so that each listener keeps its own"
        };
        out.error(second.place.clone(), message)
            .also(first.place.clone(), "the other listener")
            .help(format!("{why}: {help}"));
    } else {
        let message = format!(
            "services `{}` and `{}` both lead to {endpoint} on backend `{}`",
            called(&first.service.name),
            called(&second.service.name),
            backend(first)
        );
        out.error(second.place.clone(), message)
            .also(first.place.clone(), "the other service")
            .help(format!("{why}: give each service its own port, or a pool of its own"));
    }
}
