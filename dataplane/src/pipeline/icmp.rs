//! ICMP errors about packets of sessions: path MTU discovery, unreachable, expired.
//!
//! An error carries the beginning of the packet that it is about, and by that it is matched: to a client's
//! session if that packet came from a listener, to an endpoint if it went to one. Outside and inside it is translated as
//! that packet was, so that who sent it knows it again (RFC 5508, 7). Sources inside are hidden behind the VIP.
//! Other ICMP is the host's.
//!
//! What is about packets that were not translated is for [`super::icmp_direct`]: that is told by [`Reason::InDirect`].

use super::forward::{link_layer, resolved, set_address};
use super::{Action, Verdict, key};
use crate::abi::{
    Address, Directory, ENDPOINT_LIVE, Endpoint, KIND_ENDPOINT, KIND_LISTENER, KIND_TUNNEL,
    KIND_VIP,
};
use crate::checksum::{self, change, change16};
use crate::header::{FRAGMENT, IPV4, IPV6, IPV6_FRAGMENT, Link, PROTO_TCP, PROTO_UDP};
use crate::packet::{Packet, View};
use crate::reason::Reason;
use crate::table::hash::{self, Flow};
use crate::table::{Tables, budget, directory};

/// Bytes of an ICMP header, and of the inner transport header that every error has (RFC 792).
pub(super) const HEADER: usize = 8;
/// Where the packet inside begins, and its transport header.
const INNER4: usize = IPV4 + HEADER;
const INNER6: usize = IPV6 + HEADER;
const TRANSPORT4: usize = INNER4 + IPV4;
const TRANSPORT6: usize = INNER6 + IPV6;
/// Bytes of an error that are looked at.
pub(super) const ERROR4: usize = TRANSPORT4 + HEADER;
pub(super) const ERROR6: usize = TRANSPORT6 + HEADER;

/// Decides on an ICMP message, of a packet without options and not a fragment, if it is an error about a packet of a
/// service; `None` leaves it as it is.
#[inline(always)]
pub(super) fn run<P: Packet, T: Tables>(
    packet: &mut P,
    t: &T,
    link: &Link,
) -> Option<Result<Verdict, Reason>> {
    let translated = if link.v6 { six(packet, t, link.l3) } else { four(packet, t, link.l3) };
    let nexthop = match translated {
        Ok(nexthop) => nexthop,
        Err(Reason::NotOurs) => return None,
        Err(reason) => return Some(Err(reason)),
    };
    let Some(n) = resolved(t, nexthop) else {
        // Without the hop: the stack lowers the TTL itself.
        return Some(Ok(Verdict { action: Action::Pass, reason: Reason::StackIcmp }));
    };
    let leaves = |action| Verdict { action, reason: Reason::IcmpError };
    Some(link_layer(packet, link, n).map(leaves))
}

/// The packet inside. Of a protocol without ports they are 0.
pub(super) struct Inner {
    pub(super) source: Address,
    pub(super) destination: Address,
    pub(super) source_port: u16,
    pub(super) destination_port: u16,
    pub(super) protocol: u8,
}

impl Inner {
    #[inline(always)]
    fn new([source, destination]: [Address; 2], protocol: u8, l4: impl View<HEADER>) -> Self {
        let has_ports = protocol == PROTO_UDP || protocol == PROTO_TCP;
        let port = |port| if has_ports { port } else { 0 };
        let (source_port, destination_port) = (port(l4.u16::<0>()), port(l4.u16::<2>()));
        Self { source, destination, source_port, destination_port, protocol }
    }
}

/// The packet inside of an error over IPv4: without options, and no fragment but a first one.
#[inline(always)]
pub(super) fn inner4(v: impl View<ERROR4>) -> Option<Inner> {
    // Unreachable (fragmentation needed among it), time exceeded, parameter problem.
    if !matches!(v.u8::<IPV4>(), 3 | 11 | 12)
        || usize::from(u16::from_be(v.u16::<2>())) < ERROR4
        || v.u8::<INNER4>() != 0x45
        || v.u16::<{ INNER4 + 6 }>() & 0x1fff_u16.to_be() != 0
    {
        return None;
    }
    let addresses =
        [Address::v4(v.u32::<{ INNER4 + 12 }>()), Address::v4(v.u32::<{ INNER4 + 16 }>())];
    Some(Inner::new(addresses, v.u8::<{ INNER4 + 9 }>(), v.part::<TRANSPORT4, HEADER>()))
}

