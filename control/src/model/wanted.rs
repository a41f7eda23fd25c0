//! The contents of the tables as ordinary maps.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use dataplane::abi::{
    self, Address, AddressKey, Directory, Endpoint, Meter, NameKey, RingWord, RouteKey, Settings,
    Tenant,
};

use super::{HopKey, NextHop};
use crate::config::{Family, Rate};

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
    /// [`abi::maps::PACES`] by [`abi::share_index`] and [`abi::pace_index`].
    pub paces: BTreeMap<u32, MeterLimits>,
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
    /// Sessions that it can have whatever others have.
    pub guaranteed: u64,
    /// Handshakes that its clients begin.
    pub handshakes: MeterLimits,
    /// Sessions that open.
    pub new_sessions: MeterLimits,
    /// Packets from its clients.
    pub packets_in: MeterLimits,
    /// Their bytes.
    pub bytes_in: MeterLimits,
    /// Packets to its clients.
    pub packets_out: MeterLimits,
    /// Their bytes.
    pub bytes_out: MeterLimits,
}

/// What a [`Meter`] lets through; the default is all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MeterLimits {
    /// See [`Meter::cost`].
    pub cost: u64,
    /// See [`Meter::burst`].
    pub burst: u64,
}

impl MeterLimits {
    /// So many units a second, and so many at once; a unit may be divided, as bytes are in bits.
    pub fn new(rate: Rate, parts: u64) -> Self {
        let second = u128::from(parts) * 1_000_000_000;
        let cost = ((second << 16) / u128::from(rate.rate.max(1))).max(1);
        // The first one comes at once, however much it is.
        let ahead = u128::from(rate.burst.saturating_sub(parts)) * second
            / u128::from(parts * rate.rate.max(1));
        let most = |number: u128| u64::try_from(number).unwrap_or(u64::MAX);
        Self { cost: most(cost), burst: most(ahead << 8) }
    }

    /// What a meter of the tables has.
    pub fn read(meter: &Meter) -> Self {
        Self { cost: meter.cost.get(), burst: meter.burst.get() }
    }

    /// Writes them to a meter, which goes on from where it is.
    pub fn write(&self, meter: &Meter) {
        meter.burst.set(self.burst);
        meter.cost.set(self.cost);
    }
}

impl TenantLimits {
    /// Of a tenant of the tables.
    pub fn read(tenant: &Tenant) -> Self {
        Self {
            max_sessions: tenant.max_sessions.get(),
            max_tentative: tenant.max_tentative.get(),
            guaranteed: tenant.guaranteed.get(),
            handshakes: MeterLimits::read(&tenant.handshakes),
            new_sessions: MeterLimits::read(&tenant.new_sessions),
            packets_in: MeterLimits::read(&tenant.packets_in),
            bytes_in: MeterLimits::read(&tenant.bytes_in),
            packets_out: MeterLimits::read(&tenant.packets_out),
            bytes_out: MeterLimits::read(&tenant.bytes_out),
        }
    }

    /// Writes them to a tenant of the tables. What it has borrowed changes with what it is guaranteed.
    pub fn write(&self, settings: &Settings, tenant: &Tenant) {
        tenant.max_sessions.set(self.max_sessions);
        tenant.max_tentative.set(self.max_tentative);
        let borrowed = |guaranteed| tenant.sessions.load().saturating_sub(guaranteed);
        let before = borrowed(tenant.guaranteed.get());
        tenant.guaranteed.set(self.guaranteed);
        settings.borrowed.add(borrowed(self.guaranteed).wrapping_sub(before));
        self.handshakes.write(&tenant.handshakes);
        self.new_sessions.write(&tenant.new_sessions);
        self.packets_in.write(&tenant.packets_in);
        self.bytes_in.write(&tenant.bytes_in);
        self.packets_out.write(&tenant.packets_out);
        self.bytes_out.write(&tenant.bytes_out);
    }
}

/// The live fields of [`abi::Settings`], but for the route generation, which
/// has a step of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Live {
    /// See [`abi::Settings::budget_cost`].
    pub budget_cost: u32,
    /// See [`abi::Settings::budget_burst`].
    pub budget_burst: u32,
    /// Sessions that may be open, all tenants together.
    pub max_sessions: u64,
    /// Of these, how many tenants are guaranteed.
    pub guaranteed: u64,
    /// Tentative sessions beside them.
    pub tentative: u64,
}

impl Live {
    /// What the settings say.
    pub fn read(settings: &Settings) -> Self {
        let max_sessions = settings.max_sessions.get();
        Self {
            budget_cost: settings.budget_cost.get(),
            budget_burst: settings.budget_burst.get(),
            max_sessions,
            // What nobody has written is not to look like what somebody has.
            guaranteed: max_sessions.checked_sub(settings.max_borrowed.get()).unwrap_or(u64::MAX),
            tentative: settings.max_used.get().checked_sub(max_sessions).unwrap_or(u64::MAX),
        }
    }

    /// What settings will say of tables with room for so many sessions.
    #[must_use]
    pub fn within(mut self, room: u64) -> Self {
        self.max_sessions = self.max_sessions.min(room);
        self.guaranteed = self.guaranteed.min(self.max_sessions);
        self
    }

    /// Writes it to the settings.
    pub fn write(&self, settings: &Settings) {
        settings.budget_cost.set(self.budget_cost);
        settings.budget_burst.set(self.budget_burst);
        settings.max_sessions.set(self.max_sessions);
        settings.max_borrowed.set(self.max_sessions - self.guaranteed);
        settings.max_used.set(self.max_sessions.saturating_add(self.tentative));
    }
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
