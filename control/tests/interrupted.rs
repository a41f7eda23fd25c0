//! What a daemon that dies between any two writes leaves, and what was changed behind its back: the next one, or the same one,
//! makes it good. On the kernel's own tables: needs root.

mod scratch;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use control::config::Config;
use control::loader::{Pins, Sizes, Tables, Writer, adopt, create};
use control::model::{
    self, HopKey, Inputs, Load, NextHop, Overrides, Prefix, RouteView, TableWriter as _, Wanted,
};
use dataplane::abi::{ENDPOINT_LIVE, KIND_LISTENER, maps};
use scratch::Scratch;

const SIZES: Sizes = Sizes { slots: 1024, overflow: 64, ids: 512, hints: 128 };
const WAN: u32 = 2;
const LAN: u32 = 3;

/// What a daemon has: as much of it as the tables' contents depend on.
struct Daemon {
    tables: Arc<Tables>,
    writer: Writer,
    current: Wanted,
}

impl Daemon {
    /// A daemon that finds these tables.
    fn start(pins: &Pins, tables: Tables) -> Self {
        let tables = Arc::new(tables);
        let writer = Writer::open(pins, Arc::clone(&tables)).unwrap();
        let current = writer.read().unwrap();
        Self { tables, writer, current }
    }

    fn wanted(&self, config: &Config) -> Wanted {
        let inputs = Inputs {
            config,
            overrides: &Overrides::default(),
            health: &Default::default(),
            load: &Load::default(),
            routes: &routes(config),
            current: &self.current,
            released: &BTreeSet::new(),
        };
        model::compute(&inputs).unwrap()
    }

    /// Carries out the first `most` writes towards a configuration, or all: how many there were.
    fn bring_to(&mut self, config: &Config, most: usize) -> usize {
        let wanted = self.wanted(config);
        let steps = model::diff(&self.current, &wanted);
        let most = most.min(steps.len());
        model::apply(&mut self.current, &steps[..most], &mut self.writer).unwrap();
        steps.len()
    }

    /// What the tables hold that was not written to them.
    fn drift(&self) -> Vec<model::Drift> {
        let room = self.tables.sizes().sessions();
        model::drift(&self.current, &self.writer.read().unwrap(), room)
    }

    /// Every listener places on backends that are there, and nothing else is to be done.
    fn is_in_force(&self, config: &Config) {
        assert_eq!(self.drift(), []);
        assert_eq!(model::diff(&self.current, &self.wanted(config)), []);
        let listeners = config.services.iter().flat_map(|service| &service.listen).count();
        let listed: Vec<_> =
            self.current.directory.values().filter(|entry| entry.kind == KIND_LISTENER).collect();
        assert_eq!(listed.len(), listeners);
        for entry in listed {
            let ring = &self.current.rings[&entry.ring];
            let ordinals: BTreeSet<u8> = ring.ordinals().iter().copied().collect();
            for ordinal in ordinals {
                let index = entry.listener() * dataplane::abi::POOL_STRIDE + u32::from(ordinal);
                assert_ne!(self.current.endpoints[&index].flags & ENDPOINT_LIVE, 0);
            }
        }
    }
}

/// Clients behind one router, backends on the link.
fn routes(config: &Config) -> RouteView {
    let mut view = RouteView { devices: [WAN, LAN].into(), ..RouteView::default() };
    let mut hop = |interface, neighbour, number: u8| {
        let key = HopKey { interface, neighbour };
        let hop = NextHop {
            ifindex: interface,
            mtu: 1500,
            dst_mac: [2, 0, 0, 1, interface as u8, number],
            src_mac: [2, 0, 0, 0, 0, interface as u8],
            vlan: None,
            resolved: true,
        };
        view.hops.insert(key, hop);
        key
    };
    let router = hop(WAN, Ipv4Addr::new(198, 51, 100, 1).into(), 0);
    let mut backends = std::collections::BTreeMap::new();
    for ((_, _, backend), number) in config.backends().zip(1..) {
        for address in [Some(backend.address), backend.address6.map(IpAddr::V6)] {
            backends.extend(address.map(|address| (address, hop(LAN, address, number))));
        }
    }
    let everywhere = [IpAddr::from(Ipv4Addr::UNSPECIFIED), Ipv6Addr::UNSPECIFIED.into()];
    view.routes = everywhere.map(|address| (Prefix { address, length: 0 }, router)).into();
    view.backends = backends;
    view.own = [IpAddr::from([10, 20, 0, 1])].into();
    view
}

