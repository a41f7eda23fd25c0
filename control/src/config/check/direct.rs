//! Pools whose backends answer their clients by themselves: what does not go with that.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Range;
use std::time::Duration;

use super::{called, placed};
use crate::config::draft::{Draft, DraftPool};
use crate::config::finding::Findings;
use crate::config::{Family, Mode};

/// The longest silence that the tables tell from a shorter one: `Hint::OLDEST`, a little less.
const LONGEST: Duration = Duration::from_secs(4 * 3600);

pub(super) fn check(draft: &Draft, out: &mut Findings) {
    for pool in draft.pools.iter().filter(|pool| pool.is_direct()) {
        backends(pool, out);
        sources(pool, out);
        if pool.idle_timeout.is_some_and(|idle| idle > LONGEST) {
            let message = format!("`idle_timeout` is too long for mode `{}`", mode(pool));
            out.error(pool.span.clone(), message).help("it may be up to 4h there");
        }
    }
    agents(draft, out);
    for (service, pool) in placed(draft).filter(|(_, pool)| pool.is_direct()) {
        if let Some(mss) = &service.tcp_mss {
            let message = format!(
                "`tcp_mss` cannot lower what servers say: pool `{}` is in mode `{}`, and their answers go another way",
                called(&pool.name),
                mode(pool)
            );
            out.error(mss.span(), message)
                .help("leave it out, and lower it on the backends: `ip route … advmss NUMBER`");
        }
    }
}

fn mode(pool: &DraftPool) -> &'static str {
    pool.mode.map_or("?", Mode::as_str)
}

/// An agent is known by its machine's address: of two backends there nobody could tell which it means.
fn agents(draft: &Draft, out: &mut Findings) {
    let mut seen: BTreeMap<IpAddr, Range<usize>> = BTreeMap::new();
    for pool in draft.pools.iter().filter(|pool| pool.agent) {
        for backend in &pool.backends {
            for address in [&backend.address, &backend.address6].into_iter().flatten() {
                if let Some(first) = seen.insert(*address.get_ref(), address.span()) {
                    let message = format!(
                        "the agent at {} cannot be that of two backends",
                        address.get_ref()
                    );
                    out.error(address.span(), message).also(first, "the first").help(
                        "services that the machine has in common can share a pool; else give it another address",
                    );
                }
            }
        }
    }
}

/// What the gateway can only do where it sees the answers.
fn backends(pool: &DraftPool, out: &mut Findings) {
    for backend in &pool.backends {
        let name = called(&backend.name);
        if let Ok(Some(port)) = &backend.port {
            let message =
                format!("in mode `{}` packets keep the port that clients dial", mode(pool));
            out.error(port.span(), message)
                .help(format!("leave `port` out: backend `{name}` listens on the service's"));
        }
        if let Some(most) = backend.max_sessions.as_ref().filter(|_| !pool.agent) {
            let message = format!(
                "in mode `{}` without agents backend `{name}`'s sessions are not counted",
                mode(pool)
            );
            out.error(most.span(), message)
                .help("leave `max_sessions` out and use `weight`, or run agents: `agent = true`");
        }
    }
}

/// A tunnel to an address comes from one of its family.
fn sources(pool: &DraftPool, out: &mut Findings) {
    let Some(tunnel) = &pool.tunnel else { return };
    let mut needed = BTreeSet::new();
    for backend in &pool.backends {
        for address in [&backend.address, &backend.address6].into_iter().flatten() {
            let family = Family::of(*address.get_ref());
            let source = match family {
                Family::V4 => &tunnel.source,
                Family::V6 => &tunnel.source6,
            };
            if source.is_none() && !tunnel.unread && needed.insert(family) {
                let key = match family {
                    Family::V4 => "source",
                    Family::V6 => "source6",
                };
                let message =
                    format!("the tunnel to {} has no {family} address", address.get_ref());
                out.error(tunnel.span.clone(), message)
                    .also(address.span(), "the backend")
                    .help(format!("write `{key}`: an address of the gateway's"));
            }
        }
    }
    let own = [&tunnel.source, &tunnel.source6].into_iter().flatten();
    let is_own = |ip: &IpAddr| own.clone().find(|source| source.get_ref() == ip);
    for backend in &pool.backends {
        for address in [&backend.address, &backend.address6].into_iter().flatten() {
            if let Some(source) = is_own(address.get_ref()) {
                let message = format!("{} is both ends of the tunnel", address.get_ref());
                out.error(address.span(), message)
                    .also(source.span(), "the gateway's end")
                    .help("write the backend's own address");
            }
        }
    }
}
