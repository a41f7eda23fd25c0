//! The kernel program against the host build: every packet's verdict and bytes, and
//! what the tables hold afterwards.

use crate::CASES;
use crate::gateway::{Gateway, run};
use crate::memory::{difference, words};
use aya::programs::Xdp;
use dataplane::fixture::catalog::{Scene, answered_elsewhere, cuts, flips};
use dataplane::fixture::check::Shared;
use dataplane::fixture::site::WAN;
use dataplane::fixture::stream::{self, Step, Stream};
use dataplane::packet::Buffer;
use dataplane::pipeline::{self, Action};
use dataplane::reason::{Kind, Reason};
use dataplane::table::host::HostTables;
use libtest_mimic::Failed;
use std::slice::from_ref;
use std::time::Instant;

/// Bytes of the shortest frame that can be run: an Ethernet header.
const SHORTEST: usize = 14;

/// Packets of one stream over one world.
const STREAM: u64 = 100;

/// Bytes of metadata that every kernel takes; Linux 6.11 and later take up to 252
/// (`xdp_metalen_invalid`, net/xdp.h).
const METADATA: usize = 32;

/// Runs `cases` packets through both.
pub(crate) fn compare(cases: u64) -> Result<(), Failed> {
    let started = Instant::now();
    let mut gateway = Gateway::load()?;
    let all_metadata = run(gateway.program()?, &[0; 64], WAN, METADATA + 4, 1).is_ok();
    let mut totals = vec![0; Reason::ALL.len()];
    let mut packets = 0;
    let mut seed = 0;
    while packets < cases {
        packets += one_stream(&mut gateway, seed, all_metadata, &mut totals)
            .map_err(|e| format!("seed {seed}, {}", e.message().unwrap_or_default()))?;
        seed += 1;
    }
    println!("{packets} packets over {seed} worlds in {:.1?}: no difference", started.elapsed());
    let never = |reason| match reason {
        // It takes two processors at once.
        Reason::InsertRace => true,
        // It takes metadata that fill the room before the frame.
        Reason::HeadRoom => !all_metadata,
        _ => false,
    };
    let missing = |(reason, count): (&Reason, &u64)| {
        (*count == 0 && !never(*reason)).then_some(reason.as_str())
    };
    let missing: Vec<_> = Reason::ALL.iter().zip(&totals).filter_map(missing).collect();
    // Fewer packets than usual, as in search of an error, may miss a rare end.
    if cases >= CASES && !missing.is_empty() {
        return Err(format!("no packet met {missing:?}").into());
    }
    Ok(())
}

/// One world and its stream: how many packets it had.
fn one_stream(
    gateway: &mut Gateway,
    seed: u64,
    all_metadata: bool,
    totals: &mut [u64],
) -> Result<u64, Failed> {
    let world = stream::world(seed);
    let t = &world.tables;
    gateway.write(&world)?;
    let before = gateway.counters()?;
    let xdp = gateway.program()?;
    let mut packets = 0;
    let mut ends = [0; ENDS.len()];
    for (number, step) in Stream::new(seed).enumerate() {
        match step {
            Step::Change(change) => {
                change.apply(&Shared::of(t));
                change.apply(&gateway.shared(t));
            }
            Step::Frame { bytes, ingress, metadata } => {
                packets += 1;
                let metadata = if all_metadata { metadata } else { metadata.min(METADATA) };
                let action = both(xdp, t, &bytes, ingress, metadata)
                    .map_err(|wrong| format!("step {number}: {wrong}"))?;
                ends[end(action)] += 1;
            }
        }
        if let Some(table) = differing(gateway, t) {
            return Err(format!("step {number}: {table}").into());
        }
        if packets == STREAM {
            break;
        }
    }
    if let Some(word) = difference(words(&t.budgets), words(&gateway.budgets)) {
        return Err(format!("budget {word}").into());
    }
    if let Some(word) = difference(words(&t.paces), words(&gateway.paces)) {
        return Err(format!("word {word} of the handshakes' meters").into());
    }
    if let Some(word) = difference(words(&t.fragments), words(&gateway.fragments)) {
        return Err(format!("word {word} of the fragments").into());
    }
    let mut counted = [0; ENDS.len()];
    for (index, (after, before)) in gateway.counters()?.iter().zip(&before).enumerate() {
        let reason = Reason::ALL[index];
        let (host, kernel) = (t.counter(reason), after - before);
        if host != kernel {
            return Err(format!("{}: host {host}, kernel {kernel}", reason.as_str()).into());
        }
        totals[index] += host;
        // What is taken in ends like what is dropped.
        let kind = if reason.kind() == Kind::Taken { Kind::Dropped } else { reason.kind() };
        if let Some(end) = ENDS.iter().position(|end| *end == kind) {
            counted[end] += kernel;
        }
    }
    // Each packet in one end: together they are the packets received.
    if counted != ends {
        return Err(format!("{ENDS:?}: {ends:?} packets, counted {counted:?}").into());
    }
    Ok(packets)
}

