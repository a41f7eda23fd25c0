//! The decisions: from a packet and the tables to a verdict.
//!
//! ```text
//!                    ┌─ destination is a listener ─▶ inbound ──┐
//!  hot ──▶ other ────┤                                         ├──▶ forward, direct ─▶ Tx, Redirect, Pass
//!   │                └─ source is an endpoint ─────▶ outbound ─┘
//!   └ as usual: forward            neither: ICMP errors about such packets, or the host's
//!
//!  other ──▶ fragment: what is not its packet's first one follows that
//!  other ──▶ icmp_direct: ICMP errors about packets that were not translated
//!  other ──▶ report ──▶ outbound: answers that did not come through the gateway, as agents report them
//!  inbound, outbound, fragment ──▶ too_big: the sender of what does not fit is told
//! ```
//!
//! Each of the [`stage`]s is a program of its own in the kernel, entered by a tail call, with a stack and a
//! verifier's budget of its own. It begins at the beginning of the packet: nothing is handed on but the packet and the
//! tables. The [`hot`] path, which nearly all packets never leave, knows often where to go on, and so spares the
//! stage between.
//!
//! *Answers make sessions*: [`inbound`] never creates, moves or ends one.

mod direct;
mod forward;
mod fragment;
mod hot;
mod icmp;
mod icmp_direct;
mod inbound;
mod mss;
mod outbound;
pub mod report;
mod session;
pub mod stage;
mod too_big;

use crate::abi::AddressKey;
#[cfg(doc)]
use crate::abi::NO_NEXTHOP;
use crate::header::{self, Ip, Udp};
use crate::reason::{Kind, Reason};
use crate::table::Tables;
pub use stage::Stage;
#[cfg(any(test, feature = "host"))]
pub use stage::{run, run_general};

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
    /// How many packets it stands for: more than itself if it is a report's.
    pub(crate) packets: u32,
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
fn facts<T: Tables>(t: &T, ip: Ip, udp: Udp) -> Result<Facts, Reason> {
    let payload_len = header::payload_len(&udp, &ip)?;
    if ip.ttl <= 1 {
        return Err(Reason::TtlExpired);
    }
    Ok(Facts { ip, udp, payload: ip.l4 + header::UDP, payload_len, now: t.now(), packets: 1 })
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
