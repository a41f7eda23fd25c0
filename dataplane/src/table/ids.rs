//! The id index: from a session id to the slots that may hold it.
//!
//! An entry is a word: the upper half of the id's hash, and a slot's index plus
//! one. It is a *hint that is checked*: the slot itself holds its ids, so an
//! entry that has become stale leads nowhere, and an entry whose hash collides
//! leads to a slot that does not hold the id. An id has two buckets (one cache
//! line of eight entries each) in which its entries may lie; up to eight
//! sessions may share an id, and the caller's packet decides. Half the entries of an id's place are
//! left to others: where every server counts from 0, as OpenVPN's do, the sessions of a ninth server
//! are known by their flows alone, rather than that they crowd out ids which must be remembered.
//!
//! Entries are written by whoever gives a slot an id, and removed when the slot
//! gives it up. Those of ended sessions are reused where none is free, and removed
//! by the daemon's sweep.

use super::hash::Flow;
use super::{Sessions, Tables, hash, slot};
use crate::abi::{Address, Bucket, Detail, Settings, Slot};
use crate::cell::{Word, opaque};

/// Entries in a bucket. Loop counters are of 64 bits: one of 32 may share a stack
/// slot with a map key, and then the verifier forgets its value.
pub const ENTRIES: u64 = 8;

/// Ids of inbound packets are the service's, those of answers an endpoint's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope(u32);

impl Scope {
    /// Ids that inbound packets to this service carry.
    #[inline(always)]
    pub const fn inbound(service: u16) -> Self {
        Self(service as u32)
    }

    /// Ids that answers from this endpoint carry.
    #[inline(always)]
    pub const fn outbound(endpoint: u16) -> Self {
        Self(1 << 31 | endpoint as u32)
    }

    /// True if the slot is in the scope and holds the id. A control channel's ids are among those of answers, and lead
    /// to the session in both directions.
    #[inline(always)]
    pub fn holds(self, slot: &Slot, detail: &Detail, id: u32) -> bool {
        if self.0 >> 31 == 0 {
            u32::from(slot.service()) == self.0
                && (slot.in_id.get() == id
                    || detail.in_id_next.get() == id
                    || detail.in_id_previous.get() == id
                    || slot.out_id.get() == id
                    || detail.out_id_previous.get() == id)
        } else {
            u32::from(slot.endpoint.get()) == self.0 & !(1 << 31)
                && (slot.out_id.get() == id
                    || detail.out_id_next.get() == id
                    || detail.out_id_previous.get() == id)
        }
    }

    /// The last packet counter in the scope's direction, as far as it is noted.
    #[inline(always)]
    fn counter(self, detail: &Detail) -> u32 {
        if self.0 >> 31 == 0 { detail.in_counter.get() } else { detail.out_counter.get() }
    }
}

/// A flow as one of the ids by which answers know a session, where they have none of their own: never 0.
#[inline(always)]
pub fn of_flow<T: Tables>(t: &T, flow: &Flow) -> u32 {
    let [high, low] = flow.client.halves();
    of_flow_apart(t, high, low, flow.port_service().into()) as u32
}

/// Apart, and with plain integers, because the stack of who asks is short.
#[inline(never)]
fn of_flow_apart<T: Tables>(t: &T, high: u64, low: u64, port_service: u64) -> u64 {
    let Some(s) = t.settings() else { return 0 };
    let (port, service) = (port_service as u16, (port_service >> 16) as u16);
    let flow = Flow { client: Address::from_halves([high, low]), port, service };
    hash::flow(s, &flow) >> 32 | 1
}

/// Where an id's entries lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its first bucket.
    pub first: u32,
    /// Its second bucket.
    pub second: u32,
    /// Upper half of the entries.
    pub tag: u32,
}

impl Place {
    /// Its buckets. Entries are gone over in turns, so that the first free one is in the bucket
    /// that has more.
    #[inline(always)]
    fn buckets<'t, T: Sessions>(&self, t: &'t T) -> Option<[&'t Bucket; 2]> {
        Some([t.ids(self.first)?, t.ids(self.second)?])
    }
}

/// The place of an id.
#[inline(always)]
pub fn place(s: &Settings, scope: Scope, id: u32) -> Place {
    let h = hash::id(s, scope.0, id);
    let buckets = s.id_buckets.get();
    let tag = (h >> 32) as u32;
    let first = hash::part(h, buckets);
    let second = hash::part(u64::from((h as u32 ^ tag).wrapping_mul(0x9e37_79b1)), buckets);
    // Two, always: an entry that was seen twice would count as two sessions.
    let second = if second != first {
        second
    } else if first == 0 {
        1
    } else {
        first - 1
    };
    Place { first, second, tag }
}

/// The entry of a place that leads to a slot.
#[inline(always)]
pub const fn entry(place: &Place, slot: u32) -> u64 {
    (place.tag as u64) << 32 | (slot as u64 + 1)
}

/// What a lookup asks for.
#[derive(Clone, Copy, Debug)]
pub struct Query {
    /// The direction.
    pub scope: Scope,
    /// The id, not 0.
    pub id: u32,
    /// The packet's counter, low 32 bits.
    pub counter: u32,
}

