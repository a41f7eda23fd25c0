//! ocserv concentrators that hold the same configuration.

use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use super::server::OcServer;
use crate::error::{Result, Tried};
use crate::layout::plan::{self, Family};
use crate::layout::{Kind, Lab, Site, Transport};
use crate::peer::pki::{self, Authority, Subject};

/// One service on two transports. Clients dial with TLS and are told of DTLS.
const KIND: Kind =
    Kind { prefix: "oc", profile: "dtls", ports: &[(443, Transport::Tcp), (443, Transport::Udp)] };

/// Concentrators with the same authority, certificate, key and clients. Which of them has a
/// session is known to that one alone: a client that reconnects elsewhere is refused.
#[derive(Debug)]
pub struct OcPool {
    site: Site,
    authority: Authority,
    dir: PathBuf,
    servers: Vec<OcServer>,
    clients: u8,
}

impl OcPool {
    /// Starts so many concentrators.
    pub fn start(lab: &Lab, name: &str, machines: usize) -> Result<Self> {
        let site = lab.site(name, KIND, machines)?;
        let dir = lab.dir().join(format!("oc-{}", site.number()));
        let clients = dir.join("clients");
        fs::create_dir_all(&clients).tried(|| format!("creating {}", clients.display()))?;
        let authority = Authority::new()?;
        pki::write(&dir.join("ca.crt"), &authority.certificate())?;
        let mut addresses = Vec::new();
        for family in [Family::V4, Family::V6] {
            addresses.push(family.of(plan::vip(site.number())));
            addresses.extend(site.stations().iter().map(|station| station.address(family)));
        }
        authority.issue(Subject::Server(&addresses))?.write(&dir, "server")?;
        let servers = site
            .stations()
            .iter()
            .map(|station| OcServer::start(lab, &site, &dir, station))
            .collect::<Result<_>>()?;
        Ok(Self { site, authority, dir, servers, clients: 0 })
    }

    /// Its machines, and what they serve.
    pub fn site(&self) -> &Site {
        &self.site
    }

    /// Its concentrators.
    pub fn servers(&self) -> &[OcServer] {
        &self.servers
    }

    /// The concentrator with this number.
    ///
    /// # Panics
    /// When it is not one of the pool's.
    pub fn server(&mut self, n: u8) -> &mut OcServer {
        let found = self.servers.iter_mut().find(|server| server.number() == n);
        found.unwrap_or_else(|| panic!("concentrator {n} is not in this pool"))
    }

    /// Makes all concentrators know a new client; what it has to be configured with.
    pub(super) fn admit(&mut self) -> Result<Admission> {
        self.clients += 1;
        let name = format!("client-{}", self.clients);
        let inner = plan::inner_client(self.site.number(), self.clients);
        // They look when a client connects. It has the same inner address on each of them.
        pki::write(&self.dir.join("clients").join(&name), &format!("explicit-ipv4 = {inner}\n"))?;
        let (certificate, key) =
            self.authority.issue(Subject::Client(&name))?.write(&self.dir, &name)?;
        Ok(Admission { name, inner, authority: self.dir.join("ca.crt"), certificate, key })
    }
}

/// What a client of a pool is configured with.
pub(super) struct Admission {
    pub(super) name: String,
    pub(super) inner: Ipv4Addr,
    pub(super) authority: PathBuf,
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
}
