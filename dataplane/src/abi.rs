//! The layout of every map the kernel program and the daemon share.
//!
//! All types are `repr(C)`, have no padding, and are valid for every bit
//! pattern. Integers are in host byte order unless a field says *network
//! order*. A change of any layout, map type or meaning raises [`ABI_VERSION`],
//! which is part of the pin path.

use crate::cell::{Cell, Word};

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

/// An IPv6 address, or an IPv4 address in its mapped form `::ffff:a.b.c.d`
/// (RFC 4291 2.5.5.2): 16 bytes in network order, read as four native words.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Address(pub [u32; 4]);

impl Address {
    /// The address from its 16 bytes in network order.
    #[inline(always)]
    pub const fn from_bytes(b: [u8; 16]) -> Self {
        Self([
            u32::from_ne_bytes([b[0], b[1], b[2], b[3]]),
            u32::from_ne_bytes([b[4], b[5], b[6], b[7]]),
            u32::from_ne_bytes([b[8], b[9], b[10], b[11]]),
            u32::from_ne_bytes([b[12], b[13], b[14], b[15]]),
        ])
    }

    /// The mapped form of an IPv4 address, given as read from the packet (network order).
    #[inline(always)]
    pub const fn v4(network_order: u32) -> Self {
        Self([0, 0, 0xffff_u32.to_be(), network_order])
    }

    /// The 16 bytes in network order.
    pub fn bytes(self) -> [u8; 16] {
        let mut out = [0; 16];
        for (o, w) in out.chunks_exact_mut(4).zip(self.0) {
            o.copy_from_slice(&w.to_ne_bytes());
        }
        out
    }

    /// The address as two native words of the bytes in memory.
    #[inline(always)]
    pub const fn halves(self) -> [u64; 2] {
        let [a, b, c, d] = self.0;
        [a as u64 | (b as u64) << 32, c as u64 | (d as u64) << 32]
    }

    /// From its [`Address::halves`].
    #[inline(always)]
    pub const fn from_halves([high, low]: [u64; 2]) -> Self {
        Self([high as u32, (high >> 32) as u32, low as u32, (low >> 32) as u32])
    }

    /// True for the mapped form of an IPv4 address.
    #[inline(always)]
    pub const fn is_v4(self) -> bool {
        self.0[0] == 0 && self.0[1] == 0 && self.0[2] == 0xffff_u32.to_be()
    }
}

#[cfg(any(test, feature = "host"))]
impl From<core::net::IpAddr> for Address {
    fn from(ip: core::net::IpAddr) -> Self {
        match ip {
            core::net::IpAddr::V4(v4) => Self::v4(u32::from_ne_bytes(v4.octets())),
            core::net::IpAddr::V6(v6) => Self::from_bytes(v6.octets()),
        }
    }
}

#[cfg(any(test, feature = "host"))]
impl From<Address> for core::net::IpAddr {
    fn from(a: Address) -> Self {
        core::net::Ipv6Addr::from(a.bytes()).to_canonical()
    }
}

/// What the gateway does with a protocol; `Directory::profile`, `Endpoint::profile`.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Profile {
    /// The flow alone.
    Udp = 1,
    /// WireGuard: sessions known by receiver index.
    WireGuard = 2,
    /// OpenVPN: sessions known by peer-id.
    OpenVpn = 3,
    /// TCP connections.
    Tcp = 4,
    /// IKEv2 alone, without a marker (port 500).
    Ike = 5,
    /// ESP in UDP, and IKEv2 behind a marker (port 4500).
    Ipsec = 6,
    /// QUIC: sessions known by the server's connection id.
    Quic = 7,
    /// DTLS: sessions known by the server's connection id, if it chose one.
    Dtls = 8,
}

/// Set in [`Directory::service`] and in flows if the protocol is TCP: a service may have listeners of both, and
/// a client the same port in both.
pub const SERVICE_TCP: u16 = 1 << 15;

/// The index in a service with its [`SERVICE_TCP`].
#[inline(always)]
pub const fn service_index(service: u16) -> u16 {
    service & !SERVICE_TCP
}

