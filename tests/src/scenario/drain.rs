//! A concentrator is drained.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::crowded::Crowded;
use super::{Check, Claim, Farm, SOON, ms};
use crate::error::{LabError, Result};
use crate::gateway::{BackendView, SessionView};
use crate::lateness::Meter;
use crate::layout::plan::Family;
use crate::peer::Implementation;
use crate::traffic::{CrowdTally, Tally};
use crate::wait::until;

/// What [`drain`] measured.
#[derive(Clone, Debug, Serialize)]
pub struct Drain {
    /// The concentrator.
    pub backend: String,
    /// Its sessions before.
    pub before: Vec<SessionView>,
    /// Its sessions afterwards.
    pub after: Vec<SessionView>,
    /// The traffic of their clients, in one account.
    pub sent: u64,
    /// What of it was lost.
    pub lost: u64,
    /// Clients that came while it was draining, and who answered them.
    pub newcomers: BTreeMap<String, u8>,
    /// Its number.
    pub concentrator: u8,
}

/// Drains the concentrator of a pool that has the most sessions, and lets new
/// clients come. It is left draining.
pub fn drain(
    farm: &mut Farm,
    pool: usize,
    implementation: Implementation,
    newcomers: usize,
) -> Result<Drain> {
    let concentrator = busiest(farm, pool)?;
    let backend = farm.backend_name(concentrator);
    let before = sessions_on(farm, concentrator)?;
    let own = on_it(farm, pool, &before);
    let traffic: Vec<_> = own.iter().map(|&m| farm.traffic(m, 50)).collect::<Result<_>>()?;
    for sequence in &traffic {
        sequence.wait_for(10, SOON)?;
    }
    farm.gateway().act(&["backend", "drain", &backend])?;
    let mut arrived = BTreeMap::new();
    for _ in 0..newcomers {
        let index = farm.join(pool, implementation, Family::V4)?;
        let answered_by = farm.reach(index)?;
        arrived.insert(farm.members()[index].name().to_owned(), answered_by);
    }
    for sequence in &traffic {
        sequence.wait_for(50, SOON)?;
    }
    let tallies: Vec<Tally> = traffic.into_iter().map(|sequence| sequence.stop()).collect();
    Ok(Drain {
        backend,
        before,
        after: sessions_on(farm, concentrator)?,
        sent: tallies.iter().map(|t| t.sent).sum(),
        lost: tallies.iter().map(|t| t.lost).sum(),
        newcomers: arrived,
        concentrator,
    })
}

/// The concentrator of a pool with the most sessions.
pub(super) fn busiest(farm: &Farm, pool: usize) -> Result<u8> {
    let sessions = farm.gateway().sessions()?;
    let count = |n: u8| sessions.iter().filter(|s| s.concentrator() == n).count();
    farm.pools()[pool]
        .concentrators()
        .iter()
        .map(|c| c.number())
        .max_by_key(|&n| count(n))
        .filter(|&n| count(n) > 0)
        .ok_or_else(|| LabError::Scenario("no concentrator of the pool has a session".to_owned()))
}

fn sessions_on(farm: &Farm, concentrator: u8) -> Result<Vec<SessionView>> {
    let sessions = farm.gateway().sessions()?;
    Ok(sessions.into_iter().filter(|s| s.concentrator() == concentrator).collect())
}

/// Indexes of the clients whose sessions these are.
fn on_it(farm: &Farm, pool: usize, sessions: &[SessionView]) -> Vec<usize> {
    let mut members = farm.members_of(pool);
    members.retain(|&m| sessions.iter().any(|s| s.client == farm.members()[m].address()));
    members
}

impl Claim for Drain {
    fn failures(&self) -> Vec<String> {
        let ids = |sessions: &[SessionView]| -> Vec<String> {
            sessions.iter().map(|s| s.id.clone()).collect()
        };
        Check::default()
            .that(ids(&self.before) == ids(&self.after), || {
                format!(
                    "the sessions of {} were {:?} and are {:?}",
                    self.backend, self.before, self.after
                )
            })
            .that(self.lost == 0, || format!("{} of {} packets lost", self.lost, self.sent))
            .that(self.newcomers.values().all(|&n| n != self.concentrator), || {
                format!("new clients are on {:?}, of which {} drains", self.newcomers, self.backend)
            })
            .failures()
    }

