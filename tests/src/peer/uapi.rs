//! The control socket of userspace WireGuard
//! (<https://www.wireguard.com/xplatform/#configuration-protocol>).

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::keys::{Public, Secret};
use crate::error::{LabError, Result, Tried};

/// One folder for all network namespaces.
const FOLDER: &str = "/run/wireguard";
/// A peer answers at once or not at all.
const DEADLINE: Duration = Duration::from_secs(5);

/// What a device knows of a peer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerState {
    /// The peer's public key, hexadecimal.
    pub public: String,
    /// Where the peer was last heard from.
    pub endpoint: Option<SocketAddr>,
    /// Bytes received from it, outside the tunnel.
    pub rx_bytes: u64,
    /// Bytes sent to it, outside the tunnel.
    pub tx_bytes: u64,
    /// Unix time of the last handshake in seconds; 0 before the first. (boringtun reports an
    /// age instead: compare with zero only.)
    pub last_handshake: u64,
}

/// A change of a device's configuration, one setting after the other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Change(String);

impl Change {
    fn set(mut self, key: &str, value: impl std::fmt::Display) -> Self {
        self.0.push_str(&format!("{key}={value}\n"));
        self
    }

    /// The settings, in their order.
    pub(super) fn settings(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.lines().filter_map(|line| line.split_once('='))
    }

    /// The key of the peer that it removes, if it is such a change.
    pub(super) fn removed(&self) -> Option<&str> {
        self.settings().find(|(key, _)| *key == "remove")?;
        self.settings().find_map(|(key, value)| (key == "public_key").then_some(value))
    }

    pub(super) fn private_key(self, secret: &Secret) -> Self {
        self.set("private_key", secret.hex())
    }

    pub(super) fn listen_port(self, port: u16) -> Self {
        self.set("listen_port", port)
    }

    /// What follows is about this peer.
    pub(super) fn peer(self, public: &Public) -> Self {
        self.set("public_key", public.hex())
    }

    /// Removes the peer.
    pub(super) fn remove(self) -> Self {
        self.set("remove", true)
    }

    pub(super) fn endpoint(self, endpoint: SocketAddr) -> Self {
        self.set("endpoint", endpoint)
    }

    /// Seconds; 0 is none.
    pub(super) fn keepalive(self, seconds: u16) -> Self {
        self.set("persistent_keepalive_interval", seconds)
    }

    pub(super) fn allowed_ip(self, prefix: &str) -> Self {
        self.set("allowed_ip", prefix)
    }
}

fn socket(interface: &str) -> PathBuf {
    Path::new(FOLDER).join(format!("{interface}.sock"))
}

/// True once the device answers.
pub(super) fn is_ready(interface: &str) -> bool {
    get(interface).is_ok()
}

/// Applies a change.
pub(super) fn set(interface: &str, change: &Change) -> Result<()> {
    ask(interface, &format!("set=1\n{}\n", change.0)).map(|_| ())
}

/// The state of all peers.
pub(super) fn get(interface: &str) -> Result<Vec<PeerState>> {
    let mut peers: Vec<PeerState> = Vec::new();
    for (key, value) in ask(interface, "get=1\n\n")? {
        if key == "public_key" {
            peers.push(PeerState { public: value, ..PeerState::default() });
            continue;
        }
        let Some(peer) = peers.last_mut() else { continue };
        match key.as_str() {
            "endpoint" => peer.endpoint = value.parse().ok(),
            "rx_bytes" => peer.rx_bytes = value.parse().unwrap_or(0),
            "tx_bytes" => peer.tx_bytes = value.parse().unwrap_or(0),
            "last_handshake_time_sec" => peer.last_handshake = value.parse().unwrap_or(0),
            _ => {}
        }
    }
    Ok(peers)
}

/// Sends a request and reads the answer up to the empty line.
fn ask(interface: &str, request: &str) -> Result<Vec<(String, String)>> {
    let exchange = || {
        let mut stream = UnixStream::connect(socket(interface))?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        for line in BufReader::new(stream).lines() {
            let line = line?;
            let Some((key, value)) = line.split_once('=') else { break };
            answer.push((key.to_owned(), value.to_owned()));
        }
        Ok::<_, std::io::Error>(answer)
    };
    let answer = exchange().tried(|| format!("asking the WireGuard device {interface}"))?;
    match answer.iter().find(|(key, _)| key == "errno") {
        Some((_, errno)) if errno != "0" => Err(LabError::Scenario(format!(
            "the WireGuard device {interface} refused a request with errno {errno}"
        ))),
        _ => Ok(answer),
    }
}

/// Removes the sockets that killed devices left behind.
pub(crate) fn remove_sockets(prefix: &str) {
    for entry in fs::read_dir(FOLDER).into_iter().flatten().flatten() {
        if entry.file_name().to_str().is_some_and(|name| name.starts_with(prefix)) {
            let _ = fs::remove_file(entry.path());
        }
    }
}
