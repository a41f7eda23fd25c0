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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::addresses;
    use crate::routing::netns::Namespace;

    const CONFIG: &str = r#"
[gateway]
interfaces = ["eth0"]
[[tenant]]
name = "t"
max_sessions = 9
[[service]]
name = "s"
tenant = "t"
profile = "udp"
listen = ["203.0.113.1:1/udp"]
pool = "p"
[[pool]]
name = "p"
mode = "dsr"
agent = true
backend = [{ name = "first", address = "10.0.0.1" }, { name = "second", address = "10.0.0.2", address6 = "fd00::2" }]
"#;

    #[test]
    fn a_machine_is_the_backend_whose_addresses_it_has_also_where_it_may_bind_to_others() {
        let config = Config::parse(CONFIG, "test").unwrap_or_else(|e| panic!("{e}"));
        let namespace = Namespace::new();
        namespace.ip("address add 10.0.0.2/32 dev lo");
        namespace.ip("address add fd00::2/128 dev lo nodad");
        namespace.run_async(move || async move {
            for setting in ["ipv4", "ipv6"] {
                std::fs::write(format!("/proc/sys/net/{setting}/ip_nonlocal_bind"), "1")
                    .expect("root may");
            }
            let addresses = addresses::own().await.expect("netlink");
            let own = Own::find(&config, &addresses).expect("the second one");
            assert_eq!((own.name(), own.sockets.len()), ("p/second", 2));
            let nowhere = Own::find(&config, &BTreeSet::new());
            assert!(matches!(nowhere, Err(AgentError::NotABackend { .. })));
        });
    }
}
