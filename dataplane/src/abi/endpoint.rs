//! A listener on a backend.

use super::Address;

/// `Endpoint::flags`: the endpoint exists and its sessions may be forwarded. A
/// backend that was declared dead lacks it, which stops hints and ids leading to it.
pub const ENDPOINT_LIVE: u8 = 1;
/// `Endpoint::flags`: new sessions may be placed here by an affinity hint
/// (not draining, not full).
pub const ENDPOINT_ACCEPTS: u8 = 2;
/// `Endpoint::flags`: its packets are not translated, and its answers do not come through the gateway.
pub const ENDPOINT_DIRECT: u8 = 4;
/// Flag in [`Endpoint::flags`]: its backend's drain is over. What it sends to clients without a session on it is dropped, so that they look for
/// another one.
pub const ENDPOINT_RELEASED: u8 = 8;
/// Flag in [`Endpoint::flags`]: its tenant's packets from clients are metered.
pub const ENDPOINT_METERED_IN: u8 = 16;
/// Flag in [`Endpoint::flags`]: its tenant's packets to clients are metered.
pub const ENDPOINT_METERED_OUT: u8 = 32;
/// Flag in [`Endpoint::flags`]: handshakes to its backend are paced.
pub const ENDPOINT_PACED: u8 = 64;

/// One listener on one backend: all that is needed to rewrite a packet in both
/// directions. Element of [`maps::ENDPOINTS`](super::maps::ENDPOINTS).
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Endpoint {
    /// The backend's address.
    pub backend: Address,
    /// The listener's address.
    pub vip: Address,
    /// The backend's port, network order. Of [`Encapsulation::Gue`](super::Encapsulation::Gue) the port that tunnels end at.
    pub backend_port: u16,
    /// The listener's port, network order.
    pub vip_port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// A [`Profile`](super::Profile) as its number.
    pub profile: u8,
    /// [`ENDPOINT_LIVE`] and the other flags.
    pub flags: u8,
    /// An [`Encapsulation`](super::Encapsulation) as its number.
    pub encapsulation: u8,
    /// Service index.
    pub service: u16,
    /// Tenant index.
    pub tenant: u16,
    /// Next hop towards the backend, or [`NO_NEXTHOP`](super::NO_NEXTHOP).
    pub nexthop: u32,
    /// One's complement sum (RFC 1624) of the address change vip to backend;
    /// outbound is its complement. See `checksum::endpoint_delta`.
    pub address_delta: u16,
    /// The same with the port change.
    pub transport_delta: u16,
    /// TCP's largest segment, in bytes: no end of a connection is told of a larger one. 0: they are told what the other says.
    pub mss: u16,
    /// The pool's [`source_index`]; of a tunnel that of the address that it comes from.
    pub source: u16,
    /// With [`LISTENER_BLIND`](super::LISTENER_BLIND): how long the backend keeps a client that sends nothing, in [`age`](crate::table::hints::Hint::age)'s units.
    pub idle: u16,
    /// With [`ENDPOINT_PACED`]: the tenant's [`share_index`](super::share_index) of a backend's handshakes is counted by this service's index.
    pub share: u16,
}

/// Where [`maps::SOURCES`](super::maps::SOURCES) has the address that a pool's tunnels come from, of the one family or the other.
pub const fn source_index(pool: u32, v6: bool) -> u16 {
    (2 * pool) as u16 + v6 as u16
}
