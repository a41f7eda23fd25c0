//! The stages that a packet may pass through, each a program of its own in the kernel.

use super::{
    Action, Verdict, direct, facts, forward, fragment, hot, icmp, icmp_direct, inbound, key,
    outbound, parts, report, too_big, verdict,
};
use crate::abi::{
    AddressKey, ENDPOINT_DIRECT, KIND_AGENT, KIND_ENDPOINT, KIND_HOST, KIND_LISTENER, KIND_VIP,
    NO_NEXTHOP, REPORT_PORT, Settings,
};
use crate::header::{
    self, ETHERNET, Ip, Link, Obstacle, PROTO_ESP, PROTO_ICMP, PROTO_ICMP6, PROTO_TCP, PROTO_UDP,
    Udp,
};
use crate::packet::Packet;
use crate::profile;
use crate::reason::Reason;
use crate::table::{Tables, directory};

/// A stage that another one hands a packet to. Its number is its index in the kernel's array of programs.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// [`other`].
    Other = 0,
    /// [`inbound`](fn@inbound).
    Inbound = 1,
    /// [`outbound`](fn@outbound) of IPv4.
    Outbound4 = 2,
    /// [`outbound`](fn@outbound) of IPv6. What answers teach is the largest part of the pipeline.
    Outbound6 = 3,
    /// [`too_big`](fn@too_big).
    TooBig = 4,
    /// [`fragment`](fn@fragment).
    Fragment = 5,
    /// [`icmp_direct`](fn@icmp_direct).
    IcmpDirect = 6,
    /// [`report`](fn@report).
    Report = 7,
}

impl Stage {
    /// All, by their numbers.
    pub const ALL: [Self; 8] = [
        Self::Other,
        Self::Inbound,
        Self::Outbound4,
        Self::Outbound6,
        Self::TooBig,
        Self::Fragment,
        Self::IcmpDirect,
        Self::Report,
    ];

    /// [`outbound`](fn@outbound) of a family.
    #[inline(always)]
    pub(super) const fn outbound(v6: bool) -> Self {
        if v6 { Self::Outbound6 } else { Self::Outbound4 }
    }

    /// Name of the stage's program in the object, and in `bpftool prog`, which shows 15 characters.
    pub const fn program(self) -> &'static str {
        match self {
            Self::Other => "fernpass_other",
            Self::Inbound => "fernpass_in",
            Self::Outbound4 => "fernpass_out4",
            Self::Outbound6 => "fernpass_out6",
            Self::TooBig => "fernpass_toobig",
            Self::Fragment => "fernpass_frag",
            Self::IcmpDirect => "fernpass_icmp",
            Self::Report => "fernpass_report",
        }
    }
}

/// Reads the headers down to IP's, and decides, by an expression of the link and IP's header. Two copies of nearly everything: of an
/// IPv4 address three words are constants. A macro, because closures that are used twice are not always inlined.
macro_rules! by_family {
    ($packet:ident, |$link:ident, $ip:ident| $decide:expr) => {
        match header::link($packet) {
            Ok(link) if link.v6 => {
                let $link = &Link { v6: true, ..link };
                match header::ipv6($packet, link.l3) {
                    Ok($ip) => $decide,
                    Err(reason) => parts(Err(reason)),
                }
            }
            Ok(link) => {
                let $link = &Link { v6: false, ..link };
                match header::ipv4($packet, link.l3) {
                    Ok($ip) => $decide,
                    Err(reason) => parts(Err(reason)),
                }
            }
            Err(reason) => parts(Err(reason)),
        }
    };
}

/// The first stage: what is as usual. `end` is what is to be done with a verdict: each path has its own copy
/// of it, in which the verdict need not be put together first. `next` hands the packet on.
#[inline(always)]
pub fn hot<P: Packet, T: Tables, R>(
    packet: &mut P,
    t: &T,
    end: impl Fn(Verdict) -> R,
    next: impl Fn(&mut P, Stage) -> R,
) -> R {
    match hot::run(packet, t) {
        Ok(Ok(verdict)) => end(verdict),
        Ok(Err(reason)) => end(verdict(t, parts(Err(reason)))),
        Err(stage) => next(packet, stage),
    }
}

/// Sorts out whose a packet is: a service's, which is handed on; an ICMP error about such a one; a
/// fragment or obstructed; or the host's.
#[inline(always)]
pub fn other<P: Packet, T: Tables, R>(
    packet: &mut P,
    t: &T,
    end: impl Fn(Verdict) -> R,
    next: impl Fn(&mut P, Stage) -> R,
) -> R {
    let decided = by_family!(packet, |link, ip| match sort(packet, t, link, &ip) {
        Ok(decided) => parts(decided),
        Err(stage) => (HANDED_ON + stage as u32, 0, Reason::NotOurs),
    });
    match decided.0 {
        INBOUND => next(packet, Stage::Inbound),
        OUTBOUND4 => next(packet, Stage::Outbound4),
        OUTBOUND6 => next(packet, Stage::Outbound6),
        FRAGMENT => next(packet, Stage::Fragment),
        ICMP_DIRECT => next(packet, Stage::IcmpDirect),
        REPORT => next(packet, Stage::Report),
        _ => end(verdict(t, decided)),
    }
}

