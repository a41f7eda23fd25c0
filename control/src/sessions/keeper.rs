//! The scan: ends what has ended, gives slots back, and tells what it saw.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use dataplane::abi::{Bucket, Detail, Settings, Slot, Tenant};
use dataplane::table::{quota, slot, sweep};

use super::{Reader, Record, account};
use crate::clock::Clock;

/// How long a retired slot is left alone: a packet that is being processed may still refer to it.
pub const QUARANTINE: Duration = Duration::from_secs(1);

/// How long a closed TCP connection's session lives after its last packet; less where the idle timeout is.
pub(super) const CLOSED_LIFE: Duration = Duration::from_secs(30);

/// How long a tentative session lives.
pub const TENTATIVE_LIFE: Duration = Duration::from_secs(15);

/// What is to become of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It goes on until it has been silent for so long.
    Idle(Duration),
    /// It ends now.
    End,
    /// It ends now if it is of so large a share of all, in units of 2^-32; else it goes on as [`Fate::Idle`].
    Share(u32, Duration),
}

/// What the scan does with sessions.
pub trait Policy {
    /// The fate of open sessions on an endpoint; tentative ones have [`TENTATIVE_LIFE`] unless this
    /// ends them.
    fn fate(&self, endpoint: u32) -> Fate;
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
    /// Of the open ones those that sent something since the scan before, and those that were sent something, by endpoint index.
    pub heard: BTreeMap<u32, (u64, u64)>,
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
    /// Packets from and to the client, of each slot, at the scan before.
    counts: Vec<(u32, u32)>,
    /// By how much the count of borrowed sessions was wrong at the scan before.
    borrowed: i64,
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
        let mut dead = Vec::new();
        let mut endpoints = Endpoints::default();
        // What was counted before the first scan says nothing of this second.
        let new = memory.slots.iter().skip(self.counts.len());
        self.counts.extend(new.map(counts));
        let reader = Reader::new(memory);
        for (index, slot) in memory.slots.iter().enumerate() {
            let (index, word) = (index as u32, slot.state.load());
            match slot::state(word) {
                slot::EMPTY => {}
                slot::DEAD => dead.push(index),
                slot::RETIRED => {
                    let (seen_word, seen) =
                        self.retired.get(&index).copied().unwrap_or((word, now.monotonic));
                    let seen = if seen_word == word { seen } else { now.monotonic };
                    if now.since(seen) < QUARANTINE || !slot::transition(slot, word, slot::DEAD) {
                        endpoints.of(slot.endpoint.get(), policy).referred = true;
                        retired.insert(index, (word, seen));
                        self.stale_ids |= seen == now.monotonic;
                    } else {
                        dead.push(index);
                    }
                }
                _ if slot::is_live(word) => {
                    let endpoint = endpoints.of(slot.endpoint.get(), policy);
                    endpoint.referred = true;
                    // Of nearly all sessions this one line of memory is all that is looked at.
                    let may_be_over = !slot::is_open(word)
                        || match endpoint.fate {
                            Fate::End | Fate::Share(..) => true,
                            Fate::Idle(after) => {
                                // Of a connection the other line says whether it is closed.
                                let after =
                                    if slot.is_tcp() { after.min(CLOSED_LIFE) } else { after };
                                now.since_tick(slot.last_seen.get()) >= after
                            }
                        };
                    let over = may_be_over
                        .then(|| reader.get(index))
                        .flatten()
                        .filter(|session| is_over(session, now, policy));
                    if let Some(session) = over {
                        scan.ended += u64::from(self.end(memory, &session, policy));
                        retired.insert(index, (slot.state.load(), now.monotonic));
                    } else if slot::is_open(word) {
                        endpoint.open += 1;
                        let counts = counts(slot);
                        let (rx, tx) = std::mem::replace(&mut self.counts[index as usize], counts);
                        endpoint.asked += u64::from(counts.0 != rx);
                        endpoint.answered += u64::from(counts.1 != tx);
                    } else {
                        endpoint.tentative += 1;
                    }
                }
                _ => {}
            }
        }
        endpoints.tell(&mut scan);
        self.balance(memory);
        self.retired = retired;
        if std::mem::take(&mut self.stale_ids) {
            scan.unlearned =
                sweep::ids(memory.ids, memory.slots, memory.details, memory.settings) as u64;
        }
        scan.freed = sweep::dead(memory.slots, memory.settings, &dead) as u64;
        scan
    }

    /// Corrects the count of borrowed sessions, if it is wrong by the same number twice running: a session that opened while a
    /// reload changed what its tenant is guaranteed may have been counted by either.
    fn balance(&mut self, memory: Memory<'_>) {
        let beyond = |t: &Tenant| t.sessions.load().saturating_sub(t.guaranteed.get());
        let borrowed: u64 = memory.tenants.iter().map(beyond).sum();
        let wrong = memory.settings.borrowed.load().wrapping_sub(borrowed) as i64;
        if wrong != 0 && wrong == self.borrowed {
            memory.settings.borrowed.add((wrong as u64).wrapping_neg());
            self.borrowed = 0;
        } else {
            self.borrowed = wrong;
        }
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
        let tenant =
            policy.tenant(session.endpoint).and_then(|index| memory.tenants.get(index as usize));
        let accounted = tenant.filter(|_| session.is_open());
        if let Some(tenant) = accounted {
            account::begin(tenant, session.index, session.word);
        }
        let ended = slot::transition(slot, session.word, slot::RETIRED);
        self.stale_ids |= ended;
        if let Some(tenant) = tenant.filter(|_| ended) {
            quota::release(memory.settings, tenant, slot::state(session.word));
        }
        match accounted {
            Some(tenant) if ended => account::add(tenant, session.index, slot, detail),
            Some(tenant) => account::over(tenant),
            None => {}
        }
        ended
    }
}

