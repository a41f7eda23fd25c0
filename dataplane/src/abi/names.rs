//! What indexes mean, and what lies where.

/// Key of [`maps::NAMES`](super::maps::NAMES).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NameKey {
    /// What the index counts: [`NAME_TENANT`] and so on.
    pub kind: u32,
    /// The index. A backend's: pool index * [`POOL_STRIDE`](super::POOL_STRIDE) + ordinal.
    pub index: u32,
}

/// [`NameKey::kind`]: tenants.
pub const NAME_TENANT: u32 = 1;
/// [`NameKey::kind`]: services.
pub const NAME_SERVICE: u32 = 2;
/// [`NameKey::kind`]: pools. A pool's rings are 4 * pool index + 2 * (0 IPv4, 1 IPv6) + buffer.
pub const NAME_POOL: u32 = 3;
/// [`NameKey::kind`]: backends.
pub const NAME_BACKEND: u32 = 4;
/// [`NameKey::kind`]: listeners, as `address:port/protocol`.
pub const NAME_LISTENER: u32 = 5;
/// [`NameKey::kind`]: the name of the pool that a listener places on, by listener index.
pub const NAME_LISTENER_POOL: u32 = 6;
/// Set in [`NameKey::kind`]: the name is no longer configured, but sessions may
/// still refer to its index, which is not given to another until they are gone.
pub const NAME_RETIRED: u32 = 1 << 31;
/// Longest name, in bytes.
pub const MAX_NAME: usize = 63;

/// Value of [`maps::NAMES`](super::maps::NAMES): UTF-8, zero-terminated.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name(pub [u8; 64]);

/// Key of [`maps::LAYOUT`](super::maps::LAYOUT): UTF-8, zero-terminated; see [`layout`](crate::layout).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayoutKey(pub [u8; 64]);

/// Value of [`maps::LAYOUT`](super::maps::LAYOUT): a field's place, or a number.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The field's offset in its element, in bytes; or the number.
    pub value: u64,
    /// The field's bytes; 0 for a number.
    pub size: u32,
    /// The element's bytes; 0 for a number.
    pub stride: u32,
}

/// Most entries of [`maps::LAYOUT`](super::maps::LAYOUT).
pub const MAX_LAYOUT: u32 = 1024;
