//! Whether the tables hold what was written to them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use dataplane::abi::{
    self, AddressKey, NAME_POOL, NAME_RETIRED, NAME_TENANT, NameKey, RouteKey, maps,
};

use super::wanted::{KnownHop, Live, TenantLimits, Wanted};
use super::{EndpointNames, HopKey, NextHop, Registry};

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
    /// What they are: the first hundred.
    pub entries: Vec<String>,
}

/// How many entries of a table are named.
const NAMED: usize = 100;

impl Drift {
    /// Adds fields of the settings that never change, and have.
    pub fn add_fixed(all: &mut Vec<Self>, fields: &[&str]) {
        if fields.is_empty() {
            return;
        }
        let at = all.iter().position(|drift| drift.table == maps::SETTINGS).unwrap_or(all.len());
        if at == all.len() {
            let entries = Vec::new();
            let none =
                Self { table: maps::SETTINGS, missing: 0, foreign: 0, different: 0, entries };
            all.push(none);
        }
        let settings = &mut all[at];
        settings.different += fields.len();
        settings.entries.extend(fields.iter().map(|field| format!("different: {field}")));
    }
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

/// How tables with room for so many sessions, which hold `read`, differ from what is known to have been written.
pub fn drift(known: &Wanted, read: &Wanted, room: u64) -> Vec<Drift> {
    let written = known.as_read(room);
    let set = |devices: &std::collections::BTreeSet<u32>| -> BTreeMap<u32, ()> {
        devices.iter().map(|device| (*device, ())).collect()
    };
    let names = Registry::of(&written);
    let named = |kind, index: u32| match names.name(kind, index) {
        Some(name) => format!("{index}, {name}"),
        None => index.to_string(),
    };
    let hop = |index: &u32| {
        let key = known.nexthops.get(index).and_then(|known| known.key);
        let who =
            |key: HopKey| format!("{index}, {} by interface {}", key.neighbour, key.interface);
        key.map_or_else(|| index.to_string(), who)
    };
    let endpoint = |index: &u32| match names.endpoint(*index) {
        Some(EndpointNames { listener, backend, .. }) => {
            format!("{index}, {listener} at {backend}")
        }
        None => index.to_string(),
    };
    let prefix = |key: &RouteKey| {
        let address = IpAddr::from(key.address);
        let length = key.prefix_len.saturating_sub(if address.is_ipv4() { 96 } else { 0 });
        format!("{address}/{length}")
    };
    let place = |key: &AddressKey| {
        let (address, port) = (IpAddr::from(key.address), u16::from_be(key.port));
        format!("{} protocol {}", SocketAddr::new(address, port), key.protocol)
    };
    let all = [
        compare(maps::NAMES, &written.names, &read.names, name_key),
        compare(maps::TENANTS, &written.tenants, &read.tenants, |t| named(NAME_TENANT, *t)),
        compare(maps::DEVICES, &set(&written.devices), &set(&read.devices), number),
        compare(maps::NEXTHOPS, &written.nexthops, &read.nexthops, hop),
        compare(maps::ROUTES, &written.routes, &read.routes, prefix),
        compare(maps::ENDPOINTS, &written.endpoints, &read.endpoints, endpoint),
        compare(maps::SOURCES, &written.sources, &read.sources, number),
        compare(maps::PACES, &written.paces, &read.paces, number),
        compare(maps::RINGS, &written.rings, &read.rings, |ring| {
            named(NAME_POOL, u32::from(*ring) / 4)
        }),
        compare(maps::DIRECTORY, &written.directory, &read.directory, place),
        compare(maps::SETTINGS, &settings(written.live), &settings(read.live), number),
    ];
    all.into_iter().flatten().collect()
}

fn number(key: &impl ToString) -> String {
    key.to_string()
}

fn name_key(key: &NameKey) -> String {
    let kind = match key.kind & !NAME_RETIRED {
        abi::NAME_TENANT => "tenant",
        abi::NAME_SERVICE => "service",
        abi::NAME_POOL => "pool",
        abi::NAME_BACKEND => "backend",
        abi::NAME_LISTENER => "listener",
        abi::NAME_LISTENER_POOL => "listener's pool",
        _ => "what is unknown",
    };
    let retired = if key.kind & NAME_RETIRED == 0 { "" } else { "retired " };
    format!("{retired}{kind} {}", key.index)
}

/// By the fields' names.
fn settings(live: Live) -> BTreeMap<&'static str, u64> {
    let Live { budget_cost, budget_burst, max_sessions, guaranteed, tentative } = live;
    [
        ("budget_cost", budget_cost.into()),
        ("budget_burst", budget_burst.into()),
        ("max_sessions", max_sessions),
        ("max_borrowed", max_sessions.wrapping_sub(guaranteed)),
        ("max_used", max_sessions.wrapping_add(tentative)),
    ]
    .into()
}

fn compare<K: Ord, V: PartialEq>(
    table: &'static str,
    written: &BTreeMap<K, V>,
    read: &BTreeMap<K, V>,
    named: impl Fn(&K) -> String,
) -> Option<Drift> {
    let missing: Vec<_> = written.keys().filter(|key| !read.contains_key(key)).collect();
    let foreign: Vec<_> = read.keys().filter(|key| !written.contains_key(key)).collect();
    let changed = |(key, value): &(&K, &V)| read.get(key).is_some_and(|other| other != *value);
    let different: Vec<_> = written.iter().filter(changed).map(|(key, _)| key).collect();
    let kinds = [("missing", &missing), ("foreign", &foreign), ("different", &different)];
    let entries = kinds.iter().flat_map(|(kind, keys)| {
        keys.iter().map(|key| format!("{kind}: {}", named(key))).collect::<Vec<_>>()
    });
    let entries: Vec<_> = entries.take(NAMED).collect();
    let [missing, foreign, different] = [missing.len(), foreign.len(), different.len()];
    (!entries.is_empty()).then_some(Drift { table, missing, foreign, different, entries })
}
