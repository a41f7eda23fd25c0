//! Which probe it is, made ready once for all that are sent.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::icmp::Pinger;
use super::probe::Failure;
use super::{Target, http, ike, openvpn, tcp, tls, udp, wireguard};
use crate::config::{Http, Probe, Timing, Udp};

/// Asks the addresses of a backend.
pub(super) struct Asker {
    how: How,
    /// Zero for probes without a port.
    port: u16,
}

enum How {
    Icmp(Arc<Pinger>),
    Tcp,
    Udp(Udp),
    WireGuard(wireguard::Peer),
    OpenVpn(Box<openvpn::Servers>),
    Ike,
    Tls(tls::Client),
    Http(Http),
    Https(Http, tls::Client),
    /// A file that belongs to it was not read.
    Unread,
}

impl Asker {
    /// For a target, if it is to be probed.
    pub(super) fn new(target: &Target, pinger: &Arc<Pinger>) -> Option<(Self, Timing)> {
        let probing = target.health.probing()?;
        let port = match probing.probe.protocol() {
            None => 0,
            Some(_) => target.port?,
        };
        let how = How::new(&probing.probe, pinger).unwrap_or(How::Unread);
        Some((Self { how, port }, probing.timing))
    }

    /// Asks once.
    ///
    /// # Errors
    /// Why there is no good answer.
    pub(super) async fn ask(&self, address: IpAddr, patience: Duration) -> Result<(), Failure> {
        let to = SocketAddr::new(address, self.port);
        match &self.how {
            How::Icmp(pinger) => pinger.probe(address, patience).await,
            How::Tcp => tcp::probe(to, patience).await,
            How::Udp(udp) => udp::probe(to, udp, patience).await,
            How::WireGuard(peer) => peer.probe(to, patience).await,
            How::OpenVpn(servers) => servers.probe(to, patience).await,
            How::Ike => ike::probe(to, patience).await,
            How::Tls(client) => client.probe(to, patience).await,
            How::Http(http) => http::probe(to, http, None, patience).await,
            How::Https(http, client) => http::probe(to, http, Some(client), patience).await,
            How::Unread => Err(Failure::Gateway("the probe's files were not read".to_owned())),
        }
    }
}

impl How {
    fn new(probe: &Probe, pinger: &Arc<Pinger>) -> Option<Self> {
        Some(match probe {
            Probe::Icmp => Self::Icmp(Arc::clone(pinger)),
            Probe::Tcp(_) => Self::Tcp,
            Probe::Udp(udp) => Self::Udp(udp.clone()),
            Probe::WireGuard(config) => Self::WireGuard(wireguard::Peer::new(config)?),
            Probe::OpenVpn(config) => Self::OpenVpn(Box::new(openvpn::Servers::new(config)?)),
            Probe::Ike(_) => Self::Ike,
            Probe::Tls(config) => Self::Tls(tls::Client::new(&config.trust)?),
            Probe::Http(http) => Self::Http(http.clone()),
            Probe::Https(https) => Self::Https(https.http.clone(), tls::Client::new(&https.trust)?),
        })
    }
}