    fn summary(&self) -> String {
        let places: Vec<String> = self.newcomers.values().map(|n| format!("wg-{n}")).collect();
        format!(
            "{} drains: its {} sessions stay, {} of {} packets lost; new clients are on {}",
            self.backend,
            self.after.len(),
            self.lost,
            self.sent,
            places.join(", "),
        )
    }
}

/// Over what the ends of the sessions are spread in [`drain_to_the_end`].
const SPREAD: Duration = Duration::from_secs(5);

/// When its deadline is: a machine that stands still must not miss it.
const DEADLINE: Duration = Duration::from_secs(8);

/// How often some of them end.
const TURN: Duration = Duration::from_secs(1);

/// How much later or sooner than told backends may be empty.
const NEARLY: Duration = Duration::from_secs(2);

/// What [`drain_to_the_end`] measured; of both backends, where there are two.
#[derive(Clone, Debug, Serialize)]
pub struct Ending {
    /// The backends.
    pub backends: [String; 2],
    /// Their sessions before.
    pub before: [u64; 2],
    /// Those that were left shortly before the deadline,
    pub at_deadline: [u64; 2],
    /// and when about half of the spread was over:
    pub halfway: [u64; 2],
    /// how long after the deadline that was, at least and at most.
    pub halfway_ms: [u64; 2],
    /// How long after the deadline none was left on both.
    pub empty_ms: u64,
    /// How much later that may have been found than it was.
    pub look_ms: u64,
    /// How late this machine was from the deadline on.
    pub late_ms: u64,
    /// How long after the deadline none was to be left: all that was told until then.
    pub told_ms: Vec<u64>,
    /// Traffic on their sessions.
    pub own: CrowdTally,
    /// And on those of the other backends.
    pub others: CrowdTally,
}

/// Drains two backends with many sessions at once, whose clients send on, until none is left, in a lab of its own.
pub fn drain_to_the_end(sessions: usize) -> Result<Ending> {
    let farm = Crowded::start((2 * sessions as u32).next_power_of_two())?;
    let crowd = farm.crowd(sessions, 2 * sessions as u32)?;
    let gateway = &farm.gateway;
    let mut most = gateway.backends()?;
    most.sort_by_key(|backend| std::cmp::Reverse(backend.sessions));
    let [one, other] = match &most[..] {
        [one, other, _, _, ..] => [one, other],
        _ => return Err(LabError::Scenario("there are too few backends".to_owned())),
    };
    let (backends, before) =
        ([one, other].map(|b| b.name.clone()), [one, other].map(|b| b.sessions));
    let now = || -> Result<[BackendView; 2]> {
        let mut now = gateway.backends()?;
        let mut one = |name: &String| {
            let at = now.iter().position(|backend| backend.name == *name);
            let at = at.ok_or_else(|| LabError::Scenario(format!("{name} is gone")))?;
            Ok(now.swap_remove(at))
        };
        Ok([one(&backends[0])?, one(&backends[1])?])
    };
    let time = |told: &Option<String>| -> Result<SystemTime> {
        let time = told.as_ref().and_then(|at| humantime::parse_rfc3339(at).ok());
        time.ok_or_else(|| LabError::Scenario("no time is told".to_owned()))
    };
    let spread = format!("{}s", SPREAD.as_secs());
    let [one, other] = &backends;
    let after = format!("{}s", DEADLINE.as_secs());
    gateway.act(&["backend", "drain", one, other, "--deadline", &after, "--spread", &spread])?;
    let deadline = now()?.map(|backend| time(&backend.drain_deadline));
    let [Ok(deadline), Ok(same)] = deadline else {
        return Err(LabError::Scenario("no deadline is told".to_owned()));
    };
    if deadline != same {
        return Err(LabError::Scenario("two deadlines are told".to_owned()));
    }

    let (mut at_deadline, mut told_ms) = ([0; 2], Vec::new());
    until("the deadline", 2 * SOON, || {
        let left = now()?;
        let is_over = SystemTime::now() >= deadline;
        if !is_over {
            at_deadline = left.each_ref().map(|backend| backend.sessions);
            for backend in &left {
                let empty = time(&backend.drain_empty_at)?;
                told_ms.push(ms(empty.duration_since(deadline).unwrap_or_default()));
            }
        }
        Ok(is_over.then_some(()))
    })?;
    let meter = Meter::start()?;
    told_ms.sort_unstable();
    told_ms.dedup();
    let since = || SystemTime::now().duration_since(deadline).unwrap_or_default();
    // Each second some of them end: half of the spread, and half a second.
    let halfway = SPREAD / 2 + Duration::from_millis(500);
    let (halfway, halfway_ms) = until("the middle of the drain", SOON, || {
        let asked = since();
        let left = now()?.map(|backend| backend.sessions);
        Ok((asked >= halfway).then(|| (left, [asked, since()].map(ms))))
    })?;
    let (mut before_last, mut last) = (since(), since());
    let empty = until("the end of the drain", 2 * SOON, || {
        (before_last, last) = (last, since());
        Ok(now()?.iter().all(|backend| backend.sessions == 0).then(since))
    })?;
    let late_ms = ms(meter.late().sum);
    drop(meter);
    until("all their clients being elsewhere", SOON, || {
        Ok((crowd.so_far().strayed as u64 >= before.iter().sum()).then_some(()))
    })?;
    let numbers = [one, other].map(|name| name.rsplit_once('-').and_then(|(_, n)| n.parse().ok()));
    let is_own = |tally: &Tally| {
        numbers.iter().flatten().any(|number| tally.answered_by.contains_key(number))
    };
    let [own, others] = crowd.stop_apart(is_own);
    Ok(Ending {
        backends,
        before,
        at_deadline,
        halfway,
        halfway_ms,
        empty_ms: ms(empty),
        look_ms: ms(empty.saturating_sub(before_last)),
        late_ms,
        told_ms,
        own,
        others,
    })
}

