//! The tables in ordinary memory: for tests, fuzzers and simulation.

use super::{Sessions, Tables, directory};
use crate::abi::{
    Address, BUDGET_SLOTS, Bucket, Detail, DirectoryEntry, Endpoint, FRAGMENT_BUCKETS, MAX_SOURCES,
    Meter, NextHop, POOL_STRIDE, RING_WORDS, RouteKey, Settings, Slot, Tenant,
};
use crate::cell::Word;
use crate::reason::{COUNT, Reason};
use std::collections::BTreeMap;

/// Sizes of host tables.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Primary slots, a power of two.
    pub slots: u32,
    /// Overflow slots, a power of two.
    pub overflow: u32,
    /// Buckets of the id index.
    pub ids: u32,
    /// Buckets of the hints.
    pub hints: u32,
    /// Endpoints.
    pub endpoints: u32,
    /// Tenants.
    pub tenants: u32,
    /// Next hops.
    pub nexthops: u32,
    /// Rings.
    pub rings: u32,
    /// Buckets of fragments: [`FRAGMENT_BUCKETS`], or none, and then none is followed.
    pub fragments: u32,
    /// Budgets: [`BUDGET_SLOTS`], or none, and then no source is limited.
    pub budgets: u32,
    /// Meters of handshakes: for so many services and pools as they are enough for; or none, and then no handshake is paced.
    pub paces: u32,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            slots: 64,
            overflow: 8,
            ids: 32,
            hints: 8,
            endpoints: 512,
            tenants: 4,
            nexthops: 32,
            rings: 8,
            fragments: FRAGMENT_BUCKETS,
            budgets: BUDGET_SLOTS,
            // Of eight services and as many pools.
            paces: 2 * 8 * POOL_STRIDE,
        }
    }
}

/// Tables in ordinary memory.
#[derive(Debug)]
#[allow(missing_docs, reason = "named like the maps")]
pub struct HostTables {
    pub settings: Settings,
    pub slots: Vec<Slot>,
    pub details: Vec<Detail>,
    pub ids: Vec<Bucket>,
    pub hints: Vec<Bucket>,
    pub fragments: Vec<Bucket>,
    pub budgets: Vec<Word>,
    pub tenants: Vec<Tenant>,
    pub endpoints: Vec<Endpoint>,
    pub sources: Vec<Address>,
    pub paces: Vec<Meter>,
    pub rings: Vec<u64>,
    pub nexthops: Vec<NextHop>,
    pub directory: Vec<DirectoryEntry>,
    pub routes: BTreeMap<RouteKey, u32>,
    /// What happens between a lookup of a route and the use of what it found.
    pub amid_route: Option<fn(&Self)>,
    pub counters: Vec<Word>,
}

/// Entries of the directory.
const DIRECTORY: u32 = 256;

fn filled<T: Default>(n: u32) -> Vec<T> {
    core::iter::repeat_with(T::default).take(n as usize).collect()
}

impl HostTables {
    /// Empty tables of these sizes, with room for as many sessions as primary slots.
    pub fn new(sizes: Sizes) -> Self {
        let settings = Settings::default();
        settings.slot_mask.set(sizes.slots - 1);
        settings.overflow_mask.set(sizes.overflow - 1);
        settings.id_buckets.set(sizes.ids);
        settings.hint_buckets.set(sizes.hints);
        settings.max_used.set(u64::from(sizes.slots));
        settings.max_borrowed.set(u64::MAX >> 1);
        settings.directory.set(directory::region(0, DIRECTORY));
        settings.hash_key[0].set(0x0123_4567_89ab_cdef);
        settings.hash_key[1].set(0xfedc_ba98_7654_3210);
        for (n, key) in settings.flow_key.iter().enumerate() {
            key.set(0x0123_4567_89ab_cdef_u64.rotate_left(11 * n as u32) | 1);
        }
        Self {
            settings,
            slots: filled(sizes.slots + sizes.overflow),
            details: filled(sizes.slots + sizes.overflow),
            ids: filled(sizes.ids),
            hints: filled(sizes.hints),
            fragments: filled(sizes.fragments),
            budgets: filled(sizes.budgets),
            tenants: filled(sizes.tenants),
            endpoints: vec![Endpoint::default(); sizes.endpoints as usize],
            sources: vec![Address::default(); MAX_SOURCES as usize],
            paces: filled(sizes.paces),
            rings: vec![0; (sizes.rings * RING_WORDS) as usize],
            nexthops: filled(sizes.nexthops),
            directory: filled(DIRECTORY),
            routes: BTreeMap::new(),
            amid_route: None,
            counters: filled(COUNT),
        }
    }

    /// How often a reason was counted.
    pub fn counter(&self, reason: Reason) -> u64 {
        self.counters[reason as usize].load()
    }
}

impl Sessions for HostTables {
    fn settings(&self) -> Option<&Settings> {
        Some(&self.settings)
    }
    fn slot(&self, index: u32) -> Option<&Slot> {
        self.slots.get(index as usize)
    }
    fn detail(&self, index: u32) -> Option<&Detail> {
        self.details.get(index as usize)
    }
    fn ids(&self, bucket: u32) -> Option<&Bucket> {
        self.ids.get(bucket as usize)
    }
    fn hints(&self, bucket: u32) -> Option<&Bucket> {
        self.hints.get(bucket as usize)
    }
    fn now(&self) -> u64 {
        self.settings.test_clock.get()
    }
}

impl Tables for HostTables {
    fn fragments(&self, bucket: u32) -> Option<&Bucket> {
        self.fragments.get(bucket as usize)
    }
    fn budget(&self, index: u32) -> Option<&Word> {
        self.budgets.get(index as usize)
    }
    fn tenant(&self, index: u32) -> Option<&Tenant> {
        self.tenants.get(index as usize)
    }
    fn directory_entry(&self, index: u32) -> Option<&DirectoryEntry> {
        self.directory.get(index as usize)
    }
    fn endpoint(&self, index: u32) -> Option<&Endpoint> {
        self.endpoints.get(index as usize)
    }
    fn source(&self, index: u32) -> Option<Address> {
        self.sources.get(index as usize).copied()
    }
    fn pace(&self, index: u32) -> Option<&Meter> {
        self.paces.get(index as usize)
    }
    fn ring(&self, word: u32) -> Option<u64> {
        self.rings.get(word as usize).copied()
    }
    fn nexthop(&self, index: u32) -> Option<&NextHop> {
        self.nexthops.get(index as usize)
    }
    fn route(&self, to: &Address) -> Option<u32> {
        let to = u128::from_be_bytes(to.bytes());
        let found = self
            .routes
            .iter()
            .filter(|(k, _)| {
                let prefix = u128::from_be_bytes(k.address.bytes());
                k.prefix_len == 0 || (prefix ^ to) >> (128 - k.prefix_len) == 0
            })
            .max_by_key(|(k, _)| k.prefix_len)
            .map(|(_, v)| *v);
        if let Some(happens) = self.amid_route {
            happens(self);
        }
        found
    }
    fn count(&self, reason: Reason) {
        self.counters[reason as usize].add(1);
    }
}
