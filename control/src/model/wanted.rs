//! The contents of the tables as ordinary maps.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use dataplane::abi::{self, Address, AddressKey, Directory, Endpoint, NameKey, RingWord, RouteKey};

use super::{HopKey, NextHop};
use crate::config::Family;

/// What all tables hold, or should hold. Sessions and counters are not in it:
/// those belong to the kernel program.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wanted {
    /// [`abi::maps::NAMES`]: live names, and retired ones ([`abi::NAME_RETIRED`]).
    pub names: BTreeMap<NameKey, String>,
    /// [`abi::maps::TENANTS`] by tenant index; a retired tenant's limits are zero.
    pub tenants: BTreeMap<u32, TenantLimits>,
    /// [`abi::maps::DEVICES`]: interfaces that frames may be sent on.
    pub devices: BTreeSet<u32>,
    /// [`abi::maps::NEXTHOPS`] by next hop index.
    pub nexthops: BTreeMap<u32, KnownHop>,
    /// [`abi::maps::ROUTES`]: prefix to next hop index.
    pub routes: BTreeMap<RouteKey, u32>,
    /// [`abi::maps::ENDPOINTS`] by endpoint index; a retired endpoint has no flags.
    pub endpoints: BTreeMap<u32, Endpoint>,
    /// [`abi::maps::SOURCES`] by [`abi::source_index`].
    pub sources: BTreeMap<u16, Address>,
    /// [`abi::maps::RINGS`] by ring number: those that the directory refers to.
    pub rings: BTreeMap<u16, Ring>,
    /// [`abi::maps::DIRECTORY`].
    pub directory: BTreeMap<AddressKey, Directory>,
    /// The live fields of [`abi::Settings`].
    pub live: Live,
}

/// A next hop and who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownHop {
    /// Who it is, so that it keeps its index while it changes. The table does not
    /// hold this; for one that was read from it, it is not known.
    pub key: Option<HopKey>,
    /// What the table holds.
    pub hop: NextHop,
}

/// The limits of one tenant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TenantLimits {
    /// Most sessions open at once.
    pub max_sessions: u64,
    /// Most tentative sessions at once.
    pub max_tentative: u64,
}

/// The live fields of [`abi::Settings`], but for the route generation, which
/// has a step of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Live {
    /// See [`abi::Settings::budget_cost`].
    pub budget_cost: u32,
    /// See [`abi::Settings::budget_burst`].
    pub budget_burst: u32,
    /// See [`abi::Settings::max_sessions`].
    pub max_sessions: u64,
}

/// Bytes of a ring in its table: the last one is padding.
pub(super) const RING_BYTES: usize = (abi::RING_WORDS * 8) as usize;

/// A Maglev ring: the ordinal of a backend for each position. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Ring(Arc<[u8; RING_BYTES]>);

impl Ring {
    /// A ring from its bytes, one for each position and one of padding.
    pub fn new(bytes: [u8; RING_BYTES]) -> Self {
        Self(Arc::new(bytes))
    }

    /// A ring as read from its table.
    pub fn from_words(words: &[RingWord; abi::RING_WORDS as usize]) -> Self {
        let mut bytes = [0; RING_BYTES];
        bytes.copy_from_slice(words.as_flattened());
        Self::new(bytes)
    }

    /// The ordinals, by position.
    pub fn ordinals(&self) -> &[u8] {
        &self.0[..abi::RING_SIZE as usize]
    }

    /// The ring as its table holds it.
    pub fn words(&self) -> &[RingWord] {
        self.0.as_chunks().0
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shares = BTreeMap::new();
        for ordinal in self.ordinals() {
            *shares.entry(ordinal).or_insert(0u32) += 1;
        }
        write!(f, "Ring{shares:?}")
    }
}

/// The number of a pool's ring for a family in one of its two buffers.
pub fn ring_number(pool: u32, family: Family, buffer: u16) -> u16 {
    let family = match family {
        Family::V4 => 0,
        Family::V6 => 1,
    };
    (4 * pool) as u16 + 2 * family + buffer
}
