//! The maps, opened.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::fmt::{self, Display};

use aya::maps::lpm_trie::LpmTrie;
use aya::maps::{Array, DevMapHash, HashMap, Map, MapData, MapError, PerCpuArray};
use dataplane::abi::{
    Address, Bucket, Detail, Meter, NextHop as HopElement, RING_WORDS, RouteKey, Settings, Slot,
    Tenant, maps,
};
use dataplane::cell::Cell;
use dataplane::reason::Reason;

use super::directory::Directories;
use super::error::Chain;
use super::mapped::{Mapped, Shared};
use super::pod::{PodEndpoint, PodName, PodNameKey};
use super::{LoadError, Pins, Sizes};
use crate::model::{KnownHop, Live, MeterLimits, NextHop, Ring, TenantLimits, Wanted};

/// All maps of the kernel program.
///
/// Sessions, counters and tenants are shared memory: reading needs no lock, and no
/// system call. Everything else is written through [`TableWriter`](crate::model::TableWriter).
pub struct Tables {
    /// The settings, one element.
    pub(super) settings: Mapped<Settings>,
    /// The session table: primary slots, then the overflow.
    pub slots: Mapped<Slot>,
    /// What few packets need of each slot's session.
    pub details: Mapped<Detail>,
    /// The id index.
    pub ids: Mapped<Bucket>,
    /// Quotas and counts.
    pub tenants: Mapped<Tenant>,
    /// Meters of handshakes.
    pub(super) paces: Mapped<Meter>,
    pub(super) hints: Mapped<Bucket>,
    pub(super) nexthops: Mapped<HopElement>,
    pub(super) rings: Mapped<Cell<u64>>,
    counters: PerCpuArray<MapData, u64>,
}

/// The maps that are written by system call. Apart, because writing needs a
/// unique reference, which only the daemon's reconciler has.
pub(super) struct Written {
    pub(super) directory: Directories,
    pub(super) endpoints: Array<MapData, PodEndpoint>,
    /// The same as words, by which to see which of the sixty thousand there are; with the words of one.
    endpoint_words: (Mapped<Cell<u64>>, usize),
    pub(super) sources: Array<MapData, [u32; 4]>,
    pub(super) routes: LpmTrie<MapData, [u32; 4], u32>,
    pub(super) devices: DevMapHash<MapData>,
    pub(super) names: HashMap<MapData, PodNameKey, PodName>,
}

/// A reason with its count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// Why packets ended, or what happened.
    pub reason: Reason,
    /// How often, all processors together.
    pub packets: u64,
}

fn pin_error(pins: &Pins, name: &str) -> impl Fn(&dyn Display) -> LoadError {
    let path = pins.map(name);
    move |e| LoadError::Pin { path: path.clone(), reason: e.to_string() }
}

fn data(pins: &Pins, name: &str) -> Result<MapData, LoadError> {
    MapData::from_pin(pins.map(name)).map_err(|e| pin_error(pins, name)(&Chain(&e)))
}

pub(crate) fn typed<T: TryFrom<Map, Error = MapError>>(
    pins: &Pins,
    name: &str,
) -> Result<T, LoadError> {
    let failed = |e: MapError| pin_error(pins, name)(&Chain(&e));
    T::try_from(Map::from_map_data(data(pins, name)?).map_err(failed)?).map_err(failed)
}

/// Maps an array of anything, as words; with the words of an element.
pub(super) fn open_words(pins: &Pins, name: &str) -> Result<(Mapped<Cell<u64>>, usize), LoadError> {
    let map = data(pins, name)?;
    let info = map.info().map_err(|e| pin_error(pins, name)(&Chain(&e)))?;
    let words = info.value_size().div_ceil(8);
    let all = words.checked_mul(info.max_entries());
    let all = all.ok_or_else(|| pin_error(pins, name)(&"it is too large"))?;
    let mapped = Mapped::new(map.fd(), all).map_err(|e| pin_error(pins, name)(&e))?;
    Ok((mapped, words as usize))
}

/// Maps an array, all of its elements.
pub(super) fn open<T: Shared>(pins: &Pins, name: &str) -> Result<Mapped<T>, LoadError> {
    let map = data(pins, name)?;
    let info = map.info().map_err(|e| pin_error(pins, name)(&Chain(&e)))?;
    if info.value_size() as usize != size_of::<T>() {
        return Err(pin_error(pins, name)(&"its values have another size"));
    }
    Mapped::new(map.fd(), info.max_entries()).map_err(|e| pin_error(pins, name)(&e))
}

impl fmt::Debug for Tables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tables").field("sizes", &self.sizes()).finish_non_exhaustive()
    }
}

impl Tables {
    /// Opens the pinned maps, whose shapes were checked.
    pub(super) fn open(pins: &Pins) -> Result<Self, LoadError> {
        Ok(Self {
            settings: open(pins, maps::SETTINGS)?,
            slots: open(pins, maps::SLOTS)?,
            details: open(pins, maps::DETAILS)?,
            ids: open(pins, maps::IDS)?,
            tenants: open(pins, maps::TENANTS)?,
            paces: open(pins, maps::PACES)?,
            hints: open(pins, maps::HINTS)?,
            nexthops: open(pins, maps::NEXTHOPS)?,
            rings: open(pins, maps::RINGS)?,
            counters: typed(pins, maps::COUNTERS)?,
        })
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.settings[0]
    }

