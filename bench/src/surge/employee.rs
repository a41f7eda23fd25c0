//! An employee: a client at an address, and what became of their data.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::client::Client;

/// One in so many has IPv6, and one in so many is behind a carrier's router, of which there are so many.
const IPV6: u32 = 8;
const CARRIED: u32 = 10;
const CARRIERS: u32 = 250;

/// An employee, with what became of their data.
#[derive(Debug)]
pub(super) struct Employee {
    pub(super) authority: usize,
    pub(super) client: Client,
    pub(super) address: SocketAddr,
    /// The concentrator that answered last.
    pub(super) home: Option<usize>,
    /// It has died.
    pub(super) bereaved: bool,
    /// When they change their address.
    pub(super) roam: Duration,
    /// They did, and have heard nothing since.
    pub(super) is_roaming: bool,
    pub(super) data: Data,
    /// When they are to be woken, as far as it is noted.
    pub(super) noted: Duration,
}

/// Data, in both directions: what was sent and what arrived.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Data {
    pub(super) up: u32,
    pub(super) up_arrived: u32,
    pub(super) down: u32,
    pub(super) down_arrived: u32,
}

impl Data {
    /// How many were lost, or are under way.
    pub(super) const fn missing(self) -> u64 {
        (self.up - self.up_arrived) as u64 + (self.down - self.down_arrived) as u64
    }

    pub(super) const fn sent(self) -> u64 {
        self.up as u64 + self.down as u64
    }
}

impl Employee {
    pub(super) const fn is_ipv6(&self) -> bool {
        self.address.is_ipv6()
    }
}

/// The address of the n-th employee: as they arrive, or where they roam to.
pub(super) fn address(n: u32, roamed: bool) -> SocketAddr {
    let port = 1_024 + (n.wrapping_mul(40_503) >> 4) as u16 % 60_000;
    let net: u16 = if roamed { 0xd } else { 0xc };
    let ip: IpAddr = if n.is_multiple_of(IPV6) {
        // A network of its own: the budget counts by those.
        Ipv6Addr::new(0x2001, 0xdb8, net, n as u16, (n >> 16) as u16, 0, 0, 1).into()
    } else if n.is_multiple_of(CARRIED) && !roamed {
        let carrier = n / CARRIED % CARRIERS;
        let port = 1_024 + (n / CARRIED / CARRIERS) as u16 * 16;
        return SocketAddr::new(Ipv4Addr::from(0x647f_0000 + carrier).into(), port);
    } else {
        Ipv4Addr::from(if roamed { 0x3c00_0000 } else { 0x6440_0000 } + n).into()
    };
    SocketAddr::new(ip, port)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn nobody_shares_address_and_port() {
        let all = |roamed| (0..60_000).map(move |n| address(n, roamed));
        let addresses: BTreeSet<SocketAddr> = all(false).chain(all(true)).collect();
        assert_eq!(addresses.len(), 120_000);
    }
}
