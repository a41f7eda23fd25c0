//! The hot path: a packet of an open session, on its flow, that teaches nothing, to a next hop that
//! is known. Nearly all packets are of that kind.
//!
//! It decides before it writes, and what is not as usual in the least it leaves to the general
//! path, which begins at the beginning: so next to nothing has to be kept beside what is looked at,
//! the headers lie at constant offsets behind one comparison with the frame's end, and the whole
//! fits into the few registers that there are. Both paths decide alike: tests compare them.

use super::forward::{link_layer, resolved, translate4, translate6};
use super::{Verdict, inbound, key, outbound, session};
use crate::abi::{
    Directory, ENDPOINT_LIVE, Endpoint, KIND_ENDPOINT, KIND_LISTENER, NextHop, Settings,
};
use crate::header::{
    self, ETHERNET, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_QINQ, ETHERTYPE_VLAN, IPV4, IPV6, Ip,
    Link, Obstacle, PROTO_UDP, UDP, Udp, VLAN_TAG,
};
use crate::packet::{Packet, View};
use crate::profile::{self, HEAD};
use crate::reason::Reason;
use crate::table::hash::{self, Flow};
use crate::table::{Tables, directory, slot};

/// Where a packet goes. It has been counted in its session.
struct Way<'t> {
    endpoint: &'t Endpoint,
    nexthop: &'t NextHop,
    inbound: bool,
}

/// One shape of headers: the parts of a view of all that is read, the way, the translation.
macro_rules! shape {
    ($packet:ident, $t:ident, $l3:expr, $ip_len:expr, $read:path, $translate:path, $v6:literal) => {{
        const L4: usize = $l3 + $ip_len;
        const PAYLOAD: usize = L4 + UDP;
        let all = $packet.view::<{ PAYLOAD + HEAD }>(0)?;
        let ip = $read(all.part::<{ $l3 }, { $ip_len }>(), $l3, $packet.len()).ok()?;
        let udp = all.part::<L4, UDP>();
        let head = all.part::<PAYLOAD, HEAD>();
        let way = way($t, &ip, &header::udp_in(udp), head)?;
        $translate(all.part::<{ $l3 }, { $ip_len }>(), udp, way.endpoint, way.inbound, true);
        (Link { l3: $l3, v6: $v6 }, way)
    }};
}

/// Decides on a packet, if it is of the usual kind; otherwise nothing has changed.
#[inline(always)]
pub(super) fn run<P: Packet, T: Tables>(packet: &mut P, t: &T) -> Option<Result<Verdict, Reason>> {
    let ethernet = packet.view::<ETHERNET>(0)?;
    match ethernet.u16::<12>() {
        ETHERTYPE_IPV4 => {
            let (link, way) = shape!(packet, t, ETHERNET, IPV4, header::ipv4_in, translate4, false);
            Some(leave(packet, &link, &way))
        }
        ETHERTYPE_IPV6 => {
            let (link, way) = shape!(packet, t, ETHERNET, IPV6, header::ipv6_in, translate6, true);
            Some(leave(packet, &link, &way))
        }
        ETHERTYPE_VLAN | ETHERTYPE_QINQ => {
            let tagged = packet.view::<{ ETHERNET + VLAN_TAG }>(0)?;
            match tagged.u16::<16>() {
                ETHERTYPE_IPV4 => {
                    let (link, way) = shape!(
                        packet,
                        t,
                        ETHERNET + VLAN_TAG,
                        IPV4,
                        header::ipv4_in,
                        translate4,
                        false
                    );
                    Some(leave(packet, &link, &way))
                }
                ETHERTYPE_IPV6 => {
                    let (link, way) = shape!(
                        packet,
                        t,
                        ETHERNET + VLAN_TAG,
                        IPV6,
                        header::ipv6_in,
                        translate6,
                        true
                    );
                    Some(leave(packet, &link, &way))
                }
                _ => None,
            }
        }
        _ => None,
    }
}

#[inline(always)]
fn leave<P: Packet>(packet: &mut P, link: &Link, way: &Way<'_>) -> Result<Verdict, Reason> {
    let action = link_layer(packet, link, way.nexthop)?;
    let reason = if way.inbound { Reason::InEstablished } else { Reason::OutEstablished };
    Ok(Verdict { action, reason })
}

#[inline(always)]
fn way<'t, T: Tables>(t: &'t T, ip: &Ip, udp: &Udp, head: impl View<HEAD>) -> Option<Way<'t>> {
    if ip.protocol != PROTO_UDP || ip.obstacle != Obstacle::None || ip.ttl <= 1 {
        return None;
    }
    let len = header::payload_len(udp, ip).ok()?;
    let s = t.settings()?;
    let to = directory::find(t, s, &key(ip.destination, udp.destination, PROTO_UDP));
    if to.kind == KIND_LISTENER {
        let said = profile::inbound(to.profile, Some(head), len).ok()?;
        return to_backend(t, s, &to, ip, udp, &said);
    }
    let from = directory::find(t, s, &key(ip.source, udp.source, PROTO_UDP));
    if from.kind == KIND_ENDPOINT {
        let said = profile::outbound(from.profile, Some(head), len).ok()?;
        return to_client(t, s, &from, ip, udp, &said);
    }
    None
}

#[inline(always)]
fn to_backend<'t, T: Tables>(
    t: &'t T,
    s: &Settings,
    d: &Directory,
    ip: &Ip,
    udp: &Udp,
    said: &profile::Inbound,
) -> Option<Way<'t>> {
    let flow = Flow { client: ip.source, port: udp.source, service: d.service };
    let found = t.session(s, &flow, hash::flow(s, &flow));
    let slot = found.slot?;
    if slot::state(found.word) != slot::OPEN || said.id != 0 && said.id != slot.in_id.get() {
        return None;
    }
    let endpoint = t.endpoint(slot.endpoint.get().into())?;
    if endpoint.flags & ENDPOINT_LIVE == 0 {
        return None;
    }
    let nexthop = resolved(t, endpoint.nexthop)?;
    if ip.len > u32::from(nexthop.mtu.get()) {
        return None;
    }
    inbound::note(t, said, slot, found.index, ip.len, t.now());
    Some(Way { endpoint, nexthop, inbound: true })
}

#[inline(always)]
fn to_client<'t, T: Tables>(
    t: &'t T,
    s: &Settings,
    d: &Directory,
    ip: &Ip,
    udp: &Udp,
    said: &profile::Outbound,
) -> Option<Way<'t>> {
    let flow = Flow { client: ip.destination, port: udp.destination, service: d.service };
    let found = t.session(s, &flow, hash::flow(s, &flow));
    let slot = found.slot?;
    if slot::state(found.word) != slot::OPEN
        || u32::from(slot.endpoint.get()) != d.index
        || said.in_id != 0
        || said.begins
        || said.out_id != 0 && said.out_id != slot.out_id.get()
    {
        return None;
    }
    let endpoint = t.endpoint(d.index)?;
    let nexthop = resolved(t, session::known_nexthop(s, slot)?)?;
    if ip.len > u32::from(nexthop.mtu.get()) {
        return None;
    }
    outbound::note(t, said, slot, found.index, ip.len, t.now());
    Some(Way { endpoint, nexthop, inbound: false })
}
