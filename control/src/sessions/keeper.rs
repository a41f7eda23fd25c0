//! The scan: ends what has ended, gives slots back, and tells what it saw.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use dataplane::abi::{Bucket, Detail, Settings, Slot, Tenant};
use dataplane::table::{quota, slot, sweep};

use super::reader::count;
use super::{Clock, Reader, Record};

/// How long a retired slot is left alone: a packet that is being processed may still refer to it.
pub const QUARANTINE: Duration = Duration::from_secs(1);

/// How long a tentative session lives.
pub const TENTATIVE_LIFE: Duration = Duration::from_secs(15);

/// What is to become of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It goes on until it has been silent for so long.
    Idle(Duration),
    /// It ends now.
    End,
}

/// What the scan does with sessions.
pub trait Policy {
    /// The fate of an open session; a tentative one has [`TENTATIVE_LIFE`] unless this ends it.
    fn fate(&self, session: &Record) -> Fate;
    /// The tenant index of an endpoint.
    fn tenant(&self, endpoint: u32) -> Option<u32>;
}

/// What a scan saw and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// Open sessions by endpoint index.
    pub open: BTreeMap<u32, u64>,
    /// Tentative ones by endpoint index.
    pub tentative: BTreeMap<u32, u64>,
    /// Endpoints that a slot still refers to, quarantined slots included.
    pub referred: BTreeSet<u32>,
    /// Sessions that were ended.
    pub ended: u64,
    /// Slots that became free.
    pub freed: u64,
    /// Stale entries taken out of the id index.
    pub unlearned: u64,
}

/// The tables that the scan works on.
#[derive(Clone, Copy, Debug)]
pub struct Memory<'a> {
    /// The settings.
    pub settings: &'a Settings,
    /// The session table.
    pub slots: &'a [Slot],
    /// What few packets need of each slot's session.
    pub details: &'a [Detail],
    /// The id index.
    pub ids: &'a [Bucket],
    /// The tenants.
    pub tenants: &'a [Tenant],
}

impl<'a> From<&'a crate::loader::Tables> for Memory<'a> {
    fn from(tables: &'a crate::loader::Tables) -> Self {
        Self {
            settings: tables.settings(),
            slots: &tables.slots,
            details: &tables.details,
            ids: &tables.ids,
            tenants: &tables.tenants,
        }
    }
}

/// Keeps the session table: the only one who ends sessions and frees slots.
#[derive(Debug, Default)]
pub struct Keeper {
    /// Retired slots: the state word, and when it was first seen (CLOCK_MONOTONIC nanoseconds).
    retired: HashMap<u32, (u64, u64)>,
    /// Sessions were ended since the id index was swept.
    stale_ids: bool,
}

impl Keeper {
    /// One pass over the table.
    pub fn scan<'a>(
        &mut self,
        memory: impl Into<Memory<'a>>,
        now: &Clock,
        policy: &dyn Policy,
    ) -> Scan {
        let memory = memory.into();
        let mut scan = Scan::default();
        let mut retired = HashMap::new();
        let reader = Reader::new(memory);
        for (index, slot) in memory.slots.iter().enumerate() {
            let (index, word) = (index as u32, slot.state.load());
            match slot::state(word) {
                slot::EMPTY | slot::DEAD => {}
                slot::RETIRED => {
                    let (seen_word, seen) =
                        self.retired.get(&index).copied().unwrap_or((word, now.monotonic));
                    let seen = if seen_word == word { seen } else { now.monotonic };
                    if now.since(seen) < QUARANTINE || !slot::transition(slot, word, slot::DEAD) {
                        scan.referred.insert(slot.endpoint.get().into());
                        retired.insert(index, (word, seen));
                        self.stale_ids |= seen == now.monotonic;
                    }
                }
                _ => {
                    if let Some(session) = reader.get(index) {
                        scan.referred.insert(session.endpoint);
                        if is_over(&session, now, policy) {
                            scan.ended += u64::from(self.end(memory, &session, policy));
                            retired.insert(index, (slot.state.load(), now.monotonic));
                        } else {
                            let count = if session.is_open() {
                                &mut scan.open
                            } else {
                                &mut scan.tentative
                            };
                            *count.entry(session.endpoint).or_default() += 1;
                        }
                    }
                }
            }
        }
        self.retired = retired;
        if std::mem::take(&mut self.stale_ids) {
            scan.unlearned =
                sweep::ids(memory.ids, memory.slots, memory.details, memory.settings) as u64;
        }
        scan.freed = sweep::slots(memory.slots, memory.settings) as u64;
        scan
    }

    /// Ends a session: false if it is no longer what `session` says.
    pub fn end<'a>(
        &mut self,
        memory: impl Into<Memory<'a>>,
        session: &Record,
        policy: &dyn Policy,
    ) -> bool {
        let memory = memory.into();
        let slot = &memory.slots[session.index as usize];
        let detail = &memory.details[session.index as usize];
        if !slot::transition(slot, session.word, slot::RETIRED) {
            return false;
        }
        self.stale_ids = true;
        let tenant =
            policy.tenant(session.endpoint).and_then(|index| memory.tenants.get(index as usize));
        if let Some(tenant) = tenant {
            quota::release(memory.settings, tenant, slot::state(session.word));
            if session.is_open() {
                let add = |sum: &dataplane::cell::Cell<u64>, more: u64| sum.set(sum.get() + more);
                add(&tenant.ended, 1);
                let s = slot;
                add(&tenant.ended_rx_packets, count(&s.rx_packets, &detail.rx_packets_high));
                add(&tenant.ended_rx_bytes, count(&s.rx_bytes, &detail.rx_bytes_high));
                add(&tenant.ended_tx_packets, count(&s.tx_packets, &detail.tx_packets_high));
                add(&tenant.ended_tx_bytes, count(&s.tx_bytes, &detail.tx_bytes_high));
            }
        }
        true
    }
}

fn is_over(session: &Record, now: &Clock, policy: &dyn Policy) -> bool {
    match policy.fate(session) {
        Fate::End => true,
        Fate::Idle(_) if !session.is_open() => now.since(session.opened) >= TENTATIVE_LIFE,
        Fate::Idle(after) => session.silence(now) >= after,
    }
}
