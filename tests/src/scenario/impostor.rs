//! Somebody else sends a client's packets, or packets with its session's id.

use std::net::{IpAddr, SocketAddr};

use serde::Serialize;

use super::{Check, Claim, Farm, SOON};
use crate::error::Result;
use crate::gateway::SessionView;
use crate::layout::plan::{self, Family};
use crate::net::{Capture, Datagram, RawSender};
use crate::traffic::Tally;

/// How many packets of each kind the gateway must have carried.
const PACKETS: u64 = 200;
/// How many are sent for that at most: a queue on the way has 256 places.
const MOST: u64 = 5 * PACKETS;
/// Where a data packet has the receiver's index and its counter.
const HEADER: usize = 16;

/// What [`impostor`] measured.
#[derive(Clone, Debug, Serialize)]
pub struct Impostor {
    /// Replays sent from another address.
    pub replayed: u64,
    /// Forged packets with the session's id sent from there.
    pub forged: u64,
    /// Packets the gateway carried by their id, in all.
    pub carried: u64,
    /// Answers the impostor got.
    pub answered: u64,
    /// The session before.
    pub before: SessionView,
    /// The session afterwards.
    pub after: SessionView,
    /// The client's own traffic meanwhile.
    pub traffic: Tally,
}

/// Replays a client's data packet and forges others with its index, from
/// another address, while the client goes on.
pub fn impostor(farm: &Farm, member: usize) -> Result<Impostor> {
    farm.reach(member)?;
    let before = farm.session(member)?;
    let counters = farm.gateway().counters()?;
    let client = &farm.members()[member];
    let vip = client.client().endpoint();
    let capture = Capture::start(farm.lab().inet())?;
    let traffic = farm.traffic(member, 100)?;
    let genuine =
        capture.find("a data packet of the client", SOON, |d| is_data(d, client.address(), vip))?;

    let from: IpAddr = if vip.is_ipv4() { Family::V4 } else { Family::V6 }.of(plan::IMPOSTOR);
    let sender = RawSender::new(farm.lab().inet())?;
    let mut random = fastrand::Rng::new();
    let carried = || Ok(farm.gateway().counters()?.since(&counters).get("in_by_id"));
    let mut sent = 0;
    for n in 0..MOST {
        if n >= PACKETS && n % 50 == 0 && carried()? >= 2 * PACKETS {
            break;
        }
        let source = SocketAddr::new(from, 20_000 + (n % 50) as u16);
        sender.send(source, vip, &genuine.payload)?;
        let mut forged = genuine.payload.clone();
        // A counter that is ahead of the client's, and a body of noise.
        forged[8..HEADER].copy_from_slice(&(1_000_000 + n).to_le_bytes());
        random.fill(&mut forged[HEADER..]);
        sender.send(source, vip, &forged)?;
        sent += 1;
    }
    traffic.wait_for(100, SOON)?;
    let traffic = traffic.stop();
    let answered = capture.count(|d| d.destination.ip() == from)?;
    Ok(Impostor {
        replayed: sent,
        forged: sent,
        carried: carried()?,
        answered,
        before,
        after: farm.session(member)?,
        traffic,
    })
}

/// A data packet (type 4) with a body.
fn is_data(d: &Datagram, from: SocketAddr, to: SocketAddr) -> bool {
    d.source == from
        && d.destination == to
        && d.wireguard_type() == Some(4)
        && d.payload.len() > 2 * HEADER
}

impl Claim for Impostor {
    fn failures(&self) -> Vec<String> {
        let (before, after) = (&self.before, &self.after);
        Check::default()
            .that(self.carried >= 2 * PACKETS, || {
                format!(
                    "only {} of the impostor's {} packets were carried by their id",
                    self.carried,
                    self.replayed + self.forged
                )
            })
            .that(self.answered == 0, || format!("the impostor got {} answers", self.answered))
            .that(
                (&before.id, &before.backend, before.client)
                    == (&after.id, &after.backend, after.client),
                || format!("the session changed from {before:?} to {after:?}"),
            )
            .that(after.moves == before.moves, || "the session moved".to_owned())
            .that(self.traffic.lost == 0, || {
                format!("the client lost {} of {}", self.traffic.lost, self.traffic.sent)
            })
            .failures()
    }

    fn summary(&self) -> String {
        format!(
            "{} replays and {} forgeries: {} answers, session unmoved, {} of {} of the client's packets lost",
            self.replayed, self.forged, self.answered, self.traffic.lost, self.traffic.sent,
        )
    }
}
