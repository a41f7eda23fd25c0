//! The tables' own description of their layout, written with them and read by daemons of any version.

use std::collections::BTreeMap;
use std::ffi::CStr;

use aya::maps::{HashMap, MapData, MapError};
use dataplane::abi::{self, maps};
use dataplane::layout;

use super::pod::{PodLayout, PodLayoutKey};
use super::tables::typed;
use super::{LoadError, Pins};

type Map = HashMap<MapData, PodLayoutKey, PodLayout>;

/// What lies where in some daemon's tables.
#[derive(Clone, Debug)]
pub(crate) struct Layout(BTreeMap<String, abi::Layout>);

/// A field of the elements of an array map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Field {
    /// Its offset in the element, in bytes.
    offset: usize,
    /// Its bytes.
    size: usize,
}

impl Field {
    /// The `n`th number of a field, of so many bytes, in an element.
    pub(crate) fn place(self, n: usize, bytes: usize) -> Option<(usize, u32)> {
        let offset = self.offset + n * bytes;
        let fits = (n + 1) * bytes <= self.size && offset.is_multiple_of(bytes);
        fits.then_some((offset / 8, 8 * (offset % 8) as u32))
    }

    /// A field of what this field holds.
    pub(crate) fn inner(self, inner: Self) -> Self {
        Self { offset: self.offset + inner.offset, size: inner.size }
    }

    /// Its bytes.
    pub(crate) fn size(self) -> usize {
        self.size
    }
}

impl Layout {
    /// Writes this version's.
    pub(super) fn write(pins: &Pins) -> Result<(), LoadError> {
        let mut map: Map = typed(pins, maps::LAYOUT)?;
        let failed = |e: MapError| LoadError::kernel("writing the tables' layout", &e);
        for (name, entry) in layout::entries() {
            let mut key = [0; size_of::<abi::LayoutKey>()];
            // Names fit, with a zero behind them: a test of the dataplane's says so.
            key[..name.len()].copy_from_slice(name.as_bytes());
            map.insert(PodLayoutKey(abi::LayoutKey(key)), PodLayout(entry), 0).map_err(failed)?;
        }
        Ok(())
    }

    /// This version's.
    pub(super) fn own() -> Self {
        Self(layout::entries().into_iter().collect())
    }

    /// Reads that of pinned tables; `None` if they have none.
    pub(super) fn read(pins: &Pins) -> Result<Option<Self>, LoadError> {
        if !pins.map(maps::LAYOUT).exists() {
            return Ok(None);
        }
        let map: Map = typed(pins, maps::LAYOUT)?;
        let mut all = BTreeMap::new();
        for entry in map.iter() {
            let (key, entry) =
                entry.map_err(|e| LoadError::kernel("reading the tables' layout", &e))?;
            let name = CStr::from_bytes_until_nul(&key.0.0).map(CStr::to_string_lossy);
            all.insert(name.unwrap_or_default().into_owned(), entry.0);
        }
        Ok(Some(Self(all)))
    }

    /// A number.
    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.0.get(name).filter(|entry| entry.size == 0).map(|entry| entry.value)
    }

    /// A field of a map, if it has such a one.
    pub(crate) fn field(&self, map: &str, name: &str) -> Option<Field> {
        let entry = self.0.get(&format!("{map}.{name}")).filter(|entry| entry.size != 0)?;
        Some(Field { offset: entry.value as usize, size: entry.size as usize })
    }

    /// Reasons by their numbers.
    pub(crate) fn reason(&self, name: &str) -> Option<u32> {
        self.number(&layout::reason_name(name)).and_then(|number| u32::try_from(number).ok())
    }
}
