//! The id index: from a session id to the slots that may hold it.
//!
//! An entry is a word: the upper half of the id's hash, and a slot's index plus
//! one. It is a *hint that is checked*: the slot itself holds its ids, so an
//! entry that has become stale leads nowhere, and an entry whose hash collides
//! leads to a slot that does not hold the id. An id has two buckets (one cache
//! line of eight entries each) in which its entries may lie; up to eight
//! sessions may share an id in practice, and the caller's packet decides.
//!
//! Entries are written by whoever gives a slot an id, and removed when the slot
//! gives it up. Those of ended sessions are reused when seen, and removed by
//! the daemon's sweep.

use super::hash::Flow;
use super::{Tables, hash, slot};
use crate::abi::{Bucket, Settings, Slot};

/// Entries in a bucket.
pub const ENTRIES: u32 = 8;

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
    pub const fn outbound(endpoint: u32) -> Self {
        Self(1 << 31 | endpoint)
    }

    /// True if the slot is in the scope and holds the id.
    #[inline(always)]
    pub fn holds(self, slot: &Slot, id: u32) -> bool {
        if self.0 >> 31 == 0 {
            u32::from(slot.service.get()) == self.0
                && (slot.in_id.get() == id
                    || slot.in_id_next.get() == id
                    || slot.in_id_previous.get() == id)
        } else {
            slot.endpoint.get() == self.0 & !(1 << 31)
                && (slot.out_id.get() == id
                    || slot.out_id_next.get() == id
                    || slot.out_id_previous.get() == id)
        }
    }

    /// The last packet counter in the scope's direction.
    #[inline(always)]
    fn counter(self, slot: &Slot) -> u32 {
        if self.0 >> 31 == 0 { slot.in_counter.get() } else { slot.out_counter.get() }
    }
}

/// Where an id's entries lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The two buckets.
    pub buckets: [u32; 2],
    /// Upper half of the entries.
    pub tag: u32,
}

/// The place of an id.
#[inline(always)]
pub fn place(s: &Settings, scope: Scope, id: u32) -> Place {
    let h = hash::id(s, scope.0, id);
    let mask = s.id_mask.get();
    let tag = (h >> 32) as u32;
    let first = h as u32 & mask;
    // The other bucket differs in a bit that the tag chooses.
    let second = (first ^ (tag.wrapping_mul(0x9e37_79b1) >> 7 | 1)) & mask;
    Place { buckets: [first, second], tag }
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
    /// Its state word.
    pub word: u64,
    /// More than one session had the id.
    pub several: bool,
}

/// The session that the id leads to. Of several it is the one whose flow this
/// is, else the one whose last packet counter is nearest to the packet's.
#[inline(always)]
pub fn find<T: Tables>(t: &T, s: &Settings, q: &Query, flow: &Flow) -> Option<Match> {
    let p = place(s, q.scope, q.id);
    let mut best: Option<Match> = None;
    let mut best_distance = u64::MAX;
    for n in 0..2 * ENTRIES {
        let bucket = t.ids(p.buckets[(n >= ENTRIES) as usize])?;
        let e = bucket.0[(n % ENTRIES) as usize].load();
        if (e >> 32) as u32 != p.tag || e as u32 == 0 {
            continue;
        }
        let index = (e as u32).wrapping_sub(1);
        let Some(candidate) = t.slot(index) else { continue };
        let word = candidate.state.load();
        if !slot::is_live(word) || !q.scope.holds(candidate, q.id) {
            continue;
        }
        let distance = if slot::has_flow(word) && slot::is_flow(candidate, flow) {
            0
        } else {
            1 + u64::from(q.counter.abs_diff(q.scope.counter(candidate)))
        };
        let several = best.is_some_and(|b| b.index != index || b.several);
        if distance < best_distance {
            best_distance = distance;
            best = Some(Match { index, word, several });
        } else if let Some(b) = &mut best {
            b.several = several;
        }
    }
    best
}

/// Notes that a slot holds an id. False if both buckets are full.
#[inline(always)]
pub fn insert<T: Tables>(t: &T, s: &Settings, scope: Scope, id: u32, slot_index: u32) -> bool {
    let p = place(s, scope, id);
    let new = entry(&p, slot_index);
    // Twice: the entry found free may be taken by another processor at the same time.
    for _ in 0..2 {
        let mut free = 2 * ENTRIES;
        let mut free_entry = 0;
        for n in 0..2 * ENTRIES {
            let Some(bucket) = t.ids(p.buckets[(n >= ENTRIES) as usize]) else { return false };
            let e = bucket.0[(n % ENTRIES) as usize].load();
            if e == new {
                return true;
            }
            if free == 2 * ENTRIES && (e as u32 == 0 || is_stale(t, e)) {
                free = n;
                free_entry = e;
            }
        }
        if free == 2 * ENTRIES {
            return false;
        }
        let Some(bucket) = t.ids(p.buckets[(free >= ENTRIES) as usize]) else { return false };
        if bucket.0[(free % ENTRIES) as usize].replace(free_entry, new) {
            return true;
        }
    }
    false
}

/// True if the entry's slot is no session any more.
#[inline(always)]
fn is_stale<T: Tables>(t: &T, e: u64) -> bool {
    match t.slot((e as u32).wrapping_sub(1)) {
        Some(slot) => {
            let word = slot.state.load();
            // A claimed slot is about to hold ids.
            !slot::is_live(word) && slot::state(word) != slot::CLAIMED
        }
        None => true,
    }
}

/// Forgets that a slot held an id.
#[inline(always)]
pub fn remove<T: Tables>(t: &T, s: &Settings, scope: Scope, id: u32, slot_index: u32) {
    let p = place(s, scope, id);
    let old = entry(&p, slot_index);
    for n in 0..2 * ENTRIES {
        let Some(bucket) = t.ids(p.buckets[(n >= ENTRIES) as usize]) else { return };
        bucket.0[(n % ENTRIES) as usize].replace(old, 0);
    }
}

/// An entry of a bucket, for the daemon's sweep: `(tag, slot index)`, or `None` if it is free.
pub fn read(bucket: &Bucket, n: usize) -> Option<(u32, u32)> {
    let e = bucket.0[n].load();
    (e as u32 != 0).then(|| ((e >> 32) as u32, e as u32 - 1))
}
