//! Any UDP protocol: the flow alone. A session opens at the second answer,
//! because one answer is what a single spoofed datagram can cause.

use super::{Inbound, Outbound, Proof};

/// An inbound datagram says nothing: any may be a client's first.
#[inline(always)]
pub fn inbound() -> Inbound {
    Inbound { opens: true, ..Inbound::default() }
}

/// An answer counts, whatever it carries.
#[inline(always)]
pub fn outbound() -> Outbound {
    Outbound { proof: Proof::Answer, ..Outbound::default() }
}
