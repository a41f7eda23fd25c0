//! A gateway's configuration, written as the TOML it reads.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::Duration;

use serde::{Serialize, Serializer};

use crate::error::{LabError, Result};
use crate::layout::plan::{self, Family};
use crate::layout::{Lab, Site};
use crate::peer::Pool;
use crate::record;

/// The whole file.
#[derive(Clone, Debug, Serialize)]
pub struct Config {
    /// `[gateway]`
    pub gateway: GatewaySection,
    /// `[api]`
    pub api: ApiSection,
    /// `[limits]`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<Limits>,
    /// `[[tenant]]`
    pub tenant: Vec<Tenant>,
    /// `[[pool]]`
    pub pool: Vec<PoolSection>,
    /// `[[service]]`
    pub service: Vec<Service>,
}

/// `[gateway]`
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "named as in the product's reference")]
pub struct GatewaySection {
    pub interfaces: Vec<String>,
    pub xdp_mode: &'static str,
    pub max_sessions: u32,
    pub bpffs: String,
    pub state_dir: String,
    pub sysctl: &'static str,
    pub manage_vips: bool,
}

/// `[api]`
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "named as in the product's reference")]
pub struct ApiSection {
    pub socket: String,
    pub metrics: String,
}

/// `[limits]`
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "named as in the product's reference")]
pub struct Limits {
    pub unestablished_per_source: Rate,
}

/// A rate and how far it may be exceeded.
#[derive(Clone, Copy, Debug, Serialize)]
#[expect(missing_docs, reason = "named as in the product's reference")]
pub struct Rate {
    pub rate: u32,
    pub burst: u32,
}

/// `[[tenant]]`
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "named as in the product's reference")]
pub struct Tenant {
    pub name: String,
    pub max_sessions: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guaranteed_sessions: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handshakes: Option<Rate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new_sessions: Option<Rate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packets_in: Option<Rate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packets_out: Option<Rate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bits_in: Option<Rate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bits_out: Option<Rate>,
}

impl Tenant {
    /// With a quota, and no other limit.
    pub fn new(name: &str, max_sessions: u32) -> Self {
        Self {
            name: name.to_owned(),
            max_sessions,
            guaranteed_sessions: None,
            handshakes: None,
            new_sessions: None,
            packets_in: None,
            packets_out: None,
            bits_in: None,
            bits_out: None,
        }
    }
}

/// `[[pool]]`
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "named as in the product's reference")]
pub struct PoolSection {
    pub name: String,
    pub mode: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tunnel: Option<Tunnel>,
    pub idle_timeout: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quic_lb: Option<QuicLb>,
    #[serde(serialize_with = "health")]
    pub health: Option<Health>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handshakes: Option<Rate>,
    pub backend: Vec<Backend>,
}

/// `tunnel` of a pool.
#[derive(Clone, Copy, Debug, Serialize)]
#[expect(missing_docs, reason = "named as in the product's reference")]
pub struct Tunnel {
    pub encapsulation: &'static str,
    pub source: Ipv4Addr,
    pub source6: Ipv6Addr,
}

/// `quic_lb` of a pool.
#[derive(Clone, Copy, Debug, Serialize)]
#[expect(missing_docs, reason = "named as in the product's reference")]
pub struct QuicLb {
    pub config_id: u8,
    pub server_id_length: u8,
}

/// `health` of a pool.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "named as in the product's reference")]
pub struct Health {
    pub probe: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    pub interval: String,
    pub timeout: String,
    pub rise: u32,
    pub fall: u32,
    /// What belongs to one probe alone.
    #[serde(flatten)]
    pub of_probe: BTreeMap<&'static str, String>,
}

/// The product pings where nothing is said: that nothing is asked has to be.
fn health<S: Serializer>(health: &Option<Health>, to: S) -> Result<S::Ok, S::Error> {
    match health {
        Some(health) => health.serialize(to),
        None => BTreeMap::from([("probe", "none")]).serialize(to),
    }
}

impl Health {
    /// Pings twice a second; dead after four without an answer. A busy machine
    /// may keep a living one from answering for a second.
    pub fn quick() -> Self {
        Self {
            probe: "icmp",
            port: None,
            interval: "500ms".to_owned(),
            timeout: "400ms".to_owned(),
            rise: 2,
            fall: 4,
            of_probe: BTreeMap::new(),
        }
    }

    /// How long [`Self::quick`] ones are patient: their interval times their failures.
    pub const QUICK: Duration = Duration::from_millis(4 * 500);

    /// The same with another probe, of the service's port, and what belongs to it.
    pub fn by<const N: usize>(probe: &'static str, of_probe: [(&'static str, String); N]) -> Self {
        Self { probe, of_probe: of_probe.into(), ..Self::quick() }
    }
}

/// `[[pool.backend]]`
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "named as in the product's reference")]
pub struct Backend {
    pub name: String,
    pub address: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address6: Option<String>,
    pub weight: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server_id: Option<String>,
}

