//! The decisions: from a packet and the tables to a verdict.
//!
//! ```text
//!          ┌ destination is a listener ─▶ inbound  ─┐
//!  parse ──┤                                        ├─▶ forward ─▶ Tx, Redirect, Pass
//!          ├ source is an endpoint ─────▶ outbound ─┘
//!          └ neither ───────────────────▶ Pass: the host's
//! ```
//!
//! ICMP errors about such packets go like them: [`icmp`].
//!
//! The [`hot`] path does the same for the packets that are as usual, faster.
//!
//! *Answers make sessions*: [`inbound`] never creates, moves or ends one.

mod forward;
mod hot;
pub mod icmp;
mod inbound;
mod outbound;
mod session;

use crate::abi::{
    AddressKey, Directory, KIND_ENDPOINT, KIND_LISTENER, KIND_VIP, NO_NEXTHOP, Settings,
};
use crate::header::{self, Ip, Link, Obstacle, PROTO_ICMP, PROTO_ICMP6, PROTO_TCP, PROTO_UDP, Udp};
use crate::packet::Packet;
use crate::profile;
use crate::reason::{Kind, Reason};
use crate::table::{Tables, directory};

/// What to do with the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// `XDP_DROP`.
    Drop,
    /// `XDP_PASS`.
    Pass,
    /// `XDP_TX`: out of the interface it came in on.
    Transmit,
    /// `XDP_REDIRECT` to this interface.
    Redirect(u32),
}

/// What to do with the packet, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What to do.
    pub action: Action,
    /// Why; counted once for each packet.
    pub reason: Reason,
}

/// Where a packet of a service is to go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    /// The endpoint it goes to or comes from.
    pub(crate) endpoint: u32,
    /// Outbound: the next hop towards the client; inbound: [`NO_NEXTHOP`].
    pub(crate) nexthop: u32,
    /// Why it is forwarded.
    pub(crate) reason: Reason,
}

/// The facts about a packet of a service.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts {
    pub(crate) ip: Ip,
    pub(crate) udp: Udp,
    /// Offset and length of the payload.
    pub(crate) payload: usize,
    pub(crate) payload_len: u32,
    pub(crate) now: u64,
}

/// Decides what becomes of a packet, and changes packet and tables accordingly.
#[inline(always)]
pub fn run<P: Packet, T: Tables>(packet: &mut P, t: &T) -> Verdict {
    run_to(packet, t, |verdict| verdict)
}

/// The same, with what is to be done with the verdict: each path has its own copy of it, in which
/// the verdict need not be put together first.
#[inline(always)]
pub fn run_to<P: Packet, T: Tables, R>(packet: &mut P, t: &T, end: impl Fn(Verdict) -> R) -> R {
    let decided = match hot::run(packet, t) {
        Some(Ok(verdict)) => return end(verdict),
        Some(Err(reason)) => parts(Err(reason)),
        None => general(packet, t),
    };
    end(verdict(t, decided))
}

/// The same without the hot path: for the comparison of both.
#[cfg(any(test, feature = "host"))]
pub fn run_general<P: Packet, T: Tables>(packet: &mut P, t: &T) -> Verdict {
    let decided = general(packet, t);
    verdict(t, decided)
}

/// Counts how a packet ended.
#[inline(always)]
fn verdict<T: Tables>(t: &T, (action, interface, reason): (u32, u32, Reason)) -> Verdict {
    t.count(reason);
    let action = match action {
        DROP => Action::Drop,
        PASS => Action::Pass,
        TRANSMIT => Action::Transmit,
        _ => Action::Redirect(interface),
    };
    Verdict { action, reason }
}

/// Decides on every packet.
#[inline(always)]
fn general<P: Packet, T: Tables>(packet: &mut P, t: &T) -> (u32, u32, Reason) {
    // Two copies of nearly everything: of an IPv4 address three words are constants.
    match header::link(packet) {
        Ok(link) if link.v6 => {
            let link = Link { v6: true, ..link };
            parts(header::ipv6(packet, link.l3).and_then(|ip| decide(packet, t, &link, ip)))
        }
        Ok(link) => {
            let link = Link { v6: false, ..link };
            parts(header::ipv4(packet, link.l3).and_then(|ip| decide(packet, t, &link, ip)))
        }
        Err(reason) => parts(Err(reason)),
    }
}

const DROP: u32 = 0;
const PASS: u32 = 1;
const TRANSMIT: u32 = 2;
const REDIRECT: u32 = 3;

/// A verdict's action, the interface it names or 0, and its reason. In parts, none of which is
/// ever undefined: where copies meet, the verifier would be shown the payload that an enum
/// does not have.
#[inline(always)]
fn parts(decided: Result<Verdict, Reason>) -> (u32, u32, Reason) {
    match decided {
        Ok(Verdict { action: Action::Redirect(interface), reason }) => {
            (REDIRECT, interface, reason)
        }
        Ok(Verdict { action: Action::Transmit, reason }) => (TRANSMIT, 0, reason),
        Ok(Verdict { action: Action::Pass, reason }) => (PASS, 0, reason),
        Ok(Verdict { action: Action::Drop, reason }) => (DROP, 0, reason),
        Err(reason) if reason.kind() as u32 == Kind::Passed as u32 => (PASS, 0, reason),
        Err(reason) => (DROP, 0, reason),
    }
}

