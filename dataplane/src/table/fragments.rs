//! Where the fragments of a packet go: as the first one went, which alone has ports.
//!
//! An entry is a word: the upper half of the hash of addresses, protocol and identification, the time, and the
//! endpoint. It is a *hint that is checked*: the endpoint has one of the packet's addresses. Entries are dead after
//! [`LIFETIME`]; a full bucket loses the one that the new hash points at, so a flood of first fragments takes others'
//! entries, and no memory.

use super::{Tables, hash};
use crate::abi::{FRAGMENT_BUCKETS, ticks};

/// How long an entry lives, in units of 2^24 ns: four seconds. Fragments come behind one another; an identification may
/// come again soon.
const LIFETIME: u16 = 238;
const FOUND: u64 = 1 << 32;

/// The upper half of an entry: never 0, which is a free one.
#[inline(always)]
const fn tag(hash: u64) -> u64 {
    hash >> 32 | 1
}

#[inline(always)]
const fn time(now: u64) -> u16 {
    (ticks(now) >> 4) as u16
}

/// True if an entry, noted at the time that it says, is alive.
#[inline(always)]
const fn is_alive(entry: u64, now: u16) -> bool {
    entry != 0 && now.wrapping_sub((entry >> 16) as u16) <= LIFETIME
}

/// The endpoint that the first fragment went to, or came from.
#[inline(always)]
pub fn find<T: Tables>(t: &T, hash: u64) -> Option<u32> {
    let found = t.find_fragment(hash);
    (found & FOUND != 0).then_some(found as u32)
}

/// The body of [`find`]; see [`Tables`] for why it is apart.
#[inline(always)]
pub fn find_apart<T: Tables>(t: &T, hash: u64) -> u64 {
    let Some(bucket) = t.fragments(hash::part(hash, FRAGMENT_BUCKETS)) else { return 0 };
    let now = time(t.now());
    for n in 0..8_usize {
        let e = bucket.0[n].load();
        if e >> 32 == tag(hash) && is_alive(e, now) {
            return FOUND | e & 0xffff;
        }
    }
    0
}

/// Notes the endpoint of a first fragment.
#[inline(always)]
pub fn note<T: Tables>(t: &T, hash: u64, endpoint: u32) {
    t.note_fragment(hash, endpoint.into());
}

/// The body of [`note`]; see [`Tables`] for why it is apart. Returns 0.
#[inline(always)]
pub fn note_apart<T: Tables>(t: &T, hash: u64, endpoint: u64) -> u64 {
    let Some(bucket) = t.fragments(hash::part(hash, FRAGMENT_BUCKETS)) else { return 0 };
    let now = time(t.now());
    let new = tag(hash) << 32 | u64::from(now) << 16 | endpoint & 0xffff;
    for n in 0..8_usize {
        if bucket.0[n].load() >> 32 == tag(hash) {
            bucket.0[n].store(new);
            return 0;
        }
    }
    for n in 0..8_usize {
        if !is_alive(bucket.0[n].load(), now) {
            bucket.0[n].store(new);
            return 0;
        }
    }
    bucket.0[(hash >> 61) as usize].store(new);
    0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::host::{HostTables, Sizes};

    #[test]
    fn an_entry_is_found_while_it_lives_and_its_place_is_used_again() {
        let t = HostTables::new(Sizes::default());
        // One bucket, with other upper halves.
        let hashes: [u64; 10] = core::array::from_fn(|n| (n as u64 + 1) << 33 | 7);
        for (hash, endpoint) in hashes.into_iter().zip(0..8) {
            note(&t, hash, endpoint);
        }
        for (hash, endpoint) in hashes.into_iter().zip(0..8) {
            assert_eq!(find(&t, hash), Some(endpoint));
        }
        note(&t, hashes[3], 77);
        assert_eq!(find(&t, hashes[3]), Some(77), "the last one counts");
        // A ninth takes one place.
        note(&t, hashes[8], 8);
        assert_eq!(find(&t, hashes[8]), Some(8));
        let left = hashes[..8].iter().filter(|hash| find(&t, **hash).is_some()).count();
        assert_eq!(left, 7);
        // When all are dead, nobody has to give way.
        t.settings.test_clock.set(5_000_000_000);
        assert!(hashes.iter().all(|hash| find(&t, *hash).is_none()));
        note(&t, hashes[9], 9);
        note(&t, hashes[0], 1);
        assert_eq!((find(&t, hashes[9]), find(&t, hashes[0])), (Some(9), Some(1)));
    }
}
