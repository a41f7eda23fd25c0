//! IPsec concentrators that hold the same configuration.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::Esp;
use super::charon::Charon;
use crate::error::{LabError, Result};
use crate::layout::{Kind, Lab, Site, Station, Transport, plan};
use crate::traffic::EchoServer;

const KIND: Kind = Kind {
    prefix: "ike",
    profile: "ipsec",
    ports: &[(500, Transport::Udp), (4500, Transport::Udp)],
};

/// Concentrators with the same identity and secret, and room for the same clients.
#[derive(Debug)]
pub struct IkePool {
    site: Site,
    secret: String,
    esp: Esp,
    servers: Vec<IkeServer>,
    clients: u8,
}

/// A machine with a strongSwan and an echo server behind the tunnels.
#[derive(Debug)]
pub struct IkeServer {
    station: Station,
    charon: Charon,
    echo: Option<EchoServer>,
}

/// What a concentrator knows of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IkeSession {
    /// The client's name.
    pub client: String,
    /// Where its security association ends.
    pub address: SocketAddr,
    /// Its address in the tunnel.
    pub inner: Option<Ipv4Addr>,
    /// The concentrator's own SPI of the IKE association.
    pub spi: u64,
}

impl IkePool {
    /// Starts so many concentrators, with ESP in user space.
    pub fn start(lab: &Lab, name: &str, machines: usize) -> Result<Self> {
        Self::with(lab, name, machines, Esp::InUdp)
    }

    /// Starts so many concentrators. Clients have the same ESP.
    pub fn with(lab: &Lab, name: &str, machines: usize, esp: Esp) -> Result<Self> {
        let site = lab.site(name, KIND, machines)?;
        let secret: String = std::iter::repeat_with(fastrand::alphanumeric).take(24).collect();
        let servers = site
            .stations()
            .iter()
            .map(|station| IkeServer::start(lab, &site, station, &secret, esp))
            .collect::<Result<_>>()?;
        Ok(Self { site, secret, esp, servers, clients: 0 })
    }

    /// Its machines, and what they serve.
    pub fn site(&self) -> &Site {
        &self.site
    }

    /// Its concentrators.
    pub fn servers(&self) -> &[IkeServer] {
        &self.servers
    }

    /// The concentrator with this number.
    ///
    /// # Panics
    /// When it is not one of the pool's.
    pub fn server(&mut self, n: u8) -> &mut IkeServer {
        let found = self.servers.iter_mut().find(|server| server.number() == n);
        found.unwrap_or_else(|| panic!("concentrator {n} is not in this pool"))
    }

    /// A name and an inner address for a new client. Concentrators learn of it when it dials.
    pub(super) fn admit(&mut self) -> (String, Ipv4Addr) {
        self.clients += 1;
        let inner = plan::inner_client(self.site.number(), self.clients);
        (format!("client-{}", self.clients), inner)
    }

    pub(super) fn secret(&self) -> &str {
        &self.secret
    }

    pub(super) fn esp(&self) -> Esp {
        self.esp
    }
}

impl IkeServer {
    fn start(lab: &Lab, site: &Site, station: &Station, secret: &str, esp: Esp) -> Result<Self> {
        let (ns, n, pool) = (station.ns(), station.number(), site.number());
        let inner = plan::inner_server(pool);
        // Nobody makes an interface with an address, and libipsec takes a tunnel only if one end is here.
        ns.ip(&[format!("addr add {inner}/32 dev lo")])?;
        let charon = Charon::start(lab, ns, &format!("b{n}"), [500, 4500], esp)?;
        let network = plan::inner_network(pool);
        let room = format!("{}-{}", plan::inner_client(pool, 1), plan::inner_client(pool, 250));
        charon.load(&format!(
            "connections {{ vpn {{\n\
             version = 2\n\
             proposals = aes128-sha256-modp2048\n\
             mobike = yes\n\
             encap = {}\n\
             dpd_delay = 10s\n\
             pools = inner\n\
             local {{ auth = psk\n id = concentrator\n }}\n\
             remote {{ auth = psk\n }}\n\
             children {{ net {{\n\
             local_ts = {network}\n\
             esp_proposals = aes128-sha256\n\
             }} }} }} }}\n\
             pools {{ inner {{ addrs = {room}\n }} }}\n\
             secrets {{ ike {{ secret = {secret}\n }} }}\n",
            esp.encap()
        ))?;
        let echo = Some(EchoServer::start(ns, inner.into(), n)?);
        Ok(Self { station: station.clone(), charon, echo })
    }

    /// Its number in the lab: by it an echo tells who answered.
    pub fn number(&self) -> u8 {
        self.station.number()
    }

    /// Its machine.
    pub fn station(&self) -> &Station {
        &self.station
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.charon.process().pid()
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        self.charon.process().output()
    }

    /// What it knows of its clients.
    pub fn sessions(&self) -> Result<Vec<IkeSession>> {
        let list = self.charon.list()?;
        parse(&list).ok_or_else(|| {
            LabError::Scenario(format!("swanctl lists associations in another form: {list}"))
        })
    }

    /// Dies like a machine that lost its power: no process, no link.
    pub fn die(&mut self) -> Result<()> {
        self.echo = None;
        self.station.unplug()?;
        self.charon.kill();
        Ok(())
    }
}

/// The established associations of a list for people.
fn parse(list: &str) -> Option<Vec<IkeSession>> {
    let mut sessions = Vec::new();
    let mut spi = None;
    for line in list.lines() {
        if line.contains(", IKEv2, ") {
            // Name: #number, state, IKEv2, initiator's SPI, responder's; a star is our own.
            let own = line.split(' ').find_map(|word| word.strip_suffix("_r*"));
            let responder = own.and_then(|hex| u64::from_str_radix(hex, 16).ok());
            spi = responder.filter(|_| line.contains(" ESTABLISHED,"));
        } else if let (Some(remote), Some(spi)) = (line.strip_prefix("  remote '"), spi) {
            let (client, rest) = remote.split_once("' @ ")?;
            let mut words = rest.split(' ');
            let (ip, port) = words.next()?.strip_suffix(']')?.split_once('[')?;
            let ip: IpAddr = ip.parse().ok()?;
            let inner = words.next().and_then(|word| word.trim_matches(['[', ']']).parse().ok());
            let address = SocketAddr::new(ip, port.parse().ok()?);
            sessions.push(IkeSession { client: client.to_owned(), address, inner, spi });
        }
    }
    Some(sessions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read() {
        let list = "vpn: #1, ESTABLISHED, IKEv2, 8144b54226c91b6b_i 2aeaff5c56ecea9f_r*\n  \
                    local  'concentrator' @ 10.20.0.11[4500]\n  \
                    remote 'client-1' @ 198.18.1.2[40102] [10.99.0.2]\n\
                    vpn: #2, CONNECTING, IKEv2, 8144b54226c91b6c_i 2aeaff5c56ecea9e_r*\n  \
                    remote '%any' @ 198.18.2.2[40102]\n";
        let [session] = <[IkeSession; 1]>::try_from(parse(list).unwrap()).unwrap();
        assert_eq!(session.client, "client-1");
        assert_eq!(session.address, "198.18.1.2:40102".parse().unwrap());
        assert_eq!(session.inner, Some(Ipv4Addr::new(10, 99, 0, 2)));
        assert_eq!(session.spi, 0x2aea_ff5c_56ec_ea9f);
    }
}
