//! A client changes its address, and its port if it can, in the middle of its traffic.

use std::net::SocketAddr;

use serde::Serialize;

use super::{Check, Claim, Farm, HANDSHAKE, SOON};
use crate::error::Result;
use crate::gateway::{Gateway, SessionView};
use crate::layout::Host;
use crate::layout::plan::Family;
use crate::peer::Client;
use crate::traffic::{Sequence, Tally};

/// What [`roam`] measured.
#[derive(Clone, Debug, Serialize)]
pub struct Roam {
    /// The client's name.
    pub client: String,
    /// Where it was.
    pub from: SocketAddr,
    /// Where it is now.
    pub to: SocketAddr,
    /// Its session before.
    pub before: SessionView,
    /// The session at its new address.
    pub after: SessionView,
    /// The pings.
    pub pings: Tally,
    /// Most of them that may be lost.
    pub most_lost: u64,
}

/// A client of a farm roams under twenty pings a second.
pub fn roam(farm: &mut Farm, member: usize) -> Result<Roam> {
    let (gateway, member) = farm.gateway_and_member(member);
    let (name, host, family) = (member.name().to_owned(), member.host().clone(), member.family());
    roam_client(gateway, &name, &host, family, member.client_mut())
}

/// A client of any protocol roams under twenty pings a second: `name` on `host`, which
/// dials the gateway with addresses of `family`.
pub fn roam_client(
    gateway: &Gateway,
    name: &str,
    host: &Host,
    family: Family,
    client: &mut dyn Client,
) -> Result<Roam> {
    let place = |client: &dyn Client| SocketAddr::new(host.address(family), client.port());
    client.reach(HANDSHAKE)?;
    let from = place(client);
    let before = gateway.await_session(from, SOON)?;
    let pings = Sequence::pings(&client.target()?)?;
    pings.wait_for(20, SOON)?;
    // Address and port change one after the other; the session sees it as one move only if
    // nothing is sent meanwhile.
    pings.between(|| client.roam(host))?;
    pings.wait_for(60, SOON)?;
    let pings = pings.stop();
    let to = place(client);
    let after = gateway.await_session(to, SOON)?;
    let most_lost = client.most_lost();
    Ok(Roam { client: name.to_owned(), from, to, before, after, pings, most_lost })
}

impl Roam {
    /// How often the session moved.
    pub fn moves(&self) -> u64 {
        self.after.moves - self.before.moves.min(self.after.moves)
    }
}

impl Claim for Roam {
    fn failures(&self) -> Vec<String> {
        let (before, after) = (&self.before, &self.after);
        Check::default()
            .that(self.from.ip() != self.to.ip(), || {
                format!("{} has not changed its address", self.client)
            })
            .that(before.id == after.id, || {
                format!("session {} became session {}", before.id, after.id)
            })
            .that(before.backend == after.backend, || {
                format!("it went from {} to {}", before.backend, after.backend)
            })
            .that(self.pings.only_answerer() == Some(before.concentrator()), || {
                format!("answers came from {:?}", self.pings.answered_by)
            })
            .that(self.moves() == 1, || format!("it moved {} times instead of once", self.moves()))
            .that(self.pings.lost <= self.most_lost, || {
                format!("{} of {} pings lost", self.pings.lost, self.pings.sent)
            })
            .failures()
    }

    fn summary(&self) -> String {
        format!(
            "{} went from {} to {}: session {} stays on {}, {} move, {} of {} pings lost",
            self.client,
            self.from,
            self.to,
            self.after.id,
            self.after.backend,
            self.moves(),
            self.pings.lost,
            self.pings.sent,
        )
    }
}
