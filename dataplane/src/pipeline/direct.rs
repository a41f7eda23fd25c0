//! To a backend that answers its clients by itself (direct server return): the packet stays as its client sent it, to
//! the VIP, which the backend has, too. Either its frame goes to the backend, or it goes inside of another packet.
//!
//! Nothing is left to the kernel's stack: the VIP is the host's own, and so would the packet be.

use super::forward::{self, link_layer, metered, resolved, set_address, take};
use super::{Target, Verdict, too_big};
use crate::abi::{Address, ENDPOINT_LIVE, Encapsulation, Endpoint};
use crate::checksum::{fold, update};
use crate::header::{IPV4, IPV6, Link, PROTO_IPV4, PROTO_IPV6, PROTO_UDP, UDP};
use crate::packet::{Packet, View};
use crate::reason::Reason;
use crate::table::{Tables, hash};

/// TTL of the outer packet.
const TTL: u8 = 64;

/// Bytes of the headers before a packet in a tunnel to the endpoint; 0 where there is none.
#[inline(always)]
pub(super) fn overhead(e: &Endpoint) -> usize {
    let ip = if e.backend.is_v4() { IPV4 } else { IPV6 };
    match e.encapsulation {
        IPIP => ip,
        GUE => ip + UDP,
        _ => 0,
    }
}

const IPIP: u8 = Encapsulation::IpIp as u8;
const GUE: u8 = Encapsulation::Gue as u8;

/// Sends a packet to the target's endpoint. Where a first fragment goes is noted; a later one (`LATER`), and an ICMP error, has
/// no transport header. `spread` is a number of the flow's, by which tunnels of different flows go different ways.
#[inline(always)]
pub(super) fn send<const LATER: bool, P: Packet, T: Tables>(
    packet: &mut P,
    t: &T,
    link: &Link,
    target: &Target,
    spread: u32,
) -> Result<Verdict, Reason> {
    let e = t.endpoint(target.endpoint).ok_or(Reason::BadTable)?;
    if e.flags & ENDPOINT_LIVE == 0 {
        return Err(Reason::BackendDown);
    }
    if e.flags & metered(true) != 0 {
        take(packet, t, link, e.tenant, target)?;
    }
    let n = resolved(t, e.nexthop).ok_or(Reason::Unresolved)?;
    let most = u32::from(n.mtu.get()).saturating_sub(overhead(e) as u32);
    let (len, class);
    if link.v6 {
        let ip = packet.view::<IPV6>(link.l3).ok_or(Reason::Ipv6Malformed)?;
        len = IPV6 as u32 + u32::from(u16::from_be(ip.u16::<4>()));
        class = (u16::from_be(ip.u16::<0>()) >> 4) as u8;
    } else {
        let ip = packet.view::<IPV4>(link.l3).ok_or(Reason::Ipv4Malformed)?;
        len = u16::from_be(ip.u16::<2>()).into();
        class = ip.u8::<1>();
    }
    if len > most {
        too_big::leave(packet, link, most as u16);
        return Err(Reason::TooBig);
    }
    if !LATER {
        forward::prepare(packet, t, link.l3, link.v6, target.endpoint);
    }
    hop(packet, link)?;
    let mut outer = Link { l3: link.l3, v6: link.v6 };
    if e.encapsulation == IPIP || e.encapsulation == GUE {
        outer.v6 = !e.backend.is_v4();
        packet.adjust_head(-(overhead(e) as i32)).ok_or(Reason::HeadRoom)?;
        wrap(packet, t, &outer, e, &Inner { v6: link.v6, len, class, spread })?;
    }
    let action = link_layer(packet, &outer, n)?;
    Ok(Verdict { action, reason: target.reason })
}

