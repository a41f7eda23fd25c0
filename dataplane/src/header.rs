//! Ethernet, VLAN tags, IPv4, IPv6, UDP: from a frame to the few facts that the
//! decisions need.

use crate::abi::Address;
use crate::packet::{Packet, View};
use crate::reason::Reason;

/// Bytes of an Ethernet header without tags.
pub const ETHERNET: usize = 14;
/// Bytes of a VLAN tag.
pub const VLAN_TAG: usize = 4;
/// Bytes of an IPv4 header without options.
pub const IPV4: usize = 20;
/// Bytes of an IPv6 header.
pub const IPV6: usize = 40;
/// Bytes of an IPv6 fragment header.
pub const FRAGMENT: usize = 8;
/// Bytes of a UDP header.
pub const UDP: usize = 8;
/// Bytes of a TCP header without options.
pub const TCP: usize = 20;
/// TCP's flag of what begins a connection.
pub const SYN: u8 = 0x02;
/// IP protocol number of UDP.
pub const PROTO_UDP: u8 = 17;
/// IP protocol number of TCP.
pub const PROTO_TCP: u8 = 6;
/// IP protocol number of ESP (RFC 4303).
pub const PROTO_ESP: u8 = 50;
/// IP protocol number of IPv4 inside of IP (RFC 2003).
pub const PROTO_IPV4: u8 = 4;
/// IP protocol number of IPv6 inside of IP (RFC 2473, RFC 4213).
pub const PROTO_IPV6: u8 = 41;
/// IP protocol number of ICMP.
pub const PROTO_ICMP: u8 = 1;
/// IP protocol number of ICMPv6.
pub const PROTO_ICMP6: u8 = 58;
/// The fragment header's number as a next header (RFC 8200, 4.5).
pub(crate) const IPV6_FRAGMENT: u8 = 44;

pub(crate) const ETHERTYPE_IPV4: u16 = 0x0800_u16.to_be();
pub(crate) const ETHERTYPE_IPV6: u16 = 0x86dd_u16.to_be();
pub(crate) const ETHERTYPE_VLAN: u16 = 0x8100_u16.to_be();
pub(crate) const ETHERTYPE_QINQ: u16 = 0x88a8_u16.to_be();

/// Where the IP header is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Offset of the IP header: 14, 18 or 22.
    pub l3: usize,
    /// IPv6, else IPv4.
    pub v6: bool,
}

/// Reads the Ethernet header and up to two VLAN tags (IEEE 802.1Q, 802.1ad).
#[inline(always)]
pub fn link<P: Packet>(packet: &P) -> Result<Link, Reason> {
    let Some(eth) = packet.view::<ETHERNET>(0) else {
        return Err(Reason::EthernetTruncated);
    };
    let mut kind = eth.u16::<12>();
    let mut l3 = ETHERNET;
    if kind == ETHERTYPE_VLAN || kind == ETHERTYPE_QINQ {
        let Some(tag) = packet.view::<VLAN_TAG>(ETHERNET) else {
            return Err(Reason::EthernetTruncated);
        };
        kind = tag.u16::<2>();
        l3 = ETHERNET + VLAN_TAG;
        if kind == ETHERTYPE_VLAN {
            let Some(tag) = packet.view::<VLAN_TAG>(ETHERNET + VLAN_TAG) else {
                return Err(Reason::EthernetTruncated);
            };
            kind = tag.u16::<2>();
            l3 = ETHERNET + 2 * VLAN_TAG;
        }
    }
    if kind == ETHERTYPE_IPV4 {
        Ok(Link { l3, v6: false })
    } else if kind == ETHERTYPE_IPV6 {
        Ok(Link { l3, v6: true })
    } else {
        Err(Reason::NotIp)
    }
}

/// What stands between the IP header and the ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// Nothing: the ports are where [`Ip::l4`] says.
    None,
    /// A fragment that carries the ports.
    FirstFragment,
    /// A fragment without ports: what lies at [`Ip::l4`] is payload.
    LaterFragment,
    /// IPv4 options.
    Options,
    /// An IPv6 extension header other than a fragment header.
    Extension,
}

