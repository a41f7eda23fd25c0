//! An IPsec client at home.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::Esp;
use super::charon::Charon;
use super::pool::IkePool;
use crate::error::{LabError, Result};
use crate::layout::plan::{self, Family};
use crate::layout::{Host, Lab};
use crate::net::Ns;
use crate::peer::remote::Client;
use crate::traffic::Target;
use crate::wait::until;

/// How long an exchange may take on a busy machine.
const SOON: Duration = Duration::from_secs(20);

/// A strongSwan on a [`Host`]. Like a client behind NAT it has ports of its own, one for the
/// first two messages and one for the rest, so that several of them fit on one host.
#[derive(Debug)]
pub struct IkeClient {
    name: String,
    ns: Ns,
    pool: u8,
    ports: [u16; 2],
    esp: Esp,
    charon: Charon,
}

impl IkeClient {
    /// Starts a client that dials the VIP of a pool.
    pub fn start(lab: &Lab, host: &Host, pool: &mut IkePool, family: Family) -> Result<Self> {
        let endpoint = pool.site().vip(family).ip();
        Self::dial(lab, host, pool, endpoint)
    }

    /// Starts a client that dials `endpoint`, ports 500 and 4500.
    pub fn dial(lab: &Lab, host: &Host, pool: &mut IkePool, endpoint: IpAddr) -> Result<Self> {
        let (name, inner) = pool.admit();
        let ports = [host.fresh_port(), host.fresh_port()];
        let role = format!("c{}k{}", host.number(), ports[1] % 100);
        let charon = Charon::start(lab, host.ns(), &role, ports, pool.esp())?;
        let (network, port) = (plan::inner_network(pool.site().number()), ports[0]);
        charon.load(&format!(
            "connections {{ vpn {{\n\
             version = 2\n\
             remote_addrs = {endpoint}\n\
             local_port = {port}\n\
             proposals = aes128-sha256-modp2048\n\
             mobike = yes\n\
             encap = {}\n\
             dpd_delay = 5s\n\
             keyingtries = 0\n\
             vips = {inner}\n\
             local {{ auth = psk\n id = {name}\n }}\n\
             remote {{ auth = psk\n id = concentrator\n }}\n\
             children {{ net {{\n\
             remote_ts = {network}\n\
             esp_proposals = aes128-sha256\n\
             start_action = start\n\
             dpd_action = restart\n\
             }} }} }} }}\n\
             secrets {{ ike {{ secret = {}\n }} }}\n",
            pool.esp().encap(),
            pool.secret(),
        ))?;
        let (ns, esp, pool) = (host.ns().clone(), pool.esp(), pool.site().number());
        Ok(Self { name, ns, pool, ports, esp, charon })
    }

    /// What its concentrator calls it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.charon.process().pid()
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        self.charon.process().output()
    }

    /// How often it has authenticated; more than once when it had to start again.
    pub fn authentications(&self) -> usize {
        self.log().lines().filter(|line| line.contains("] established between")).count()
    }
}

impl IkeClient {
    /// Its address in the tunnel: not always the one that it asks for, as concentrators count for themselves.
    fn address_inside(&self) -> Result<Ipv4Addr> {
        const INSTALLED: &str = "installing new virtual IP ";
        let log = self.log();
        let last = log.lines().rev().find_map(|line| line.split_once(INSTALLED));
        last.and_then(|(_, address)| address.trim().parse().ok()).ok_or_else(|| {
            LabError::Scenario(format!("{} has no address in the tunnel:\n{log}", self.name))
        })
    }
}

impl Client for IkeClient {
    /// The port of its ESP and of all IKE messages but the first.
    fn port(&self) -> u16 {
        self.ports[1]
    }

    fn connected(&self, deadline: Duration) -> Result<()> {
        let what = format!("a tunnel of {}", self.name);
        self.charon.process().await_output(&what, deadline, "CHILD_SA net{1} established")
    }

    fn target(&self) -> Result<Target> {
        let (ns, server) = (self.ns.clone(), plan::inner_server(self.pool));
        let own = self.address_inside()?;
        Ok(match self.esp {
            Esp::InUdp => Target::in_tunnel(ns, &self.charon.interface()?, own, server),
            Esp::Kernel => Target::by_policy(ns, own, server),
        })
    }

    /// Its concentrator sends to the old address until it has been told the new one.
    fn most_lost(&self) -> u64 {
        3
    }

    /// The address changes, which it notices and tells by MOBIKE: it is through with that. The ports stay.
    fn roam(&mut self, host: &Host) -> Result<()> {
        let answers = || self.log().matches("parsed INFORMATIONAL response").count();
        let before = answers();
        host.switch_uplink()?;
        let what = format!("an answer to {}'s new address", self.name);
        until(&what, SOON, || Ok((answers() > before).then_some(())))
    }
}
