//! The benches' kernel programs. `player` writes each packet anew and hands it on to the
//! program under test, in test runs that repeat it.
#![no_std]
#![no_main]

mod variants;

use aya_ebpf::bindings::{BPF_F_MMAPABLE, xdp_action};
use aya_ebpf::helpers::generated::bpf_redirect;
use aya_ebpf::macros::{map, xdp};
use aya_ebpf::maps::{Array, ProgramArray};
use aya_ebpf::programs::XdpContext;
use bench_ebpf::{Arrived, FRAME_WORDS, LAN, Play, TARGETS as COUNT, id, port};
use dataplane::header::ETHERNET;
use dataplane::packet::{Packet, View};
use dataplane::pipeline::{Action, Verdict, stage};
use dataplane::reason::Reason;
use dataplane::table::{Sessions as _, Tables};
use dataplane_ebpf::context::XdpPacket;
use dataplane_ebpf::maps::{BpfTables, redirect};
use variants::{GivenTables, HashTables};

#[map]
static PLAY: Array<Play> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
static ARRIVED: Array<Arrived> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
static TARGETS: ProgramArray = ProgramArray::with_max_entries(COUNT, 0);

/// Writes the next packet over the frame, and runs the target on it. What comes back is the
/// target's verdict; `XDP_ABORTED` if there is none.
#[xdp]
pub(crate) fn player(ctx: XdpContext) -> u32 {
    if let Some(target) = play(&ctx) {
        // SAFETY: the context is the program's own; if there is no such program it returns.
        unsafe { TARGETS.tail_call(&ctx, target) };
    }
    xdp_action::XDP_ABORTED
}

#[inline(always)]
fn play(ctx: &XdpContext) -> Option<u32> {
    let pointer = PLAY.get_ptr_mut(0)?;
    // SAFETY: the element lives as long as the program, and test runs of one bench do not overlap.
    let play = unsafe { &mut *pointer };
    let flow = play.first.wrapping_add(draw(play));
    let packet = XdpPacket::new(ctx);
    macro_rules! restore {
        ($frame:ident: $($word:literal)*) => {$(
            $frame.set_u32::<{ $word * 8 }>(play.frame[$word] as u32);
            $frame.set_u32::<{ $word * 8 + 4 }>((play.frame[$word] >> 32) as u32);
        )*};
    }
    let frame = packet.view::<64>(0)?;
    restore!(frame: 0 1 2 3 4 5 6 7);
    if let Some(frame) = packet.view::<{ FRAME_WORDS * 8 }>(0) {
        restore!(frame: 8 9 10 11);
    }
    let word = |at: u32, value: u32| {
        if at != 0
            && let Some(view) = packet.view::<4>(at as usize)
        {
            view.set_u32::<0>(value);
        }
    };
    let client = play.client.wrapping_add(flow);
    word(play.client_at, client.to_be());
    let backend = flow & play.backend_mask;
    word(play.backend_at, play.backend.wrapping_add(backend).to_be());
    let counter = play.played as u32;
    if play.id_prefix == 0 {
        word(play.id_at, id(flow, play.id_factor).to_le());
        word(play.counter_at, counter.to_le());
    } else {
        word(play.id_at, play.id_prefix.wrapping_add(flow).to_be());
        word(play.counter_at, counter.to_be());
    }
    if play.port_at != 0 {
        packet.view::<2>(play.port_at as usize)?.set_u16::<0>(port(flow).to_be());
    }
    if play.checksum_at != 0 {
        let sum = play.sum + (client >> 16) + (client & 0xffff);
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = (sum & 0xffff) + (sum >> 16);
        packet.view::<2>(play.checksum_at as usize)?.set_u16::<0>(!(sum as u16).to_be());
    }
    Some(play.target)
}

/// The next flow, from 0.
#[inline(always)]
fn draw(play: &mut Play) -> u32 {
    play.played += 1;
    if play.is_random == 0 {
        let flow = play.next;
        play.next = if flow + 1 < play.flows { flow + 1 } else { 0 };
        return flow;
    }
    let mut x = play.random;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    play.random = x;
    (((x >> 32) * u64::from(play.flows)) >> 32) as u32
}