/// The transport header of the packet inside of an error over IPv6, which has no extension header but a first fragment's: the
/// protocol, and where it is.
#[inline(always)]
fn transport6<P: Packet>(packet: &P, v: impl View<ERROR6>, l3: usize) -> Option<(u8, usize)> {
    let next = v.u8::<{ INNER6 + 6 }>();
    if next != IPV6_FRAGMENT {
        return Some((next, l3 + TRANSPORT6));
    }
    let fragment = packet.view::<FRAGMENT>(l3 + TRANSPORT6)?;
    let is_first = fragment.u16::<2>() & 0xfff8_u16.to_be() == 0;
    let is_there = usize::from(u16::from_be(v.u16::<4>())) >= ERROR6 - IPV6 + FRAGMENT;
    (is_first && is_there).then_some((fragment.u8::<0>(), l3 + TRANSPORT6 + FRAGMENT))
}

/// The same over IPv6, with where the transport header is.
#[inline(always)]
pub(super) fn inner6<P: Packet>(packet: &P, l3: usize) -> Option<(Inner, usize)> {
    let v = packet.view::<ERROR6>(l3)?;
    // Unreachable, packet too big, time exceeded, parameter problem.
    if !matches!(v.u8::<IPV6>(), 1..=4)
        || usize::from(u16::from_be(v.u16::<4>())) < ERROR6 - IPV6
        || v.u8::<INNER6>() & 0xf0 != 0x60
    {
        return None;
    }
    let addresses = [
        Address::from_halves([v.u64::<{ INNER6 + 8 }>(), v.u64::<{ INNER6 + 16 }>()]),
        Address::from_halves([v.u64::<{ INNER6 + 24 }>(), v.u64::<{ INNER6 + 32 }>()]),
    ];
    let (protocol, at) = transport6(packet, v, l3)?;
    Some((Inner::new(addresses, protocol, packet.view::<HEADER>(at)?), at))
}

/// True if what has such a source comes from a backend that answers by itself. ESP has no ports: its address is enough.
#[inline(always)]
pub(super) const fn is_direct(d: &Directory) -> bool {
    (d.kind == KIND_LISTENER || d.kind == KIND_VIP) && d.is_direct()
}

/// Whose error it is, and where it goes: the endpoint, true for inbound, the next hop. The outer addresses are
/// read when they are wanted, because the stack is short.
#[inline(always)]
fn find<'t, T: Tables>(
    t: &'t T,
    from: impl Fn() -> Address,
    to: impl Fn() -> Address,
    inner: &Inner,
) -> Result<(&'t Endpoint, bool, u32), Reason> {
    // Who is told is who sent it.
    if to().halves() != inner.source.halves() {
        return Err(Reason::NotOurs);
    }
    let s = t.settings().ok_or(Reason::NotOurs)?;
    let d = directory::find(t, s, &key(inner.source, inner.source_port, inner.protocol));
    if is_direct(&d) {
        return Err(Reason::InDirect);
    }
    if d.kind == KIND_LISTENER {
        // Anybody may send one: as any packet without a session.
        if !budget::take(t, s, &from(), t.now()) {
            return Err(Reason::SourceBudget);
        }
        let flow =
            Flow { client: inner.destination, port: inner.destination_port, service: d.service };
        let slot =
            t.session::<false>(s, &flow, hash::flow(s, &flow)).slot.ok_or(Reason::NotOurs)?;
        let index = d.endpoint_like(slot.endpoint.get().into());
        let endpoint = t.endpoint(index).ok_or(Reason::NotOurs)?;
        if endpoint.flags & ENDPOINT_LIVE == 0 {
            return Err(Reason::NotOurs);
        }
        return Ok((endpoint, true, endpoint.nexthop));
    }
    let d = directory::find(t, s, &key(inner.destination, inner.destination_port, inner.protocol));
    if d.kind != KIND_ENDPOINT {
        return Err(if d.kind == KIND_TUNNEL { Reason::InDirect } else { Reason::NotOurs });
    }
    let endpoint = t.endpoint(d.index).ok_or(Reason::NotOurs)?;
    Ok((endpoint, false, t.route(&to()).ok_or(Reason::NotOurs)?))
}

/// Translates the transport header of the packet inside, of which the first eight bytes are there: what changes in the
/// sum over the message.
#[inline(always)]
fn translate(l4: impl View<HEADER>, protocol: u8, e: &Endpoint, inbound: bool) -> u32 {
    let mut delta = e.transport_delta;
    let mut sum;
    if inbound {
        sum = change16(l4.u16::<0>(), e.backend_port);
        l4.set_u16::<0>(e.backend_port);
    } else {
        delta = !delta;
        sum = change16(l4.u16::<2>(), e.vip_port);
        l4.set_u16::<2>(e.vip_port);
    }
    // TCP's checksum lies behind.
    if protocol == PROTO_UDP {
        let old = l4.u16::<6>();
        let new = checksum::update_udp(old, delta);
        l4.set_u16::<6>(new);
        sum += change16(old, new);
    }
    sum
}