const BEFORE: &str = r#"
[gateway]
interfaces = ["wan0", "lan0"]
max_sessions = 1000
[[tenant]]
name = "justiz"
max_sessions = 500
[[tenant]]
name = "finanz"
max_sessions = 300
[[pool]]
name = "wg"
[[pool.backend]]
name = "wg-1"
address = "10.20.1.11"
address6 = "fd00:20:1::11"
[[pool.backend]]
name = "wg-2"
address = "10.20.1.12"
[[pool]]
name = "ovpn"
[[pool.backend]]
name = "ovpn-1"
address = "10.20.2.11"
[[service]]
name = "vpn"
tenant = "justiz"
profile = "wireguard"
listen = ["203.0.113.10:51820/udp", "[2001:db8::10]:51820/udp"]
pool = "wg"
[[service]]
name = "old"
tenant = "finanz"
profile = "openvpn"
listen = ["203.0.113.20:1194/udp"]
pool = "ovpn"
"#;

/// A backend and a service less, another of each, a tenant's quota.
fn after() -> String {
    let changed = BEFORE.replace("max_sessions = 500", "max_sessions = 600");
    let changed = changed.replace("wg-2", "wg-3").replace("10.20.1.12", "10.20.1.13");
    changed
        .replace("\"old\"", "\"new\"")
        .replace("203.0.113.20:1194", "203.0.113.30:500")
        .replace("openvpn", "ipsec")
}

fn config(text: &str) -> Config {
    Config::parse(text, "a test's").unwrap_or_else(|e| panic!("{}", e.0.render(false)))
}

#[test]
fn a_daemon_that_dies_between_any_two_writes_is_made_good_by_the_next() {
    let scratch = Scratch::new("interrupted");
    let bpffs = scratch.bpffs();
    let pins = Pins::under(&bpffs);
    let (before, after) = (config(BEFORE), config(&after()));
    for (from, to) in [(None, &before), (Some(&before), &after)] {
        let mut died = 0;
        loop {
            let mut first = Daemon::start(&pins, create(&bpffs, &pins, SIZES).unwrap());
            if let Some(from) = from {
                first.bring_to(from, usize::MAX);
            }
            let writes = first.bring_to(to, died);
            drop(first);
            let mut next = Daemon::start(&pins, adopt(&pins).unwrap().expect("the tables"));
            next.bring_to(to, usize::MAX);
            next.is_in_force(to);
            pins.remove().unwrap();
            died += 1;
            if died > writes {
                assert!(writes > 20, "{writes}");
                break;
            }
        }
    }
}

#[test]
fn what_was_changed_behind_the_daemons_back_is_noticed_and_mended() {
    let scratch = Scratch::new("drift");
    let bpffs = scratch.bpffs();
    let pins = Pins::under(&bpffs);
    let config = config(BEFORE);
    let mut daemon = Daemon::start(&pins, create(&bpffs, &pins, SIZES).unwrap());
    daemon.bring_to(&config, usize::MAX);
    daemon.is_in_force(&config);
    let written = daemon.current.clone();

    // By somebody else, who has the tables open as well.
    let mut other = Writer::open(&pins, Arc::clone(&daemon.tables)).unwrap();
    let (key, entry) = written.directory.iter().find(|(_, d)| d.kind == KIND_LISTENER).unwrap();
    other.directory(*key, None).unwrap();
    let (index, endpoint) = written.endpoints.iter().next().unwrap();
    other.endpoint(*index, Some(&dataplane::abi::Endpoint { flags: 0, ..*endpoint })).unwrap();
    other.endpoint(*index + 50, Some(endpoint)).unwrap();
    // Of a listener that there is not.
    other.endpoint(400 * dataplane::abi::POOL_STRIDE, Some(endpoint)).unwrap();
    let (number, ring) = written.rings.iter().find(|(n, _)| **n != entry.ring).unwrap();
    let mut bytes = *ring.words().as_flattened().first_chunk().unwrap();
    bytes[5] ^= 1;
    other.ring(*number, Some(&model::Ring::new(bytes))).unwrap();
    other.device(99, true).unwrap_err();
    other.device(WAN, false).unwrap();
    let (route, _) = written.routes.iter().next().unwrap();
    other.route(*route, Some(7)).unwrap();

    let drift = daemon.drift();
    let of = |table| {
        let found = drift.iter().find(|drift| drift.table == table);
        found.map(|drift| (drift.missing, drift.foreign, drift.different))
    };
    assert_eq!(of(maps::DIRECTORY), Some((1, 0, 0)), "{drift:?}");
    assert_eq!(of(maps::ENDPOINTS), Some((0, 2, 1)));
    assert_eq!(of(maps::RINGS), Some((0, 0, 1)));
    assert_eq!(of(maps::DEVICES), Some((1, 0, 0)));
    assert_eq!(of(maps::ROUTES), Some((0, 0, 1)));
    assert_eq!(drift.len(), 5);

    daemon.current = daemon.writer.read().unwrap().known_as(&written);
    daemon.bring_to(&config, usize::MAX);
    daemon.is_in_force(&config);
    pins.remove().unwrap();
}