/// [`parts`] of a packet that is handed on.
const HANDED_ON: u32 = 100;
const INBOUND: u32 = HANDED_ON + Stage::Inbound as u32;
const OUTBOUND4: u32 = HANDED_ON + Stage::Outbound4 as u32;
const OUTBOUND6: u32 = HANDED_ON + Stage::Outbound6 as u32;
const FRAGMENT: u32 = HANDED_ON + Stage::Fragment as u32;
const ICMP_DIRECT: u32 = HANDED_ON + Stage::IcmpDirect as u32;
const REPORT: u32 = HANDED_ON + Stage::Report as u32;

/// From the Internet to a service.
#[inline(always)]
pub fn inbound<P: Packet, T: Tables, R>(
    packet: &mut P,
    t: &T,
    end: impl Fn(Verdict) -> R,
    next: impl Fn(&mut P, Stage) -> R,
) -> R {
    let decided = by_family!(packet, |link, ip| parts(to_service(packet, t, link, ip)));
    if decided.2 as u32 == Reason::TooBig as u32 {
        return next(packet, Stage::TooBig);
    }
    end(verdict(t, decided))
}

/// From a backend to a client, of one family.
#[inline(always)]
pub fn outbound<const V6: bool, P: Packet, T: Tables, R>(
    packet: &mut P,
    t: &T,
    end: impl Fn(Verdict) -> R,
    next: impl Fn(&mut P, Stage) -> R,
) -> R {
    let link = match header::link(packet) {
        Ok(link) if link.v6 == V6 => Ok(Link { v6: V6, ..link }),
        // It is handed to the stage of its own family.
        Ok(_) => Err(Reason::BadTable),
        Err(reason) => Err(reason),
    };
    let decided = parts(link.and_then(|link| {
        let ip = if V6 { header::ipv6(packet, link.l3) } else { header::ipv4(packet, link.l3) };
        from_backend(packet, t, &link, ip?)
    }));
    if decided.2 as u32 == Reason::TooBig as u32 {
        return next(packet, Stage::TooBig);
    }
    end(verdict(t, decided))
}

/// What has no ports: a fragment that is not its packet's first, and ESP that is not in UDP.
#[inline(always)]
pub fn fragment<P: Packet, T: Tables, R>(
    packet: &mut P,
    t: &T,
    end: impl Fn(Verdict) -> R,
    next: impl Fn(&mut P, Stage) -> R,
) -> R {
    let decided = by_family!(packet, |link, ip| parts(
        fragment::run(packet, t, link, &ip).and_then(|target| {
            let is_direct = target.nexthop == NO_NEXTHOP
                && t.endpoint(target.endpoint).is_some_and(|e| e.flags & ENDPOINT_DIRECT != 0);
            if is_direct {
                let spread = direct::spread(&ip.source, 0);
                return direct::send::<true, _, _>(packet, t, link, &target, spread);
            }
            forward::run::<true, _, _>(packet, t, link, &target)
        })
    ));
    if decided.2 as u32 == Reason::TooBig as u32 {
        return next(packet, Stage::TooBig);
    }
    end(verdict(t, decided))
}

/// An ICMP error where backends answer their clients by themselves.
#[inline(always)]
pub fn icmp_direct<P: Packet, T: Tables>(packet: &mut P, t: &T) -> Verdict {
    let decided = by_family!(packet, |link, _ip| parts(icmp_direct::run(packet, t, link)));
    verdict(t, decided)
}

/// An agent's report: it becomes the answer that it is about.
#[inline(always)]
pub fn report<P: Packet, T: Tables, R>(
    packet: &mut P,
    t: &T,
    end: impl Fn(Verdict) -> R,
    next: impl Fn(&mut P, Stage) -> R,
) -> R {
    let decided = by_family!(packet, |_link, ip| match unwrap(packet, t, &ip) {
        Ok(v6) => (HANDED_ON + Stage::outbound(v6) as u32, 0, Reason::NotOurs),
        Err(reason) => parts(Err(reason)),
    });
    match decided.0 {
        OUTBOUND4 => next(packet, Stage::Outbound4),
        OUTBOUND6 => next(packet, Stage::Outbound6),
        _ => end(verdict(t, decided)),
    }
}

