//! An OpenVPN client at home.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use super::READY;
use super::pool::OvpnPool;
use crate::error::Result;
use crate::layout::plan::{self, Family};
use crate::layout::{Host, Lab};
use crate::net::Ns;
use crate::peer::remote::Client;
use crate::peer::{pki, queues};
use crate::preflight::require;
use crate::process::{Child, Launch};
use crate::traffic::Target;

/// An OpenVPN client on a [`Host`].
#[derive(Debug)]
pub struct OvpnClient {
    name: String,
    ns: Ns,
    interface: String,
    inner: Ipv4Addr,
    pool: u8,
    port: u16,
    process: Child,
}

impl OvpnClient {
    /// Starts a client that dials the VIP of a pool.
    pub fn start(lab: &Lab, host: &Host, pool: &mut OvpnPool, family: Family) -> Result<Self> {
        let endpoint = pool.site().vip(family);
        Self::dial(lab, host, pool, endpoint)
    }

    /// Starts a client that dials `endpoint`.
    pub fn dial(lab: &Lab, host: &Host, pool: &mut OvpnPool, endpoint: SocketAddr) -> Result<Self> {
        let admission = pool.admit()?;
        let port = host.fresh_port();
        let role = format!("c{}k{}", host.number(), port % 100);
        let (name, interface) = (format!("ovpn-{role}"), lab.interface(&role));
        let configuration = format!(
            "client\n\
             proto {proto}\n\
             remote {address} {server_port}\n\
             lport {port}\n\
             dev {interface}\n\
             dev-type tun\n\
             disable-dco\n\
             persist-tun\n\
             connect-retry 1 5\n\
             ca {authority}\n\
             cert {certificate}\n\
             key {key}\n\
             remote-cert-tls server\n\
             verb 3\n",
            proto = if endpoint.is_ipv4() { "udp4" } else { "udp6" },
            address = endpoint.ip(),
            server_port = endpoint.port(),
            authority = admission.authority.display(),
            certificate = admission.certificate.display(),
            key = admission.key.display(),
        );
        let file = lab.dir().join(format!("{name}.conf"));
        pki::write(&file, &configuration)?;
        let mut command = Command::new(require("openvpn")?);
        command.arg("--config").arg(file);
        let ns = Some(host.ns().fd());
        let launch = Launch { name: &name, dir: lab.dir(), ns, lifetime: lab.lifetime() };
        Ok(Self {
            process: Child::launch(command, launch)?,
            name: admission.name,
            ns: host.ns().clone(),
            interface,
            inner: admission.inner,
            pool: pool.site().number(),
            port,
        })
    }

    /// What its concentrators call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        self.process.output()
    }

    /// How often it has connected; more than once when it had to start again.
    pub fn connections(&self) -> usize {
        self.log().matches(READY).count()
    }
}

impl Client for OvpnClient {
    fn port(&self) -> u16 {
        self.port
    }

    fn connected(&self, deadline: Duration) -> Result<()> {
        self.process.await_output(&format!("a connection of {}", self.name), deadline, READY)?;
        queues::deepen(self.pid()).map(drop)
    }

    fn target(&self) -> Result<Target> {
        let server = plan::inner_server(self.pool);
        Ok(Target::in_tunnel(self.ns.clone(), &self.interface, self.inner, server))
    }

    /// The address changes. The port stays: OpenVPN would have to start again to change it.
    fn roam(&mut self, host: &Host) -> Result<()> {
        host.switch_uplink()
    }
}
