//! How far failed probes are believed.
//!
//! When more of a pool fails than [`max_down`](crate::config::Probing::max_down) lets go, the fault is rather somewhere else: the gateway's own
//! link, a firewall that has changed. Then the guard *holds*: of those that are in service none is taken down by its
//! probes alone. It is taken down if it does not answer its sessions either, while others of the pool do, and never more than the share.
//! A backend that is drained and empty has nothing to lose: it is no part of the pool here, so that one that is switched off takes nobody's place.
//! When the probes come back, everything is as before; one that goes on failing is taken down when it alone has, for as long as it takes
//! to find a backend dead.
//!
//! Each family of addresses is for itself. Who was taken down before stays so until it answers: the tables remember that over a restart.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::{AddressHealth, HealthView, Load, Overrides, Status};
use crate::config::{BackendId, Config, Family, Pool, Probing};

/// What probes found of a backend at each of its addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Probed {
    /// What their results in a row say.
    pub status: AddressHealth,
    v4_fails: bool,
    v6_fails: bool,
}

impl Probed {
    /// What is known from before the first probe.
    pub fn known(status: AddressHealth) -> Self {
        let fails = |family| status.of(family) == Status::Down;
        Self { status, v4_fails: fails(Family::V4), v6_fails: fails(Family::V6) }
    }

    /// Whether the last probe of an address failed, which need not have changed its status yet.
    pub const fn fails(self, family: Family) -> bool {
        match family {
            Family::V4 => self.v4_fails,
            Family::V6 => self.v6_fails,
        }
    }

    /// Says what was found at an address.
    pub const fn set(&mut self, family: Family, status: Status, fails: bool) {
        self.status.set(family, status);
        match family {
            Family::V4 => self.v4_fails = fails,
            Family::V6 => self.v6_fails = fails,
        }
    }
}

/// What probes found. Of a backend that is not in it, nothing is known.
pub type ProbedView = BTreeMap<BackendId, Probed>;

/// Backends that stay in service although their probes fail, and at which addresses.
pub type Held = BTreeSet<(BackendId, Family)>;

/// What the guard remembers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Guard {
    /// Which families of pools it holds.
    holds: BTreeMap<(String, Family), Hold>,
    /// Addresses whose last probe failed; and when those were good again that had.
    failing: BTreeSet<(BackendId, Family)>,
    recovered: BTreeMap<(BackendId, Family), Instant>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Hold {
    /// Since when no more fail than may.
    calm_since: Option<Instant>,
}

/// What is believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judgement {
    /// Who is down, and who counts as up.
    pub health: HealthView,
    /// Who of them only counts as up.
    pub held: Held,
}

/// One family of a pool's addresses.
struct Side<'a> {
    family: Family,
    probing: &'a Probing,
    /// Its backends, in the order of the configuration.
    ids: Vec<BackendId>,
    /// Those of them that are drained and have no sessions left.
    spared: BTreeSet<BackendId>,
}

impl Guard {
    /// Judges what probes found, with what was believed before.
    pub fn judge(
        &mut self,
        now: Instant,
        config: &Config,
        probed: &ProbedView,
        before: &HealthView,
        overrides: &Overrides,
        load: &Load,
    ) -> Judgement {
        let known = probed.iter().filter(|(id, _)| config.backend(id).is_some());
        let mut judgement = Judgement {
            health: known.map(|(id, probed)| (id.clone(), probed.status)).collect(),
            held: Held::new(),
        };
        self.notice(now, probed);
        let holds = std::mem::take(&mut self.holds);
        for pool in &config.pools {
            let is_spared =
                |id: &BackendId| overrides.drained.contains_key(id) && load.is_empty(id);
            for side in sides(pool, &is_spared) {
                let key = (pool.name.clone(), side.family);
                let hold = holds.get(&key).copied();
                let (down, hold) = side.judge(now, hold, probed, before, load, &self.recovered);
                if let Some(hold) = hold {
                    self.holds.insert(key, hold);
                }
                for id in side.ids.into_iter().chain(side.spared) {
                    if probed.get(&id).is_some_and(|p| p.status.of(side.family) == Status::Down)
                        && !down.contains(&id)
                    {
                        let health = judgement.health.entry(id.clone()).or_default();
                        health.set(side.family, Status::Up);
                        judgement.held.insert((id, side.family));
                    }
                }
            }
        }
        judgement
    }

