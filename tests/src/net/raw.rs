//! Packets with any source address, and a look at the packets of a namespace.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use super::Ns;
use crate::error::{LabError, Result, Tried};

/// IPPROTO_RAW: the sender writes the IP header.
const IPPROTO_RAW: i32 = 255;
/// Bytes of a packet, or what follows IPv6's header, in each of its fragments.
const FRAGMENT: usize = 1200;

/// Packets sent at once. A veth queues 256 (`VETH_RING_SIZE`, drivers/net/veth.c) and drops
/// more: which is nobody's loss to explain.
const BURST: u64 = 32;
/// Time for the other end to take a burst, on slow machines, too.
const PAUSE: Duration = Duration::from_millis(1);

/// What keeps a gateway from reading the ports of a datagram at their usual place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstruction {
    /// More fragments follow.
    FirstFragment,
    /// It continues a fragment, and has no ports.
    LaterFragment,
    /// IPv4 options, or an IPv6 extension header; they ask for nothing.
    Header,
}

/// Sends UDP datagrams with forged sources into a namespace, whose routing
/// carries them on. Works in network namespaces of a lab only, as no socket
/// is ever opened outside of one. At most some 30,000 a second.
#[derive(Debug)]
pub struct RawSender {
    v4: Socket,
    v6: Socket,
    sent: AtomicU64,
}

impl RawSender {
    /// A sender inside `ns`.
    pub fn new(ns: &Ns) -> Result<Self> {
        let open = |domain| Socket::new(domain, Type::RAW, Some(Protocol::from(IPPROTO_RAW)));
        let made =
            ns.enter(|| Ok::<_, std::io::Error>((open(Domain::IPV4)?, open(Domain::IPV6)?)))?;
        let (v4, v6) = made.tried(|| format!("opening raw sockets in {}", ns.name()))?;
        Ok(Self { v4, v6, sent: AtomicU64::new(0) })
    }

    /// Sends one datagram as if it came from `source`.
    ///
    /// # Panics
    /// When the addresses are of two families.
    pub fn send(&self, source: SocketAddr, destination: SocketAddr, payload: &[u8]) -> Result<()> {
        self.send_packet(source, destination, &datagram(source, destination, payload))
    }

    /// Asks for a TCP connection as if `source` did.
    ///
    /// # Panics
    /// When the addresses are of two families.
    pub fn send_syn(&self, source: SocketAddr, destination: SocketAddr) -> Result<()> {
        self.send_packet(source, destination, &syn(source, destination))
    }

    /// Sends one obstructed datagram as if it came from `source`.
    ///
    /// # Panics
    /// When the addresses are of two families.
    pub fn send_obstructed(
        &self,
        source: SocketAddr,
        destination: SocketAddr,
        payload: &[u8],
        obstruction: Obstruction,
    ) -> Result<()> {
        let whole = datagram(source, destination, payload);
        self.send_packet(source, destination, &obstructed(&whole, obstruction))
    }

    /// Sends one datagram in fragments, the last one first, as if it came from `source`.
    ///
    /// # Panics
    /// When the addresses are of two families.
    pub fn send_backwards(
        &self,
        source: SocketAddr,
        destination: SocketAddr,
        payload: &[u8],
    ) -> Result<()> {
        let whole = datagram(source, destination, payload);
        let identification = fastrand::u16(1..);
        let header = if source.is_ipv4() { 20 } else { 40 };
        let last = (whole.len() - header - 1) / FRAGMENT;
        for n in (0..=last).rev() {
            let from = header + n * FRAGMENT;
            let content = &whole[from..whole.len().min(from + FRAGMENT)];
            let mut packet = [&whole[..header], content].concat();
            fragment(&mut packet, (n * FRAGMENT / 8) as u16, n < last, identification);
            self.send_packet(source, destination, &packet)?;
        }
        Ok(())
    }

    /// Sends an IP packet as it is.
    pub(crate) fn pass_on(&self, packet: &[u8]) -> Result<()> {
        let address = |at: usize| -> Option<IpAddr> {
            if packet[0] >> 4 == 4 {
                Some(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?.into())
            } else {
                Some(<[u8; 16]>::try_from(packet.get(at..at + 16)?).ok()?.into())
            }
        };
        let (from, to) = match packet.first().map(|byte| byte >> 4) {
            Some(4) => (address(12), address(16)),
            Some(6) => (address(8), address(24)),
            _ => (None, None),
        };
        let (Some(from), Some(to)) = (from, to) else {
            return Err(LabError::Scenario("not an IP packet".to_owned()));
        };
        self.send_packet(SocketAddr::new(from, 0), SocketAddr::new(to, 0), packet)
    }

    fn send_packet(
        &self,
        source: SocketAddr,
        destination: SocketAddr,
        packet: &[u8],
    ) -> Result<()> {
        let socket = if destination.is_ipv4() { &self.v4 } else { &self.v6 };
        // A raw IPv6 socket takes a port to be a protocol number.
        let to = SocketAddr::new(destination.ip(), 0);
        socket
            .send_to(packet, &to.into())
            .tried(|| format!("sending from {source} to {destination}"))?;
        if self.sent.fetch_add(1, Ordering::Relaxed) % BURST == BURST - 1 {
            sleep(PAUSE);
        }
        Ok(())
    }
}