/// How packets reach a backend; `Endpoint::encapsulation`.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Encapsulation {
    /// They are translated, and so are the answers, which come back through the gateway.
    Nat = 0,
    /// As they are, to the backend's link layer address.
    None = 1,
    /// Inside another IP packet (RFC 2003, RFC 2473, RFC 4213).
    IpIp = 2,
    /// Inside a datagram, with no header between: Generic UDP Encapsulation, variant 1 (draft-ietf-intarea-gue, 4).
    Gue = 3,
}

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
/// it says [`LISTENER_BY_FLOW`] and [`NO_RING`], because without a port nothing can be placed.
pub const KIND_VIP: u8 = 3;
/// `Directory::kind` of an entry with port 0: some endpoint has this address and protocol. The index is that of any, if
/// all are of one service and one of its addresses, else `u32::MAX`.
pub const KIND_BACKEND: u8 = 4;

/// `Directory::kind` of what backends are reached by in a tunnel: their address, and the outer protocol with port 0, of
/// [`Encapsulation::Gue`] with the port. The index is that of any such endpoint.
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
    /// A [`Profile`] as its number.
    pub profile: u8,
    /// Service index, with [`SERVICE_TCP`].
    pub service: u16,
    /// Tenant index.
    pub tenant: u16,
    /// Listener: its ring's number, or [`NO_RING`]. Endpoint: zero.
    pub ring: u16,
    /// Listener: the listener index, perhaps with [`LISTENER_BY_FLOW`], [`LISTENER_DIRECT`], [`LISTENER_BLIND`] and
    /// [`listener_server_id`]. Endpoint: the endpoint index.
    pub index: u32,
    /// Zero.
    pub zero: u32,
}

/// Set in a listener's [`Directory::index`] if new sessions are placed by their flows, and not by their clients' addresses.
pub const LISTENER_BY_FLOW: u32 = 1 << 31;
/// Set in a listener's [`Directory::index`] if its backends answer their clients by themselves: see [`ENDPOINT_DIRECT`].
pub const LISTENER_DIRECT: u32 = 1 << 30;
/// Set beside it if no agents report the answers: there are no sessions.
pub const LISTENER_BLIND: u32 = 1 << 29;
/// Where a listener's [`Directory::index`] has how many bytes of a connection id are the server's.
const LISTENER_SERVER_ID: u32 = 27;
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

/// Element of [`maps::DIRECTORY`]: a key and its value. Written by the daemon alone; `word` last.
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
/// directions. Element of [`maps::ENDPOINTS`].
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Endpoint {
    /// The backend's address.
    pub backend: Address,
    /// The listener's address.
    pub vip: Address,
    /// The backend's port, network order. Of [`Encapsulation::Gue`] the port that tunnels end at.
    pub backend_port: u16,
    /// The listener's port, network order.
    pub vip_port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// A [`Profile`] as its number.
    pub profile: u8,
    /// [`ENDPOINT_LIVE`] and the other flags.
    pub flags: u8,
    /// An [`Encapsulation`] as its number.
    pub encapsulation: u8,
    /// Service index.
    pub service: u16,
    /// Tenant index.
    pub tenant: u16,
    /// Next hop towards the backend, or [`NO_NEXTHOP`].
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
    /// With [`LISTENER_BLIND`]: how long the backend keeps a client that sends nothing, in [`age`](crate::table::hints::Hint::age)'s units.
    pub idle: u16,
    /// With [`ENDPOINT_PACED`]: the tenant's [`share_index`] of a backend's handshakes is counted by this service's index.
    pub share: u16,
}

/// Where [`maps::PACES`] has a tenant's share of a backend's handshakes. The tenant goes by the index of one of its services at the pool.
#[inline(always)]
pub const fn share_index(service: u16, ordinal: u32) -> u32 {
    2 * (service as u32 * POOL_STRIDE + ordinal % POOL_STRIDE)
}

/// Where [`maps::PACES`] has the handshakes of a backend, of all tenants together.
#[inline(always)]
pub const fn pace_index(pool: u32, ordinal: u32) -> u32 {
    2 * (pool * POOL_STRIDE + ordinal % POOL_STRIDE) + 1
}

/// A rate with a burst, and how much of it is used; see `table::meter`. The limits are written by the daemon, the rest by the kernel program.
#[repr(C)]
#[cfg_attr(not(target_arch = "bpf"), derive(Debug, Default))]
pub struct Meter {
    /// What a unit (a packet, a handshake, a byte) costs, in 2^-16 ns; 0 is no limit.
    pub cost: Cell<u64>,
    /// How far ahead of the clock it may be, in [`meter_time`].
    pub burst: Cell<u64>,
    /// Until when the rate is used up, in [`meter_time`].
    pub until: Word,
    /// Packets that were refused.
    pub refused: Word,
}

