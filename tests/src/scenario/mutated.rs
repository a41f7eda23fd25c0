//! Mutated frames into the live gateway, from both sides, while established sessions have traffic.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::{Check, Claim, HANDSHAKE, SOON, ms};
use crate::error::{LabError, Result};
use crate::gateway::{Config, Counters, Gateway, Limits, Rate, SessionView};
use crate::layout::plan::{self, Family};
use crate::layout::{Host, Kind, Lab, Options, Site, Transport};
use crate::net::Capture;
use crate::peer::{Implementation, Pool, WgClient};
use crate::traffic::mutant::{Exclusion, Material, Mutants, Service, Way};
use crate::traffic::{Crowd, CrowdTally, ECHO_PORT, EchoServer, Sequence, Tally, Target};
use crate::wait::until;

const CROWD: Kind = Kind { prefix: "udp", profile: "udp", ports: &[(ECHO_PORT, Transport::Udp)] };
/// Services that mutated frames are for: one of each profile that reads them. On their machines nobody listens, so that
/// the kernels there say so, in ICMP and TCP.
const DECOYS: [Kind; 6] = [
    Kind { prefix: "wg", profile: "wireguard", ports: &[(51820, Transport::Udp)] },
    Kind { prefix: "ovpn", profile: "openvpn", ports: &[(1194, Transport::Udp)] },
    Kind {
        prefix: "ike",
        profile: "ipsec",
        ports: &[(500, Transport::Udp), (4500, Transport::Udp)],
    },
    Kind { prefix: "quic", profile: "quic", ports: &[(8443, Transport::Udp)] },
    Kind { prefix: "dtls", profile: "dtls", ports: &[(443, Transport::Udp)] },
    Kind { prefix: "tcp", profile: "tcp", ports: &[(7443, Transport::Tcp)] },
];
/// A quota that mutated answers reach.
const FEW: u32 = 200;
/// Machines that echo, and homes that ask them.
const MACHINES: usize = 2;
const HOMES: usize = 5;
/// Clients of those services, on the Internet, where nobody has their addresses.
const CLIENTS: u8 = 8;
/// Pings a second in each tunnel.
const PINGS: u32 = 50;
/// Of the clients' frames, one in so many is of the tunnels' own sessions: their concentrators have to read what arrives.
const RARELY: usize = 20;
/// Frames between two words about progress, of each side.
const CHUNK: u64 = 500_000;
/// Many flows come from few addresses here.
const UNLIMITED: Limits =
    Limits { unestablished_per_source: Rate { rate: 100_000, burst: 100_000 } };
const INTERFACES: [&str; 3] = ["wan0", "wan1", "lan0"];

/// How much is sent.
#[derive(Clone, Copy, Debug)]
pub struct MutatedPlan {
    /// How many frames, half of them from each side.
    pub frames: u64,
    /// Where the mutations begin.
    pub seed: u64,
    /// How many sessions there are meanwhile, beside two real tunnels: rounded up to the same number for each home and family.
    pub sessions: usize,
    /// Requests a second, on all together.
    pub rate: u32,
}

/// What [`mutated`] measured.
#[derive(Clone, Debug, Serialize)]
pub struct Mutated {
    /// Frames sent.
    pub frames: u64,
    /// How long that took.
    pub took_ms: u64,
    /// Traffic of the crowd all the while.
    pub crowd: CrowdTally,
    /// And in the tunnels.
    pub tunnels: Vec<Tally>,
    /// The crowd's and the tunnels' sessions before.
    pub sessions: usize,
    /// Of them those that are gone, or whose id, backend, client or number of moves is another.
    pub changed: usize,
    /// Packets that the gateway's interfaces received in all.
    pub received: u64,
    /// Packets that ended, in all.
    pub ended: u64,
    /// How many, by what became of them.
    pub became: BTreeMap<String, u64>,
    /// How many, by the reason, events too.
    pub reasons: BTreeMap<String, u64>,
    /// The daemon is the one that was started.
    pub alive: bool,
    /// What `fernpass verify` found, if anything.
    pub drift: Option<String>,
    /// Packets that the queues between the lab's namespaces had no place for.
    pub overrun: u64,
}

