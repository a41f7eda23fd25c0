//! A configuration that has been read but not checked: each value with its
//! place, and gaps where something was missing or wrong.

use std::net::IpAddr;
use std::ops::Range;
use std::time::Duration;

use toml::Spanned;

use super::reader::Field;
use super::{
    Affinity, Api, Backend, Config, Encapsulation, Gateway, Health, Limits, Listener, Mode, Pool,
    Profile, QuicLb, Rate, ServerId, Service, Tenant, TenantRates, Tunnel,
};

/// The whole file.
pub(super) struct Draft {
    pub(super) gateway: Option<Gateway>,
    /// For comparison with what refers to it.
    pub(super) max_sessions: Field<u64>,
    pub(super) api: Option<Api>,
    pub(super) limits: Option<Limits>,
    pub(super) tentative: Field<u64>,
    pub(super) tenants: Vec<DraftTenant>,
    pub(super) pools: Vec<DraftPool>,
    pub(super) services: Vec<DraftService>,
}

/// `[[tenant]]`.
pub(super) struct DraftTenant {
    pub(super) span: Range<usize>,
    pub(super) name: Field<String>,
    pub(super) max_sessions: Field<u64>,
    pub(super) guaranteed: Field<u64>,
    pub(super) rates: TenantRates,
}

/// `[[pool]]`.
pub(super) struct DraftPool {
    pub(super) span: Range<usize>,
    pub(super) name: Field<String>,
    pub(super) mode: Option<Mode>,
    pub(super) tunnel: Option<DraftTunnel>,
    pub(super) agent: bool,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) quic_lb: Field<QuicLb>,
    pub(super) health: Field<Health>,
    pub(super) handshakes: Option<Rate>,
    pub(super) backends: Vec<DraftBackend>,
}

/// `tunnel` of a pool.
pub(super) struct DraftTunnel {
    pub(super) span: Range<usize>,
    pub(super) encapsulation: Encapsulation,
    pub(super) source: Field<IpAddr>,
    pub(super) source6: Field<IpAddr>,
    /// There is a source, but it was wrong.
    pub(super) unread: bool,
    pub(super) port: Option<u16>,
}

impl DraftPool {
    /// Whether its backends answer their clients by themselves.
    pub(super) fn is_direct(&self) -> bool {
        self.mode.is_some_and(Mode::is_direct)
    }
}

/// `[[pool.backend]]`.
pub(super) struct DraftBackend {
    pub(super) span: Range<usize>,
    pub(super) name: Field<String>,
    pub(super) address: Field<IpAddr>,
    /// IPv6 only.
    pub(super) address6: Field<IpAddr>,
    /// There is an `address6`, but it was wrong.
    pub(super) unread6: bool,
    /// `Ok(None)` is the listener's port, `Err` a port that was wrong.
    pub(super) port: Result<Field<u16>, ()>,
    pub(super) weight: Option<u32>,
    pub(super) max_sessions: Field<u64>,
    pub(super) server_id: Field<ServerId>,
    pub(super) handshakes: Option<Rate>,
}

/// `[[service]]`.
pub(super) struct DraftService {
    pub(super) span: Range<usize>,
    pub(super) name: Field<String>,
    pub(super) tenant: Field<String>,
    pub(super) profile: Option<Profile>,
    pub(super) affinity: Field<Affinity>,
    pub(super) tcp_mss: Field<u64>,
    pub(super) listen: Vec<Spanned<Listener>>,
    pub(super) pool: Field<String>,
}

fn take<T>(field: Field<T>) -> Option<T> {
    field.map(Spanned::into_inner)
}

impl Draft {
    /// The configuration, if nothing is missing.
    pub(super) fn finish(self) -> Option<Config> {
        Some(Config {
            gateway: self.gateway?,
            api: self.api?,
            limits: self.limits?,
            tenants: self.tenants.into_iter().map(DraftTenant::finish).collect::<Option<_>>()?,
            pools: self.pools.into_iter().map(DraftPool::finish).collect::<Option<_>>()?,
            services: self.services.into_iter().map(DraftService::finish).collect::<Option<_>>()?,
        })
    }
}

impl DraftTenant {
    fn finish(self) -> Option<Tenant> {
        Some(Tenant {
            name: take(self.name)?,
            max_sessions: take(self.max_sessions)?,
            guaranteed_sessions: take(self.guaranteed).unwrap_or_default(),
            rates: self.rates,
        })
    }
}

impl DraftPool {
    fn finish(self) -> Option<Pool> {
        Some(Pool {
            name: take(self.name)?,
            mode: self.mode?,
            tunnel: self.tunnel.map(DraftTunnel::finish),
            agent: self.agent,
            idle_timeout: self.idle_timeout?,
            quic_lb: take(self.quic_lb),
            health: take(self.health)?,
            handshakes: self.handshakes,
            backends: self.backends.into_iter().map(DraftBackend::finish).collect::<Option<_>>()?,
        })
    }
}

impl DraftTunnel {
    fn finish(self) -> Tunnel {
        let source = match take(self.source) {
            Some(IpAddr::V4(v4)) => Some(v4),
            _ => None,
        };
        let source6 = match take(self.source6) {
            Some(IpAddr::V6(v6)) => Some(v6),
            _ => None,
        };
        Tunnel { encapsulation: self.encapsulation, source, source6, port: self.port }
    }
}

impl DraftBackend {
    fn finish(self) -> Option<Backend> {
        let address6 = match take(self.address6) {
            Some(IpAddr::V6(v6)) => Some(v6),
            _ => None,
        };
        Some(Backend {
            name: take(self.name)?,
            address: take(self.address)?,
            address6,
            port: take(self.port.ok()?),
            weight: self.weight?,
            max_sessions: take(self.max_sessions),
            server_id: take(self.server_id),
            handshakes: self.handshakes,
        })
    }
}

impl DraftService {
    fn finish(self) -> Option<Service> {
        Some(Service {
            name: take(self.name)?,
            tenant: take(self.tenant)?,
            profile: self.profile?,
            affinity: take(self.affinity).unwrap_or(Affinity::Source),
            tcp_mss: take(self.tcp_mss).and_then(|mss| u16::try_from(mss).ok()),
            listen: self.listen.into_iter().map(Spanned::into_inner).collect(),
            pool: take(self.pool)?,
        })
    }
}