/// Writes the message's checksum after such changes.
#[inline(always)]
fn finish(icmp: impl View<HEADER>, sum: u32) {
    icmp.set_u16::<2>(checksum::update(icmp.u16::<2>(), checksum::fold(sum.into())));
}

/// An ICMP error (RFC 792) over IPv4: the next hop, when it is translated.
#[inline(always)]
fn four<P: Packet, T: Tables>(packet: &P, t: &T, l3: usize) -> Result<u32, Reason> {
    const INNER: usize = INNER4;
    let v = packet.view::<ERROR4>(l3).ok_or(Reason::NotOurs)?;
    let inner = inner4(v).ok_or(Reason::NotOurs)?;
    let (from, to) = (|| Address::v4(v.u32::<12>()), || Address::v4(v.u32::<16>()));
    let (e, inbound, nexthop) = find(t, from, to, &inner)?;
    if v.u8::<8>() <= 1 {
        return Err(Reason::TtlExpired);
    }
    let mut delta = e.address_delta;
    let mut sum;
    let mut outer;
    if inbound {
        let (old, new) = (v.u32::<16>(), e.backend.0[3]);
        outer = change(old, new);
        sum = outer;
        v.set_u32::<16>(new);
        v.set_u32::<{ INNER + 12 }>(new);
    } else {
        delta = !delta;
        let new = e.vip.0[3];
        outer = change(v.u32::<12>(), new);
        sum = change(v.u32::<{ INNER + 16 }>(), new);
        v.set_u32::<12>(new);
        v.set_u32::<{ INNER + 16 }>(new);
    }
    if resolved(t, nexthop).is_some() {
        v.set_u8::<8>(v.u8::<8>().wrapping_sub(1));
        outer += u32::from(!0x0100_u16.to_be());
    }
    v.set_u16::<10>(checksum::update(v.u16::<10>(), checksum::fold(outer.into())));
    let old = v.u16::<{ INNER + 10 }>();
    let new = checksum::update(old, delta);
    v.set_u16::<{ INNER + 10 }>(new);
    sum += change16(old, new);
    sum += translate(v.part::<TRANSPORT4, HEADER>(), v.u8::<{ INNER + 9 }>(), e, inbound);
    finish(v.part::<IPV4, HEADER>(), sum);
    Ok(nexthop)
}

/// The same over IPv6 (RFC 4443), whose headers have no sums, and ICMP's is over the addresses, too.
#[inline(always)]
fn six<P: Packet, T: Tables>(packet: &P, t: &T, l3: usize) -> Result<u32, Reason> {
    const INNER: usize = INNER6;
    let v = packet.view::<ERROR6>(l3).ok_or(Reason::NotOurs)?;
    let (inner, l4) = inner6(packet, l3).ok_or(Reason::NotOurs)?;
    let from = || Address::from_halves([v.u64::<8>(), v.u64::<16>()]);
    let to = || Address::from_halves([v.u64::<24>(), v.u64::<32>()]);
    let (e, inbound, nexthop) = find(t, from, to, &inner)?;
    if v.u8::<7>() <= 1 {
        return Err(Reason::TtlExpired);
    }
    let mut sum;
    if inbound {
        // Outside and inside it is the same address.
        sum = 2 * address_change(v.part::<24, 16>(), &e.backend);
        set_address(v.part::<24, 16>(), &e.backend);
        set_address(v.part::<{ INNER + 8 }, 16>(), &e.backend);
    } else {
        sum = address_change(v.part::<8, 16>(), &e.vip)
            + address_change(v.part::<{ INNER + 24 }, 16>(), &e.vip);
        set_address(v.part::<8, 16>(), &e.vip);
        set_address(v.part::<{ INNER + 24 }, 16>(), &e.vip);
    }
    if resolved(t, nexthop).is_some() {
        v.set_u8::<7>(v.u8::<7>().wrapping_sub(1));
    }
    let l4 = packet.view::<HEADER>(l4).ok_or(Reason::NotOurs)?;
    sum += translate(l4, inner.protocol, e, inbound);
    finish(v.part::<IPV6, HEADER>(), sum);
    Ok(nexthop)
}

#[inline(always)]
fn address_change(old: impl View<16>, new: &Address) -> u32 {
    change(old.u32::<0>(), new.0[0])
        + change(old.u32::<4>(), new.0[1])
        + change(old.u32::<8>(), new.0[2])
        + change(old.u32::<12>(), new.0[3])
}