/// A lab with traffic, and with services that mutated frames are for.
struct Scene {
    lab: Lab,
    gateway: Gateway,
    crowd: Site,
    pool: Pool,
    decoys: Vec<Site>,
    clients: Vec<(Host, WgClient)>,
    _servers: Vec<EchoServer>,
}

/// What was counted until some moment at which nothing was under way.
struct Books {
    received: u64,
    counters: Counters,
}

/// Sends mutated frames, in a lab of its own. `progress` is told how many were sent.
pub fn mutated(plan: &MutatedPlan, progress: impl Fn(u64) + Sync) -> Result<Mutated> {
    let scene = Scene::set(plan)?;
    let opened = scene.books()?;
    let targets = scene.homes()?;
    let crowd = Crowd::start(&targets, plan.sessions.div_ceil(targets.len()), plan.rate)?;
    crowd.wait_for(5, SOON * 3)?;
    // Some of the first ones are lost while the kernel asks for neighbours.
    let crowd = crowd.anew()?;
    crowd.wait_for(5, SOON)?;
    let mut tunnels = Vec::new();
    for (_, client) in &scene.clients {
        client.reach(HANDSHAKE)?;
        tunnels.push(Sequence::start(&client.target(), PINGS, 64)?);
    }
    let mut sides = scene.sides(plan.seed)?;
    let (before, overrun) = (scene.sessions()?, scene.overrun()?);
    let pid = scene.gateway.process_status("Pid");

    let begun = Instant::now();
    let sent = AtomicU64::new(0);
    let half = plan.frames.div_ceil(2);
    std::thread::scope(|scope| {
        let run = |mutants: &mut Mutants| {
            let mut left = half;
            while left > 0 {
                let chunk = left.min(CHUNK);
                mutants.send(chunk)?;
                left -= chunk;
                progress(sent.fetch_add(chunk, Ordering::Relaxed) + chunk);
            }
            Ok(())
        };
        let threads: Vec<_> =
            sides.iter_mut().map(|mutants| scope.spawn(move || run(mutants))).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, Result<()>>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        threads.into_iter().try_for_each(join)
    })?;
    let took = begun.elapsed();

    crowd.wait_for(1, SOON)?;
    let after = scene.sessions()?;
    let (crowd, tunnels) = (crowd.stop(), tunnels.into_iter().map(Sequence::stop).collect());
    let verified = scene.gateway.call(&["verify"])?;
    let clean = verified["writes"] == 0 && verified["drift"] == serde_json::json!([]);
    let closed = scene.books()?;
    let reasons = closed.counters.since(&opened.counters);
    let became = scene.became(&reasons)?;
    Ok(Mutated {
        frames: 2 * half,
        took_ms: ms(took),
        crowd,
        tunnels,
        sessions: before.len(),
        changed: changed(&before, &after),
        received: closed.received - opened.received,
        ended: became.values().sum(),
        became,
        reasons: reasons.iter().map(|(name, count)| (name.to_owned(), count)).collect(),
        alive: pid.is_some() && scene.gateway.process_status("Pid") == pid,
        drift: (!clean).then(|| verified.to_string()),
        overrun: scene.overrun()?.saturating_sub(overrun),
    })
}

impl Scene {
    fn set(plan: &MutatedPlan) -> Result<Self> {
        let lab = Lab::new(Options::default())?;
        let crowd = lab.site("crowd", CROWD, MACHINES)?;
        let mut servers = Vec::new();
        for station in crowd.stations() {
            for family in [Family::V4, Family::V6] {
                servers.push(EchoServer::start(
                    station.ns(),
                    station.address(family),
                    station.number(),
                )?);
            }
        }
        let mut pool = lab.pool("tunnels", &[Implementation::WireguardGo; 2])?;
        let decoys = DECOYS
            .iter()
            .map(|kind| lab.site(&format!("decoy-{}", kind.prefix), *kind, 1))
            .collect::<Result<Vec<_>>>()?;
        // Probes have nothing to do with it, and a machine this busy may be late with its answers.
        let mut config = Config::new(&lab)
            .with_site(&crowd, 2 * plan.sessions as u32 + 100)
            .with_tenant(&pool, 100);
        for site in &decoys {
            config = config.with_site(site, FEW);
        }
        config = config.without_probes();
        config.gateway.max_sessions = (4 * plan.sessions as u32 + 4096).next_power_of_two();
        config.limits = Some(UNLIMITED);
        let gateway = Gateway::start(&lab, &config)?;
        let mut clients = Vec::new();
        for family in [Family::V4, Family::V6] {
            let host = lab.host()?;
            let implementation = Implementation::WireguardGo;
            let client = WgClient::start(&lab, &host, &mut pool, implementation, family)?;
            clients.push((host, client));
        }
        Ok(Self { lab, gateway, crowd, pool, decoys, clients, _servers: servers })
    }