/// The clock of [`Meter`]s, from nanoseconds: 2^-8 ns, so that a packet of the fastest link is many of them.
#[inline(always)]
pub const fn meter_time(ns: u64) -> u64 {
    ns << 8
}

/// Where [`maps::SOURCES`] has the address that a pool's tunnels come from, of the one family or the other.
pub const fn source_index(pool: u32, v6: bool) -> u16 {
    (2 * pool) as u16 + v6 as u16
}

/// A tenant's quota and its running counts. Element of [`maps::TENANTS`].
/// The kernel program raises `sessions` and `tentative`, the daemon lowers them.
#[repr(C, align(64))]
#[cfg_attr(not(target_arch = "bpf"), derive(Debug, Default))]
pub struct Tenant {
    /// Sessions open now.
    pub sessions: Word,
    /// Tentative sessions now.
    pub tentative: Word,
    /// Quota of open sessions.
    pub max_sessions: Cell<u64>,
    /// Most tentative sessions.
    pub max_tentative: Cell<u64>,
    /// Sessions opened since the tables were made.
    pub opened: Word,
    /// Answers and handshakes refused because the quota was used up, or new sessions came too fast.
    pub refused: Word,
    /// Sessions that it can have whatever others have; beyond, it borrows from what nobody is guaranteed.
    pub guaranteed: Cell<u64>,
    /// Zero.
    pub zero: Cell<u64>,
    /// Sums over ended sessions, written by the daemon alone: sessions,
    pub ended: Cell<u64>,
    /// packets from clients,
    pub ended_rx_packets: Cell<u64>,
    /// bytes from clients,
    pub ended_rx_bytes: Cell<u64>,
    /// packets to clients,
    pub ended_tx_packets: Cell<u64>,
    /// and bytes to clients.
    pub ended_tx_bytes: Cell<u64>,
    /// The daemon's note of what it is just adding to them; zero first while it is nothing.
    pub ending: [Cell<u64>; 3],

    /// Handshakes that clients begin.
    pub handshakes: Meter,
    /// Sessions that open.
    pub new_sessions: Meter,

    /// Packets from clients,
    pub packets_in: Meter,
    /// and their bytes.
    pub bytes_in: Meter,

    /// Packets to clients,
    pub packets_out: Meter,
    /// and their bytes.
    pub bytes_out: Meter,
}

#[cfg(any(test, feature = "host"))]
impl Tenant {
    /// All of its meters.
    pub fn meters(&self) -> [&Meter; 6] {
        [
            &self.handshakes,
            &self.new_sessions,
            &self.packets_in,
            &self.bytes_in,
            &self.packets_out,
            &self.bytes_out,
        ]
    }
}

/// Eight positions of a ring: each a backend's ordinal in its pool. Ring `r`
/// has the words `r * RING_WORDS ..`; position `p` is byte `p % 8` of word `p / 8`.
pub type RingWord = [u8; 8];

/// `NextHop::flags`: usable by XDP. Without it the packet goes to the kernel's stack.
pub const NEXTHOP_RESOLVED: u16 = 1;

/// Where a frame goes. Element of [`maps::NEXTHOPS`]; read by the kernel program
/// without a lock, so the daemon clears `flags` before and sets it after a change.
#[repr(C)]
#[cfg_attr(not(target_arch = "bpf"), derive(Debug, Default))]
pub struct NextHop {
    /// The interface that XDP sends on (for a VLAN its lower device).
    pub ifindex: Cell<u32>,
    /// [`NEXTHOP_RESOLVED`].
    pub flags: Cell<u16>,
    /// Largest IP packet, in bytes.
    pub mtu: Cell<u16>,
    /// Bytes 0 to 3 of the destination MAC as a native word of the bytes in wire order.
    pub dst_mac_high: Cell<u32>,
    /// Bytes 4 and 5 of it.
    pub dst_mac_low: Cell<u16>,
    /// Source MAC, bytes 0 and 1.
    pub src_mac_high: Cell<u16>,
    /// Source MAC, bytes 2 to 5.
    pub src_mac_low: Cell<u32>,
    /// VLAN protocol (0x8100 or 0x88a8), network order; 0 sends untagged.
    pub vlan_protocol: Cell<u16>,
    /// VLAN tag control information, network order.
    pub vlan_tci: Cell<u16>,
    /// Zero.
    pub reserved: [u32; 2],
}