/// The harness alone.
#[xdp]
pub(crate) fn control(_ctx: XdpContext) -> u32 {
    xdp_action::XDP_TX
}

/// The least that a forwarder does: read the headers, write the link layer's addresses.
#[xdp]
pub(crate) fn floor(ctx: XdpContext) -> u32 {
    if rewrite(&ctx).is_some() { xdp_action::XDP_TX } else { xdp_action::XDP_DROP }
}

/// The floor, and the way out of another interface as the gateway's program takes it.
#[xdp]
pub(crate) fn redirected(ctx: XdpContext) -> u32 {
    match PLAY.get(0) {
        Some(play) if rewrite(&ctx).is_some() => redirect(play.interface),
        _ => xdp_action::XDP_DROP,
    }
}

/// The floor, and one cache line of the session table, another for each flow: read and written as
/// a session's counts are. What no lookup can do without.
#[xdp]
pub(crate) fn line(ctx: XdpContext) -> u32 {
    if rewrite(&ctx).is_some() && touch(&ctx).is_some() {
        xdp_action::XDP_TX
    } else {
        xdp_action::XDP_DROP
    }
}

/// The floor, and one look at each table that a translated packet has to ask, in the order in which one leads to the next; and
/// out of another interface. Nothing is compared, translated or learned of what is found.
#[xdp]
pub(crate) fn tables(ctx: XdpContext) -> u32 {
    match ask_all(&ctx) {
        Some(interface) if rewrite(&ctx).is_some() => redirect(interface),
        _ => xdp_action::XDP_DROP,
    }
}

#[inline(always)]
fn ask_all(ctx: &XdpContext) -> Option<u32> {
    let t = &BpfTables;
    let s = t.settings()?;
    let hash = flow_hash(ctx)?;
    let region = s.directory.get();
    let destination = XdpPacket::new(ctx).view::<34>(0)?.u32::<30>();
    let entry = t.directory_entry((region >> 32) as u32 + (destination & region as u32))?;
    // What is found is next to always 0 there, which only the compiler does not know.
    let nothing = (entry.word.load() >> 63) as u32;
    let slot = t.slot((hash as u32 & s.slot_mask.get()) + nothing)?;
    slot.zero.set(slot.zero.get());
    let endpoint = t.endpoint(slot.endpoint.get().into())?;
    let nexthop = t.nexthop(endpoint.nexthop & 0xff)?;
    t.count(Reason::NotOurs);
    Some(PLAY.get(0)?.interface + u32::from(nexthop.vlan_protocol.get()))
}

/// The floor, and what no session can be opened without: a line of the slots, of the details, two of the ids and one of the
/// hints, other ones for each flow, all at once.
#[xdp]
pub(crate) fn lines(ctx: XdpContext) -> u32 {
    if rewrite(&ctx).is_some() && touch_all(&ctx).is_some() {
        xdp_action::XDP_TX
    } else {
        xdp_action::XDP_DROP
    }
}

#[inline(always)]
fn touch_all(ctx: &XdpContext) -> Option<()> {
    let s = BpfTables.settings()?;
    let hash = flow_hash(ctx)?;
    let index = hash as u32 & s.slot_mask.get();
    let slot = BpfTables.slot(index)?;
    slot.zero.set(slot.zero.get());
    let detail = BpfTables.detail(index)?;
    detail.moves.set(detail.moves.get());
    let part = |factor: u64, buckets| {
        dataplane::table::hash::part(hash.wrapping_mul(factor) >> 32, buckets)
    };
    BpfTables.ids(part(0xd6e8_feb8_6659_fd93, s.id_buckets.get()))?.0[0].load();
    BpfTables.ids(part(0xa076_1d64_78bd_642f, s.id_buckets.get()))?.0[0].load();
    BpfTables.hints(part(0x9e37_79b9_7f4a_7c15, s.hint_buckets.get()))?.0[0].load();
    Some(())
}