    fn homes(&self) -> Result<Vec<Target>> {
        let mut targets = Vec::new();
        for _ in 0..HOMES {
            let home = self.lab.host()?;
            for family in [Family::V4, Family::V6] {
                targets.push(Target::outside(home.ns(), self.crowd.vip(family).ip()));
            }
        }
        Ok(targets)
    }

    /// What is sent from each side.
    fn sides(&self, seed: u64) -> Result<[Mutants; 2]> {
        let (mut clients, mut backends) = (Material::default(), Material::default());
        for service in self.services() {
            clients.of_clients(&service);
            backends.of_backends(&service);
        }
        let own = self.overheard()?;
        let times = clients.0.len() / (RARELY * own.len());
        clients.0.extend((0..=times).flat_map(|_| own.clone()));
        let lab = &self.lab;
        let wan = Way { to: (lab.gateway(), "wan1"), from: (lab.inet(), "gw1") };
        let lan = Way { to: (lab.gateway(), "lan0"), from: (lab.inside(), "gw") };
        let side = |seed, material: Material, exclusion: &Exclusion, way: Way<'_>| {
            let frames = material.addressed(way.to.0.mac(way.to.1)?, way.from.0.mac(way.from.1)?);
            Mutants::new(seed, frames.0, exclusion.clone(), way)
        };
        // What is sent to somebody who echoes is answered, also if it is sent to his own address.
        let echoes = [Family::V4, Family::V6].map(|family| self.crowd.vip(family).ip());
        let excluded = Exclusion::of(self.established().chain(echoes));
        Ok([side(seed, clients, &excluded, wan)?, side(!seed, backends, &excluded, lan)?])
    }

    /// The addresses of the backends that established sessions are on.
    fn established(&self) -> impl Iterator<Item = IpAddr> {
        let stations = self.crowd.stations().iter().chain(self.pool.site().stations());
        stations.flat_map(|s| [Family::V4, Family::V6].map(|family| s.address(family)))
    }

    /// The services that mutated frames are for, each with some clients.
    fn services(&self) -> Vec<Service> {
        let mut services = Vec::new();
        for site in &self.decoys {
            for (number, &(port, transport)) in site.kind().ports.iter().enumerate() {
                for client in 1..=CLIENTS {
                    let family = if client % 2 == 0 { Family::V4 } else { Family::V6 };
                    let home = family.of(plan::uplink(plan::MAX_HOSTS + client, 0));
                    services.push(Service {
                        profile: site.kind().profile,
                        is_tcp: transport == Transport::Tcp,
                        vip: SocketAddr::new(site.vip(family).ip(), port),
                        backend: SocketAddr::new(site.stations()[0].address(family), port),
                        client: SocketAddr::new(home, 40_000 + number as u16),
                    });
                }
            }
        }
        services
    }

    /// Frames that the tunnels' clients sent, as the gateway got them.
    fn overheard(&self) -> Result<Vec<Vec<u8>>> {
        let capture = Capture::start(self.lab.inet())?;
        let mut frames = Vec::new();
        for (host, client) in &self.clients {
            let (to, ip) = (client.endpoint(), host.addresses());
            let from = SocketAddr::new(
                if to.is_ipv4() { ip.v4.into() } else { ip.v6.into() },
                client.port(),
            );
            for _ in 0..4 {
                let said = capture.find("a packet of a tunnel", SOON, |d| {
                    (d.source, d.destination) == (from, to)
                })?;
                frames.push(dataplane::fixture::Frame::new(from, to, said.payload).bytes());
            }
        }
        Ok(frames)
    }

    /// The sessions of the crowd and of the tunnels.
    fn sessions(&self) -> Result<Vec<SessionView>> {
        let mut sessions = self.gateway.sessions()?;
        sessions.retain(|s| s.tenant == self.crowd.name() || s.tenant == self.pool.name());
        Ok(sessions)
    }

    /// What was counted, as soon as nothing comes in while it is read.
    fn books(&self) -> Result<Books> {
        let received = || -> Result<u64> {
            let ns = self.lab.gateway();
            INTERFACES.iter().map(|name| ns.interface_counter(name, "rx_packets")).sum()
        };
        until("a moment in which nothing comes in", HANDSHAKE, || {
            let before = received()?;
            let counters = self.gateway.counters()?;
            Ok((before == received()?).then_some(Books { received: before, counters }))
        })
    }

    /// Packets by what became of them.
    fn became(&self, reasons: &Counters) -> Result<BTreeMap<String, u64>> {
        let kinds = self.gateway.kinds()?;
        let mut became = BTreeMap::new();
        for (name, count) in reasons.iter() {
            match kinds.get(name).map(String::as_str) {
                Some("event") => {}
                Some(kind) => *became.entry(kind.to_owned()).or_default() += count,
                None => return Err(LabError::Scenario(format!("{name} is of no kind"))),
            }
        }
        Ok(became)
    }

    /// A stack drops what it does not understand, too, of which there is much here: what was received does not count.
    fn overrun(&self) -> Result<u64> {
        let lab = &self.lab;
        let others = [(lab.inet(), "gw0"), (lab.inet(), "gw1"), (lab.inside(), "gw")];
        let own = INTERFACES.map(|name| (lab.gateway(), name));
        let all = own.into_iter().chain(others);
        all.map(|(ns, name)| ns.interface_counter(name, "tx_dropped")).sum()
    }
}

