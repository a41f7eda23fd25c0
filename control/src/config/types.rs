//! The configuration as plain data. Field for field it has the form of the
//! file, so serialising it gives a file that reads back the same.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::{BackendId, Family, Health, Listener, Protocol, ServerId};

/// Bounds of TCP's largest segment: what every host takes (RFC 9293, 3.7.1), and what a packet of 64 KiB has room for at most.
pub(super) const MSS: std::ops::RangeInclusive<u64> = 536..=65_495;

/// The highest weight of a backend; the lowest is 1. A ring has 8,191 positions, so finer
/// shares do not exist.
pub const HIGHEST_WEIGHT: u32 = 10_000;

/// A checked configuration: every name resolves, every limit holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Config {
    /// `[gateway]`: where and how the program runs.
    pub gateway: Gateway,
    /// `[api]`: where the daemon can be talked to.
    pub api: Api,
    /// `[limits]`: limits that are nobody's in particular.
    pub limits: Limits,
    /// `[[tenant]]`, in the order of the file.
    #[serde(rename = "tenant")]
    pub tenants: Vec<Tenant>,
    /// `[[pool]]`, in the order of the file.
    #[serde(rename = "pool")]
    pub pools: Vec<Pool>,
    /// `[[service]]`, in the order of the file.
    #[serde(rename = "service")]
    pub services: Vec<Service>,
}

/// `[gateway]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Gateway {
    /// Interfaces the program is attached to. At least one.
    pub interfaces: Vec<String>,
    /// Where in the kernel the program runs.
    pub xdp_mode: XdpMode,
    /// Sessions the table can hold.
    pub max_sessions: u64,
    /// The bpffs in which programs and maps are pinned.
    pub bpffs: PathBuf,
    /// Where the daemon keeps what must outlive it.
    pub state_dir: PathBuf,
    /// What to do about kernel settings that stand in the way.
    pub sysctl: Sysctl,
    /// Whether the daemon adds the services' addresses to `lo`.
    pub manage_vips: bool,
}

/// Where in the kernel the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum XdpMode {
    /// In the driver.
    Native,
    /// In the network stack: slow, for drivers that cannot do better.
    Generic,
}

/// What the daemon does about kernel settings that stand in the way of forwarding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Sysctl {
    /// Says what is wrong and how to mend it.
    Check,
    /// Sets them.
    Set,
}

/// `[api]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Api {
    /// The API's Unix socket.
    pub socket: PathBuf,
    /// Where metrics are served in Prometheus' text format; nowhere if absent.
    pub metrics: Option<SocketAddr>,
    /// Where the dashboard is served; nowhere if absent.
    pub web: Option<SocketAddr>,
}

/// `[limits]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Budget of packets without a session for each source (IPv4 /32, IPv6 /64); `None` is no limit.
    #[serde(serialize_with = "budget")]
    pub unestablished_per_source: Option<Budget>,
    /// Most tentative sessions of one tenant; see [`Config::tentative_limit`] for the default.
    pub tentative_per_tenant: Option<u64>,
}

/// A token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Budget {
    /// Packets a second.
    pub rate: u32,
    /// Packets at once.
    pub burst: u32,
}

/// `[[tenant]]`: an authority with its quota.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tenant {
    /// Unique among tenants.
    pub name: String,
    /// Most sessions open at once.
    pub max_sessions: u64,
    /// Sessions that it can have open whatever others have.
    #[serde(skip_serializing_if = "is_zero")]
    pub guaranteed_sessions: u64,
    /// Its rates.
    #[serde(flatten)]
    pub rates: TenantRates,
}

/// Rates of a tenant; `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TenantRates {
    /// Handshakes that its clients begin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handshakes: Option<Rate>,
    /// Sessions that open.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new_sessions: Option<Rate>,
    /// Packets from its clients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packets_in: Option<Rate>,
    /// Packets to its clients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packets_out: Option<Rate>,
    /// Bits of IP packets from its clients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bits_in: Option<Rate>,
    /// Bits of IP packets to its clients.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bits_out: Option<Rate>,
}

/// So many a second, and so many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Rate {
    /// A second.
    pub rate: u64,
    /// At once.
    pub burst: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// `[[pool]]`: concentrators that hold the same configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pool {
    /// Unique among pools.
    pub name: String,
    /// How packets reach the backends.
    pub mode: Mode,
    /// With [`Mode::Tunnel`]: what they are put into.
    pub tunnel: Option<Tunnel>,
    /// Agents on the backends tell of their answers, where those do not come through the gateway.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub agent: bool,
    /// After how much silence a session ends.
    #[serde(serialize_with = "duration")]
    pub idle_timeout: Duration,
    /// How QUIC connection ids name the backends; `None` if they do not.
    pub quic_lb: Option<QuicLb>,
    /// How backends are found to be up or down.
    pub health: Health,
    /// Handshakes that each backend is given; `None`: as many as come.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handshakes: Option<Rate>,
    /// `[[pool.backend]]`, in the order of the file. At least one.
    #[serde(rename = "backend")]
    pub backends: Vec<Backend>,
}

