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
    /// One that an entry tells of, if it can be read: a number that lies in one word, or whole words.
    fn of(entry: &abi::Layout) -> Option<Self> {
        // No element is that large; and sums of offsets stay numbers.
        let (offset, size) = (u32::try_from(entry.value).ok()? as usize, entry.size as usize);
        let is_number = matches!(size, 1 | 2 | 4 | 8);
        let is_readable = is_number || size != 0 && size.is_multiple_of(8);
        (is_readable && offset.is_multiple_of(size.min(8))).then_some(Self { offset, size })
    }

    /// The `n`th number of a field, of so many bytes, by the words of its element; 0 if there is none.
    pub(crate) fn read(
        self,
        n: usize,
        bytes: usize,
        word: impl FnOnce(usize) -> Option<u64>,
    ) -> u64 {
        let offset = self.offset + n * bytes;
        let is_number = matches!(bytes, 1 | 2 | 4 | 8);
        if !is_number || (n + 1) * bytes > self.size || !offset.is_multiple_of(bytes) {
            return 0;
        }
        let mask = u64::MAX >> (64 - 8 * bytes);
        word(offset / 8).map_or(0, |word| word >> (8 * (offset % 8)) & mask)
    }

    /// A field of what this field holds.
    pub(crate) fn inner(self, inner: Self) -> Option<Self> {
        let fits = inner.offset + inner.size <= self.size;
        fits.then_some(Self { offset: self.offset + inner.offset, size: inner.size })
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
        let entries = map.iter().map(|entry| {
            let (key, entry) =
                entry.map_err(|e| LoadError::kernel("reading the tables' layout", &e))?;
            Ok((key.0, entry.0))
        });
        Ok(Some(Self::of(&entries.collect::<Result<Vec<_>, LoadError>>()?)))
    }

    /// What the entries of the map say.
    pub(super) fn of(entries: &[(abi::LayoutKey, abi::Layout)]) -> Self {
        let named = entries.iter().map(|(key, entry)| {
            let name = CStr::from_bytes_until_nul(&key.0).map(CStr::to_string_lossy);
            (name.unwrap_or_default().into_owned(), *entry)
        });
        Self(named.collect())
    }

    /// A number.
    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.0.get(name).filter(|entry| entry.size == 0).map(|entry| entry.value)
    }

    /// A field of a map, if it has such a one, and it can be read.
    pub(crate) fn field(&self, map: &str, name: &str) -> Option<Field> {
        Field::of(self.0.get(&format!("{map}.{name}"))?)
    }

    /// Reasons by their numbers.
    pub(crate) fn reason(&self, name: &str) -> Option<u32> {
        self.number(&layout::reason_name(name)).and_then(|number| u32::try_from(number).ok())
    }
}
