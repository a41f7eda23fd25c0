//! Packets to a service with headers that no VPN client sends.

use std::net::SocketAddr;

use serde::Serialize;

use super::{Check, Claim, SOON};
use crate::error::Result;
use crate::gateway::{Counters, Gateway};
use crate::layout::Lab;
use crate::layout::plan::{self, Family};
use crate::net::{Obstruction, RawSender};
use crate::traffic::ping;
use crate::wait::until;

/// Packets of each kind.
const EACH: u64 = 20;
const EXPECTED: [(&str, u64); 2] = [("ipv4_options", EACH), ("ipv6_extension", EACH)];

/// What [`obstructed`] measured.
#[derive(Clone, Debug, Serialize)]
pub struct Obstructed {
    /// What was counted under each name.
    pub counted: Vec<(&'static str, u64)>,
    /// Pings of the same address that had no reply.
    pub silent: Vec<String>,
}

/// Sends IPv4 options and IPv6 extension headers to the first service, and pings
/// its addresses.
pub fn obstructed(lab: &Lab, gateway: &Gateway) -> Result<Obstructed> {
    let before = gateway.counters()?;
    let sender = RawSender::new(lab.inet())?;
    let mut silent = Vec::new();
    for family in [Family::V4, Family::V6] {
        let service = plan::listener(0, family);
        let source = SocketAddr::new(family.of(plan::SERVER), 40_000);
        for _ in 0..EACH {
            sender.send_obstructed(source, service, &[0; 64], Obstruction::Header)?;
        }
        if let Err(e) = ping(lab.inet(), service.ip(), SOON) {
            silent.push(e.to_string());
        }
    }
    let counted = |now: &Counters| EXPECTED.map(|(name, _)| (name, now.since(&before).get(name)));
    let arrived = until("the obstructed packets", SOON, || {
        let now = gateway.counters()?;
        Ok((counted(&now) == EXPECTED).then_some(now))
    });
    let now = arrived.or_else(|_| gateway.counters())?;
    Ok(Obstructed { counted: counted(&now).to_vec(), silent })
}

impl Claim for Obstructed {
    fn failures(&self) -> Vec<String> {
        Check::default()
            .that(self.counted == EXPECTED, || {
                format!("counted {:?} instead of {EXPECTED:?}", self.counted)
            })
            .that(self.silent.is_empty(), || self.silent.join("; "))
            .failures()
    }

    fn summary(&self) -> String {
        format!("refused by name: {:?}; pings of the same addresses work", self.counted)
    }
}
