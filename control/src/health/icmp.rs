//! Probes by echo request (RFC 792, RFC 4443). One raw socket a family serves all backends.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket as StdUdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use etherparse::{IcmpEchoHeader, Icmpv4Header, Icmpv4Type};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// Echo replies: RFC 792 and RFC 4443 4.2.
const REPLY_V4: u8 = 0;
const REQUEST_V6: u8 = 128;
const REPLY_V6: u8 = 129;

type Waiting = HashMap<u64, (IpAddr, oneshot::Sender<()>)>;

/// Sends echo requests and tells the replies apart.
#[derive(Debug)]
pub(super) struct Pinger {
    v4: UdpSocket,
    /// `None` where the kernel has no IPv6.
    v6: Option<UdpSocket>,
    /// By the token in the payload, which is never used twice.
    waiting: Mutex<Waiting>,
    next: AtomicU64,
}

impl Pinger {
    /// Opens the sockets, in the network namespace of the caller, and listens.
    pub(super) fn start() -> io::Result<Arc<Self>> {
        let start = u64::from(std::process::id()) << 32 | 1;
        let pinger = Arc::new(Self {
            v4: open(Domain::IPV4, Protocol::ICMPV4)?,
            v6: open(Domain::IPV6, Protocol::ICMPV6).ok(),
            waiting: Mutex::default(),
            next: AtomicU64::new(start),
        });
        let families = [true, pinger.v6.is_some()];
        for (is_v6, there) in [false, true].into_iter().zip(families) {
            if there {
                tokio::spawn(listen(Arc::clone(&pinger), is_v6));
            }
        }
        Ok(pinger)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn socket(&self, is_v6: bool) -> Option<&UdpSocket> {
        if is_v6 { self.v6.as_ref() } else { Some(&self.v4) }
    }

    /// Sends an echo request and waits for the reply.
    ///
    /// # Errors
    /// Why there is none, for people.
    pub(super) async fn probe(&self, to: IpAddr, patience: Duration) -> Result<(), String> {
        let token = self.next.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        self.waiting().insert(token, (to, answer));
        let result = self.send_and_wait(to, token, answered, patience).await;
        self.waiting().remove(&token);
        result
    }

    async fn send_and_wait(
        &self,
        to: IpAddr,
        token: u64,
        answered: oneshot::Receiver<()>,
        patience: Duration,
    ) -> Result<(), String> {
        let socket = self.socket(to.is_ipv6()).ok_or_else(|| format!("{to}: no IPv6"))?;
        let request = request(to.is_ipv6(), token);
        socket.send_to(&request, SocketAddr::new(to, 0)).await.map_err(|e| format!("{to}: {e}"))?;
        match timeout(patience, answered).await {
            Ok(_) => Ok(()),
            Err(_) => Err(format!("{to}: no reply within {patience:?}")),
        }
    }
}

fn open(domain: Domain, protocol: Protocol) -> io::Result<UdpSocket> {
    let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
    socket.set_nonblocking(true)?;
    // Nothing in it is UDP's: it is a datagram socket to the standard library.
    UdpSocket::from_std(StdUdpSocket::from(socket))
}

/// An echo request that carries the token. The kernel fills in the checksum of ICMPv6.
fn request(is_v6: bool, token: u64) -> Vec<u8> {
    let payload = token.to_be_bytes();
    let echo = IcmpEchoHeader { id: (token >> 32) as u16, seq: token as u16 };
    let mut message = if is_v6 {
        let [id0, id1] = echo.id.to_be_bytes();
        let [seq0, seq1] = echo.seq.to_be_bytes();
        vec![REQUEST_V6, 0, 0, 0, id0, id1, seq0, seq1]
    } else {
        let header = Icmpv4Header::with_checksum(Icmpv4Type::EchoRequest(echo), &payload);
        header.to_bytes().to_vec()
    };
    message.extend(payload);
    message
}

/// The token of an echo reply.
fn token(is_v6: bool, packet: &[u8]) -> Option<u64> {
    // A raw IPv4 socket is given the IP header too, an IPv6 one is not.
    let header = if is_v6 { 0 } else { usize::from(packet.first()? & 0xf) * 4 };
    let message = packet.get(header..)?;
    let reply = if is_v6 { REPLY_V6 } else { REPLY_V4 };
    if *message.first()? != reply {
        return None;
    }
    Some(u64::from_be_bytes(message.get(8..16)?.try_into().ok()?))
}

async fn listen(pinger: Arc<Pinger>, is_v6: bool) {
    let mut packet = [0; 2048];
    let Some(socket) = pinger.socket(is_v6) else { return };
    loop {
        match socket.recv_from(&mut packet).await {
            Ok((length, from)) => {
                let Some(token) = token(is_v6, &packet[..length]) else { continue };
                let mut waiting = pinger.waiting();
                if waiting.get(&token).is_some_and(|(to, _)| *to == from.ip())
                    && let Some((_, answer)) = waiting.remove(&token)
                {
                    // The one who asked may have lost patience.
                    let _ = answer.send(());
                }
            }
            // Errors of single packets; the socket itself does not fail.
            Err(e) => {
                tracing::debug!("echo replies: {e}");
                tokio::task::yield_now().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_gives_back_the_token_and_nothing_else_does() {
        let mut reply = request(false, 0x1234_5678_9abc_def0);
        assert_eq!(reply.len(), 16);
        reply[0] = REPLY_V4;
        let mut packet = vec![0x46; 24];
        packet.extend(&reply);
        assert_eq!(token(false, &packet), Some(0x1234_5678_9abc_def0), "with IP options");
        for length in 0..packet.len() {
            assert_eq!(token(false, &packet[..length]), None);
        }
        let mut reply = request(true, 7);
        assert_eq!(token(true, &reply), None, "a request is no reply");
        reply[0] = REPLY_V6;
        assert_eq!(token(true, &reply), Some(7));
    }
}
