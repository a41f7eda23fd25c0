//! The BPF maps as tables. All access to map values is in this file. Sizes that
//! depend on the configuration are set when the program is loaded.

use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_ktime_get_coarse_ns};
use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC, xdp_action},
    macros::map,
    maps::{Array, DevMapHash, HashMap, LpmTrie, PerCpuArray, ProgramArray, lpm_trie::Key},
    programs::XdpContext,
};
use core::arch::asm;
use dataplane::abi::{
    self, Address, Bucket, Detail, DirectoryEntry, Endpoint, FRAGMENT_BUCKETS, Layout, LayoutKey,
    MAX_DIRECTORY, MAX_ENDPOINTS, MAX_LAYOUT, MAX_NEXTHOPS, MAX_PACES, MAX_RINGS, MAX_ROUTES,
    MAX_SOURCES, MAX_TENANTS, Meter, Name, NameKey, NextHop, RING_WORDS, Settings, Slot, Tenant,
};
use dataplane::cell::Word;
use dataplane::pipeline::Stage;
use dataplane::reason::{self, Reason};
use dataplane::table::{
    Sessions, Tables, ahead, directory, fragments, hints, ids, meter, quota, slot,
};

#[map]
static SETTINGS: Array<Settings> = Array::with_max_entries(1, BPF_F_MMAPABLE);
#[map]
static DIRECTORY: Array<DirectoryEntry> =
    Array::with_max_entries(2 * MAX_DIRECTORY, BPF_F_MMAPABLE);
#[map]
static ENDPOINTS: Array<Endpoint> = Array::with_max_entries(MAX_ENDPOINTS, BPF_F_MMAPABLE);
#[map]
static SOURCES: Array<Address> = Array::with_max_entries(MAX_SOURCES, BPF_F_MMAPABLE);
#[map]
static TENANTS: Array<Tenant> = Array::with_max_entries(MAX_TENANTS, BPF_F_MMAPABLE);
#[map]
static PACES: Array<Meter> = Array::with_max_entries(MAX_PACES, BPF_F_MMAPABLE);
#[map]
static RINGS: Array<u64> = Array::with_max_entries(MAX_RINGS * RING_WORDS, BPF_F_MMAPABLE);
#[map]
static NEXTHOPS: Array<NextHop> = Array::with_max_entries(MAX_NEXTHOPS, BPF_F_MMAPABLE);
#[map]
static ROUTES: LpmTrie<[u32; 4], u32> = LpmTrie::with_max_entries(MAX_ROUTES, BPF_F_NO_PREALLOC);
#[map]
static DEVICES: DevMapHash = DevMapHash::with_max_entries(256, 0);
#[map]
static SLOTS: Array<Slot> = Array::with_max_entries(1024 + 64, BPF_F_MMAPABLE);
#[map]
static DETAILS: Array<Detail> = Array::with_max_entries(1024 + 64, BPF_F_MMAPABLE);
#[map]
static IDS: Array<Bucket> = Array::with_max_entries(512, BPF_F_MMAPABLE);
#[map]
static HINTS: Array<Bucket> = Array::with_max_entries(128, BPF_F_MMAPABLE);
#[map]
static FRAGMENTS: Array<Bucket> = Array::with_max_entries(FRAGMENT_BUCKETS, BPF_F_MMAPABLE);
#[map]
static BUDGETS: Array<Word> = Array::with_max_entries(abi::BUDGET_SLOTS, BPF_F_MMAPABLE);
#[map]
static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(reason::COUNT, 0);
// Not used here: the loader makes it with the others, and a daemon adopts by it.
#[map]
static NAMES: HashMap<NameKey, Name> =
    HashMap::with_max_entries(MAX_ENDPOINTS + 4096, BPF_F_NO_PREALLOC);
// Nor is this: a daemon of another version reads these tables by it.
#[map]
static LAYOUT: HashMap<LayoutKey, Layout> =
    HashMap::with_max_entries(MAX_LAYOUT, BPF_F_NO_PREALLOC);

// Of these programs alone: an adopting daemon loads its own.
#[map]
static STAGES: ProgramArray = ProgramArray::with_max_entries(Stage::ALL.len() as u32, 0);

/// 1 in tests: time is what [`Settings::test_clock`] says. Set before loading.
#[unsafe(no_mangle)]
static TEST_CLOCK: u32 = 0;

/// The maps.
pub struct BpfTables;

macro_rules! element {
    ($map:ident, $index:expr) => {{
        let pointer = $map.get_ptr($index)?;
        // SAFETY: an array map's element lives as long as the program; what is
        // written concurrently is in cells.
        Some(unsafe { &*pointer })
    }};
}