/// Runs a packet through both: the kernel's action.
fn both(
    xdp: &Xdp,
    t: &HostTables,
    bytes: &[u8],
    ingress: u32,
    metadata: usize,
) -> Result<u32, String> {
    let mut packet = Buffer::with_metadata(bytes, ingress, metadata);
    let verdict = pipeline::run(&mut packet, t);
    let ran = run(xdp, bytes, ingress, metadata, 1)?;
    let there = (action(verdict.action), packet.bytes());
    if (ran.action, &ran.frame) == (there.0, &there.1) {
        return Ok(ran.action);
    }
    Err(format!(
        "host {verdict:?} {:02x?}, kernel {} {:02x?}, of {bytes:02x?}",
        there.1, ran.action, ran.frame
    ))
}

/// Runs the catalogue's packets through both, cut at every length and with each header
/// bit flipped.
pub(crate) fn mutations() -> Result<(), Failed> {
    let mut gateway = Gateway::load()?;
    let mut frames = 0;
    for packet in Scene::new().packets().into_iter().chain(answered_elsewhere()) {
        // Its sessions, as they were before another packet's mutations changed them.
        let world = Scene::new().world;
        gateway.write(&world)?;
        let (t, xdp) = (&world.tables, gateway.program()?);
        for frame in cuts(&packet.bytes, SHORTEST).chain(flips(&packet.bytes)) {
            both(xdp, t, &frame, packet.ingress, 0)
                .map_err(|wrong| format!("{}: {wrong}", packet.name))?;
            if let Some(table) = differing(&gateway, t) {
                return Err(format!("{}: {table}, after {frame:02x?}", packet.name).into());
            }
            frames += 1;
        }
    }
    println!("{frames} packets cut or changed: no difference");
    Ok(())
}

/// What may become of a packet.
const ENDS: [Kind; 3] = [Kind::Forwarded, Kind::Passed, Kind::Dropped];

/// The index in [`ENDS`] of XDP's number of an action.
fn end(action: u32) -> usize {
    match action {
        3 | 4 => 0,
        2 => 1,
        _ => 2,
    }
}

/// XDP's number of an action (linux/bpf.h).
fn action(action: Action) -> u32 {
    match action {
        Action::Drop => 1,
        Action::Pass => 2,
        Action::Transmit => 3,
        Action::Redirect(_) => 4,
    }
}

/// The first word in which the tables differ, budgets and fragments apart.
fn differing(gateway: &Gateway, t: &HostTables) -> Option<String> {
    let shared = gateway.shared(t);
    let tables = [
        ("slots", 8, words(&t.slots), words(shared.slots)),
        ("details", 8, words(&t.details), words(shared.details)),
        ("ids", 8, words(&t.ids), words(shared.ids)),
        ("hints", 8, words(&t.hints), words(&gateway.hints[..t.hints.len()])),
        ("tenants", 40, words(&t.tenants), words(shared.tenants)),
        ("settings", 24, words(from_ref(&t.settings)), words(from_ref(shared.settings))),
    ];
    tables.into_iter().find_map(|(name, size, host, kernel)| {
        let at = difference(host, kernel)?;
        Some(format!(
            "{name}[{}], word {}: host {:x?}, kernel {:x?}",
            at / size,
            at % size,
            host[at],
            kernel[at]
        ))
    })
}
