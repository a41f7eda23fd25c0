//! The translation, and the way out of the gateway.

use super::{Action, Target, Verdict};
use crate::abi::{ENDPOINT_LIVE, Endpoint, NEXTHOP_RESOLVED, NO_NEXTHOP, NextHop};
use crate::checksum;
use crate::header::{ETHERNET, ETHERTYPE_IPV4, ETHERTYPE_IPV6, IPV4, IPV6, Link, UDP, VLAN_TAG};
use crate::packet::{Packet, View};
use crate::reason::Reason;
use crate::table::Tables;

/// Translates the packet, of `len` bytes from its IP header on, and sends it towards the endpoint, or, if the target
/// names a next hop, from the endpoint towards the client.
#[inline(always)]
pub(super) fn run<P: Packet, T: Tables>(
    packet: &mut P,
    t: &T,
    link: &Link,
    len: u32,
    target: &Target,
) -> Result<Verdict, Reason> {
    let endpoint = t.endpoint(target.endpoint).ok_or(Reason::BadTable)?;
    let inbound = target.nexthop == NO_NEXTHOP;
    if inbound && endpoint.flags & ENDPOINT_LIVE == 0 {
        return Err(Reason::BackendDown);
    }
    let index = if inbound { endpoint.nexthop } else { target.nexthop };
    let out = match resolved(t, index) {
        Some(n) if len <= u32::from(n.mtu.get()) => Ok(n),
        Some(_) => Err(Reason::StackTooBig),
        None if inbound => Err(Reason::StackInbound),
        None => Err(Reason::StackOutbound),
    };
    // The stack lowers the TTL itself.
    let l4 = link.l3 + if link.v6 { IPV6 } else { IPV4 };
    let udp = packet.view::<UDP>(l4).ok_or(Reason::UdpMalformed)?;
    if link.v6 {
        let ip = packet.view::<IPV6>(link.l3).ok_or(Reason::Ipv6Malformed)?;
        translate6(ip, udp, endpoint, inbound, out.is_ok());
    } else {
        let ip = packet.view::<IPV4>(link.l3).ok_or(Reason::Ipv4Malformed)?;
        translate4(ip, udp, endpoint, inbound, out.is_ok());
    }
    match out {
        Ok(n) => {
            let action = link_layer(packet, link, n)?;
            Ok(Verdict { action, reason: target.reason })
        }
        Err(reason) => Ok(Verdict { action: Action::Pass, reason }),
    }
}

/// A next hop that XDP can send to.
#[inline(always)]
pub(super) fn resolved<T: Tables>(t: &T, index: u32) -> Option<&NextHop> {
    t.nexthop(index).filter(|n| n.flags.get() & NEXTHOP_RESOLVED != 0)
}

/// Rewrites addresses, ports and checksums, towards the backend or back from it, and the hop
/// limit if XDP sends it on.
#[inline(always)]
pub(super) fn translate6(
    ip: impl View<IPV6>,
    udp: impl View<UDP>,
    e: &Endpoint,
    inbound: bool,
    hop: bool,
) {
    let a = if inbound { e.backend.0 } else { e.vip.0 };
    if inbound {
        ip.set_u32::<24>(a[0]);
        ip.set_u32::<28>(a[1]);
        ip.set_u32::<32>(a[2]);
        ip.set_u32::<36>(a[3]);
    } else {
        ip.set_u32::<8>(a[0]);
        ip.set_u32::<12>(a[1]);
        ip.set_u32::<16>(a[2]);
        ip.set_u32::<20>(a[3]);
    }
    if hop {
        ip.set_u8::<7>(ip.u8::<7>().wrapping_sub(1));
    }
    translate_udp(udp, e, inbound);
}

/// The same for IPv4, whose header has a checksum.
#[inline(always)]
pub(super) fn translate4(
    ip: impl View<IPV4>,
    udp: impl View<UDP>,
    e: &Endpoint,
    inbound: bool,
    hop: bool,
) {
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
    translate_udp(udp, e, inbound);
}

#[inline(always)]
fn translate_udp(udp: impl View<UDP>, e: &Endpoint, inbound: bool) {
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
