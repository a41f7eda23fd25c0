//! One ocserv concentrator.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::error::{LabError, Result, Tried};
use crate::layout::{Lab, Site, Station, plan};
use crate::peer::pki;
use crate::preflight::require;
use crate::process::{Child, Launch};
use crate::traffic::EchoServer;

/// How long it may take to start on a busy machine.
const START: Duration = Duration::from_secs(30);

/// A machine with an ocserv and an echo server behind the tunnels.
#[derive(Debug)]
pub struct OcServer {
    station: Station,
    process: Child,
    echo: Option<EchoServer>,
    control: PathBuf,
}

/// What a server knows of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OcSession {
    /// The client's name.
    pub client: String,
    /// Where its TLS connection comes from.
    pub address: IpAddr,
    /// Its address in the tunnel.
    pub inner: Option<Ipv4Addr>,
    /// Its DTLS is on this server too; otherwise all goes through TLS.
    pub dtls: bool,
}

impl OcServer {
    pub(super) fn start(lab: &Lab, site: &Site, pki: &Path, station: &Station) -> Result<Self> {
        let (ns, n) = (station.ns(), station.number());
        let name = format!("oc-b{n}");
        let run = lab.dir().join(format!("{name}.run"));
        fs::create_dir_all(&run).tried(|| format!("creating {}", run.display()))?;
        let control = run.join("control");
        let configuration = format!(
            "auth = \"certificate\"\n\
             tcp-port = 443\n\
             udp-port = 443\n\
             run-as-user = root\n\
             run-as-group = root\n\
             isolate-workers = false\n\
             socket-file = {run}/workers\n\
             use-occtl = true\n\
             occtl-socket-file = {control}\n\
             server-cert = {pki}/server.crt\n\
             server-key = {pki}/server.key\n\
             ca-cert = {pki}/ca.crt\n\
             cert-user-oid = 2.5.4.3\n\
             config-per-user = {pki}/clients/\n\
             max-clients = 0\n\
             max-same-clients = 0\n\
             max-ban-score = 0\n\
             rate-limit-ms = 0\n\
             cookie-timeout = 300\n\
             keepalive = 30\n\
             dpd = 10\n\
             mobile-dpd = 10\n\
             try-mtu-discovery = false\n\
             mtu = 1400\n\
             device = vpn\n\
             ipv4-network = {network}\n\
             ping-leases = false\n",
            run = run.display(),
            control = control.display(),
            pki = pki.display(),
            network = plan::inner_network(site.number()),
        );
        let file = lab.dir().join(format!("{name}.conf"));
        pki::write(&file, &configuration)?;
        // It makes an interface for each client, all with the same address of its own.
        let inner = plan::inner_server(site.number());
        ns.ip(&[format!("addr add {inner}/32 dev lo")])?;
        let echo = Some(EchoServer::start(ns, inner.into(), n)?);
        let mut command = Command::new(require("ocserv")?);
        command.args(["--foreground", "--debug", "2", "--config"]).arg(file);
        let launch =
            Launch { name: &name, dir: lab.dir(), ns: Some(ns.fd()), lifetime: lab.lifetime() };
        let process = Child::launch(command, launch)?;
        process.await_output("the start of an ocserv", START, "main: initialized ocserv")?;
        Ok(Self { station: station.clone(), process, echo, control })
    }

    /// Its number in the lab: by it an echo tells who answered.
    pub fn number(&self) -> u8 {
        self.station.number()
    }

    /// Its machine. Packets of its namespace tell which transport is used.
    pub fn station(&self) -> &Station {
        &self.station
    }

    /// The id of its main process.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        self.process.output()
    }

    /// What it knows of its clients.
    pub fn sessions(&self) -> Result<Vec<OcSession>> {
        let occtl = require("occtl")?.display().to_string();
        let control = self.control.display().to_string();
        let text = self.station.ns().run(&occtl, &["-s", &control, "-j", "show", "users"])?;
        // Without users it may print nothing.
        let rows: Vec<Value> = match text.trim() {
            "" => Vec::new(),
            text => serde_json::from_str(text)
                .map_err(|e| LabError::Scenario(format!("occtl lists no users: {e}: {text}")))?,
        };
        rows.iter()
            .map(|row| {
                OcSession::parse(row).ok_or_else(|| {
                    LabError::Scenario(format!("occtl lists a user in another form: {row}"))
                })
            })
            .collect()
    }

    /// Dies like a machine that lost its power: no process, no link.
    pub fn die(&mut self) -> Result<()> {
        self.echo = None;
        self.station.unplug()?;
        self.process.kill();
        Ok(())
    }
}

impl OcSession {
    fn parse(row: &Value) -> Option<Self> {
        let text = |key: &str| row[key].as_str();
        Some(Self {
            client: text("Username")?.to_owned(),
            address: text("Remote IP")?.parse().ok()?,
            inner: text("IPv4").and_then(|ip| ip.parse().ok()),
            dtls: text("DTLS cipher").is_some_and(|cipher| !cipher.is_empty()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_read() {
        let row = serde_json::json!({
            "Username": "client-1", "Remote IP": "2001:db8::2", "IPv4": "10.99.0.2",
            "DTLS cipher": "(DTLS1.2)-(PSK)-(AES-256-GCM)",
        });
        let session = OcSession::parse(&row).unwrap();
        assert_eq!(session.inner, Some(Ipv4Addr::new(10, 99, 0, 2)));
        assert!(session.address.is_ipv6() && session.dtls);
    }
}