/// An IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ip {
    /// Source address.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
    /// Protocol of what lies at `l4` (of an extension: unknown, the next header's number).
    pub protocol: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// What hinders reading ports.
    pub obstacle: Obstacle,
    /// Offset of the transport header.
    pub l4: usize,
    /// Bytes from the transport header to the end of the IP packet.
    pub l4_len: u32,
    /// Bytes of the IP packet.
    pub len: u32,
}

/// Reads an IPv4 header (RFC 791) at `l3`.
#[inline(always)]
pub fn ipv4<P: Packet>(packet: &P, l3: usize) -> Result<Ip, Reason> {
    let Some(h) = packet.view::<IPV4>(l3) else {
        return Err(Reason::Ipv4Malformed);
    };
    let frame = packet.len();
    let version = h.u8::<0>();
    let header = ((version & 0x0f) as usize) << 2;
    let len = u16::from_be(h.u16::<2>()) as usize;
    if version >> 4 != 4 || header < IPV4 || len < header || l3 + len > frame {
        return Err(Reason::Ipv4Malformed);
    }
    // Flags and fragment offset: 0x2000 more fragments, 0x1fff the offset.
    let fragment = u16::from_be(h.u16::<6>());
    let obstacle = if fragment & 0x1fff != 0 {
        Obstacle::LaterFragment
    } else if header != IPV4 {
        Obstacle::Options
    } else if fragment & 0x2000 != 0 {
        Obstacle::FirstFragment
    } else {
        Obstacle::None
    };
    Ok(Ip {
        source: Address::v4(h.u32::<12>()),
        destination: Address::v4(h.u32::<16>()),
        protocol: h.u8::<9>(),
        ttl: h.u8::<8>(),
        obstacle,
        l4: l3 + header,
        l4_len: (len - header) as u32,
        len: len as u32,
    })
}

/// The same of a header as nearly all are: without options, not a fragment, of UDP or TCP, and the packet
/// may be sent on. `None` if anything is otherwise, and then [`ipv4`] says what.
#[inline(always)]
pub fn usual_ipv4(h: impl View<IPV4>, l3: usize, frame: usize) -> Option<Ip> {
    let len = u16::from_be(h.u16::<2>());
    // Version 4, five words; no fragment, whatever it says of fragmenting.
    let (protocol, ttl) = (h.u8::<9>(), h.u8::<8>());
    if h.u8::<0>() != 0x45
        || h.u16::<6>() & !0x4000_u16.to_be() != 0
        || protocol != PROTO_UDP && protocol != PROTO_TCP
        || ttl <= 1
        || l3 + len as usize > frame
    {
        return None;
    }
    Some(Ip {
        source: Address::v4(h.u32::<12>()),
        destination: Address::v4(h.u32::<16>()),
        protocol,
        ttl,
        obstacle: Obstacle::None,
        l4: l3 + IPV4,
        l4_len: u32::from(len).wrapping_sub(IPV4 as u32),
        len: u32::from(len),
    })
}

/// True for the extension headers of RFC 8200 and the IANA registry that can
/// stand before a transport header (the fragment header, 44, apart).
#[inline(always)]
const fn is_extension(next_header: u8) -> bool {
    matches!(next_header, 0 | 43 | 51 | 60 | 135 | 139 | 140)
}

/// Reads an IPv6 header (RFC 8200) at `l3`.
#[inline(always)]
pub fn ipv6<P: Packet>(packet: &P, l3: usize) -> Result<Ip, Reason> {
    let Some(h) = packet.view::<IPV6>(l3) else {
        return Err(Reason::Ipv6Malformed);
    };
    let payload = u16::from_be(h.u16::<4>()) as usize;
    // A payload length of 0 with data behind it would be a jumbogram (RFC 2675): not carried.
    if h.u8::<0>() >> 4 != 6 || l3 + IPV6 + payload > packet.len() {
        return Err(Reason::Ipv6Malformed);
    }
    let protocol = h.u8::<6>();
    let extended = protocol == IPV6_FRAGMENT || is_extension(protocol);
    let mut ip = Ip {
        source: Address::from_halves([h.u64::<8>(), h.u64::<16>()]),
        destination: Address::from_halves([h.u64::<24>(), h.u64::<32>()]),
        protocol,
        ttl: h.u8::<7>(),
        obstacle: if extended { Obstacle::Extension } else { Obstacle::None },
        l4: l3 + IPV6,
        l4_len: payload as u32,
        len: (IPV6 + payload) as u32,
    };
    if ip.protocol == IPV6_FRAGMENT {
        let (Some(f), true) = (packet.view::<FRAGMENT>(l3 + IPV6), ip.l4_len >= 8) else {
            return Err(Reason::Ipv6Malformed);
        };
        ip.protocol = f.u8::<0>();
        ip.l4 += 8;
        ip.l4_len -= 8;
        // Offset in units of 8 bytes in the upper 13 bits.
        ip.obstacle = if u16::from_be(f.u16::<2>()) & 0xfff8 != 0 {
            Obstacle::LaterFragment
        } else if is_extension(ip.protocol) || ip.protocol == IPV6_FRAGMENT {
            Obstacle::Extension
        } else {
            Obstacle::FirstFragment
        };
    }
    Ok(ip)
}

