//! The pinned maps as the tables that the dataplane's own code works on: those that sessions are carried to.

use dataplane::abi::{
    Address, Bucket, Detail, DirectoryEntry, Endpoint, Meter, NextHop, Settings, Slot, Tenant,
};
use dataplane::cell::Word;
use dataplane::reason::Reason;
use dataplane::table;

use super::Tables;
use crate::sessions::Clock;

impl table::Tables for Tables {
    fn settings(&self) -> Option<&Settings> {
        self.settings.first()
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
    fn tenant(&self, index: u32) -> Option<&Tenant> {
        self.tenants.get(index as usize)
    }
    fn pace(&self, index: u32) -> Option<&Meter> {
        self.paces.get(index as usize)
    }
    fn nexthop(&self, index: u32) -> Option<&NextHop> {
        self.nexthops.get(index as usize)
    }
    fn ring(&self, word: u32) -> Option<u64> {
        self.rings.get(word as usize).map(dataplane::cell::Cell::get)
    }
    fn now(&self) -> u64 {
        Clock::now().monotonic
    }

    // Nobody places, routes or counts a packet here.
    fn fragments(&self, _: u32) -> Option<&Bucket> {
        None
    }
    fn budget(&self, _: u32) -> Option<&Word> {
        None
    }
    fn directory_entry(&self, _: u32) -> Option<&DirectoryEntry> {
        None
    }
    fn endpoint(&self, _: u32) -> Option<&Endpoint> {
        None
    }
    fn source(&self, _: u32) -> Option<Address> {
        None
    }
    fn route(&self, _: &Address) -> Option<u32> {
        None
    }
    fn count(&self, _: Reason) {}
}