/// The answer to a lookup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Match {
    /// The slot.
    pub index: u32,
    /// More than one session had the id.
    pub several: bool,
}

/// Sessions that may share an id.
pub const SHARERS: u64 = 8;

const SEVERAL: u64 = 1 << 33;
const ONE: u64 = 1 << 32;

/// The session that the id leads to. Of several it is the one whose flow this
/// is, else the one whose last packet counter lies just below the packet's.
#[inline(always)]
pub fn find<T: Tables>(t: &T, q: &Query, flow: &Flow) -> Option<Match> {
    let [high, low] = flow.client.halves();
    let found = t.find_id(
        u64::from(q.scope.0) << 32 | u64::from(q.id),
        u64::from(q.counter) << 32 | u64::from(flow.port_service()),
        high,
        low,
    );
    if found & ONE == 0 {
        return None;
    }
    Some(Match { index: found as u32, several: found & SEVERAL != 0 })
}

/// The body of [`find`]; see [`Tables`] for why it is apart.
#[inline(always)]
pub fn find_apart<T: Tables>(t: &T, scoped: u64, flow: u64, high: u64, low: u64) -> u64 {
    let Some(s) = t.settings() else { return 0 };
    let p = place(s, Scope((scoped >> 32) as u32), scoped as u32);
    let Some(buckets) = p.buckets(t) else { return 0 };
    let mut best = 0;
    let mut best_distance = NO_CANDIDATE;
    for bucket in buckets {
        for n in 0..ENTRIES {
            let e = bucket.0[n as usize].load();
            if (e >> 32) as u32 != p.tag || e as u32 == 0 {
                continue;
            }
            let index = u64::from((e as u32).wrapping_sub(1));
            let distance = t.rate_candidate(index, scoped, flow, high, low);
            if distance == NO_CANDIDATE {
                continue;
            }
            let several = if best_distance == NO_CANDIDATE { 0 } else { SEVERAL };
            if distance < best_distance {
                best_distance = distance;
                best = ONE | several | index;
            } else {
                best |= several;
            }
        }
    }
    best
}

const NO_CANDIDATE: u64 = u64::MAX;

/// How far a slot is from what [`find`] asks for: `u64::MAX` if it does not hold
/// the id or is of the other family, 0 if it has the flow, else by the packet counters.
#[inline(always)]
pub fn rate_apart<T: Tables>(
    t: &T,
    index: u64,
    scoped: u64,
    flow: u64,
    high: u64,
    low: u64,
) -> u64 {
    let (Some(candidate), Some(detail)) = (t.slot(index as u32), t.detail(index as u32)) else {
        return NO_CANDIDATE;
    };
    let (scope, id, counter) = (Scope((scoped >> 32) as u32), scoped as u32, (flow >> 32) as u32);
    let word = candidate.state.load();
    if !slot::is_live(word) || !scope.holds(candidate, detail, id) {
        return NO_CANDIDATE;
    }
    let client = Address::from_halves([high, low]);
    let flow = Flow { client, port: flow as u16, service: (flow >> 16) as u16 };
    // Families are not translated: what has the other one's endpoint is out of reach.
    if slot::client(candidate).is_v4() != client.is_v4() {
        return NO_CANDIDATE;
    }
    if slot::has_flow(word) && slot::is_flow(candidate, &flow) {
        return 0;
    }
    1 + distance(counter, scope.counter(detail), index)
}

/// Counters that may lie between the one that was noted and the next packet's: every 64th is noted, and
/// one may be lost.
const NEAR: u32 = 128;
/// How far a packet may lag behind the noted one.
const LATE: u32 = 64;

/// How far a packet is from the session whose counter was noted last: it goes on from there, or it was overtaken on the way. A
/// session that has met this counter already is not the packet's.
///
/// Several sessions may be near, and the nearest the wrong one, packet after packet: as with idle clients that
/// connected at the same time. So each fourth packet is for any of those that are near, by chance. The right one is
/// answered, and then known by its flow.
#[inline(always)]
fn distance(counter: u32, noted: u32, index: u64) -> u64 {
    let (above, below) = (counter.wrapping_sub(noted), noted.wrapping_sub(counter));
    if above != 0 && above < NEAR {
        let by_chance = (counter ^ (index as u32) << 8).wrapping_mul(0x9e37_79b1) >> 25;
        return u64::from(if counter & 3 == 3 { by_chance } else { above });
    }
    if below < LATE {
        return u64::from(NEAR + below);
    }
    u64::from(NEAR + LATE) + u64::from(above)
}

/// The `n`th entry of a place.
#[inline(always)]
const fn cell<'t>(buckets: &[&'t Bucket; 2], n: u64) -> &'t Word {
    let bucket = if n & 1 == 0 { buckets[0] } else { buckets[1] };
    &bucket.0[(n / 2 % ENTRIES) as usize]
}

