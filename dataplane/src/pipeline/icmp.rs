//! ICMP errors about packets of sessions: path MTU discovery, unreachable, expired.
//!
//! An error carries the beginning of the packet that it is about, and by that it is matched: to a client's
//! session if that packet came from a listener, to an endpoint if it went to one. Outside and inside it is translated as
//! that packet was, so that who sent it knows it again (RFC 5508, 7). Sources inside are hidden behind the VIP.
//! Other ICMP is the host's.

use super::forward::{link_layer, resolved};
use super::{Action, Verdict, key};
use crate::abi::{Address, ENDPOINT_LIVE, Endpoint, KIND_ENDPOINT, KIND_LISTENER};
use crate::checksum;
use crate::header::{self, IPV4, IPV6, Link, PROTO_TCP, PROTO_UDP};
use crate::packet::{Packet, View};
use crate::reason::Reason;
use crate::table::hash::{self, Flow};
use crate::table::{Tables, budget, directory};

/// IP protocol numbers.
const ICMP: u8 = 1;
const ICMP6: u8 = 58;
/// Bytes of an ICMP header, and of the inner transport header that every error has (RFC 792).
const HEADER: usize = 8;

/// What becomes of a packet, as the lower byte of a number; of [`REDIRECTED`] the interface is above 16 bits.
const NOT_OURS: u8 = 0;
const EXPIRED: u8 = 1;
const NO_ROOM: u8 = 2;
const PASSED: u8 = 3;
const TRANSMITTED: u8 = 4;
const REDIRECTED: u8 = 5;

/// Decides on an ICMP error about a packet of a service; `None` leaves any other packet as it is. The end is the caller's
/// to count.
#[inline(always)]
pub(super) fn run<P: Packet, T: Tables>(packet: &mut P, t: &T) -> Option<Verdict> {
    let link = header::link(packet).ok()?;
    let is_icmp = if link.v6 {
        packet.view::<IPV6>(link.l3)?.u8::<6>() == ICMP6
    } else {
        packet.view::<IPV4>(link.l3)?.u8::<9>() == ICMP
    };
    if !is_icmp {
        return None;
    }
    let said = packet.icmp_error(t, link.l3, link.v6);
    if said as u8 == NOT_OURS {
        return None;
    }
    let (action, reason) = match said as u8 {
        EXPIRED => (Action::Drop, Reason::TtlExpired),
        NO_ROOM => (Action::Drop, Reason::HeadRoom),
        PASSED => (Action::Pass, Reason::StackIcmp),
        TRANSMITTED => (Action::Transmit, Reason::IcmpError),
        _ => (Action::Redirect((said >> 16) as u32), Reason::IcmpError),
    };
    Some(Verdict { action, reason })
}

/// The body of [`run`], apart because the stack is short: what became of the packet as a number.
#[inline(always)]
pub fn apart<P: Packet, T: Tables>(packet: &mut P, t: &T, l3: usize, v6: bool) -> u64 {
    let done = if v6 { six(packet, t, l3) } else { four(packet, t, l3) };
    let end = match done {
        None => NOT_OURS,
        Some(Err(_)) => EXPIRED,
        Some(Ok(nexthop)) => match resolved(t, nexthop) {
            // Translated, without the hop.
            None => PASSED,
            Some(n) => match link_layer(packet, &Link { l3, v6 }, n) {
                Ok(Action::Redirect(interface)) => {
                    return u64::from(interface) << 16 | u64::from(REDIRECTED);
                }
                Ok(_) => TRANSMITTED,
                Err(_) => NO_ROOM,
            },
        },
    };
    end.into()
}

/// Its TTL or hop limit is used up.
struct Expired;

/// The packet inside.
struct Inner {
    source: Address,
    destination: Address,
    source_port: u16,
    destination_port: u16,
    protocol: u8,
}

