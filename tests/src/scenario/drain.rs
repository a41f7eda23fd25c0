//! A concentrator is drained.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Check, Claim, Farm, SOON};
use crate::error::{LabError, Result};
use crate::gateway::SessionView;
use crate::layout::plan::Family;
use crate::peer::Implementation;
use crate::traffic::Tally;

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
