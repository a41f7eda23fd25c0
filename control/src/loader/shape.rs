//! What each map must look like. A map of another shape under the same name was made
//! by something else: adopting it would read garbage as sessions.

use std::fmt;

use aya::maps::{MapInfo, MapType};
use dataplane::abi::{self, maps};
use dataplane::reason;
use dataplane::table::ids::ENTRIES;

/// Sizes of the tables that depend on the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Primary slots, a power of two.
    pub slots: u32,
    /// Overflow slots, a power of two.
    pub overflow: u32,
    /// Buckets of the id index.
    pub ids: u32,
    /// Buckets of the hints.
    pub hints: u32,
}

impl Sizes {
    /// Sizes for a number of sessions: the table is at most half full, so that nearly
    /// every session lies in its first slots; six entries of the id index for each session, which
    /// has four ids, and for moments six; room for one and a half hints for each.
    pub fn for_sessions(max_sessions: u64) -> Self {
        let pow2 =
            |n: u64, least: u32| u32::try_from(n.next_power_of_two()).unwrap_or(1 << 31).max(least);
        let buckets = |entries: u64, least: u32| {
            u32::try_from(entries.div_ceil(ENTRIES)).unwrap_or(1 << 30).max(least)
        };
        let slots = pow2(2 * max_sessions, 1024);
        Self {
            slots,
            overflow: (slots / 64).max(64),
            ids: buckets(6 * max_sessions, 512),
            hints: buckets(max_sessions * 3 / 2, 128),
        }
    }

    /// Sessions that fit well: half of the primary slots, and six entries of the id index for each.
    pub fn sessions(&self) -> u64 {
        u64::from(self.slots / 2).min(u64::from(self.ids) * ENTRIES / 6)
    }

    /// Those that hold at least what others hold, whichever is larger of each.
    #[must_use]
    pub fn at_least(self, other: Self) -> Self {
        Self {
            slots: self.slots.max(other.slots),
            overflow: self.overflow.max(other.overflow),
            ids: self.ids.max(other.ids),
            hints: self.hints.max(other.hints),
        }
    }

    /// Bytes of all maps that grow with the number of sessions.
    pub fn bytes(&self) -> u64 {
        u64::from(self.slots + self.overflow)
            * (size_of::<abi::Slot>() + size_of::<abi::Detail>()) as u64
            + u64::from(self.ids + self.hints) * size_of::<abi::Bucket>() as u64
    }

    /// The maps whose sizes these are.
    pub(super) fn entries(&self) -> [(&'static str, u32); 4] {
        [
            (maps::SLOTS, self.slots + self.overflow),
            (maps::DETAILS, self.slots + self.overflow),
            (maps::IDS, self.ids),
            (maps::HINTS, self.hints),
        ]
    }
}

/// `BPF_F_NO_PREALLOC` (linux/bpf.h).
const NO_PREALLOC: u32 = 1;
/// `BPF_F_RDONLY_PROG` (linux/bpf.h), which the kernel sets on a devmap by itself.
const RDONLY_PROG: u32 = 1 << 7;
/// `BPF_F_MMAPABLE` (linux/bpf.h).
const MMAPABLE: u32 = 1 << 10;

/// The shape of a map.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    /// Its type.
    pub kind: MapType,
    /// Bytes of a key.
    pub key: u32,
    /// Bytes of a value.
    pub value: u32,
    /// Most entries; `None`: depends on the configuration.
    pub entries: Option<u32>,
    /// Flags, as in linux/bpf.h.
    pub flags: u32,
}

impl Shape {
    /// The shape of an existing map.
    pub(super) fn of(info: &MapInfo) -> Self {
        Self {
            kind: info.map_type().unwrap_or(MapType::Unspecified),
            key: info.key_size(),
            value: info.value_size(),
            entries: Some(info.max_entries()),
            flags: info.map_flags() & !RDONLY_PROG,
        }
    }

    /// Whether a map of shape `found` can be used as one of this shape.
    pub fn admits(&self, found: &Self) -> bool {
        *found == Self { entries: self.entries.or(found.entries), ..*self }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = format!("{:?}", self.kind).to_lowercase();
        write!(f, "{kind} of {}+{} bytes", self.key, self.value)?;
        if let Some(entries) = self.entries {
            write!(f, ", {entries} entries")?;
        }
        write!(f, ", flags {:#x}", self.flags)
    }
}

