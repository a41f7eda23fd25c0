//! What is to become of sessions, by the endpoint they are on.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use super::published::Endpoints;
use crate::clock::Clock;
use crate::config::Config;
use crate::model::{Drain, Overrides};
use crate::sessions::{Fate, Policy};

/// The fates of the sessions of all endpoints at one moment.
#[derive(Debug)]
pub(super) struct Fates<'a> {
    endpoints: &'a Endpoints,
    fates: HashMap<u32, Fate>,
}

impl<'a> Fates<'a> {
    /// Sessions end that are on an endpoint of `not_live`, or on a drained backend whose
    /// deadline has passed: these one after the other, if their end is to be spread.
    pub(super) fn new(
        config: &Config,
        overrides: &Overrides,
        endpoints: &'a Endpoints,
        not_live: &BTreeSet<u32>,
        now: &Clock,
    ) -> Self {
        let fate = |index: &u32| {
            let backend = &endpoints[index].names.backend;
            match config.pool(&backend.pool) {
                Some(pool) if !not_live.contains(index) => match overrides.drained.get(backend) {
                    Some(drain) => drained(drain, pool.idle_timeout, now),
                    None => Fate::Idle(pool.idle_timeout),
                },
                _ => Fate::End,
            }
        };
        Self { endpoints, fates: endpoints.keys().map(|index| (*index, fate(index))).collect() }
    }
}

/// What becomes of a drained backend's sessions.
fn drained(drain: &Drain, idle: Duration, now: &Clock) -> Fate {
    let over = drain.deadline.and_then(|at| at.passed(now));
    let Some(since) = over else { return Fate::Idle(idle) };
    let spread = Duration::from_secs(drain.spread);
    if since >= spread {
        return Fate::End;
    }
    let share = since.as_secs_f64() / spread.as_secs_f64();
    Fate::Share((share * f64::from(u32::MAX)) as u32, idle)
}

impl Policy for Fates<'_> {
    fn fate(&self, endpoint: u32) -> Fate {
        // An endpoint that the tables do not have forwards nothing.
        self.fates.get(&endpoint).copied().unwrap_or(Fate::End)
    }

    fn tenant(&self, endpoint: u32) -> Option<u32> {
        self.endpoints.get(&endpoint).map(|info| info.tenant)
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::clock::Moment;

    #[test]
    fn sessions_of_a_drain_end_from_its_deadline_on_and_evenly() {
        let idle = Duration::from_secs(300);
        let at = |ms: u64| Clock { monotonic: ms * 1_000_000, wall: SystemTime::now() };
        let deadline = Some(Moment::after(&at(0), Duration::from_secs(1000)));
        let fate =
            |spread, now| drained(&Drain { deadline, spread, released: true }, idle, &at(now));
        assert_eq!(drained(&Drain::default(), idle, &at(u64::MAX / 1_000_000)), Fate::Idle(idle));
        for (now, expected) in [
            (999_999, Fate::Idle(idle)),
            (1_000_000, Fate::Share(0, idle)),
            (1_015_000, Fate::Share(u32::MAX / 4, idle)),
            (1_030_000, Fate::Share(u32::MAX / 2, idle)),
            (1_060_000, Fate::End),
        ] {
            assert_eq!(fate(60, now), expected, "{now}");
        }
        assert_eq!(fate(0, 1_000_000), Fate::End);
    }
}
