//! The hot path: a packet of an open session, on its flow, that teaches nothing, to a next hop that
//! is known. Nearly all packets are of that kind.
//!
//! It decides before it writes, and what is not as usual in the least it leaves to the other
//! stages, which begin at the beginning: so next to nothing has to be kept beside what is looked at,
//! the headers lie at constant offsets behind one comparison with the frame's end, and the whole
//! fits into the few registers that there are. They decide alike: tests compare them.

use super::forward::{
    action, addresses, link_layer, metered, resolved, translate_tcp, translate_udp, translate4,
    translate6,
};
use super::{Stage, Verdict, counter, inbound, key, outbound, session};
use crate::abi::{
    Directory, ENDPOINT_DIRECT, ENDPOINT_LIVE, Endpoint, KIND_ENDPOINT, KIND_LISTENER, NextHop,
    Settings,
};
use crate::header::{
    self, ETHERNET, ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_QINQ, ETHERTYPE_VLAN, IPV4, IPV6, Ip,
    Link, PROTO_TCP, SYN, TCP, UDP, Udp, VLAN_TAG,
};
use crate::packet::{Packet, View};
use crate::profile::dtls::PLAIN;
use crate::profile::{self, HEAD, Proof};
use crate::reason::Reason;
use crate::table::hash::{self, Flow};
use crate::table::{Tables, ahead, directory, meter};

/// Where a packet goes. It has been counted in its session.
struct Way<'t> {
    endpoint: &'t Endpoint,
    nexthop: &'t NextHop,
}

/// One shape of headers: the parts of a view of all that is read, the way, and the rest.
macro_rules! shape {
    ($packet:ident, $t:ident, $l3:expr, $ip_len:expr, $read:path, $translate:path, $v6:literal) => {{
        const L4: usize = $l3 + $ip_len;
        const PAYLOAD: usize = L4 + UDP;
        let all = $packet.view::<{ PAYLOAD + HEAD }>(0).ok_or(Stage::Other)?;
        let ip = $read(all.part::<{ $l3 }, { $ip_len }>(), $l3, $packet.len()).ok_or(Stage::Other)?;
        let udp_view = all.part::<L4, UDP>();
        let udp = header::udp_in(udp_view);
        // A datagram that fills its packet, or a whole TCP header (IPv4's length may be below its header's) that begins nothing.
        if ip.protocol == PROTO_TCP {
            if ip.l4_len < TCP as u32
                || ip.l4_len > u32::from(u16::MAX)
                || all.part::<L4, TCP>().u8::<13>() & SYN != 0
            {
                return Err(Stage::Other);
            }
        } else if u32::from(udp.length) != ip.l4_len || ip.l4_len < UDP as u32 {
            return Err(Stage::Other);
        }
        let head = all.part::<PAYLOAD, HEAD>();
        let s = $t.settings().ok_or(Stage::Other)?;
        // Twice, for each direction by itself: less has to be kept.
        macro_rules! leave {
            ($way:expr, $inbound:literal, $reason:expr) => {{
                let way = $way;
                let ip_view = all.part::<{ $l3 }, { $ip_len }>();
                $translate(ip_view, way.endpoint, $inbound, true);
                if ip.protocol == PROTO_TCP {
                    translate_tcp(all.part::<L4, TCP>(), way.endpoint, $inbound);
                } else {
                    translate_udp(udp_view, way.endpoint, $inbound);
                }
                let leaves = |action| Verdict { action, reason: $reason };
                // An untagged frame that stays so has its link layer in the same view.
                if $l3 == ETHERNET && way.nexthop.vlan_protocol.get() == 0 {
                    addresses(all.part::<0, ETHERNET>(), way.nexthop);
                    $t.count($reason);
                    return Ok(Ok(leaves(action($packet, way.nexthop))));
                }
                let link = Link { l3: $l3, v6: $v6 };
                let action = link_layer($packet, &link, way.nexthop);
                if action.is_ok() {
                    $t.count($reason);
                }
                Ok(action.map(leaves))
            }};
        }
        let to = directory::find($t, s, &key(ip.destination, udp.destination, ip.protocol));
        if to.kind == KIND_LISTENER {
            let dtls_id = || {
                let more = $packet.view::<{ PAYLOAD + PLAIN + 8 }>(0)?;
                Some(more.u64::<{ PAYLOAD + PLAIN }>())
            };
            let way = to_backend($t, s, &to, &ip, &udp, (head, dtls_id)).ok_or(Stage::Inbound)?;
            leave!(way, true, Reason::InEstablished)
        } else {
            let from = directory::find($t, s, &key(ip.source, udp.source, ip.protocol));
            if from.kind != KIND_ENDPOINT {
                return Err(Stage::Other);
            }
            let way = to_client($t, s, &from, &ip, &udp, head).ok_or(Stage::outbound($v6))?;
            leave!(way, false, Reason::OutEstablished)
        }
    }};
}

