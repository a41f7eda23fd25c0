//! A WireGuard interface and, but for the kernel's own, the process behind it.

use std::net::Ipv4Addr;
use std::process::Command;
use std::time::Duration;

use super::in_kernel::InKernel;
use super::queues;
use super::uapi::{self, Change, PeerState};
use crate::error::{LabError, Result};
use crate::layout::Lab;
use crate::net::Ns;
use crate::preflight::require;
use crate::process::{Child, Launch};
use crate::wait::until;

/// How long a device may take to start on a busy machine.
const START: Duration = Duration::from_secs(15);

/// Which WireGuard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Implementation {
    /// wireguard-go, from Debian.
    WireguardGo,
    /// boringtun-cli 0.7.1, from crates.io.
    Boringtun,
    /// The kernel's own, where it has the module `wireguard`.
    Kernel,
}

impl Implementation {
    /// Its name, for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WireguardGo => "wireguard-go",
            Self::Boringtun => "boringtun",
            Self::Kernel => "the kernel's WireGuard",
        }
    }

    /// The program, but for the kernel's.
    fn command(self, interface: &str) -> Result<Option<Command>> {
        let mut command = match self {
            Self::Kernel => return Ok(None),
            Self::WireguardGo => {
                let mut command = Command::new(require("wireguard-go")?);
                command.env("LOG_LEVEL", "error");
                command
            }
            Self::Boringtun => {
                let mut command = Command::new(require("boringtun-cli")?);
                // A socket connected to the peer would keep the address it was
                // bound to when the host changes its uplink.
                command.args(["--disable-drop-privileges", "--disable-connected-udp"]);
                command
            }
        };
        command.args(["-f", interface]);
        Ok(Some(command))
    }
}

/// A running device.
#[derive(Debug)]
pub struct Device {
    interface: String,
    ns: Ns,
    implementation: Implementation,
    body: Body,
}

/// What keeps it alive.
#[derive(Debug)]
enum Body {
    Process(Child),
    Kernel(InKernel),
}

impl Device {
    /// Starts a device named for `role` in `ns`, configures it and gives its
    /// interface an inner address (prefix length 24).
    pub(super) fn start(
        lab: &Lab,
        ns: &Ns,
        role: &str,
        implementation: Implementation,
        configuration: &Change,
        inner: Ipv4Addr,
    ) -> Result<Self> {
        let interface = lab.interface(role);
        let body = match implementation.command(&interface)? {
            Some(command) => {
                let what = format!("the start of {} {interface}", implementation.as_str());
                Body::Process(launch(lab, ns, role, &interface, command, &what)?)
            }
            None => {
                let file = lab.dir().join(format!("{role}.wg"));
                Body::Kernel(InKernel::create(ns, &interface, file)?)
            }
        };
        let device = Self { interface, ns: ns.clone(), implementation, body };
        device.change(configuration)?;
        device.ns.ip(&[
            format!("addr add {inner}/24 dev {}", device.interface),
            format!("link set {} mtu 1420 txqueuelen 10000 up", device.interface),
        ])?;
        if let Some(pid) = device.pid() {
            // Some open their sockets only when their interface is up.
            until(&format!("a socket of {}", device.interface), START, || {
                Ok((queues::deepen(pid)? > 0).then_some(()))
            })?;
        }
        Ok(device)
    }

    /// Its interface.
    pub fn interface(&self) -> &str {
        &self.interface
    }

    /// The namespace it runs in.
    pub fn ns(&self) -> &Ns {
        &self.ns
    }

    /// Which WireGuard it is.
    pub fn implementation(&self) -> Implementation {
        self.implementation
    }

    /// Its process id, if it has a process.
    pub fn pid(&self) -> Option<u32> {
        match &self.body {
            Body::Process(process) => Some(process.pid()),
            Body::Kernel(_) => None,
        }
    }

    pub(super) fn change(&self, change: &Change) -> Result<()> {
        match &self.body {
            Body::Process(process) => {
                uapi::set(&self.interface, change)?;
                // Another port is another socket.
                queues::deepen(process.pid()).map(drop)
            }
            Body::Kernel(device) => device.change(change),
        }
    }

    /// The state of its only peer.
    pub(super) fn only_peer(&self) -> Result<PeerState> {
        let peers = self.peers()?;
        match <[PeerState; 1]>::try_from(peers) {
            Ok([peer]) => Ok(peer),
            Err(peers) => Err(LabError::Scenario(format!(
                "{} has {} peers instead of one",
                self.interface,
                peers.len()
            ))),
        }
    }

    /// The state of all its peers.
    pub fn peers(&self) -> Result<Vec<PeerState>> {
        match &self.body {
            Body::Process(_) => uapi::get(&self.interface),
            Body::Kernel(device) => device.peers(),
        }
    }

    pub(super) fn kill(&mut self) {
        match &mut self.body {
            Body::Process(process) => process.kill(),
            Body::Kernel(device) => device.remove(),
        }
    }
}

/// Starts a program, and waits until its interface can be configured.
fn launch(
    lab: &Lab,
    ns: &Ns,
    role: &str,
    interface: &str,
    command: Command,
    what: &str,
) -> Result<Child> {
    uapi::remove_sockets(&format!("{interface}.sock"));
    let launch = Launch { name: role, dir: lab.dir(), ns: Some(ns.fd()), lifetime: lab.lifetime() };
    let mut process = Child::launch(command, launch)?;
    until(what, START, || {
        process.must_run()?;
        Ok(uapi::is_ready(interface).then_some(()))
    })?;
    Ok(process)
}
