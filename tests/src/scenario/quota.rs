//! A tenant has used up its quota.

use std::time::Duration;

use serde::Serialize;

use super::{Check, Claim, Farm, SOON};
use crate::error::Result;
use crate::layout::plan::Family;
use crate::peer::Implementation;
use crate::traffic::Probe;

/// Two handshake initiations, five seconds apart, and some time for answers.
const PATIENCE: Duration = Duration::from_secs(7);

/// What [`quota`] measured.
#[derive(Clone, Debug, Serialize)]
pub struct Quota {
    /// The tenant.
    pub tenant: String,
    /// Its sessions before.
    pub before: usize,
    /// Its sessions afterwards.
    pub after: usize,
    /// Who answered the next client, if anybody did.
    pub answered_by: Option<u8>,
    /// Packets refused for the quota meanwhile.
    pub refused: u64,
    /// What the others' clients sent meanwhile, of all tenants.
    pub sent: u64,
    /// What of it was lost.
    pub lost: u64,
}

/// Lets one more client dial a tenant whose quota is used up.
pub fn quota(farm: &mut Farm, pool: usize, implementation: Implementation) -> Result<Quota> {
    let tenant = farm.pools()[pool].name().to_owned();
    let before = sessions_of(farm, &tenant)?;
    let counters = farm.gateway().counters()?;
    let mut traffic = Vec::new();
    for member in 0..farm.members().len() {
        let sequence = farm.traffic(member, 20)?;
        sequence.wait_for(5, SOON)?;
        traffic.push(sequence);
    }
    let next = farm.join(pool, implementation, Family::V4)?;
    let answered_by = Probe::open(&farm.members()[next].client().target())?.ask(PATIENCE);
    let (mut sent, mut lost) = (0, 0);
    for sequence in traffic {
        let tally = sequence.stop();
        sent += tally.sent;
        lost += tally.lost;
    }
    Ok(Quota {
        before,
        after: sessions_of(farm, &tenant)?,
        tenant,
        answered_by,
        refused: farm.gateway().counters()?.since(&counters).get("tenant_quota"),
        sent,
        lost,
    })
}

fn sessions_of(farm: &Farm, tenant: &str) -> Result<usize> {
    Ok(farm.gateway().sessions()?.iter().filter(|s| s.tenant == tenant).count())
}

impl Claim for Quota {
    fn failures(&self) -> Vec<String> {
        Check::default()
            .that(self.answered_by.is_none(), || {
                format!(
                    "the client beyond the quota was answered by wg-{}",
                    self.answered_by.unwrap_or(0)
                )
            })
            .that(self.refused > 0, || "nothing was counted as refused".to_owned())
            .that(self.before == self.after, || {
                format!("{} sessions became {}", self.before, self.after)
            })
            .that(self.lost == 0, || format!("the others lost {} of {}", self.lost, self.sent))
            .failures()
    }

    fn summary(&self) -> String {
        format!(
            "{} has {} of {} sessions: the next client is refused ({} packets counted), \
             the others lost {} of {} packets",
            self.tenant, self.after, self.before, self.refused, self.lost, self.sent,
        )
    }
}