    /// The sizes the tables were made with.
    pub fn sizes(&self) -> Sizes {
        let s = self.settings();
        Sizes {
            slots: s.slot_mask.get() + 1,
            overflow: s.overflow_mask.get() + 1,
            ids: s.id_buckets.get(),
            hints: s.hint_buckets.get(),
        }
    }

    /// All reasons with their counts.
    ///
    /// # Errors
    /// The kernel refuses to read the map.
    pub fn counts(&self) -> Result<Vec<Count>, LoadError> {
        let read = |reason: &Reason| {
            let values = self
                .counters
                .get(&(*reason as u32), 0)
                .map_err(|e| LoadError::kernel("reading the counters", &e))?;
            Ok(Count { reason: *reason, packets: values.iter().sum() })
        };
        Reason::ALL.iter().map(read).collect()
    }
}

impl Written {
    pub(super) fn open(pins: &Pins, tables: &Tables) -> Result<Self, LoadError> {
        Ok(Self {
            directory: Directories::open(pins, tables.settings())?,
            endpoints: typed(pins, maps::ENDPOINTS)?,
            endpoint_words: open_words(pins, maps::ENDPOINTS)?,
            sources: typed(pins, maps::SOURCES)?,
            routes: typed(pins, maps::ROUTES)?,
            devices: typed(pins, maps::DEVICES)?,
            names: typed(pins, maps::NAMES)?,
        })
    }

    /// What the tables hold, in the model's terms.
    pub(super) fn read(&self, tables: &Tables) -> Result<Wanted, LoadError> {
        let failed = |what: &'static str| {
            move |e: MapError| LoadError::kernel(format!("reading {what}"), &e)
        };
        let mut held = Wanted::default();
        for entry in self.names.iter() {
            let (key, name) = entry.map_err(failed("the names"))?;
            held.names.insert(key.0, text(&name));
        }
        held.directory = self.directory.read(tables.settings());
        for entry in self.routes.iter() {
            let (key, nexthop) = entry.map_err(failed("the routes"))?;
            let key = RouteKey { prefix_len: key.prefix_len(), address: Address(key.data()) };
            held.routes.insert(key, nexthop);
        }
        for entry in self.devices.iter() {
            let (ifindex, _) = entry.map_err(failed("the devices"))?;
            held.devices.insert(ifindex);
        }
        let (words, of_one) = &self.endpoint_words;
        let all = (0..).zip(words.chunks_exact(*of_one));
        for (index, _) in all.filter(|(_, words)| words.iter().any(|word| word.get() != 0)) {
            let endpoint = self.endpoints.get(&index, 0).map_err(failed("the endpoints"))?.0;
            if endpoint != Default::default() {
                held.endpoints.insert(index, endpoint);
            }
        }
        for (index, source) in self.sources.iter().enumerate() {
            let source = Address(source.map_err(failed("the tunnels' addresses"))?);
            if source != Address::default() {
                held.sources.insert(index as u16, source);
            }
        }
        held.nexthops = tables
            .nexthops
            .iter()
            .enumerate()
            .map(|(index, hop)| (index as u32, KnownHop { key: None, hop: NextHop::read(hop) }))
            .filter(|(_, known)| known.hop != NextHop::default())
            .collect();
        held.tenants = tenants(tables);
        held.rings = rings(tables, &held);
        held.live = Live::read(tables.settings());
        held.paces = tables
            .paces
            .iter()
            .enumerate()
            .map(|(index, meter)| (index as u32, MeterLimits::read(meter)))
            .filter(|(_, limits)| *limits != MeterLimits::default())
            .collect();
        Ok(held)
    }
}

fn text(name: &PodName) -> String {
    let text = CStr::from_bytes_until_nul(&name.0.0).map(CStr::to_string_lossy);
    text.unwrap_or_default().into_owned()
}

fn tenants(tables: &Tables) -> BTreeMap<u32, TenantLimits> {
    tables
        .tenants
        .iter()
        .enumerate()
        .map(|(index, tenant)| (index as u32, TenantLimits::read(tenant)))
        .filter(|(_, limits)| *limits != TenantLimits::default())
        .collect()
}

/// The rings that listeners refer to.
fn rings(tables: &Tables, held: &Wanted) -> BTreeMap<u16, Ring> {
    let mut rings = BTreeMap::new();
    for entry in held.directory.values() {
        let first = u32::from(entry.ring) * RING_WORDS;
        let range = first as usize..(first + RING_WORDS) as usize;
        if let (true, Some(cells)) = (entry.places(), tables.rings.get(range)) {
            let mut words = [[0; 8]; RING_WORDS as usize];
            for (word, cell) in words.iter_mut().zip(cells) {
                *word = cell.get().to_ne_bytes();
            }
            rings.insert(entry.ring, Ring::from_words(&words));
        }
    }
    rings
}
