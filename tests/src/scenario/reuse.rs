//! An address and a port that another client has left behind.

use std::net::SocketAddr;

use serde::Serialize;

use super::{Check, Claim, Farm};
use crate::error::Result;
use crate::gateway::SessionView;
use crate::peer::Implementation;

/// What [`address_reused`] measured.
#[derive(Clone, Debug, Serialize)]
pub struct Reuse {
    /// The address and port.
    pub address: SocketAddr,
    /// The session of the one who left, before.
    pub leaver_before: SessionView,
    /// The session of the one who came, before.
    pub comer_before: SessionView,
    /// Who answered the one who came, at the reused address.
    pub comer_answered_by: u8,
    /// The session at the reused address.
    pub comer_after: SessionView,
    /// The leaver's session while it had lost its address to another.
    pub leaver_aside: Option<SessionView>,
    /// Who answered the one who left, when it spoke again.
    pub leaver_answered_by: u8,
    /// The leaver's session at last.
    pub leaver_after: SessionView,
}

/// A client leaves its address in silence; another, of another concentrator,
/// gets the same address and port; then the first speaks again from elsewhere.
pub fn address_reused(
    farm: &mut Farm,
    pool: usize,
    implementation: Implementation,
) -> Result<Reuse> {
    let [(leaver, _), (comer, _)] = farm.join_apart(pool, implementation, false)?;
    let (leaver_before, comer_before) = (farm.session(leaver)?, farm.session(comer)?);
    let address = farm.members()[leaver].address();

    let left = farm.members()[leaver].host().addresses();
    farm.members()[leaver].host().switch_uplink()?;
    // Another port too, as a NAT would give it. (A client that keeps its socket may
    // keep the old source address with it, and send nothing until its next handshake.)
    let port = farm.members()[leaver].host().fresh_port();
    farm.member(leaver).set_port(port)?;
    farm.members()[comer].host().take_over(left)?;
    farm.member(comer).set_port(address.port())?;
    let comer_answered_by = farm.reach(comer)?;
    let comer_after = farm.session(comer)?;
    let leaver_aside = farm.session_by_id(&leaver_before.id)?;
    let leaver_answered_by = farm.reach(leaver)?;
    Ok(Reuse {
        address,
        leaver_before,
        comer_before,
        comer_answered_by,
        comer_after,
        leaver_aside,
        leaver_answered_by,
        leaver_after: farm.session(leaver)?,
    })
}

impl Claim for Reuse {
    fn failures(&self) -> Vec<String> {
        let mut check = Check::default()
            .that(self.leaver_before.backend != self.comer_before.backend, || {
                "both clients are on the same concentrator".to_owned()
            })
            .that(self.comer_after.client == self.address, || {
                "the address was not reused".to_owned()
            })
            .that(self.leaver_aside.is_some(), || {
                "the session of the client that left is gone".to_owned()
            });
        for (who, before, after, answered_by) in [
            ("left", &self.leaver_before, &self.leaver_after, self.leaver_answered_by),
            ("came", &self.comer_before, &self.comer_after, self.comer_answered_by),
        ] {
            check = check
                .that(answered_by == before.concentrator(), || {
                    format!(
                        "the client that {who} is on {}, but wg-{answered_by} answered",
                        before.backend
                    )
                })
                .that(before.id == after.id && before.backend == after.backend, || {
                    format!(
                        "the session of the client that {who} went from {before:?} to {after:?}"
                    )
                });
        }
        check.failures()
    }

    fn summary(&self) -> String {
        format!(
            "{} passed from a client on {} to one on {}: each kept its session and its concentrator",
            self.address, self.leaver_before.backend, self.comer_before.backend,
        )
    }
}
