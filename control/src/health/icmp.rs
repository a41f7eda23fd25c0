//! Probes by echo request (RFC 792, RFC 4443). One raw socket a family serves all backends.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket as StdUdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use etherparse::{IcmpEchoHeader, Icmpv4Header, Icmpv4Type};
use rustix::net::sockopt::{set_socket_recv_buffer_size_force, set_socket_send_buffer_size_force};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::oneshot;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::probe::Failure;

/// Echo replies: RFC 792 and RFC 4443 4.2.
const REPLY_V4: u8 = 0;
const REQUEST_V6: u8 = 128;
const REPLY_V6: u8 = 129;

/// Room in the sockets' buffers, in bytes. Requests to backends whose MAC is being asked for
/// wait in the sending socket's: some thousand dead backends must not hold up the rest.
const BUFFER: usize = 16 << 20;

type Waiting = HashMap<u64, (IpAddr, oneshot::Sender<()>)>;

/// Sends echo requests and tells the replies apart.
#[derive(Debug)]
pub(super) struct Pinger {
    shared: Arc<Shared>,
    listeners: Vec<AbortHandle>,
}

#[derive(Debug)]
struct Shared {
    v4: UdpSocket,
    /// `None` where the kernel has no IPv6.
    v6: Option<UdpSocket>,
    /// In every request; the kernel passes only replies that have it.
    id: u16,
    /// By the token in the payload, which is never used twice and cannot be guessed.
    waiting: Mutex<Waiting>,
    next: AtomicU64,
}

impl Pinger {
    /// Opens the sockets, in the network namespace of the caller, and listens.
    pub(super) fn start() -> io::Result<Self> {
        let chance = RandomState::new().hash_one(std::process::id());
        let id = chance as u16;
        let shared = Arc::new(Shared {
            v4: open(Domain::IPV4, id)?,
            v6: open(Domain::IPV6, id).ok(),
            id,
            waiting: Mutex::default(),
            next: AtomicU64::new(chance),
        });
        let mut listeners = vec![tokio::spawn(listen(Arc::clone(&shared), false)).abort_handle()];
        if shared.v6.is_some() {
            listeners.push(tokio::spawn(listen(Arc::clone(&shared), true)).abort_handle());
        }
        Ok(Self { shared, listeners })
    }

    /// Sends an echo request and waits for the reply.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) async fn probe(&self, to: IpAddr, patience: Duration) -> Result<(), Failure> {
        let token = self.shared.next.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        self.shared.waiting().insert(token, (to, answer));
        let _entry = Entry { shared: &self.shared, token };
        match timeout(patience, self.shared.send(to, token)).await {
            Ok(sent) => sent?,
            Err(_) => return Err(Failure::Gateway(format!("{to}: too many requests wait"))),
        }
        match timeout(patience, answered).await {
            Ok(_) => Ok(()),
            Err(_) => Err(Failure::late(to, "reply", patience)),
        }
    }
}

impl Drop for Pinger {
    fn drop(&mut self) {
        self.listeners.iter().for_each(AbortHandle::abort);
    }
}

/// Someone who waits; forgotten when the probe ends, however it does.
struct Entry<'a> {
    shared: &'a Shared,
    token: u64,
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.shared.waiting().remove(&self.token);
    }
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn socket(&self, is_v6: bool) -> Option<&UdpSocket> {
        if is_v6 { self.v6.as_ref() } else { Some(&self.v4) }
    }

    async fn send(&self, to: IpAddr, token: u64) -> Result<(), Failure> {
        let is_v6 = to.is_ipv6();
        let socket = self
            .socket(is_v6)
            .ok_or_else(|| Failure::Backend(format!("{to}: the kernel has no IPv6")))?;
        let request = request(is_v6, self.id, token);
        let sent = socket.send_to(&request, SocketAddr::new(to, 0)).await;
        sent.map(drop).map_err(|e| Failure::of(to, &e))
    }

    /// A message came in.
    fn take(&self, from: IpAddr, token: u64) {
        let mut waiting = self.waiting();
        if waiting.get(&token).is_some_and(|(to, _)| *to == from)
            && let Some((_, answer)) = waiting.remove(&token)
        {
            // The one who asked may have lost patience.
            let _ = answer.send(());
        }
    }
}

fn open(domain: Domain, id: u16) -> io::Result<UdpSocket> {
    let is_v6 = domain == Domain::IPV6;
    let protocol = if is_v6 { Protocol::ICMPV6 } else { Protocol::ICMPV4 };
    let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
    // A raw socket sees all ICMP that comes to the host, from anywhere: a flood of it
    // must not drive replies out of the buffer.
    socket.attach_filter(&filter(is_v6, id))?;
    let buffers = set_socket_send_buffer_size_force(&socket, BUFFER)
        .and_then(|()| set_socket_recv_buffer_size_force(&socket, BUFFER));
    if let Err(e) = buffers {
        tracing::debug!("buffers for echo requests stay small: {e}");
    }
    socket.set_nonblocking(true)?;
    // Nothing in it is UDP's: it is a datagram socket to the standard library.
    UdpSocket::from_std(StdUdpSocket::from(socket))
}