/// Decides on a packet, if it is of the usual kind, and counts how it ended (but for an error);
/// otherwise nothing has changed, and it is told which stage decides.
#[inline(always)]
pub(super) fn run<P: Packet, T: Tables>(
    packet: &mut P,
    t: &T,
) -> Result<Result<Verdict, Reason>, Stage> {
    let ethernet = packet.view::<ETHERNET>(0).ok_or(Stage::Other)?;
    match ethernet.u16::<12>() {
        ETHERTYPE_IPV4 => {
            shape!(packet, t, ETHERNET, IPV4, header::usual_ipv4, translate4, false)
        }
        ETHERTYPE_IPV6 => {
            shape!(packet, t, ETHERNET, IPV6, header::usual_ipv6, translate6, true)
        }
        ETHERTYPE_VLAN | ETHERTYPE_QINQ => {
            const L3: usize = ETHERNET + VLAN_TAG;
            match packet.view::<L3>(0).ok_or(Stage::Other)?.u16::<16>() {
                ETHERTYPE_IPV4 => {
                    shape!(packet, t, L3, IPV4, header::usual_ipv4, translate4, false)
                }
                ETHERTYPE_IPV6 => {
                    shape!(packet, t, L3, IPV6, header::usual_ipv6, translate6, true)
                }
                _ => Err(Stage::Other),
            }
        }
        _ => Err(Stage::Other),
    }
}

/// Takes a packet of a session from its tenant's rates, if it has some. Asked last: what is taken has gone its way. Where there is too little left, the
/// stage behind asks again, and says so.
#[inline(always)]
fn may_pass<T: Tables>(t: &T, endpoint: &Endpoint, inbound: bool, bytes: u32) -> bool {
    if endpoint.flags & metered(inbound) == 0 {
        return true;
    }
    let class = meter::QUIET | if inbound { 0 } else { meter::OUT };
    t.take_packet(endpoint.tenant.into(), bytes.into(), class) == meter::ROOM
}

#[inline(always)]
fn to_backend<'t, T: Tables>(
    t: &'t T,
    s: &Settings,
    d: &Directory,
    ip: &Ip,
    udp: &Udp,
    (head, dtls_id): (impl View<HEAD>, impl FnOnce() -> Option<u64>),
) -> Option<Way<'t>> {
    let said = profile::inbound(d.profile, Some(head), ip.l4_len - UDP as u32, dtls_id).ok()?;
    if said.closes {
        return None;
    }
    let (id, counter) = (said.id, counter(said.data, said.counter));
    let flow = Flow { client: ip.source, port: udp.source, service: d.service };
    let found = t.session::<true>(s, &flow, hash::flow(s, &flow));
    let slot = found.slot?;
    if id != 0 && id != slot.in_id.get() {
        return None;
    }
    let endpoint = t.endpoint(d.endpoint_like(slot.endpoint.get().into()))?;
    if endpoint.flags & (ENDPOINT_LIVE | ENDPOINT_DIRECT) != ENDPOINT_LIVE {
        return None;
    }
    let nexthop = resolved(t, endpoint.nexthop)?;
    if ip.len > u32::from(nexthop.mtu.get()) {
        return None;
    }
    if !may_pass(t, endpoint, true, ip.len) {
        return None;
    }
    inbound::note(t, counter, slot, found.index, ip.len, t.ticks(s));
    Some(Way { endpoint, nexthop })
}

#[inline(always)]
fn to_client<'t, T: Tables>(
    t: &'t T,
    s: &Settings,
    d: &Directory,
    ip: &Ip,
    udp: &Udp,
    head: impl View<HEAD>,
) -> Option<Way<'t>> {
    let said = profile::outbound(d.profile, Some(head), ip.l4_len - UDP as u32).ok()?;
    // At once, so that two numbers are all that is left to keep of what the packet says.
    if said.in_id != 0 || said.begins || said.closes {
        return None;
    }
    let (id, counter) = (said.out_id, counter(said.proof == Proof::Data, said.counter));
    let flow = Flow { client: ip.destination, port: udp.destination, service: d.service };
    let found = t.session::<true>(s, &flow, hash::flow(s, &flow));
    let Some(slot) = found.slot else {
        ahead::load(t, &flow, d.index as u16, 0, id);
        return None;
    };
    if u32::from(slot.endpoint.get()) != d.index || id != 0 && id != slot.out_id.get() {
        return None;
    }
    let endpoint = t.endpoint(d.index)?;
    let nexthop = resolved(t, session::known_nexthop(s, slot)?)?;
    if ip.len > u32::from(nexthop.mtu.get()) {
        return None;
    }
    if !may_pass(t, endpoint, false, ip.len) {
        return None;
    }
    outbound::note(t, counter, slot, found.index, (1, ip.len), t.ticks(s));
    Some(Way { endpoint, nexthop })
}