#[inline(always)]
fn unwrap<P: Packet, T: Tables>(packet: &mut P, t: &T, ip: &Ip) -> Result<bool, Reason> {
    let (s, udp) = service_packet(packet, t, ip)?;
    // A report is whole.
    if ip.obstacle as u8 != Obstacle::None as u8 || u32::from(udp.length) > ip.l4_len {
        return Err(Reason::ReportMalformed);
    }
    let v6 = report::unwrap(packet, t, s, ip)?;
    let inner = if v6 { header::ipv6(packet, ETHERNET) } else { header::ipv4(packet, ETHERNET) }?;
    // What the next stage would leave to the host is left to nobody: it is no packet that came in.
    let host = AddressKey::of_host(inner.destination);
    if !has_readable_ports(&inner)
        || header::udp(packet, inner.l4).is_none()
        || directory::find(t, s, &host).kind == KIND_HOST
    {
        return Err(Reason::ReportMalformed);
    }
    Ok(v6)
}

/// What is larger than its next hop takes, and may not be fragmented.
#[inline(always)]
pub fn too_big<P: Packet, T: Tables>(packet: &mut P, t: &T) -> Verdict {
    let decided = by_family!(packet, |link, _ip| parts(too_big::run(packet, t, link)));
    verdict(t, decided)
}

/// Decides what becomes of a packet, and changes packet and tables accordingly.
#[cfg(any(test, feature = "host"))]
pub fn run<P: Packet, T: Tables>(packet: &mut P, t: &T) -> Verdict {
    hot(packet, t, |verdict| verdict, |packet, stage| run_from(stage, packet, t))
}

/// The same without the hot path: for the comparison of both.
#[cfg(any(test, feature = "host"))]
pub fn run_general<P: Packet, T: Tables>(packet: &mut P, t: &T) -> Verdict {
    run_from(Stage::Other, packet, t)
}

#[cfg(any(test, feature = "host"))]
fn run_from<P: Packet, T: Tables>(stage: Stage, packet: &mut P, t: &T) -> Verdict {
    let end = |verdict| verdict;
    match stage {
        Stage::Other => other(packet, t, end, |packet, next| run_from(next, packet, t)),
        Stage::Inbound => inbound(packet, t, end, |packet, next| run_from(next, packet, t)),
        Stage::Outbound4 => {
            outbound::<false, _, _, _>(packet, t, end, |packet, next| run_from(next, packet, t))
        }
        Stage::Outbound6 => {
            outbound::<true, _, _, _>(packet, t, end, |packet, next| run_from(next, packet, t))
        }
        Stage::TooBig => too_big(packet, t),
        Stage::IcmpDirect => icmp_direct(packet, t),
        Stage::Report => report(packet, t, end, |packet, next| run_from(next, packet, t)),
        Stage::Fragment => fragment(packet, t, end, |packet, next| run_from(next, packet, t)),
    }
}

/// The end of a packet whose stage is not there.
#[inline(always)]
pub fn missing<T: Tables>(t: &T) -> Verdict {
    verdict(t, parts(Err(Reason::BadTable)))
}

#[inline(always)]
fn sort<P: Packet, T: Tables>(
    packet: &mut P,
    t: &T,
    link: &Link,
    ip: &Ip,
) -> Result<Result<Verdict, Reason>, Stage> {
    let is_portless = match ip.obstacle {
        Obstacle::LaterFragment => has_ports(ip.protocol) || ip.protocol == PROTO_ESP,
        Obstacle::None | Obstacle::FirstFragment => ip.protocol == PROTO_ESP,
        Obstacle::Options | Obstacle::Extension => false,
    };
    if is_portless {
        let Some(s) = t.settings() else { return Ok(Err(Reason::BadTable)) };
        return if fragment::is_of_service(t, s, ip) {
            Err(Stage::Fragment)
        } else {
            Ok(Err(Reason::NotOurs))
        };
    }
    if !has_readable_ports(ip) {
        let icmp = if link.v6 { PROTO_ICMP6 } else { PROTO_ICMP };
        if ip.protocol == icmp
            && ip.obstacle == Obstacle::None
            && let Some(decided) = icmp::run(packet, t, link)
        {
            return match decided {
                Err(Reason::InDirect) => Err(Stage::IcmpDirect),
                decided => Ok(decided),
            };
        }
        return Ok(Err(obstructed(packet, t, ip)));
    }
    let Some(udp) = header::udp(packet, ip.l4) else {
        return Ok(Err(Reason::NotOursTruncated));
    };
    let Some(s) = t.settings() else { return Ok(Err(Reason::BadTable)) };
    // One key for both questions.
    let mut key = key(ip.destination, udp.destination, ip.protocol);
    if directory::find(t, s, &key).kind == KIND_LISTENER {
        return Err(Stage::Inbound);
    }
    key.address = ip.source;
    key.port = udp.source;
    match directory::find(t, s, &key).kind {
        KIND_ENDPOINT => Err(Stage::outbound(link.v6)),
        KIND_AGENT if udp.destination == REPORT_PORT.to_be() => Err(Stage::Report),
        _ => Ok(Err(Reason::NotOurs)),
    }
}

