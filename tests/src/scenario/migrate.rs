//! A QUIC client migrates by itself: another address, another port, and a connection id that the gateway has never seen.

use std::net::SocketAddr;

use serde::Serialize;

use super::{Check, Claim, HANDSHAKE, SOON};
use crate::error::Result;
use crate::gateway::{Gateway, SessionView};
use crate::layout::Host;
use crate::layout::plan::Family;
use crate::peer::{Client, QuicClient};
use crate::traffic::{Sequence, Tally};

/// What [`migrate`] measured.
#[derive(Clone, Debug, Serialize)]
pub struct Migration {
    /// Where the client was.
    pub from: SocketAddr,
    /// Where it is now.
    pub to: SocketAddr,
    /// Its session, before it migrated.
    pub session: SessionView,
    /// The pings.
    pub pings: Tally,
    /// Packets that were carried by the server's name in their connection ids.
    pub by_server: u64,
    /// How many connections the client has made.
    pub connections: u32,
    /// Why connections of its broke.
    pub breaks: Vec<String>,
}

/// A client migrates under twenty pings a second, while its server is drained: nothing but its id leads there.
/// `meanwhile` is done before it does, in the middle of its traffic.
pub fn migrate(
    gateway: &mut Gateway,
    host: &Host,
    family: Family,
    client: &mut QuicClient,
    meanwhile: impl FnOnce(&mut Gateway) -> Result<()>,
) -> Result<Migration> {
    let place = |client: &QuicClient| SocketAddr::new(host.address(family), client.port());
    client.reach(HANDSHAKE)?;
    let from = place(client);
    let session = gateway.await_session(from, SOON)?;
    gateway.act(&["backend", "drain", &session.backend])?;
    let pings = Sequence::pings(&client.target()?)?;
    pings.wait_for(20, SOON)?;
    meanwhile(gateway)?;
    let before = gateway.counters()?;
    pings.between(|| {
        client.roam(host)?;
        client.migrate(host)
    })?;
    pings.wait_for(60, SOON)?;
    let by_server = gateway.counters()?.since(&before).get("in_by_server");
    let (pings, to) = (pings.stop(), place(client));
    gateway.act(&["backend", "undrain", &session.backend])?;
    let (connections, breaks) = (client.connections(), client.breaks());
    Ok(Migration { from, to, session, pings, by_server, connections, breaks })
}

impl Claim for Migration {
    fn failures(&self) -> Vec<String> {
        Check::default()
            .that(self.from.ip() != self.to.ip() && self.from.port() != self.to.port(), || {
                format!("it went from {} to {}", self.from, self.to)
            })
            .that(self.pings.only_answerer() == Some(self.session.concentrator()), || {
                format!("answers came from {:?}", self.pings.answered_by)
            })
            .that(self.connections == 1 && self.breaks.is_empty(), || {
                format!("{} connections, and breaks: {:?}", self.connections, self.breaks)
            })
            .that(self.by_server >= 40, || {
                format!("{} packets were carried by the server's name", self.by_server)
            })
            .failures()
    }

    fn summary(&self) -> String {
        format!(
            "a client migrated from {} to {}, with another id: its connection stays on {}, which is \
             drained, {} of {} pings lost",
            self.from, self.to, self.session.backend, self.pings.lost, self.pings.sent,
        )
    }
}
