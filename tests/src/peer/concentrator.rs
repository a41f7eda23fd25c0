//! The servers inside: a pool of them looks like one server to its clients.

use std::net::{IpAddr, Ipv4Addr};

use super::device::{Device, Implementation};
use super::keys::{Public, Secret};
use super::uapi::{Change, PeerState};
use crate::error::Result;
use crate::layout::plan::{self, Family};
use crate::layout::{Kind, Lab, Site, Station, Transport};
use crate::net::Ns;
use crate::traffic::EchoServer;

/// One concentrator: a namespace of its own with a WireGuard device and an
/// echo server in the tunnel.
#[derive(Debug)]
pub struct Concentrator {
    station: Station,
    device: Device,
    echo: Option<EchoServer>,
}

impl Concentrator {
    fn start(
        lab: &Lab,
        site: &Site,
        secret: &Secret,
        station: &Station,
        implementation: Implementation,
    ) -> Result<Self> {
        let (n, ns) = (station.number(), station.ns());
        let role = format!("b{n}");
        let configuration = Change::default().private_key(secret).listen_port(plan::WIREGUARD_PORT);
        let inner = plan::inner_server(site.number());
        let device = Device::start(lab, ns, &role, implementation, &configuration, inner)?;
        let echo = Some(EchoServer::start(ns, inner.into(), n)?);
        Ok(Self { station: station.clone(), device, echo })
    }

    /// Its number in the lab, from 1: by it an echo tells who answered.
    pub fn number(&self) -> u8 {
        self.station.number()
    }

    /// What a gateway's configuration calls it: `wg-N`.
    pub fn name(&self) -> String {
        self.station.name().to_owned()
    }

    /// Its address inside.
    pub fn address(&self, family: Family) -> IpAddr {
        self.station.address(family)
    }

    /// Its namespace.
    pub fn ns(&self) -> &Ns {
        self.station.ns()
    }

    /// Its WireGuard.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// What it knows of a client.
    pub fn peer(&self, public: &Public) -> Result<Option<PeerState>> {
        Ok(self.device.peers()?.into_iter().find(|peer| peer.public == public.hex()))
    }

    /// Makes it know a peer that has no address in the tunnel, such as a probe; or know it no longer.
    pub fn know(&self, public: &Public, yes: bool) -> Result<()> {
        let peer = Change::default().peer(public);
        self.device.change(&if yes { peer } else { peer.remove() })
    }

    fn admit(&self, public: &Public, inner: Ipv4Addr) -> Result<()> {
        self.device.change(&Change::default().peer(public).allowed_ip(&format!("{inner}/32")))
    }

    /// Dies like a machine that lost its power: no process, no link.
    pub fn die(&mut self) -> Result<()> {
        self.echo = None;
        self.station.unplug()?;
        self.device.kill();
        Ok(())
    }
}

/// WireGuard on one UDP port.
const KIND: Kind =
    Kind { prefix: "wg", profile: "wireguard", ports: &[(plan::WIREGUARD_PORT, Transport::Udp)] };

/// Concentrators that hold the same configuration.
#[derive(Debug)]
pub struct Pool {
    site: Site,
    secret: Secret,
    concentrators: Vec<Concentrator>,
    clients: u8,
}

impl Pool {
    pub(crate) fn start(lab: &Lab, name: &str, implementations: &[Implementation]) -> Result<Self> {
        let site = lab.site(name, KIND, implementations.len())?;
        let secret = Secret::generate();
        let concentrators = std::iter::zip(site.stations(), implementations)
            .map(|(station, &kind)| Concentrator::start(lab, &site, &secret, station, kind))
            .collect::<Result<_>>()?;
        Ok(Self { site, secret, concentrators, clients: 0 })
    }

    /// Its machines, and what they serve.
    pub fn site(&self) -> &Site {
        &self.site
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.site.name()
    }

    /// Its number in the lab, from 0; also that of its VIP.
    pub fn number(&self) -> u8 {
        self.site.number()
    }

    /// The key all its concentrators have.
    pub fn public(&self) -> Public {
        self.secret.public()
    }

    /// Its concentrators.
    pub fn concentrators(&self) -> &[Concentrator] {
        &self.concentrators
    }

    /// The concentrator with this number.
    ///
    /// # Panics
    /// When it is not one of the pool's.
    pub fn concentrator(&mut self, n: u8) -> &mut Concentrator {
        let found = self.concentrators.iter_mut().find(|c| c.number() == n);
        found.unwrap_or_else(|| panic!("concentrator {n} is not in this pool"))
    }

    /// Makes all concentrators know a new client; its inner address.
    pub(super) fn admit(&mut self, public: &Public) -> Result<Ipv4Addr> {
        self.clients += 1;
        let inner = plan::inner_client(self.number(), self.clients);
        for concentrator in &self.concentrators {
            concentrator.admit(public, inner)?;
        }
        Ok(inner)
    }
}
