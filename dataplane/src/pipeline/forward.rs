//! The translation, and the way out of the gateway.

use super::{Action, Target, Verdict, fragment, mss, too_big};
use crate::abi::{
    Address, ENDPOINT_LIVE, ENDPOINT_METERED_IN, ENDPOINT_METERED_OUT, Endpoint, NEXTHOP_RESOLVED,
    NO_NEXTHOP, NextHop,
};
use crate::checksum;
use crate::header::{
    ETHERNET, ETHERTYPE_IPV4, ETHERTYPE_IPV6, FRAGMENT, IPV4, IPV6, IPV6_FRAGMENT, Link, PROTO_TCP,
    TCP, UDP, VLAN_TAG,
};
use crate::packet::{Packet, View};
use crate::reason::Reason;
use crate::table::{Tables, meter};

/// Translates the packet, and sends it towards the endpoint, or, if the target
/// names a next hop, from the endpoint towards the client. Where a first fragment goes is noted; a later one (`LATER`)
/// has no transport header.
#[inline(always)]
pub(super) fn run<const LATER: bool, P: Packet, T: Tables>(
    packet: &mut P,
    t: &T,
    link: &Link,
    target: &Target,
) -> Result<Verdict, Reason> {
    if !LATER {
        prepare(packet, t, link.l3, link.v6, target.endpoint);
    }
    let endpoint = t.endpoint(target.endpoint).ok_or(Reason::BadTable)?;
    let inbound = target.nexthop == NO_NEXTHOP;
    if inbound && endpoint.flags & ENDPOINT_LIVE == 0 {
        return Err(Reason::BackendDown);
    }
    if endpoint.flags & metered(inbound) != 0 {
        take(packet, t, link, endpoint.tenant, target)?;
    }
    // Length and protocol are read again rather than kept: the stack is short.
    let mut l4 = link.l3 + if link.v6 { IPV6 } else { IPV4 };
    let out;
    let mut protocol;
    if link.v6 {
        let ip = packet.view::<IPV6>(link.l3).ok_or(Reason::Ipv6Malformed)?;
        protocol = ip.u8::<6>();
        out = way_out(t, endpoint, target, IPV6 as u32 + u32::from(u16::from_be(ip.u16::<4>())));
        if let Err(NoWay::Narrow(mtu)) = out {
            too_big::leave(packet, link, mtu);
            return Err(Reason::TooBig);
        }
        if !LATER && protocol == IPV6_FRAGMENT {
            let header = packet.view::<FRAGMENT>(l4).ok_or(Reason::Ipv6Malformed)?;
            protocol = header.u8::<0>();
            l4 += FRAGMENT;
        }
        translate6(ip, endpoint, inbound, out.is_ok());
    } else {
        let ip = packet.view::<IPV4>(link.l3).ok_or(Reason::Ipv4Malformed)?;
        protocol = ip.u8::<9>();
        out = way_out(t, endpoint, target, u16::from_be(ip.u16::<2>()).into());
        if let Err(NoWay::Narrow(mtu)) = out
            && too_big::is_whole(ip)
        {
            too_big::leave(packet, link, mtu);
            return Err(Reason::TooBig);
        }
        translate4(ip, endpoint, inbound, out.is_ok());
    }
    if LATER {
        // Nothing but addresses.
    } else if protocol == PROTO_TCP {
        let tcp = packet.view::<TCP>(l4).ok_or(Reason::TcpMalformed)?;
        translate_tcp(tcp, endpoint, inbound);
    } else {
        let udp = packet.view::<UDP>(l4).ok_or(Reason::UdpMalformed)?;
        translate_udp(udp, endpoint, inbound);
    }
    match out {
        Ok(n) => {
            let action = link_layer(packet, link, n)?;
            Ok(Verdict { action, reason: target.reason })
        }
        Err(no_way) => {
            let reason = match no_way {
                NoWay::Narrow(_) => Reason::StackTooBig,
                NoWay::Unresolved if inbound => Reason::StackInbound,
                NoWay::Unresolved => Reason::StackOutbound,
            };
            Ok(Verdict { action: Action::Pass, reason })
        }
    }
}

