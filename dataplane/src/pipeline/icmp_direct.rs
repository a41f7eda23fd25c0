//! ICMP errors where backends answer their clients by themselves: about an answer, which the gateway has not seen; and about a
//! packet on its way through a tunnel, which its client does not know.

use super::icmp::{ERROR4, ERROR6, HEADER, Inner, inner4, inner6, is_direct};
use super::{Target, Verdict, direct, forward, inbound, key, too_big};
use crate::abi::{Address, KIND_TUNNEL, KIND_VIP, NO_NEXTHOP, Settings};
use crate::header::{FRAGMENT, IPV4, IPV6, IPV6_FRAGMENT, Link, PROTO_ESP, PROTO_TCP, PROTO_UDP};
use crate::packet::{Packet, View};
use crate::reason::Reason;
use crate::table::hash::{self, Flow};
use crate::table::{Tables, budget, directory};

/// Decides on an error that [`super::icmp`] says is of this kind.
#[inline(always)]
pub(super) fn run<P: Packet, T: Tables>(
    packet: &mut P,
    t: &T,
    link: &Link,
) -> Result<Verdict, Reason> {
    let s = t.settings().ok_or(Reason::BadTable)?;
    let (from, ttl, inner) = if link.v6 {
        let ip = packet.view::<ERROR6>(link.l3).ok_or(Reason::NotOurs)?;
        let (inner, _) = inner6(packet, link.l3).ok_or(Reason::NotOurs)?;
        (Address::from_halves([ip.u64::<8>(), ip.u64::<16>()]), ip.u8::<7>(), inner)
    } else {
        let ip = packet.view::<ERROR4>(link.l3).ok_or(Reason::NotOurs)?;
        let inner = inner4(ip).ok_or(Reason::NotOurs)?;
        (Address::v4(ip.u32::<12>()), ip.u8::<8>(), inner)
    };
    if !budget::take(t, s, &from, t.now()) {
        return Err(Reason::SourceBudget);
    }
    if ttl <= 1 {
        return Err(Reason::TtlExpired);
    }
    let d = directory::find(t, s, &key(inner.source, inner.source_port, inner.protocol));
    if !is_direct(&d) {
        return about_tunneled(packet, t, s, link, &inner);
    }
    // To where its client's packets go.
    let (client, port) = (inner.destination, inner.destination_port);
    let flow = Flow { client, port, service: d.service };
    let endpoint = match t.session::<false>(s, &flow, hash::flow(s, &flow)).slot {
        Some(slot) => d.endpoint_like(slot.endpoint.get().into()),
        None => inbound::place(t, s, &d, &client, if d.is_by_flow() { port } else { 0 })?,
    };
    let target = Target { endpoint, nexthop: NO_NEXTHOP, reason: Reason::IcmpError };
    direct::send::<true, _, _>(packet, t, link, &target, direct::spread(&client, 0))
}

/// A router says that the outer packet is too big for what comes behind it: the inner one's client is told how much less
/// would do. The error has enough of the inner packet, unless the router quotes less than it should (RFC 1812, 4.3.2.3).
#[inline(always)]
fn about_tunneled<P: Packet, T: Tables>(
    packet: &mut P,
    t: &T,
    s: &Settings,
    link: &Link,
    outer: &Inner,
) -> Result<Verdict, Reason> {
    let tunnel =
        directory::find(t, s, &key(outer.destination, outer.destination_port, outer.protocol));
    let e = t.endpoint(tunnel.index).ok_or(Reason::NotOurs)?;
    let source = t.source(e.source.into()).ok_or(Reason::NotOurs)?;
    if tunnel.kind != KIND_TUNNEL || source.halves() != outer.source.halves() {
        return Err(Reason::NotOurs);
    }
    let (mtu, header);
    if link.v6 {
        let icmp = packet.view::<HEADER>(link.l3 + IPV6).ok_or(Reason::NotOurs)?;
        mtu = if icmp.u8::<0>() == 2 { u32::from_be(icmp.u32::<4>()) } else { 0 };
        header = IPV6 + HEADER;
    } else {
        let icmp = packet.view::<HEADER>(link.l3 + IPV4).ok_or(Reason::NotOurs)?;
        let is_too_big = icmp.u16::<0>() == u16::from_ne_bytes([3, 4]);
        mtu = if is_too_big { u16::from_be(icmp.u16::<6>()).into() } else { 0 };
        header = IPV4 + HEADER;
    }
    let overhead = direct::overhead(e);
    if mtu <= overhead as u32 || mtu > u32::from(u16::MAX) {
        return Err(Reason::NotOurs);
    }
    let (at, client, vip, protocol);
    at = link.l3 + header + overhead;
    let v6 = packet.view::<1>(at).ok_or(Reason::NotOurs)?.u8::<0>() >> 4 == 6;
    if v6 {
        let ip = packet.view::<{ IPV6 + FRAGMENT }>(at).ok_or(Reason::NotOurs)?;
        client = Address::from_halves([ip.u64::<8>(), ip.u64::<16>()]);
        vip = Address::from_halves([ip.u64::<24>(), ip.u64::<32>()]);
        let next = ip.u8::<6>();
        protocol = if next == IPV6_FRAGMENT { ip.u8::<IPV6>() } else { next };
    } else {
        let ip = packet.view::<IPV4>(at).ok_or(Reason::NotOurs)?;
        (client, vip) = (Address::v4(ip.u32::<12>()), Address::v4(ip.u32::<16>()));
        protocol = if ip.u8::<0>() == 0x45 { ip.u8::<9>() } else { 0 };
    }
    // Anybody may have made it up: only clients of a service are told anything, in the service's name.
    if !matches!(protocol, PROTO_UDP | PROTO_TCP | PROTO_ESP)
        || directory::find(t, s, &key(vip, 0, protocol)).kind != KIND_VIP
    {
        return Err(Reason::NotOurs);
    }
    let n = t.route(&client).and_then(|index| forward::resolved(t, index));
    let n = n.ok_or(Reason::NoRoute)?;
    packet.adjust_head((header + overhead) as i32).ok_or(Reason::HeadRoom)?;
    let link = &Link { l3: link.l3, v6 };
    too_big::leave(packet, link, (mtu - overhead as u32) as u16);
    let end = too_big::become_error(packet, t, link)?;
    packet.cut(end).ok_or(Reason::TooBig)?;
    let action = forward::link_layer(packet, link, n)?;
    Ok(Verdict { action, reason: Reason::IcmpError })
}
