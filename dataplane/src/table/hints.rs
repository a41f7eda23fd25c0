//! Affinity hints: the backend that a client's address, or a flow, used last at a service.
//!
//! A hint decides placement and nothing else, so it may be lost or wrong. It
//! is written when a session opens or an id is met from a new address; where backends answer by themselves, and there
//! are no sessions, with every packet. An entry is a word: 40 bits of the hash, one that makes it non-zero, 15 of the time,
//! and the backend's ordinal. A full bucket loses the entry that the new hash points at.

use super::{Sessions, hash};
use crate::abi::{Address, Bucket, POOL_STRIDE, Settings};

/// The bits of an entry that are not the hash's.
const VALUE: u64 = 0xff_ffff;
const MARK: u64 = 1 << 23;
/// Bits of an age.
const AGE: u64 = 0x7fff;

const _: () = assert!(POOL_STRIDE <= 1 << 8);

/// The time in an entry's units of 2^30 ns, which come again after nine hours.
#[inline(always)]
const fn time(now: u64) -> u64 {
    now >> 30 & AGE
}

/// What is known of a client.
#[derive(Clone, Copy, Debug)]
pub struct Hint(u64);

impl Hint {
    /// The longest time that [`Hint::age`] can tell from a shorter one; beyond twice that it begins anew.
    pub const OLDEST: u16 = AGE as u16 / 2;

    /// The ordinal of the backend in its pool.
    #[inline(always)]
    pub const fn ordinal(self) -> u32 {
        self.0 as u32 & 0xff
    }

    /// How long ago it was noted, in units of 2^30 ns: about seconds.
    #[inline(always)]
    pub const fn age(self, now: u64) -> u16 {
        (time(now).wrapping_sub(self.0 >> 8) & AGE) as u16
    }
}

#[inline(always)]
fn parts(s: &Settings, client: &Address, service: u16, port: u16) -> (u32, u64) {
    let h = hash::hint(s, client, service, port);
    (hash::part(h, s.hint_buckets.get()), h & !VALUE)
}

/// Where the hint of a client's address, or of a flow, lies.
#[inline(always)]
pub(super) fn bucket<'t, T: Sessions>(
    t: &'t T,
    s: &Settings,
    client: &Address,
    service: u16,
    port: u16,
) -> Option<&'t Bucket> {
    t.hints(parts(s, client, service, port).0)
}

/// What is known of a client's address at a service, or of a flow: without one the port is 0.
#[inline(always)]
pub fn find<T: Sessions>(
    t: &T,
    s: &Settings,
    client: &Address,
    service: u16,
    port: u16,
) -> Option<Hint> {
    let (bucket, tag) = parts(s, client, service, port);
    let bucket = t.hints(bucket)?;
    for n in 0..8 {
        let e = bucket.0[n].load();
        if e != 0 && e & !VALUE == tag {
            return Some(Hint(e));
        }
    }
    None
}

/// Writes a hint.
#[inline(always)]
pub fn note<T: Sessions>(t: &T, client: &Address, service: u16, port: u16, ordinal: u32) {
    let [high, low] = client.halves();
    let service = u64::from(service) << 16;
    t.note_hint(high, low, u64::from(port) << 32 | service | u64::from(ordinal & 0xff));
}

/// The body of [`note`]; see [`Sessions`] for why it is apart. Returns 0.
#[inline(always)]
pub fn note_apart<T: Sessions>(t: &T, high: u64, low: u64, port_service_ordinal: u64) -> u64 {
    let Some(s) = t.settings() else { return 0 };
    let client = Address::from_halves([high, low]);
    let (service, port) =
        ((port_service_ordinal >> 16) as u16, (port_service_ordinal >> 32) as u16);
    let (bucket, tag) = parts(s, &client, service, port);
    let Some(bucket) = t.hints(bucket) else { return 0 };
    let new = tag | MARK | time(t.now()) << 8 | port_service_ordinal & 0xff;
    for n in 0..8_u64 {
        let cell = &bucket.0[n as usize];
        let e = cell.load();
        if e != 0 && e & !VALUE == tag {
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

/// Puts a hint where it may belong, that lay in bucket `bucket` of `of` under the same key. The rest of its hash is not known, so in a
/// larger table it goes into all buckets that it may belong to, as far as there is room: there are as many more of them.
#[cfg(any(test, feature = "host"))]
pub fn carry<T: Sessions>(t: &T, entry: u64, bucket: u32, of: u32) {
    let (Some(s), true) = (t.settings(), entry != 0 && of != 0) else { return };
    let begin = |bucket: u64| (bucket << 32).div_ceil(of.into());
    let part = |hash: u64| hash::part(hash, s.hint_buckets.get());
    for to in part(begin(bucket.into()))..=part(begin(u64::from(bucket) + 1) - 1) {
        let Some(to) = t.hints(to) else { return };
        let same = |e: u64| e != 0 && e & !VALUE == entry & !VALUE;
        let Some(cell) = to.0.iter().find(|cell| same(cell.load())) else {
            if let Some(free) = to.0.iter().find(|cell| cell.load() == 0) {
                free.replace(0, entry);
            }
            continue;
        };
        let there = cell.load();
        let later = (entry >> 8).wrapping_sub(there >> 8) & AGE;
        if same(there) && (1..=u64::from(Hint::OLDEST)).contains(&later) {
            cell.replace(there, entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::host::{HostTables, Sizes};

    #[test]
    fn a_hint_is_found_in_larger_tables_and_gives_way_to_a_later_one() {
        let small = HostTables::new(Sizes { hints: 12, ..Sizes::default() });
        let large = HostTables::new(Sizes { hints: 200, ..Sizes::default() });
        let client = |n: u32| Address::v4(0x0102_0304 + (n << 16));
        for n in 0..40 {
            note(&small, &client(n), 3, 0, n);
        }
        large.settings.test_clock.set(5 << 30);
        note(&large, &client(7), 3, 0, 77);
        small.settings.test_clock.set(9 << 30);
        note(&small, &client(8), 3, 0, 88);
        for _ in 0..2 {
            for (bucket, entries) in (0..).zip(&small.hints) {
                entries.0.iter().for_each(|e| carry(&large, e.load(), bucket, 12));
            }
        }
        let known = |t: &HostTables, n| find(t, &t.settings, &client(n), 3, 0).map(Hint::ordinal);
        for n in 0..40 {
            let expected = if n == 7 { Some(77) } else { known(&small, n) };
            assert_eq!(known(&large, n), expected, "{n}");
        }
        assert_eq!(known(&large, 8), Some(88));
    }

    #[test]
    fn a_hint_is_of_a_client_and_a_service_and_knows_its_age() {
        let t = HostTables::new(Sizes::default());
        let s = &t.settings;
        let client = Address::v4(0x0102_0304);
        note(&t, &client, 3, 0, 17);
        note(&t, &client, 3, 9, 127);
        let ordinal = |service, port| find(&t, s, &client, service, port).map(Hint::ordinal);
        assert_eq!((ordinal(3, 0), ordinal(3, 9)), (Some(17), Some(127)));
        assert_eq!((ordinal(4, 0), ordinal(3, 8)), (None, None));
        // Over the clock's end, too.
        for start in [0, u64::from(Hint::OLDEST) << 31] {
            s.test_clock.set(start);
            note(&t, &client, 3, 0, 18);
            for age in [0, 1, 300, Hint::OLDEST] {
                let hint = find(&t, s, &client, 3, 0).expect("noted");
                assert_eq!((hint.ordinal(), hint.age(start + (u64::from(age) << 30))), (18, age));
            }
        }
    }
}
