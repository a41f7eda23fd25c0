//! Somebody who echoes, and the way there.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use socket2::{Domain, Protocol, Socket, Type};

use super::echo::{BUFFER, PORT, SHORTEST, TAG};
use crate::error::{LabError, Result, Tried};
use crate::net::Ns;
use crate::wait::{Stop, patient};

/// An echo server as seen from one place.
#[derive(Clone, Debug)]
pub struct Target {
    ns: Ns,
    /// The interface to send through,
    through: Option<String>,
    /// and the address to send from.
    own: Option<Ipv4Addr>,
    server: SocketAddr,
}

impl Target {
    /// A server beyond a tunnel's interface. Sockets are bound to the
    /// interface: several tunnels to the same inner network can be on one host.
    pub fn in_tunnel(ns: Ns, interface: &str, own: Ipv4Addr, server: Ipv4Addr) -> Self {
        Self { through: Some(interface.to_owned()), ..Self::by_policy(ns, own, server) }
    }

    /// A server beyond a tunnel that takes what comes from an address, whatever interface it would leave by.
    pub fn by_policy(ns: Ns, own: Ipv4Addr, server: Ipv4Addr) -> Self {
        Self { ns, through: None, own: Some(own), server: SocketAddr::new(server.into(), PORT) }
    }

    /// A server in the open.
    pub fn outside(ns: &Ns, server: IpAddr) -> Self {
        Self::outside_at(ns, SocketAddr::new(server, PORT))
    }

    /// The same, with a port of its own.
    pub fn outside_at(ns: &Ns, server: SocketAddr) -> Self {
        Self { ns: ns.clone(), through: None, own: None, server }
    }

    /// A local port whose datagrams are carried to a server.
    pub(crate) fn relayed(ns: &Ns, relay: SocketAddr) -> Self {
        Self::outside_at(ns, relay)
    }

    /// A connected, non-blocking socket.
    pub(super) fn open(&self) -> Result<UdpSocket> {
        let open = || {
            let domain = Domain::for_address(self.server);
            let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
            set_socket_recv_buffer_size_force(&socket, BUFFER)?;
            if let Some(interface) = &self.through {
                socket.bind_device(Some(interface.as_bytes()))?;
            }
            if let Some(own) = &self.own {
                socket.bind(&SocketAddr::new((*own).into(), 0).into())?;
            }
            socket.connect(&self.server.into())?;
            socket.set_nonblocking(true)?;
            Ok::<_, std::io::Error>(UdpSocket::from(socket))
        };
        self.ns
            .enter(open)?
            .tried(|| format!("opening a socket from {} to {}", self.ns.name(), self.server))
    }

    /// For messages.
    pub(super) fn describe(&self) -> String {
        match &self.through {
            Some(interface) => format!("{} through {interface}", self.server),
            None => format!("{} from {}", self.server, self.ns.name()),
        }
    }
}

/// A request: its number, and zeros to `size` bytes.
pub(super) fn request(number: u64, size: usize) -> Vec<u8> {
    let mut request = vec![0; size.max(SHORTEST)];
    request[..8].copy_from_slice(&number.to_be_bytes());
    request
}

/// An answer's number and the tag of who gave it.
pub(super) fn answer(bytes: &[u8]) -> Option<(u64, u8)> {
    let number = bytes.get(..8)?.try_into().ok()?;
    Some((u64::from_be_bytes(number), *bytes.get(TAG)?))
}

/// Asks one question at a time.
#[derive(Debug)]
pub struct Probe {
    socket: UdpSocket,
    what: String,
    next: u64,
    idle: Stop,
}

impl Probe {
    /// A probe for a target.
    pub fn open(target: &Target) -> Result<Self> {
        Ok(Self {
            socket: target.open()?,
            what: target.describe(),
            // Answers to an earlier probe on the same port are not taken for this one's.
            next: fastrand::u64(..),
            idle: Stop::new()?,
        })
    }

    /// Asks once: who answered, if anybody did within `timeout`.
    pub fn ask(&mut self, timeout: Duration) -> Option<u8> {
        self.next = self.next.wrapping_add(1);
        // A socket error left by an ICMP message is reported once, and means no answer.
        let _ = self.socket.send(&request(self.next, 64));
        let end = Instant::now() + timeout;
        let mut buffer = [0; 2048];
        loop {
            while let Ok(length) = self.socket.recv(&mut buffer) {
                match answer(&buffer[..length]) {
                    Some((number, tag)) if number == self.next => return Some(tag),
                    _ => {}
                }
            }
            let left = end.checked_duration_since(Instant::now())?;
            self.idle.readable(self.socket.as_fd(), Some(left));
        }
    }

    /// Asks until somebody answers: who it was.
    pub fn reach(&mut self, deadline: Duration) -> Result<u8> {
        let end = Instant::now() + patient(deadline);
        loop {
            if let Some(tag) = self.ask(Duration::from_millis(200)) {
                return Ok(tag);
            }
            if Instant::now() >= end {
                return Err(LabError::Timeout {
                    what: format!("an answer of {}", self.what),
                    after: deadline,
                });
            }
        }
    }
}