/// Key of [`maps::ROUTES`]. An IPv4 prefix of length n has length 96 + n.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteKey {
    /// Prefix length in bits of the 128-bit address.
    pub prefix_len: u32,
    /// The prefix.
    pub address: Address,
}

element! {
    /// One session on one flow: all that its packets read and write in both directions, in one cache
    /// line. Element of [`maps::SLOTS`]; see `table::slot` for its life and who may write what.
    #[repr(C, align(64))]
    #[cfg_attr(not(target_arch = "bpf"), derive(Debug, Default))]
    pub struct Slot {
        /// Generation (upper 32 bits) and `table::slot::State` (lower 8 bits).
        pub state: Word,
        /// The client's address: [`Address::halves`].
        pub client: [Cell<u64>; 2],
        /// The client's port (network order) in the lower half, above it the service index with [`SERVICE_TCP`].
        pub port_service: Cell<u32>,
        /// Endpoint index.
        pub endpoint: Cell<u16>,
        /// Next hop towards the client, valid while `route_generation` is the settings'.
        pub nexthop: Cell<u16>,
        /// `Settings::route_generation` modulo 32768, plus 32768, when `nexthop` was looked up; 0 is never.
        pub route_generation: Cell<u16>,
        /// Zero.
        pub zero: Cell<u16>,
        /// Time of the last packet on the flow, in either direction, in [`ticks`].
        pub last_seen: Cell<u32>,
        /// Lower halves of the counts; the upper ones are the [`Detail`]'s. Packets from the client,
        pub rx_packets: Cell<u32>,
        /// bytes from the client: IP packets as they came in,
        pub rx_bytes: Cell<u32>,
        /// packets to the client,
        pub tx_packets: Cell<u32>,
        /// and bytes to the client.
        pub tx_bytes: Cell<u32>,
        /// The current one of the ids by which inbound packets know the session: given back by the
        /// client. 0 is none.
        pub in_id: Cell<u32>,
        /// The current one of the ids by which answers know the session. 0 is none.
        pub out_id: Cell<u32>,
    }
}

impl Slot {
    /// The client's port, network order.
    #[inline(always)]
    pub fn port(&self) -> u16 {
        self.port_service.get() as u16
    }

    /// Service index.
    #[inline(always)]
    pub fn service(&self) -> u16 {
        service_index((self.port_service.get() >> 16) as u16)
    }

    /// True for a TCP connection.
    #[inline(always)]
    pub fn is_tcp(&self) -> bool {
        self.port_service.get() >> 31 != 0
    }
}

element! {
    /// What few packets of a session need. Element of [`maps::DETAILS`], by the index of its slot;
    /// written by whoever may write the slot.
    #[repr(C, align(64))]
    #[cfg_attr(not(target_arch = "bpf"), derive(Debug, Default))]
    pub struct Detail {
        /// CLOCK_MONOTONIC nanoseconds when the session was opened (tentative: was made).
        pub opened: Cell<u64>,
        /// The session's identity: generation and index of its first slot. It
        /// outlives moves.
        pub identity: Cell<u64>,
        /// The next inbound id: handed out and not yet given back. 0 is none.
        pub in_id_next: Cell<u32>,
        /// The inbound id before the current one.
        pub in_id_previous: Cell<u32>,
        /// The next id of answers.
        pub out_id_next: Cell<u32>,
        /// The id of answers before the current one.
        pub out_id_previous: Cell<u32>,
        /// Low 32 bits of an inbound packet counter, where the protocol has one: of the last packet whose counter
        /// [`is_noted`].
        pub in_counter: Cell<u32>,
        /// The same of answers.
        pub out_counter: Cell<u32>,
        /// Upper halves of the slot's counts.
        pub rx_packets_high: Cell<u32>,
        /// See `rx_packets_high`.
        pub rx_bytes_high: Cell<u32>,
        /// See `rx_packets_high`.
        pub tx_packets_high: Cell<u32>,
        /// See `rx_packets_high`.
        pub tx_bytes_high: Cell<u32>,
        /// How often the session moved to another flow.
        pub moves: Cell<u16>,
        /// 1 while a handshake is under way on the flow whose outcome may be another id than the slot
        /// holds: until then the flow tells whose packet it is. Else 0.
        pub handshake: Cell<u16>,
        /// 1 if the connection is over or about to be: the session ends soon after its last packet. Else 0.
        pub closing: Cell<u16>,
        /// Zero.
        pub reserved: Cell<u16>,
    }
}

