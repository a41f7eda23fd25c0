//! Frames a second, end to end over veth: from a client's cable through a gateway to where they are
//! counted, on one processor, in a closed loop.
//!
//! Each way of forwarding has a network namespace of its own, laid out alike. What sends is the same
//! player as in the other suites, by test runs with live frames; what receives is an XDP program at the
//! other end of the cable to the concentrators. A turn counts if all frames arrived.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use anyhow::bail;

use crate::gateway::{BACKEND4, BACKENDS, Gateway, UDP_PORT, VIP4, WIREGUARD_PORT, backend4};
use crate::measure::{Effort, Spread};
use crate::place::{LAN_PEER, Net, WAN, command, ip, sysctl};
use crate::player::{Family, Flows, Message, Player};
use crate::report::{Measured, Progress, Report};
use crate::suite::Wanted;

/// Sessions, and the most flows.
const SESSIONS: u32 = 60_000;

/// A way to forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// The gateway.
    Fernpass,
    /// An XDP program that sends every frame on with addresses that it has in itself.
    Static,
    /// The same, after one look at each table that a translated packet has to ask.
    Tables,
    /// The kernel's routing: no state, no translation.
    Kernel,
    /// nftables' destination NAT to one of the backends, with conntrack.
    Nftables,
    /// Dropped by XDP where the gateway would begin: the harness.
    Drop,
}

impl Way {
    const ALL: [Self; 6] =
        [Self::Fernpass, Self::Static, Self::Tables, Self::Kernel, Self::Nftables, Self::Drop];

    const fn name(self) -> &'static str {
        match self {
            Self::Fernpass => "fernpass",
            Self::Static => "static redirect",
            Self::Tables => "its tables",
            Self::Kernel => "kernel forwarding",
            Self::Nftables => "nftables dnat",
            Self::Drop => "drop at the gateway",
        }
    }

    /// Where its frames are addressed to when they arrive: an address and how many of its bits count.
    const fn destination(self) -> (Ipv4Addr, u32) {
        match self {
            Self::Fernpass | Self::Nftables => (BACKEND4, 24),
            Self::Static | Self::Tables | Self::Kernel | Self::Drop => (VIP4, 32),
        }
    }
}

/// Frames of one kind, with what opens their sessions, and their bytes. A WireGuard message has 74 bytes with its headers, or more: the smallest
/// frames are those of another protocol.
const LOADS: [(Message, Message, usize); 2] =
    [(Message::Datagram, Message::DatagramAnswer, 64), (Message::Data, Message::DataAnswer, 1_400)];

/// Where each way has its interfaces.
struct Lanes {
    gateway: Gateway,
    player: Player,
    nets: Vec<(Way, Net)>,
}

/// Measures.
pub(super) fn run(wanted: Wanted<'_>, report: &mut Report) -> anyhow::Result<()> {
    let effort = Effort::new(wanted.quick);
    let name = |way: Way, bytes: usize| format!("{}, {bytes} bytes", way.name());
    let has = |bytes: usize, flows: &u32| {
        Way::ALL.iter().any(|way| wanted.has(&name(*way, bytes), Family::V4, *flows))
    };
    let loads = LOADS.map(|load| {
        let flows = [1, 1_000, SESSIONS].into_iter();
        (load, flows.filter(|flows| has(load.2, flows)).collect::<Vec<_>>())
    });
    let parts: usize = loads.iter().map(|(_, flows)| flows.len()).sum();
    let mut progress = Progress::new("forward", parts * effort.rounds);
    for ((message, answer, bytes), all) in loads {
        if all.is_empty() {
            continue;
        }
        let mut lanes = Lanes::new(answer)?;
        for flows in all {
            let mut turns: Vec<Vec<f64>> = vec![Vec::new(); Way::ALL.len()];
            let mut frames = Vec::new();
            for way in Way::ALL {
                frames.push(lanes.calibrate(way, message, bytes, flows, effort)?);
            }
            for round in 1..=effort.rounds {
                let all = effort.rounds;
                progress.step(&format!("{bytes} bytes, {flows} flows, round {round} of {all}"));
                for ((way, frames), turns) in Way::ALL.into_iter().zip(&frames).zip(&mut turns) {
                    turns.push(lanes.turn(way, message, bytes, flows, *frames)?);
                }
            }
            let (own, others) = turns.split_at(1);
            let mut row = |way: Way, figures: &[f64], against: Option<(Way, &[f64])>| {
                report.add(Measured {
                    suite: "forward",
                    case: name(way, bytes),
                    family: Some(Family::V4.name()),
                    flows: flows.into(),
                    unit: "packets/s",
                    spread: Spread::of(figures.iter().map(|ns| 1e9 / ns)),
                    against: against.map(|(way, _)| way.name()),
                    ratio: against.map(|(_, others)| {
                        Spread::of(others.iter().zip(figures).map(|(o, f)| o / f)).median
                    }),
                });
            };
            for (way, figures) in Way::ALL.into_iter().skip(1).zip(others) {
                row(Way::Fernpass, &own[0], Some((way, figures)));
            }
            for (way, figures) in Way::ALL.into_iter().skip(1).zip(others) {
                row(way, figures, None);
            }
        }
    }
    Ok(())
}