impl Sessions for BpfTables {
    #[inline(always)]
    fn settings(&self) -> Option<&Settings> {
        element!(SETTINGS, 0)
    }
    #[inline(always)]
    fn slot(&self, index: u32) -> Option<&Slot> {
        element!(SLOTS, index)
    }
    #[inline(always)]
    fn detail(&self, index: u32) -> Option<&Detail> {
        element!(DETAILS, index)
    }
    #[inline(always)]
    fn ids(&self, bucket: u32) -> Option<&Bucket> {
        element!(IDS, bucket)
    }
    #[inline(always)]
    fn hints(&self, bucket: u32) -> Option<&Bucket> {
        element!(HINTS, bucket)
    }
    #[inline(always)]
    fn now(&self) -> u64 {
        // SAFETY: a read of a constant that the loader may have set: volatile, so
        // that the compiler does not take it for the initial value.
        if unsafe { core::ptr::read_volatile(&raw const TEST_CLOCK) } != 0 {
            return self.settings().map_or(0, |s| s.test_clock.get());
        }
        // SAFETY: a helper without arguments.
        unsafe { bpf_ktime_get_coarse_ns() }
    }
    #[inline(always)]
    fn find_flow(&self, hash: u64, port_service: u64, high: u64, low: u64) -> u64 {
        fernpass_find_flow(hash, port_service, high, low)
    }
    #[inline(always)]
    fn claim(&self, hash: u64) -> u64 {
        fernpass_claim(hash)
    }
    #[inline(always)]
    fn publish(&self, hash: u64, index: u32, to: u8) -> u64 {
        fernpass_publish(hash, index.into(), to.into())
    }
    #[inline(always)]
    fn insert_id(&self, scope: u32, id: u32, index: u32) -> u64 {
        fernpass_insert_id(scope.into(), id.into(), index.into())
    }
    #[inline(always)]
    fn remove_id(&self, scope: u32, id: u32, index: u32) -> u64 {
        fernpass_remove_id(scope.into(), id.into(), index.into())
    }
    #[inline(always)]
    fn note_hint(&self, high: u64, low: u64, port_service_ordinal: u64) -> u64 {
        fernpass_note_hint(high, low, port_service_ordinal)
    }
}

impl Tables for BpfTables {
    #[inline(always)]
    fn fragments(&self, bucket: u32) -> Option<&Bucket> {
        element!(FRAGMENTS, bucket)
    }
    #[inline(always)]
    fn budget(&self, index: u32) -> Option<&Word> {
        element!(BUDGETS, index)
    }
    #[inline(always)]
    fn tenant(&self, index: u32) -> Option<&Tenant> {
        element!(TENANTS, index)
    }
    #[inline(always)]
    fn pace(&self, index: u32) -> Option<&Meter> {
        element!(PACES, index)
    }
    #[inline(always)]
    fn directory_entry(&self, index: u32) -> Option<&DirectoryEntry> {
        element!(DIRECTORY, index)
    }
    #[inline(always)]
    fn endpoint(&self, index: u32) -> Option<&Endpoint> {
        element!(ENDPOINTS, index)
    }
    #[inline(always)]
    fn source(&self, index: u32) -> Option<Address> {
        SOURCES.get(index).copied()
    }
    #[inline(always)]
    fn ring(&self, word: u32) -> Option<u64> {
        RINGS.get(word).copied()
    }
    #[inline(always)]
    fn nexthop(&self, index: u32) -> Option<&NextHop> {
        element!(NEXTHOPS, index)
    }
    #[inline(always)]
    fn route(&self, to: &Address) -> Option<u32> {
        ROUTES.get(Key::new(128, to.0)).copied()
    }
    #[inline(always)]
    fn ticks(&self, s: &Settings) -> u32 {
        // SAFETY: as in `now`.
        if unsafe { core::ptr::read_volatile(&raw const TEST_CLOCK) } != 0 {
            return abi::ticks(s.test_clock.get());
        }
        // The time's helper is a function that returns, which costs 18 ns where returns are
        // guarded (AMD's SRSO); jiffies are one load, and the time changes with them. Whoever
        // sees them change notes the time for all.
        // SAFETY: a helper without arguments.
        let jiffies = unsafe { bpf_jiffies64() };
        let clock = s.clock.get();
        if (clock ^ jiffies << 32) >> 32 == 0 {
            return clock as u32;
        }
        let ticks = abi::ticks(self.now());
        s.clock.set(jiffies << 32 | u64::from(ticks));
        ticks
    }
    #[inline(always)]
    fn count(&self, reason: Reason) {
        if let Some(pointer) = COUNTERS.get_ptr_mut(reason as u32) {
            // SAFETY: the element is this processor's own, and XDP is not preempted by itself.
            unsafe { *pointer += 1 };
        }
    }
    #[inline(always)]
    fn find_directory(&self, hash: u64, high: u64, low: u64, port_protocol: u64) -> u64 {
        fernpass_find_directory(hash, high, low, port_protocol)
    }
    #[inline(always)]
    fn find_id(&self, scoped: u64, flow: u64, high: u64, low: u64) -> u64 {
        fernpass_find_id(scoped, flow, high, low)
    }
    #[inline(always)]
    fn rate_candidate(&self, index: u64, scoped: u64, flow: u64, high: u64, low: u64) -> u64 {
        fernpass_rate_candidate(index, scoped, flow, high, low)
    }
    #[inline(always)]
    fn find_fragment(&self, hash: u64) -> u64 {
        fernpass_find_fragment(hash)
    }
    #[inline(always)]
    fn note_fragment(&self, hash: u64, endpoint: u64) -> u64 {
        fernpass_note_fragment(hash, endpoint)
    }
    #[inline(always)]
    fn open_session(&self, endpoint: u64) -> u64 {
        fernpass_open_session(endpoint)
    }
    #[inline(always)]
    fn take_packet(&self, tenant: u64, bytes: u64, class: u64) -> u64 {
        fernpass_take_packet(tenant, bytes, class)
    }
    #[inline(always)]
    fn take_handshake(&self, endpoint: u64) -> u64 {
        fernpass_take_handshake(endpoint)
    }
    #[inline(always)]
    fn load_ahead(&self, in_out_id: u64, scopes: u64, high: u64, low: u64) -> u64 {
        fernpass_load_ahead(in_out_id, scopes, high, low)
    }
}

