//! A listener belongs to one service, and is nobody's backend.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Range;

use super::{called, placed};
use crate::config::draft::Draft;
use crate::config::finding::Findings;
use crate::config::types::IKE_PORT;
use crate::config::{Affinity, Family, Listener, Profile, Protocol};

pub(super) fn check(draft: &Draft, out: &mut Findings) {
    let mut seen: BTreeMap<Listener, (Range<usize>, &str)> = BTreeMap::new();
    let mut vips: BTreeMap<IpAddr, (Range<usize>, &str)> = BTreeMap::new();
    for service in &draft.services {
        let name = called(&service.name);
        for listener in &service.listen {
            let here = (listener.span(), name);
            vips.entry(listener.get_ref().address).or_insert_with(|| here.clone());
            if let Some((first, other)) = seen.insert(*listener.get_ref(), here) {
                let listener_text = listener.get_ref();
                let message = if other == name {
                    format!("{listener_text} is listed twice")
                } else {
                    format!("services `{other}` and `{name}` both listen on {listener_text}")
                };
                out.error(listener.span(), message)
                    .also(first, "first here")
                    .help("a listener belongs to one service: change the address or the port");
            }
        }
    }
    not_backends(draft, &vips, out);
    protocols(draft, out);
    ipsec(draft, out);
    affinity(draft, out);
    mss(draft, out);
    families(draft, out);
}

/// The profile `tcp` knows nothing of datagrams. The others are of datagrams, and their services may have TCP
/// listeners beside.
fn protocols(draft: &Draft, out: &mut Findings) {
    for service in draft.services.iter().filter(|s| s.profile == Some(Profile::Tcp)) {
        for listener in service.listen.iter().filter(|l| l.get_ref().protocol == Protocol::Udp) {
            let message = format!("profile `tcp` cannot have the listener {}", listener.get_ref());
            out.error(listener.span(), message).help(
                "write `profile = \"udp\"`, or the datagrams' own: TCP listeners of a service are TCP whatever its profile is",
            );
        }
    }
}

/// IKE begins at port 500, and goes on at another one together with ESP.
fn ipsec(draft: &Draft, out: &mut Findings) {
    for service in draft.services.iter().filter(|s| s.profile == Some(Profile::Ipsec)) {
        let datagrams = || service.listen.iter().filter(|l| l.get_ref().protocol == Protocol::Udp);
        for listener in datagrams() {
            let Listener { address, port, .. } = *listener.get_ref();
            let is_first = port == IKE_PORT;
            let has_other = datagrams().any(|other| {
                other.get_ref().address == address && (other.get_ref().port == IKE_PORT) != is_first
            });
            if has_other {
                continue;
            }
            let (message, missing) = if is_first {
                ("clients go on at port 4500, where nobody listens", 4500)
            } else {
                ("clients begin at port 500, where nobody listens", 500)
            };
            let other = Listener { port: missing, ..*listener.get_ref() };
            out.warn(listener.span(), message).help(format!("add the listener \"{other}\""));
        }
    }
}

/// Only TCP has segments.
fn mss(draft: &Draft, out: &mut Findings) {
    for service in &draft.services {
        let has_tcp = service.listen.iter().any(|l| l.get_ref().protocol == Protocol::Tcp);
        if let Some(mss) = &service.tcp_mss
            && !has_tcp
            && !service.listen.is_empty()
        {
            out.error(mss.span(), "the service has no TCP listener that `tcp_mss` could be of")
                .help("leave it out, or add a listener: `\"ADDRESS:443/tcp\"`");
        }
    }
}

/// What belongs together must not be placed by ports.
fn affinity(draft: &Draft, out: &mut Findings) {
    for service in &draft.services {
        let Some(affinity) = &service.affinity else { continue };
        if *affinity.get_ref() == Affinity::Source {
            continue;
        }
        let has = |protocol| service.listen.iter().any(|l| l.get_ref().protocol == protocol);
        let help = "write `affinity = \"source\"`, or leave it out";
        if service.profile == Some(Profile::Ipsec) {
            let message =
                "profile `ipsec` cannot have the affinity `flow`: a client goes on at another port";
            out.error(affinity.span(), message).help(help);
        } else if has(Protocol::Tcp) && has(Protocol::Udp) {
            let message = "TCP and UDP of a client may be on different backends";
            out.warn(affinity.span(), message).help(help);
        }
    }
}

fn not_backends(draft: &Draft, vips: &BTreeMap<IpAddr, (Range<usize>, &str)>, out: &mut Findings) {
    let backends = draft.pools.iter().flat_map(|pool| &pool.backends);
    for address in backends.flat_map(|backend| [&backend.address, &backend.address6]).flatten() {
        if let Some((vip, service)) = vips.get(address.get_ref()) {
            let message = format!("backend address {} is a service's own", address.get_ref());
            out.error(address.span(), message)
                .also(vip.clone(), format!("service `{service}` listens on it"))
                .help("write the concentrator's own address");
        }
    }
}

/// A listener needs a backend with an address of its family where addresses are
/// rewritten: families are not translated.
fn families(draft: &Draft, out: &mut Findings) {
    for (service, pool) in placed(draft).filter(|(_, pool)| !pool.is_direct()) {
        for listener in &service.listen {
            let family = listener.get_ref().family();
            let has = |address: &IpAddr| Family::of(*address) == family;
            let mut known = true;
            let mut lacking = Vec::new();
            for backend in &pool.backends {
                known &= backend.address.is_some() && !backend.unread6;
                let addresses = [&backend.address, &backend.address6];
                if !addresses.into_iter().flatten().any(|field| has(field.get_ref())) {
                    lacking.push(backend);
                }
            }
            let all = lacking.len() == pool.backends.len();
            if !known || pool.backends.is_empty() || lacking.is_empty() {
                continue;
            }
            let pool_name = called(&pool.name);
            let key = match family {
                Family::V4 => "address",
                Family::V6 => "address6",
            };
            if all {
                let message =
                    format!("pool `{pool_name}` has no {family} address for this listener");
                out.error(listener.span(), message).also(pool.span.clone(), "the pool").help(
                    format!("give its backends an {family} `{key}`, or leave the listener out"),
                );
            } else if let Some(first) = lacking.first() {
                let names: Vec<_> = lacking.iter().map(|backend| called(&backend.name)).collect();
                let message = format!(
                    "clients of {} never reach {}, which has no {family} address",
                    listener.get_ref(),
                    names.join(", ")
                );
                out.warn(first.span.clone(), message).help(format!("add an {family} `{key}`"));
            }
        }
    }
}