fn changed(before: &[SessionView], after: &[SessionView]) -> usize {
    let after: BTreeMap<_, _> = after.iter().map(|session| (&session.id, session)).collect();
    let is_same = |old: &&SessionView| {
        after.get(&old.id).is_some_and(|new| {
            (new.client, &new.backend, new.moves) == (old.client, &old.backend, old.moves)
        })
    };
    before.len() - before.iter().filter(is_same).count()
}

impl Claim for Mutated {
    fn failures(&self) -> Vec<String> {
        let t = &self.crowd;
        let lost: u64 = self.tunnels.iter().map(|tally| tally.lost).sum();
        let established = t.flows + self.tunnels.len();
        Check::default()
            .that(t.lost + lost == 0, || {
                format!(
                    "{} of {} packets and {lost} in tunnels lost; the lab's own queues dropped {} of all",
                    t.lost, t.sent, self.overrun
                )
            })
            .that(t.reordered + t.duplicated == 0, || {
                format!("{} packets reordered, {} duplicated", t.reordered, t.duplicated)
            })
            .that(t.strayed == 0, || format!("{} flows changed their concentrator", t.strayed))
            .that(self.sessions == established, || {
                format!("{} sessions of {established}", self.sessions)
            })
            .that(self.changed == 0, || format!("{} sessions changed", self.changed))
            .that(self.received == self.ended, || {
                format!("{} packets came in, {} ended", self.received, self.ended)
            })
            .that(self.received >= self.frames, || {
                format!("{} packets came in, {} frames were sent", self.received, self.frames)
            })
            .that(self.alive, || "the daemon died".to_owned())
            .that(self.drift.is_none(), || format!("the tables drifted: {:?}", self.drift))
            .failures()
    }

    fn summary(&self) -> String {
        let (sent, lost) = self.tunnels.iter().fold((0, 0), |(s, l), t| (s + t.sent, l + t.lost));
        let became: Vec<_> = self.became.iter().map(|(kind, n)| format!("{n} {kind}")).collect();
        format!(
            "{} mutated frames in {:.1} s: of {} packets that came in, {}, for {} reasons; {} of {} packets on {} sessions lost, {lost} of {sent} in tunnels, \
             {} sessions changed; the daemon lives, the tables are right",
            self.frames,
            Duration::from_millis(self.took_ms).as_secs_f64(),
            self.received,
            became.join(", "),
            self.reasons.len(),
            self.crowd.lost,
            self.crowd.sent,
            self.sessions,
            self.changed,
        )
    }
}
