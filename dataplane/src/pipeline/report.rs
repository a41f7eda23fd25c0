//! Reports of agents: on backends that answer their clients by themselves, an agent sees the answers, and sends copies of those that
//! teach something. Here such a copy becomes the answer that it was, and goes through [`super::outbound`] like one; only it is not
//! sent on.
//!
//! A report is a datagram from a backend's address and [`REPORT_PORT`], by the interface that leads to the backend: it is
//! believed as much as an answer is.

use super::key;
use crate::abi::{
    Directory, KIND_AGENT, KIND_ENDPOINT, KIND_LISTENER, POOL_STRIDE, REPORT_PORT, Settings,
};
use crate::header::{ETHERNET, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ip, PROTO_UDP, UDP};
use crate::packet::{Packet, View};
use crate::reason::Reason;
use crate::table::{Tables, directory};

/// Begins every report: `FR`, and the version.
pub const MAGIC: [u8; 4] = *b"FR\0\x01";
/// Bytes before the answer: [`MAGIC`]; how many packets were sent to its client since the last report, this one among
/// them; how many bytes; both in network order.
pub const HEADER: usize = 12;

/// Takes an answer out of its report: true if it is one of IPv6. Who reports, and how much, is left where the link layer's addresses were: the stages of answers begin
/// at the beginning of the packet.
#[inline(always)]
pub(super) fn unwrap<P: Packet, T: Tables>(
    packet: &mut P,
    t: &T,
    s: &Settings,
    ip: &Ip,
) -> Result<bool, Reason> {
    let agent = directory::find(t, s, &key(ip.source, REPORT_PORT.to_be(), PROTO_UDP));
    if agent.kind != KIND_AGENT {
        return Err(Reason::NotOurs);
    }
    let at = ip.l4 + UDP;
    let header = packet.view::<{ HEADER + 1 }>(at).ok_or(Reason::ReportMalformed)?;
    if header.u32::<0>() != u32::from_ne_bytes(MAGIC) {
        return Err(Reason::ReportMalformed);
    }
    let (packets, bytes) = (header.u32::<4>(), header.u32::<8>());
    let v6 = match header.u8::<HEADER>() >> 4 {
        4 => false,
        6 => true,
        _ => return Err(Reason::ReportMalformed),
    };
    packet.adjust_head((at + HEADER - ETHERNET) as i32).ok_or(Reason::HeadRoom)?;
    let link = packet.view::<ETHERNET>(0).ok_or(Reason::ReportMalformed)?;
    link.set_u32::<0>(agent.index);
    link.set_u32::<4>(packets);
    link.set_u32::<8>(bytes);
    link.set_u16::<12>(if v6 { ETHERTYPE_IPV6 } else { ETHERTYPE_IPV4 });
    Ok(v6)
}

/// What was left there.
pub(super) struct Left {
    /// The endpoint that answered.
    pub(super) endpoint: Directory,
    /// Packets and bytes sent to the client since the last report.
    pub(super) packets: u32,
    pub(super) bytes: u32,
}

/// Whose the answer is, that comes from a listener of backends that answer by themselves. No packet from outside
/// comes to the stages of answers with such a source.
#[inline(always)]
pub(super) fn left<P: Packet, T: Tables>(packet: &P, t: &T, d: &Directory) -> Result<Left, Reason> {
    if d.kind != KIND_LISTENER || !d.is_direct() {
        return Err(Reason::ReportMalformed);
    }
    let link = packet.view::<ETHERNET>(0).ok_or(Reason::ReportMalformed)?;
    let (agent, packets, bytes) = (link.u32::<0>(), link.u32::<4>(), link.u32::<8>());
    let index = d.endpoint_like(agent);
    let e = t.endpoint(index).ok_or(Reason::ReportMalformed)?;
    // By the way that leads to the backend: not from the Internet with the backend's address.
    let is_from_there = t.nexthop(e.nexthop).is_some_and(|n| n.ifindex.get() == packet.ingress());
    if u32::from(e.source) / 2 != agent / POOL_STRIDE || !is_from_there {
        return Err(Reason::ReportMalformed);
    }
    let endpoint = Directory { kind: KIND_ENDPOINT, ring: 0, index, ..*d };
    Ok(Left { endpoint, packets: u32::from_be(packets), bytes: u32::from_be(bytes) })
}
