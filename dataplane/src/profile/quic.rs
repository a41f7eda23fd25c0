//! QUIC: sessions are known by the connection id that the server chose.
//!
//! Source: RFC 8999 (what all versions have in common), RFC 9000 (17.2, 17.3; 8.1: address validation), RFC 9369 (version 2). Integers are
//! big-endian. A datagram is read at its first packet:
//!
//! ```text
//! long   1 in the highest bit, type @0 | version u32@1 | length of the destination's id u8@5, the id @6 | length of the source's id, the id
//! short  0 in the highest bit @0       | the destination's id @1, whose length nobody tells
//! ```
//!
//! A session's ids are in the tables as the sum of the halves of their first eight bytes; *servers have to choose ids of eight bytes or more*. The
//! client gives the server's id back as soon as it has heard of it, which nobody else can: that opens the session. A server's packets, also the short ones,
//! may go to a forged address before, so they open nothing. The client's ids are not looked at: it may have none, and a server that sees another
//! address takes another of them (RFC 9000, 9.5), which nobody else knows. A session is known by the flow from which the server's id came last
//! instead, and an answer on that moves it. Later ids of the server are told in encrypted messages: one that nobody has, on an open session's flow, is
//! taken for the session's. From another flow, where a client migrates by itself, it leads nowhere, unless servers name themselves in their
//! ids: [`super::quic_lb`].

use super::{HEAD, Inbound, Outbound, Proof};
use crate::packet::{Packet, View};
use crate::reason::Reason;

/// Bytes of the ids that are read.
const ID: usize = 8;
/// Bytes before the first id of a long header.
const LONG: usize = 6;
/// Of the shortest datagram: a stateless reset (RFC 9000, 10.3).
const SHORTEST: u32 = 21;
/// The longest id (RFC 9000, 17.2).
const LONGEST_ID: u8 = 20;
const VERSION_2: u32 = 0x6b33_43cf;
/// The type of a packet that begins a connection: Initial (RFC 9000, 17.2.2; RFC 9369, 3.2).
const INITIAL: u8 = 0;
const INITIAL_2: u8 = 1;
/// The type of a server's packet that has to leave no trace, because the server keeps none: Retry.
const RETRY: u8 = 3;
const RETRY_2: u8 = 0;
/// No packet counter in clear text: one that is not noted.
const NO_COUNTER: u32 = u32::MAX;

/// True if what has this head has a long header.
#[inline(always)]
pub fn is_long(head: impl View<HEAD>) -> bool {
    head.u8::<0>() & 0x80 != 0
}

/// The first eight bytes of an id, as the tables have it: never 0.
#[inline(always)]
pub(super) const fn folded(id: u64) -> u32 {
    let sum = (id as u32).wrapping_add((id >> 32) as u32);
    sum | (sum == 0) as u32
}

/// The first eight bytes of a short header's id; an error of what is none.
#[inline(always)]
fn short(head: Option<impl View<HEAD>>, len: u32) -> Result<u64, Reason> {
    match head {
        Some(head) if len >= SHORTEST && !is_long(head) => Ok(u64::from_be(head.u64::<1>())),
        _ => Err(Reason::QuicMalformed),
    }
}

/// To the server whose id begins with these eight bytes.
const fn to_server(id: u64) -> Inbound {
    Inbound {
        id: folded(id),
        counter: NO_COUNTER,
        data: true,
        both_ways: false,
        closes: false,
        control: false,
        begins: false,
        renews: true,
        unanswered: true,
        opens: false,
        head: (id >> 32) as u32,
    }
}

/// A client's packet with a short header. [`Reason::QuicMalformed`] of a long one, too, which is longer than this.
#[inline(always)]
pub fn inbound(head: Option<impl View<HEAD>>, len: u32) -> Result<Inbound, Reason> {
    Ok(to_server(short(head, len)?))
}

/// A client's packet with a long header.
#[inline(always)]
pub fn long_inbound<P: Packet>(packet: &P, offset: usize, len: u32) -> Result<Inbound, Reason> {
    let v = packet.view::<LONG>(offset).ok_or(Reason::QuicMalformed)?;
    if len < SHORTEST {
        return Err(Reason::QuicMalformed);
    }
    let initial = if u32::from_be(v.u32::<1>()) == VERSION_2 { INITIAL_2 } else { INITIAL };
    let opens = v.u8::<0>() >> 4 & 3 == initial;
    if v.u8::<5>() < ID as u8 {
        return Ok(Inbound { opens, ..Inbound::default() });
    }
    let id = packet.view::<ID>(offset + LONG).ok_or(Reason::QuicMalformed)?;
    // Its own first choice is nobody's: it is not taken for a session's, and names no server.
    Ok(Inbound {
        renews: false,
        unanswered: false,
        opens,
        ..to_server(u64::from_be(id.u64::<0>()))
    })
}

/// A server's packet with a short header, of which its flow tells whose it is.
#[inline(always)]
pub fn outbound(head: Option<impl View<HEAD>>, len: u32) -> Result<Outbound, Reason> {
    short(head, len)?;
    Ok(Outbound { counter: NO_COUNTER, ..Outbound::default() })
}

/// The same where the flow is not known: the server's id may have come from it.
#[inline(always)]
pub fn short_outbound(head: Option<impl View<HEAD>>, len: u32) -> Result<Outbound, Reason> {
    short(head, len)?;
    Ok(Outbound { counter: NO_COUNTER, follows: true, ..Outbound::default() })
}

/// A server's packet with a long header: it hands out the server's id.
#[inline(always)]
pub fn long_outbound<P: Packet>(packet: &P, offset: usize, len: u32) -> Result<Outbound, Reason> {
    let v = packet.view::<LONG>(offset).ok_or(Reason::QuicMalformed)?;
    if len < SHORTEST {
        return Err(Reason::QuicMalformed);
    }
    let version = u32::from_be(v.u32::<1>());
    let kind = v.u8::<0>() >> 4 & 3;
    let to_len = v.u8::<5>();
    let retry = if version == VERSION_2 { RETRY_2 } else { RETRY };
    // Version negotiation has version 0.
    if version == 0 || kind == retry || to_len > LONGEST_ID {
        return Ok(Outbound::default());
    }
    let from = offset + LONG + usize::from(to_len);
    let from_len = packet.view::<1>(from).ok_or(Reason::QuicMalformed)?.u8::<0>();
    if from_len < ID as u8 {
        return Ok(Outbound::default());
    }
    let in_id = packet.view::<ID>(from + 1).ok_or(Reason::QuicMalformed)?.u64::<0>();
    Ok(Outbound {
        in_id: folded(u64::from_be(in_id)),
        counter: NO_COUNTER,
        proof: Proof::Handshake,
        ..Outbound::default()
    })
}
