//! The directory: whose address and port this is.
//!
//! An open-addressing table in an array, because it is asked once or twice for every packet,
//! and a BPF hash costs five times as much. It is small: as many entries as four times the
//! listeners and endpoints there are, so that lookups stay in the nearest caches, those of
//! answers too, whose destinations are in no directory. A key that does not lie where its hash says
//! has left a mark there, [`MORE`]: nearly every lookup ends at the first entry that it looks at,
//! whether that is the key's, another's or nobody's.
//!
//! Its one writer, the daemon, adds, changes and empties entries while packets are reading: each
//! by one store. An entry's place is never used again, because a packet may still be reading
//! it: when places run out the daemon writes another table, for which the map has room, and
//! swaps them by [`Settings::directory`].

use super::Tables;
use crate::abi::{Address, AddressKey, Directory, DirectoryEntry, Settings};

/// Entries that a lookup looks at, at most.
pub const LONGEST: u32 = 64;

/// Flag in the word of an entry, beside the kind that it has room for: a key whose first place this is lies farther on.
const MORE: u64 = 1 << 7;

/// The hash of a key. Without a secret: what is in the directory is the operator's choice, and
/// a lookup ends at the first free entry.
#[inline(always)]
pub const fn hash(key: &AddressKey) -> u64 {
    let [high, low] = key.address.halves();
    mixed(high, low, port_protocol(key))
}

