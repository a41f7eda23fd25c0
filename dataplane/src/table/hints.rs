//! Affinity hints: the backend that a client's address used last at a service.
//!
//! A hint decides placement and nothing else, so it may be lost or wrong. It
//! is written when a session opens or an id is met from a new address. An entry
//! is a word: 40 bits of the hash, 8 bits that make it non-zero, and the
//! backend's ordinal. A full bucket loses the entry that the new hash points at.

use super::{Tables, hash};
use crate::abi::{Address, Settings};

const MARK: u64 = 1 << 16;

#[inline(always)]
fn parts(s: &Settings, client: &Address, service: u16) -> (u32, u64) {
    let h = hash::hint(s, client, service);
    (hash::part(h, s.hint_buckets.get()), h & !0xff_ffff)
}

/// The ordinal of the backend in its pool.
#[inline(always)]
pub fn find<T: Tables>(t: &T, s: &Settings, client: &Address, service: u16) -> Option<u16> {
    let (bucket, tag) = parts(s, client, service);
    let bucket = t.hints(bucket)?;
    for n in 0..8 {
        let e = bucket.0[n].load();
        if e != 0 && e & !0xff_ffff == tag {
            return Some(e as u16);
        }
    }
    None
}

/// Writes a hint.
#[inline(always)]
pub fn note<T: Tables>(t: &T, client: &Address, service: u16, ordinal: u16) {
    let [high, low] = client.halves();
    t.note_hint(high, low, u64::from(service) << 16 | u64::from(ordinal));
}

/// The body of [`note`]; see [`Tables`] for why it is apart. Returns 0.
#[inline(always)]
pub fn note_apart<T: Tables>(t: &T, high: u64, low: u64, service_ordinal: u64) -> u64 {
    let Some(s) = t.settings() else { return 0 };
    let client = Address::from_halves([high, low]);
    let (bucket, tag) = parts(s, &client, (service_ordinal >> 16) as u16);
    let Some(bucket) = t.hints(bucket) else { return 0 };
    let new = tag | MARK | service_ordinal & 0xffff;
    for n in 0..8_u64 {
        let cell = &bucket.0[n as usize];
        let e = cell.load();
        if e != 0 && e & !0xff_ffff == tag {
            if e != new {
                cell.store(new);
            }
            return 0;
        }
    }
    for n in 0..8_u64 {
        let cell = &bucket.0[n as usize];
        if cell.load() == 0 {
            cell.store(new);
            return 0;
        }
    }
    bucket.0[(tag >> 61) as usize].store(new);
    0
}
