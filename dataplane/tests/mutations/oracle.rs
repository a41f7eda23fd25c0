//! What should become of a frame.

use dataplane::abi::Profile;
use dataplane::fixture::catalog::{Scene, Session, hop_to};
use dataplane::fixture::icmp;
use dataplane::fixture::site::{self, BACKENDS, Listener, TRANSLATED};
use dataplane::fixture::{Outcome, Seen, read};
use dataplane::header::PROTO_TCP;
use dataplane::pipeline::Action;
use dataplane::reason::{Kind, Reason};
use std::net::{IpAddr, SocketAddr};

/// Whose packet it is.
enum Whose {
    /// A client's, to a listener.
    Inbound(Listener),
    /// An answer from a listener's backend.
    Outbound(Listener),
    /// The host's.
    Host,
}

/// Judges what became of a frame: whether it may have changed the tables.
pub(crate) fn judge(
    scene: &Scene,
    frame: &[u8],
    ingress: u32,
    outcome: &Outcome,
) -> Result<bool, &'static str> {
    let kept = outcome.frame == frame && !outcome.is_forwarded();
    match fragment(frame) {
        Some(0) => return first_fragment(scene, frame, ingress, outcome),
        Some(_) => return must(kept || later_fragment(frame, outcome), "mistaken").map(|()| false),
        None => {}
    }
    let Some(seen) = read::read(frame).filter(has_usual_tags) else {
        return must(kept, "not a whole UDP or TCP packet, and touched").map(|()| false);
    };
    if seen.obstructed {
        return must(kept, "obstructed, and touched").map(|()| false);
    }
    let whose = whose(&seen);
    if matches!(whose, Whose::Host) {
        let passed = kept && outcome.reason() == Reason::NotOurs;
        return must(passed, "the host's, and not passed").map(|()| false);
    }
    let (Whose::Inbound(l) | Whose::Outbound(l)) = whose else { return Ok(false) };
    if seen.ttl <= 1 {
        return must(kept && outcome.reason() == Reason::TtlExpired, "too old").map(|()| false);
    }
    let malformed = match l.profile {
        Profile::WireGuard if !is_wireguard(&seen.payload) => Some(Reason::WireGuardMalformed),
        Profile::OpenVpn if !is_openvpn(&seen.payload) => Some(Reason::OpenVpnMalformed),
        Profile::Ike if !is_ike(&seen.payload) => Some(Reason::IpsecMalformed),
        Profile::Ipsec if !is_ipsec(&seen.payload) => Some(Reason::IpsecMalformed),
        Profile::Quic if !is_quic(&seen.payload) => Some(Reason::QuicMalformed),
        Profile::Dtls if !is_dtls(&seen.payload) => Some(Reason::DtlsMalformed),
        Profile::Tcp if !is_tcp(&seen.payload) => Some(Reason::TcpMalformed),
        _ => None,
    };
    if let Some(reason) = malformed {
        let refused = kept && outcome.reason() == reason;
        return must(refused, "not of its protocol").map(|()| false);
    }
    match whose {
        Whose::Inbound(_) => {
            inbound(scene, &l, &seen, frame, ingress, outcome).map(|()| teaches(&l, &seen.payload))
        }
        _ => outbound(&l, &seen, frame, ingress, outcome).map(|()| true),
    }
}

/// Where the IP header is, behind the usual tags, and whether it is IPv4's.
fn ip(frame: &[u8]) -> Option<(usize, bool)> {
    let kind = |at: usize| Some(u16::from_be_bytes([*frame.get(at)?, *frame.get(at + 1)?]));
    let mut at = 12;
    if matches!(kind(at)?, 0x8100 | 0x88a8) {
        at = 16;
        if kind(at)? == 0x8100 {
            at = 20;
        }
    }
    match kind(at)? {
        0x0800 if frame.len() >= at + 22 => Some((at + 2, true)),
        0x86dd if frame.len() >= at + 50 => Some((at + 2, false)),
        _ => None,
    }
}

/// A fragment's offset, in units of eight bytes, if a frame is one, and, a first one, has nothing else before its ports.
fn fragment(frame: &[u8]) -> Option<u16> {
    let (ip, v4) = ip(frame)?;
    let word = |at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    if v4 {
        let field = word(ip + 6);
        (field & 0x1fff != 0 || field & 0x2000 != 0 && frame[ip] == 0x45).then_some(field & 0x1fff)
    } else {
        let is_extension = matches!(frame[ip + 40], 0 | 43 | 51 | 60 | 135 | 139 | 140);
        let offset = word(ip + 42) >> 3;
        (frame[ip + 6] == 44 && (offset != 0 || !is_extension)).then_some(offset)
    }
}