#[inline(always)]
fn decide<P: Packet, T: Tables>(
    packet: &mut P,
    t: &T,
    link: &Link,
    ip: Ip,
) -> Result<Verdict, Reason> {
    if !has_ports(ip.protocol) || ip.obstacle != Obstacle::None {
        let icmp = if link.v6 { PROTO_ICMP6 } else { PROTO_ICMP };
        if ip.protocol == icmp
            && ip.obstacle == Obstacle::None
            && let Some(end) = icmp::run(packet, t, link)
        {
            return end;
        }
        return Err(obstructed(packet, t, &ip));
    }
    let Some(udp) = header::udp(packet, ip.l4) else {
        return Err(Reason::NotOursTruncated);
    };
    // One key for both questions: the stack is short.
    let mut key = key(ip.destination, udp.destination, ip.protocol);
    let s = t.settings().ok_or(Reason::BadTable)?;
    let d = directory::find(t, s, &key);
    let target = if d.kind == KIND_LISTENER {
        let facts = facts(t, ip, udp)?;
        let said = profile::inbound(d.profile, packet.view(facts.payload), facts.payload_len)?;
        inbound::run(t, s, &d, &facts, &said)?
    } else {
        key.address = ip.source;
        key.port = udp.source;
        let d = directory::find(t, s, &key);
        if d.kind != KIND_ENDPOINT {
            return Err(Reason::NotOurs);
        }
        let facts = facts(t, ip, udp)?;
        let said = profile::outbound(d.profile, packet.view(facts.payload), facts.payload_len)?;
        outbound(t, s, &d, &facts, &said)?
    };
    forward::run(packet, t, link, &target)
}

/// True for the protocols that services have.
#[inline(always)]
const fn has_ports(protocol: u8) -> bool {
    matches!(protocol, PROTO_UDP | PROTO_TCP)
}

#[inline(always)]
fn outbound<T: Tables>(
    t: &T,
    s: &Settings,
    d: &Directory,
    facts: &Facts,
    said: &profile::Outbound,
) -> Result<Target, Reason> {
    let mut target = outbound::run(t, s, d, facts, said)?;
    if target.nexthop == NO_NEXTHOP {
        target.nexthop = t.route(&facts.ip.destination).ok_or(Reason::NoRoute)?;
    }
    Ok(target)
}

#[inline(always)]
fn facts<T: Tables>(t: &T, ip: Ip, udp: Udp) -> Result<Facts, Reason> {
    let payload_len = header::payload_len(&udp, &ip)?;
    if ip.ttl <= 1 {
        return Err(Reason::TtlExpired);
    }
    Ok(Facts { ip, udp, payload: ip.l4 + header::UDP, payload_len, now: t.now() })
}

/// A packet counter that may have to be noted: of data alone. Else one that is not (see
/// [`is_noted`](crate::abi::is_noted)): one number says both.
#[inline(always)]
const fn counter(is_data: bool, counter: u32) -> u32 {
    if is_data { counter } else { u32::MAX }
}

#[inline(always)]
const fn key(address: crate::abi::Address, port: u16, protocol: u8) -> AddressKey {
    AddressKey { address, port, protocol, zero: 0 }
}

/// A packet without readable ports. To a VIP it is refused by name if its
/// protocol is one of the VIP's listeners'; from an endpoint likewise, where its
/// ports are readable. All else is the host's.
#[inline(always)]
fn obstructed<P: Packet, T: Tables>(packet: &P, t: &T, ip: &Ip) -> Reason {
    let refused = match ip.obstacle {
        Obstacle::None => return Reason::NotOurs,
        Obstacle::FirstFragment | Obstacle::LaterFragment => Reason::Fragment,
        Obstacle::Options => Reason::Ipv4Options,
        Obstacle::Extension => Reason::Ipv6Extension,
    };
    // What an extension header hides is taken for UDP: only its address can be asked for.
    let protocol = if matches!(ip.obstacle, Obstacle::Extension) { PROTO_UDP } else { ip.protocol };
    let Some(s) = t.settings() else { return Reason::BadTable };
    if directory::find(t, s, &key(ip.destination, 0, protocol)).kind == KIND_VIP {
        return refused;
    }
    if matches!(ip.obstacle, Obstacle::FirstFragment | Obstacle::Options)
        && has_ports(ip.protocol)
        && let Some(udp) = header::udp(packet, ip.l4)
        && directory::find(t, s, &key(ip.source, udp.source, ip.protocol)).kind == KIND_ENDPOINT
    {
        return refused;
    }
    Reason::NotOurs
}
