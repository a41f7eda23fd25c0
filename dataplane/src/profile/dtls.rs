//! DTLS: sessions are known by the connection id that the server chose, if it chose one; else by their flow.
//!
//! Source: RFC 6347 (DTLS 1.2), RFC 9146 (connection ids in 1.2), RFC 9147 (DTLS 1.3; 4.1: which first bytes there are). Integers are
//! big-endian. A datagram is read at its first record:
//!
//! ```text
//! plain    type u8@0, 20 to 24 or 26 | version u16@1 | epoch u16@3 | sequence number, 6 B @5 | length u16@11 | content @13
//! with id  type 25 @0                | version u16@1 | epoch u16@3 | sequence number, 6 B @5 | the destination's id @11, whose length nobody tells
//! unified  001CSLEE @0               | with C, the destination's id @1, whose length nobody tells
//! ```
//!
//! The server's id is in its ServerHello, in clear text (extension 54), in both versions. A client that gives it back has got that: this opens the
//! session, as does the first record of data to it. In 1.3 further ids are told in secret, and learned as QUIC's are. In the
//! tables ids are as QUIC's are, too ([`super::quic`]): *servers have to choose ids of eight bytes or more*.
//!
//! Records to a client have its own id, or none: they tell nothing. A session goes to where its id came from last, as soon as there
//! is an answer to it. Handshake records, also encrypted ones, may go to a forged address, and move sessions, but open none.
//!
//! An alert ends no session: in 1.2 its type is in clear text, but whose it is only its endpoint can tell.

use super::{HEAD, Inbound, Outbound, Proof, quic};
use crate::packet::{FARTHEST, Packet, View};
use crate::reason::Reason;

/// Bytes before the id of a record of type [`WITH_ID`].
pub const PLAIN: usize = 11;
/// Of the shortest record: a header, and one byte.
const SHORTEST: u32 = 14;
/// Of the shortest record with an id: what is protected makes also one with an id of a single byte longer.
const SHORTEST_WITH_ID: u32 = PLAIN as u32 + 8;
/// Of the shortest record with a unified header: the header's two bytes, and what the mask of its sequence number is made of (RFC 9147, 4.2.3).
const SHORTEST_UNIFIED: u32 = 18;
/// Types of records.
const CHANGE_CIPHER_SPEC: u8 = 20;
const HANDSHAKE: u8 = 22;
const DATA: u8 = 23;
const WITH_ID: u8 = 25;
const ACK: u8 = 26;
/// The beginning of a unified header, under its mask.
const UNIFIED: u8 = 0x20;
const UNIFIED_MASK: u8 = 0xe0;
/// In it: there is an id; bits of the epoch; handshake keys' epoch, which comes again after three key updates.
const HAS_ID: u8 = 0x10;
const EPOCH: u8 = 3;
const HANDSHAKE_EPOCH: u8 = 2;
/// Offsets from a record's beginning: its message's type, ServerHello's random, the length of the session's id behind it.
const MESSAGE: usize = 13;
const RANDOM: usize = 27;
const SESSION_ID: usize = 59;
const SERVER_HELLO: u8 = 2;
const LONGEST_SESSION_ID: u8 = 32;
/// First half of the random of a ServerHello that is none: HelloRetryRequest (RFC 8446, 4.1.3), of which servers keep nothing.
const RETRY: u64 = 0xcf21_ad74_e59a_6111_u64.to_be();
/// The extension with the connection id (RFC 9146, 3).
const CONNECTION_ID: u16 = 54;
/// Extensions that are looked at, and bytes of the longest that is skipped: there are keys of more than a thousand.
const EXTENSIONS: usize = 12;
const LONGEST_EXTENSION: u16 = 1200;
/// Of ids.
const SHORTEST_ID: u8 = 8;
/// None is noted.
const NO_COUNTER: u32 = u32::MAX;

/// The kinds of first record.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Record {
    /// In clear text, or of a handshake.
    Handshake,
    /// Data of version 1.2, protected.
    Data,
    /// Of version 1.2, with an id, which hides what it is.
    WithId,
    /// Of version 1.3, protected; perhaps with an id.
    Unified,
}

/// Reads the head of a payload of `len` bytes.
#[inline(always)]
fn record(head: Option<impl View<HEAD>>, len: u32) -> Result<Record, Reason> {
    let Some(head) = head else { return Err(Reason::DtlsMalformed) };
    let first = head.u8::<0>();
    if first & UNIFIED_MASK == UNIFIED {
        return if len >= SHORTEST_UNIFIED {
            Ok(Record::Unified)
        } else {
            Err(Reason::DtlsMalformed)
        };
    }
    let shortest = if first == WITH_ID { SHORTEST_WITH_ID } else { SHORTEST };
    if !matches!(first, CHANGE_CIPHER_SPEC..=ACK) || len < shortest {
        return Err(Reason::DtlsMalformed);
    }
    let is_protected = head.u16::<3>() != 0;
    Ok(match first {
        WITH_ID => Record::WithId,
        DATA if is_protected => Record::Data,
        _ => Record::Handshake,
    })
}

