//! Fragments. The first one of a packet has ports, and goes through the other stages like any packet; where it went is noted.
//! The others have none, and follow it.
//!
//! One that comes before its first goes where that will go most likely: to the backend that the client's address used last, else
//! where a new session would be placed. That needs an address that is one service's alone.
//!
//! ESP that is not in UDP (RFC 4303) has no ports either. Where backends answer by themselves it goes where its client's IKE
//! went, by the address; where packets are translated it has no business, because there IKE has seen that they are.

use super::{Target, inbound, key};
use crate::abi::{
    Address, KIND_BACKEND, KIND_VIP, NO_NEXTHOP, POOL_STRIDE, Settings, service_index,
};
use crate::header::{self, Ip, Link, Obstacle, PROTO_ESP};
use crate::packet::Packet;
use crate::reason::Reason;
use crate::table::{Tables, budget, directory, fragments, hash, hints};

/// True if the addresses of a fragment without ports may be those of a service's packet.
#[inline(always)]
pub(super) fn is_of_service<T: Tables>(t: &T, s: &Settings, ip: &Ip) -> bool {
    directory::find(t, s, &key(ip.destination, 0, ip.protocol)).kind == KIND_VIP
        || directory::find(t, s, &key(ip.source, 0, ip.protocol)).kind == KIND_BACKEND
}

/// Notes where a first fragment goes, before it is translated.
#[inline(always)]
pub(super) fn note<P: Packet, T: Tables>(packet: &P, t: &T, l3: usize, v6: bool, endpoint: u32) {
    let Some(s) = t.settings() else { return };
    if let Some(hash) = hash_of(packet, s, l3, v6) {
        fragments::note(t, hash, endpoint);
    }
}

/// The hash of what a packet's fragments have in common.
#[inline(always)]
fn hash_of<P: Packet>(packet: &P, s: &Settings, l3: usize, v6: bool) -> Option<u64> {
    let identification = header::identification(packet, l3, v6)?;
    let (source, destination) = addresses(packet, l3, v6)?;
    Some(hash::fragment(s, &source, &destination, identification))
}

#[inline(always)]
fn addresses<P: Packet>(packet: &P, l3: usize, v6: bool) -> Option<(Address, Address)> {
    use crate::packet::View;
    if v6 {
        let h = packet.view::<{ header::IPV6 }>(l3)?;
        let source = Address::from_halves([h.u64::<8>(), h.u64::<16>()]);
        Some((source, Address::from_halves([h.u64::<24>(), h.u64::<32>()])))
    } else {
        let h = packet.view::<{ header::IPV4 }>(l3)?;
        Some((Address::v4(h.u32::<12>()), Address::v4(h.u32::<16>())))
    }
}

/// Decides where a fragment goes that is not its packet's first.
#[inline(always)]
pub(super) fn run<P: Packet, T: Tables>(
    packet: &P,
    t: &T,
    link: &Link,
    ip: &Ip,
) -> Result<Target, Reason> {
    let s = t.settings().ok_or(Reason::BadTable)?;
    if ip.protocol == PROTO_ESP {
        return esp(t, s, ip);
    }
    if ip.obstacle as u8 != Obstacle::LaterFragment as u8 {
        return Err(Reason::NotOurs);
    }
    let identification =
        header::identification(packet, link.l3, link.v6).ok_or(Reason::BadTable)?;
    let hash = hash::fragment(s, &ip.source, &ip.destination, identification);
    let vip = directory::find(t, s, &key(ip.destination, 0, ip.protocol));
    let is_inbound = vip.kind == KIND_VIP;
    let known = fragments::find(t, hash).filter(|endpoint| {
        t.endpoint(*endpoint).is_some_and(|e| {
            if is_inbound {
                e.vip.halves() == ip.destination.halves()
            } else {
                e.backend.halves() == ip.source.halves()
            }
        })
    });
    let endpoint = match known {
        Some(endpoint) => endpoint,
        None if !is_inbound => {
            let d = directory::find(t, s, &key(ip.source, 0, ip.protocol));
            // A backend sends other things, too: this is a service's if it goes to one of its clients.
            let hint = hints::find(t, s, &ip.destination, service_index(d.service), 0);
            let is_its = hint.is_some_and(|hint| hint.ordinal() == d.index % POOL_STRIDE);
            if d.kind != KIND_BACKEND || !is_its || t.endpoint(d.index).is_none() {
                return Err(Reason::NotOurs);
            }
            d.index
        }
        None if vip.is_by_flow() => return Err(Reason::Fragment),
        None if !budget::take(t, s, &ip.source, t.now()) => return Err(Reason::SourceBudget),
        None => inbound::place(t, s, &vip, &ip.source, 0)?,
    };
    if ip.ttl <= 1 {
        return Err(Reason::TtlExpired);
    }
    Ok(if is_inbound {
        Target { endpoint, nexthop: NO_NEXTHOP, reason: Reason::InFragment }
    } else {
        let nexthop = t.route(&ip.destination).ok_or(Reason::NoRoute)?;
        Target { endpoint, nexthop, reason: Reason::OutFragment }
    })
}

/// Decides where ESP goes, whole or a fragment.
#[inline(always)]
fn esp<T: Tables>(t: &T, s: &Settings, ip: &Ip) -> Result<Target, Reason> {
    let vip = directory::find(t, s, &key(ip.destination, 0, ip.protocol));
    if vip.kind != KIND_VIP {
        return Err(Reason::NotOurs);
    }
    if !vip.is_direct() {
        return Err(Reason::EspWithoutUdp);
    }
    if ip.ttl <= 1 {
        return Err(Reason::TtlExpired);
    }
    let endpoint = inbound::place(t, s, &vip, &ip.source, 0)?;
    Ok(Target { endpoint, nexthop: NO_NEXTHOP, reason: Reason::InDirect })
}
