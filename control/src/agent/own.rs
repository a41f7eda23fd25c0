//! Which backend this machine is.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use dataplane::abi::{AddressKey, REPORT_PORT};
use dataplane::watch::Service;

use super::AgentError;
use crate::config::{BackendId, Config};

/// The backend, its sockets to gateways, and what it serves.
#[derive(Debug)]
pub(super) struct Own {
    name: String,
    sockets: Vec<UdpSocket>,
    services: Vec<(AddressKey, Service)>,
}

impl Own {
    /// The backend with an address of this machine's, among those whose pools have agents.
    pub(super) fn find(config: &Config, own: &BTreeSet<IpAddr>) -> Result<Self, AgentError> {
        let backends: Vec<_> = config.backends().filter(|(_, pool, _)| pool.agent).collect();
        if backends.is_empty() {
            return Err(AgentError::NoPool);
        }
        let mut looked_for = Vec::new();
        for (id, pool, backend) in backends {
            let addresses = [Some(backend.address), backend.address6.map(IpAddr::V6)];
            let mut sockets = Vec::new();
            for address in addresses.into_iter().flatten() {
                looked_for.push(address.to_string());
                // That it can be bound to says nothing: others can, too, with `net.ipv4.ip_nonlocal_bind`.
                if !own.contains(&address) {
                    continue;
                }
                match UdpSocket::bind(SocketAddr::new(address, REPORT_PORT)) {
                    Ok(socket) => sockets.push(socket),
                    // It was its own just now.
                    Err(e) if e.kind() == io::ErrorKind::AddrNotAvailable => {}
                    Err(source) => return Err(AgentError::Port { address, source }),
                }
            }
            if !sockets.is_empty() {
                for socket in &sockets {
                    // A gateway that is away must not keep another waiting.
                    let _ = socket.set_nonblocking(true);
                }
                let name = BackendId::to_string(&id);
                return Ok(Self { name, sockets, services: services(config, &pool.name) });
            }
        }
        Err(AgentError::NotABackend { addresses: looked_for.join(", ") })
    }

    /// `POOL/NAME`.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// What reports to a gateway are sent from.
    pub(super) fn socket(&self, gateway: IpAddr) -> Option<&UdpSocket> {
        let is_of_family = |socket: &&UdpSocket| {
            socket.local_addr().is_ok_and(|own| own.is_ipv4() == gateway.is_ipv4())
        };
        self.sockets.iter().find(is_of_family)
    }

    /// The listeners of its pool's services.
    pub(super) fn services(&self) -> &[(AddressKey, Service)] {
        &self.services
    }
}

fn services(config: &Config, pool: &str) -> Vec<(AddressKey, Service)> {
    let own = config.services.iter().filter(|service| service.pool == pool);
    let listeners = own.flat_map(|service| service.listen.iter().map(move |l| (service, l)));
    listeners
        .zip(0..)
        .map(|((service, listener), number)| {
            let key = AddressKey {
                address: listener.address.into(),
                port: listener.port.to_be(),
                protocol: listener.protocol.number(),
                zero: 0,
            };
            (key, Service::new(service.profile.of_listener(listener), number))
        })
        .collect()
}
