//! WireGuard: sessions are known by the receiver's index.
//!
//! Source: the WireGuard whitepaper, section 5.4, and the kernel's
//! `drivers/net/wireguard/messages.h`. Integers are little-endian.
//!
//! ```text
//! 1 initiation  148 B  type | sender@4 | ...
//! 2 response     92 B  type | sender@4 | receiver@8 | ...
//! 3 cookie       64 B  type | receiver@4 | ...
//! 4 data      >= 32 B  type | receiver@4 | counter u64@8 | ...
//! ```
//!
//! Byte 0 is the type; bytes 1 to 3 are zero. Some clients (WARP and its kin)
//! put their own mark there: their indices cannot be trusted, so the flow alone
//! counts, as in the `udp` profile.

use super::{HEAD, Inbound, Outbound, Proof};
use crate::packet::View;
use crate::reason::Reason;

const INITIATION: u8 = 1;
const RESPONSE: u8 = 2;
const COOKIE: u8 = 3;
const DATA: u8 = 4;

struct Message {
    kind: u8,
    /// The words at 4 and 8, host order.
    first: u32,
    second: u32,
    /// Bytes 1 to 3 are zero.
    plain: bool,
}

#[inline(always)]
fn read(head: Option<impl View<HEAD>>, len: u32) -> Result<Message, Reason> {
    // Every message has more bytes than that.
    let Some(head) = head else { return Err(Reason::WireGuardMalformed) };
    let word = u32::from_le(head.u32::<0>());
    let kind = word as u8;
    let fits = match kind {
        INITIATION => len == 148,
        RESPONSE => len == 92,
        COOKIE => len == 64,
        DATA => len >= 32,
        _ => false,
    };
    if !fits {
        return Err(Reason::WireGuardMalformed);
    }
    Ok(Message {
        kind,
        first: u32::from_le(head.u32::<4>()),
        second: u32::from_le(head.u32::<8>()),
        plain: word >> 8 == 0,
    })
}

/// Everything but an initiation carries the concentrator's index.
#[inline(always)]
pub fn inbound(head: Option<impl View<HEAD>>, len: u32) -> Result<Inbound, Reason> {
    let m = read(head, len)?;
    if !m.plain || m.kind == INITIATION {
        return Ok(Inbound { opens: m.kind == INITIATION, ..Inbound::default() });
    }
    Ok(match m.kind {
        RESPONSE => Inbound { id: m.second, ..Inbound::default() },
        COOKIE => Inbound { id: m.first, ..Inbound::default() },
        _ => Inbound { id: m.first, counter: m.second, data: true, ..Inbound::default() },
    })
}

/// A handshake message hands out the concentrator's index; a response also
/// names the client's, and so does data. Only data proves the client: with
/// shared keys a replayed initiation is answered by any other concentrator.
#[inline(always)]
pub fn outbound(head: Option<impl View<HEAD>>, len: u32) -> Result<Outbound, Reason> {
    let m = read(head, len)?;
    if !m.plain {
        let proof = if m.kind == DATA { Proof::Data } else { Proof::Answer };
        return Ok(Outbound { proof, ..Outbound::default() });
    }
    Ok(match m.kind {
        INITIATION => Outbound { in_id: m.first, proof: Proof::Handshake, ..Outbound::default() },
        RESPONSE => Outbound {
            in_id: m.first,
            out_id: m.second,
            proof: Proof::Handshake,
            ..Outbound::default()
        },
        COOKIE => Outbound::default(),
        _ => Outbound {
            out_id: m.first,
            counter: m.second,
            proof: Proof::Data,
            ..Outbound::default()
        },
    })
}
