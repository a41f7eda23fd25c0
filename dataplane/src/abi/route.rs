//! Rings of backends, next hops, routes.

use super::Address;
use crate::cell::Cell;

/// Eight positions of a ring: each a backend's ordinal in its pool. Ring `r`
/// has the words `r * RING_WORDS ..`; position `p` is byte `p % 8` of word `p / 8`.
pub type RingWord = [u8; 8];

/// `NextHop::flags`: usable by XDP. Without it the packet goes to the kernel's stack.
pub const NEXTHOP_RESOLVED: u16 = 1;

/// Where a frame goes. Element of [`maps::NEXTHOPS`](super::maps::NEXTHOPS); read by the kernel program
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

/// Key of [`maps::ROUTES`](super::maps::ROUTES). An IPv4 prefix of length n has length 96 + n.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteKey {
    /// Prefix length in bits of the 128-bit address.
    pub prefix_len: u32,
    /// The prefix.
    pub address: Address,
}
