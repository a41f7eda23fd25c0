//! What stands inside: the machines of a pool, and what they serve.

use std::net::{IpAddr, SocketAddr};

use super::plan::{self, Family};
use crate::error::Result;
use crate::net::Ns;

/// A machine inside that a server runs on.
#[derive(Clone, Debug)]
pub struct Station {
    n: u8,
    name: String,
    ns: Ns,
}

impl Station {
    pub(super) fn new(n: u8, kind: &str, ns: Ns) -> Self {
        Self { n, name: format!("{kind}-{n}"), ns }
    }

    /// Its number in the lab, from 1: by it an echo tells who answered.
    pub fn number(&self) -> u8 {
        self.n
    }

    /// What a gateway's configuration calls it: what it runs and its number, like `wg-1`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address inside.
    pub fn address(&self, family: Family) -> IpAddr {
        family.of(plan::concentrator(self.n))
    }

    /// Its address behind a router, if it was put there.
    pub fn routed_address(&self, family: Family) -> IpAddr {
        family.of(plan::routed(self.n))
    }

    /// Its namespace.
    pub fn ns(&self) -> &Ns {
        &self.ns
    }

    /// Its link goes down, as if its cable were pulled.
    pub fn unplug(&self) -> Result<()> {
        self.ns.ip(&["link set eth0 down"])
    }
}

/// UDP or TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// UDP.
    Udp,
    /// TCP.
    Tcp,
}

impl Transport {
    /// As a gateway's configuration writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }
}

/// What the machines of a site serve.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Begins their names.
    pub prefix: &'static str,
    /// What a gateway's configuration calls the protocol.
    pub profile: &'static str,
    /// The ports; the first is what clients dial.
    pub ports: &'static [(u16, Transport)],
}

/// Machines that serve the same behind one VIP: all that a gateway is told of a service.
#[derive(Clone, Debug)]
pub struct Site {
    name: String,
    number: u8,
    kind: Kind,
    stations: Vec<Station>,
}

impl Site {
    pub(super) fn new(name: &str, number: u8, kind: Kind, stations: Vec<Station>) -> Self {
        Self { name: name.to_owned(), number, kind, stations }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its number in the lab, from 0; also that of its VIP.
    pub fn number(&self) -> u8 {
        self.number
    }

    /// What it serves.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Its machines.
    pub fn stations(&self) -> &[Station] {
        &self.stations
    }

    /// What clients dial when a gateway stands between.
    pub fn vip(&self, family: Family) -> SocketAddr {
        SocketAddr::new(family.of(plan::vip(self.number)), self.kind.ports[0].0)
    }

    /// What clients dial when nothing stands between: the first machine.
    pub fn direct(&self, family: Family) -> SocketAddr {
        SocketAddr::new(self.stations[0].address(family), self.kind.ports[0].0)
    }

    /// Where a gateway listens for it, as its configuration writes it.
    pub fn listeners(&self) -> Vec<String> {
        let both = [Family::V4, Family::V6].map(|family| family.of(plan::vip(self.number)));
        let ports = self.kind.ports.iter();
        ports
            .flat_map(|&(port, transport)| {
                both.map(|ip| format!("{}/{}", SocketAddr::new(ip, port), transport.as_str()))
            })
            .collect()
    }
}