/// What the fragments of a packet have in common, beside their addresses (RFC 791, 3.2; RFC 8200, 4.5), of an IP packet that is
/// one; IPv4 has a number for each protocol.
#[inline(always)]
pub fn identification<P: Packet>(packet: &P, l3: usize, v6: bool) -> Option<u64> {
    Some(if v6 {
        packet.view::<FRAGMENT>(l3 + IPV6)?.u32::<4>().into()
    } else {
        let h = packet.view::<IPV4>(l3)?;
        u64::from(h.u16::<4>()) | u64::from(h.u8::<9>()) << 16
    })
}

/// The same of a header as nearly all are: see [`usual_ipv4`].
#[inline(always)]
pub fn usual_ipv6(h: impl View<IPV6>, l3: usize, frame: usize) -> Option<Ip> {
    let payload = u16::from_be(h.u16::<4>());
    let (protocol, ttl) = (h.u8::<6>(), h.u8::<7>());
    if h.u8::<0>() & 0xf0 != 0x60
        || protocol != PROTO_UDP && protocol != PROTO_TCP
        || ttl <= 1
        || l3 + IPV6 + payload as usize > frame
    {
        return None;
    }
    Some(Ip {
        source: Address::from_halves([h.u64::<8>(), h.u64::<16>()]),
        destination: Address::from_halves([h.u64::<24>(), h.u64::<32>()]),
        protocol,
        ttl,
        obstacle: Obstacle::None,
        l4: l3 + IPV6,
        l4_len: u32::from(payload),
        len: IPV6 as u32 + u32::from(payload),
    })
}

/// A UDP header's ports and payload; of a TCP header, which begins with the same ports, `length` says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Udp {
    /// Source port, network order.
    pub source: u16,
    /// Destination port, network order.
    pub destination: u16,
    /// The length field, which the payload follows from.
    pub length: u16,
}

/// Reads a UDP header (RFC 768); its length is checked by [`payload_len`], when
/// the packet is known to be a service's.
#[inline(always)]
pub fn udp<P: Packet>(packet: &P, l4: usize) -> Option<Udp> {
    packet.view::<UDP>(l4).map(udp_in)
}

/// The same of a header that is there.
#[inline(always)]
pub fn udp_in(h: impl View<UDP>) -> Udp {
    Udp { source: h.u16::<0>(), destination: h.u16::<2>(), length: u16::from_be(h.u16::<4>()) }
}

/// Bytes behind the first eight of the transport header: of UDP the whole datagram's payload, of TCP the rest of its
/// header and what follows.
#[inline(always)]
pub fn payload_len(udp: &Udp, ip: &Ip) -> Result<u32, Reason> {
    if ip.protocol == PROTO_TCP {
        return if ip.l4_len < TCP as u32 {
            Err(Reason::TcpMalformed)
        } else {
            Ok(ip.l4_len - UDP as u32)
        };
    }
    let length = u32::from(udp.length);
    // A first fragment says how long its datagram is, and has the header: what follows it in a short frame is padding.
    let is_whole = ip.obstacle as u8 != Obstacle::FirstFragment as u8;
    let most = if is_whole { ip.l4_len } else { u32::MAX };
    if length < UDP as u32 || length > most || ip.l4_len < UDP as u32 {
        return Err(Reason::UdpMalformed);
    }
    Ok(length - UDP as u32)
}