#[inline(always)]
fn touch(ctx: &XdpContext) -> Option<()> {
    let slot = BpfTables.slot(flow_hash(ctx)? as u32 & BpfTables.settings()?.slot_mask.get())?;
    // As it was: the table is the gateway's.
    slot.zero.set(slot.zero.get());
    Some(())
}

/// Another one for each flow, in the lower half.
#[inline(always)]
fn flow_hash(ctx: &XdpContext) -> Option<u64> {
    let packet = XdpPacket::new(ctx);
    // The words in which a client's address is, as a source or as a destination, of either family.
    let v = packet.view::<46>(0)?;
    let term = |word: u32, factor: u64| u64::from(word).wrapping_mul(factor);
    let flow = term(v.u32::<26>(), 0x9e37_79b9_7f4a_7c15)
        .wrapping_add(term(v.u32::<30>(), 0xd6e8_feb8_6659_fd93))
        .wrapping_add(term(v.u32::<42>(), 0xa076_1d64_78bd_642f));
    Some((flow ^ flow >> 29).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32)
}

/// The same as the floor, and out of the interface to the concentrators: as little as forwarding can cost.
#[xdp]
pub(crate) fn shortcut(ctx: XdpContext) -> u32 {
    if rewrite(&ctx).is_none() {
        return xdp_action::XDP_DROP;
    }
    // SAFETY: a helper without pointers.
    unsafe { bpf_redirect(LAN, 0) as u32 }
}

#[inline(always)]
fn rewrite(ctx: &XdpContext) -> Option<()> {
    let packet = XdpPacket::new(ctx);
    let link = dataplane::header::link(&packet).ok()?;
    let ip = if link.v6 {
        dataplane::header::ipv6(&packet, link.l3)
    } else {
        dataplane::header::ipv4(&packet, link.l3)
    };
    dataplane::header::udp(&packet, ip.ok()?.l4)?;
    let ethernet = packet.view::<ETHERNET>(0)?;
    ethernet.set_u32::<0>(0x0200_0000_u32.to_be());
    ethernet.set_u16::<4>(1_u16.to_be());
    ethernet.set_u16::<6>(0x0200_u16.to_be());
    ethernet.set_u32::<8>(2_u32.to_be());
    Some(())
}

/// At the end of the way: counts what arrives, and drops it.
#[xdp]
pub(crate) fn receive(ctx: XdpContext) -> u32 {
    if let Some(pointer) = ARRIVED.get_ptr_mut(0) {
        // SAFETY: the element lives as long as the program; all frames of a bench come to
        // one processor, and userspace reads when none are under way.
        let arrived = unsafe { &mut *pointer };
        let packet = XdpPacket::new(&ctx);
        let to = packet.view::<34>(0).map_or(0, |frame| u32::from_be(frame.u32::<30>()));
        if to & arrived.mask == arrived.network {
            arrived.right += 1;
        } else {
            arrived.others += 1;
        }
    }
    xdp_action::XDP_DROP
}

/// The gateway's pipeline, with sessions in a BPF hash.
#[xdp]
#[inline(always)]
pub(crate) fn hashed(ctx: XdpContext) -> u32 {
    pipeline(&ctx, &HashTables)
}

/// The gateway's pipeline, with a session that it need not look up.
#[xdp]
#[inline(always)]
pub(crate) fn given(ctx: XdpContext) -> u32 {
    pipeline(&ctx, &GivenTables)
}

#[inline(always)]
fn pipeline(ctx: &XdpContext, tables: &impl Tables) -> u32 {
    let mut packet = XdpPacket::new(ctx);
    let end = |verdict: Verdict| match verdict.action {
        Action::Drop => xdp_action::XDP_DROP,
        Action::Pass => xdp_action::XDP_PASS,
        Action::Transmit => xdp_action::XDP_TX,
        Action::Redirect(interface) => redirect(interface),
    };
    // Nothing counts these: the bench would say so.
    stage::hot(&mut packet, tables, end, |_, _| xdp_action::XDP_ABORTED)
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
