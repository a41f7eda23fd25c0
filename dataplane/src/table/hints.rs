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
    (h as u32 & s.hint_mask.get(), h & !0xff_ffff)
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
pub fn note<T: Tables>(t: &T, s: &Settings, client: &Address, service: u16, ordinal: u16) {
    let (bucket, tag) = parts(s, client, service);
    let Some(bucket) = t.hints(bucket) else { return };
    let new = tag | MARK | u64::from(ordinal);
    let mut place = (tag >> 61) as usize;
    let mut found = false;
    for n in 0..8 {
        let e = bucket.0[n].load();
        if e & !0xff_ffff == tag && e != 0 {
            if e == new {
                return;
            }
            place = n;
            break;
        }
        if e == 0 && !found {
            place = n;
            found = true;
        }
    }
    bucket.0[place & 7].store(new);
}
