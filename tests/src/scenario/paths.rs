//! The way to the clients, or a neighbour, changes while the gateway forwards.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::{Check, Claim, Farm, SOON, ms};
use crate::error::Result;
use crate::lateness::Meter;
use crate::layout::plan;
use crate::traffic::Tally;
use crate::wait::until;

/// Within which time the new path must be used.
const CLAIMED: Duration = Duration::from_secs(1);
/// Requests a second.
const RATE: u32 = 200;
/// More packets than neighbours and probes send.
const ENOUGH: u64 = 20;

/// What a change of path did.
#[derive(Clone, Debug, Serialize)]
pub struct PathChange {
    /// What was changed.
    pub what: &'static str,
    /// From the change until packets took the new path.
    pub new_path_after_ms: u64,
    /// How late this machine was until then.
    pub late_ms: u64,
    /// The traffic.
    pub traffic: Tally,
}

/// The default routes change from one uplink of the gateway to the other.
pub fn route_change(farm: &Farm, member: usize) -> Result<PathChange> {
    let to = plan::wan_peer(1);
    change(farm, member, "route", || {
        farm.lab().gateway().ip(&[
            format!("route replace default via {}", to.v4),
            format!("route replace default via {}", to.v6),
        ])
    })
}

/// An uplink of the gateway goes down; a route of lower preference leads over the other.
pub fn link_down(farm: &Farm, member: usize) -> Result<PathChange> {
    let to = plan::wan_peer(1);
    farm.lab().gateway().ip(&[
        format!("route add default via {} metric 5000", to.v4),
        format!("route add default via {} metric 5000", to.v6),
    ])?;
    change(farm, member, "link", || {
        farm.lab().gateway().ip(&["link set wan0 down"])?;
        // The Internet's side notices too.
        let back = plan::wan(1);
        farm.lab().inet().ip(&[
            format!("route replace 203.0.113.0/24 via {}", back.v4),
            format!("route replace 2001:db8:f::/48 via {}", back.v6),
        ])
    })
}

/// Makes a change, and waits until packets arrive over the gateway's second uplink.
fn change(
    farm: &Farm,
    member: usize,
    what: &'static str,
    make: impl FnOnce() -> Result<()>,
) -> Result<PathChange> {
    let arrived = || farm.lab().inet().interface_counter("gw1", "rx_packets");
    let traffic = farm.traffic(member, RATE)?;
    traffic.wait_for(50, SOON)?;
    let before = arrived()?;
    let meter = Meter::start()?;
    make()?;
    let changed = Instant::now();
    until("traffic over the new path", SOON, || Ok((arrived()? >= before + ENOUGH).then_some(())))?;
    let new_path_after_ms = ms(changed.elapsed());
    let late_ms = ms(meter.late().sum);
    traffic.wait_for(100, SOON)?;
    Ok(PathChange { what, new_path_after_ms, late_ms, traffic: traffic.stop() })
}

/// The network card of a client's concentrator is exchanged: another MAC address.
pub fn neighbour_change(farm: &Farm, member: usize) -> Result<PathChange> {
    let traffic = farm.traffic(member, RATE)?;
    let answered_by = farm.session(member)?.concentrator();
    let pool = &farm.pools()[farm.members()[member].pool()];
    let own = pool.concentrators().iter().find(|c| c.number() == answered_by);
    traffic.wait_for(50, SOON)?;
    let meter = Meter::start()?;
    if let Some(concentrator) = own {
        let mac = format!("02:fe:00:00:00:{answered_by:02x}");
        concentrator.ns().ip(&[format!("link set eth0 address {mac}")])?;
    }
    let changed = Instant::now();
    traffic.wait_for(1, SOON)?;
    let new_path_after_ms = ms(changed.elapsed());
    let late_ms = ms(meter.late().sum);
    traffic.wait_for(100, SOON)?;
    Ok(PathChange { what: "neighbour", new_path_after_ms, late_ms, traffic: traffic.stop() })
}

impl Claim for PathChange {
    fn failures(&self) -> Vec<String> {
        // The time that the machine had.
        let allowed = ms(CLAIMED) + self.late_ms;
        let most = u64::from(RATE) * allowed / 1000;
        Check::default()
            .that(self.new_path_after_ms <= allowed, || {
                format!(
                    "the new path was used after {} ms, on a machine that was {} ms late",
                    self.new_path_after_ms, self.late_ms
                )
            })
            .that(self.traffic.lost <= most, || {
                let (lost, sent) = (self.traffic.lost, self.traffic.sent);
                format!("{lost} of {sent} packets lost, of which {most} may be")
            })
            .that(self.traffic.answered_by.len() == 1, || {
                format!("answers came from {:?}", self.traffic.answered_by)
            })
            .failures()
    }

    fn summary(&self) -> String {
        format!(
            "another {}: in use after {} ms (the machine was {} ms late), {} of {} packets lost",
            self.what, self.new_path_after_ms, self.late_ms, self.traffic.lost, self.traffic.sent,
        )
    }
}