    /// Notices who fails, and who no longer does.
    fn notice(&mut self, now: Instant, probed: &ProbedView) {
        let failing: BTreeSet<_> = probed
            .iter()
            .flat_map(|(id, probed)| Family::ALL.map(|family| (id, *probed, family)))
            .filter(|(_, probed, family)| probed.fails(*family))
            .map(|(id, _, family)| (id.clone(), family))
            .collect();
        let good_again = self.failing.difference(&failing).map(|key| (key.clone(), now));
        self.recovered.extend(good_again);
        self.recovered.retain(|key, _| probed.contains_key(&key.0) && !failing.contains(key));
        self.failing = failing;
    }
}

fn sides<'a>(
    pool: &'a Pool,
    is_spared: &'a dyn Fn(&BackendId) -> bool,
) -> impl Iterator<Item = Side<'a>> {
    let side = move |family| {
        let probing = pool.health.probing()?;
        let there = pool.backends.iter().filter(|b| b.address_of(family).is_some());
        let ids = there.map(|b| BackendId::new(&pool.name, &b.name));
        let (spared, ids): (Vec<_>, Vec<_>) = ids.partition(is_spared);
        Some(Side { family, probing, ids, spared: spared.into_iter().collect() })
    };
    Family::ALL.into_iter().filter_map(side)
}

impl Side<'_> {
    /// Who is down, and whether the guard holds.
    fn judge(
        &self,
        now: Instant,
        hold: Option<Hold>,
        probed: &ProbedView,
        before: &HealthView,
        load: &Load,
        recovered: &BTreeMap<(BackendId, Family), Instant>,
    ) -> (BTreeSet<BackendId>, Option<Hold>) {
        let found = |id: &BackendId| probed.get(id).copied().unwrap_or_default();
        let is_down = |id: &&BackendId| found(id).status.of(self.family) == Status::Down;
        let was_down = |id: &&BackendId| {
            before.get(*id).is_some_and(|health| health.of(self.family) == Status::Down)
        };
        let most = self.probing.max_down.of(self.ids.len());
        let mut down: BTreeSet<_> =
            self.ids.iter().filter(|id| is_down(id) && was_down(id)).take(most).cloned().collect();
        // One that has begun to answer again is no candidate.
        let candidates: Vec<_> = self
            .ids
            .iter()
            .filter(|id| is_down(id) && found(id).fails(self.family) && !down.contains(*id))
            .collect();
        // A probe that fails now may have been sent before one that is answered now.
        let has_failed = |id: &BackendId| {
            let then = recovered.get(&(id.clone(), self.family));
            then.is_some_and(|then| now.duration_since(*then) < self.probing.timing.interval)
        };
        let fails =
            |id: &&BackendId| found(id).fails(self.family) || has_failed(id) || down.contains(*id);
        let failing = self.ids.iter().filter(fails).count();
        let hold = match (hold, failing <= most) {
            (None, true) => None,
            (None, false) if candidates.is_empty() => None,
            (_, false) => Some(Hold::default()),
            (Some(Hold { calm_since }), true) => {
                let since = calm_since.unwrap_or(now);
                let is_over = now.duration_since(since) >= self.probing.timing.patience();
                (!is_over).then_some(Hold { calm_since: Some(since) })
            }
        };
        let second_witness =
            |id: &&&BackendId| hold.is_none() || load.silent().alone.contains(**id);
        let room = most.saturating_sub(down.len());
        down.extend(candidates.iter().filter(second_witness).take(room).map(|id| (*id).clone()));
        down.extend(self.spared.iter().filter(is_down).cloned());
        (down, hold)
    }
}