/// What a scan knows of an endpoint.
#[derive(Clone, Copy)]
struct Endpoint {
    fate: Fate,
    open: u64,
    tentative: u64,
    asked: u64,
    answered: u64,
    referred: bool,
}

/// By endpoint index, which are small numbers: a map would cost more than all the rest of a scan.
#[derive(Default)]
struct Endpoints(Vec<Option<Endpoint>>);

impl Endpoints {
    fn of(&mut self, index: u16, policy: &dyn Policy) -> &mut Endpoint {
        let at = usize::from(index);
        if self.0.len() <= at {
            self.0.resize(at + 1, None);
        }
        self.0[at].get_or_insert_with(|| Endpoint {
            fate: policy.fate(index.into()),
            open: 0,
            tentative: 0,
            asked: 0,
            answered: 0,
            referred: false,
        })
    }

    fn tell(self, scan: &mut Scan) {
        for (index, endpoint) in (0..).zip(self.0) {
            let Some(endpoint) = endpoint else { continue };
            if endpoint.open > 0 {
                scan.open.insert(index, endpoint.open);
            }
            if endpoint.tentative > 0 {
                scan.tentative.insert(index, endpoint.tentative);
            }
            if endpoint.asked + endpoint.answered > 0 {
                scan.heard.insert(index, (endpoint.asked, endpoint.answered));
            }
            if endpoint.referred {
                scan.referred.insert(index);
            }
        }
    }
}

/// Packets from and to the client.
fn counts(slot: &Slot) -> (u32, u32) {
    (slot.rx_packets.get(), slot.tx_packets.get())
}

fn is_over(session: &Record, now: &Clock, policy: &dyn Policy) -> bool {
    let after = match policy.fate(session.endpoint) {
        Fate::End => return true,
        Fate::Share(share, _) if rank(session.identity) < share => return true,
        Fate::Share(_, after) | Fate::Idle(after) => after,
    };
    if !session.is_open() {
        return now.since(session.opened) >= TENTATIVE_LIFE;
    }
    session.silence(now) >= if session.is_closing { after.min(CLOSED_LIFE) } else { after }
}

/// A number that a session has for good, evenly distributed over all.
const fn rank(identity: u64) -> u32 {
    (identity.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
}