/// How packets reach the backends of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Destination address and port are rewritten; answers come back through the gateway.
    Nat,
    /// Packets go in a tunnel to the backend, which answers the client by itself.
    Tunnel,
    /// Frames go to the backend's link layer address, with the packet as it is; the backend answers the client by itself.
    Dsr,
}

impl Mode {
    /// Its name in the configuration.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Nat => "nat",
            Self::Tunnel => "tunnel",
            Self::Dsr => "dsr",
        }
    }

    /// Whether backends answer their clients by themselves: the gateway sees no answers, and so has no sessions.
    pub const fn is_direct(self) -> bool {
        !matches!(self, Self::Nat)
    }
}

/// `tunnel` of a pool: what packets are put into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Tunnel {
    /// The headers.
    pub encapsulation: Encapsulation,
    /// The gateway's address that the tunnels to IPv4 addresses come from.
    pub source: Option<Ipv4Addr>,
    /// The same of IPv6.
    pub source6: Option<Ipv6Addr>,
    /// The port that tunnels end at, with [`Encapsulation::Gue`] alone.
    pub port: Option<u16>,
}

impl Tunnel {
    /// Where tunnels to addresses of a family come from.
    pub fn source_of(&self, family: Family) -> Option<IpAddr> {
        match family {
            Family::V4 => self.source.map(IpAddr::V4),
            Family::V6 => self.source6.map(IpAddr::V6),
        }
    }
}

/// `quic_lb` of a pool: how connection ids name the servers (draft-ietf-quic-load-balancers, in clear text).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct QuicLb {
    /// The configuration's id in the first octet, 0 to 6.
    pub config_id: u8,
    /// Bytes of a server's id, 1 to 3.
    pub server_id_length: u8,
}

/// The headers of a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Encapsulation {
    /// One IP packet inside the other (`ipip`, `sit` and `ip6tnl` of Linux).
    IpIp,
    /// In a datagram, without a header between: variant 1 of Generic UDP Encapsulation.
    Gue,
}

impl Pool {
    /// The address of a backend by which clients of a family are served, if there is one. Where nothing is translated it may be of
    /// the other family.
    pub fn address_for(&self, backend: &Backend, family: Family) -> Option<IpAddr> {
        backend.address_of(family).or_else(|| self.mode.is_direct().then_some(backend.address))
    }

    /// Whether the gateway sees its answers, or is told of them: only then there are sessions.
    pub const fn knows_sessions(&self) -> bool {
        !self.mode.is_direct() || self.agent
    }
}

/// `[[pool.backend]]`: one concentrator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Backend {
    /// Unique in its pool.
    pub name: String,
    /// The address that serves clients of its family.
    pub address: IpAddr,
    /// The address that serves IPv6 clients, where `address` is IPv4.
    pub address6: Option<Ipv6Addr>,
    /// The port; the listener's if absent.
    pub port: Option<u16>,
    /// Share of new sessions relative to the pool's other backends. Not zero.
    pub weight: u32,
    /// Sessions at which it gets no new ones; no limit if absent.
    pub max_sessions: Option<u64>,
    /// What connection ids call it, in a pool with [`QuicLb`].
    pub server_id: Option<ServerId>,
    /// Handshakes that it is given; `None`: as many as the pool's others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handshakes: Option<Rate>,
}

impl Backend {
    /// Handshakes that it is given; `None`: as many as come.
    pub fn pace(&self, pool: &Pool) -> Option<Rate> {
        self.handshakes.or(pool.handshakes)
    }
}

impl Backend {
    /// The address that serves clients of a family, if there is one.
    pub fn address_of(&self, family: Family) -> Option<IpAddr> {
        if Family::of(self.address) == family {
            return Some(self.address);
        }
        match family {
            Family::V4 => None,
            Family::V6 => self.address6.map(IpAddr::V6),
        }
    }
}

/// `[[service]]`: what clients dial.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Service {
    /// Unique among services.
    pub name: String,
    /// Whose it is: the name of a tenant.
    pub tenant: String,
    /// What is known of its protocol.
    pub profile: Profile,
    /// What its clients' sessions are placed by.
    pub affinity: Affinity,
    /// TCP's largest segment, in bytes, that ends of its connections are told.
    pub tcp_mss: Option<u16>,
    /// The addresses and ports. At least one.
    pub listen: Vec<Listener>,
    /// Where its sessions go: the name of a pool.
    pub pool: String,
}

/// What new sessions of a service are placed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Affinity {
    /// The client's address: all of a client's sessions are on one backend, and of its neighbours behind one address.
    Source,
    /// Address and port: each session by itself.
    Flow,
}