/// An IP packet with a UDP datagram.
fn datagram(source: SocketAddr, destination: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + payload.len()).expect("what is forged fits a datagram");
    let mut udp = Vec::with_capacity(8 + payload.len());
    udp.extend(source.port().to_be_bytes());
    udp.extend(destination.port().to_be_bytes());
    udp.extend(length.to_be_bytes());
    udp.extend([0, 0]);
    udp.extend(payload);
    packet(source.ip(), destination.ip(), 17, udp, 6)
}

/// An IP packet with a TCP SYN and one option, the largest segment (RFC 9293).
fn syn(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let mut tcp = Vec::with_capacity(24);
    tcp.extend(source.port().to_be_bytes());
    tcp.extend(destination.port().to_be_bytes());
    tcp.extend(fastrand::u32(..).to_be_bytes());
    tcp.extend([0, 0, 0, 0, 6 << 4, 2]);
    tcp.extend(u16::MAX.to_be_bytes());
    tcp.extend([0, 0, 0, 0, 2, 4]);
    tcp.extend(1400u16.to_be_bytes());
    packet(source.ip(), destination.ip(), 6, tcp, 16)
}

/// An IP packet with `content`, whose checksum belongs at `sum_at`.
fn packet(
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    mut content: Vec<u8>,
    sum_at: usize,
) -> Vec<u8> {
    let length = u16::try_from(content.len()).expect("what is forged fits a packet").to_be_bytes();
    let mut pseudo = Vec::with_capacity(40);
    let mut packet = Vec::with_capacity(40 + content.len());
    match (source, destination) {
        (IpAddr::V4(s), IpAddr::V4(d)) => {
            pseudo.extend(s.octets());
            pseudo.extend(d.octets());
            // Length, identification and checksum are filled in by the kernel.
            packet.extend([0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0]);
            packet.extend(s.octets());
            packet.extend(d.octets());
        }
        (IpAddr::V6(s), IpAddr::V6(d)) => {
            pseudo.extend(s.octets());
            pseudo.extend(d.octets());
            packet.extend([0x60, 0, 0, 0]);
            packet.extend(length);
            packet.extend([protocol, 64]);
            packet.extend(s.octets());
            packet.extend(d.octets());
        }
        _ => panic!("source and destination are of two families"),
    }
    pseudo.extend([0, protocol]);
    pseudo.extend(length);
    // A UDP checksum of 0 would say that there is none; for TCP it makes no difference.
    let sum = match checksum([pseudo.as_slice(), &content]) {
        0 => 0xffff,
        sum => sum,
    };
    content[sum_at..sum_at + 2].copy_from_slice(&sum.to_be_bytes());
    packet.extend(content);
    packet
}

/// Puts an obstruction into a packet; the kernel fills in the checksum of an IPv4 header.
fn obstructed(packet: &[u8], obstruction: Obstruction) -> Vec<u8> {
    let mut packet = packet.to_vec();
    let is_v4 = packet[0] >> 4 == 4;
    match (is_v4, obstruction) {
        (_, Obstruction::FirstFragment) => fragment(&mut packet, 0, true, fastrand::u16(1..)),
        (_, Obstruction::LaterFragment) => fragment(&mut packet, 8, false, fastrand::u16(1..)),
        (true, Obstruction::Header) => {
            packet[0] = 0x46;
            // Three times "no operation", and the end (RFC 791).
            packet.splice(20..20, [1, 1, 1, 0]);
        }
        // Destination options: six bytes of padding (RFC 8200).
        (false, Obstruction::Header) => extend(&mut packet, 60, [17, 0, 1, 4, 0, 0, 0, 0]),
    }
    packet
}

/// Makes a fragment of a UDP packet: its offset counts eights of bytes.
fn fragment(packet: &mut Vec<u8>, offset: u16, more: bool, identification: u16) {
    let [high, low] = identification.to_be_bytes();
    if packet[0] >> 4 == 4 {
        packet[4..6].copy_from_slice(&[high, low]);
        packet[6..8].copy_from_slice(&(offset | u16::from(more) << 13).to_be_bytes());
    } else {
        let [upper, lower] = (offset << 3 | u16::from(more)).to_be_bytes();
        extend(packet, 44, [17, 0, upper, lower, 0, 0, high, low]);
    }
}

/// Puts an extension header before the UDP header of an IPv6 packet.
fn extend(packet: &mut Vec<u8>, number: u8, header: [u8; 8]) {
    packet[6] = number;
    packet.splice(40..40, header);
    let length = (packet.len() - 40) as u16;
    packet[4..6].copy_from_slice(&length.to_be_bytes());
}

/// The Internet checksum (RFC 1071) over parts of which all but the last have even length.
fn checksum<const N: usize>(parts: [&[u8]; N]) -> u16 {
    let mut sum = 0u32;
    for part in parts {
        for pair in part.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_checks_out() {
        for (s, d) in
            [("198.51.100.7:9", "203.0.113.10:51820"), ("[2001:db8::7]:9", "[2001:db8::1]:51820")]
        {
            let p = datagram(s.parse().unwrap(), d.parse().unwrap(), b"odd");
            let (addresses, udp) =
                if p[0] == 0x45 { (&p[12..20], &p[20..]) } else { (&p[8..40], &p[40..]) };
            let length = [0, 17, 0, 11];
            assert_eq!(checksum([addresses, &length, udp]), 0);
            assert_eq!(&udp[8..], b"odd");
        }
    }
}
