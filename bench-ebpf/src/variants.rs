//! The gateway's tables with other ways to a session, to compare: a BPF hash, which most XDP forwarders
//! use, and none at all.

use aya_ebpf::macros::map;
use aya_ebpf::maps::HashMap;
use dataplane::abi::{
    Address, Bucket, Detail, DirectoryEntry, Endpoint, Meter, NextHop, Settings, Slot, Tenant,
};
use dataplane::cell::Word;
use dataplane::reason::Reason;
use dataplane::table::hash::Flow;
use dataplane::table::slot::Found;
use dataplane::table::{Sessions, Tables};
use dataplane_ebpf::maps::BpfTables;

use crate::PLAY;

/// From a flow (the client's address, port and service in the last word) to its session.
/// Its size is set when it is loaded.
#[map]
static SESSIONS: HashMap<[u32; 5], Slot> = HashMap::with_max_entries(1024, 0);

macro_rules! same {
    ($($name:ident($($argument:ident: $kind:ty),*) $(-> $result:ty)?;)*) => {$(
        #[inline(always)]
        fn $name(&self, $($argument: $kind),*) $(-> $result)? {
            BpfTables.$name($($argument),*)
        }
    )*};
}

/// The gateway's tables, but for the sessions, which are found in this way.
macro_rules! variant {
    ($(#[$doc:meta])* $name:ident: $session:expr) => {
        $(#[$doc])*
        pub(crate) struct $name;

        impl Sessions for $name {
    same! {
        settings() -> Option<&Settings>;
        slot(index: u32) -> Option<&Slot>;
        detail(index: u32) -> Option<&Detail>;
        ids(bucket: u32) -> Option<&Bucket>;
        hints(bucket: u32) -> Option<&Bucket>;
        now() -> u64;
        find_flow(hash: u64, port_service: u64, high: u64, low: u64) -> u64;
        claim(hash: u64) -> u64;
        publish(hash: u64, index: u32, to: u8) -> u64;
        insert_id(scope: u32, id: u32, index: u32) -> u64;
        remove_id(scope: u32, id: u32, index: u32) -> u64;
        note_hint(high: u64, low: u64, port_service_ordinal: u64) -> u64;
    }
        }

        impl Tables for $name {
    same! {
        fragments(bucket: u32) -> Option<&Bucket>;
        budget(index: u32) -> Option<&Word>;
        tenant(index: u32) -> Option<&Tenant>;
        pace(index: u32) -> Option<&Meter>;
        directory_entry(index: u32) -> Option<&DirectoryEntry>;
        endpoint(index: u32) -> Option<&Endpoint>;
        source(index: u32) -> Option<Address>;
        ring(word: u32) -> Option<u64>;
        nexthop(index: u32) -> Option<&NextHop>;
        route(to: &Address) -> Option<u32>;
        ticks(s: &Settings) -> u32;
        count(reason: Reason);
        find_directory(hash: u64, high: u64, low: u64, port_protocol: u64) -> u64;
        find_id(scoped: u64, flow: u64, high: u64, low: u64) -> u64;
        rate_candidate(index: u64, scoped: u64, flow: u64, high: u64, low: u64) -> u64;
        find_fragment(hash: u64) -> u64;
        note_fragment(hash: u64, endpoint: u64) -> u64;
        open_session(endpoint: u64) -> u64;
        take_packet(tenant: u64, bytes: u64, class: u64) -> u64;
        take_handshake(endpoint: u64) -> u64;
        load_ahead(in_out_id: u64, scopes: u64, high: u64, low: u64) -> u64;
    }

            #[inline(always)]
            fn session<const OPEN: bool>(&self, _s: &Settings, flow: &Flow, _hash: u64) -> Found<'_> {
                match $session(flow) {
                    Some(slot) => Found { slot: Some(slot), index: 0, word: slot.state.load() },
                    None => Found { slot: None, index: 0, word: 0 },
                }
            }
        }
    };
}

variant! {
    /// In a BPF hash.
    HashTables: in_hash
}

variant! {
    /// One that is given for all flows: the lookup costs nothing.
    GivenTables: |_: &Flow| given()
}

#[inline(always)]
fn in_hash(flow: &Flow) -> Option<&'static Slot> {
    let c = flow.client.0;
    let key = [c[0], c[1], c[2], c[3], flow.port_service()];
    let pointer = SESSIONS.get_ptr(key)?;
    // SAFETY: the value stays readable until the program ends (RCU); what is written
    // is in cells.
    Some(unsafe { &*pointer })
}

#[inline(always)]
fn given() -> Option<&'static Slot> {
    BpfTables.slot(PLAY.get(0)?.given)
}
