//! A large configuration: a pool of concentrators, and tenants with a service each on it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use control::model::{HopKey, NextHop, Prefix, RouteView};

/// Services, each of a tenant of its own and on a port of its own, over IPv4 and IPv6.
pub(crate) const SERVICES: u16 = 40;

/// The interface to the Internet, and the one to the concentrators.
const WAN: u32 = 2;
const LAN: u32 = 3;

fn addresses(backend: u8) -> (Ipv4Addr, Ipv6Addr) {
    let last = backend + 16;
    (Ipv4Addr::new(10, 20, 0, last), Ipv6Addr::new(0xfd20, 0, 0, 0, 0, 0, 0, last.into()))
}

/// The configuration's text.
pub(crate) fn text(backends: u8) -> String {
    let mut text = String::from(
        "[gateway]
interfaces = [\"wan0\", \"lan0\"]
max_sessions = 131072

[[pool]]
name = \"wireguard\"
health = { probe = \"icmp\", interval = \"1s\", timeout = \"500ms\", rise = 2, fall = 3 }
",
    );
    for number in 0..backends {
        let (v4, v6) = addresses(number);
        let _ = write!(
            text,
            "
  [[pool.backend]]
  name = \"wg-{number}\"
  address = \"{v4}\"
  address6 = \"{v6}\"
  weight = 100
  max_sessions = 6000
"
        );
    }
    for number in 0..SERVICES {
        let port = 51_820 + number;
        let _ = write!(
            text,
            "
[[tenant]]
name = \"tenant-{number}\"
max_sessions = 12000

[[service]]
name = \"vpn-{number}\"
tenant = \"tenant-{number}\"
profile = \"wireguard\"
listen = [\"203.0.113.10:{port}/udp\", \"[2001:db8::10]:{port}/udp\"]
pool = \"wireguard\"
"
        );
    }
    text
}

/// Concentrators on the link, clients behind one router.
pub(crate) fn routes(backends: u8) -> RouteView {
    let mut hops = BTreeMap::new();
    let mut hop = |interface: u32, neighbour: IpAddr, number: u8| {
        let key = HopKey { interface, neighbour };
        let hop = NextHop {
            ifindex: interface,
            mtu: 1500,
            dst_mac: [2, 0, 0, 1, 0, number],
            src_mac: [2, 0, 0, 0, 0, 1],
            vlan: None,
            resolved: true,
        };
        hops.insert(key, hop);
        key
    };
    let router = hop(WAN, Ipv4Addr::new(198, 51, 100, 1).into(), 0);
    let default = Prefix { address: Ipv4Addr::UNSPECIFIED.into(), length: 0 };
    let towards = (0..backends).flat_map(|number| {
        let (v4, v6) = addresses(number);
        [(IpAddr::from(v4), number), (IpAddr::from(v6), number)]
    });
    let backends = towards.map(|(address, n)| (address, hop(LAN, address, n + 1))).collect();
    RouteView {
        routes: [(default, router)].into(),
        devices: [WAN, LAN].into(),
        backends,
        hops,
        ..RouteView::default()
    }
}