/// The flag of endpoints whose packets in a direction are metered.
#[inline(always)]
pub(super) const fn metered(inbound: bool) -> u8 {
    if inbound { ENDPOINT_METERED_IN } else { ENDPOINT_METERED_OUT }
}

/// Takes a packet from its tenant's rates, or says which it exceeds.
#[inline(always)]
pub(super) fn take<P: Packet, T: Tables>(
    packet: &P,
    t: &T,
    link: &Link,
    tenant: u16,
    target: &Target,
) -> Result<(), Reason> {
    let bytes = if link.v6 {
        let ip = packet.view::<IPV6>(link.l3).ok_or(Reason::Ipv6Malformed)?;
        IPV6 as u32 + u32::from(u16::from_be(ip.u16::<4>()))
    } else {
        u16::from_be(packet.view::<IPV4>(link.l3).ok_or(Reason::Ipv4Malformed)?.u16::<2>()).into()
    };
    let is_established =
        matches!(target.reason, Reason::InEstablished | Reason::InById | Reason::OutEstablished);
    let out = if target.nexthop == NO_NEXTHOP { 0 } else { meter::OUT };
    let class = out | if is_established { 0 } else { meter::MINOR };
    match t.take_packet(tenant.into(), bytes.into(), class) {
        meter::NO_PACKETS => Err(Reason::RatePackets),
        meter::NO_BYTES => Err(Reason::RateBits),
        _ => Ok(()),
    }
}

/// What is done to few packets alone, before one with ports is translated: where a first fragment goes is noted, and TCP's largest
/// segment is lowered. Apart, because the stack is short.
#[inline(never)]
pub(super) fn prepare<P: Packet, T: Tables>(packet: &P, t: &T, l3: usize, v6: bool, endpoint: u32) {
    packet.apart(|packet| {
        let (l4, protocol, is_fragment);
        if v6 {
            let Some(ip) = packet.view::<IPV6>(l3) else { return };
            is_fragment = ip.u8::<6>() == IPV6_FRAGMENT;
            if is_fragment {
                let Some(header) = packet.view::<FRAGMENT>(l3 + IPV6) else { return };
                (l4, protocol) = (l3 + IPV6 + FRAGMENT, header.u8::<0>());
            } else {
                (l4, protocol) = (l3 + IPV6, ip.u8::<6>());
            }
        } else {
            let Some(ip) = packet.view::<IPV4>(l3) else { return };
            // More fragments: none of those that come here is a later one.
            is_fragment = ip.u8::<6>() & 0x20 != 0;
            (l4, protocol) = (l3 + IPV4, ip.u8::<9>());
        }
        if is_fragment {
            fragment::note(packet, t, l3, v6, endpoint);
        }
        if protocol == PROTO_TCP
            && let Some(e) = t.endpoint(endpoint)
            && e.mss != 0
        {
            mss::clamp(packet, l4, e.mss);
        }
    });
}

/// Why XDP cannot send a packet on.
#[derive(Clone, Copy)]
enum NoWay {
    /// Its next hop takes no more bytes than these.
    Narrow(u16),
    /// Its next hop is not known.
    Unresolved,
}

/// Where a packet of so many bytes goes, or why XDP cannot send it there. The stack lowers the TTL itself.
#[inline(always)]
fn way_out<'t, T: Tables>(
    t: &'t T,
    endpoint: &Endpoint,
    target: &Target,
    len: u32,
) -> Result<&'t NextHop, NoWay> {
    let inbound = target.nexthop == NO_NEXTHOP;
    let index = if inbound { endpoint.nexthop } else { target.nexthop };
    match resolved(t, index) {
        Some(n) => {
            let mtu = n.mtu.get();
            if len <= u32::from(mtu) { Ok(n) } else { Err(NoWay::Narrow(mtu)) }
        }
        None => Err(NoWay::Unresolved),
    }
}

/// A next hop that XDP can send to.
#[inline(always)]
pub(super) fn resolved<T: Tables>(t: &T, index: u32) -> Option<&NextHop> {
    t.nexthop(index).filter(|n| n.flags.get() & NEXTHOP_RESOLVED != 0)
}