impl Lanes {
    /// Lays all out, with sessions that these answers open.
    fn new(answer: Message) -> anyhow::Result<Self> {
        let mut gateway = Gateway::new("forward", u64::from(SESSIONS))?;
        let mut player = Player::new(&gateway, 1)?;
        gateway.fill(&mut player, answer, Family::V4, SESSIONS)?;
        gateway.attach()?;
        player.attach("receive", LAN_PEER)?;
        let mut nets = Vec::new();
        for way in Way::ALL.into_iter().skip(1) {
            let net = Net::new()?;
            match way {
                Way::Fernpass => {}
                Way::Static => player.attach("shortcut", WAN)?,
                // The tables are the gateway's, and so is the map of devices: its frames arrive there.
                Way::Tables => player.attach("tables", WAN)?,
                Way::Kernel => route(&format!("{VIP4}/32 via {BACKEND4} dev lan"))?,
                Way::Nftables => {
                    route("")?;
                    command("nft", "-f -", &ruleset())?;
                    // The player leaves the checksum of UDP to whoever wants to know it.
                    sysctl("netfilter/nf_conntrack_checksum", "0")?;
                }
                Way::Drop => player.attach("receive", WAN)?,
            }
            player.attach("receive", LAN_PEER)?;
            nets.push((way, net));
        }
        Ok(Self { gateway, player, nets })
    }

    /// How many frames make a turn.
    fn calibrate(
        &mut self,
        way: Way,
        message: Message,
        bytes: usize,
        flows: u32,
        effort: Effort,
    ) -> anyhow::Result<u32> {
        // What it learns of a flow, it learns here.
        let first = Flows { first: 0, count: flows, random: false };
        self.enter(way)?;
        self.player.send(message, first, bytes, flows.max(64))?;
        let ns = self.turn(way, message, bytes, flows, 20_000)?;
        // On the clock a turn is several times what it is in `packet`: what others take of the
        // processor is in it.
        Ok((effort.turn_ns * 4.0 / ns.max(20.0)) as u32)
    }

    /// Sends frames: nanoseconds for each. All of them must arrive.
    fn turn(
        &mut self,
        way: Way,
        message: Message,
        bytes: usize,
        flows: u32,
        frames: u32,
    ) -> anyhow::Result<f64> {
        const TRIES: u32 = 3;
        // A call costs a grace period, however few frames it sends.
        const FEW: u32 = 64;
        self.enter(way)?;
        let flows = Flows { first: 0, count: flows, random: true };
        let mut arrived = 0;
        for _ in 0..TRIES {
            let call = self.player.send(message, flows, bytes, FEW)?;
            let (network, length) = way.destination();
            self.player.expect(network, length);
            let ns = self.player.send(message, flows, bytes, frames)?;
            arrived = self.player.arrived();
            if arrived == u64::from(frames) {
                return Ok((ns - call) / f64::from(frames - FEW));
            }
        }
        bail!("{}: {arrived} of {frames} frames arrived, in the last of {TRIES} tries", way.name());
    }

    fn enter(&self, way: Way) -> anyhow::Result<()> {
        match self.nets.iter().find(|(other, _)| *other == way) {
            Some((_, net)) => net.enter(),
            None => self.gateway.enter(),
        }
    }
}

/// Addresses and neighbours for the kernel's own forwarding, and one more route.
fn route(more: &str) -> anyhow::Result<()> {
    sysctl("ipv4/ip_forward", "1")?;
    for name in ["all", "default", "wan", "lan"] {
        sysctl(&format!("ipv4/conf/{name}/rp_filter"), "0")?;
    }
    // Without a program it is this that makes veth take frames from XDP.
    command("ethtool", "-K wan gro on", "")?;
    ip("address add 198.51.100.2/24 dev wan")?;
    ip("address add 10.20.0.1/24 dev lan")?;
    ip("neighbour add 198.51.100.1 lladdr 02:00:00:01:0b:01 nud permanent dev wan")?;
    ip("route add default via 198.51.100.1 dev wan")?;
    for number in 0..BACKENDS {
        let address = backend4(number);
        ip(&format!(
            "neighbour add {address} lladdr 02:00:00:01:0c:{number:02x} nud permanent dev lan"
        ))?;
    }
    if more.is_empty() { Ok(()) } else { ip(&format!("route add {more}")) }
}

/// Destination NAT to a backend that a hash over the flow chooses.
fn ruleset() -> String {
    let mut backends = String::new();
    for number in 0..BACKENDS {
        let _ = write!(backends, "{number} : {}, ", backend4(number));
    }
    format!(
        "table ip gateway {{
  chain prerouting {{
    type nat hook prerouting priority dstnat;
    ip daddr {VIP4} udp dport {{ {WIREGUARD_PORT}, {UDP_PORT} }} dnat to jhash ip saddr . udp sport mod {BACKENDS} map {{ {backends} }}
  }}
}}
"
    )
}
