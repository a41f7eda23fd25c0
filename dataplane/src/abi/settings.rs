//! Keys and limits of all tables.

use crate::cell::{Cell, Word};

/// Sizes, keys and limits. One element; written by the daemon before the program
/// is attached, afterwards only the fields marked *live*.
#[repr(C)]
#[cfg_attr(not(target_arch = "bpf"), derive(Debug, Default))]
pub struct Settings {
    /// Key of the hash over flows, random for each set of tables: odd numbers.
    pub flow_key: [Cell<u64>; 5],
    /// Primary slots minus 1; primary slots are a power of two.
    pub slot_mask: Cell<u32>,
    /// Overflow slots minus 1 (a power of two); they follow the primary ones.
    pub overflow_mask: Cell<u32>,
    /// The directory's table in use: its first entry (upper half), its entries minus 1 (lower half).
    pub directory: Cell<u64>,
    /// *Live.* Raised after every change of routes or next hops.
    pub route_generation: Cell<u32>,
    /// Buckets of the id index.
    pub id_buckets: Cell<u32>,

    /// Key of the hashes over ids and addresses, random for each set of tables.
    pub hash_key: [Cell<u64>; 2],
    /// *Live.* Slots that may be in use, by open and tentative sessions together.
    pub max_used: Cell<u64>,
    /// Buckets of the hints.
    pub hint_buckets: Cell<u32>,
    /// *Live.* Budget per source: microseconds (2^10 ns) a packet costs; 0 is no limit.
    pub budget_cost: Cell<u32>,
    /// *Live.* Budget per source: microseconds (2^10 ns) a source may be ahead.
    pub budget_burst: Cell<u32>,
    /// Zero.
    pub zero: Cell<u32>,
    /// In test builds of the tables: the clock, nanoseconds.
    pub test_clock: Cell<u64>,
    /// The kernel program's own: the time as a processor last asked for it, the kernel's jiffies
    /// (their lower half) in the upper half and [`ticks`](super::ticks) in the lower.
    pub clock: Cell<u64>,
    /// Generation that all slots began with: above those of the tables that sessions were carried from, whose identities
    /// they keep.
    pub first_generation: Cell<u64>,

    /// Raised and lowered like a tenant's counts: slots in use (tentative and open, all tenants).
    /// On a line of its own: the others are only read for packets.
    pub used: Word,
    /// Likewise: open sessions beyond what their tenants are guaranteed.
    pub borrowed: Word,
    /// *Live.* Most of them.
    pub max_borrowed: Cell<u64>,
    /// *Live.* Sessions that may be open; the daemon's alone: what they come to is in `max_used` and `max_borrowed`.
    pub max_sessions: Cell<u64>,
    /// Zero.
    pub more_reserved: [Cell<u64>; 4],
}
