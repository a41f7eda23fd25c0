//! The tables become larger while they are in use.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::chaos::changed;
use super::crowded::Crowded;
use super::{Check, Claim, SOON, ms};
use crate::error::Result;
use crate::gateway::{Gateway, SessionView};
use crate::traffic::CrowdTally;

/// From what to what, under what.
#[derive(Clone, Copy, Debug)]
pub struct GrowthPlan {
    /// `max_sessions` before.
    pub from: u32,
    /// And after.
    pub to: u32,
    /// Sessions on which requests are sent all the while.
    pub busy: usize,
    /// Sessions beside them that are silent.
    pub idle: usize,
    /// Requests a second, on all busy ones together.
    pub rate: u32,
    /// By a restart of a daemon that was killed, instead of a reload.
    pub by_restart: bool,
}

/// What [`growth`] measured.
#[derive(Clone, Debug, Serialize)]
pub struct Growth {
    /// Sessions of the plan.
    pub planned: usize,
    /// Sessions before, which are as many at least.
    pub sessions: usize,
    /// Of them those that are gone, or whose id, backend or number of moves is another.
    pub changed: usize,
    /// Sessions and counters that went back.
    pub lower: Vec<String>,
    /// Traffic all the while.
    pub traffic: CrowdTally,
    /// How many sessions there is room for before, and afterwards.
    pub room: [u64; 2],
    /// How long the reload (or the start) took.
    pub took_ms: u64,
    /// The daemon's largest memory, in MiB: its own and the tables that it has mapped.
    pub peak_mib: u64,
    /// What `fernpass diff` said beforehand.
    pub announced: String,
    /// What `fernpass verify` found afterwards, if anything.
    pub drift: Option<String>,
}

/// Makes the tables larger under traffic, in a lab of its own.
pub fn growth(plan: &GrowthPlan) -> Result<Growth> {
    let mut farm = Crowded::start(plan.from)?;
    farm.idle_beside(plan.idle, plan.busy)?;
    let crowd = farm.crowd(plan.busy, plan.rate)?;
    let mut config = farm.config.clone();
    config.gateway.max_sessions = plan.to;
    farm.gateway.write(&config)?;
    let gateway = &mut farm.gateway;
    let announced = gateway.show(&["diff"])?;
    let before = gateway.sessions()?;
    let (counters, small) = (gateway.counters()?, room(gateway)?);

    let started = Instant::now();
    if plan.by_restart {
        gateway.kill();
        gateway.run()?;
    } else {
        gateway.act(&["reload"])?;
    }
    let took_ms = ms(started.elapsed());
    std::thread::sleep(Duration::from_secs(1));
    crowd.wait_for(1, SOON)?;
    let verified = gateway.call(&["verify"])?;
    let is_right = verified["writes"] == 0 && verified["drift"] == serde_json::json!([]);
    let after = gateway.sessions()?;
    let mut lower = gateway.counters()?.lower_than(&counters);
    lower.extend(less(&before, &after));
    Ok(Growth {
        planned: plan.busy + plan.idle,
        sessions: before.len(),
        changed: changed(&before, &after),
        lower,
        traffic: crowd.stop(),
        room: [small, room(gateway)?],
        took_ms,
        peak_mib: peak(gateway),
        announced,
        drift: (!is_right).then(|| verified.to_string()),
    })
}

fn room(gateway: &Gateway) -> Result<u64> {
    Ok(gateway.call(&["status"])?["max_sessions"].as_u64().unwrap_or(0))
}

fn peak(gateway: &Gateway) -> u64 {
    let text = gateway.process_status("VmHWM").unwrap_or_default();
    text.split(' ').next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) / 1024
}

/// Sessions that have had less than before.
pub(super) fn less(before: &[SessionView], after: &[SessionView]) -> Vec<String> {
    let after: BTreeMap<_, _> = after.iter().map(|session| (&session.id, session)).collect();
    let had = |s: &SessionView| [s.rx_packets, s.rx_bytes, s.tx_packets, s.tx_bytes];
    let is_less = |old: &&SessionView| {
        let new = after.get(&old.id);
        new.is_some_and(|new| had(old).into_iter().zip(had(new)).any(|(old, new)| new < old))
    };
    before.iter().filter(is_less).map(|old| format!("session {} has had less", old.id)).collect()
}

impl Claim for Growth {
    fn failures(&self) -> Vec<String> {
        let t = &self.traffic;
        Check::default()
            .that(self.sessions >= self.planned, || {
                format!("{} sessions instead of {}", self.sessions, self.planned)
            })
            .that(t.lost == 0, || format!("{} of {} packets lost", t.lost, t.sent))
            .that(t.reordered + t.duplicated == 0, || {
                format!("{} packets reordered, {} duplicated", t.reordered, t.duplicated)
            })
            .that(t.strayed == 0, || format!("{} flows changed their concentrator", t.strayed))
            .that(self.changed == 0, || format!("{} sessions changed", self.changed))
            .that(self.lower.is_empty(), || format!("went back: {:?}", self.lower))
            .that(self.room[1] > self.room[0], || format!("no more room: {:?}", self.room))
            .that(self.announced.contains("the tables grow"), || {
                format!("not announced: {}", self.announced)
            })
            .that(self.drift.is_none(), || format!("the tables drifted: {:?}", self.drift))
            .failures()
    }

    fn summary(&self) -> String {
        format!(
            "the tables grew from {} to {} sessions under {} of them in {} ms: {} of {} packets lost, {} reordered, \
             {} sessions changed; the daemon had {} MiB at most",
            self.room[0],
            self.room[1],
            self.sessions,
            self.took_ms,
            self.traffic.lost,
            self.traffic.sent,
            self.traffic.reordered,
            self.changed,
            self.peak_mib,
        )
    }
}
