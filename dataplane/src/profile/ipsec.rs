//! IPsec with IKEv2, its ESP in UDP: IKE is known by the concentrator's SPI, ESP by its own.
//!
//! Source: RFC 7296 (3.1: the header, which begins at 0 on port 500, and behind four zero bytes on the other one), RFC 3948 (ESP in
//! UDP, keepalives), RFC 4303 (ESP), RFC 4555 (MOBIKE). Integers are big-endian.
//!
//! ```text
//! IKE        initiator's SPI, 8 B @0 | responder's SPI, 8 B @8 | version u8@17 | exchange u8@18 | flags u8@19
//! ESP        SPI u32@0, 256 or more | sequence number u32@4
//! keepalive  one byte, 0xff
//! ```
//!
//! Both directions of IKE carry both SPIs. Which of them is the concentrator's the flag tells that marks what comes from the
//! initiator of the association. In the tables it is 32 bits, the sum of its halves, and found in both directions (`control`).
//!
//! ESP's inbound SPI is chosen by the concentrator and told in encrypted messages: the first packets of a new association, on the
//! flow of an open session, teach it. ESP going out has the client's, which nobody else needs.
//!
//! A response to a first message may go to a forged address: it is a handshake, and let through where there is no room
//! to remember it: the second message goes by the client's address. Any other response is to a message that
//! proved the client; a request is not.

use super::{HEAD, Inbound, Outbound, Proof};
use crate::packet::View;
use crate::reason::Reason;

/// Bytes of the IKE header that are read.
pub const IKE: usize = 20;
/// What precedes IKE where ESP is on the same port (RFC 3948, 2.2).
pub const MARKER: usize = 4;
/// Of the shortest message: the whole header (RFC 7296, 3.1).
const SHORTEST_IKE: u32 = 28;
/// Of the shortest ESP packet: SPI, sequence number, four bytes of trailer (RFC 4303, 2), and an integrity check value of eight at least.
const SHORTEST_ESP: u32 = 20;
/// Of a keepalive (RFC 3948, 2.3).
pub(super) const KEEPALIVE: u32 = 1;
/// The lowest SPI that is not reserved (RFC 4303, 2.1).
const FIRST_SPI: u32 = 256;
/// Major version 2; the minor one is ignored (RFC 7296, 2.5).
const VERSION: u8 = 2;
const SA_INIT: u8 = 34;
/// Flags: from the association's initiator; a response.
const INITIATOR: u8 = 0x08;
const RESPONSE: u8 = 0x20;
/// A new association's sequence numbers, which count from 1: of its first packets.
const NEW: u32 = 64;

/// True if what has this head is IKE behind its marker.
#[inline(always)]
pub fn is_marked(head: impl View<HEAD>) -> bool {
    head.u32::<0>() == 0
}

/// Reads the head of what is not marked as IKE: ESP, or a keepalive, which has a head only where Ethernet has padded its frame.
#[inline(always)]
fn esp(head: Option<impl View<HEAD>>, len: u32) -> Result<Option<(u32, u32)>, Reason> {
    match head.map(|head| (u32::from_be(head.u32::<0>()), u32::from_be(head.u32::<4>()))) {
        Some((spi, counter)) if spi >= FIRST_SPI && len >= SHORTEST_ESP => Ok(Some((spi, counter))),
        _ if len == KEEPALIVE => Ok(None),
        _ => Err(Reason::IpsecMalformed),
    }
}

/// ESP from a client. [`Reason::IpsecMalformed`] of IKE, too, which is longer than this.
#[inline(always)]
pub fn inbound(head: Option<impl View<HEAD>>, len: u32) -> Result<Inbound, Reason> {
    Ok(match esp(head, len)? {
        None => Inbound::default(),
        Some((id, counter)) => {
            Inbound { id, counter, data: true, begins: counter < NEW, ..Inbound::default() }
        }
    })
}

/// ESP to a client.
#[inline(always)]
pub fn outbound(head: Option<impl View<HEAD>>, len: u32) -> Result<Outbound, Reason> {
    Ok(match esp(head, len)? {
        None => Outbound::default(),
        Some((_, counter)) => Outbound { counter, proof: Proof::Data, ..Outbound::default() },
    })
}

/// Types of payloads: Encrypted and Authenticated (RFC 7296, 3.2), and the same in parts (RFC 7383, 2.5).
const ENCRYPTED: u8 = 46;
const ENCRYPTED_FRAGMENT: u8 = 53;

struct Message {
    /// The concentrator's SPI; 0 if it has none yet.
    id: u32,
    flags: u8,
    exchange: u8,
    /// The type of its first payload.
    first: u8,
}

/// Reads an IKE message of `len` bytes without its marker. `from_client` decides whose the flags are.
#[inline(always)]
fn ike(head: Option<impl View<IKE>>, len: u32, from_client: bool) -> Result<Message, Reason> {
    let Some(head) = head else { return Err(Reason::IpsecMalformed) };
    if len < SHORTEST_IKE || head.u8::<17>() >> 4 != VERSION {
        return Err(Reason::IpsecMalformed);
    }
    let flags = head.u8::<19>();
    let is_responder = (flags & INITIATOR != 0) == from_client;
    let (initiator, responder) = (head.u64::<0>(), head.u64::<8>());
    let spi = u64::from_be(if is_responder { responder } else { initiator });
    let sum = (spi as u32).wrapping_add((spi >> 32) as u32);
    // Only no SPI is 0.
    let id = sum | u32::from(sum == 0 && spi != 0);
    Ok(Message { id, flags, exchange: head.u8::<18>(), first: head.u8::<16>() })
}

/// IKE from a client.
#[inline(always)]
pub fn ike_inbound(head: Option<impl View<IKE>>, len: u32) -> Result<Inbound, Reason> {
    let m = ike(head, len, true)?;
    let opens = m.exchange == SA_INIT && m.flags & RESPONSE == 0;
    Ok(Inbound { id: m.id, control: true, opens, ..Inbound::default() })
}

/// IKE to a client.
#[inline(always)]
pub fn ike_outbound(head: Option<impl View<IKE>>, len: u32) -> Result<Outbound, Reason> {
    let m = ike(head, len, false)?;
    // What is not encrypted (RFC 7296, 2.21.4) says nothing of who asked.
    let proof = if m.id == 0
        || m.flags & RESPONSE == 0
        || m.exchange != SA_INIT && !matches!(m.first, ENCRYPTED | ENCRYPTED_FRAGMENT)
    {
        Proof::Nothing
    } else if m.exchange == SA_INIT {
        Proof::Handshake
    } else {
        Proof::Data
    };
    let begins = proof as u8 == Proof::Handshake as u8;
    Ok(Outbound { out_id: m.id, control: true, proof, begins, ..Outbound::default() })
}
