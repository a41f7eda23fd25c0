//! Probes by a handshake of WireGuard, of a peer that the servers know. It ends with their response: a tunnel is not made.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use boringtun::noise::{Packet, Tunn, TunnResult};
use boringtun::x25519::{PublicKey, StaticSecret};
use tokio::time::{Instant, sleep_until};

use super::datagram::exchange;
use super::probe::Failure;
use crate::config::{self, WireGuard};

/// A handshake initiation (148 bytes) is the largest that is sent.
const ROOM: usize = 256;

/// Servers drop a peer's handshake that comes within 20 ms of the one before, and a backend is probed at two addresses: their turns are far apart,
/// but what is repeated after a failure is not bound to turns.
const APART: Duration = Duration::from_millis(25);

/// The probe as a server knows it.
pub(super) struct Peer {
    own: StaticSecret,
    servers: PublicKey,
    preshared: Option<[u8; 32]>,
    /// When the last handshake was begun.
    last: Mutex<Option<Instant>>,
}

impl Peer {
    /// From the configuration, if its files were read.
    pub(super) fn new(config: &WireGuard) -> Option<Self> {
        let preshared = match &config.preshared_key_file {
            Some(file) => Some(file.contents.as_ref()?.0),
            None => None,
        };
        Some(Self {
            own: StaticSecret::from(config.private_key_file.contents.as_ref()?.0),
            servers: PublicKey::from(config.public_key.0),
            preshared,
            last: Mutex::default(),
        })
    }

    /// Shakes hands.
    ///
    /// # Errors
    /// Why there is no response.
    pub(super) async fn probe(&self, to: SocketAddr, patience: Duration) -> Result<(), Failure> {
        let at =
            apart(&mut self.last.lock().unwrap_or_else(PoisonError::into_inner), Instant::now());
        sleep_until(at).await;
        let index = fastrand::u32(..) >> 8;
        let mut tunnel =
            Tunn::new(self.own.clone(), self.servers, self.preshared, None, index, None);
        let mut room = [0; ROOM];
        let initiation = match tunnel.format_handshake_initiation(&mut room, false) {
            TunnResult::WriteToNetwork(initiation) => initiation.to_vec(),
            _ => return Err(Failure::Gateway(format!("{to}: no handshake can be begun"))),
        };
        let is_answer = |datagram: &[u8]| is_answer(&mut tunnel, datagram);
        let unknown = || {
            let preshared = if self.preshared.is_some() { ", with this preshared key" } else { "" };
            format!("does it know the probe's public key {}{preshared}?", self.public())
        };
        let answered = exchange(to, &initiation, "handshake response", patience, is_answer).await;
        answered.map_err(|failure| failure.if_late(unknown))
    }

    fn public(&self) -> config::PublicKey {
        config::PublicKey(PublicKey::from(&self.own).to_bytes())
    }
}

/// When a handshake may be begun.
fn apart(last: &mut Option<Instant>, now: Instant) -> Instant {
    let at = last.map_or(now, |last| now.max(last + APART));
    *last = Some(at);
    at
}

/// Whether it proves that the servers' key is there: a response, or, of a server that is busy, a cookie.
fn is_answer(tunnel: &mut Tunn, datagram: &[u8]) -> bool {
    let mut room = [0; ROOM];
    match Tunn::parse_incoming_packet(datagram) {
        // The tunnel's first packet, which is not sent.
        Ok(Packet::HandshakeResponse(_)) => {
            matches!(tunnel.decapsulate(None, datagram, &mut room), TunnResult::WriteToNetwork(_))
        }
        Ok(Packet::PacketCookieReply(_)) => {
            matches!(tunnel.decapsulate(None, datagram, &mut room), TunnResult::Done)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use boringtun::noise::rate_limiter::RateLimiter;
    use std::sync::Arc;

    use super::*;

    fn secret(byte: u8) -> StaticSecret {
        StaticSecret::from([byte; 32])
    }

    /// What a server answers to a client's initiation.
    fn answer(client: &mut Tunn, server: &mut Tunn) -> Option<Vec<u8>> {
        let (mut room, mut answer) = ([0; ROOM], [0; ROOM]);
        let TunnResult::WriteToNetwork(initiation) =
            client.format_handshake_initiation(&mut room, true)
        else {
            panic!("an initiation")
        };
        match server.decapsulate(Some([10, 0, 0, 1].into()), initiation, &mut answer) {
            TunnResult::WriteToNetwork(answer) => Some(answer.to_vec()),
            _ => None,
        }
    }

    #[test]
    fn of_one_peer_no_two_handshakes_are_begun_at_once() {
        let now = Instant::now();
        let mut last = None;
        let begun = [now, now, now + APART / 2, now + APART * 10].map(|at| apart(&mut last, at));
        assert_eq!(begun.map(|at| at - now), [0, 1, 2, 10].map(|n| APART * n));
    }

    #[test]
    fn a_response_and_a_cookie_count_and_nothing_else() {
        let (own, servers) = (PublicKey::from(&secret(1)), PublicKey::from(&secret(2)));
        let mut client = Tunn::new(secret(1), servers, None, None, 7, None);
        let mut server = Tunn::new(secret(2), own, None, None, 8, None);
        let response = answer(&mut client, &mut server).unwrap();
        for wrong in [&response[..91], b"", &[4, 0, 0, 0], &[0xff; 92]] {
            assert!(!is_answer(&mut client, wrong));
        }
        let mut forged = response.clone();
        forged[50] ^= 1;
        assert!(!is_answer(&mut client, &forged));
        assert!(is_answer(&mut client, &response));
        // Busy from the first packet on.
        let limiter = Arc::new(RateLimiter::new(&servers, 0));
        let mut busy = Tunn::new(secret(2), own, None, None, 9, Some(limiter));
        let cookie = answer(&mut client, &mut busy).unwrap();
        assert_eq!(cookie.len(), 64);
        let mut forged = cookie.clone();
        forged[40] ^= 1;
        assert!(!is_answer(&mut client, &forged));
        assert!(is_answer(&mut client, &cookie));
        // Of another server with the same address.
        let mut other = Tunn::new(secret(3), own, None, None, 8, None);
        assert_eq!(answer(&mut client, &mut other), None);
    }
}
