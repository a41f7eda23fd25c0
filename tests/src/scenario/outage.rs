//! A next hop that cannot be resolved for a while.

use serde::Serialize;

use super::{Check, Claim, Farm, SOON};
use crate::error::{LabError, Result};
use crate::layout::plan::{Family, LAN};
use crate::traffic::Tally;
use crate::wait::until;

/// Packets that must have been handed to the kernel before the neighbour answers again.
const ENOUGH: u64 = 10;

/// What [`unresolved`] measured.
#[derive(Clone, Debug, Serialize)]
pub struct Outage {
    /// Packets handed to the kernel's stack.
    pub handed_over: u64,
    /// Packets the gateway dropped for want of a route or a backend.
    pub dropped: u64,
    /// The traffic.
    pub traffic: Tally,
    /// Whether XDP forwarded by itself again in the end.
    pub back_in_xdp: bool,
}

/// A client's concentrator does not answer ARP for a while, and the gateway has
/// forgotten its MAC address: packets wait in the kernel's stack. Needs a farm
/// without probes.
pub fn unresolved(farm: &Farm, member: usize) -> Result<Outage> {
    let number = farm.session(member)?.concentrator();
    let pool = &farm.pools()[farm.members()[member].pool()];
    let concentrator = pool
        .concentrators()
        .iter()
        .find(|c| c.number() == number)
        .ok_or_else(|| LabError::Scenario(format!("there is no concentrator {number}")))?;
    let gateway = farm.lab().gateway();
    let mac = mac(&gateway.run("ip", &["-j", "link", "show", "dev", "lan0"])?)?;
    // It neither answers nor asks: a question of its own would teach the gateway its address.
    concentrator
        .ns()
        .ip(&[format!("neigh replace {} lladdr {mac} dev eth0 nud permanent", LAN.v4)])?;
    // The kernel must not give up, and drop what waits, before the concentrator is back.
    gateway.sysctl("net/ipv4/neigh/lan0/mcast_solicit", "60")?;

    let traffic = farm.traffic(member, 20)?;
    traffic.wait_for(20, SOON)?;
    let before = farm.gateway().counters()?;
    concentrator.ns().sysctl("net/ipv4/conf/all/arp_ignore", "8")?;
    gateway.ip(&[format!("neigh del {} dev lan0", concentrator.address(Family::V4))])?;
    let handed = || Ok(farm.gateway().counters()?.since(&before).get("stack_inbound"));
    let waiting = until("packets in the kernel's hands", SOON, || {
        let handed = handed()?;
        Ok((handed >= ENOUGH).then_some(handed))
    });
    concentrator.ns().sysctl("net/ipv4/conf/all/arp_ignore", "0")?;
    waiting?;
    traffic.wait_for(20, SOON)?;
    let back_in_xdp = until("forwarding without the stack", SOON, || {
        let so_far = handed()?;
        traffic.wait_for(10, SOON)?;
        Ok((handed()? == so_far).then_some(()))
    });
    let counted = farm.gateway().counters()?.since(&before);
    Ok(Outage {
        handed_over: counted.get("stack_inbound"),
        dropped: ["no_route", "no_backend", "backend_down", "bad_table"]
            .map(|r| counted.get(r))
            .iter()
            .sum(),
        traffic: traffic.stop(),
        back_in_xdp: back_in_xdp.is_ok(),
    })
}

/// The MAC address in what `ip -j link show` printed.
fn mac(text: &str) -> Result<String> {
    serde_json::from_str::<serde_json::Value>(text)
        .ok()
        .and_then(|links| Some(links[0]["address"].as_str()?.to_owned()))
        .ok_or_else(|| LabError::Scenario("`ip` shows no address of lan0".to_owned()))
}

impl Claim for Outage {
    fn failures(&self) -> Vec<String> {
        Check::default()
            .that(self.handed_over >= ENOUGH, || {
                format!("only {} packets were handed to the kernel", self.handed_over)
            })
            .that(self.dropped == 0, || format!("the gateway dropped {} packets", self.dropped))
            .that(self.traffic.lost == 0, || {
                format!("{} of {} packets lost", self.traffic.lost, self.traffic.sent)
            })
            .that(self.back_in_xdp, || "packets still take the way through the stack".to_owned())
            .failures()
    }

    fn summary(&self) -> String {
        format!(
            "neighbour unresolved: {} packets handed to the kernel, {} dropped, {} of {} lost",
            self.handed_over, self.dropped, self.traffic.lost, self.traffic.sent,
        )
    }
}
