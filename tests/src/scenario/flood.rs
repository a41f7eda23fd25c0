//! A flood of handshake initiations, or of fragments, from random sources.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;

use super::{Check, Claim, Farm, SOON, ms};
use crate::error::Result;
use crate::gateway::SessionView;
use crate::layout::plan::{self, Family};
use crate::net::Ns;
use crate::traffic::{Flood, FragmentFlood};

/// Initiations a second: what the concentrators of a small machine can read. Behind
/// a full socket of theirs nobody could tell whose fault a loss is.
const RATE: u32 = 20_000;
/// Requests a second of every established client.
const TRAFFIC: u32 = 50;

/// What [`flood`] measured.
#[derive(Clone, Debug, Serialize)]
pub struct Flooded {
    /// Packets sent.
    pub packets: u64,
    /// How many the gateway forwarded without a session.
    pub forwarded: u64,
    /// How many it refused, of a tenant at its quota. Random sources meet no source's budget.
    pub refused: u64,
    /// How long it took.
    pub took_ms: u64,
    /// Sessions opened or begun meanwhile.
    pub opened: u64,
    /// Sessions before.
    pub before: usize,
    /// Sessions afterwards.
    pub after: usize,
    /// Sessions that were there before and are not, or are elsewhere.
    pub disturbed: Vec<String>,
    /// Requests of the established clients.
    pub sent: u64,
    /// How many of them had no answer.
    pub lost: u64,
    /// Packets of any kind that the lab's own interfaces had no place for.
    pub overrun: u64,
}

/// Floods all services with initiations while all clients have traffic.
pub fn flood(farm: &Farm, initiations: u64) -> Result<Flooded> {
    flooded(farm, initiations, |service, count| {
        Flood { count, rate: RATE }.run(farm.lab().inet(), service)
    })
}

/// Floods all services with fragments that never become packets while all clients have traffic.
pub fn fragment_flood(farm: &Farm, fragments: u64) -> Result<Flooded> {
    flooded(farm, fragments, |service, count| {
        FragmentFlood { count, rate: RATE }.run(farm.lab().inet(), service)
    })
}

fn flooded(
    farm: &Farm,
    packets: u64,
    run: impl Fn(SocketAddr, u64) -> Result<Duration>,
) -> Result<Flooded> {
    let before = farm.gateway().sessions()?;
    let mut traffic = Vec::new();
    for member in 0..farm.members().len() {
        let sequence = farm.traffic(member, TRAFFIC)?;
        sequence.wait_for(5, SOON)?;
        traffic.push(sequence);
    }
    let counters = farm.gateway().counters()?;
    let overrun = overrun(farm)?;
    let services: Vec<_> = farm
        .pools()
        .iter()
        .flat_map(|pool| [Family::V4, Family::V6].map(|f| plan::listener(pool.number(), f)))
        .collect();
    let mut took = Duration::ZERO;
    let count = packets.div_ceil(services.len() as u64);
    for &service in &services {
        took += run(service, count)?;
    }
    let (mut sent, mut lost) = (0, 0);
    for sequence in traffic {
        let tally = sequence.stop();
        sent += tally.sent;
        lost += tally.lost;
    }
    let counted = farm.gateway().counters()?.since(&counters);
    let after = farm.gateway().sessions()?;
    Ok(Flooded {
        packets: count * services.len() as u64,
        forwarded: counted.get("in_unestablished") + counted.get("in_fragment"),
        refused: counted.get("tenant_quota"),
        took_ms: ms(took),
        opened: counted.get("session_opened") + counted.get("session_tentative"),
        before: before.len(),
        after: after.len(),
        disturbed: disturbed(&before, &after),
        sent,
        lost,
        overrun: self::overrun(farm)?.saturating_sub(overrun),
    })
}

fn overrun(farm: &Farm) -> Result<u64> {
    let lab = farm.lab();
    [lab.inet(), lab.gateway(), lab.inside()].into_iter().map(Ns::dropped_by_queues).sum()
}

fn disturbed(before: &[SessionView], after: &[SessionView]) -> Vec<String> {
    let key = |s: &SessionView| (s.id.clone(), s.backend.clone(), s.client, s.moves);
    before
        .iter()
        .filter(|old| !after.iter().any(|new| key(new) == key(old)))
        .map(|old| old.id.clone())
        .collect()
}

impl Claim for Flooded {
    fn failures(&self) -> Vec<String> {
        let arrived = self.forwarded + self.refused;
        Check::default()
            // What a full queue of the lab's own drops is no fault of the gateway's.
            .that(arrived >= self.packets / 100 * 95, || {
                format!("only {arrived} of {} packets arrived at the gateway", self.packets)
            })
            .that(self.opened == 0, || format!("{} sessions were opened", self.opened))
            .that(self.before == self.after && self.disturbed.is_empty(), || {
                format!(
                    "{} sessions became {}, disturbed: {:?}",
                    self.before, self.after, self.disturbed
                )
            })
            .that(self.lost == 0, || {
                format!(
                    "established clients lost {} of {} packets; the lab's own queues dropped {} of all",
                    self.lost, self.sent, self.overrun
                )
            })
            .failures()
    }

    fn summary(&self) -> String {
        format!(
            "{} packets in {:.1} s, {} forwarded, {} refused at a full quota: {} sessions opened, {} before and {} after, {} of {} packets lost",
            self.packets,
            self.took_ms as f64 / 1000.0,
            self.forwarded,
            self.refused,
            self.opened,
            self.before,
            self.after,
            self.lost,
            self.sent,
        )
    }
}
