//! What stands in the way of packets to backends that answer by themselves: they have no kernel's stack to fall back to.

use std::net::IpAddr;

use crate::config::{Config, Encapsulation, Family, Mode, Pool};
use crate::model::RouteView;

/// The smallest MTU of IPv6 (RFC 8200, 5): below it nobody can be told to send less.
const LEAST6: u32 = 1280;

/// What an operator should know of, each in a sentence.
pub(super) fn warnings(config: &Config, routes: &RouteView) -> Vec<String> {
    let mut out = Vec::new();
    for pool in config.pools.iter().filter(|pool| pool.mode.is_direct()) {
        for backend in &pool.backends {
            let name = format!("{}/{}", pool.name, backend.name);
            let addresses = [Some(backend.address), backend.address6.map(IpAddr::V6)];
            for address in addresses.into_iter().flatten() {
                let Some(key) = routes.backends.get(&address) else { continue };
                if pool.mode == Mode::Dsr && key.neighbour != address {
                    out.push(format!(
                        "backend {name} is behind the router {}: in mode `dsr` nothing can be sent to {address} (`unresolved`)",
                        key.neighbour
                    ));
                }
                let mtu = routes.hops.get(key).map_or(0, |hop| u32::from(hop.mtu));
                let least = LEAST6 + overhead(pool, Family::of(address));
                if (1..least).contains(&mtu) && serves_ipv6(config, pool, address) {
                    out.push(format!(
                        "the way to backend {name} takes packets of {mtu} bytes: clients of IPv6 need {least} for {address}"
                    ));
                }
            }
        }
    }
    out
}

/// Bytes of the headers of a pool's tunnels to addresses of a family.
fn overhead(pool: &Pool, family: Family) -> u32 {
    let Some(tunnel) = pool.tunnel else { return 0 };
    let ip = match family {
        Family::V4 => 20,
        Family::V6 => 40,
    };
    ip + if tunnel.encapsulation == Encapsulation::Gue { 8 } else { 0 }
}

/// Whether packets of IPv6 go to an address of the pool's.
fn serves_ipv6(config: &Config, pool: &Pool, address: IpAddr) -> bool {
    let is_target = pool.backends.iter().any(|b| pool.address_for(b, Family::V6) == Some(address));
    let mut services = config.services.iter().filter(|service| service.pool == pool.name);
    is_target && services.any(|s| s.listen.iter().any(|l| l.family() == Family::V6))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{HopKey, NextHop};

    fn said(pool: &str, neighbour: &str, mtu: u16) -> Vec<String> {
        let text = format!(
            r#"
[gateway]
interfaces = ["eth0"]
[[tenant]]
name = "justiz"
max_sessions = 10
[[pool]]
name = "wg"
{pool}
[[pool.backend]]
name = "wg-1"
address = "10.20.0.11"
[[service]]
name = "vpn"
tenant = "justiz"
profile = "wireguard"
listen = ["203.0.113.10:51820/udp", "[2001:db8::10]:51820/udp"]
pool = "wg"
"#
        );
        let config = Config::parse(&text, "test").unwrap();
        let key = HopKey { interface: 2, neighbour: neighbour.parse().unwrap() };
        let mut routes = RouteView::default();
        routes.backends.insert("10.20.0.11".parse().unwrap(), key);
        routes.hops.insert(key, NextHop { mtu, ..NextHop::default() });
        warnings(&config, &routes)
    }

    #[test]
    fn what_cannot_reach_a_backend_is_told() {
        let none = Vec::<String>::new();
        assert_eq!(said("mode = \"dsr\"", "10.20.0.11", 1500), none);
        assert_eq!(
            said("mode = \"dsr\"", "10.20.0.1", 1500),
            [
                "backend wg/wg-1 is behind the router 10.20.0.1: in mode `dsr` nothing can be sent to 10.20.0.11 (`unresolved`)"
            ]
        );
        let gue = "mode = \"tunnel\"\ntunnel = { encapsulation = \"gue\", source = \"10.20.0.2\" }";
        assert_eq!(said(gue, "10.20.0.1", 1308), none);
        assert_eq!(
            said(gue, "10.20.0.1", 1307),
            [
                "the way to backend wg/wg-1 takes packets of 1307 bytes: clients of IPv6 need 1308 for 10.20.0.11"
            ]
        );
    }
}
