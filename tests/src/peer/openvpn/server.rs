//! One OpenVPN concentrator.

use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::{READY, START};
use crate::error::{LabError, Result, Tried};
use crate::layout::{Lab, Site, Station};
use crate::peer::{pki, queues};
use crate::preflight::require;
use crate::process::{Child, Launch};
use crate::traffic::EchoServer;

/// The management socket answers at once or not at all.
const DEADLINE: Duration = Duration::from_secs(10);

/// A machine with an OpenVPN server and an echo server in the tunnel.
#[derive(Debug)]
pub struct OvpnServer {
    station: Station,
    process: Child,
    echo: Option<EchoServer>,
    management: PathBuf,
}

/// What a server knows of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OvpnSession {
    /// The client's name.
    pub client: String,
    /// Where it was last heard from.
    pub address: IpAddr,
    /// The port there, which OpenVPN does not tell of IPv6.
    pub port: Option<u16>,
    /// Its address in the tunnel.
    pub inner: Ipv4Addr,
    /// The id in the clear text of its data packets.
    pub peer_id: u32,
}

impl OvpnServer {
    pub(super) fn launch(
        lab: &Lab,
        site: &Site,
        pki: &Path,
        station: &Station,
        more: &str,
    ) -> Result<Self> {
        let role = format!("b{}", station.number());
        let name = format!("ovpn-{role}");
        let management = lab.dir().join(format!("{name}.sock"));
        let (pki_dir, number) = (pki.display(), site.number());
        let configuration = format!(
            "server 10.99.{number}.0 255.255.255.0\n\
             topology subnet\n\
             proto udp6\n\
             port {port}\n\
             dev {interface}\n\
             dev-type tun\n\
             disable-dco\n\
             dh none\n\
             ca {pki_dir}/ca.crt\n\
             cert {pki_dir}/server.crt\n\
             key {pki_dir}/server.key\n\
             remote-cert-tls client\n\
             client-config-dir {pki_dir}/clients\n\
             ccd-exclusive\n\
             keepalive 2 12\n\
             management {management} unix\n\
             verb 4\n\
             {more}\n",
            port = site.kind().ports[0].0,
            interface = lab.interface(&role),
            management = management.display(),
        );
        let file = lab.dir().join(format!("{name}.conf"));
        pki::write(&file, &configuration)?;
        let mut command = Command::new(require("openvpn")?);
        command.arg("--config").arg(file);
        let ns = Some(station.ns().fd());
        let launch = Launch { name: &name, dir: lab.dir(), ns, lifetime: lab.lifetime() };
        let process = Child::launch(command, launch)?;
        Ok(Self { station: station.clone(), process, echo: None, management })
    }

    pub(super) fn await_start(&mut self, inner: Ipv4Addr) -> Result<()> {
        self.process.await_output("the start of an OpenVPN server", START, READY)?;
        queues::deepen(self.pid())?;
        let (ns, number) = (self.station.ns(), self.station.number());
        self.echo = Some(EchoServer::start(ns, inner.into(), number)?);
        Ok(())
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
        self.process.pid()
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        self.process.output()
    }

    /// Lines of its log that say that a packet was not for it: what comes with another session's
    /// keys cannot be decrypted, what comes out of place is a TLS error.
    pub fn strangers(&self) -> Vec<String> {
        let signs = ["decrypt error", "decrypt packet error", "TLS Error", "tls-crypt unwrap"];
        let log = self.log();
        let strange = |line: &&str| {
            signs.iter().any(|sign| line.to_lowercase().contains(&sign.to_lowercase()))
        };
        log.lines().filter(strange).map(str::to_owned).collect()
    }

    /// What it knows of its clients.
    pub fn sessions(&self) -> Result<Vec<OvpnSession>> {
        let tried = || format!("asking OpenVPN at {}", self.management.display());
        let ask = || {
            let mut stream = UnixStream::connect(&self.management)?;
            stream.set_read_timeout(Some(DEADLINE))?;
            stream.write_all(b"status 3\n")?;
            let lines = BufReader::new(stream).lines();
            lines
                .take_while(|line| line.as_ref().map_or(true, |line| line != "END"))
                .collect::<std::io::Result<Vec<_>>>()
        };
        let lines = ask().tried(tried)?;
        let rows = lines.iter().filter_map(|line| line.strip_prefix("CLIENT_LIST\t"));
        rows.map(|row| {
            OvpnSession::parse(row).ok_or_else(|| {
                LabError::Scenario(format!("OpenVPN lists a client in another form: {row}"))
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

impl OvpnSession {
    /// A row of `status 3`, behind its first column.
    fn parse(row: &str) -> Option<Self> {
        let columns: Vec<&str> = row.split('\t').collect();
        let (address, port) = address(columns.get(1)?)?;
        Some(Self {
            client: (*columns.first()?).to_owned(),
            address,
            port,
            inner: columns.get(2)?.parse().ok()?,
            peer_id: columns.get(10)?.parse().ok()?,
        })
    }
}

/// An address with a port, or one of IPv6 without.
fn address(text: &str) -> Option<(IpAddr, Option<u16>)> {
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Some((ip.to_canonical(), None));
    }
    let both: SocketAddr = text.parse().ok()?;
    Some((both.ip(), Some(both.port())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_of_the_status_is_read() {
        let row = "client-1\t198.18.1.2:40100\t10.99.0.2\t\t3\t4\tnow\t5\tUNDEF\t6\t7\tX";
        let session = OvpnSession::parse(row).unwrap();
        assert_eq!((session.address, session.port), ([198, 18, 1, 2].into(), Some(40100)));
        assert_eq!((session.inner, session.peer_id), (Ipv4Addr::new(10, 99, 0, 2), 7));
        let (ip, port) = address("2001:db8::2").unwrap();
        assert_eq!((ip.is_ipv6(), port), (true, None));
    }
}