/// The packet that a first fragment would be if it were whole.
fn whole(frame: &[u8]) -> Vec<u8> {
    let mut out = frame.to_vec();
    if let (Some(0), Some((ip, v4))) = (fragment(frame), ip(frame)) {
        if v4 {
            out[ip + 6] &= !0x20;
        } else {
            out[ip + 6] = out[ip + 40];
            let length = u16::from_be_bytes([out[ip + 4], out[ip + 5]]).wrapping_sub(8);
            out[ip + 4..ip + 6].copy_from_slice(&length.to_be_bytes());
            out.drain(ip + 40..ip + 48);
        }
    }
    out
}

/// What becomes of a whole packet becomes of its first fragment.
fn first_fragment(
    scene: &Scene,
    frame: &[u8],
    ingress: u32,
    outcome: &Outcome,
) -> Result<bool, &'static str> {
    let packet = whole(frame);
    // It tells about itself, and a datagram may be longer than its first fragment.
    if outcome.reason() == Reason::IcmpTooBig || read::read(&packet).is_none() {
        return Ok(true);
    }
    let outcome = Outcome { frame: whole(&outcome.frame), ..outcome.clone() };
    judge(scene, &packet, ingress, &outcome)
}

/// True if a later fragment was translated, to a backend of its address' or from it, and nothing else of it changed.
fn later_fragment(frame: &[u8], outcome: &Outcome) -> bool {
    let (Some((before, v4)), Some((after, _))) = (ip(frame), ip(&outcome.frame)) else {
        return false;
    };
    let (old, new) = (&frame[before..], &outcome.frame[after..]);
    let (sum, source, destination, len) = if v4 { (10..12, 12, 16, 4) } else { (0..0, 8, 24, 16) };
    let address = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let is = |packet: &[u8], at: usize, ip: IpAddr| packet[at..at + len] == address(ip);
    let blank = |packet: &[u8], moved: usize| {
        let mut packet = packet.to_vec();
        let ttl = if v4 { 8 } else { 7 };
        for range in [ttl..ttl + 1, sum.clone(), moved..moved + len] {
            packet[range].fill(0);
        }
        packet
    };
    // From one address of a pair to the other, there.
    let changed = |at: usize, from: IpAddr, to: IpAddr| {
        is(old, at, from) && is(new, at, to) && blank(old, at) == blank(new, at)
    };
    let of = TRANSLATED.iter().filter(|l| l.at.is_ipv4() == v4);
    let mut pairs = of.flat_map(|l| (0..BACKENDS).map(|n| (l.at.ip(), l.backend(n).ip())));
    pairs.any(|(vip, backend)| match outcome.reason() {
        // It tells about itself.
        Reason::IcmpTooBig => true,
        Reason::InFragment | Reason::StackInbound => changed(destination, vip, backend),
        Reason::OutFragment | Reason::StackOutbound => changed(source, backend, vip),
        Reason::StackTooBig => changed(destination, vip, backend) || changed(source, backend, vip),
        _ => false,
    })
}

/// A new association's first packets: nobody else tells its SPI. And QUIC's and DTLS' ids, which are given back, and renewed.
fn teaches(l: &Listener, payload: &[u8]) -> bool {
    matches!(l.profile, Profile::Quic | Profile::Dtls)
        || l.profile == Profile::Ipsec && matches!(payload, [_, _, _, _, 0, 0, 0, 0..64, ..])
}

fn is_ike(payload: &[u8]) -> bool {
    payload.len() >= 28 && payload[17] >> 4 == 2
}

fn is_ipsec(payload: &[u8]) -> bool {
    match payload {
        [_] => true,
        // Four zero bytes are of IKE, where there is enough to be sure.
        [0, 0, 0, 0, message @ ..] if payload.len() >= 12 => is_ike(message),
        [0, 0, 0 | 1, ..] => payload.len() >= 20 && payload[2] == 1,
        _ => payload.len() >= 20,
    }
}

/// Long enough for what its header says, as far as that is read.
fn is_quic(payload: &[u8]) -> bool {
    payload.len() >= 21
}

/// A record's type, and long enough for what its header says, as far as that is read.
fn is_dtls(payload: &[u8]) -> bool {
    match payload {
        [0x20..0x40, ..] => payload.len() >= 18,
        [25, ..] => payload.len() >= 19,
        [20..=26, ..] => payload.len() >= 14,
        _ => false,
    }
}

