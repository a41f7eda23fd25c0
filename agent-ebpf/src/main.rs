//! Fernpass's agent in the kernel: what leaves an interface of a backend passes by, and a copy of what the gateway is to know goes to
//! user space. What that is, is decided by `dataplane::watch`.
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

use aya_ebpf::helpers::generated::{bpf_ktime_get_coarse_ns, bpf_skb_load_bytes};
use aya_ebpf::macros::{classifier, map};
use aya_ebpf::maps::{HashMap, LruHashMap, PerCpuArray, RingBuf};
use aya_ebpf::programs::TcContext;
use core::arch::asm;
use dataplane::abi::{AddressKey, ticks};
use dataplane::watch::{
    self, COPY, Flow, Known, MAX_FLOWS, MAX_SERVICES, RING_BYTES, Report, Service, Unread,
};
use dataplane_ebpf::context::SkbPacket;

#[map]
static SERVICES: HashMap<AddressKey, Service> = HashMap::with_max_entries(MAX_SERVICES, 0);
#[map]
static FLOWS: LruHashMap<Flow, Known> = LruHashMap::with_max_entries(MAX_FLOWS, 0);
#[map]
static REPORTS: RingBuf = RingBuf::with_byte_size(RING_BYTES, 0);
#[map]
static LOST: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// Bytes that are made linear where they are not: the longest headers, and what is read behind them.
const LINEAR: u32 = 192;
const _: () = assert!(COPY == 256);
/// What another program of the interface decides, or nobody (linux/pkt_cls.h).
const TC_ACT_UNSPEC: i32 = -1;

/// Looks at every frame that leaves.
#[classifier]
#[inline(always)]
pub(crate) fn fernpass_agent(ctx: TcContext) -> i32 {
    watch(&ctx);
    TC_ACT_UNSPEC
}

#[inline(always)]
fn watch(ctx: &TcContext) -> Option<()> {
    let mut packet = SkbPacket::new(ctx);
    // SAFETY: entries are replaced as a whole, and only read here.
    let service = |key: &AddressKey| unsafe { SERVICES.get(key) }.copied();
    let answer = match watch::read(&packet, service) {
        Ok(answer) => answer,
        Err(Unread::Other) => return None,
        // What TCP sends has its headers in the linear part and is not copied for this; datagrams may have nothing there.
        Err(Unread::Short) => {
            packet.pull(LINEAR)?;
            watch::read(&packet, service).ok()?
        }
    };
    // SAFETY: a helper without arguments.
    let now = ticks(unsafe { bpf_ktime_get_coarse_ns() });
    let known = match FLOWS.get_ptr_mut(answer.flow) {
        Some(known) => known,
        None => {
            FLOWS.insert(answer.flow, Known::default(), 0).ok()?;
            FLOWS.get_ptr_mut(answer.flow)?
        }
    };
    // SAFETY: the entry stays while the program runs. Processors that send for one flow at once may count a packet wrong.
    let sums = unsafe { (*known).notice(&answer.said, answer.len, now) };
    tell(ctx, &answer, sums?)
}

/// Puts a copy into the ring buffer.
#[inline(always)]
fn tell(ctx: &TcContext, answer: &watch::Answer, (packets, bytes): (u32, u32)) -> Option<()> {
    let Some(mut entry) = REPORTS.reserve::<Report>(0) else {
        if let Some(lost) = LOST.get_ptr_mut(0) {
            // SAFETY: this processor's own.
            unsafe { *lost += 1 };
        }
        return None;
    };
    let mut less =
        (if answer.len < COPY as u32 { answer.len } else { COPY as u32 }).wrapping_sub(1);
    // SAFETY: a mask, which changes nothing: a packet has 1 to `COPY` bytes, and the verifier wants to know.
    unsafe { asm!("{l} &= 255", l = inout(reg) less, options(pure, nomem, nostack)) };
    let length = less + 1;
    let report = entry.write(Report { packets, bytes, length, packet: [0; COPY] });
    let copy = report.packet.as_mut_ptr();
    // SAFETY: the helper writes no more than the copy has.
    let failed =
        unsafe { bpf_skb_load_bytes(ctx.skb.skb.cast(), answer.l3 as u32, copy.cast(), length) };
    if failed == 0 {
        entry.submit(0);
    } else {
        entry.discard(0);
    }
    Some(())
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