/// Whose error it is, and where it goes: the endpoint, true for inbound, the next hop. The outer addresses are
/// read when they are wanted, because the stack is short.
#[inline(always)]
fn find<'t, T: Tables>(
    t: &'t T,
    from: impl Fn() -> Address,
    to: impl Fn() -> Address,
    inner: &Inner,
) -> Option<(&'t Endpoint, bool, u32)> {
    // Who is told is who sent it.
    if to().halves() != inner.source.halves() {
        return None;
    }
    let s = t.settings()?;
    let d = directory::find(t, s, &key(inner.source, inner.source_port, inner.protocol));
    if d.kind == KIND_LISTENER {
        // Anybody may send one that fits: as any packet without a session.
        if !budget::take(t, s, &from(), t.now()) {
            return None;
        }
        let flow =
            Flow { client: inner.destination, port: inner.destination_port, service: d.service };
        let slot = t.session::<false>(s, &flow, hash::flow(s, &flow)).slot?;
        let endpoint = t.endpoint(slot.endpoint.get().into())?;
        return (endpoint.flags & ENDPOINT_LIVE != 0).then_some((endpoint, true, endpoint.nexthop));
    }
    let d = directory::find(t, s, &key(inner.destination, inner.destination_port, inner.protocol));
    if d.kind != KIND_ENDPOINT {
        return None;
    }
    Some((t.endpoint(d.index)?, false, t.route(&to())?))
}

/// The change of a sum by 16-bit words that were `old` and are `new`.
#[inline(always)]
const fn change(old: u32, new: u32) -> u32 {
    let old = !old;
    (old & 0xffff) + (old >> 16) + (new & 0xffff) + (new >> 16)
}

/// The same of one word.
#[inline(always)]
const fn change16(old: u16, new: u16) -> u32 {
    !old as u32 + new as u32
}

