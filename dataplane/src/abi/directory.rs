//! Whose an address is: listeners, backends, tunnels, the host itself.

use super::{Address, POOL_STRIDE};
use crate::cell::{Cell, Word};

/// Key in the directory: whose address and port this is.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AddressKey {
    /// The VIP, or a backend's address.
    pub address: Address,
    /// Port, network order.
    pub port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// Zero.
    pub zero: u8,
}

impl AddressKey {
    /// The key of a server that is named in connection ids, by its service's index and [`quic_lb::name`](crate::profile::quic_lb::name):
    /// of a protocol that is none (255 is reserved), so that it is no address'.
    #[inline(always)]
    pub const fn of_server(service: u16, name: u32) -> Self {
        Self { address: Address([0, 0, 0, name]), port: service, protocol: u8::MAX, zero: 0 }
    }

    /// The key of an address of the host's own.
    #[inline(always)]
    pub const fn of_host(address: Address) -> Self {
        Self { address, port: 0, protocol: 0, zero: 0 }
    }
}

/// `Directory::kind` of a service's listener.
pub const KIND_LISTENER: u8 = 1;
/// `Directory::kind` of a backend's endpoint.
pub const KIND_ENDPOINT: u8 = 2;
/// `Directory::kind` of an entry with port 0: some listener has this address and
/// protocol. Packets that have no ports to ask for are known by it. The rest is a listener's if all are of one service, any of them; else
/// it says [`LISTENER_BY_FLOW`] and [`NO_RING`](super::NO_RING), because without a port nothing can be placed.
pub const KIND_VIP: u8 = 3;
/// `Directory::kind` of an entry with port 0: some endpoint has this address and protocol. The index is that of any, if
/// all are of one service and one of its addresses, else `u32::MAX`.
pub const KIND_BACKEND: u8 = 4;

/// `Directory::kind` of what backends are reached by in a tunnel: their address, and the outer protocol with port 0, of
/// [`Encapsulation::Gue`](super::Encapsulation::Gue) with the port. The index is that of any such endpoint.
pub const KIND_TUNNEL: u8 = 5;
/// `Directory::kind` of where an agent reports from: a backend's address, [`REPORT_PORT`], UDP. The index is the pool's times [`POOL_STRIDE`] and
/// the backend's ordinal.
pub const KIND_AGENT: u8 = 6;
/// `Directory::kind` of a server that is named in connection ids: of [`AddressKey::of_server`]. The index is the backend's ordinal in
/// its pool.
pub const KIND_SERVER: u8 = 7;
/// `Directory::kind` of an address of the host's own, of [`AddressKey::of_host`]: what backends answer there is no client's.
pub const KIND_HOST: u8 = 8;
/// The port that agents report from, and to.
pub const REPORT_PORT: u16 = 6079;

/// Value in the directory. All but the index is one word of its entry, so swapping
/// `ring` swaps the placement of a listener atomically.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Directory {
    /// [`KIND_LISTENER`] or [`KIND_ENDPOINT`].
    pub kind: u8,
    /// A [`Profile`](super::Profile) as its number.
    pub profile: u8,
    /// Service index, with [`SERVICE_TCP`](super::SERVICE_TCP).
    pub service: u16,
    /// Tenant index.
    pub tenant: u16,
    /// Listener: its ring's number, or [`NO_RING`](super::NO_RING). Endpoint: zero.
    pub ring: u16,
    /// Listener: the listener index, perhaps with [`LISTENER_BY_FLOW`], [`LISTENER_DIRECT`], [`LISTENER_BLIND`] and
    /// [`listener_server_id`]. Endpoint: the endpoint index.
    pub index: u32,
    /// Zero.
    pub zero: u32,
}

/// Set in a listener's [`Directory::index`] if new sessions are placed by their flows, and not by their clients' addresses.
pub const LISTENER_BY_FLOW: u32 = 1 << 31;
/// Set in a listener's [`Directory::index`] if its backends answer their clients by themselves: see [`ENDPOINT_DIRECT`](super::ENDPOINT_DIRECT).
pub const LISTENER_DIRECT: u32 = 1 << 30;
/// Set beside it if no agents report the answers: there are no sessions.
pub const LISTENER_BLIND: u32 = 1 << 29;
/// Where a listener's [`Directory::index`] has how many bytes of a connection id are the server's.
pub(super) const LISTENER_SERVER_ID: u32 = 27;
/// Bits above a listener's index.
const LISTENER_FLAGS: u32 = !0 << LISTENER_SERVER_ID;

/// Set in a listener's [`Directory::index`] if its connection ids name their server in so many bytes, up to
/// [`quic_lb::LONGEST`](crate::profile::quic_lb::LONGEST).
pub const fn listener_server_id(length: u8) -> u32 {
    (length as u32 & 3) << LISTENER_SERVER_ID
}

impl Directory {
    /// The index of a listener.
    #[inline(always)]
    pub const fn listener(&self) -> u32 {
        self.index & !LISTENER_FLAGS
    }

    /// The index of the listener's endpoint on a backend, of which one at any listener of the service is known: a session is
    /// its service's, and has its port at the listener that it came by.
    #[inline(always)]
    pub const fn endpoint_like(&self, endpoint: u32) -> u32 {
        self.listener() * POOL_STRIDE + endpoint % POOL_STRIDE
    }

    /// True if packets are placed by the entry: its ring, if it has one, is in use.
    #[inline(always)]
    pub const fn places(&self) -> bool {
        matches!(self.kind, KIND_LISTENER | KIND_VIP)
    }

    /// True if new sessions of this listener are placed by their flows.
    #[inline(always)]
    pub const fn is_by_flow(&self) -> bool {
        self.index & LISTENER_BY_FLOW != 0
    }

    /// True if its backends answer their clients by themselves.
    #[inline(always)]
    pub const fn is_direct(&self) -> bool {
        self.index & LISTENER_DIRECT != 0
    }

    /// True if nothing is known of its answers.
    #[inline(always)]
    pub const fn is_blind(&self) -> bool {
        self.index & LISTENER_BLIND != 0
    }

    /// How many bytes of a connection id name the server; 0 if none do.
    #[inline(always)]
    pub const fn server_id(&self) -> u8 {
        (self.index >> LISTENER_SERVER_ID & 3) as u8
    }

    /// All but the index in one word, which is 0 for no entry alone.
    #[inline(always)]
    pub const fn pack(&self) -> u64 {
        self.kind as u64
            | (self.profile as u64) << 8
            | (self.service as u64) << 16
            | (self.tenant as u64) << 32
            | (self.ring as u64) << 48
    }

    /// From a word and an index.
    #[inline(always)]
    pub const fn unpack(word: u64, index: u32) -> Self {
        Self {
            kind: word as u8,
            profile: (word >> 8) as u8,
            service: (word >> 16) as u16,
            tenant: (word >> 32) as u16,
            ring: (word >> 48) as u16,
            index,
            zero: 0,
        }
    }
}

/// Element of [`maps::DIRECTORY`](super::maps::DIRECTORY): a key and its value. Written by the daemon alone; `word` last.
#[repr(C)]
#[cfg_attr(not(target_arch = "bpf"), derive(Debug, Default))]
pub struct DirectoryEntry {
    /// The key's address: [`Address::halves`].
    pub address: [Cell<u64>; 2],
    /// The key's port (network order) in the lower half, protocol above it.
    pub port_protocol: Cell<u32>,
    /// `Directory::index`.
    pub index: Cell<u32>,
    /// The rest of the value, packed, and beside the kind whether there is more to look at; 0 is a free entry, kind 0 one that was emptied.
    pub word: Word,
}
