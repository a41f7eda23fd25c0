//! The kernel's own WireGuard, told of changes by `wg`.

use std::path::PathBuf;

use data_encoding::{BASE64, HEXLOWER};

use super::uapi::{Change, PeerState};
use crate::error::{LabError, Result, Tried};
use crate::net::Ns;

/// An interface of the type `wireguard`. It goes with its namespace.
#[derive(Debug)]
pub(super) struct InKernel {
    interface: String,
    ns: Ns,
    /// What `wg` reads.
    file: PathBuf,
}

impl InKernel {
    /// Makes one; a kernel without the module says so.
    pub(super) fn create(ns: &Ns, interface: &str, file: PathBuf) -> Result<Self> {
        ns.ip(&[format!("link add {interface} type wireguard")])?;
        Ok(Self { interface: interface.to_owned(), ns: ns.clone(), file })
    }

    /// Applies a change.
    pub(super) fn change(&self, change: &Change) -> Result<()> {
        if let Some(peer) = change.removed() {
            let peer = base64(peer)?;
            return self.wg(&["set", &self.interface, "peer", &peer, "remove"]).map(|_| ());
        }
        std::fs::write(&self.file, configuration(change)?)
            .tried(|| format!("writing {}", self.file.display()))?;
        let file = self.file.display().to_string();
        self.wg(&["addconf", &self.interface, &file]).map(|_| ())
    }

    /// The state of all peers.
    pub(super) fn peers(&self) -> Result<Vec<PeerState>> {
        let text = self.wg(&["show", &self.interface, "dump"])?;
        // The first line is about the interface.
        text.lines().skip(1).map(peer).collect()
    }

    /// Takes it away.
    pub(super) fn remove(&self) {
        // Fails only when it has gone before.
        let _ = self.ns.ip(&[format!("link del {}", self.interface)]);
    }

    fn wg(&self, args: &[&str]) -> Result<String> {
        self.ns.run("wg", args)
    }
}

/// A change as `wg addconf` reads it (wg(8)).
fn configuration(change: &Change) -> Result<String> {
    let mut text = "[Interface]\n".to_owned();
    for (key, value) in change.settings() {
        text += &match key {
            "private_key" => format!("PrivateKey = {}\n", base64(value)?),
            "listen_port" => format!("ListenPort = {value}\n"),
            "public_key" => format!("[Peer]\nPublicKey = {}\n", base64(value)?),
            "endpoint" => format!("Endpoint = {value}\n"),
            "persistent_keepalive_interval" => format!("PersistentKeepalive = {value}\n"),
            "allowed_ip" => format!("AllowedIPs = {value}\n"),
            _ => return Err(LabError::Scenario(format!("`wg` is told nothing of {key}"))),
        };
    }
    Ok(text)
}

/// A line of `wg show IF dump`: key, preshared key, endpoint, allowed IPs, handshake, bytes received and sent, keepalive.
fn peer(line: &str) -> Result<PeerState> {
    let strange = || LabError::Scenario(format!("`wg` shows a peer as {line:?}"));
    let fields: Vec<&str> = line.split('\t').collect();
    let [key, _, endpoint, _, handshake, rx, tx, _] = fields[..] else { return Err(strange()) };
    let key = BASE64.decode(key.as_bytes()).map_err(|_| strange())?;
    let number = |text: &str| text.parse().map_err(|_| strange());
    Ok(PeerState {
        public: HEXLOWER.encode(&key),
        endpoint: endpoint.parse().ok(),
        rx_bytes: number(rx)?,
        tx_bytes: number(tx)?,
        last_handshake: number(handshake)?,
    })
}

/// A key as `wg` writes it.
fn base64(hex: &str) -> Result<String> {
    let key = HEXLOWER.decode(hex.as_bytes());
    let key = key.map_err(|e| LabError::Scenario(format!("a key in hexadecimal digits: {e}")))?;
    Ok(BASE64.encode(&key))
}

#[cfg(test)]
mod tests {
    use super::super::keys::Secret;
    use super::*;

    #[test]
    fn a_change_is_written_as_wg_reads_it() {
        let secret = Secret::generate();
        let change = Change::default()
            .private_key(&secret)
            .listen_port(51820)
            .peer(&secret.public())
            .endpoint("[2001:db8::1]:51820".parse().unwrap())
            .allowed_ip("10.99.0.0/24");
        let text = configuration(&change).unwrap();
        let key = base64(&secret.public().hex()).unwrap();
        let rest = format!(
            "ListenPort = 51820\n[Peer]\nPublicKey = {key}\nEndpoint = [2001:db8::1]:51820\n\
             AllowedIPs = 10.99.0.0/24\n"
        );
        assert!(text.starts_with("[Interface]\nPrivateKey = ") && text.ends_with(&rest), "{text}");
        assert_eq!(change.removed(), None);
        let gone = Change::default().peer(&secret.public()).remove();
        assert_eq!(gone.removed(), Some(secret.public().hex().as_str()));
    }

    #[test]
    fn peers_are_read_from_a_dump() {
        let key = BASE64.encode(&[7; 32]);
        let line =
            format!("{key}\t(none)\t198.18.1.2:20100\t10.99.0.2/32\t1700000000\t92\t180\toff");
        let read = peer(&line).unwrap();
        assert_eq!((read.rx_bytes, read.tx_bytes), (92, 180));
        assert_eq!(read.public, HEXLOWER.encode(&[7; 32]));
        assert_eq!(read.endpoint, Some("198.18.1.2:20100".parse().unwrap()));
        assert!(peer("short").is_err());
    }
}