#[inline(always)]
fn to_service<P: Packet, T: Tables>(
    packet: &mut P,
    t: &T,
    link: &Link,
    ip: Ip,
) -> Result<Verdict, Reason> {
    let (s, udp) = service_packet(packet, t, &ip)?;
    let d = directory::find(t, s, &key(ip.destination, udp.destination, ip.protocol));
    if d.kind != KIND_LISTENER {
        return Err(Reason::NotOurs);
    }
    let facts = facts(t, ip, udp)?;
    let said = profile::inbound_at(d.profile, packet, facts.payload, facts.payload_len)?;
    let target = inbound::run(t, s, &d, &facts, &said)?;
    if d.is_direct() {
        let is_whole = facts.ip.obstacle as u8 == Obstacle::None as u8;
        let port = if is_whole { facts.udp.source } else { 0 };
        let spread = direct::spread(&facts.ip.source, port);
        return direct::send::<false, _, _>(packet, t, link, &target, spread);
    }
    forward::run::<false, _, _>(packet, t, link, &target)
}

#[inline(always)]
fn from_backend<P: Packet, T: Tables>(
    packet: &mut P,
    t: &T,
    link: &Link,
    ip: Ip,
) -> Result<Verdict, Reason> {
    let (s, udp) = service_packet(packet, t, &ip)?;
    let mut d = directory::find(t, s, &key(ip.source, udp.source, ip.protocol));
    let mut facts = facts(t, ip, udp)?;
    let is_report = d.kind != KIND_ENDPOINT;
    if is_report {
        let left = report::left(packet, t, &d)?;
        d = left.endpoint;
        (facts.packets, facts.ip.len) = (left.packets, left.bytes);
    }
    let said = profile::outbound_at(d.profile, packet, facts.payload, facts.payload_len)?;
    let mut target = outbound::run(t, s, &d, &facts, &said)?;
    if is_report {
        return Ok(Verdict { action: Action::Drop, reason: Reason::Reported });
    }
    if target.nexthop == NO_NEXTHOP {
        target.nexthop = t.route(&facts.ip.destination).ok_or(Reason::NoRoute)?;
    }
    forward::run::<false, _, _>(packet, t, link, &target)
}

/// What is known of a packet that was handed on, read again. It fails only if it was not one.
#[inline(always)]
fn service_packet<'t, P: Packet, T: Tables>(
    packet: &P,
    t: &'t T,
    ip: &Ip,
) -> Result<(&'t Settings, Udp), Reason> {
    if !has_readable_ports(ip) {
        return Err(Reason::NotOurs);
    }
    let udp = header::udp(packet, ip.l4).ok_or(Reason::NotOursTruncated)?;
    Ok((t.settings().ok_or(Reason::BadTable)?, udp))
}

/// True for packets of the protocols that services have, whole or a first fragment.
#[inline(always)]
fn has_readable_ports(ip: &Ip) -> bool {
    has_ports(ip.protocol) && matches!(ip.obstacle, Obstacle::None | Obstacle::FirstFragment)
}

/// True for the protocols that services have.
#[inline(always)]
const fn has_ports(protocol: u8) -> bool {
    matches!(protocol, PROTO_UDP | PROTO_TCP)
}

/// A packet without readable ports. To a VIP it is refused by name if its
/// protocol is one of the VIP's listeners'; from an endpoint likewise, where its
/// ports are readable. All else is the host's.
#[inline(always)]
fn obstructed<P: Packet, T: Tables>(packet: &P, t: &T, ip: &Ip) -> Reason {
    let refused = match ip.obstacle {
        Obstacle::None | Obstacle::FirstFragment | Obstacle::LaterFragment => {
            return Reason::NotOurs;
        }
        Obstacle::Options => Reason::Ipv4Options,
        Obstacle::Extension => Reason::Ipv6Extension,
    };
    // What an extension header hides is taken for UDP: only its address can be asked for.
    let protocol = if matches!(ip.obstacle, Obstacle::Extension) { PROTO_UDP } else { ip.protocol };
    let Some(s) = t.settings() else { return Reason::BadTable };
    if directory::find(t, s, &key(ip.destination, 0, protocol)).kind == KIND_VIP {
        return refused;
    }
    if matches!(ip.obstacle, Obstacle::Options)
        && has_ports(ip.protocol)
        && let Some(udp) = header::udp(packet, ip.l4)
        && directory::find(t, s, &key(ip.source, udp.source, ip.protocol)).kind == KIND_ENDPOINT
    {
        return refused;
    }
    Reason::NotOurs
}