/// Rewrites addresses, towards the backend or back from it, and the hop limit if XDP sends it on.
#[inline(always)]
pub(super) fn translate6(ip: impl View<IPV6>, e: &Endpoint, inbound: bool, hop: bool) {
    if inbound {
        set_address(ip.part::<24, 16>(), &e.backend);
    } else {
        set_address(ip.part::<8, 16>(), &e.vip);
    }
    if hop {
        ip.set_u8::<7>(ip.u8::<7>().wrapping_sub(1));
    }
}

/// Writes an IPv6 address.
#[inline(always)]
pub(super) fn set_address(v: impl View<16>, a: &Address) {
    v.set_u32::<0>(a.0[0]);
    v.set_u32::<4>(a.0[1]);
    v.set_u32::<8>(a.0[2]);
    v.set_u32::<12>(a.0[3]);
}

/// The same for IPv4, whose header has a checksum.
#[inline(always)]
pub(super) fn translate4(ip: impl View<IPV4>, e: &Endpoint, inbound: bool, hop: bool) {
    let mut delta = e.address_delta;
    if inbound {
        ip.set_u32::<16>(e.backend.0[3]);
    } else {
        ip.set_u32::<12>(e.vip.0[3]);
        delta = !delta;
    }
    if hop {
        // TTL is the upper byte of its word: minus 1 is plus its complement.
        delta = checksum::add(delta, !0x0100_u16.to_be());
        ip.set_u8::<8>(ip.u8::<8>().wrapping_sub(1));
    }
    ip.set_u16::<10>(checksum::update(ip.u16::<10>(), delta));
}

/// Rewrites the backend's port and the checksum, which covers the addresses, too.
#[inline(always)]
pub(super) fn translate_tcp(tcp: impl View<TCP>, e: &Endpoint, inbound: bool) {
    let mut delta = e.transport_delta;
    if inbound {
        tcp.set_u16::<2>(e.backend_port);
    } else {
        tcp.set_u16::<0>(e.vip_port);
        delta = !delta;
    }
    tcp.set_u16::<16>(checksum::update(tcp.u16::<16>(), delta));
}

/// The same of UDP.
#[inline(always)]
pub(super) fn translate_udp(udp: impl View<UDP>, e: &Endpoint, inbound: bool) {
    let mut delta = e.transport_delta;
    if inbound {
        udp.set_u16::<2>(e.backend_port);
    } else {
        udp.set_u16::<0>(e.vip_port);
        delta = !delta;
    }
    udp.set_u16::<6>(checksum::update_udp(udp.u16::<6>(), delta));
}

/// Writes the Ethernet header and tag that the next hop wants.
#[inline(always)]
pub(super) fn link_layer<P: Packet>(
    packet: &mut P,
    link: &Link,
    n: &NextHop,
) -> Result<Action, Reason> {
    let kind = if link.v6 { ETHERTYPE_IPV6 } else { ETHERTYPE_IPV4 };
    let vlan = n.vlan_protocol.get();
    let wanted = if vlan == 0 { ETHERNET } else { ETHERNET + VLAN_TAG };
    if link.l3 != wanted {
        packet.adjust_head(link.l3 as i32 - wanted as i32).ok_or(Reason::HeadRoom)?;
    }
    let h = packet.view::<ETHERNET>(0).ok_or(Reason::EthernetTruncated)?;
    addresses(h, n);
    if vlan == 0 {
        h.set_u16::<12>(kind);
    } else {
        h.set_u16::<12>(vlan);
        let tag = packet.view::<VLAN_TAG>(ETHERNET).ok_or(Reason::EthernetTruncated)?;
        tag.set_u16::<0>(n.vlan_tci.get());
        tag.set_u16::<2>(kind);
    }
    Ok(action(packet, n))
}

/// Writes the link layer's addresses.
#[inline(always)]
pub(super) fn addresses(h: impl View<ETHERNET>, n: &NextHop) {
    h.set_u32::<0>(n.dst_mac_high.get());
    h.set_u16::<4>(n.dst_mac_low.get());
    h.set_u16::<6>(n.src_mac_high.get());
    h.set_u32::<8>(n.src_mac_low.get());
}

/// How a frame leaves.
#[inline(always)]
pub(super) fn action<P: Packet>(packet: &P, n: &NextHop) -> Action {
    let to = n.ifindex.get();
    if to == packet.ingress() { Action::Transmit } else { Action::Redirect(to) }
}