// Global functions: exported, so that the verifier checks each once, by itself.

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn fernpass_find_directory(hash: u64, high: u64, low: u64, port_protocol: u64) -> u64 {
    directory::find_apart(&BpfTables, hash, high, low, port_protocol)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn fernpass_find_flow(hash: u64, port_service: u64, high: u64, low: u64) -> u64 {
    slot::find_apart(&BpfTables, hash, port_service, high, low)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn fernpass_claim(hash: u64) -> u64 {
    slot::claim_apart(&BpfTables, hash)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn fernpass_publish(hash: u64, index: u64, to: u64) -> u64 {
    slot::publish_apart(&BpfTables, hash, index as u32, to as u8)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn fernpass_find_id(scoped: u64, flow: u64, high: u64, low: u64) -> u64 {
    ids::find_apart(&BpfTables, scoped, flow, high, low)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn fernpass_rate_candidate(
    index: u64,
    scoped: u64,
    flow: u64,
    high: u64,
    low: u64,
) -> u64 {
    ids::rate_apart(&BpfTables, index, scoped, flow, high, low)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn fernpass_find_fragment(hash: u64) -> u64 {
    fragments::find_apart(&BpfTables, hash)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn fernpass_note_fragment(hash: u64, endpoint: u64) -> u64 {
    fragments::note_apart(&BpfTables, hash, endpoint)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn fernpass_open_session(endpoint: u64) -> u64 {
    quota::open_apart(&BpfTables, endpoint)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn fernpass_take_packet(tenant: u64, bytes: u64, class: u64) -> u64 {
    meter::packet_apart(&BpfTables, tenant, bytes, class)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn fernpass_take_handshake(endpoint: u64) -> u64 {
    meter::handshake_apart(&BpfTables, endpoint)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn fernpass_load_ahead(in_out_id: u64, scopes: u64, high: u64, low: u64) -> u64 {
    ahead::load_apart(&BpfTables, in_out_id, scopes, high, low)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn fernpass_note_hint(high: u64, low: u64, port_service_ordinal: u64) -> u64 {
    hints::note_apart(&BpfTables, high, low, port_service_ordinal)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn fernpass_insert_id(scope: u64, id: u64, index: u64) -> u64 {
    ids::insert_apart(&BpfTables, scope as u32, id as u32, index as u32)
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn fernpass_remove_id(scope: u64, id: u64, index: u64) -> u64 {
    ids::remove_apart(&BpfTables, scope as u32, id as u32, index as u32)
}

/// `XDP_REDIRECT` to an interface; aborts if it is not a gateway interface.
#[inline(always)]
pub fn redirect(interface: u32) -> u32 {
    // Either way what came back is the program's verdict.
    match DEVICES.redirect(interface, xdp_action::XDP_ABORTED.into()) {
        Ok(verdict) | Err(verdict) => verdict,
    }
}

/// Goes on in the program of another stage. It comes back only if that is not there.
#[inline(always)]
pub fn tail_call(ctx: &XdpContext, stage: Stage) {
    // One call for each stage: by a constant index the kernel makes it a direct jump (an indirect one is
    // guarded). What follows each is another nothing, so that the compiler does not make them one again.
    macro_rules! to {
        ($stage:expr, $nothing:literal) => {{
            // SAFETY: the programs in the array are of this object, and take an XDP context.
            unsafe { STAGES.tail_call(ctx, $stage as u32) };
            // SAFETY: a comment.
            unsafe { asm!($nothing, options(nomem, nostack)) };
        }};
    }
    match stage {
        Stage::Other => to!(Stage::Other, "// other"),
        Stage::Inbound => to!(Stage::Inbound, "// inbound"),
        Stage::Outbound4 => to!(Stage::Outbound4, "// outbound, IPv4"),
        Stage::Outbound6 => to!(Stage::Outbound6, "// outbound, IPv6"),
        Stage::Fragment => to!(Stage::Fragment, "// fragment"),
        Stage::TooBig => to!(Stage::TooBig, "// too big"),
        Stage::IcmpDirect => to!(Stage::IcmpDirect, "// ICMP, direct"),
        Stage::Report => to!(Stage::Report, "// report"),
    }
}