/// To the server whose id begins with these eight bytes, as they lie in memory.
#[inline(always)]
const fn to_server(id: u64, renews: bool) -> Inbound {
    Inbound {
        id: quic::folded(u64::from_be(id)),
        counter: NO_COUNTER,
        data: true,
        both_ways: false,
        closes: false,
        control: false,
        begins: false,
        renews,
        unanswered: true,
        opens: false,
        head: 0,
    }
}

/// A client's record; `id` reads the eight bytes at [`PLAIN`], which lie behind the head.
#[inline(always)]
pub fn inbound(
    head: Option<impl View<HEAD>>,
    len: u32,
    id: impl FnOnce() -> Option<u64>,
) -> Result<Inbound, Reason> {
    match (record(head, len)?, head) {
        (Record::Unified, Some(head)) if head.u8::<0>() & HAS_ID != 0 => {
            Ok(to_server(head.u64::<1>(), true))
        }
        (Record::WithId, _) => Ok(to_server(id().ok_or(Reason::DtlsMalformed)?, false)),
        // ClientHello, the first and the one with a cookie: what follows has higher sequence numbers.
        (Record::Handshake, Some(head)) => {
            let opens = is_handshake(head) && u32::from_be(head.u32::<7>()) <= 1;
            Ok(Inbound { opens, ..Inbound::default() })
        }
        _ => Ok(Inbound::default()),
    }
}

/// A server's record, but for a ServerHello, of which the head tells nothing.
#[inline(always)]
pub fn outbound(head: Option<impl View<HEAD>>, len: u32) -> Result<Outbound, Reason> {
    let proof = match (record(head, len)?, head) {
        (Record::Unified, Some(head)) if head.u8::<0>() & EPOCH == HANDSHAKE_EPOCH => {
            Proof::Nothing
        }
        (Record::Handshake, Some(head)) if is_handshake(head) => return Err(Reason::DtlsMalformed),
        (Record::Handshake, _) => Proof::Nothing,
        _ => Proof::Data,
    };
    Ok(Outbound { counter: NO_COUNTER, proof, follows: true, ..Outbound::default() })
}

/// True if what has this head is a handshake message in clear text.
#[inline(always)]
pub fn is_handshake(head: impl View<HEAD>) -> bool {
    head.u8::<0>() == HANDSHAKE && head.u16::<3>() == 0
}

/// A server's handshake message: ServerHello hands out an id, if there is one.
#[inline(always)]
pub fn handshake<P: Packet>(packet: &P, offset: usize, len: u32) -> Result<Outbound, Reason> {
    if len < SHORTEST {
        return Err(Reason::DtlsMalformed);
    }
    let said = Outbound { counter: NO_COUNTER, ..Outbound::default() };
    let Some(message) = packet.view::<1>(offset + MESSAGE) else { return Ok(said) };
    let Some(random) = packet.view::<8>(offset + RANDOM) else { return Ok(said) };
    if message.u8::<0>() != SERVER_HELLO || random.u64::<0>() == RETRY {
        return Ok(said);
    }
    let in_id = connection_id(packet, offset).unwrap_or(0);
    Ok(Outbound { in_id, proof: Proof::Handshake, ..said })
}

/// The connection id of a ServerHello, as the tables have it; `None` or 0 if it has none that is long enough.
#[inline(always)]
fn connection_id<P: Packet>(packet: &P, offset: usize) -> Option<u32> {
    let session_id = packet.view::<1>(offset + SESSION_ID)?.u8::<0>();
    if session_id > LONGEST_SESSION_ID {
        return None;
    }
    // Behind it: two bytes of the cipher suite, one of compression, two of the extensions' length.
    let lengths = offset + SESSION_ID + 1 + usize::from(session_id) + 3;
    let len = u16::from_be(packet.view::<2>(lengths)?.u16::<0>());
    let mut at = lengths + 2;
    let end = at + usize::from(len);
    for _ in 0..EXTENSIONS {
        if at >= end || at > FARTHEST - 5 {
            return None;
        }
        let extension = packet.view::<5>(at)?;
        let len = u16::from_be(extension.u16::<2>());
        if extension.u16::<0>() == CONNECTION_ID.to_be() {
            let is_long = extension.u8::<4>() >= SHORTEST_ID;
            let id = packet.view::<8>(at + 5)?;
            return is_long.then(|| quic::folded(u64::from_be(id.u64::<0>())));
        }
        if len > LONGEST_EXTENSION {
            return None;
        }
        at += 4 + usize::from(len);
    }
    None
}
