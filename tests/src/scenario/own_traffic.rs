//! What is not for a service: the hosts' own traffic through and to the gateway.

use std::net::SocketAddr;

use serde::Serialize;

use super::{Check, Claim, SOON};
use crate::error::Result;
use crate::layout::plan::{self, Family, Pair};
use crate::layout::{Host, Lab};
use crate::net::Ns;
use crate::peer::Concentrator;
use crate::traffic::{EchoServer, Probe, Target, TcpEchoServer, ping, tcp_round_trip};

/// An SSH server, as far as the network is concerned.
const SSH: u16 = 22;
/// Enough for many full frames.
const LENGTH: usize = 300_000;
/// What the outside server answers with.
const OUTSIDE: u8 = 200;

/// What [`own_traffic`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct OwnTraffic {
    /// What worked.
    pub works: Vec<String>,
    /// What did not, and why.
    pub fails: Vec<String>,
}

impl OwnTraffic {
    fn tried<T>(&mut self, what: String, result: Result<T>) {
        match result {
            Ok(_) => self.works.push(what),
            Err(e) => self.fails.push(format!("{what}: {e}")),
        }
    }
}

/// A concentrator's DNS and SSH to the outside and to the gateway, SSH from the
/// outside to both, pings of the gateway and of its VIPs, and all of it again
/// after everybody has forgotten their neighbours.
pub fn own_traffic(lab: &Lab, concentrator: &Concentrator, host: &Host) -> Result<OwnTraffic> {
    let mut found = OwnTraffic::default();
    let inside = concentrator.ns();
    let _ssh = [
        TcpEchoServer::start(lab.inet(), SSH)?,
        TcpEchoServer::start(lab.gateway(), SSH)?,
        TcpEchoServer::start(inside, SSH)?,
    ];
    for family in [Family::V4, Family::V6] {
        let server = family.of(plan::SERVER);
        let _dns = EchoServer::start(lab.inet(), server, OUTSIDE)?;
        for round in ["", ", neighbours forgotten"] {
            let name = |what: &str| format!("{what} ({family:?}{round})");
            let dns = Probe::open(&Target::outside(inside, server))?.reach(SOON);
            found.tried(name("UDP from a concentrator to the outside"), dns);
            let ssh = |from: &Ns, to| tcp_round_trip(from, SocketAddr::new(to, SSH), LENGTH);
            let of = |pair: Pair| family.of(pair);
            found.tried(name("TCP from a concentrator to the outside"), ssh(inside, server));
            found.tried(name("TCP from a concentrator to the gateway"), ssh(inside, of(plan::LAN)));
            found.tried(
                name("TCP from the outside to the gateway"),
                ssh(host.ns(), of(plan::wan(0))),
            );
            found.tried(name("TCP from the outside to a VIP"), ssh(host.ns(), of(plan::vip(0))));
            let own = concentrator.address(family);
            found.tried(name("TCP from the outside to a concentrator"), ssh(lab.inet(), own));
            found.tried(name("TCP from the gateway to a concentrator"), ssh(lab.gateway(), own));
            found.tried(name("TCP from the gateway to the outside"), ssh(lab.gateway(), server));
            for (who, from) in [("a client", host.ns()), ("a concentrator", inside)] {
                for vip in 0..plan::VIPS {
                    let what = name(&format!("echo from {who} to VIP {vip}"));
                    found.tried(what, ping(from, of(plan::vip(vip)), SOON));
                }
            }
            found.tried(
                name("echo from the gateway to a concentrator"),
                ping(lab.gateway(), own, SOON),
            );
            for ns in [lab.gateway(), lab.inet(), inside] {
                ns.ip(&["neigh flush all"])?;
            }
        }
    }
    Ok(found)
}

impl Claim for OwnTraffic {
    fn failures(&self) -> Vec<String> {
        let nothing = self.works.is_empty() && self.fails.is_empty();
        let check = Check::default().that(!nothing, || "nothing was tried".to_owned());
        self.fails.iter().fold(check, |check, e| check.that(false, || e.clone())).failures()
    }

    fn summary(&self) -> String {
        format!(
            "{} of {} kinds of own traffic work",
            self.works.len(),
            self.works.len() + self.fails.len()
        )
    }
}
