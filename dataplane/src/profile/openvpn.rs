//! OpenVPN over UDP: sessions are known by the peer-id.
//!
//! Source: OpenVPN's `doc/` on the protocol and `ssl_pkt.h`. Integers are big-endian. Every message
//! begins with a byte `opcode << 3 | key_id`:
//!
//! ```text
//! 1 to 5, 7, 8, 10, 11  control  sender's session id, 8 B @1 | ...
//! 6                     DATA_V1  ...
//! 9                     DATA_V2  peer-id, 24 bits @1 | packet-id u32@4 | ...
//! ```
//!
//! The server chooses the peer-id, both directions carry it, and every server counts from 0: at a
//! service of several servers the *same id means as many sessions as there are servers*. So answers,
//! whose endpoint tells the server, are told apart by the id; inbound packets on their flow by the flow, and
//! those from elsewhere by the packet-id (see `table::ids`). In the tables a peer-id is the id plus 1, because
//! there 0 is none; 0xffffff is a client without one.
//!
//! A server gives the id of a client that left to the next one. What tells this from a roam is the
//! handshake before it: a roamed client does none. A server sends its first `P_CONTROL_V1` of a session
//! (with key 0; renegotiations count on) to a client that has given back the server's session id, so it is no
//! answer to a forged address. `P_CONTROL_HARD_RESET_SERVER` may be, and leaves no trace.

use super::{HEAD, Inbound, Outbound, Proof};
use crate::packet::View;
use crate::reason::Reason;

/// A server's first `P_CONTROL_V1`: opcode 4 and key 0.
const BEGINNING: u8 = 4 << 3;
/// A client's hard resets: `P_CONTROL_HARD_RESET_CLIENT_V1`, `_V2` and `_V3`.
const RESET_V1: u8 = 1;
const RESET_V2: u8 = 7;
const RESET_V3: u8 = 10;
const DATA_V1: u8 = 6;
const DATA_V2: u8 = 9;
/// The highest opcode: `P_CONTROL_WKC_V1`.
const LAST: u8 = 11;
/// Bytes of the shortest message: a control message's opcode, session id, no acknowledgements, packet-id. Data
/// has a packet-id, and a tag or a padded block.
const SHORTEST: u32 = 14;

struct Message {
    /// Opcode and key.
    kind: u8,
    /// It is data, of whichever version.
    data: bool,
    /// Of data: the peer-id plus 1; 0 is none, as in DATA_V1.
    id: u32,
    /// Of data: the packet-id.
    counter: u32,
}

#[inline(always)]
fn read(head: Option<impl View<HEAD>>, len: u32) -> Result<Message, Reason> {
    let Some(head) = head else { return Err(Reason::OpenVpnMalformed) };
    let word = u32::from_be(head.u32::<0>());
    let kind = (word >> 24) as u8;
    let opcode = kind >> 3;
    if len < SHORTEST || !(1..=LAST).contains(&opcode) {
        return Err(Reason::OpenVpnMalformed);
    }
    if opcode != DATA_V1 && opcode != DATA_V2 {
        return Ok(Message { kind, data: false, id: 0, counter: 0 });
    }
    // All bits for version 2, none for version 1, without a branch: the verifier would follow both.
    let named = 0_u32.wrapping_sub(u32::from(opcode >> 3));
    Ok(Message {
        kind,
        data: true,
        // The id that is none becomes 0.
        id: (word + 1) & 0xff_ffff & named,
        counter: u32::from_be(head.u32::<4>()) & named,
    })
}

/// Data of version 2 carries the peer-id.
#[inline(always)]
pub fn inbound(head: Option<impl View<HEAD>>, len: u32) -> Result<Inbound, Reason> {
    let m = read(head, len)?;
    Ok(Inbound {
        id: m.id,
        counter: m.counter,
        data: m.data,
        both_ways: true,
        opens: matches!(m.kind >> 3, RESET_V1 | RESET_V2 | RESET_V3),
        ..Inbound::default()
    })
}

/// Data proves the client, and names it; the first of the control messages that a server sends to a client
/// only if it is there says that a session begins.
#[inline(always)]
pub fn outbound(head: Option<impl View<HEAD>>, len: u32) -> Result<Outbound, Reason> {
    let m = read(head, len)?;
    let said = Outbound { both_ways: true, ..Outbound::default() };
    Ok(if m.data {
        Outbound { out_id: m.id, counter: m.counter, proof: Proof::Data, ..said }
    } else if m.kind == BEGINNING {
        Outbound { proof: Proof::Handshake, begins: true, ..said }
    } else {
        said
    })
}
