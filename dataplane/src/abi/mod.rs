//! The layout of every map the kernel program and the daemon share.
//!
//! All types are `repr(C)`, have no padding, and are valid for every bit
//! pattern. Integers are in host byte order unless a field says *network
//! order*. A change of any layout, map type or meaning raises [`ABI_VERSION`],
//! which is part of the pin path.
//!
//! Here are the maps' names and sizes; in the modules what is in them.

/// Version of this layout; programs and maps are pinned under `v<ABI_VERSION>/`.
pub const ABI_VERSION: u32 = 12 + if cfg!(feature = "other-abi") { 1000 } else { 0 };

/// An element of a table. In another version, which tests have to move sessions to and from, its fields are in the
/// reverse order.
macro_rules! element {
    ($(#[$meta:meta])* pub struct $name:ident { $($fields:tt)* }) => {
        #[cfg(not(feature = "other-abi"))]
        $(#[$meta])*
        pub struct $name { $($fields)* }
        #[cfg(feature = "other-abi")]
        element! { @ [$(#[$meta])*] $name [] $($fields)* }
    };
    (@ $meta:tt $name:ident [$($done:tt)*] $(#[$doc:meta])* pub $field:ident: $type:ty, $($rest:tt)*) => {
        element! { @ $meta $name [$(#[$doc])* pub $field: $type, $($done)*] $($rest)* }
    };
    (@ [$($meta:tt)*] $name:ident [$($done:tt)*]) => {
        $($meta)*
        pub struct $name { $($done)* }
    };
}

mod address;
mod directory;
mod endpoint;
mod names;
mod route;
mod service;
mod session;
mod settings;
mod tenant;

pub use address::*;
pub use directory::*;
pub use endpoint::*;
pub use names::*;
pub use route::*;
pub use service::*;
pub use session::*;
pub use settings::*;
pub use tenant::*;

/// Names of the maps, which are also their pin names.
pub mod maps {
    /// [`super::Settings`], one element. Array, mmapable.
    pub const SETTINGS: &str = "SETTINGS";
    /// [`super::DirectoryEntry`], two tables of [`super::MAX_DIRECTORY`]; see `table::directory`. Array, mmapable.
    pub const DIRECTORY: &str = "DIRECTORY";
    /// [`super::Endpoint`] by endpoint index. Array, mmapable.
    pub const ENDPOINTS: &str = "ENDPOINTS";
    /// [`super::Address`]es that tunnels come from, by [`super::source_index`]. Array, mmapable.
    pub const SOURCES: &str = "SOURCES";
    /// [`super::Tenant`] by tenant index. Array, mmapable.
    pub const TENANTS: &str = "TENANTS";
    /// [`super::Meter`]s of handshakes, by [`super::share_index`] and [`super::pace_index`]. Array, mmapable.
    pub const PACES: &str = "PACES";
    /// Maglev rings, [`super::RingWord`]. Array, mmapable.
    pub const RINGS: &str = "RINGS";
    /// [`super::NextHop`] by next hop index. Array, mmapable.
    pub const NEXTHOPS: &str = "NEXTHOPS";
    /// [`super::RouteKey`] to a next hop index (`u32`). LPM trie.
    pub const ROUTES: &str = "ROUTES";
    /// Interface index to interface index. Devmap hash.
    pub const DEVICES: &str = "DEVICES";
    /// [`super::Slot`], the session table: primary slots, then the overflow. Array, mmapable.
    pub const SLOTS: &str = "SLOTS";
    /// [`super::Detail`], one for each slot. Array, mmapable.
    pub const DETAILS: &str = "DETAILS";
    /// [`super::Bucket`], the session-id index. Array, mmapable.
    pub const IDS: &str = "IDS";
    /// [`super::Bucket`], the affinity hints. Array, mmapable.
    pub const HINTS: &str = "HINTS";
    /// Budgets of unestablished packets per source prefix, one [`Word`](crate::cell::Word) each. Array, mmapable.
    pub const BUDGETS: &str = "BUDGETS";
    /// [`super::Bucket`], where fragments go; see `table::fragments`. Array, mmapable.
    pub const FRAGMENTS: &str = "FRAGMENTS";
    /// Packets by [`Reason`](crate::reason::Reason). Per-CPU array of `u64`.
    pub const COUNTERS: &str = "COUNTERS";
    /// Names of what an index means: [`super::NameKey`] to [`super::Name`]. Hash;
    /// the kernel program does not read it, an adopting daemon does.
    pub const NAMES: &str = "NAMES";
    /// What lies where in the other maps, told by name: [`super::LayoutKey`] to [`super::Layout`]. Hash; neither its form nor
    /// what a name means ever changes, so that a daemon of any version can read it. The kernel program does not.
    pub const LAYOUT: &str = "LAYOUT";
    /// The programs of the pipeline's stages, by their numbers; those of one load of the object, not adopted. Program array.
    pub const STAGES: &str = "STAGES";
}

/// Most listeners (address, port, protocol) of all services together.
pub const MAX_LISTENERS: u32 = 512;
/// Most backends in one pool; the stride of a listener's block of endpoints.
pub const POOL_STRIDE: u32 = 128;
/// Endpoint index = listener index * [`POOL_STRIDE`] + the backend's ordinal in its pool.
pub const MAX_ENDPOINTS: u32 = MAX_LISTENERS * POOL_STRIDE;
/// Most entries of one of the two tables in the directory's map, a power of two.
pub const MAX_DIRECTORY: u32 = 1 << 17;
/// Most tenants.
pub const MAX_TENANTS: u32 = 1024;
/// Most services.
pub const MAX_SERVICES: u32 = 512;
/// Most next hops.
pub const MAX_NEXTHOPS: u32 = 4096;
/// Most mirrored routes.
pub const MAX_ROUTES: u32 = 1 << 20;
/// Positions of a Maglev ring: a prime.
pub const RING_SIZE: u32 = 8191;
/// [`RingWord`]s of one ring.
pub const RING_WORDS: u32 = (RING_SIZE + 1) / 8;
/// Rings in the table. A pool has one ring a family, and each of those two
/// buffers (one in use, one to build the next in).
pub const MAX_RINGS: u32 = 1024;
/// Elements of [`maps::SOURCES`].
pub const MAX_SOURCES: u32 = MAX_RINGS / 2;
/// Elements of [`maps::PACES`].
pub const MAX_PACES: u32 = 2 * MAX_SERVICES * POOL_STRIDE;
/// `Directory::ring` of a listener that has no usable backend.
pub const NO_RING: u16 = u16::MAX;
/// `Endpoint::nexthop`: not known.
pub const NO_NEXTHOP: u32 = u32::MAX;
/// Budget entries ([`maps::BUDGETS`]).
pub const BUDGET_SLOTS: u32 = 1 << 16;
/// Buckets of [`maps::FRAGMENTS`]: 32,768 packets in fragments at once.
pub const FRAGMENT_BUCKETS: u32 = 1 << 12;

// The model checker's atomics are larger.
#[cfg(not(feature = "shuttle"))]
const _: () = {
    assert!(size_of::<Slot>() == 64);
    assert!(size_of::<Detail>() == 64);
    assert!(MAX_ENDPOINTS <= 1 << 16 && MAX_NEXTHOPS <= 1 << 16);
    assert!(MAX_LISTENERS < 1 << directory::LISTENER_SERVER_ID);
    assert!(MAX_SERVICES <= SERVICE_TCP as u32);
    assert!(size_of::<Endpoint>() == 64);
    assert!(size_of::<Tenant>() == 320);
    assert!(size_of::<Meter>() == 32);
    assert!(size_of::<NextHop>() == 32);
    assert!(size_of::<Directory>() == 16);
    assert!(size_of::<DirectoryEntry>() == 32);
    assert!(size_of::<Settings>() == 192);
    assert!(size_of::<AddressKey>() == 20);
    assert!(size_of::<Bucket>() == 64);
    assert!(size_of::<RouteKey>() == 20);
};
