//! Clients that send keepalives only, to concentrators that say nothing.

use std::net::SocketAddr;
use std::sync::Arc;

use serde::Serialize;

use super::{Check, Claim, Farm, HANDSHAKE};
use crate::error::Result;
use crate::gateway::SessionView;
use crate::layout::plan::Family;
use crate::net::Capture;
use crate::peer::{Implementation, PeerState};
use crate::wait::until;

/// One client's story.
#[derive(Clone, Debug, Serialize)]
pub struct IdleClient {
    /// Its name.
    pub client: String,
    /// Where it was.
    pub from: SocketAddr,
    /// Where it went.
    pub to: SocketAddr,
    /// Its session before it roamed.
    pub before: SessionView,
    /// The same session afterwards, if it was still there.
    pub roamed: Option<SessionView>,
    /// The concentrator that its next handshake arrived at.
    pub handshake_at: u8,
    /// The session after the new handshake.
    pub after: SessionView,
}

/// What [`idle_clients`] measured.
#[derive(Clone, Debug, Serialize)]
pub struct Idle {
    /// The clients. More than one, because a handshake that forgets where its
    /// client belongs still arrives there now and then.
    pub clients: Vec<IdleClient>,
    /// Packets carried by their id.
    pub carried: u64,
}

/// Clients that are silent but for keepalives: their sessions open, are carried
/// by their ids when they roam, and their next handshake finds their concentrator.
pub fn idle_clients(
    farm: &mut Farm,
    pool: usize,
    implementation: Implementation,
    clients: usize,
) -> Result<Idle> {
    let counters = farm.gateway().counters()?;
    let mut stories = Vec::new();
    for _ in 0..clients {
        stories.push(idle_client(farm, pool, implementation)?);
    }
    let carried = farm.gateway().counters()?.since(&counters).get("in_by_id");
    Ok(Idle { clients: stories, carried })
}

fn idle_client(farm: &mut Farm, pool: usize, implementation: Implementation) -> Result<IdleClient> {
    let host = Arc::new(farm.lab().host()?);
    let index = farm.join_on(host, pool, implementation, Family::V4, 1)?;
    let from = farm.members()[index].address();
    let before = farm.gateway().await_session(from, HANDSHAKE)?;

    until("a keepalive at the concentrator", HANDSHAKE, || {
        Ok((peer(farm, index, &before)?.rx_bytes > 0).then_some(()))
    })?;
    farm.member(index).roam()?;
    let to = farm.members()[index].address();
    // Two keepalives from there, and the concentrator knows the client's new address.
    let carried = || Ok(farm.gateway().counters()?.get("in_by_id"));
    let then = carried()?;
    until("keepalives from the new address", HANDSHAKE, || {
        let is_known = peer(farm, index, &before)?.endpoint == Some(to);
        Ok((is_known && carried()? >= then + 2).then_some(()))
    })?;
    let roamed = farm.session_by_id(&before.id)?;

    let capture = Capture::start(farm.lab().inside())?;
    farm.members()[index].client().rehandshake()?;
    let initiation = capture.find("a handshake from the new address", HANDSHAKE, |d| {
        d.source == to && d.wireguard_type() == Some(1)
    })?;
    let landed = farm.pools()[pool]
        .concentrators()
        .iter()
        .find(|c| c.address(Family::V4) == initiation.destination.ip());
    let handshake_at = landed.map_or(0, |c| c.number());
    let after = farm.gateway().await_session(to, HANDSHAKE)?;
    let client = farm.members()[index].name().to_owned();
    Ok(IdleClient { client, from, to, before, roamed, handshake_at, after })
}

/// What the concentrator of `session` knows of a client.
fn peer(farm: &Farm, member: usize, session: &SessionView) -> Result<PeerState> {
    let member = &farm.members()[member];
    let concentrators = farm.pools()[member.pool()].concentrators();
    let own = concentrators.iter().find(|c| c.number() == session.concentrator());
    Ok(own.map(|c| c.peer(&member.client().public())).transpose()?.flatten().unwrap_or_default())
}

impl Claim for Idle {
    fn failures(&self) -> Vec<String> {
        let mut check = Check::default()
            .that(self.carried >= 2 * self.clients.len() as u64, || {
                format!("only {} keepalives were carried by their id", self.carried)
            });
        for story in &self.clients {
            let (who, before) = (&story.client, &story.before);
            check = check
                .that(
                    story.roamed.as_ref().is_some_and(|s| {
                        s.backend == before.backend
                            && s.client == story.from
                            && s.moves == before.moves
                    }),
                    || format!("after its roam the session of {who} is {:?}", story.roamed),
                )
                .that(story.handshake_at == before.concentrator(), || {
                    format!(
                        "the handshake of {who} went to wg-{}, not to {}",
                        story.handshake_at, before.backend
                    )
                })
                .that(story.after.backend == before.backend, || {
                    format!("{who} was on {} and is on {}", before.backend, story.after.backend)
                });
        }
        check.failures()
    }

    fn summary(&self) -> String {
        format!(
            "{} silent clients: sessions open, {} keepalives carried by id after their roams, \
             next handshakes at the same concentrators",
            self.clients.len(),
            self.carried,
        )
    }
}
