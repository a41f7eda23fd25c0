//! Probes go to the services' port where none is configured for them: there must be one, and one alone.

use super::{called, placed};
use crate::config::draft::Draft;
use crate::config::finding::Findings;
use crate::config::health::service_port;
use crate::config::{Health, Probe, Protocol};

pub(super) fn check(draft: &Draft, out: &mut Findings) {
    for pool in &draft.pools {
        let Some(health) = &pool.health else { continue };
        let Health::Probed(probing) = health.get_ref() else { continue };
        let (Some(protocol), None) = (probing.probe.protocol(), probing.probe.port()) else {
            continue;
        };
        let mut services = placed(draft).filter(|(_, of)| std::ptr::eq(*of, pool)).peekable();
        // Where nothing is known of a service, or what it listens on was wrong, that is told elsewhere.
        if services.peek().is_none()
            || services.clone().any(|(service, _)| service.listen.is_empty())
            || pool.backends.iter().all(|backend| !matches!(backend.port, Ok(None)))
        {
            continue;
        }
        let listeners = services
            .flat_map(|(service, _)| service.listen.iter().map(|listener| *listener.get_ref()));
        let mut ports = listeners.filter(|l| l.protocol == protocol).map(|l| l.port).peekable();
        let name = probing.probe.as_str();
        let message = if ports.peek().is_none() {
            format!(
                "pool `{}` has no service of {} whose port the {name} probe could take",
                called(&pool.name),
                if protocol == Protocol::Udp { "UDP" } else { "TCP" },
            )
        } else if service_port(ports, matches!(probing.probe, Probe::Ike(_))).is_none() {
            format!(
                "the services of pool `{}` have several ports for the {name} probe",
                called(&pool.name)
            )
        } else {
            continue;
        };
        out.error(health.span(), message)
            .help("write which one is asked: `port = NUMBER`")
            .absence();
    }
}
