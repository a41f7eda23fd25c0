//! Addresses of both families as one.

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
