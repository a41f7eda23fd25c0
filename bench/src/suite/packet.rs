//! Nanoseconds of the whole kernel program for one packet.
//!
//! Of each figure the harness's own cost is subtracted: the same packets, played to a program
//! that returns at once. Peers in the same rounds: the floor (headers read, link-layer addresses
//! written), the floor with a redirect to another interface, the floor with one cache line of the session table, the gateway's own pipeline with a BPF
//! hash in place of its slot table, and with a session that it need not look up.

use anyhow::bail;
use bench_ebpf::Target;
use dataplane::reason::Reason;

use crate::gateway::Gateway;
use crate::measure::{Effort, Spread};
use crate::player::{Family, Flows, Message, Player, Side};
use crate::report::{Measured, Progress, Report};
use crate::suite::Wanted;

/// One kind of packet, to be measured.
#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    message: Message,
    /// How each of its packets ends.
    reason: Reason,
    /// Whether the lookup of its session is what costs: measured with the hash too, and beside one cache
    /// line of the table.
    looks_up: bool,
    /// Whether it says nothing that only its own session has: then it can be given another's, which
    /// is not looked up.
    is_anybodys: bool,
}

impl Case {
    /// It leaves by another interface.
    fn is_forwarded(&self) -> bool {
        matches!(self.reason, Reason::InEstablished | Reason::OutEstablished)
    }
}

const fn case(name: &'static str, message: Message, reason: Reason) -> Case {
    Case { name, message, reason, looks_up: false, is_anybodys: false }
}

const ESTABLISHED: [Case; 2] = [
    Case { looks_up: true, ..case("wireguard in", Message::Data, Reason::InEstablished) },
    Case { looks_up: true, ..case("wireguard out", Message::DataAnswer, Reason::OutEstablished) },
];

const OTHERS: [Case; 4] = [
    case("roamed in", Message::Roamed, Reason::InById),
    case("unestablished in", Message::Initiation, Reason::InUnestablished),
    case("malformed", Message::Malformed, Reason::WireGuardMalformed),
    case("not ours", Message::Foreign, Reason::NotOurs),
];

const DATAGRAMS: [Case; 2] = [
    Case {
        looks_up: true,
        is_anybodys: true,
        ..case("udp in", Message::Datagram, Reason::InEstablished)
    },
    Case { looks_up: true, ..case("udp out", Message::DatagramAnswer, Reason::OutEstablished) },
];

const OPENVPN: [Case; 2] = [
    case("openvpn in", Message::OpenVpn, Reason::InEstablished),
    case("openvpn out", Message::OpenVpnAnswer, Reason::OutEstablished),
];

const IPSEC: [Case; 2] = [
    case("esp in", Message::Esp, Reason::InEstablished),
    case("esp out", Message::EspAnswer, Reason::OutEstablished),
];

const DTLS: [Case; 3] = [
    case("dtls 1.3 in", Message::Record, Reason::InEstablished),
    case("dtls 1.2 in", Message::Record12, Reason::InEstablished),
    case("dtls out", Message::RecordAnswer, Reason::OutEstablished),
];

const TCP: [Case; 2] = [
    case("tcp in", Message::Segment, Reason::InEstablished),
    case("tcp out", Message::SegmentAnswer, Reason::OutEstablished),
];

/// A gateway full of one kind of sessions, and what is measured on it.
struct Stage {
    gateway: Gateway,
    player: Player,
    family: Family,
    cases: Vec<(Case, u32)>,
}

/// A case's turns.
#[derive(Default)]
struct Turns {
    own: Vec<f64>,
    floor: Vec<f64>,
    redirect: Vec<f64>,
    hash: Vec<f64>,
    line: Vec<f64>,
    tables: Vec<f64>,
    given: Vec<f64>,
}

/// What [`Stage::new`] makes one of.
type Plan = (Family, Message, Vec<(Case, u32)>);

/// Measures.
pub(super) fn run(wanted: Wanted<'_>, report: &mut Report) -> anyhow::Result<()> {
    let effort = Effort::new(wanted.quick);
    let acts = [(60_000, &[1, 1_000, 60_000][..]), (1_000_000, &[1_000_000])]
        .map(|(sessions, counts)| (sessions, plans(wanted, sessions, counts)));
    let lengths = acts.iter().map(|(_, plans)| plans.len()).filter(|stages| *stages > 0);
    let steps = lengths.map(|stages| stages + effort.rounds).sum();
    let mut progress = Progress::new("packet", steps);
    for (sessions, plans) in acts {
        let mut stages = Vec::new();
        for (family, answer, cases) in plans {
            progress.step(&format!("opening {sessions} sessions, {}", family.name()));
            let what = format!("{answer:?}-{}-{sessions}", family.name());
            stages.push(Stage::new(&what, sessions, family, answer, cases)?);
        }
        if !stages.is_empty() {
            measure(&mut stages, sessions, effort, &mut progress, report)?;
        }
    }
    Ok(())
}

