//! A gateway as the daemon sets one up: its configuration, the tables that follow from it, the
//! program. Interfaces and routes are given, not found.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use bench_ebpf::Target;
use control::config::{BackendId, Config, XdpMode};
use control::loader::{Bpffs, PacketLog, Pins, Program, Sizes, Tables, Writer, create};
use control::model::{
    self, AddressHealth, HopKey, Inputs, Load, NextHop, Overrides, Prefix, Registry, RouteView,
    Status, Wanted,
};
use dataplane::reason::Reason;

use crate::daemon::Daemon;
use crate::place::{self, LAN, Net, WAN};
use crate::player::{Family, Flows, Message, Player, Side};

/// Backends of each pool: a power of two, so that the player can draw one.
pub(crate) const BACKENDS: u32 = 64;
/// The services' addresses.
pub(crate) const VIP4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
pub(crate) const VIP6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10);
/// The first backend's addresses.
pub(crate) const BACKEND4: Ipv4Addr = Ipv4Addr::new(10, 20, 0, 16);
pub(crate) const BACKEND6: Ipv6Addr = Ipv6Addr::new(0xfd20, 0, 0, 0, 0, 0, 0, 0x10);
/// Ports of the services, which are their backends' too.
pub(crate) const WIREGUARD_PORT: u16 = 51_820;
pub(crate) const UDP_PORT: u16 = 4_000;
pub(crate) const OPENVPN_PORT: u16 = 1_194;
pub(crate) const TCP_PORT: u16 = 3_389;
pub(crate) const IPSEC_PORT: u16 = 4_500;
pub(crate) const DTLS_PORT: u16 = 4_433;

/// A service's name, which is its profile's and its pool's too, and its port.
pub(crate) type Service = (&'static str, u16);
/// WireGuard's.
pub(crate) const WIREGUARD: Service = ("wireguard", WIREGUARD_PORT);
const SERVICES: [Service; 6] = [
    WIREGUARD,
    ("udp", UDP_PORT),
    ("openvpn", OPENVPN_PORT),
    ("ipsec", IPSEC_PORT),
    ("dtls", DTLS_PORT),
    ("tcp", TCP_PORT),
];

/// A gateway with tables of its own, pinned in a bpffs of its own.
pub(crate) struct Gateway {
    text: String,
    config: Config,
    writer: Writer,
    current: Wanted,
    pins: Pins,
    tables: Arc<Tables>,
    /// Where its interfaces are.
    net: Net,
    program: Program,
}

impl Gateway {
    /// A gateway of all services for a number of sessions, without any. When it has them it has
    /// room for a few more, so that handshakes are still let through.
    pub(crate) fn new(name: &str, sessions: u64) -> anyhow::Result<Self> {
        Self::with(name, sessions, &SERVICES)
    }

    /// The same of some services, each of which has a pool of [`BACKENDS`].
    pub(crate) fn with(name: &str, sessions: u64, services: &[Service]) -> anyhow::Result<Self> {
        let net = Net::new()?;
        let sessions = sessions + sessions / 32;
        let bpffs = Bpffs::prepare(&place::bpffs(name))?;
        let text = configuration(sessions, &bpffs, services);
        let config = Config::parse(&text, "bench.toml").map_err(|e| anyhow::anyhow!("{e}"))?;
        let pins = Pins::under(&bpffs);
        let tables = Arc::new(create(&bpffs, &pins, Sizes::for_sessions(sessions))?);
        let writer = Writer::open(&pins, Arc::clone(&tables))?;
        let current = writer.read()?;
        let program = Program::load(&pins, PacketLog::Off)?;
        let mut gateway = Self { text, config, writer, current, pins, tables, net, program };
        gateway.reconcile(0)?;
        Ok(gateway)
    }

    /// Brings the tables to what they should be when so many backends of the pool for WireGuard
    /// are dead. How many writes it took.
    pub(crate) fn reconcile(&mut self, dead: u32) -> anyhow::Result<usize> {
        let down = AddressHealth::both(Status::Down);
        let dead = (0..dead).map(|n| (BackendId::new("wireguard", &format!("b{n}")), down));
        let wanted = model::compute(&Inputs {
            config: &self.config,
            overrides: &Overrides::default(),
            health: &dead.collect(),
            load: &Load::default(),
            routes: &routes(),
            current: &self.current,
            released: &BTreeSet::new(),
        })?;
        let steps = model::diff(&self.current, &wanted);
        model::apply(&mut self.current, &steps, &mut self.writer)
            .context("cannot write the tables")?;
        Ok(steps.len())
    }

    /// Reads the tables, which another has changed.
    pub(crate) fn look_again(&mut self) -> anyhow::Result<()> {
        self.current = self.writer.read()?;
        Ok(())
    }

    /// Endpoints of dead backends.
    pub(crate) fn not_live(&self) -> BTreeSet<u32> {
        Registry::of(&self.current).not_live()
    }

    /// Starts the daemon upon these tables. It reads routes where this process is.
    pub(crate) fn start_daemon(&self) -> anyhow::Result<Daemon> {
        Daemon::start(&self.text, socket(self.config.gateway.bpffs.as_path()))
    }

    /// The same, but for its probes: it sends none.
    pub(crate) fn start_daemon_without_probes(&self) -> anyhow::Result<Daemon> {
        let pool = "[[pool]]\n";
        let text = self.text.replace(pool, &format!("{pool}health = {{ probe = \"none\" }}\n"));
        Daemon::start(&text, socket(self.config.gateway.bpffs.as_path()))
    }

    /// Opens sessions for the first flows, by answers of the service's backends.
    pub(crate) fn fill(
        &self,
        player: &mut Player,
        answer: Message,
        family: Family,
        sessions: u32,
    ) -> anyhow::Result<()> {
        let all = Flows { first: 0, count: sessions, random: false };
        let before = self.count(Reason::SessionOpened)?;
        // The second answer opens what the first one could not. Sessions that are not open yet are a quarter of the tables at most.
        let part = sessions.div_ceil(8);
        for first in (0..sessions).step_by(part as usize) {
            let some = Flows { first, count: part.min(sessions - first), random: false };
            for _ in 0..2 {
                player.set(answer, family, some, Target::Gateway);
                player.run(some.count, Side::of(answer))?;
            }
        }
        let opened = self.count(Reason::SessionOpened)? - before;
        if opened != u64::from(sessions) {
            bail!("{opened} of {sessions} sessions opened");
        }
        let taught_by = match answer {
            Message::DataAnswer => Some(Message::Data),
            Message::EspAnswer => Some(Message::Esp),
            Message::RecordAnswer => Some(Message::Record),
            _ => None,
        };
        if let Some(data) = taught_by {
            // Sessions made by data alone learn their inbound ids from their clients' first packets;
            // by the second ones they are the current ids.
            for _ in 0..2 {
                player.set(data, family, all, Target::Gateway);
                player.run(sessions, Side::Wan)?;
            }
        }
        Ok(())
    }

    /// Moves this process to where its interfaces are.
    pub(crate) fn enter(&self) -> anyhow::Result<()> {
        self.net.enter()
    }

    /// Attaches the program to both interfaces, natively.
    pub(crate) fn attach(&mut self) -> anyhow::Result<()> {
        for (name, interface) in [("wan", WAN), ("lan", LAN)] {
            self.program.attach(name, interface, XdpMode::Native)?;
        }
        Ok(())
    }

    pub(crate) fn pins(&self) -> &Pins {
        &self.pins
    }

    pub(crate) fn tables(&self) -> &Tables {
        &self.tables
    }

    /// How often something happened, or a packet ended so.
    pub(crate) fn count(&self, reason: Reason) -> anyhow::Result<u64> {
        let counts = self.tables.counts()?;
        Ok(counts.iter().find(|count| count.reason == reason).map_or(0, |count| count.packets))
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // The pins would keep the tables' memory; the mount itself ends with the process.
        let _ = self.pins.remove();
    }
}

pub(crate) fn backend4(number: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(BACKEND4) + number)
}

