//! A look at the packets of a namespace.

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use socket2::{Domain, Protocol, Socket, Type};

use super::Ns;
use crate::error::{LabError, Result, Tried};
use crate::wait::Stop;

/// ETH_P_ALL: every protocol, both directions.
const ETH_P_ALL: u16 = 3;

/// A UDP datagram that was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Its source.
    pub source: SocketAddr,
    /// Its destination.
    pub destination: SocketAddr,
    /// Its payload.
    pub payload: Vec<u8>,
}

impl Datagram {
    /// The WireGuard message type, if it can be one.
    pub fn wireguard_type(&self) -> Option<u8> {
        match self.payload.get(..4)? {
            [kind @ 1..=4, 0, 0, 0] => Some(*kind),
            _ => None,
        }
    }

    /// Parses an IP packet; extension headers are not followed.
    fn parse(packet: &[u8]) -> Option<Self> {
        let (source, destination, udp): (IpAddr, IpAddr, _) = match packet.first()? >> 4 {
            4 if *packet.get(9)? == 17 => {
                let v4 = |at: usize| {
                    Some(Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?))
                };
                (v4(12)?.into(), v4(16)?.into(), packet.get(usize::from(packet[0] & 15) * 4..)?)
            }
            6 if *packet.get(6)? == 17 => {
                let v6 = |at: usize| {
                    Some(Ipv6Addr::from(<[u8; 16]>::try_from(packet.get(at..at + 16)?).ok()?))
                };
                (v6(8)?.into(), v6(24)?.into(), packet.get(40..)?)
            }
            _ => return None,
        };
        let word = |at: usize| Some(u16::from_be_bytes(udp.get(at..at + 2)?.try_into().ok()?));
        Some(Self {
            source: SocketAddr::new(source, word(0)?),
            destination: SocketAddr::new(destination, word(2)?),
            payload: udp.get(8..usize::from(word(4)?))?.to_vec(),
        })
    }
}

/// Sees every packet on every interface of a namespace from its creation on. A packet that
/// is forwarded is seen twice.
#[derive(Debug)]
pub struct Capture {
    socket: Socket,
    idle: Stop,
    name: String,
}

impl Capture {
    /// Starts to look.
    pub fn start(ns: &Ns) -> Result<Self> {
        let protocol = Protocol::from(i32::from(ETH_P_ALL.to_be()));
        let open = || {
            // DGRAM: the link layer's header is cut off.
            let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(protocol))?;
            set_socket_recv_buffer_size_force(&socket, 8 << 20)?;
            socket.set_nonblocking(true)?;
            Ok::<_, std::io::Error>(socket)
        };
        let socket =
            ns.enter(open)?.tried(|| format!("opening a packet socket in {}", ns.name()))?;
        Ok(Self { socket, idle: Stop::new()?, name: ns.name().to_owned() })
    }

    /// The next datagram that `wanted` accepts, within `deadline`.
    pub fn find(
        &self,
        what: &str,
        deadline: Duration,
        mut wanted: impl FnMut(&Datagram) -> bool,
    ) -> Result<Datagram> {
        let end = Instant::now() + deadline;
        loop {
            while let Some(datagram) = self.next()? {
                if wanted(&datagram) {
                    return Ok(datagram);
                }
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(LabError::Timeout {
                    what: format!("seeing {what} in {}", self.name),
                    after: deadline,
                });
            }
            self.idle.readable(self.socket.as_fd(), Some(left));
        }
    }

    /// How many of the datagrams seen so far `wanted` accepts.
    pub fn count(&self, mut wanted: impl FnMut(&Datagram) -> bool) -> Result<u64> {
        let mut count = 0;
        while let Some(datagram) = self.next()? {
            count += u64::from(wanted(&datagram));
        }
        Ok(count)
    }

    /// The next datagram that has been seen; other packets are skipped.
    fn next(&self) -> Result<Option<Datagram>> {
        let mut buffer = [0; 2048];
        loop {
            let length = match (&self.socket).read(&mut buffer) {
                Ok(length) => length,
                Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return Ok(None),
                // A link that went down is reported once.
                Err(e) if e.kind() == std::io::ErrorKind::NetworkDown => continue,
                Err(e) => return Err(e).tried(|| format!("receiving packets in {}", self.name)),
            };
            if let Some(datagram) = Datagram::parse(&buffer[..length]) {
                return Ok(Some(datagram));
            }
        }
    }
}
