//! OpenVPN servers that hold the same configuration.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

use super::server::OvpnServer;
use crate::error::{Result, Tried};
use crate::layout::plan::{self, Family};
use crate::layout::{Kind, Lab, Site, Transport};
use crate::peer::pki::{self, Authority, Subject};

/// OpenVPN's own UDP port.
const KIND: Kind = Kind { prefix: "ovpn", profile: "openvpn", ports: &[(1194, Transport::Udp)] };

/// OpenVPN concentrators with the same authority, certificate, key and clients. Each of them
/// gives out peer-ids from 0.
#[derive(Debug)]
pub struct OvpnPool {
    site: Site,
    authority: Authority,
    dir: PathBuf,
    servers: Vec<OvpnServer>,
    clients: u8,
}

impl OvpnPool {
    /// Starts so many concentrators.
    pub fn start(lab: &Lab, name: &str, machines: usize) -> Result<Self> {
        Self::start_with(lab, name, machines, "")
    }

    /// The same, with further lines in their configuration, which clients do not have.
    pub fn start_with(lab: &Lab, name: &str, machines: usize, more: &str) -> Result<Self> {
        let site = lab.site(name, KIND, machines)?;
        let dir = lab.dir().join(format!("ovpn-{}", site.number()));
        let clients = dir.join("clients");
        fs::create_dir_all(&clients).tried(|| format!("creating {}", clients.display()))?;
        let authority = Authority::new()?;
        pki::write(&dir.join("ca.crt"), &authority.certificate())?;
        let addresses: Vec<IpAddr> =
            [Family::V4, Family::V6].map(|family| family.of(plan::vip(site.number()))).to_vec();
        authority.issue(Subject::Server(&addresses))?.write(&dir, "server")?;
        let mut pool = Self { site, authority, dir, servers: Vec::new(), clients: 0 };
        for station in pool.site.stations() {
            pool.servers.push(OvpnServer::launch(lab, &pool.site, &pool.dir, station, more)?);
        }
        // They start side by side.
        for server in &mut pool.servers {
            server.await_start(plan::inner_server(pool.site.number()))?;
        }
        Ok(pool)
    }

    /// Its machines, and what they serve.
    pub fn site(&self) -> &Site {
        &self.site
    }

    /// Its concentrators.
    pub fn servers(&self) -> &[OvpnServer] {
        &self.servers
    }

    /// The concentrator with this number.
    ///
    /// # Panics
    /// When it is not one of the pool's.
    pub fn server(&mut self, n: u8) -> &mut OvpnServer {
        let found = self.servers.iter_mut().find(|server| server.number() == n);
        found.unwrap_or_else(|| panic!("concentrator {n} is not in this pool"))
    }

    /// Makes all concentrators know a new client; what it has to be configured with.
    pub(super) fn admit(&mut self) -> Result<Admission> {
        self.clients += 1;
        let name = format!("client-{}", self.clients);
        let inner = plan::inner_client(self.site.number(), self.clients);
        // They look when a client connects. It has the same inner address on each of them.
        let push = format!("ifconfig-push {inner} 255.255.255.0\n");
        pki::write(&self.dir.join("clients").join(&name), &push)?;
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
