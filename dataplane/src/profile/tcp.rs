//! TCP: connections, known by their flow alone.
//!
//! Source: RFC 9293, 3.1. A profile is given what follows the first eight bytes of the transport header, of TCP
//! that is the rest of the header:
//!
//! ```text
//! acknowledgement u32@0 | data offset, 4 bits@4 | flags@5 | window u16@6 | checksum u16@8 | urgent u16@10
//! ```
//!
//! A server answers a SYN from anywhere, so a SYN-ACK proves nothing: it is remembered as a handshake, while there
//! is room, so that the connection stays where it is whatever happens to the pool meanwhile; without room it is
//! forwarded without state. Data, or an end, a server sends to a client that has acknowledged the SYN-ACK, and thereby is there. An
//! acknowledgement alone proves nothing: so a server answers, too, what does not fit a connection that is only beginning
//! (3.10.7.4), and that can be forged.

use super::{HEAD, Inbound, Outbound, Proof};
use crate::header::SYN;
use crate::packet::View;
use crate::reason::Reason;

const FIN: u8 = 0x01;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// The flags, of a header within `len` bytes from its ninth on; and whether anything follows it.
#[inline(always)]
fn read(head: Option<impl View<HEAD>>, len: u32) -> Result<(u8, bool), Reason> {
    let Some(head) = head else { return Err(Reason::TcpMalformed) };
    let offset = u32::from(head.u8::<4>() >> 4) << 2;
    let flags = head.u8::<5>() & (FIN | SYN | RST | ACK);
    // What no connection has: without any flag, or a beginning that is an end too.
    if offset < 20 || offset > len + 8 || flags == 0 || flags & SYN != 0 && flags & (FIN | RST) != 0
    {
        return Err(Reason::TcpMalformed);
    }
    Ok((flags, offset < len + 8))
}

/// A client's reset ends the connection; its FIN is answered by one.
#[inline(always)]
pub fn inbound(head: Option<impl View<HEAD>>, len: u32) -> Result<Inbound, Reason> {
    let (flags, _) = read(head, len)?;
    let opens = flags & (SYN | ACK) == SYN;
    Ok(Inbound { closes: flags & RST != 0, opens, ..Inbound::default() })
}

/// See the module.
#[inline(always)]
pub fn outbound(head: Option<impl View<HEAD>>, len: u32) -> Result<Outbound, Reason> {
    let (flags, has_data) = read(head, len)?;
    let proof = if flags & RST != 0 {
        Proof::Nothing
    } else if flags & SYN != 0 {
        Proof::Handshake
    } else if has_data || flags & FIN != 0 {
        Proof::Data
    } else {
        Proof::Nothing
    };
    let (begins, closes) = (flags & SYN != 0, flags & (FIN | RST) != 0);
    // There is no counter: one that is not noted.
    Ok(Outbound { proof, begins, closes, counter: u32::MAX, ..Outbound::default() })
}