/// Echo replies with our id pass (classic BPF, Documentation/networking/filter.rst). An IPv4
/// packet begins with its IP header, whose length X takes; an IPv6 one does not.
fn filter(is_v6: bool, id: u16) -> [SockFilter; 7] {
    const LDX_IMM: u16 = 0x01;
    const LDX_MSH: u16 = 0xb1;
    const LD_BYTE_AT_X: u16 = 0x50;
    const LD_HALF_AT_X: u16 = 0x48;
    const JEQ: u16 = 0x15;
    const RET: u16 = 0x06;
    let (start, reply) = if is_v6 { (LDX_IMM, REPLY_V6) } else { (LDX_MSH, REPLY_V4) };
    [
        SockFilter::new(start, 0, 0, 0),
        SockFilter::new(LD_BYTE_AT_X, 0, 0, 0),
        SockFilter::new(JEQ, 0, 3, u32::from(reply)),
        SockFilter::new(LD_HALF_AT_X, 0, 0, 4),
        SockFilter::new(JEQ, 0, 1, u32::from(id)),
        SockFilter::new(RET, 0, 0, u32::MAX),
        SockFilter::new(RET, 0, 0, 0),
    ]
}

/// An echo request that carries the token. The kernel fills in the checksum of ICMPv6.
fn request(is_v6: bool, id: u16, token: u64) -> Vec<u8> {
    let payload = token.to_be_bytes();
    let echo = IcmpEchoHeader { id, seq: token as u16 };
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
pub(crate) fn token(is_v6: bool, packet: &[u8]) -> Option<u64> {
    // A raw IPv4 socket is given the IP header too, an IPv6 one is not.
    let header = if is_v6 { 0 } else { usize::from(packet.first()? & 0xf) * 4 };
    let message = packet.get(header..)?;
    let reply = if is_v6 { REPLY_V6 } else { REPLY_V4 };
    if *message.first()? != reply {
        return None;
    }
    Some(u64::from_be_bytes(message.get(8..16)?.try_into().ok()?))
}

async fn listen(shared: Arc<Shared>, is_v6: bool) {
    let mut packet = [0; 2048];
    let Some(socket) = shared.socket(is_v6) else { return };
    loop {
        match socket.recv_from(&mut packet).await {
            Ok((length, from)) => {
                if let Some(token) = token(is_v6, &packet[..length]) {
                    shared.take(from.ip(), token);
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
    use crate::routing::netns::Namespace;

    #[test]
    fn a_reply_gives_back_the_token_and_nothing_else_does() {
        let mut reply = request(false, 0xabcd, 0x1234_5678_9abc_def0);
        assert_eq!(reply.len(), 16);
        reply[0] = REPLY_V4;
        let mut packet = vec![0x46; 24];
        packet.extend(&reply);
        assert_eq!(token(false, &packet), Some(0x1234_5678_9abc_def0), "with IP options");
        for length in 0..packet.len() {
            assert_eq!(token(false, &packet[..length]), None);
        }
        let mut reply = request(true, 1, 7);
        assert_eq!(token(true, &reply), None, "a request is no reply");
        reply[0] = REPLY_V6;
        assert_eq!(token(true, &reply), Some(7));
    }

    #[test]
    fn the_kernel_passes_our_replies_only() {
        let namespace = Namespace::new();
        namespace.run_async(|| async {
            let to = [("127.0.0.1", Domain::IPV4), ("::1", Domain::IPV6)];
            for (address, domain) in to.map(|(text, domain)| (text.parse().unwrap(), domain)) {
                let (ours, others) = (open(domain, 0x1234).unwrap(), open(domain, 0x4321).unwrap());
                let to = SocketAddr::new(address, 0);
                ours.send_to(&request(address.is_ipv6(), 0x1234, 99), to).await.unwrap();
                let mut packet = [0; 100];
                let (length, from) = ours.recv_from(&mut packet).await.unwrap();
                assert_eq!(from.ip(), address);
                assert_eq!(token(address.is_ipv6(), &packet[..length]), Some(99));
                // Both sockets were given it at the same time.
                let nothing = others.try_recv_from(&mut packet).expect_err("not ours");
                assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
                // Nor does one see the request that `lo` loops back.
                let nothing = ours.try_recv_from(&mut packet).expect_err("no reply");
                assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
            }
        });
    }

    #[test]
    fn a_reply_from_elsewhere_does_not_count() {
        let namespace = Namespace::new();
        namespace.run_async(|| async {
            let pinger = Pinger::start().expect("root may");
            let (asked, other) = ("127.0.0.1".parse().unwrap(), "127.0.0.2".parse().unwrap());
            let (answer, mut answered) = oneshot::channel();
            pinger.shared.waiting().insert(5, (asked, answer));
            pinger.shared.take(other, 5);
            assert!(answered.try_recv().is_err());
            pinger.shared.take(asked, 5);
            assert!(answered.try_recv().is_ok());
            assert!(pinger.shared.waiting().is_empty());
        });
    }
}
