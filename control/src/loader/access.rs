//! The pinned maps as the tables that the dataplane's own code works on: those that sessions are carried to.

use dataplane::abi::{Bucket, Detail, Settings, Slot};
use dataplane::table::Sessions;

use super::Tables;
use crate::clock::Clock;

impl Sessions for Tables {
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
    fn now(&self) -> u64 {
        Clock::now().monotonic
    }
}
