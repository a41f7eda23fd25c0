//! A userspace WireGuard process and its interface.

use std::net::Ipv4Addr;
use std::process::Command;
use std::time::Duration;

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
}

impl Implementation {
    /// Its name, for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WireguardGo => "wireguard-go",
            Self::Boringtun => "boringtun",
        }
    }

    fn command(self, interface: &str) -> Result<Command> {
        let mut command = match self {
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
        Ok(command)
    }
}

/// A running device.
#[derive(Debug)]
pub struct Device {
    interface: String,
    ns: Ns,
    implementation: Implementation,
    process: Child,
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
        uapi::remove_sockets(&format!("{interface}.sock"));
        let launch =
            Launch { name: role, dir: lab.dir(), ns: Some(ns.fd()), lifetime: lab.lifetime() };
        let process = Child::launch(implementation.command(&interface)?, launch)?;
        let mut device = Self { interface, ns: ns.clone(), implementation, process };
        let what = format!("the start of {} {}", implementation.as_str(), device.interface);
        until(&what, START, || {
            device.process.must_run()?;
            Ok(uapi::is_ready(&device.interface).then_some(()))
        })?;
        device.change(configuration)?;
        device.ns.ip(&[
            format!("addr add {inner}/24 dev {}", device.interface),
            format!("link set {} mtu 1420 up", device.interface),
        ])?;
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

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub(super) fn change(&self, change: &Change) -> Result<()> {
        uapi::set(&self.interface, change)
    }

    /// The state of its only peer.
    pub(super) fn only_peer(&self) -> Result<PeerState> {
        let peers = uapi::get(&self.interface)?;
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
        uapi::get(&self.interface)
    }

    pub(super) fn kill(&mut self) {
        self.process.kill();
    }
}