/// Two multiplications side by side, not one after the other.
#[inline(always)]
const fn mixed(high: u64, low: u64, port_protocol: u32) -> u64 {
    // The last byte of an address is the highest of its word: folded, so that it reaches all.
    let one =
        (high ^ (high >> 32) ^ (port_protocol as u64) << 7).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let two = (low ^ (low >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
    let h = one.wrapping_add(two);
    h ^ (h >> 32)
}

/// Port and protocol as one word of an entry.
#[inline(always)]
pub const fn port_protocol(key: &AddressKey) -> u32 {
    key.port as u32 | (key.protocol as u32) << 16
}

/// The index of the `n`th entry at which a key with this hash may be.
#[inline(always)]
const fn place(region: u64, hash: u64, n: u32) -> u32 {
    let (base, mask) = ((region >> 32) as u32, region as u32);
    base.wrapping_add((hash as u32).wrapping_add(n) & mask)
}

/// The kind in an entry's word.
const KIND: u64 = MORE - 1;

/// True if the entry, with this word, is the key's and was not emptied.
#[inline(always)]
fn is_key(entry: &DirectoryEntry, word: u64, a: &Address, port_protocol: u32) -> bool {
    let [high, low] = a.halves();
    word & KIND != 0
        && entry.port_protocol.get() == port_protocol
        && entry.address[1].get() == low
        && entry.address[0].get() == high
}

/// Whose address and port this is: of kind 0 if it is nobody's. The first entry is looked at
/// here, the rest in a function apart.
#[inline(always)]
pub fn find<T: Tables>(t: &T, s: &Settings, key: &AddressKey) -> Directory {
    let hash = hash(key);
    let Some(entry) = t.directory_entry(place(s.directory.get(), hash, 0)) else {
        return Directory::unpack(0, 0);
    };
    let word = entry.word.load();
    if is_key(entry, word, &key.address, port_protocol(key)) {
        return value(word, entry);
    }
    if word & MORE == 0 {
        return Directory::unpack(0, 0);
    }
    let [high, low] = key.address.halves();
    let index = t.find_directory(hash, high, low, port_protocol(key).into());
    match t.directory_entry(index as u32) {
        Some(entry) if index != NOT_FOUND => value(entry.word.load(), entry),
        _ => Directory::unpack(0, 0),
    }
}

#[inline(always)]
fn value(word: u64, entry: &DirectoryEntry) -> Directory {
    Directory::unpack(word & !MORE, entry.index.get())
}

const NOT_FOUND: u64 = u64::MAX;

/// The rest of [`find`]; see [`Tables`] for why it is apart.
#[inline(always)]
pub fn find_apart<T: Tables>(t: &T, hash: u64, high: u64, low: u64, port_protocol: u64) -> u64 {
    let Some(s) = t.settings() else { return NOT_FOUND };
    let address = Address::from_halves([high, low]);
    let region = s.directory.get();
    for n in 1..u64::from(LONGEST) {
        let index = place(region, hash, n as u32);
        let Some(entry) = t.directory_entry(index) else { return NOT_FOUND };
        let word = entry.word.load();
        if word == 0 {
            return NOT_FOUND;
        }
        if is_key(entry, word, &address, port_protocol as u32) {
            return u64::from(index);
        }
    }
    NOT_FOUND
}

#[cfg(any(test, feature = "host"))]
pub use writing::{Crowded, Table, region};

/// The daemon's part.
#[cfg(any(test, feature = "host"))]
mod writing {
    use super::{LONGEST, MORE, hash, is_key, port_protocol, value};
    use crate::abi::{Address, AddressKey, Directory, DirectoryEntry};

    /// The word of an entry that was emptied: of kind 0, and not free.
    const EMPTIED: u64 = 1 << 63;

    /// The value of `Settings::directory` for a table of `len` entries (a power of two) that
    /// begins at `base`.
    pub const fn region(base: u32, len: u32) -> u64 {
        (base as u64) << 32 | (len - 1) as u64
    }

    /// Takes the key of an entry away.
    fn empty(entry: &DirectoryEntry) {
        entry.word.store(EMPTIED | entry.word.load() & MORE);
    }

    /// There is no room for the key within reach.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Crowded;

    /// The entries of one table; their number is a power of two.
    #[derive(Clone, Copy, Debug)]
    pub struct Table<'a>(pub &'a [DirectoryEntry]);

    impl<'a> Table<'a> {
        fn run(self, key: &AddressKey) -> impl Iterator<Item = &'a DirectoryEntry> {
            let (first, mask) = (hash(key) as u32, self.0.len() as u32 - 1);
            let entries = self.0;
            (0..LONGEST.min(mask + 1))
                .map(move |n| &entries[(first.wrapping_add(n) & mask) as usize])
        }

        /// The entries of a key: the first is what a lookup finds. Others are of a writer that died within [`Table::put`].
        fn places(self, key: &AddressKey) -> impl Iterator<Item = &'a DirectoryEntry> {
            self.run(key).filter(|e| is_key(e, e.word.load(), &key.address, port_protocol(key)))
        }

        fn place(self, key: &AddressKey) -> Option<&'a DirectoryEntry> {
            self.places(key).next()
        }

        /// Frees all entries. Nobody may be reading this table.
        pub fn clear(self) {
            for entry in self.0 {
                entry.word.store(0);
            }
        }

        /// Adds or changes the entry of a key; packets may be reading.
        ///
        /// # Errors
        /// There is no room within reach.
        pub fn put(self, key: &AddressKey, value: &Directory) -> Result<(), Crowded> {
            self.places(key).skip(1).for_each(empty);
            let old = self.place(key);
            if let Some(old) = old
                && old.index.get() == value.index
            {
                let is_home_of_more = old.word.load() & MORE;
                old.word.store(value.pack() | is_home_of_more);
                return Ok(());
            }
            let entry = self.run(key).find(|entry| entry.word.load() == 0).ok_or(Crowded)?;
            if let Some(home) = self.taken_home(key) {
                home.word.store(home.word.load() | MORE);
            }
            for (cell, half) in entry.address.iter().zip(key.address.halves()) {
                cell.set(half);
            }
            entry.port_protocol.set(port_protocol(key));
            entry.index.set(value.index);
            // Last: a full barrier. It lies behind the old one, which is found until it is emptied:
            // word and index change at once.
            entry.word.store(value.pack());
            if let Some(old) = old {
                empty(old);
            }
            Ok(())
        }

        /// True if the entry, if it were put, would not lie where its key is looked for first.
        pub fn is_displaced(self, key: &AddressKey, value: &Directory) -> bool {
            let stays = self.place(key).is_some_and(|old| old.index.get() == value.index);
            !stays && self.taken_home(key).is_some()
        }

        /// The first place of a key, if it is not free.
        fn taken_home(self, key: &AddressKey) -> Option<&'a DirectoryEntry> {
            self.run(key).next().filter(|home| home.word.load() != 0)
        }

        /// Empties the entry of a key, if it has one.
        pub fn remove(self, key: &AddressKey) {
            self.places(key).skip(1).for_each(empty);
            if let Some(entry) = self.place(key) {
                empty(entry);
            }
        }

        /// Entries that are not free.
        pub fn used(self) -> usize {
            self.0.iter().filter(|entry| entry.word.load() != 0).count()
        }

        /// What lookups find in it.
        pub fn iter(self) -> impl Iterator<Item = (AddressKey, Directory)> {
            self.0.iter().filter_map(move |entry| {
                let value = value(entry.word.load(), entry);
                let address =
                    Address::from_halves([entry.address[0].get(), entry.address[1].get()]);
                let port_protocol = entry.port_protocol.get();
                let key = AddressKey {
                    address,
                    port: port_protocol as u16,
                    protocol: (port_protocol >> 16) as u8,
                    zero: 0,
                };
                let is_found = || self.place(&key).is_some_and(|first| core::ptr::eq(first, entry));
                (value.kind != 0 && is_found()).then_some((key, value))
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::{DirectoryEntry, KIND_ENDPOINT, KIND_LISTENER};
    use crate::table::host::{HostTables, Sizes};
    use std::vec::Vec;

    fn key(n: u32) -> AddressKey {
        let address = Address::v4((0x0a14_0000 | n).to_be());
        AddressKey { address, port: 51_820_u16.to_be(), protocol: 17, zero: 0 }
    }

    fn value(n: u32) -> Directory {
        Directory {
            kind: KIND_ENDPOINT,
            service: 7,
            tenant: 3,
            ring: 9,
            index: n,
            ..Directory::default()
        }
    }

    #[test]
    fn every_key_is_found_in_a_table_that_is_half_full_and_no_other() {
        let t = HostTables::new(Sizes::default());
        let table = Table(&t.directory);
        let half = t.directory.len() as u32 / 2;
        for n in 0..half {
            table.put(&key(n), &value(n)).expect("room");
        }
        assert_eq!(table.used(), half as usize);
        for n in 0..half {
            assert_eq!(find(&t, &t.settings, &key(n)), value(n));
        }
        for n in half..4 * half {
            assert_eq!(find(&t, &t.settings, &key(n)).kind, 0);
        }
        let mut all: Vec<_> = table.iter().map(|(_, value)| value.index).collect();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..half));
    }

    #[test]
    fn entries_change_and_go_and_what_lay_behind_them_is_still_found() {
        let t = HostTables::new(Sizes::default());
        let table = Table(&t.directory);
        let some = t.directory.len() as u32 / 4;
        for n in 0..some {
            table.put(&key(n), &value(n)).expect("room");
        }
        for n in (0..some).step_by(2) {
            table.remove(&key(n));
        }
        let changed = |n| Directory { kind: KIND_LISTENER, ring: 1, ..value(n) };
        for n in (1..some).step_by(2) {
            table.put(&key(n), &changed(n)).expect("in place");
        }
        for n in 0..some {
            let found = find(&t, &t.settings, &key(n));
            if n % 2 == 0 {
                assert_eq!(found.kind, 0, "{n}");
            } else {
                assert_eq!(found, changed(n));
            }
        }
        // Back, and to another index: in new places, because the old ones may be being read.
        for index in [0, 5, 0] {
            let used = table.used();
            table.put(&key(0), &value(index)).expect("room");
            assert_eq!(find(&t, &t.settings, &key(0)), value(index));
            assert_eq!(table.used(), used + 1);
            assert_eq!(table.iter().filter(|(k, _)| *k == key(0)).count(), 1);
        }
    }

    #[test]
    fn of_an_entry_that_a_writer_died_at_the_former_is_found_and_the_other_goes() {
        let t = HostTables::new(Sizes::default());
        let table = Table(&t.directory);
        let all = || table.iter().map(|(_, value)| value.index).collect::<Vec<_>>();
        let found = || find(&t, &t.settings, &key(0)).index;
        let die = |old: u32, new: u32| {
            table.put(&key(0), &value(old)).expect("room");
            let lies = |entry: &&DirectoryEntry| {
                is_key(entry, entry.word.load(), &key(0).address, port_protocol(&key(0)))
            };
            let before = t.directory.iter().find(lies).expect("it was put");
            table.put(&key(0), &value(new)).expect("room");
            before.word.store(value(old).pack());
            assert_eq!((found(), all()), (old, [old].into()), "as before");
        };
        die(0, 5);
        table.put(&key(0), &value(6)).expect("room");
        assert_eq!((found(), all()), (6, [6].into()));
        die(7, 8);
        table.put(&key(0), &Directory { ring: 1, ..value(7) }).expect("in place");
        assert_eq!((found(), all()), (7, [7].into()));
        die(9, 5);
        table.remove(&key(0));
        assert_eq!((find(&t, &t.settings, &key(0)).kind, all()), (0, [].into()));
    }

    /// What is first looked at tells whether there is more to look at.
    #[test]
    fn nothing_but_a_displaced_key_marks_an_entry_and_the_mark_stays() {
        let t = HostTables::new(Sizes::default());
        let table = Table(&t.directory);
        let mask = t.directory.len() as u32 - 1;
        let home = |n: u32| hash(&key(n)) as u32 & mask;
        let marked = || t.directory.iter().filter(|e| e.word.load() & MORE != 0).count();
        let other = (1..).find(|n| home(*n) == home(0)).expect("there is one");
        table.put(&key(0), &value(0)).expect("room");
        assert!(table.is_displaced(&key(other), &value(1)));
        assert!(!table.is_displaced(&key(0), &value(0)), "it is changed in place");
        assert!(table.is_displaced(&key(0), &value(5)), "it would lie behind itself");
        assert_eq!((find(&t, &t.settings, &key(other)).kind, marked()), (0, 0));
        table.put(&key(other), &value(1)).expect("room");
        let is_marked = || t.directory[home(0) as usize].word.load() & MORE != 0;
        assert!(is_marked() && marked() == 1);
        table.put(&key(0), &Directory { ring: 1, ..value(0) }).expect("in place");
        assert!(is_marked());
        table.remove(&key(0));
        assert!(is_marked() && marked() == 1);
        assert_eq!(find(&t, &t.settings, &key(0)).kind, 0);
        assert_eq!(find(&t, &t.settings, &key(other)), value(1));
        table.clear();
        assert_eq!(marked(), 0);
    }

    #[test]
    fn a_table_without_room_says_so() {
        let t = HostTables::new(Sizes::default());
        let table = Table(&t.directory);
        let full = (0..).find(|n| table.put(&key(*n), &value(*n)).is_err()).expect("an end");
        assert!(full > t.directory.len() as u32 / 2, "{full}");
        for n in 0..full {
            assert_eq!(find(&t, &t.settings, &key(n)), value(n));
        }
    }
}