const fn array<T>(entries: Option<u32>) -> Shape {
    Shape { kind: MapType::Array, key: 4, value: size_of::<T>() as u32, entries, flags: MMAPABLE }
}

const fn hash<K, V>(entries: u32) -> Shape {
    Shape {
        kind: MapType::Hash,
        key: size_of::<K>() as u32,
        value: size_of::<V>() as u32,
        entries: Some(entries),
        flags: NO_PREALLOC,
    }
}

/// All maps and their shapes.
pub const SHAPES: [(&str, Shape); 19] = [
    (maps::SETTINGS, array::<abi::Settings>(Some(1))),
    (maps::DIRECTORY, array::<abi::DirectoryEntry>(Some(2 * abi::MAX_DIRECTORY))),
    (maps::ENDPOINTS, array::<abi::Endpoint>(Some(abi::MAX_ENDPOINTS))),
    (maps::SOURCES, array::<abi::Address>(Some(abi::MAX_SOURCES))),
    (maps::TENANTS, array::<abi::Tenant>(Some(abi::MAX_TENANTS))),
    (maps::PACES, array::<abi::Meter>(Some(abi::MAX_PACES))),
    (maps::RINGS, array::<abi::RingWord>(Some(abi::MAX_RINGS * abi::RING_WORDS))),
    (maps::NEXTHOPS, array::<abi::NextHop>(Some(abi::MAX_NEXTHOPS))),
    (
        maps::ROUTES,
        Shape {
            kind: MapType::LpmTrie,
            key: size_of::<abi::RouteKey>() as u32,
            value: 4,
            entries: Some(abi::MAX_ROUTES),
            flags: NO_PREALLOC,
        },
    ),
    (
        maps::DEVICES,
        Shape { kind: MapType::DevMapHash, key: 4, value: 8, entries: Some(256), flags: 0 },
    ),
    (maps::SLOTS, array::<abi::Slot>(None)),
    (maps::DETAILS, array::<abi::Detail>(None)),
    (maps::IDS, array::<abi::Bucket>(None)),
    (maps::HINTS, array::<abi::Bucket>(None)),
    (maps::FRAGMENTS, array::<abi::Bucket>(Some(abi::FRAGMENT_BUCKETS))),
    (maps::BUDGETS, array::<u64>(Some(abi::BUDGET_SLOTS))),
    (
        maps::COUNTERS,
        Shape {
            kind: MapType::PerCpuArray,
            key: 4,
            value: 8,
            entries: Some(reason::COUNT),
            flags: 0,
        },
    ),
    (maps::NAMES, hash::<abi::NameKey, abi::Name>(abi::MAX_ENDPOINTS + 4096)),
    (maps::LAYOUT, hash::<abi::LayoutKey, abi::Layout>(abi::MAX_LAYOUT)),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_keep_the_table_half_full_and_within_the_memory_budget() {
        for sessions in [60_000, 70_000, 131_072, 1_000_000] {
            let sizes = Sizes::for_sessions(sessions);
            assert!(u64::from(sizes.slots) >= 2 * sessions);
            assert!(sizes.sessions() >= sessions);
            // Slots are rounded up to a power of two, ids are not: what has ids counts.
            assert!(u64::from(sizes.ids) * ENTRIES >= 6 * sizes.sessions());
            assert!(sizes.slots.is_power_of_two() && sizes.overflow.is_power_of_two());
        }
        let million = Sizes::for_sessions(1 << 20);
        assert!(million.bytes() / (1 << 20) <= 320, "{}", million.bytes() / (1 << 20));
        // The worst there is (docs/configuration.md).
        let above = Sizes::for_sessions((1 << 20) + 1).bytes() / (1 << 20);
        assert!((570..=580).contains(&above), "{above}");
        assert_eq!(
            Sizes::for_sessions(1),
            Sizes { slots: 1024, overflow: 64, ids: 512, hints: 128 }
        );
    }

    #[test]
    fn a_shape_tells_what_it_is() {
        let (_, slots) = SHAPES[10];
        assert_eq!(slots.to_string(), "array of 4+64 bytes, flags 0x400");
        assert!(slots.admits(&Shape { entries: Some(17), ..slots }));
        assert!(!slots.admits(&Shape { value: 128, entries: Some(17), ..slots }));
    }
}
