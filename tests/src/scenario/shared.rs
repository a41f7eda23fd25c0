//! Two clients behind one address.

use serde::Serialize;

use super::{Check, Claim, Farm, SOON};
use crate::error::Result;
use crate::gateway::SessionView;
use crate::peer::Implementation;
use crate::traffic::Tally;

/// One of the two.
#[derive(Clone, Debug, Serialize)]
pub struct Neighbour {
    /// Its concentrator.
    pub concentrator: u8,
    /// Its session before the address changed.
    pub before: SessionView,
    /// Its session afterwards.
    pub after: SessionView,
    /// Its traffic.
    pub traffic: Tally,
}

/// What [`two_behind_one_address`] measured.
#[derive(Clone, Debug, Serialize)]
pub struct Shared {
    /// The two.
    pub clients: [Neighbour; 2],
}

/// Two clients share an address, are on different concentrators, and move to
/// another address together.
pub fn two_behind_one_address(
    farm: &mut Farm,
    pool: usize,
    implementation: Implementation,
) -> Result<Shared> {
    let pair = farm.join_apart(pool, implementation, true)?;
    let [first, second] = pair.map(|(index, _)| index);
    let before = [farm.session(first)?, farm.session(second)?];
    let traffic = [farm.traffic(first, 50)?, farm.traffic(second, 50)?];
    for sequence in &traffic {
        sequence.wait_for(25, SOON)?;
    }
    let port = farm.members()[second].host().fresh_port();
    // Address and ports change one after the other: nothing is under way meanwhile.
    traffic[0].between(|| {
        traffic[1].between(|| {
            farm.member(first).roam()?;
            farm.member(second).set_port(port)
        })
    })?;
    for sequence in &traffic {
        sequence.wait_for(100, SOON)?;
    }
    let [one, other] = traffic.map(|sequence| sequence.stop());
    let after = [farm.session(first)?, farm.session(second)?];
    let ([a, b], [c, d]) = (before, after);
    Ok(Shared {
        clients: [
            Neighbour { concentrator: pair[0].1, before: a, after: c, traffic: one },
            Neighbour { concentrator: pair[1].1, before: b, after: d, traffic: other },
        ],
    })
}

impl Claim for Shared {
    fn failures(&self) -> Vec<String> {
        let [one, other] = &self.clients;
        let mut check = Check::default()
            .that(one.before.client.ip() == other.before.client.ip(), || {
                "the clients do not share an address".to_owned()
            })
            .that(one.after.client.ip() == other.after.client.ip(), || {
                "the clients do not share their new address".to_owned()
            });
        for c in &self.clients {
            check = check
                .that(c.before.id == c.after.id && c.before.backend == c.after.backend, || {
                    format!("a session went from {:?} to {:?}", c.before, c.after)
                })
                .that(c.traffic.only_answerer() == Some(c.concentrator), || {
                    format!(
                        "wg-{} expected, answers came from {:?}",
                        c.concentrator, c.traffic.answered_by
                    )
                })
                .that(c.traffic.lost <= 2, || {
                    format!("{} of {} lost", c.traffic.lost, c.traffic.sent)
                });
        }
        check.failures()
    }

    fn summary(&self) -> String {
        let [one, other] = &self.clients;
        format!(
            "one address, wg-{} and wg-{}: each kept, also when both moved; {} and {} packets lost",
            one.concentrator, other.concentrator, one.traffic.lost, other.traffic.lost,
        )
    }
}