/// What is to be measured among so many sessions; `counts` are of flows that are played.
fn plans(wanted: Wanted<'_>, sessions: u32, counts: &[u32]) -> Vec<Plan> {
    let mut plans = Vec::new();
    for (family, answer) in [
        (Family::V4, Message::DataAnswer),
        (Family::V6, Message::DataAnswer),
        (Family::V4, Message::DatagramAnswer),
        (Family::V6, Message::DatagramAnswer),
        (Family::V4, Message::OpenVpnAnswer),
        (Family::V6, Message::OpenVpnAnswer),
        (Family::V4, Message::EspAnswer),
        (Family::V6, Message::EspAnswer),
        (Family::V4, Message::RecordAnswer),
        (Family::V6, Message::RecordAnswer),
        (Family::V4, Message::SegmentAnswer),
        (Family::V6, Message::SegmentAnswer),
    ] {
        let mut cases: Vec<(Case, u32)> = Vec::new();
        let established = match answer {
            Message::DatagramAnswer => &DATAGRAMS[..],
            Message::OpenVpnAnswer => &OPENVPN,
            Message::EspAnswer => &IPSEC,
            Message::RecordAnswer => &DTLS,
            Message::SegmentAnswer => &TCP,
            _ => &ESTABLISHED,
        };
        for count in counts {
            cases.extend(established.iter().map(|case| (*case, *count)));
        }
        if answer == Message::DataAnswer {
            cases.extend(OTHERS.map(|case| (case, sessions)));
        }
        // Two minutes are not enough for all of every profile.
        let is_other = wanted.quick && answer != Message::DataAnswer;
        let is_wanted = |flows| {
            matches!(flows, 1 | 60_000) || answer == Message::DatagramAnswer && flows == 1_000_000
        };
        let left_out = |flows| is_other && (family == Family::V6 || !is_wanted(flows));
        cases.retain(|(case, flows)| !left_out(*flows) && wanted.has(case.name, family, *flows));
        if !cases.is_empty() {
            plans.push((family, answer, cases));
        }
    }
    plans
}

