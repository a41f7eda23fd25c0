//! What is to become of sessions, by the endpoint they are on.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::published::Endpoints;
use crate::config::Config;
use crate::model::Overrides;
use crate::sessions::{Fate, Policy};

/// The fates of the sessions of all endpoints at one moment.
#[derive(Debug)]
pub(super) struct Fates<'a> {
    endpoints: &'a Endpoints,
    fates: HashMap<u32, Fate>,
}

impl<'a> Fates<'a> {
    /// Sessions end that are on an endpoint of `not_live`, or on a drained backend whose
    /// deadline has passed.
    pub(super) fn new(
        config: &Config,
        overrides: &Overrides,
        endpoints: &'a Endpoints,
        not_live: &BTreeSet<u32>,
        now: SystemTime,
    ) -> Self {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
        let fate = |index: &u32| {
            let backend = &endpoints[index].names.backend;
            let deadline = overrides.drained.get(backend).and_then(|drain| drain.deadline);
            match config.pool(&backend.pool) {
                Some(pool) if !not_live.contains(index) && deadline.is_none_or(|at| now < at) => {
                    Fate::Idle(pool.idle_timeout)
                }
                _ => Fate::End,
            }
        };
        Self { endpoints, fates: endpoints.keys().map(|index| (*index, fate(index))).collect() }
    }
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
