//! A next hop as plain data, and its form in the table.

use std::sync::atomic::{Ordering, fence};

use dataplane::abi;

/// Where a frame goes; [`abi::NextHop`] as plain data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NextHop {
    /// The interface that XDP sends on (for a VLAN its lower device).
    pub ifindex: u32,
    /// Largest IP packet, in bytes.
    pub mtu: u16,
    /// Destination MAC.
    pub dst_mac: [u8; 6],
    /// Source MAC.
    pub src_mac: [u8; 6],
    /// The VLAN tag to send with.
    pub vlan: Option<Vlan>,
    /// Usable by XDP; otherwise packets go to the kernel's stack.
    pub resolved: bool,
}

/// A VLAN tag. Both fields in host order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Vlan {
    /// Its protocol: 0x8100 or 0x88a8.
    pub protocol: u16,
    /// VLAN id and priority.
    pub tci: u16,
}

impl NextHop {
    /// Reads an element of the table.
    pub fn read(from: &abi::NextHop) -> Self {
        let mut dst_mac = [0; 6];
        dst_mac[..4].copy_from_slice(&from.dst_mac_high.get().to_ne_bytes());
        dst_mac[4..].copy_from_slice(&from.dst_mac_low.get().to_ne_bytes());
        let mut src_mac = [0; 6];
        src_mac[..2].copy_from_slice(&from.src_mac_high.get().to_ne_bytes());
        src_mac[2..].copy_from_slice(&from.src_mac_low.get().to_ne_bytes());
        let protocol = u16::from_be(from.vlan_protocol.get());
        Self {
            ifindex: from.ifindex.get(),
            mtu: from.mtu.get(),
            dst_mac,
            src_mac,
            vlan: (protocol != 0)
                .then(|| Vlan { protocol, tci: u16::from_be(from.vlan_tci.get()) }),
            resolved: from.flags.get() & abi::NEXTHOP_RESOLVED != 0,
        }
    }

    /// Writes an element of the table that the kernel program may be reading:
    /// unusable first, usable again when all fields are there. Does nothing
    /// to an element that already says this.
    pub fn write(&self, to: &abi::NextHop) {
        if Self::read(to) == *self {
            return;
        }
        let word = |mac: &[u8; 6], at: usize| u16::from_ne_bytes([mac[at], mac[at + 1]]);
        let long = |mac: &[u8; 6], at: usize| {
            u32::from_ne_bytes([mac[at], mac[at + 1], mac[at + 2], mac[at + 3]])
        };
        to.flags.set(0);
        fence(Ordering::SeqCst);
        to.ifindex.set(self.ifindex);
        to.mtu.set(self.mtu);
        to.dst_mac_high.set(long(&self.dst_mac, 0));
        to.dst_mac_low.set(word(&self.dst_mac, 4));
        to.src_mac_high.set(word(&self.src_mac, 0));
        to.src_mac_low.set(long(&self.src_mac, 2));
        to.vlan_protocol.set(self.vlan.map_or(0, |vlan| vlan.protocol).to_be());
        to.vlan_tci.set(self.vlan.map_or(0, |vlan| vlan.tci).to_be());
        fence(Ordering::SeqCst);
        to.flags.set(if self.resolved { abi::NEXTHOP_RESOLVED } else { 0 });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_what_was_written() {
        let hop = NextHop {
            ifindex: 7,
            mtu: 1500,
            dst_mac: [1, 2, 3, 4, 5, 6],
            src_mac: [7, 8, 9, 10, 11, 12],
            vlan: Some(Vlan { protocol: 0x8100, tci: 0x2064 }),
            resolved: true,
        };
        let element = abi::NextHop::default();
        hop.write(&element);
        assert_eq!(NextHop::read(&element), hop);
        assert_eq!(element.vlan_protocol.get().to_ne_bytes(), [0x81, 0x00]);
        assert_eq!(element.dst_mac_high.get().to_ne_bytes(), [1, 2, 3, 4]);
        assert_eq!(element.src_mac_low.get().to_ne_bytes(), [9, 10, 11, 12]);

        let bare = NextHop { vlan: None, resolved: false, ..hop };
        bare.write(&element);
        assert_eq!(NextHop::read(&element), bare);
    }
}