impl Ending {
    fn sum(&self) -> u64 {
        self.before.iter().sum()
    }
}

impl Claim for Ending {
    fn failures(&self) -> Vec<String> {
        let (own, others) = (&self.own, &self.others);
        // Some end in each turn, of a share that is chance.
        let left_after = |ms_after: u64| 1.0 - ms_after as f64 / ms(SPREAD) as f64;
        let [asked, answered] = self.halfway_ms;
        let latest = asked.saturating_sub(ms(TURN) + self.late_ms);
        let shares = left_after(answered) - 0.125..=left_after(latest) + 0.125;
        let is_half =
            |(&left, &before): (&u64, &u64)| shares.contains(&(left as f64 / before as f64));
        let told = ms(SPREAD - NEARLY)..=ms(SPREAD + NEARLY);
        Check::default()
            .that(self.before.iter().all(|&before| before >= 100), || {
                format!("they had {:?} sessions only", self.before)
            })
            .that(self.at_deadline == self.before, || {
                format!("{:?} of {:?} were left before the deadline", self.at_deadline, self.before)
            })
            .that(self.halfway.iter().zip(&self.before).all(is_half), || {
                format!(
                    "{:?} of {:?} were left {:?} ms after the deadline, not {shares:.2?} of them, on a machine that was {} ms late",
                    self.halfway, self.before, self.halfway_ms, self.late_ms
                )
            })
            // The last second's end with the next look at them.
            .that(self.empty_ms <= ms(SPREAD) + 2000 + self.look_ms + self.late_ms, || {
                format!(
                    "none was left after {} ms only, seen by looks of {} ms, on a machine that was {} ms late",
                    self.empty_ms, self.look_ms, self.late_ms
                )
            })
            .that(
                !self.told_ms.is_empty() && self.told_ms.iter().all(|at| told.contains(at)),
                || format!("told to be empty {:?} ms after the deadline", self.told_ms),
            )
            .that(own.strayed as u64 == self.sum() && own.flows as u64 == self.sum(), || {
                format!("{} of {} clients went elsewhere", own.strayed, self.sum())
            })
            // At most what was under way when a session ended.
            .that(own.lost <= self.sum(), || format!("{} of {} packets lost", own.lost, own.sent))
            .that(others.flows > 0 && others.lost == 0 && others.strayed == 0, || {
                format!(
                    "{} clients of others lost {} of {} packets, {} went elsewhere",
                    others.flows, others.lost, others.sent, others.strayed
                )
            })
            .failures()
    }

    fn summary(&self) -> String {
        format!(
            "{} drained: of their {:?} sessions {:?} were left before the deadline, {:?} after {:?} ms of the spread's {}, none after {} ms \
             (told: {:?} ms; the machine was {} ms late); their clients lost {} of {} packets, those of the others {} of {}",
            self.backends.join(" and "),
            self.before,
            self.at_deadline,
            self.halfway,
            self.halfway_ms,
            ms(SPREAD),
            self.empty_ms,
            self.told_ms,
            self.late_ms,
            self.own.lost,
            self.own.sent,
            self.others.lost,
            self.others.sent,
        )
    }
}
