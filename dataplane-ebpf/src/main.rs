//! Fernpass's kernel programs: the stages of the dataplane crate's pipeline, one program each.
#![no_std]
#![no_main]

use aya_ebpf::{bindings::xdp_action, macros::xdp, programs::XdpContext};
use dataplane::pipeline::{Action, Stage, Verdict, stage};
use dataplane_ebpf::context::XdpPacket;
use dataplane_ebpf::log;
use dataplane_ebpf::maps::{self, BpfTables};

/// Decides every frame that comes in on a gateway interface, or hands it to a stage that does.
#[xdp]
#[inline(always)]
pub(crate) fn fernpass(ctx: XdpContext) -> u32 {
    let next = |_: &mut XdpPacket<'_>, stage| hand_on(&ctx, stage);
    stage::hot(&mut XdpPacket::new(&ctx), &BpfTables, |verdict| end(&ctx, verdict), next)
}

/// [`Stage::Other`].
#[xdp]
#[inline(always)]
pub(crate) fn fernpass_other(ctx: XdpContext) -> u32 {
    let next = |_: &mut XdpPacket<'_>, stage| hand_on(&ctx, stage);
    stage::other(&mut XdpPacket::new(&ctx), &BpfTables, |verdict| end(&ctx, verdict), next)
}

/// [`Stage::Inbound`].
#[xdp]
#[inline(always)]
pub(crate) fn fernpass_in(ctx: XdpContext) -> u32 {
    let next = |_: &mut XdpPacket<'_>, stage| hand_on(&ctx, stage);
    stage::inbound(&mut XdpPacket::new(&ctx), &BpfTables, |verdict| end(&ctx, verdict), next)
}

/// [`Stage::Outbound4`].
#[xdp]
#[inline(always)]
pub(crate) fn fernpass_out4(ctx: XdpContext) -> u32 {
    outbound::<false>(&ctx)
}

/// [`Stage::Outbound6`].
#[xdp]
#[inline(always)]
pub(crate) fn fernpass_out6(ctx: XdpContext) -> u32 {
    outbound::<true>(&ctx)
}

#[inline(always)]
fn outbound<const V6: bool>(ctx: &XdpContext) -> u32 {
    let next = |_: &mut XdpPacket<'_>, stage| hand_on(ctx, stage);
    let mut packet = XdpPacket::new(ctx);
    stage::outbound::<V6, _, _, _>(&mut packet, &BpfTables, |verdict| end(ctx, verdict), next)
}

/// [`Stage::Fragment`].
#[xdp]
#[inline(always)]
pub(crate) fn fernpass_frag(ctx: XdpContext) -> u32 {
    let next = |_: &mut XdpPacket<'_>, stage| hand_on(&ctx, stage);
    stage::fragment(&mut XdpPacket::new(&ctx), &BpfTables, |verdict| end(&ctx, verdict), next)
}

/// [`Stage::TooBig`].
#[xdp]
#[inline(always)]
pub(crate) fn fernpass_toobig(ctx: XdpContext) -> u32 {
    end(&ctx, stage::too_big(&mut XdpPacket::new(&ctx), &BpfTables))
}

/// [`Stage::IcmpDirect`].
#[xdp]
#[inline(always)]
pub(crate) fn fernpass_icmp(ctx: XdpContext) -> u32 {
    end(&ctx, stage::icmp_direct(&mut XdpPacket::new(&ctx), &BpfTables))
}

/// [`Stage::Report`].
#[xdp]
#[inline(always)]
pub(crate) fn fernpass_report(ctx: XdpContext) -> u32 {
    let next = |_: &mut XdpPacket<'_>, stage| hand_on(&ctx, stage);
    stage::report(&mut XdpPacket::new(&ctx), &BpfTables, |verdict| end(&ctx, verdict), next)
}

#[inline(always)]
fn end(ctx: &XdpContext, verdict: Verdict) -> u32 {
    log::outcome(ctx, verdict);
    match verdict.action {
        Action::Drop => xdp_action::XDP_DROP,
        Action::Pass => xdp_action::XDP_PASS,
        Action::Transmit => xdp_action::XDP_TX,
        Action::Redirect(interface) => maps::redirect(interface),
    }
}

/// Goes on in another stage's program, and does not come back unless that is missing.
#[inline(always)]
fn hand_on(ctx: &XdpContext, stage: Stage) -> u32 {
    maps::tail_call(ctx, stage);
    end(ctx, stage::missing(&BpfTables))
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
