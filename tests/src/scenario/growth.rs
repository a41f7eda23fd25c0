//! The tables become larger while they are in use.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::account::Look;
use super::chaos::changed;
use super::crowded::Crowded;
use super::{Check, Claim, SOON, ms};
use crate::error::Result;
use crate::gateway::Gateway;
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
    /// Counts that are not of what was sent meanwhile.
    pub miscounted: Vec<String>,
    /// Traffic all the while.
    pub traffic: CrowdTally,
    /// How many sessions there is room for before, and afterwards.
    pub room: [u64; 2],
    /// How many there was to be room for.
    pub wanted_room: u64,
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
    let (small, before) = (room(gateway)?, Look::take(gateway, &crowd, &[])?);

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
    let after = Look::take(gateway, &crowd, &[])?;
    Ok(Growth {
        planned: plan.busy + plan.idle,
        sessions: before.sessions.len(),
        changed: changed(&before.sessions, &after.sessions),
        miscounted: after.wrong_since(&before, false),
        traffic: crowd.stop(),
        room: [small, room(gateway)?],
        wanted_room: u64::from(plan.to),
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
            .that(self.miscounted.is_empty(), || self.miscounted.join("; "))
            .that(self.room[1] == self.wanted_room, || {
                format!("room for {:?} instead of {}", self.room, self.wanted_room)
            })
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