fn must(holds: bool, wrong: &'static str) -> Result<(), &'static str> {
    if holds { Ok(()) } else { Err(wrong) }
}

/// 0 to 2 tags: a customer's, and before it perhaps a provider's.
fn has_usual_tags(seen: &Seen) -> bool {
    matches!(seen.tags[..], [] | [(0x8100 | 0x88a8, _)] | [(0x8100 | 0x88a8, _), (0x8100, _)])
}

fn whose(seen: &Seen) -> Whose {
    let listeners = TRANSLATED.iter().filter(|l| l.protocol() == seen.protocol);
    if let Some(l) = listeners.clone().find(|l| l.at == seen.destination) {
        return Whose::Inbound(*l);
    }
    for l in listeners.copied() {
        if (0..BACKENDS).any(|n| l.backend(n) == seen.source) {
            return Whose::Outbound(l);
        }
    }
    Whose::Host
}

/// A WireGuard message by its type and length.
fn is_wireguard(payload: &[u8]) -> bool {
    match (payload.first(), payload.len()) {
        (Some(1), 148) | (Some(2), 92) | (Some(3), 64) => true,
        (Some(4), len) => len >= 32,
        _ => false,
    }
}

/// An OpenVPN message by its opcode and least length.
fn is_openvpn(payload: &[u8]) -> bool {
    payload.len() >= 14 && (1..=11).contains(&(payload[0] / 8))
}

/// A TCP header (its first eight bytes left out) with flags that a connection has.
fn is_tcp(payload: &[u8]) -> bool {
    let flags = payload[5];
    flags & 0x17 != 0 && (flags & 0x02 == 0 || flags & 0x05 == 0)
}

/// The id by which an inbound message knows its session; 0 is none.
fn inbound_id(l: &Listener, payload: &[u8]) -> u32 {
    let word = |at: usize| {
        payload[at..at + 4].iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte))
    };
    if l.profile == Profile::OpenVpn {
        let peer = payload[1..4].iter().fold(0, |peer, byte| peer << 8 | u32::from(*byte));
        let named = payload[0] / 8 == 9 && peer != 0xff_ffff;
        return if named { peer + 1 } else { 0 };
    }
    let half = |at: usize| {
        payload[at..at + 4].iter().fold(0, |word: u32, byte| word << 8 | u32::from(*byte))
    };
    if l.profile == Profile::Dtls {
        let at = match payload {
            [0x30..0x40, ..] => 1,
            [25, ..] => 11,
            _ => return 0,
        };
        return half(at).wrapping_add(half(at + 4)).max(1);
    }
    if l.profile == Profile::Quic {
        let at = match payload {
            [0..128, ..] => 1,
            [_, _, _, _, _, 8..=255, ..] => 6,
            _ => return 0,
        };
        return half(at).wrapping_add(half(at + 4)).max(1);
    }
    if l.profile != Profile::WireGuard || word(0) >> 8 != 0 {
        return 0;
    }
    match payload[0] {
        2 => word(8),
        3 | 4 => word(4),
        _ => 0,
    }
}

/// The server that the connection id of a short header names. No id of a session's does.
fn named(l: &Listener, payload: &[u8]) -> Option<u32> {
    let [0..128, first, server @ ..] = payload else { return None };
    if l.profile != Profile::Quic || first >> 5 != site::QUIC_LB {
        return None;
    }
    (0..BACKENDS).find(|n| server.starts_with(&site::server_id(*n)))
}

/// The session that an inbound packet belongs to: the id's, else the flow's.
fn session<'s>(scene: &'s Scene, l: &Listener, seen: &Seen) -> Option<&'s Session> {
    let is_own = |s: &&Session| {
        s.listener.flow_service() == l.flow_service() && s.client.is_ipv4() == seen.source.is_ipv4()
    };
    let mut own = scene.sessions.iter().filter(is_own);
    let id = inbound_id(l, &seen.payload);
    let by_id = own.clone().find(|s| id != 0 && s.in_id == id);
    by_id.or_else(|| own.find(|s| s.client == seen.source))
}

