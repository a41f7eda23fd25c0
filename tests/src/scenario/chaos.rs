//! The daemon is killed again and again, at any moment, and nobody notices.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::crowded::Crowded;
use super::{Check, Claim, SOON, ms};
use crate::error::{LabError, Result};
use crate::gateway::{Gateway, SessionView};
use crate::traffic::CrowdTally;
use crate::wait::until;

/// A daemon lives up to so long before it is killed, and one that is killed while it starts.
const LIFE_MS: u64 = 400;
const BIRTH_MS: u64 = 150;
/// How soon after a start sessions are counted right: it counts anew what a daemon that was killed may have left wrong, twice alike, beside
/// what comes and goes.
const CORRECTED: Duration = Duration::from_secs(2);

/// How wild it gets.
#[derive(Clone, Copy, Debug)]
pub struct ChaosPlan {
    /// How often the daemon is killed.
    pub kills: u32,
    /// How many sessions there are: rounded up to the same number for each home and family.
    pub sessions: usize,
    /// Requests a second, on all together.
    pub rate: u32,
}

/// What [`chaos`] measured.
#[derive(Clone, Debug, Serialize)]
pub struct Chaos {
    /// Daemons killed.
    pub kills: u32,
    /// Of them those that were still starting.
    pub while_starting: u32,
    /// Longest time from a kill until a daemon answered again, milliseconds.
    pub longest_absence_ms: u64,
    /// Traffic all the while.
    pub traffic: CrowdTally,
    /// Sessions before.
    pub sessions: usize,
    /// Of them those that are gone, or whose id, backend or number of moves is another.
    pub changed: usize,
    /// What `fernpass verify` found after a start, if anything.
    pub drift: Vec<String>,
    /// After which starts sessions were not counted right within [`CORRECTED`], and how they were.
    pub miscounted: Vec<String>,
    /// Longest time from a start until they were counted right, milliseconds.
    pub longest_miscounted_ms: u64,
}

/// Kills the daemon again and again under traffic, in a lab of its own. `progress` is told how many are dead.
pub fn chaos(plan: &ChaosPlan, mut progress: impl FnMut(u32)) -> Result<Chaos> {
    let mut farm = Crowded::start((4 * plan.sessions as u32).next_power_of_two())?;
    let crowd = farm.crowd(plan.sessions, plan.rate)?;
    let gateway = &mut farm.gateway;
    let before = gateway.sessions()?;
    let flows = crowd.so_far().flows as u64;

    let (mut drift, mut miscounted, mut longest_miscounted) =
        (Vec::new(), Vec::new(), Duration::ZERO);
    let (mut killed, mut while_starting, mut longest) = (0, 0, Duration::ZERO);
    while killed < plan.kills {
        std::thread::sleep(Duration::from_millis(fastrand::u64(..LIFE_MS)));
        let away = Instant::now();
        gateway.kill();
        killed += 1;
        while killed < plan.kills && fastrand::bool() {
            gateway.run_unattended()?;
            std::thread::sleep(Duration::from_millis(fastrand::u64(..BIRTH_MS)));
            gateway.kill();
            (killed, while_starting) = (killed + 1, while_starting + 1);
        }
        gateway.run()?;
        longest = longest.max(away.elapsed());
        let verified = gateway.call(&["verify"])?;
        if verified["writes"] != 0 || verified["drift"] != serde_json::json!([]) {
            drift.push(format!("after {killed} kills: {verified}"));
        }
        match count(gateway, flows)? {
            Ok(after) => longest_miscounted = longest_miscounted.max(after),
            Err(wrong) => miscounted.push(format!("after {killed} kills: {wrong}")),
        }
        progress(killed);
    }
    crowd.wait_for(1, SOON)?;
    let after = gateway.sessions()?;
    Ok(Chaos {
        kills: killed,
        while_starting,
        longest_absence_ms: ms(longest),
        traffic: crowd.stop(),
        sessions: before.len(),
        changed: changed(&before, &after),
        drift,
        miscounted,
        longest_miscounted_ms: ms(longest_miscounted),
    })
}

/// How long it takes until so many sessions are counted as open, for all tenants, and listed, and no handshake is in progress; or how many
/// there are.
fn count(gateway: &Gateway, flows: u64) -> Result<std::result::Result<Duration, String>> {
    let (started, mut seen) = (Instant::now(), (0, 0, 0));
    let right = until("sessions being counted", CORRECTED, || {
        let tenants = gateway.tenants()?;
        let (open, tentative) = tenants
            .iter()
            .fold((0, 0), |(o, t), tenant| (o + tenant.sessions, t + tenant.tentative));
        seen = (open, tentative, gateway.sessions()?.len() as u64);
        Ok((seen == (flows, 0, flows)).then(|| started.elapsed()))
    });
    let (open, tentative, listed) = seen;
    match right {
        Ok(after) => Ok(Ok(after)),
        Err(LabError::Timeout { .. }) => {
            Ok(Err(format!("{open} open, {tentative} tentative, {listed} listed of {flows}")))
        }
        Err(e) => Err(e),
    }
}

/// How many sessions are gone, or another client's, on another backend, or have moved.
pub(super) fn changed(before: &[SessionView], after: &[SessionView]) -> usize {
    let after: BTreeMap<_, _> = after.iter().map(|session| (&session.id, session)).collect();
    let is_same = |old: &&SessionView| {
        after.get(&old.id).is_some_and(|new| {
            (new.client, &new.backend, new.moves) == (old.client, &old.backend, old.moves)
        })
    };
    before.len() - before.iter().filter(is_same).count()
}

impl Claim for Chaos {
    fn failures(&self) -> Vec<String> {
        let t = &self.traffic;
        Check::default()
            .that(t.lost == 0, || format!("{} of {} packets lost", t.lost, t.sent))
            .that(t.reordered + t.duplicated == 0, || {
                format!("{} packets reordered, {} duplicated", t.reordered, t.duplicated)
            })
            .that(t.strayed == 0, || format!("{} flows changed their concentrator", t.strayed))
            .that(self.sessions == t.flows, || {
                format!("{} sessions of {} flows", self.sessions, t.flows)
            })
            .that(self.changed == 0, || format!("{} sessions changed", self.changed))
            .that(self.drift.is_empty(), || format!("the tables drifted: {:?}", self.drift))
            .that(self.miscounted.is_empty(), || {
                format!("sessions were miscounted: {:?}", self.miscounted)
            })
            .failures()
    }

    fn summary(&self) -> String {
        format!(
            "{} daemons killed, {} of them while they started, under {} sessions: {} of {} packets lost, {} reordered, \
             {} sessions changed, tables right after each start, sessions counted right {} ms after one at most; away for {} ms at most",
            self.kills,
            self.while_starting,
            self.sessions,
            self.traffic.lost,
            self.traffic.sent,
            self.traffic.reordered,
            self.changed,
            self.longest_miscounted_ms,
            self.longest_absence_ms,
        )
    }
}
