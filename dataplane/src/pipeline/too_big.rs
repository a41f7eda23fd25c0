//! A packet that is larger than its next hop takes and may not be fragmented: its sender is told (RFC 1191, RFC 8201).
//!
//! The host's stack could tell it only about the packet as it was translated, which its sender does not know. So this is done
//! before anything is translated, in a stage of its own: the packet becomes the error about itself, from the address that
//! it was for, and goes back where it came from. Which size would fit is handed over in bytes of the packet that are cut off.

use crate::abi::Address;
use crate::checksum::fold;
use crate::header::{ETHERNET, FRAGMENT, IPV4, IPV6, Link};
use crate::packet::{Packet, View};
use crate::reason::Reason;
use crate::table::{Tables, budget};

use super::{Action, Verdict};

/// Bytes of an ICMP header, and of the transport header that is quoted: ports, and what knows a TCP segment.
const HEADER: usize = 8;
/// Bytes of the quoted packet.
const QUOTE4: usize = IPV4 + HEADER;
/// A fragment has a header before that one.
const QUOTE6: usize = IPV6 + FRAGMENT + HEADER;
/// Bytes of the error, behind which the size is handed over.
const ERROR4: usize = IPV4 + HEADER + QUOTE4;
const ERROR6: usize = IPV6 + HEADER + QUOTE6;
/// Bytes of the size that is handed over.
const SIZE: usize = 4;
/// TTL of the error.
const TTL: u8 = 64;

/// True if the IPv4 header forbids fragments.
#[inline(always)]
pub(super) fn is_whole(ip: impl View<IPV4>) -> bool {
    ip.u8::<6>() & 0x40 != 0
}

/// Leaves the size that would fit in the packet, for [`run`]. Nothing if the packet is too short: then there is no error.
#[inline(always)]
pub(super) fn leave<P: Packet>(packet: &P, link: &Link, mtu: u16) {
    let at = link.l3 + if link.v6 { ERROR6 } else { ERROR4 };
    if let Some(v) = packet.view::<SIZE>(at) {
        v.set_u32::<0>(mtu.into());
    }
}

/// Makes an error of the packet, and sends it back.
#[inline(always)]
pub(super) fn run<P: Packet, T: Tables>(
    packet: &mut P,
    t: &T,
    link: &Link,
) -> Result<Verdict, Reason> {
    let end = become_error(packet, t, link)?;
    let ethernet = packet.view::<ETHERNET>(0).ok_or(Reason::EthernetTruncated)?;
    let (to, to_low) = (ethernet.u32::<6>(), ethernet.u16::<10>());
    ethernet.set_u32::<6>(ethernet.u32::<0>());
    ethernet.set_u16::<10>(ethernet.u16::<4>());
    ethernet.set_u32::<0>(to);
    ethernet.set_u16::<4>(to_low);
    packet.cut(end).ok_or(Reason::TooBig)?;
    // Not transmitted: what a veth transmits waits for something else, if there is no program at its other end (Linux 6.18, veth_xdp_flush).
    Ok(Verdict { action: Action::Redirect(packet.ingress()), reason: Reason::IcmpTooBig })
}

/// Makes an error of the packet, if its sender may be told: where it ends. The link layer stays as it is.
#[inline(always)]
pub(super) fn become_error<P: Packet, T: Tables>(
    packet: &P,
    t: &T,
    link: &Link,
) -> Result<usize, Reason> {
    let s = t.settings().ok_or(Reason::BadTable)?;
    let allowed = |to: Address| {
        if budget::take(t, s, &to, t.now()) { Ok(()) } else { Err(Reason::TooBig) }
    };
    Ok(if link.v6 {
        let v = packet.view::<{ ERROR6 + SIZE }>(link.l3).ok_or(Reason::TooBig)?;
        allowed(Address::from_halves([v.u64::<8>(), v.u64::<16>()]))?;
        six(v);
        link.l3 + ERROR6
    } else {
        let v = packet.view::<{ ERROR4 + SIZE }>(link.l3).ok_or(Reason::TooBig)?;
        allowed(Address::v4(v.u32::<12>()))?;
        four(v);
        link.l3 + ERROR4
    })
}

/// Copies words towards the packet's end, and sums them up.
macro_rules! quote {
    ($v:ident, $by:expr, $($at:literal)*) => {
        0_u64 $(+ {
            let word = $v.u32::<$at>();
            $v.set_u32::<{ $at + $by }>(word);
            u64::from(word)
        })*
    };
}

/// The same of constant words, which are written.
macro_rules! write {
    ($v:ident, $($at:literal: $word:expr,)*) => {
        0_u64 $(+ {
            let word: u32 = $word;
            $v.set_u32::<$at>(word);
            u64::from(word)
        })*
    };
}

const fn word(bytes: [u8; 4]) -> u32 {
    u32::from_ne_bytes(bytes)
}

/// The length of what follows, as two bytes.
const fn length(bytes: usize) -> [u8; 2] {
    (bytes as u16).to_be_bytes()
}

/// Destination unreachable, fragmentation needed (RFC 792; RFC 1191, 4).
#[inline(always)]
fn four(v: impl View<{ ERROR4 + SIZE }>) {
    const LENGTH: [u8; 2] = length(ERROR4);
    let (from, to, mtu) = (v.u32::<16>(), v.u32::<12>(), v.u32::<ERROR4>());
    let mut sum = quote!(v, 28, 0 4 8 12 16 20 24);
    sum += write!(v, 20: word([3, 4, 0, 0]), 24: mtu.to_be(),);
    v.set_u16::<22>(!fold(sum));
    // Network control (RFC 1812, 4.3.2.5); not to be fragmented, and so without an identification.
    let sum = write!(v,
        0: word([0x45, 0xc0, LENGTH[0], LENGTH[1]]),
        4: word([0, 0, 0x40, 0]),
        8: word([TTL, 1, 0, 0]),
        12: from,
        16: to,
    );
    v.set_u16::<10>(!fold(sum));
}

/// Packet too big (RFC 4443, 3.2).
#[inline(always)]
fn six(v: impl View<{ ERROR6 + SIZE }>) {
    const LENGTH: [u8; 2] = length(ERROR6 - IPV6);
    let mtu = v.u32::<ERROR6>();
    // The last ones first: their place is taken.
    let mut sum = quote!(v, 48, 48 52 0 4 8 12 16 20 24 28 32 36 40 44);
    // The addresses change places, which the sum over them does not mind: of the quote's they are still there.
    sum += write!(v,
        0: word([0x60, 0, 0, 0]),
        40: word([2, 0, 0, 0]),
        44: mtu.to_be(),
        8: v.u32::<72>(),
        12: v.u32::<76>(),
        16: v.u32::<80>(),
        20: v.u32::<84>(),
        24: v.u32::<56>(),
        28: v.u32::<60>(),
        32: v.u32::<64>(),
        36: v.u32::<68>(),
    );
    // Of the header only addresses, length and protocol are in the sum (RFC 8200, 8.1).
    sum -= u64::from(word([0x60, 0, 0, 0]));
    sum += u64::from(word([0, 0, LENGTH[0], LENGTH[1]])) + u64::from(word([0, 0, 0, 58]));
    v.set_u32::<4>(word([LENGTH[0], LENGTH[1], 58, TTL]));
    v.set_u16::<42>(!fold(sum));
}
