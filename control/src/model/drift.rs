//! Whether the tables hold what was written to them.

use std::collections::BTreeMap;

use dataplane::abi::{self, maps};

use super::NextHop;
use super::wanted::{KnownHop, Live, TenantLimits, Wanted};

/// How one table differs from what was written to it, in entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift {
    /// The map's name.
    pub table: &'static str,
    /// Entries that are gone.
    pub missing: usize,
    /// Entries that nobody wrote.
    pub foreign: usize,
    /// Entries with another value.
    pub different: usize,
}

impl Wanted {
    /// What is read where this was written, from tables with room for so many sessions.
    fn as_read(&self, room: u64) -> Self {
        let mut read = self.clone();
        for name in read.names.values_mut() {
            name.truncate(name.floor_char_boundary(abi::MAX_NAME));
        }
        read.tenants.retain(|_, limits| *limits != TenantLimits::default());
        read.nexthops.retain(|_, known| known.hop != NextHop::default());
        for known in read.nexthops.values_mut() {
            known.key = None;
        }
        let in_use = |number: &u16| {
            self.directory.values().any(|entry| entry.places() && entry.ring == *number)
        };
        read.rings.retain(|number, _| in_use(number));
        read.live = read.live.within(room);
        read
    }

    /// What of this, as it was read, is known to be of `written`: next hops have their names again, which the tables do not hold.
    #[must_use]
    pub fn known_as(mut self, written: &Self) -> Self {
        for (index, known) in &mut self.nexthops {
            if let Some(KnownHop { key, hop }) = written.nexthops.get(index)
                && *hop == known.hop
            {
                known.key = *key;
            }
        }
        self
    }
}

/// How tables with room for so many sessions, which hold `read`, differ from what was written.
pub fn drift(written: &Wanted, read: &Wanted, room: u64) -> Vec<Drift> {
    let written = written.as_read(room);
    let set = |devices: &std::collections::BTreeSet<u32>| -> BTreeMap<u32, ()> {
        devices.iter().map(|device| (*device, ())).collect()
    };
    let live = |live: Live| BTreeMap::from([((), live)]);
    let all = [
        compare(maps::NAMES, &written.names, &read.names),
        compare(maps::TENANTS, &written.tenants, &read.tenants),
        compare(maps::DEVICES, &set(&written.devices), &set(&read.devices)),
        compare(maps::NEXTHOPS, &written.nexthops, &read.nexthops),
        compare(maps::ROUTES, &written.routes, &read.routes),
        compare(maps::ENDPOINTS, &written.endpoints, &read.endpoints),
        compare(maps::SOURCES, &written.sources, &read.sources),
        compare(maps::PACES, &written.paces, &read.paces),
        compare(maps::RINGS, &written.rings, &read.rings),
        compare(maps::DIRECTORY, &written.directory, &read.directory),
        compare(maps::SETTINGS, &live(written.live), &live(read.live)),
    ];
    all.into_iter().flatten().collect()
}

fn compare<K: Ord, V: PartialEq>(
    table: &'static str,
    written: &BTreeMap<K, V>,
    read: &BTreeMap<K, V>,
) -> Option<Drift> {
    let missing = written.keys().filter(|key| !read.contains_key(key)).count();
    let foreign = read.keys().filter(|key| !written.contains_key(key)).count();
    let changed = |(key, value): &(&K, &V)| read.get(key).is_some_and(|other| other != *value);
    let different = written.iter().filter(changed).count();
    (missing + foreign + different > 0).then_some(Drift { table, missing, foreign, different })
}
