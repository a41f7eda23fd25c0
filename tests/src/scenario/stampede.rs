//! A backend dies under thousands of sessions, which all come back at once.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::{Check, Claim, SOON, ms};
use crate::error::{LabError, Result};
use crate::gateway::{BackendView, Config, Gateway, Health, Limits, Rate};
use crate::layout::plan::Family;
use crate::layout::{Kind, Lab, Options, Transport};
use crate::traffic::{Crowd, CrowdTally, ECHO_PORT, EchoServer, Target};
use crate::wait::until;

const KIND: Kind = Kind { prefix: "udp", profile: "udp", ports: &[(ECHO_PORT, Transport::Udp)] };
const MACHINES: usize = 3;
const HOMES: usize = 6;
/// Many flows come from few addresses here.
const UNLIMITED: Limits =
    Limits { unestablished_per_source: Rate { rate: 100_000, burst: 100_000 } };
/// How long they may take to come back.
const BACK: Duration = Duration::from_secs(60);

/// How many, and how fast.
#[derive(Clone, Copy, Debug)]
pub struct StampedePlan {
    /// Sessions on all backends together.
    pub sessions: usize,
    /// Requests a second on all together.
    pub rate: u32,
    /// Handshakes a second that each backend is given.
    pub pace: u32,
}

/// What [`stampede`] measured.
#[derive(Clone, Debug, Serialize)]
pub struct Stampede {
    /// Sessions before.
    pub sessions: usize,
    /// Of them those on the backend that died.
    pub orphans: usize,
    /// From its death until the gateway listed no session on it any more.
    pub released_after_ms: u64,
    /// What was configured: the probes' interval times their failures.
    pub patience_ms: u64,
    /// Handshakes a second that were let through, while more wanted to.
    pub pace: f64,
    /// What was configured, of all backends that were left.
    pub configured_pace: f64,
    /// Handshakes that had to wait.
    pub paced: u64,
    /// Sessions of the other backends that are not what they were.
    pub changed: usize,
    /// Traffic on those.
    pub others: CrowdTally,
}

/// Kills a backend under many sessions, whose clients send on.
pub fn stampede(plan: &StampedePlan) -> Result<Stampede> {
    let lab = Lab::new(Options::default())?;
    let site = lab.site("crowd", KIND, MACHINES)?;
    let mut servers = BTreeMap::new();
    for station in site.stations() {
        let server =
            EchoServer::start(station.ns(), station.address(Family::V4), station.number())?;
        servers.insert(station.number(), server);
    }
    let mut config = Config::new(&lab).with_site(&site, 2 * plan.sessions as u32);
    config.gateway.max_sessions = (2 * plan.sessions as u32).next_power_of_two();
    config.limits = Some(UNLIMITED);
    // There are few homes.
    config.service[0].affinity = Some("flow");
    let gateway = Gateway::start(&lab, &config)?;
    gateway.await_backends(SOON)?;
    let mut targets = Vec::new();
    for _ in 0..HOMES {
        targets.push(Target::outside(lab.host()?.ns(), site.vip(Family::V4).ip()));
    }
    let crowd = Crowd::start(&targets, plan.sessions.div_ceil(HOMES), plan.rate)?;
    crowd.wait_for(2, SOON * 3)?;
    let before = gateway.sessions()?;

    // The pace is not for those that are there.
    config.pool[0].handshakes = Some(Rate { rate: plan.pace, burst: plan.pace });
    gateway.write(&config)?;
    gateway.act(&["reload"])?;
    let crowd = crowd.anew()?;
    crowd.wait_for(1, SOON)?;
    let mut on: BTreeMap<u8, usize> = BTreeMap::new();
    before.iter().for_each(|session| *on.entry(session.concentrator()).or_default() += 1);
    let (&victim, &orphans) = on
        .iter()
        .max_by_key(|(_, sessions)| **sessions)
        .ok_or_else(|| LabError::Scenario("there are no sessions".to_owned()))?;

    let counters = gateway.counters()?;
    let station = site.stations().iter().find(|station| station.number() == victim);
    station.ok_or_else(|| LabError::Scenario("nobody to die".to_owned()))?.unplug()?;
    let died = Instant::now();
    let victims_name = format!("{}-{victim}", KIND.prefix);
    let is_released = |backends: &[BackendView]| {
        backends.iter().any(|b| b.name.ends_with(&victims_name) && b.sessions == 0)
    };
    until("the death's discovery", BACK, || Ok(is_released(&gateway.backends()?).then_some(())))?;
    let released = died.elapsed();
    // What passes is what the pace lets pass since the release, and a burst: also where the machine stands still for a moment. At
    // the end there are too few left to use it up.
    let most = orphans as u64 * 3 / 4;
    let (back, at) = until("the return of most", BACK, || {
        let asked = Instant::now();
        let back = gateway.counters()?.since(&counters).get("in_unestablished");
        Ok((back >= most).then(|| (back, asked + asked.elapsed() / 2)))
    })?;
    let bursts = u64::from(plan.pace) * (MACHINES as u64 - 1);
    let pace =
        back.saturating_sub(bursts) as f64 / (at - died).saturating_sub(released).as_secs_f64();
    let paced = gateway.counters()?.since(&counters).get("paced");
    let after: BTreeMap<_, _> = gateway.sessions()?.into_iter().map(|s| (s.client, s)).collect();
    let changed = before
        .iter()
        .filter(|old| old.concentrator() != victim)
        .filter(|old| {
            after
                .get(&old.client)
                .is_none_or(|new| (&new.id, &new.backend) != (&old.id, &old.backend))
        })
        .count();
    Ok(Stampede {
        sessions: before.len(),
        orphans,
        released_after_ms: ms(released),
        patience_ms: ms(Health::QUICK),
        pace,
        configured_pace: f64::from(plan.pace) * (MACHINES - 1) as f64,
        paced,
        changed,
        others: crowd.stop_where(|tally| !tally.answered_by.contains_key(&victim)),
    })
}

impl Claim for Stampede {
    fn failures(&self) -> Vec<String> {
        let (wanted, patience) = (self.configured_pace, self.patience_ms as f64);
        Check::default()
            // A busy machine's probes and questions take their time, too.
            .that((self.released_after_ms as f64) < 1.1 * patience + 1000.0, || {
                format!("released after {} ms", self.released_after_ms)
            })
            .that((0.9 * wanted..=1.1 * wanted).contains(&self.pace), || {
                format!("{:.0} came back a second, not {wanted}", self.pace)
            })
            .that(self.paced > 0, || "nobody had to wait".to_owned())
            .that(self.changed == 0, || {
                format!("{} sessions of the other backends changed", self.changed)
            })
            .that(self.others.lost == 0 && self.others.sent > 0, || {
                format!("the others lost {} of {} packets", self.others.lost, self.others.sent)
            })
            .failures()
    }

    fn summary(&self) -> String {
        format!(
            "a backend with {} of {} sessions died: released after {} ms (probes: {} ms), back at {:.0} a second ({:.0} \
             configured), {} packets paced, {} sessions of the others changed, {} of their {} packets lost",
            self.orphans,
            self.sessions,
            self.released_after_ms,
            self.patience_ms,
            self.pace,
            self.configured_pace,
            self.paced,
            self.changed,
            self.others.lost,
            self.others.sent,
        )
    }
}