/// What the gateway knows of a service's protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Sessions are known by their receiver index, and may roam.
    WireGuard,
    /// Sessions are known by their peer-id, and may roam.
    OpenVpn,
    /// IKEv2 with ESP in UDP: sessions are known by SPIs, and may roam.
    Ipsec,
    /// Sessions are known by the server's connection id, and follow a client that has another address and does not know it.
    Quic,
    /// Sessions are known by the server's connection id, if it has one, and then may roam.
    Dtls,
    /// Nothing beyond addresses and ports.
    Udp,
    /// TCP connections, and no other listeners.
    Tcp,
}

impl Profile {
    /// Its name in the configuration and in listings.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WireGuard => "wireguard",
            Self::OpenVpn => "openvpn",
            Self::Ipsec => "ipsec",
            Self::Quic => "quic",
            Self::Dtls => "dtls",
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }

    /// The one that a listener has whose profile is this in the tables.
    pub const fn of_table(profile: dataplane::abi::Profile) -> Self {
        use dataplane::abi::Profile;
        match profile {
            Profile::Udp => Self::Udp,
            Profile::WireGuard => Self::WireGuard,
            Profile::OpenVpn => Self::OpenVpn,
            Profile::Tcp => Self::Tcp,
            Profile::Ike | Profile::Ipsec => Self::Ipsec,
            Profile::Quic => Self::Quic,
            Profile::Dtls => Self::Dtls,
        }
    }

    /// What is known of a listener of a service with this profile, as the tables have it: of TCP connections always the same.
    pub const fn of_listener(self, listener: &Listener) -> dataplane::abi::Profile {
        use dataplane::abi::Profile;
        match (listener.protocol, self) {
            (Protocol::Tcp, _) | (_, Self::Tcp) => Profile::Tcp,
            (_, Self::WireGuard) => Profile::WireGuard,
            (_, Self::OpenVpn) => Profile::OpenVpn,
            (_, Self::Udp) => Profile::Udp,
            (_, Self::Ipsec) if listener.port == IKE_PORT => Profile::Ike,
            (_, Self::Ipsec) => Profile::Ipsec,
            (_, Self::Quic) => Profile::Quic,
            (_, Self::Dtls) => Profile::Dtls,
        }
    }
}

/// Where IKE is alone, and so without a marker (RFC 3948, 2.2).
pub(super) const IKE_PORT: u16 = 500;

impl Config {
    /// The tenant of this name.
    pub fn tenant(&self, name: &str) -> Option<&Tenant> {
        self.tenants.iter().find(|tenant| tenant.name == name)
    }

    /// The pool of this name.
    pub fn pool(&self, name: &str) -> Option<&Pool> {
        self.pools.iter().find(|pool| pool.name == name)
    }

    /// The service of this name.
    pub fn service(&self, name: &str) -> Option<&Service> {
        self.services.iter().find(|service| service.name == name)
    }

    /// The pool and the backend that an id names.
    pub fn backend(&self, id: &BackendId) -> Option<(&Pool, &Backend)> {
        let pool = self.pool(&id.pool)?;
        let backend = pool.backends.iter().find(|backend| backend.name == id.name)?;
        Some((pool, backend))
    }

    /// All backends of all pools.
    pub fn backends(&self) -> impl Iterator<Item = (BackendId, &Pool, &Backend)> {
        self.pools.iter().flat_map(|pool| {
            pool.backends
                .iter()
                .map(move |backend| (BackendId::new(&pool.name, &backend.name), pool, backend))
        })
    }

    /// Sessions that tenants are guaranteed, all together.
    pub fn guaranteed(&self) -> u64 {
        self.tenants.iter().map(|tenant| tenant.guaranteed_sessions).sum()
    }

    /// Most tentative sessions of a tenant: as configured, else a quarter of its
    /// quota but at least 256, so that a small tenant can still be dialled by
    /// many at once. If that is more than there is [room](tentative_room) for, of all tenants together, each has its part.
    pub fn tentative_limit(&self, tenant: &Tenant) -> u64 {
        let wanted = |tenant: &Tenant| {
            self.limits.tentative_per_tenant.unwrap_or_else(|| (tenant.max_sessions / 4).max(256))
        };
        let all: u64 = self.tenants.iter().map(wanted).sum();
        let (wanted, room) = (wanted(tenant), tentative_room(self.gateway.max_sessions));
        if all <= room { wanted } else { (wanted * room / all).max(1) }
    }

    /// Most tentative sessions of all tenants together.
    pub fn tentative(&self) -> u64 {
        self.tenants.iter().map(|tenant| self.tentative_limit(tenant)).sum()
    }
}

/// Room for tentative sessions beside so many open ones.
pub(super) fn tentative_room(max_sessions: u64) -> u64 {
    (max_sessions / 4).max(256)
}

pub(super) fn duration<S: Serializer>(value: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(&humantime::format_duration(*value))
}

fn budget<S: Serializer>(value: &Option<Budget>, to: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(budget) => budget.serialize(to),
        None => to.serialize_str("unlimited"),
    }
}