/// A router lowers the TTL.
#[inline(always)]
fn hop<P: Packet>(packet: &P, link: &Link) -> Result<(), Reason> {
    if link.v6 {
        let ip = packet.view::<IPV6>(link.l3).ok_or(Reason::Ipv6Malformed)?;
        ip.set_u8::<7>(ip.u8::<7>().wrapping_sub(1));
    } else {
        let ip = packet.view::<IPV4>(link.l3).ok_or(Reason::Ipv4Malformed)?;
        ip.set_u8::<8>(ip.u8::<8>().wrapping_sub(1));
        ip.set_u16::<10>(update(ip.u16::<10>(), !0x0100_u16.to_be()));
    }
    Ok(())
}

/// A number that tells flows apart, of fragments their addresses: those have no port.
#[inline(always)]
pub(super) fn spread(client: &Address, port: u16) -> u32 {
    hash::placement(client, 0, port) as u32
}

/// What an outer header says of the packet behind it.
struct Inner {
    v6: bool,
    /// Bytes of it.
    len: u32,
    /// Type of service or traffic class, with the bits of ECN (RFC 6040, 4.1).
    class: u8,
    spread: u32,
}

const fn word(bytes: [u8; 4]) -> u32 {
    u32::from_ne_bytes(bytes)
}

/// Writes the outer headers.
#[inline(always)]
fn wrap<P: Packet, T: Tables>(
    packet: &P,
    t: &T,
    outer: &Link,
    e: &Endpoint,
    inner: &Inner,
) -> Result<(), Reason> {
    let source = t.source(e.source.into()).ok_or(Reason::BadTable)?;
    let is_gue = e.encapsulation == GUE;
    let protocol = match inner.v6 {
        _ if is_gue => PROTO_UDP,
        true => PROTO_IPV6,
        false => PROTO_IPV4,
    };
    let payload = inner.len + if is_gue { UDP as u32 } else { 0 };
    if outer.v6 {
        // There is at least as much of the inner packet.
        let v = packet.view::<{ IPV6 + UDP }>(outer.l3).ok_or(Reason::BadTable)?;
        // The flow label tells flows apart where there are no ports (RFC 6438).
        let first = 0x6000_0000 | u32::from(inner.class) << 20 | inner.spread & 0xf_ffff;
        let [high, low] = (payload as u16).to_be_bytes();
        v.set_u32::<0>(first.to_be());
        v.set_u32::<4>(word([high, low, protocol, TTL]));
        set_address(v.part::<8, 16>(), &source);
        set_address(v.part::<24, 16>(), &e.backend);
        if is_gue {
            datagram(v.part::<IPV6, UDP>(), e.backend_port, payload, inner.spread);
        }
    } else {
        let v = packet.view::<{ IPV4 + UDP }>(outer.l3).ok_or(Reason::BadTable)?;
        let [high, low] = ((IPV4 as u32 + payload) as u16).to_be_bytes();
        let words = [
            word([0x45, inner.class, high, low]),
            // Not to be fragmented: what does not fit, its sender is told. And so it needs no identification (RFC 6864, 4.1).
            word([0, 0, 0x40, 0]),
            word([TTL, protocol, 0, 0]),
            source.0[3],
            e.backend.0[3],
        ];
        let sum: u64 = words.iter().map(|word| u64::from(*word)).sum();
        v.set_u32::<0>(words[0]);
        v.set_u32::<4>(words[1]);
        v.set_u32::<8>(words[2]);
        v.set_u32::<12>(words[3]);
        v.set_u32::<16>(words[4]);
        v.set_u16::<10>(!fold(sum));
        if is_gue {
            datagram(v.part::<IPV4, UDP>(), e.backend_port, payload, inner.spread);
        }
    }
    Ok(())
}

/// The header of a datagram without a checksum, which a tunnel may do without (RFC 6935): what is inside has its own.
#[inline(always)]
fn datagram(v: impl View<UDP>, to: u16, len: u32, spread: u32) {
    // One of the dynamic ports (RFC 6335, 6).
    let [high, low] = (0xc000 | (spread >> 16) as u16).to_be_bytes();
    let [to_high, to_low] = to.to_ne_bytes();
    let [len_high, len_low] = (len as u16).to_be_bytes();
    v.set_u32::<0>(word([high, low, to_high, to_low]));
    v.set_u32::<4>(word([len_high, len_low, 0, 0]));
}
