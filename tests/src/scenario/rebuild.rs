//! A gateway that has lost its tables.

use std::time::Instant;

use serde::Serialize;

use super::{Check, Claim, Farm, SOON, ms};
use crate::error::Result;
use crate::gateway::SessionView;
use crate::traffic::Tally;
use crate::wait::until;

/// What [`rebuild`] measured.
#[derive(Clone, Debug, Serialize)]
pub struct Rebuild {
    /// The sessions before.
    pub before: Vec<SessionView>,
    /// The sessions afterwards.
    pub after: Vec<SessionView>,
    /// From the return of the gateway until all sessions were there again.
    pub rebuilt_after_ms: u64,
    /// The traffic of each client.
    pub traffic: Vec<Tally>,
}

/// Takes the gateway off its interfaces, with all its tables, in the middle of
/// traffic, and starts it again.
pub fn rebuild(farm: &mut Farm) -> Result<Rebuild> {
    let before = farm.gateway().sessions()?;
    let mut traffic = Vec::new();
    for member in 0..farm.members().len() {
        let sequence = farm.traffic(member, 50)?;
        sequence.wait_for(10, SOON)?;
        traffic.push(sequence);
    }
    let bpffs = farm.config().gateway.bpffs.clone();
    farm.gateway_mut().terminate()?;
    farm.gateway().act(&["unload", "--bpffs", &bpffs])?;
    farm.gateway_mut().run()?;
    let returned = Instant::now();
    until("the sessions' return", SOON, || {
        Ok((farm.gateway().sessions()?.len() == before.len()).then_some(()))
    })?;
    let rebuilt_after_ms = ms(returned.elapsed());
    for sequence in &traffic {
        sequence.wait_for(50, SOON)?;
    }
    Ok(Rebuild {
        before,
        after: farm.gateway().sessions()?,
        rebuilt_after_ms,
        traffic: traffic.into_iter().map(|sequence| sequence.stop()).collect(),
    })
}

impl Claim for Rebuild {
    fn failures(&self) -> Vec<String> {
        let mut check = Check::default();
        for old in &self.before {
            let new = self.after.iter().find(|new| new.client == old.client);
            check = check.that(new.is_some_and(|new| new.backend == old.backend), || {
                format!("{old:?} became {new:?}")
            });
        }
        for tally in &self.traffic {
            check = check.that(tally.only_answerer().is_some(), || {
                format!("answers came from {:?}", tally.answered_by)
            });
        }
        check.failures()
    }

    fn summary(&self) -> String {
        format!(
            "tables lost: {} of {} sessions rebuilt from traffic after {} ms, without a handshake",
            self.after.len(),
            self.before.len(),
            self.rebuilt_after_ms,
        )
    }
}
