//! Another version with another layout of the tables comes, and goes again.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::account::Look;
use super::chaos::changed;
use super::crowded::Crowded;
use super::{Check, Claim, SOON, ms};
use crate::error::Result;
use crate::traffic::CrowdTally;

/// Under what.
#[derive(Clone, Copy, Debug)]
pub struct UpgradePlan {
    /// Sessions on which requests are sent all the while.
    pub busy: usize,
    /// Sessions beside them that are silent.
    pub idle: usize,
    /// Requests a second, on all busy ones together.
    pub rate: u32,
    /// How often the new daemon is killed while it takes over, each time.
    pub kills: u32,
}

/// What [`upgrade`] measured.
#[derive(Clone, Debug, Serialize)]
pub struct Upgrade {
    /// Sessions of the plan.
    pub planned: usize,
    /// Sessions before, which are as many at least.
    pub sessions: usize,
    /// Of them those that are gone, or whose id, backend or number of moves is another, after the upgrade and after the downgrade.
    pub changed: [usize; 2],
    /// Versions of the layout: before, with the other version, and at last.
    pub layouts: [u64; 3],
    /// Counts that are not of what was sent meanwhile.
    pub miscounted: Vec<String>,
    /// Traffic all the while.
    pub traffic: CrowdTally,
    /// How long the upgrade and the downgrade took, from the end of the one daemon to the first answer of the other.
    pub took_ms: [u64; 2],
    /// What the daemons logged of their moves.
    pub logged: Vec<String>,
    /// What `fernpass verify` found afterwards, if anything.
    pub drift: Vec<String>,
}

/// Upgrades to another layout and back again under traffic, in a lab of its own.
pub fn upgrade(plan: &UpgradePlan) -> Result<Upgrade> {
    let sessions = (plan.busy + plan.idle) as u32;
    let mut farm = Crowded::start((2 * sessions).next_power_of_two())?;
    // Built before it is measured.
    farm.gateway.change_version(true)?;
    farm.idle_beside(plan.idle, plan.busy)?;
    let crowd = farm.crowd(plan.busy, plan.rate)?;
    let gateway = &mut farm.gateway;
    let mut before = Look::take(gateway, &crowd, &[])?;
    let layout = |status: serde_json::Value| status["abi"].as_u64().unwrap_or(0);
    let mut upgrade = Upgrade {
        planned: plan.busy + plan.idle,
        sessions: before.sessions.len(),
        changed: [0; 2],
        layouts: [layout(gateway.call(&["status"])?), 0, 0],
        miscounted: Vec::new(),
        traffic: CrowdTally::default(),
        took_ms: [0; 2],
        logged: Vec::new(),
        drift: Vec::new(),
    };
    for (n, other) in [true, false].into_iter().enumerate() {
        gateway.change_version(other)?;
        let away = Instant::now();
        gateway.terminate()?;
        for _ in 0..plan.kills {
            gateway.run_unattended()?;
            std::thread::sleep(Duration::from_millis(fastrand::u64(200..8_000)));
            gateway.kill();
        }
        gateway.run()?;
        upgrade.took_ms[n] = ms(away.elapsed());
        std::thread::sleep(Duration::from_secs(1));
        crowd.wait_for(1, SOON)?;
        let verified = gateway.call(&["verify"])?;
        if verified["writes"] != 0 || verified["drift"] != serde_json::json!([]) {
            upgrade.drift.push(verified.to_string());
        }
        let now = Look::take(gateway, &crowd, &[])?;
        upgrade.changed[n] = changed(&before.sessions, &now.sessions);
        upgrade.miscounted.extend(now.wrong_since(&before));
        upgrade.layouts[n + 1] = layout(gateway.call(&["status"])?);
        let log = gateway.log();
        upgrade.logged.extend(log.lines().filter(|l| l.contains("sessions=")).map(str::to_owned));
        before = now;
    }
    upgrade.traffic = crowd.stop();
    Ok(upgrade)
}

impl Claim for Upgrade {
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
            .that(self.changed == [0; 2], || format!("{:?} sessions changed", self.changed))
            .that(self.miscounted.is_empty(), || self.miscounted.join("; "))
            .that(self.layouts[0] == self.layouts[2] && self.layouts[0] != self.layouts[1], || {
                format!("layouts {:?}", self.layouts)
            })
            .that(self.drift.is_empty(), || format!("the tables drifted: {:?}", self.drift))
            .failures()
    }

    fn summary(&self) -> String {
        format!(
            "layout {} became {} in {} ms and {} again in {} ms, with {} sessions: {} of {} packets lost, {} reordered, \
             {:?} sessions changed; {}",
            self.layouts[0],
            self.layouts[1],
            self.took_ms[0],
            self.layouts[2],
            self.took_ms[1],
            self.sessions,
            self.traffic.lost,
            self.traffic.sent,
            self.traffic.reordered,
            self.changed,
            self.logged.join("; "),
        )
    }
}
