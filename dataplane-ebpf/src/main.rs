//! Fernpass's kernel program: the dataplane crate's pipeline behind one entry point.
#![no_std]
#![no_main]

use aya_ebpf::{bindings::xdp_action, macros::xdp, programs::XdpContext};
use dataplane::pipeline::{self, Action};
use dataplane_ebpf::context::XdpPacket;
use dataplane_ebpf::log;
use dataplane_ebpf::maps::{self, BpfTables};

/// Decides every frame that comes in on a gateway interface.
#[xdp]
#[inline(always)]
pub(crate) fn fernpass(ctx: XdpContext) -> u32 {
    let mut packet = XdpPacket::new(&ctx);
    pipeline::run_to(&mut packet, &BpfTables, |verdict| {
        log::outcome(&ctx, verdict);
        match verdict.action {
            Action::Drop => xdp_action::XDP_DROP,
            Action::Pass => xdp_action::XDP_PASS,
            Action::Transmit => xdp_action::XDP_TX,
            Action::Redirect(interface) => maps::redirect(interface),
        }
    })
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
