//! A concentrator loses one of its addresses.

use std::time::Duration;

use serde::Serialize;

use super::{Check, Claim, Farm, SOON};
use crate::error::Result;
use crate::layout::plan::Family;
use crate::peer::Implementation;
use crate::wait::until;

/// WireGuard notices after 15 s of silence, and tries again every 5 s.
const BACK: Duration = Duration::from_secs(60);

/// What [`impaired`] measured.
#[derive(Clone, Debug, Serialize)]
pub struct Impaired {
    /// The concentrator.
    pub backend: String,
    /// What the gateway said of it.
    pub state: String,
    /// Its number.
    pub concentrator: u8,
    /// What its IPv4 client sent, before and afterwards.
    pub sent: u64,
    /// What of it was lost.
    pub lost: u64,
    /// The IPv4 client kept its session.
    pub kept: bool,
    /// Who answers its IPv6 client now.
    pub now_on: u8,
}

/// Lets a client of each family come to one concentrator of a pool, which then has no IPv6 any
/// more, and waits until the IPv6 client is back elsewhere.
pub fn impaired(farm: &mut Farm, pool: usize, implementation: Implementation) -> Result<Impaired> {
    let numbers: Vec<u8> = farm.pools()[pool].concentrators().iter().map(|c| c.number()).collect();
    let (concentrator, others) = (numbers[0], &numbers[1..]);
    let backend = farm.backend_name(concentrator);
    for other in others {
        farm.gateway().act(&["backend", "drain", &farm.backend_name(*other)])?;
    }
    let mut members = [0; 2];
    for (member, family) in members.iter_mut().zip([Family::V4, Family::V6]) {
        *member = farm.join(pool, implementation, family)?;
        farm.reach(*member)?;
    }
    for other in others {
        farm.gateway().act(&["backend", "undrain", &farm.backend_name(*other)])?;
    }
    let [v4, v6] = members;
    let before = farm.session(v4)?;
    let (stays, goes) = (farm.traffic(v4, 50)?, farm.traffic(v6, 20)?);
    stays.wait_for(10, SOON)?;
    goes.wait_for(10, SOON)?;

    let ns = farm.pool(pool).concentrator(concentrator).ns();
    ns.sysctl("net/ipv6/conf/eth0/disable_ipv6", "1")?;
    let now_on = until("the IPv6 client's return to another concentrator", BACK, || {
        Ok(goes.so_far().answered_by.into_keys().find(|&n| n != concentrator))
    })?;
    let after = farm.session(v4)?;
    let tally = stays.stop();
    let backends = farm.gateway().backends()?;
    let state = backends.into_iter().find(|b| b.name.ends_with(&backend)).map(|b| b.state);
    Ok(Impaired {
        backend,
        state: state.unwrap_or_default(),
        concentrator,
        sent: tally.sent,
        lost: tally.lost,
        kept: before.id == after.id && after.concentrator() == concentrator,
        now_on,
    })
}

impl Claim for Impaired {
    fn failures(&self) -> Vec<String> {
        Check::default()
            .that(self.state == "impaired", || format!("{} is {}", self.backend, self.state))
            .that(self.kept, || "the IPv4 client has lost its session".to_owned())
            .that(self.lost == 0, || {
                format!("the IPv4 client lost {} of {} packets", self.lost, self.sent)
            })
            .failures()
    }

    fn summary(&self) -> String {
        format!(
            "{} has no IPv6 any more and is {}: its IPv6 client is on wg-{}, its IPv4 client \
             stays and lost {} of {} packets",
            self.backend, self.state, self.now_on, self.lost, self.sent,
        )
    }
}