/// `[[service]]`
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "named as in the product's reference")]
pub struct Service {
    pub name: String,
    pub tenant: String,
    pub profile: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tcp_mss: Option<u16>,
    pub listen: Vec<String>,
    pub pool: String,
}

impl Config {
    /// A gateway on all interfaces of the lab's, that serves nothing yet.
    pub fn new(lab: &Lab) -> Self {
        let path = |p: &Path| p.display().to_string();
        Self {
            gateway: GatewaySection {
                interfaces: ["wan0", "wan1", "lan0"].map(str::to_owned).to_vec(),
                xdp_mode: "native",
                max_sessions: 4096,
                bpffs: path(&record::bpffs(lab.dir())),
                state_dir: path(&lab.dir().join("state")),
                sysctl: "set",
                manage_vips: false,
            },
            api: ApiSection {
                socket: path(&lab.dir().join("api.sock")),
                metrics: "127.0.0.1:9477".to_owned(),
            },
            limits: None,
            tenant: Vec::new(),
            pool: Vec::new(),
            service: Vec::new(),
        }
    }

    /// Adds a tenant with a WireGuard service; see [`Self::with_site`].
    #[must_use]
    pub fn with_tenant(self, pool: &Pool, max_sessions: u32) -> Self {
        self.with_site(pool.site(), max_sessions)
    }

    /// Adds a tenant with a service on the VIP of `site`, IPv4 and IPv6. The tenant has the
    /// site's name, the service is `vpn-NAME`, the pool `pool-NAME`.
    #[must_use]
    pub fn with_site(mut self, site: &Site, max_sessions: u32) -> Self {
        let name = site.name();
        let pool_name = format!("pool-{name}");
        self.tenant.push(Tenant::new(name, max_sessions));
        self.service.push(Service {
            name: format!("vpn-{name}"),
            tenant: name.to_owned(),
            profile: site.kind().profile,
            affinity: None,
            tcp_mss: None,
            listen: site.listeners(),
            pool: pool_name.clone(),
        });
        let backend = site.stations().iter().map(|station| Backend {
            name: station.name().to_owned(),
            address: station.address(Family::V4).to_string(),
            address6: Some(station.address(Family::V6).to_string()),
            weight: 100,
            server_id: None,
        });
        self.pool.push(PoolSection {
            name: pool_name,
            mode: "nat",
            agent: None,
            tunnel: None,
            idle_timeout: "5m".to_owned(),
            quic_lb: None,
            health: Some(Health::quick()),
            handshakes: None,
            backend: backend.collect(),
        });
        self
    }

    /// With backends that answer their clients by themselves: in a tunnel with this encapsulation, or, without one, on the gateway's own
    /// link (see [`Lab::let_answer`]).
    #[must_use]
    pub fn answered_directly(mut self, encapsulation: Option<&'static str>) -> Self {
        for pool in &mut self.pool {
            pool.mode = if encapsulation.is_some() { "tunnel" } else { "dsr" };
            pool.tunnel = encapsulation.map(|encapsulation| Tunnel {
                encapsulation,
                source: plan::LAN.v4,
                source6: plan::LAN.v6,
            });
        }
        self
    }

    /// With servers that name themselves in their connection ids, as those of [`QuicIds::Numbered`](crate::peer::QuicIds::Numbered) do:
    /// by their numbers, which the names of stations end with.
    #[must_use]
    pub fn with_numbered_servers(mut self) -> Self {
        for pool in &mut self.pool {
            pool.quic_lb = Some(QuicLb { config_id: 0, server_id_length: 2 });
            for backend in &mut pool.backend {
                let number = backend.name.rsplit('-').next().and_then(|n| n.parse::<u16>().ok());
                backend.server_id = number.map(|n| format!("{n:04x}"));
            }
        }
        self
    }

    /// With agents on such backends.
    #[must_use]
    pub fn with_agents(mut self) -> Self {
        for pool in &mut self.pool {
            pool.agent = Some(true);
        }
        self
    }

    /// Without health probes: nothing is sent to the backends, and all of them count as up.
    #[must_use]
    pub fn without_probes(mut self) -> Self {
        for pool in &mut self.pool {
            pool.health = None;
        }
        self
    }

    /// As the file's text.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self)
            .map_err(|e| LabError::Scenario(format!("the configuration cannot be written: {e}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn that_nothing_is_asked_is_written() {
        let pool = |health| PoolSection {
            name: "p".to_owned(),
            mode: "nat",
            agent: None,
            tunnel: None,
            idle_timeout: "5m".to_owned(),
            quic_lb: None,
            health,
            handshakes: None,
            backend: Vec::new(),
        };
        let written = |health| toml::Value::try_from(pool(health)).unwrap()["health"].clone();
        assert_eq!(written(Some(Health::quick()))["interval"].as_str(), Some("500ms"));
        assert_eq!(written(None).to_string(), "{ probe = \"none\" }");
    }
}
