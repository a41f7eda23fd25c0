//! What the benches' kernel programs and the benches share: how packets are played.
#![no_std]

/// Words of the frame that are written anew before each packet: all headers, and what is read
/// of the payload.
pub const FRAME_WORDS: usize = 12;
/// Bytes of a played frame: the longest is a handshake initiation over IPv6.
pub const FRAME: usize = 224;

/// Index of the interface to the Internet.
pub const WAN: u32 = 11;
/// Index of the interface to the concentrators.
pub const LAN: u32 = 12;

/// Index of [`Target`] in the map of targets.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// The control: it returns at once. What it costs is the harness.
    Control = 0,
    /// The floor: headers are read, addresses of the link layer written.
    Floor = 1,
    /// The gateway's program.
    Gateway = 2,
    /// The gateway's pipeline with a BPF hash in place of the slot table.
    Hash = 3,
    /// The gateway's pipeline with one session for all flows, which is not looked up.
    Given = 4,
    /// The floor, and one cache line of the session table.
    Line = 5,
    /// The floor, and out of another interface by the gateway's map of devices.
    Redirect = 6,
    /// The floor, and one cache line of each table that a new session is written to.
    Lines = 7,
    /// The floor, each table looked at that a packet of a session has to ask, and out of another interface.
    Tables = 8,
}

/// How many there are.
pub const TARGETS: u32 = 9;

/// Which packets are played: the frame, and where it differs from flow to flow. The only
/// element of the map `PLAY`. Offsets are in bytes from the frame's begin; 0 writes nothing.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Play {
    /// The frame's first bytes, in wire order.
    pub frame: [u64; FRAME_WORDS],
    /// State of the random numbers (xorshift); not 0.
    pub random: u64,
    /// Packets played so far: the counter of data messages.
    pub played: u64,
    /// Draw flows at random: 1. In order: 0.
    pub is_random: u32,
    /// The first flow.
    pub first: u32,
    /// How many flows there are, from `first` on.
    pub flows: u32,
    /// The next flow, from 0, if they come in order.
    pub next: u32,
    /// Where the four bytes of the client's address are that differ; flow n has `client` + n there.
    pub client_at: u32,
    /// See `client_at`; host order.
    pub client: u32,
    /// Where the client's port is.
    pub port_at: u32,
    /// Where the last four bytes of the backend's address are; flow n has
    /// `backend` + n % `backends` there.
    pub backend_at: u32,
    /// See `backend_at`; host order.
    pub backend: u32,
    /// A power of two less one.
    pub backend_mask: u32,
    /// Where an id is.
    pub id_at: u32,
    /// Flow n has the id (n + 1) * `id_factor`, little-endian; the factor is odd.
    pub id_factor: u32,
    /// If not 0: flow n has the word `id_prefix` + n in place of the id, and it and the counter are
    /// big-endian.
    pub id_prefix: u32,
    /// Where the low half of a data message's counter is.
    pub counter_at: u32,
    /// The [`Target`] that gets the packets.
    pub target: u32,
    /// Where the checksum of an IPv4 header is that has the client's address.
    pub checksum_at: u32,
    /// Sum of the header's other words of 16 bits, host order.
    pub sum: u32,
    /// The slot of the session for [`Target::Given`].
    pub given: u32,
    /// The interface for [`Target::Redirect`].
    pub interface: u32,
}

/// The client's port of a flow, host order; never 0.
#[inline(always)]
pub const fn port(flow: u32) -> u16 {
    (flow.wrapping_mul(40_503) >> 8) as u16 | 1
}

/// An id of a flow; never 0 for an odd factor and fewer than 2^32 - 1 flows.
#[inline(always)]
pub const fn id(flow: u32, factor: u32) -> u32 {
    flow.wrapping_add(1).wrapping_mul(factor)
}

/// Which frames arrive where they should, and how many. The only element of the map `ARRIVED`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Arrived {
    /// Where a frame's destination address (IPv4) is to begin with `network`, host order.
    pub mask: u32,
    /// See `mask`.
    pub network: u32,
    /// Frames with such a destination.
    pub right: u64,
    /// All others, stray ones of the stack's among them.
    pub others: u64,
}
