//! An openconnect at home.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use super::pool::OcPool;
use crate::error::Result;
use crate::layout::plan::{self, Family};
use crate::layout::{Host, Lab};
use crate::net::Ns;
use crate::peer::remote::Client;
use crate::preflight::require;
use crate::process::{Child, Launch};
use crate::traffic::Target;

/// What it logs when its TLS and its DTLS connections are up.
const TLS: &str = "CSTP connected.";
const DTLS: &str = "Established DTLS connection";

/// An openconnect on a [`Host`].
#[derive(Debug)]
pub struct OcClient {
    name: String,
    ns: Ns,
    interface: String,
    inner: Ipv4Addr,
    pool: u8,
    port: u16,
    process: Child,
}

impl OcClient {
    /// Starts a client that dials the VIP of a pool.
    pub fn start(lab: &Lab, host: &Host, pool: &mut OcPool, family: Family) -> Result<Self> {
        let endpoint = pool.site().vip(family);
        Self::dial(lab, host, pool, endpoint)
    }

    /// Starts a client that dials `endpoint`.
    pub fn dial(lab: &Lab, host: &Host, pool: &mut OcPool, endpoint: SocketAddr) -> Result<Self> {
        let admission = pool.admit()?;
        let port = host.fresh_port();
        let role = format!("c{}k{}", host.number(), port % 100);
        let interface = lab.interface(&role);
        // The interface is there before, so that no script has to set it up, which would
        // change this machine's name servers, too.
        host.ns().ip(&[
            format!("tuntap add {interface} mode tun"),
            format!("addr add {}/24 dev {interface}", admission.inner),
            format!("link set {interface} mtu 1300 up"),
        ])?;
        let mut command = Command::new(require("openconnect")?);
        command.args(["--protocol=anyconnect", "--verbose", "--non-inter", "--no-proxy"]);
        command.args(["--script", "/bin/true", "--interface", &interface]);
        command.arg(format!("--dtls-local-port={port}"));
        command.arg("--cafile").arg(admission.authority);
        command.arg("--certificate").arg(admission.certificate);
        command.arg("--sslkey").arg(admission.key);
        // A SocketAddr is written as in a URL.
        command.arg(format!("https://{endpoint}/"));
        let name = format!("oc-{role}");
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

    /// How often its TLS connection was made.
    pub fn tls_connections(&self) -> usize {
        self.log().matches(TLS).count()
    }

    /// How often its DTLS connection was made.
    pub fn dtls_connections(&self) -> usize {
        self.log().matches(DTLS).count()
    }

    /// Waits until its data goes by DTLS.
    pub fn dtls_connected(&self, deadline: Duration) -> Result<()> {
        self.process.await_output(&format!("DTLS of {}", self.name), deadline, DTLS)
    }
}

impl Client for OcClient {
    /// The port of its DTLS; that of its TLS is another for every connection.
    fn port(&self) -> u16 {
        self.port
    }

    fn connected(&self, deadline: Duration) -> Result<()> {
        self.process.await_output(&format!("TLS of {}", self.name), deadline, TLS)
    }

    fn target(&self) -> Result<Target> {
        let server = plan::inner_server(self.pool);
        Ok(Target::in_tunnel(self.ns.clone(), &self.interface, self.inner, server))
    }

    /// The address changes and openconnect is told, as by a network manager: it connects again
    /// with the cookie of its session. The port of its DTLS stays.
    fn roam(&mut self, host: &Host) -> Result<()> {
        host.switch_uplink()?;
        self.process.signal(rustix::process::Signal::USR2);
        Ok(())
    }
}
