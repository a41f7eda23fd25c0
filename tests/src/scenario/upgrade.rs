//! Another version with another layout of the tables comes, and goes again.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::account::Look;
use super::chaos::changed;
use super::crowded::{Crowded, TUNNELS};
use super::{Check, Claim, HANDSHAKE, SOON, ms};
use crate::error::Result;
use crate::gateway::{Gateway, SessionView};
use crate::layout::Host;
use crate::layout::plan::Family;
use crate::peer::WgClient;
use crate::traffic::{CrowdTally, Sequence};

/// Pings a second in the tunnel.
const PINGS: u32 = 50;

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
    /// Pings in a tunnel while the versions changed: how many were sent, and lost.
    pub pings: [u64; 2],
    /// Moves of sessions that had moved before another version came.
    pub moves: Vec<Move>,
    /// How long the upgrade and the downgrade took, from the end of the one daemon to the first answer of the other.
    pub took_ms: [u64; 2],
    /// What the daemons logged of their moves.
    pub logged: Vec<String>,
    /// What `fernpass verify` found afterwards, if anything.
    pub drift: Vec<String>,
}

/// A client that was at another address before.
#[derive(Clone, Debug, Serialize)]
pub struct Move {
    /// Its session before the version changed,
    pub before: SessionView,
    /// and at the address that it went to afterwards.
    pub after: SessionView,
}

/// A client with a tunnel, whose session is known by its ids wherever the client goes.
struct Traveller {
    host: Host,
    client: WgClient,
    family: Family,
}

impl Traveller {
    /// It has moved once.
    fn start(farm: &mut Crowded, family: Family) -> Result<Self> {
        let (host, client) = farm.tunnel(family)?;
        let mut traveller = Self { host, client, family };
        traveller.client.reach(HANDSHAKE)?;
        farm.gateway.await_session_of(TUNNELS, traveller.address(), SOON)?;
        traveller.roam(None)?;
        traveller.client.reach(HANDSHAKE)?;
        farm.gateway.await_session_of(TUNNELS, traveller.address(), SOON)?;
        Ok(traveller)
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::new(self.host.address(self.family), self.client.port())
    }

    fn roam(&mut self, pings: Option<&Sequence>) -> Result<()> {
        match pings {
            // Address and port are one event for its traffic.
            Some(pings) => pings.between(|| self.client.roam(&self.host)),
            None => self.client.roam(&self.host),
        }
    }

    /// Goes elsewhere: what became of its session.
    fn move_on(&mut self, gateway: &Gateway, pings: Option<&Sequence>) -> Result<Move> {
        let before = gateway.await_session_of(TUNNELS, self.address(), SOON)?;
        self.roam(pings)?;
        self.client.reach(HANDSHAKE)?;
        Ok(Move { before, after: gateway.await_session_of(TUNNELS, self.address(), SOON)? })
    }
}

/// Upgrades to another layout and back again under traffic, in a lab of its own.
pub fn upgrade(plan: &UpgradePlan) -> Result<Upgrade> {
    let sessions = (plan.busy + plan.idle) as u32;
    let mut farm = Crowded::with_tunnels((2 * sessions).next_power_of_two())?;
    // Built before it is measured.
    farm.gateway.change_version(true)?;
    farm.idle_beside(plan.idle, plan.busy)?;
    let crowd = farm.crowd(plan.busy, plan.rate)?;
    // The one says nothing while the version changes: nothing but the ids that were kept tells whose its next packet is.
    let mut busy = Traveller::start(&mut farm, Family::V4)?;
    let mut silent = Traveller::start(&mut farm, Family::V6)?;
    let pings = Sequence::start(&busy.client.target(), PINGS, 64)?;
    pings.wait_for(5, SOON)?;
    let gateway = &mut farm.gateway;
    let look = |gateway: &Gateway, busy: &Traveller, silent: &Traveller| {
        Look::take(gateway, &crowd, &[(busy.address(), Some(&pings)), (silent.address(), None)])
    };
    let mut before = look(gateway, &busy, &silent)?;
    let layout = |status: serde_json::Value| status["abi"].as_u64().unwrap_or(0);
    let mut upgrade = Upgrade {
        planned: plan.busy + plan.idle + 2,
        sessions: before.sessions.len(),
        changed: [0; 2],
        layouts: [layout(gateway.call(&["status"])?), 0, 0],
        miscounted: Vec::new(),
        traffic: CrowdTally::default(),
        pings: [0; 2],
        moves: Vec::new(),
        took_ms: [0; 2],
        logged: Vec::new(),
        drift: Vec::new(),
    };
    for (n, other) in [true, false].into_iter().enumerate() {
        let sent = pings.between(|| pings.so_far());
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
        let answered = pings.between(|| pings.so_far());
        // An answer to an earlier one may be among them.
        let pings_sent = answered.sent - sent.sent;
        upgrade.pings[0] += pings_sent;
        upgrade.pings[1] += pings_sent.saturating_sub(answered.received - sent.received);
        let verified = gateway.call(&["verify"])?;
        if verified["writes"] != 0 || verified["drift"] != serde_json::json!([]) {
            upgrade.drift.push(verified.to_string());
        }
        let now = look(gateway, &busy, &silent)?;
        upgrade.changed[n] = changed(&before.sessions, &now.sessions);
        upgrade.miscounted.extend(now.wrong_since(&before, plan.kills > 0));
        upgrade.layouts[n + 1] = layout(gateway.call(&["status"])?);
        let log = gateway.log();
        upgrade.logged.extend(log.lines().filter(|l| l.contains("sessions=")).map(str::to_owned));
        upgrade.moves.push(silent.move_on(gateway, None)?);
        upgrade.moves.push(busy.move_on(gateway, Some(&pings))?);
        before = look(gateway, &busy, &silent)?;
    }
    upgrade.traffic = crowd.stop();
    Ok(upgrade)
}

impl Move {
    /// The same session is at another address, and knows how often it has moved.
    fn is_kept(&self) -> bool {
        let (before, after) = (&self.before, &self.after);
        (&after.id, &after.backend, after.moves) == (&before.id, &before.backend, before.moves + 1)
            && before.moves > 0
            && before.client != after.client
    }
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
            .that(self.pings[1] == 0 && self.pings[0] > 0, || {
                format!("{} of {} pings in a tunnel lost", self.pings[1], self.pings[0])
            })
            .that(self.moves.len() == 4 && self.moves.iter().all(Move::is_kept), || {
                format!("a session that moved before did not do so again: {:?}", self.moves)
            })
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
             {:?} sessions changed; {} of {} pings in a tunnel lost, then {} sessions moved for the {:?}th time; {}",
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
            self.pings[1],
            self.pings[0],
            self.moves.len(),
            self.moves.iter().map(|m| m.after.moves).collect::<Vec<_>>(),
            self.logged.join("; "),
        )
    }
}