/// Whether a packet counter is written down, to tell sessions with the same id apart: the first
/// ones of a key, then each 64th. The others would cost a second cache line for each packet.
#[inline(always)]
pub const fn is_noted(counter: u32) -> bool {
    counter < 64 || counter & 63 == 0
}

/// Nanoseconds to the 32-bit tick of the tables: 2^20 ns, about 1.05 ms; compare by wrapping subtraction.
#[inline(always)]
pub const fn ticks(ns: u64) -> u32 {
    (ns >> 20) as u32
}

/// One cache line of eight entries; see `table::ids` and `table::hints`.
#[repr(C, align(64))]
#[cfg_attr(not(target_arch = "bpf"), derive(Debug, Default))]
pub struct Bucket(pub [Word; 8]);

/// Sizes, keys and limits. One element; written by the daemon before the program
/// is attached, afterwards only the fields marked *live*.
#[repr(C)]
#[cfg_attr(not(target_arch = "bpf"), derive(Debug, Default))]
pub struct Settings {
    /// Key of the hash over flows, random for each set of tables: odd numbers.
    pub flow_key: [Cell<u64>; 5],
    /// Primary slots minus 1; primary slots are a power of two.
    pub slot_mask: Cell<u32>,
    /// Overflow slots minus 1 (a power of two); they follow the primary ones.
    pub overflow_mask: Cell<u32>,
    /// The directory's table in use: its first entry (upper half), its entries minus 1 (lower half).
    pub directory: Cell<u64>,
    /// *Live.* Raised after every change of routes or next hops.
    pub route_generation: Cell<u32>,
    /// Buckets of the id index.
    pub id_buckets: Cell<u32>,

    /// Key of the hashes over ids and addresses, random for each set of tables.
    pub hash_key: [Cell<u64>; 2],
    /// *Live.* Slots that may be in use, by open and tentative sessions together.
    pub max_used: Cell<u64>,
    /// Buckets of the hints.
    pub hint_buckets: Cell<u32>,
    /// *Live.* Budget per source: microseconds (2^10 ns) a packet costs; 0 is no limit.
    pub budget_cost: Cell<u32>,
    /// *Live.* Budget per source: microseconds (2^10 ns) a source may be ahead.
    pub budget_burst: Cell<u32>,
    /// Zero.
    pub zero: Cell<u32>,
    /// In test builds of the tables: the clock, nanoseconds.
    pub test_clock: Cell<u64>,
    /// The kernel program's own: the time as a processor last asked for it, the kernel's jiffies
    /// (their lower half) in the upper half and [`ticks`] in the lower.
    pub clock: Cell<u64>,
    /// Generation that all slots began with: above those of the tables that sessions were carried from, whose identities
    /// they keep.
    pub first_generation: Cell<u64>,

    /// Raised and lowered like a tenant's counts: slots in use (tentative and open, all tenants).
    /// On a line of its own: the others are only read for packets.
    pub used: Word,
    /// Likewise: open sessions beyond what their tenants are guaranteed.
    pub borrowed: Word,
    /// *Live.* Most of them.
    pub max_borrowed: Cell<u64>,
    /// *Live.* Sessions that may be open; the daemon's alone: what they come to is in `max_used` and `max_borrowed`.
    pub max_sessions: Cell<u64>,
    /// Zero.
    pub more_reserved: [Cell<u64>; 4],
}

/// Key of [`maps::NAMES`].
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NameKey {
    /// What the index counts: [`NAME_TENANT`] and so on.
    pub kind: u32,
    /// The index. A backend's: pool index * [`POOL_STRIDE`] + ordinal.
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

/// Value of [`maps::NAMES`]: UTF-8, zero-terminated.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name(pub [u8; 64]);

/// Key of [`maps::LAYOUT`]: UTF-8, zero-terminated; see [`layout`](crate::layout).
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayoutKey(pub [u8; 64]);

/// Value of [`maps::LAYOUT`]: a field's place, or a number.
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

/// Most entries of [`maps::LAYOUT`].
pub const MAX_LAYOUT: u32 = 1024;

// The model checker's atomics are larger.
#[cfg(not(feature = "shuttle"))]
const _: () = {
    assert!(size_of::<Slot>() == 64);
    assert!(size_of::<Detail>() == 64);
    assert!(MAX_ENDPOINTS <= 1 << 16 && MAX_NEXTHOPS <= 1 << 16);
    assert!(MAX_LISTENERS < 1 << LISTENER_SERVER_ID);
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