pub(crate) fn backend6(number: u32) -> Ipv6Addr {
    Ipv6Addr::from(u128::from(BACKEND6) + u128::from(number))
}

fn socket(bpffs: &Path) -> PathBuf {
    bpffs.with_extension("sock")
}

/// One tenant, a pool and a service for each profile. Limits that do not bind.
fn configuration(sessions: u64, bpffs: &Bpffs, services: &[Service]) -> String {
    let (socket, bpffs) = (socket(bpffs.path()), bpffs.path());
    let state = bpffs.with_extension("state");
    let mut text = format!(
        "[gateway]
interfaces = [\"wan\", \"lan\"]
max_sessions = {sessions}
bpffs = {bpffs:?}
state_dir = {state:?}
[api]
socket = {socket:?}
[limits]
unestablished_per_source = {{ rate = 100000, burst = 1000000 }}
tentative_per_tenant = {sessions}
[[tenant]]
name = \"justiz\"
max_sessions = {sessions}
"
    );
    for (profile, port) in services {
        let protocol = if *profile == "tcp" { "tcp" } else { "udp" };
        let _ = write!(
            text,
            "[[service]]
name = \"{profile}\"
tenant = \"justiz\"
profile = \"{profile}\"
listen = [\"{VIP4}:{port}/{protocol}\", \"[{VIP6}]:{port}/{protocol}\"]
pool = \"{profile}\"
[[pool]]
name = \"{profile}\"
"
        );
        for number in 0..BACKENDS {
            let _ = write!(
                text,
                "[[pool.backend]]
name = \"b{number}\"
address = \"{}\"
address6 = \"{}\"
",
                backend4(number),
                backend6(number)
            );
        }
    }
    text
}

/// Clients behind one router, backends on the link.
fn routes() -> RouteView {
    let mut view = RouteView { devices: [WAN, LAN].into(), ..RouteView::default() };
    let mut hop = |interface: u32, neighbour: IpAddr, number: u8| {
        let key = HopKey { interface, neighbour };
        let side = interface as u8;
        let hop = NextHop {
            ifindex: interface,
            mtu: 1500,
            dst_mac: [2, 0, 0, 1, side, number],
            src_mac: [2, 0, 0, 0, 0, side],
            vlan: None,
            resolved: true,
        };
        view.hops.insert(key, hop);
        key
    };
    let default = [
        (IpAddr::from(Ipv4Addr::UNSPECIFIED), IpAddr::from(Ipv4Addr::new(198, 51, 100, 1))),
        (
            IpAddr::from(Ipv6Addr::UNSPECIFIED),
            "2001:db8:ffff::1".parse().unwrap_or(IpAddr::from(VIP6)),
        ),
    ];
    let mut routes = BTreeMap::new();
    for (address, router) in default {
        routes.insert(Prefix { address, length: 0 }, hop(WAN, router, 1));
    }
    let mut backends = BTreeMap::new();
    for number in 0..BACKENDS {
        for address in [IpAddr::from(backend4(number)), IpAddr::from(backend6(number))] {
            backends.insert(address, hop(LAN, address, number as u8));
        }
    }
    view.routes = routes;
    view.backends = backends;
    view
}