/// Notes that a slot holds an id. False if both buckets are full, or [`SHARERS`] others hold it.
#[inline(always)]
pub fn insert<T: Sessions>(t: &T, scope: Scope, id: u32, index: u32) -> bool {
    t.insert_id(scope.0, id, index) != 0
}

/// The body of [`insert`]; see [`Tables`] for why it is apart. 1 if noted, else 0.
#[inline(always)]
pub fn insert_apart<T: Sessions>(t: &T, scope: u32, id: u32, index: u32) -> u64 {
    let Some(s) = t.settings() else { return 0 };
    let p = place(s, Scope(scope), id);
    let new = entry(&p, index);
    let Some(buckets) = p.buckets(t) else { return 0 };
    let mut sharers = 0_u64;
    for n in 0..2 * ENTRIES {
        let e = cell(&buckets, opaque(n)).load();
        if e == new {
            return 1;
        }
        // 1 if the upper halves are the same, without a branch: the verifier would follow both.
        sharers += ((e ^ new) >> 32).wrapping_sub(1) >> 63;
    }
    if sharers >= SHARERS {
        return 0;
    }
    for n in 0..2 * ENTRIES {
        let cell = cell(&buckets, opaque(n));
        let e = cell.load();
        if e as u32 == 0 && cell.replace(e, new) {
            return 1;
        }
    }
    // Only then: to know that an entry is stale, one has to look at another session's slot.
    for n in 0..2 * ENTRIES {
        let cell = cell(&buckets, opaque(n));
        let e = cell.load();
        if is_stale(t, e) && cell.replace(e, new) {
            return 1;
        }
    }
    0
}

/// True if the entry's slot is no session any more.
#[inline(always)]
fn is_stale<T: Sessions>(t: &T, e: u64) -> bool {
    match t.slot((e as u32).wrapping_sub(1)) {
        Some(slot) => {
            let word = slot.state.load();
            // A slot in the making is about to hold ids.
            !slot::is_live(word) && !slot::is_in_making(word)
        }
        None => true,
    }
}

/// Forgets that a slot held an id.
#[inline(always)]
pub fn remove<T: Sessions>(t: &T, scope: Scope, id: u32, index: u32) {
    t.remove_id(scope.0, id, index);
}

/// The body of [`remove`]; see [`Tables`] for why it is apart. Returns 0.
#[inline(always)]
pub fn remove_apart<T: Sessions>(t: &T, scope: u32, id: u32, index: u32) -> u64 {
    let Some(s) = t.settings() else { return 0 };
    let p = place(s, Scope(scope), id);
    let old = entry(&p, index);
    let Some(buckets) = p.buckets(t) else { return 0 };
    for n in 0..2 * ENTRIES {
        let cell = cell(&buckets, n);
        if cell.load() == old {
            cell.replace(old, 0);
        }
    }
    0
}

/// An entry of a bucket, for the daemon's sweep: `(tag, slot index)`, or `None` if it is free.
pub fn read(bucket: &Bucket, n: usize) -> Option<(u32, u32)> {
    let e = bucket.0[n].load();
    (e as u32 != 0).then(|| ((e >> 32) as u32, e as u32 - 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::host::{HostTables, Sizes};

    #[test]
    fn the_place_of_an_ended_session_is_taken_where_none_is_free() {
        const SCOPE: Scope = Scope::inbound(1);
        let t = HostTables::new(Sizes { slots: 64, ids: 2, ..Sizes::default() });
        let id = |index: u32| (index + 1).wrapping_mul(0x9e37_79b1);
        let held = |index| {
            let of_all = t.ids.iter().flat_map(|b| (0..8).filter_map(move |n| read(b, n)));
            of_all.filter(|(_, slot)| *slot == index).count()
        };
        t.slots.iter().for_each(|slot| slot.state.store(u64::from(slot::OPEN)));
        for index in 0..16 {
            assert!(insert(&t, SCOPE, id(index), index));
        }
        assert!(!insert(&t, SCOPE, id(16), 16), "both buckets are full");
        remove(&t, SCOPE, id(5), 5);
        t.slots[7].state.store(u64::from(slot::DEAD));
        assert!(insert(&t, SCOPE, id(16), 16));
        assert_eq!((held(5), held(7), held(16)), (0, 1, 1), "one was free");
        assert!(insert(&t, SCOPE, id(17), 17));
        assert_eq!((held(7), held(17)), (0, 1), "none was free");
        assert!(!insert(&t, SCOPE, id(18), 18));
    }

    /// As many ids as sessions of a full table have, in the six entries that there are for each.
    #[test]
    fn four_ids_of_each_session_have_a_place_in_six_entries() {
        const SESSIONS: u32 = 20_000;
        let ids = SESSIONS * 6 / ENTRIES as u32;
        let t = HostTables::new(Sizes { slots: 1 << 16, ids, ..Sizes::default() });
        for index in 0..SESSIONS {
            t.slots[index as usize].state.store(u64::from(slot::OPEN));
            for n in 0..4 {
                let id = (4 * index + n + 1).wrapping_mul(0x9e37_79b1);
                assert!(insert(&t, Scope::inbound(1), id, index), "session {index}, id {n}");
            }
        }
    }
}
