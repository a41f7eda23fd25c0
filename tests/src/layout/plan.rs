//! The address plan. All of it is documentation and benchmark space (RFC 5737,
//! RFC 2544, RFC 3849) or private, and lives inside the lab's namespaces only.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Picks the address of this family.
    pub fn of(self, pair: Pair) -> IpAddr {
        match self {
            Family::V4 => pair.v4.into(),
            Family::V6 => pair.v6.into(),
        }
    }
}

/// An interface's addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Its IPv4 address.
    pub v4: Ipv4Addr,
    /// Its IPv6 address.
    pub v6: Ipv6Addr,
}

const fn pair(v4: [u8; 4], v6: [u16; 8]) -> Pair {
    let [a, b, c, d] = v4;
    let [s, t, u, v, w, x, y, z] = v6;
    Pair { v4: Ipv4Addr::new(a, b, c, d), v6: Ipv6Addr::new(s, t, u, v, w, x, y, z) }
}

/// Most hosts of a lab.
pub const MAX_HOSTS: u8 = 200;
/// Most concentrators of a lab.
pub const MAX_CONCENTRATORS: u8 = 100;
/// UDP port of every WireGuard service and concentrator.
pub const WIREGUARD_PORT: u16 = 51820;

/// The VIP of service `n`: an address of the gateway's loopback interface.
pub const fn vip(n: u8) -> Pair {
    pair([203, 0, 113, 10 + n], [0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 0x10 + n as u16])
}

/// How many VIPs the gateway has.
pub const VIPS: u8 = 8;

/// Where the service with VIP `n` listens.
pub fn listener(n: u8, family: Family) -> SocketAddr {
    SocketAddr::new(family.of(vip(n)), WIREGUARD_PORT)
}

/// The gateway's end of its wan interface `n` (prefix lengths 30 and 64).
pub const fn wan(n: u8) -> Pair {
    pair([192, 0, 2, 4 * n + 2], [0x2001, 0xdb8, 1 + n as u16, 0, 0, 0, 0, 2])
}

/// The Internet's end of it.
pub const fn wan_peer(n: u8) -> Pair {
    pair([192, 0, 2, 4 * n + 1], [0x2001, 0xdb8, 1 + n as u16, 0, 0, 0, 0, 1])
}

/// The gateway's address inside (prefix lengths 16 and 64).
pub const LAN: Pair = pair([10, 20, 0, 1], [0xfd00, 0x20, 0, 0, 0, 0, 0, 1]);

/// The Internet's address inside, where the gateway is one-armed, or is not the only way out.
pub const LAN_PEER: Pair = pair([10, 20, 255, 254], [0xfd00, 0x20, 0, 0, 0, 0, 0, 0xfffe]);

/// The address of concentrator `n`, from 1.
pub const fn concentrator(n: u8) -> Pair {
    pair([10, 20, 0, 10 + n], [0xfd00, 0x20, 0, 0, 0, 0, 0, 0x10 + n as u16])
}

/// The router inside that machines are put behind (prefix lengths 16 and 64).
pub const ROUTER: Pair = pair([10, 20, 255, 1], [0xfd00, 0x20, 0, 0, 0, 0, 0, 0xff01]);

/// Its end of the link to concentrator `n` (prefix lengths 30 and 64).
pub const fn router(n: u8) -> Pair {
    pair([10, 21, n, 1], [0xfd00, 0x21, 0, n as u16, 0, 0, 0, 1])
}

/// The address of concentrator `n` behind the router.
pub const fn routed(n: u8) -> Pair {
    pair([10, 21, n, 2], [0xfd00, 0x21, 0, n as u16, 0, 0, 0, 2])
}

/// A server on the Internet: DNS, updates and whatever the inside wants from outside.
pub const SERVER: Pair = pair([198, 51, 100, 53], [0x2001, 0xdb8, 5, 0, 0, 0, 0, 0x53]);

/// An address on the Internet that belongs to nobody's uplink; `inet` has it,
/// so that what is sent to it can be seen.
pub const IMPOSTOR: Pair = pair([198, 51, 100, 66], [0x2001, 0xdb8, 5, 0, 0, 0, 0, 0x66]);

/// The address of host `n`, from 1, on its uplink `u` (prefix lengths 30 and 64).
pub const fn uplink(n: u8, u: u8) -> Pair {
    pair([198, 18, n, 4 * u + 2], [0x2001, 0xdb8, 0xc00 + n as u16, u as u16, 0, 0, 0, 2])
}

/// The Internet's end of it.
pub const fn uplink_peer(n: u8, u: u8) -> Pair {
    pair([198, 18, n, 4 * u + 1], [0x2001, 0xdb8, 0xc00 + n as u16, u as u16, 0, 0, 0, 1])
}

/// The inner address of every concentrator of pool `p` (prefix length 24).
pub const fn inner_server(p: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 99, p, 1)
}

/// The inner address of client `n`, from 1, of pool `p`.
pub const fn inner_client(p: u8, n: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 99, p, 1 + n)
}

/// The inner network of pool `p`.
pub fn inner_network(p: u8) -> String {
    format!("10.99.{p}.0/24")
}
