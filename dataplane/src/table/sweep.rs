//! The daemon's part of the tables' upkeep: dead slots become empty again where
//! no run passes over them, and stale ids are removed.

use super::hash;
use super::ids::{self, ENTRIES, Scope};
use super::slot::{self, PROBES};
use crate::abi::{Bucket, Detail, Settings, Slot};
use std::collections::BTreeSet;

/// Homes in the primary table of all flows that lie in the overflow; `None` while one is being written.
fn protected(slots: &[Slot], s: &Settings) -> Option<BTreeSet<u32>> {
    let primary = s.slot_mask.get() as usize + 1;
    let mut homes = BTreeSet::new();
    for slot in &slots[primary..] {
        let word = slot.state.load();
        match slot::state(word) {
            slot::EMPTY | slot::DEAD => {}
            slot::CLAIMED => return None,
            _ => {
                homes.insert(slot::probe(s, hash::flow(s, &slot::flow(slot)), 0));
            }
        }
    }
    Some(homes)
}

/// True if the run of a protected home passes over primary slot `i`.
fn is_protected(homes: &BTreeSet<u32>, i: u32, mask: u32) -> bool {
    !homes.is_empty() && (0..PROBES).any(|n| homes.contains(&(i.wrapping_sub(n as u32) & mask)))
}

fn next(i: u32, s: &Settings) -> u32 {
    let mask = s.slot_mask.get();
    if i <= mask {
        (i + 1) & mask
    } else {
        let first = mask + 1;
        first + ((i - first + 1) & s.overflow_mask.get())
    }
}

/// Makes dead slots empty whose following slot is empty: no run that has
/// anything behind passes over them. Returns how many.
pub fn slots(slots: &[Slot], s: &Settings) -> usize {
    let all: Vec<u32> = (0..slots.len() as u32).collect();
    dead(slots, s, &all)
}

/// The same of these slots alone, which are in ascending order: those that were seen to be dead.
pub fn dead(slots: &[Slot], s: &Settings, candidates: &[u32]) -> usize {
    if candidates.is_empty() {
        return 0;
    }
    let mask = s.slot_mask.get();
    let Some(homes) = protected(slots, s) else { return 0 };
    let is_empty = |i: u32| slot::state(slots[i as usize].state.load()) == slot::EMPTY;
    let may = |i: u32, homes: &BTreeSet<u32>| {
        is_empty(next(i, s)) && (i > mask || !is_protected(homes, i, mask))
    };
    let mut swept = Vec::new();
    // Twice over the end of each region, so that a chain across it is seen whole.
    for i in candidates.iter().rev().copied() {
        let slot = &slots[i as usize];
        let word = slot.state.load();
        if slot::state(word) == slot::DEAD
            && may(i, &homes)
            && slot::transition(slot, word, slot::EMPTY)
        {
            swept.push(i);
        }
    }
    if swept.is_empty() {
        return 0;
    }
    // A kernel program that inserted meanwhile has either seen the hole, or is seen here.
    let homes = protected(slots, s);
    let mut kept = 0;
    for i in swept.iter().rev() {
        let keep = homes.as_ref().is_some_and(|h| may(*i, h));
        if keep {
            kept += 1;
        } else {
            let slot = &slots[*i as usize];
            let word = slot.state.load();
            if slot::state(word) == slot::EMPTY {
                slot::transition(slot, word, slot::DEAD);
            }
        }
    }
    kept
}

/// Removes the entries of the id index that lead to a slot which does not hold
/// their id any more. Returns how many.
pub fn ids(buckets: &[Bucket], slots: &[Slot], details: &[Detail], s: &Settings) -> usize {
    let mut removed = 0;
    for (b, bucket) in buckets.iter().enumerate() {
        for n in 0..ENTRIES as usize {
            let entry = bucket.0[n].load();
            let Some((tag, index)) = ids::read(bucket, n) else { continue };
            let is_held = || {
                let there = slots.get(index as usize).zip(details.get(index as usize));
                there.is_some_and(|(slot, detail)| holds(slot, detail, s, b as u32, tag))
            };
            if is_held() || !bucket.0[n].replace(entry, 0) {
                continue;
            }
            // The slot may have been taken meanwhile, for a session with the same id.
            if is_held() {
                bucket.0[n].replace(0, entry);
            } else {
                removed += 1;
            }
        }
    }
    removed
}

fn holds(slot: &Slot, detail: &Detail, s: &Settings, bucket: u32, tag: u32) -> bool {
    let word = slot.state.load();
    if slot::is_in_making(word) {
        return true;
    }
    if !slot::is_live(word) {
        return false;
    }
    let (inbound, outbound) =
        (Scope::inbound(slot.service()), Scope::outbound(slot.endpoint.get()));
    [
        (inbound, slot.in_id.get()),
        (inbound, detail.in_id_next.get()),
        (inbound, detail.in_id_previous.get()),
        (outbound, slot.out_id.get()),
        (outbound, detail.out_id_next.get()),
        (outbound, detail.out_id_previous.get()),
        // A control channel's.
        (inbound, slot.out_id.get()),
        (inbound, detail.out_id_previous.get()),
    ]
    .into_iter()
    .filter(|(_, id)| *id != 0)
    .any(|(scope, id)| {
        let place = ids::place(s, scope, id);
        place.tag == tag && (place.first == bucket || place.second == bucket)
    })
}
