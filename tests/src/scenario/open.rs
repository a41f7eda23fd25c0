//! Sessions open, and are shown as they are.

use std::time::Instant;

use serde::Serialize;

use super::{Check, Claim, Farm, ms};
use crate::error::Result;
use crate::gateway::SessionView;

/// A client and the session it got.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The client's name.
    pub client: String,
    /// What it runs.
    pub implementation: &'static str,
    /// The tenant whose service it dialled.
    pub tenant: String,
    /// The concentrator that answered in its tunnel.
    pub answered_by: u8,
    /// The concentrator knows the client by its own address.
    pub seen_as_itself: bool,
    /// From the first packet to the first answer.
    pub opened_in_ms: u64,
    /// What `fernpass session list` shows.
    pub session: SessionView,
}

/// What [`sessions_open`] measured.
#[derive(Clone, Debug, Serialize)]
pub struct Opened {
    /// How many clients there are.
    pub clients: usize,
    /// How many sessions are listed.
    pub sessions: usize,
    /// Each client with its session.
    pub rows: Vec<Row>,
}

/// Every client says something in its tunnel and has a session then.
pub fn sessions_open(farm: &Farm) -> Result<Opened> {
    let mut rows = Vec::new();
    for (index, member) in farm.members().iter().enumerate() {
        let started = Instant::now();
        let answered_by = farm.reach(index)?;
        let opened_in_ms = ms(started.elapsed());
        let session = farm.session(index)?;
        let pool = &farm.pools()[member.pool()];
        let concentrator = pool.concentrators().iter().find(|c| c.number() == answered_by);
        let peer = concentrator.map(|c| c.peer(&member.client().public())).transpose()?.flatten();
        rows.push(Row {
            client: member.name().to_owned(),
            implementation: member.client().device().implementation().as_str(),
            tenant: pool.name().to_owned(),
            answered_by,
            seen_as_itself: peer.and_then(|p| p.endpoint) == Some(member.address()),
            opened_in_ms,
            session,
        });
    }
    let sessions = farm.gateway().sessions()?.len();
    Ok(Opened { clients: farm.members().len(), sessions, rows })
}

impl Claim for Opened {
    fn failures(&self) -> Vec<String> {
        let mut check = Check::default().that(self.sessions == self.clients, || {
            format!("{} sessions for {} clients", self.sessions, self.clients)
        });
        for row in &self.rows {
            let (who, session) = (&row.client, &row.session);
            check = check
                .that(session.concentrator() == row.answered_by, || {
                    format!(
                        "{who} is listed on {}, but wg-{} answers",
                        session.backend, row.answered_by
                    )
                })
                .that(session.tenant == row.tenant, || {
                    format!("{who} is listed for tenant {}, not {}", session.tenant, row.tenant)
                })
                .that(session.service == format!("vpn-{}", row.tenant), || {
                    format!("{who} is listed with service {}", session.service)
                })
                .that(row.seen_as_itself, || {
                    format!("the concentrator does not see the address of {who}")
                })
                .that(session.rx_packets > 0 && session.tx_packets > 0, || {
                    format!("the session of {who} counts nothing: {session:?}")
                })
                .that(session.moves == 0, || format!("{who} has moved {} times", session.moves));
        }
        check.failures()
    }

    fn summary(&self) -> String {
        let slowest = self.rows.iter().map(|row| row.opened_in_ms).max().unwrap_or(0);
        format!(
            "{} sessions for {} clients, the slowest open in {slowest} ms",
            self.sessions, self.clients
        )
    }
}