/// An ICMP error (RFC 792) over IPv4: the next hop, when it is translated.
#[inline(always)]
fn four<P: Packet, T: Tables>(packet: &P, t: &T, l3: usize) -> Option<Result<u32, Expired>> {
    const INNER: usize = IPV4 + HEADER;
    const L4: usize = INNER + IPV4;
    let v = packet.view::<{ L4 + HEADER }>(l3)?;
    // Unreachable (fragmentation needed among it), time exceeded, parameter problem.
    let is_error = matches!(v.u8::<IPV4>(), 3 | 11 | 12);
    // No options and no fragment, outside or inside; inside the first one is as good as the whole.
    let len = u16::from_be(v.u16::<2>()) as usize;
    if !is_error
        || len < L4 + HEADER
        || l3 + len > packet.len()
        || v.u8::<0>() != 0x45
        || v.u16::<6>() & !0x4000_u16.to_be() != 0
        || v.u8::<INNER>() != 0x45
        || v.u16::<{ INNER + 6 }>() & 0x1fff_u16.to_be() != 0
    {
        return None;
    }
    let inner = Inner {
        source: Address::v4(v.u32::<{ INNER + 12 }>()),
        destination: Address::v4(v.u32::<{ INNER + 16 }>()),
        source_port: v.u16::<L4>(),
        destination_port: v.u16::<{ L4 + 2 }>(),
        protocol: v.u8::<{ INNER + 9 }>(),
    };
    if inner.protocol != PROTO_UDP && inner.protocol != PROTO_TCP {
        return None;
    }
    let (from, to) = (|| Address::v4(v.u32::<12>()), || Address::v4(v.u32::<16>()));
    let (e, inbound, nexthop) = find(t, from, to, &inner)?;
    if v.u8::<8>() <= 1 {
        return Some(Err(Expired));
    }
    let (mut delta, mut transport) = (e.address_delta, e.transport_delta);
    let mut sum;
    let mut outer;
    if inbound {
        let (old, new) = (v.u32::<16>(), e.backend.0[3]);
        outer = change(old, new);
        v.set_u32::<16>(new);
        v.set_u32::<{ INNER + 12 }>(new);
        sum = change(old, new) + change16(v.u16::<L4>(), e.backend_port);
        v.set_u16::<L4>(e.backend_port);
    } else {
        let vip = e.vip.0[3];
        (delta, transport) = (!delta, !transport);
        outer = change(v.u32::<12>(), vip);
        v.set_u32::<12>(vip);
        sum = change(v.u32::<{ INNER + 16 }>(), vip) + change16(v.u16::<{ L4 + 2 }>(), e.vip_port);
        v.set_u32::<{ INNER + 16 }>(vip);
        v.set_u16::<{ L4 + 2 }>(e.vip_port);
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
    if v.u8::<{ INNER + 9 }>() == PROTO_UDP {
        let old = v.u16::<{ L4 + 6 }>();
        let new = checksum::update_udp(old, transport);
        v.set_u16::<{ L4 + 6 }>(new);
        sum += change16(old, new);
    }
    v.set_u16::<{ IPV4 + 2 }>(checksum::update(
        v.u16::<{ IPV4 + 2 }>(),
        checksum::fold(sum.into()),
    ));
    Some(Ok(nexthop))
}

/// The same over IPv6 (RFC 4443), whose headers have no sums, and ICMP's is over the addresses, too.
#[inline(always)]
fn six<P: Packet, T: Tables>(packet: &P, t: &T, l3: usize) -> Option<Result<u32, Expired>> {
    const INNER: usize = IPV6 + HEADER;
    const L4: usize = INNER + IPV6;
    let v = packet.view::<{ L4 + HEADER }>(l3)?;
    // Unreachable, packet too big, time exceeded, parameter problem.
    let len = IPV6 + u16::from_be(v.u16::<4>()) as usize;
    if !matches!(v.u8::<IPV6>(), 1..=4)
        || len < L4 + HEADER
        || l3 + len > packet.len()
        || v.u8::<INNER>() & 0xf0 != 0x60
    {
        return None;
    }
    let inner = Inner {
        source: Address::from_halves([v.u64::<{ INNER + 8 }>(), v.u64::<{ INNER + 16 }>()]),
        destination: Address::from_halves([v.u64::<{ INNER + 24 }>(), v.u64::<{ INNER + 32 }>()]),
        source_port: v.u16::<L4>(),
        destination_port: v.u16::<{ L4 + 2 }>(),
        protocol: v.u8::<{ INNER + 6 }>(),
    };
    if inner.protocol != PROTO_UDP && inner.protocol != PROTO_TCP {
        return None;
    }
    let from = || Address::from_halves([v.u64::<8>(), v.u64::<16>()]);
    let to = || Address::from_halves([v.u64::<24>(), v.u64::<32>()]);
    let (e, inbound, nexthop) = find(t, from, to, &inner)?;
    if v.u8::<7>() <= 1 {
        return Some(Err(Expired));
    }
    let mut transport = e.transport_delta;
    let mut sum;
    if inbound {
        let new = e.backend;
        // The address outside, the same inside, and the port.
        sum =
            2 * address_change(v.part::<24, 16>(), &new) + change16(v.u16::<L4>(), e.backend_port);
        set_address(v.part::<24, 16>(), &new);
        set_address(v.part::<{ INNER + 8 }, 16>(), &new);
        v.set_u16::<L4>(e.backend_port);
    } else {
        let new = e.vip;
        transport = !transport;
        sum = address_change(v.part::<8, 16>(), &new)
            + address_change(v.part::<{ INNER + 24 }, 16>(), &new)
            + change16(v.u16::<{ L4 + 2 }>(), e.vip_port);
        set_address(v.part::<8, 16>(), &new);
        set_address(v.part::<{ INNER + 24 }, 16>(), &new);
        v.set_u16::<{ L4 + 2 }>(e.vip_port);
    }
    if resolved(t, nexthop).is_some() {
        v.set_u8::<7>(v.u8::<7>().wrapping_sub(1));
    }
    if v.u8::<{ INNER + 6 }>() == PROTO_UDP {
        let old = v.u16::<{ L4 + 6 }>();
        let new = checksum::update_udp(old, transport);
        v.set_u16::<{ L4 + 6 }>(new);
        sum += change16(old, new);
    }
    v.set_u16::<{ IPV6 + 2 }>(checksum::update(
        v.u16::<{ IPV6 + 2 }>(),
        checksum::fold(sum.into()),
    ));
    Some(Ok(nexthop))
}

#[inline(always)]
fn set_address(v: impl View<16>, a: &Address) {
    v.set_u32::<0>(a.0[0]);
    v.set_u32::<4>(a.0[1]);
    v.set_u32::<8>(a.0[2]);
    v.set_u32::<12>(a.0[3]);
}

#[inline(always)]
fn address_change(old: impl View<16>, new: &Address) -> u32 {
    change(old.u32::<0>(), new.0[0])
        + change(old.u32::<4>(), new.0[1])
        + change(old.u32::<8>(), new.0[2])
        + change(old.u32::<12>(), new.0[3])
}
