//! Messages for debugging: what became of each packet.
//!
//! The level is a constant to the verifier (read-only data, frozen before the program is
//! loaded): unless the loader raised it, none of this is left in the program. It is apart from the
//! entry points, so that what messages take of the stack adds to no frame of the pipeline's.

use aya_ebpf::programs::XdpContext;
use aya_log_ebpf::macro_support::{Level, level_enabled};
use aya_log_ebpf::{debug, trace};
use dataplane::pipeline::Verdict;
use dataplane::reason::Kind;

/// Tells a packet's end: at `debug` if it was dropped, else at `trace`.
#[inline(always)]
pub fn outcome(ctx: &XdpContext, verdict: Verdict) {
    if level_enabled(Level::Debug) {
        let length = (ctx.data_end() - ctx.data()) as u32;
        let interface = ctx.ingress_ifindex() as u32;
        let is_dropped = matches!(verdict.reason.kind(), Kind::Dropped);
        tell(verdict.reason as u32, is_dropped, interface, length);
    }
}

/// User space knows the reasons by their numbers.
#[inline(never)]
fn tell(reason: u32, is_dropped: bool, interface: u32, length: u32) {
    if is_dropped {
        debug!((), "reason {}, {} bytes from interface {}", reason, length, interface);
    } else {
        trace!((), "reason {}, {} bytes from interface {}", reason, length, interface);
    }
}