fn inbound(
    scene: &Scene,
    l: &Listener,
    seen: &Seen,
    frame: &[u8],
    ingress: u32,
    outcome: &Outcome,
) -> Result<(), &'static str> {
    let after = read::read(&outcome.frame).ok_or("broken")?;
    let ordinal = (0..BACKENDS).find(|n| l.backend(*n) == after.destination);
    let ordinal = ordinal.ok_or("not sent to a backend of the listener's")?;
    if let Some(server) = named(l, &seen.payload) {
        must(ordinal == server, "not sent to the server that its id names")?;
    } else if let Some(session) = session(scene, l, seen) {
        must(ordinal == session.ordinal, "not sent to its session's backend")?;
    }
    must(after.source == seen.source, "another source")?;
    let moved = (seen.destination, after.destination);
    translated(l.hop(ordinal), seen, &after, moved, frame, ingress, outcome)
}

fn outbound(
    l: &Listener,
    seen: &Seen,
    frame: &[u8],
    ingress: u32,
    outcome: &Outcome,
) -> Result<(), &'static str> {
    let Some(hop) = hop_to(seen.destination.ip()) else {
        let refused = outcome.frame == frame && outcome.reason() == Reason::NoRoute;
        return must(refused, "without a route");
    };
    if hop == site::CLIENTS_NARROW && seen.ip_len > usize::from(site::NARROW) {
        let ip = 14 + 4 * seen.tags.len();
        if frame[ip + 6] & 0x40 != 0 {
            let (from, to) = (seen.destination.ip(), seen.source.ip());
            let message = icmp::too_big(from, to, site::NARROW, &frame[ip..]);
            must(outcome.reason() == Reason::IcmpTooBig, "too big, and not refused")?;
            must(outcome.verdict.action == Action::Redirect(ingress), "too big, and nobody told")?;
            return must(outcome.frame[ip + 20..] == message, "told something else");
        }
    }
    let after = read::read(&outcome.frame).ok_or("broken")?;
    must(after.source == l.at, "not from the listener")?;
    must(after.destination == seen.destination, "another destination")?;
    translated(hop, seen, &after, (seen.source, after.source), frame, ingress, outcome)
}

/// What translation must and must not do: `moved` is the address before and after.
fn translated(
    hop: u32,
    seen: &Seen,
    after: &Seen,
    moved: (SocketAddr, SocketAddr),
    frame: &[u8],
    ingress: u32,
    outcome: &Outcome,
) -> Result<(), &'static str> {
    let mtu = if hop == site::CLIENTS_NARROW { usize::from(site::NARROW) } else { 1500 };
    let sent = hop != site::CLIENTS_UNRESOLVED && seen.ip_len <= mtu;
    let action = match (sent, site::interface(hop)) {
        (false, _) => Action::Pass,
        (true, interface) if interface == ingress => Action::Transmit,
        (true, interface) => Action::Redirect(interface),
    };
    must(outcome.verdict.action == action, "another action")?;
    let kind = if sent { Kind::Forwarded } else { Kind::Passed };
    must(outcome.reason().kind() == kind, "another kind of reason")?;
    if sent {
        must(after.to_mac == site::mac(hop), "to another neighbour")?;
        must(after.from_mac == site::own_mac(site::interface(hop)), "from another interface")?;
        must(after.tags == Vec::from_iter(site::tag(hop)), "tagged wrongly")?;
    } else {
        must(after.tags == seen.tags, "tagged anew for the host")?;
    }
    must(after.ttl == seen.ttl - u8::from(sent), "another TTL")?;
    // Checksums that were right are; wrong ones are not made right.
    must(after.ip_sum_right == seen.ip_sum_right, "another IP checksum")?;
    must(after.udp_sum_right == seen.udp_sum_right, "another UDP checksum")?;
    must((after.checksum == 0) == (seen.checksum == 0), "a UDP checksum made or lost")?;
    must(blanked(&outcome.frame, after, moved.1) == blanked(frame, seen, moved.0), "other bytes")
}

/// The frame from its IP header on, without what translation changes.
fn blanked(frame: &[u8], seen: &Seen, moved: SocketAddr) -> Vec<u8> {
    let mut bytes = frame[14 + 4 * seen.tags.len()..].to_vec();
    // (TTL, checksum, source, destination, bytes of an address, ports)
    let (ttl, sum, source, destination, len, ports) =
        if seen.source.is_ipv4() { (8, 10..12, 12, 16, 4, 20) } else { (7, 0..0, 8, 24, 16, 40) };
    let transport_sum = ports + if seen.protocol == PROTO_TCP { 16 } else { 6 };
    let (address, port) =
        if moved == seen.source { (source, ports) } else { (destination, ports + 2) };
    bytes[ttl] = 0;
    for range in [sum, address..address + len, port..port + 2, transport_sum..transport_sum + 2] {
        bytes[range].fill(0);
    }
    bytes
}