/// All cases of all stages in each round.
fn measure(
    stages: &mut [Stage],
    sessions: u32,
    effort: Effort,
    progress: &mut Progress,
    report: &mut Report,
) -> anyhow::Result<()> {
    let mut plans = Vec::new();
    for (index, stage) in stages.iter_mut().enumerate() {
        for (case, flows) in stage.cases.clone() {
            let packets = stage.calibrate(case, flows, effort)?;
            plans.push((index, case, flows, packets, Turns::default()));
        }
    }
    for round in 1..=effort.rounds {
        progress.step(&format!("{sessions} sessions, round {round} of {}", effort.rounds));
        for (index, case, flows, packets, turns) in &mut plans {
            let stage = &mut stages[*index];
            let control = stage.turn(*case, *flows, *packets, Target::Control)?;
            let mut net = |target| -> anyhow::Result<f64> {
                let ns = stage.turn(*case, *flows, *packets, target)?;
                Ok((ns - control) / f64::from(*packets))
            };
            turns.own.push(net(Target::Gateway)?);
            turns.floor.push(net(Target::Floor)?);
            if case.is_forwarded() {
                turns.redirect.push(net(Target::Redirect)?);
            }
            if case.looks_up {
                turns.hash.push(net(Target::Hash)?);
                turns.line.push(net(Target::Line)?);
                turns.tables.push(net(Target::Tables)?);
            }
            if case.is_anybodys {
                turns.given.push(net(Target::Given)?);
            }
        }
    }
    for (index, case, flows, _, turns) in &plans {
        // The same direction of WireGuard, in the same rounds: what a profile costs more.
        let family = stages[*index].family;
        let name = if case.name.ends_with(" in") { "wireguard in" } else { "wireguard out" };
        let of_wireguard = plans.iter().find(|(at, other, count, ..)| {
            other.name == name && stages[*at].family == family && count == flows
        });
        let wireguard = of_wireguard
            .filter(|_| case.is_forwarded() && case.name != name)
            .map(|(.., turns)| (name, &turns.own));
        let mut row = |name: &str, figures: &[f64], against: Option<(&'static str, &[f64])>| {
            let ratio = |(_, others): (_, &[f64])| {
                Spread::of(others.iter().zip(figures).map(|(other, own)| other / own)).median
            };
            report.add(Measured {
                suite: "packet",
                case: name.to_owned(),
                family: Some(stages[*index].family.name()),
                flows: u64::from(*flows),
                unit: "ns/packet",
                spread: Spread::of(figures.iter().copied()),
                against: against.map(|(name, _)| name),
                ratio: against.map(ratio),
            });
        };
        row(case.name, &turns.own, Some(("floor", &turns.floor)));
        if case.is_forwarded() {
            row(case.name, &turns.own, Some(("floor and redirect", &turns.redirect)));
            row(&format!("{}, floor and redirect", case.name), &turns.redirect, None);
        }
        if case.looks_up {
            row(case.name, &turns.own, Some(("bpf hash", &turns.hash)));
            row(&format!("{}, bpf hash", case.name), &turns.hash, None);
            row(case.name, &turns.own, Some(("one cache line", &turns.line)));
            row(&format!("{}, one cache line", case.name), &turns.line, None);
            row(case.name, &turns.own, Some(("its tables", &turns.tables)));
            row(&format!("{}, its tables", case.name), &turns.tables, None);
        }
        if let Some((other, wireguard)) = &wireguard {
            row(case.name, &turns.own, Some((*other, wireguard)));
        }
        if case.is_anybodys {
            // What the lookup alone costs, with all that waits for it: less the same without one.
            let alone = |figures: &[f64]| -> Vec<f64> {
                figures.iter().zip(&turns.given).map(|(all, rest)| all - rest).collect()
            };
            let (own, hash) = (alone(&turns.own), alone(&turns.hash));
            row(&format!("{}, lookup alone", case.name), &own, Some(("bpf hash", &hash)));
            row(&format!("{}, without a lookup", case.name), &turns.given, None);
        }
        row(&format!("{}, floor", case.name), &turns.floor, None);
    }
    Ok(())
}

impl Stage {
    /// Makes a gateway, and opens its sessions by answers.
    fn new(
        name: &str,
        sessions: u32,
        family: Family,
        answer: Message,
        cases: Vec<(Case, u32)>,
    ) -> anyhow::Result<Self> {
        let gateway = Gateway::new(name, u64::from(sessions))?;
        let mut player = Player::new(&gateway, sessions)?;
        gateway.fill(&mut player, answer, family, sessions)?;
        player.copy_sessions(&gateway)?;
        Ok(Self { gateway, player, family, cases })
    }

    /// How many packets make a turn.
    fn calibrate(&mut self, case: Case, flows: u32, effort: Effort) -> anyhow::Result<u32> {
        const FEW: u32 = 20_000;
        let ns = self.turn(case, flows, FEW, Target::Gateway)?;
        Ok((effort.turn_ns / ns * f64::from(FEW)) as u32)
    }

    /// Plays packets to a target: processor time in nanoseconds. All of them must end as the
    /// case says.
    fn turn(
        &mut self,
        case: Case,
        flows: u32,
        packets: u32,
        target: Target,
    ) -> anyhow::Result<f64> {
        let flows = Flows { first: 0, count: flows, random: true };
        self.player.set(case.message, self.family, flows, target);
        // As it is in service: what the caches can hold of these flows, they hold. Of more
        // flows than that they would forget the first again.
        let warm = (flows.count / 2 * 3).clamp(2_000, 300_000);
        self.player.run(warm, Side::of(case.message))?;
        let before = self.gateway.count(case.reason)?;
        let ran = self.player.run(packets, Side::of(case.message))?;
        let counted = self.gateway.count(case.reason)? - before;
        let wanted = match target {
            Target::Control
            | Target::Floor
            | Target::Line
            | Target::Lines
            | Target::Redirect
            | Target::Tables => 0,
            Target::Gateway | Target::Hash | Target::Given => u64::from(packets),
        };
        if counted != wanted {
            let (name, reason) = (case.name, case.reason.as_str());
            bail!(
                "{name}, {target:?}: {counted} of {packets} packets ended as {reason}; the last one's action was {}",
                ran.action
            );
        }
        Ok(ran.ns)
    }
}
