//! Backends that answer their clients by themselves: tunnels, and frames that are sent on as they are.

use std::collections::BTreeSet;
use std::time::Duration;

use lab::gateway::{Config, Gateway};
use lab::layout::plan::{self, Family};
use lab::peer::Implementation::{Boringtun, WireguardGo};
use lab::peer::{RunningLoad, TcpLoad, TcpPool, TunnelEnd, WgClient};
use lab::traffic::Sequence;
use lab::wait::until;
use lab::{Lab, Options, gate};

use crate::common::limit;

/// How long anything may take on a busy machine.
const SOON: Duration = Duration::from_secs(30);

/// The ways to a backend: the encapsulation, or none.
const WAYS: [Option<&str>; 3] = [None, Some("ipip"), Some("gue")];

/// Requests and answers that fill many packets, as large as there may be.
const TRANSFERS: TcpLoad =
    TcpLoad { connections: 20, concurrent: 5, requests: 2, bytes: 100_000, pause: Duration::ZERO };

/// Connections that stand until they are told to end.
const STANDING: TcpLoad = TcpLoad {
    connections: 20,
    concurrent: 20,
    requests: u32::MAX,
    bytes: 300,
    pause: Duration::from_millis(100),
};

/// A lab with servers that can answer by themselves.
struct Servers {
    lab: Lab,
    pool: TcpPool,
    _ends: Vec<TunnelEnd>,
}

impl Servers {
    fn start(machines: usize) -> Self {
        let lab = Lab::new(Options::default()).unwrap();
        let pool = TcpPool::start(&lab, "justiz", machines).unwrap();
        lab.let_answer(pool.site()).unwrap();
        let ends = pool.site().stations().iter().map(|station| TunnelEnd::start(station).unwrap());
        let _ends = ends.collect();
        Self { lab, pool, _ends }
    }

    fn config(&self, way: Option<&'static str>) -> Config {
        Config::new(&self.lab).with_site(self.pool.site(), 1000).answered_directly(way)
    }

    fn gateway(&self, way: Option<&'static str>) -> Gateway {
        started(&self.lab, &self.config(way))
    }
}

/// A gateway whose backends are all up.
fn started(lab: &Lab, config: &Config) -> Gateway {
    let gateway = Gateway::start(lab, config).unwrap();
    gateway.await_backends(SOON).unwrap();
    gateway
}

/// Transfers from a new client, all of which must complete.
fn transfer(servers: &Servers, family: Family) -> BTreeSet<u8> {
    let host = servers.lab.host().unwrap();
    let tally = TRANSFERS.run(host.ns(), servers.pool.site().vip(family)).unwrap();
    assert_eq!((tally.completed, tally.broken()), (20, 0), "{tally:?}");
    tally.answered_by.into_keys().collect()
}

#[test]
fn transfers_complete_in_every_mode_and_a_client_stays_on_one_server() {
    let _place = gate::enter().unwrap();
    let servers = Servers::start(2);
    for way in WAYS {
        let gateway = servers.gateway(way);
        let before = gateway.counters().unwrap();
        for family in [Family::V4, Family::V6] {
            let mut seen = BTreeSet::new();
            for _ in 0..4 {
                let by = transfer(&servers, family);
                assert_eq!(by.len(), 1, "one client's connections are on {by:?}");
                seen.extend(by);
            }
            println!("{way:?} {family:?}: answered by {seen:?}");
        }
        let counters = gateway.counters().unwrap().since(&before);
        assert!(counters.get("in_direct") > 1000, "{counters:?}");
        // Not one answer came by, and nothing was left to the stack.
        for none in ["out_established", "out_stateless", "stack_inbound", "stack_too_big"] {
            assert_eq!(counters.get(none), 0, "{none}: {counters:?}");
        }
        assert_eq!(gateway.sessions().unwrap().len(), 0);
    }
}

/// What NAT cannot: clients of both families reach backends that have addresses of one.
#[test]
fn clients_of_one_family_reach_backends_of_the_other() {
    let _place = gate::enter().unwrap();
    let servers = Servers::start(2);
    for way in WAYS {
        let mut config = servers.config(way);
        for backend in &mut config.pool[0].backend {
            backend.address6 = None;
        }
        let gateway = started(&servers.lab, &config);
        transfer(&servers, Family::V6);
        drop(gateway);
        let mut config = servers.config(way);
        for backend in &mut config.pool[0].backend {
            backend.address = backend.address6.take().unwrap();
        }
        let _gateway = started(&servers.lab, &config);
        transfer(&servers, Family::V4);
    }
}

#[test]
fn connections_outlast_a_drain_and_a_restart_and_only_a_dead_servers_break() {
    let _place = gate::enter().unwrap();
    let mut servers = Servers::start(3);
    let mut gateway = servers.gateway(Some("gue"));
    let vip = servers.pool.site().vip(Family::V4);
    let hosts: Vec<_> = (0..6).map(|_| servers.lab.host().unwrap()).collect();
    let (mut loads, mut on) = (Vec::new(), Vec::new());
    for host in &hosts {
        let load = STANDING.start(host.ns(), vip).unwrap();
        let came = load.wait_for_answers(STANDING.connections, SOON).unwrap();
        assert_eq!(came.len(), 1, "one client's connections are on {came:?}");
        on.push(*came.keys().next().unwrap());
        loads.push(load);
    }
    let drained = on[0];
    gateway.act(&["backend", "drain", &format!("tcp-{drained}")]).unwrap();
    for _ in 0..4 {
        let by = transfer(&servers, Family::V4);
        assert!(!by.contains(&drained), "a new client came to the draining server");
    }
    gateway.kill();
    std::thread::sleep(Duration::from_secs(1));
    gateway.run().unwrap();
    gateway.act(&["backend", "undrain", &format!("tcp-{drained}")]).unwrap();
    let stands = |load: &RunningLoad| {
        let tally = load.so_far();
        assert_eq!((tally.open, tally.broken()), (STANDING.connections, 0), "{tally:?}");
    };
    loads.iter().for_each(stands);
    until("only the standing connections", SOON, || {
        let are_only_these = servers.pool.servers().iter().all(|server| {
            let clients = on.iter().filter(|n| **n == server.number()).count() as u64;
            server.open() == clients * u64::from(STANDING.connections)
        });
        Ok(are_only_these.then_some(()))
    })
    .unwrap();
    servers.pool.server(drained).die().unwrap();
    until("the dead server being noticed", SOON, || {
        let backends = gateway.backends()?;
        Ok((!backends.iter().all(|backend| backend.is_up())).then_some(()))
    })
    .unwrap();
    let by = transfer(&servers, Family::V4);
    assert!(!by.contains(&drained), "a client came to the dead server");
    let others = loads.iter().zip(&on).filter(|(_, server)| **server != drained);
    others.map(|(load, _)| load).for_each(stands);
}

/// The router says that the outer packet is too big, to the gateway: the client must be told about its own. IPv6 has no smaller packets than 1,280
/// bytes, and so needs a wider link than IPv4.
#[test]
fn transfers_over_a_narrow_link_behind_a_router_inside_find_its_size() {
    let _place = gate::enter().unwrap();
    let servers = Servers::start(2);
    let site = servers.pool.site();
    servers.lab.put_behind_router(site, 1300).unwrap();
    for (family, mtu) in [(Family::V4, 1300), (Family::V6, 1340)] {
        servers.lab.narrow_behind_router(site, mtu).unwrap();
        for way in [Some("ipip"), Some("gue")] {
            for outer in [Family::V4, Family::V6] {
                let mut config = servers.config(way);
                for (backend, station) in config.pool[0].backend.iter_mut().zip(site.stations()) {
                    backend.address = station.routed_address(outer).to_string();
                    backend.address6 = None;
                }
                let gateway = started(&servers.lab, &config);
                let before = gateway.counters().unwrap();
                transfer(&servers, family);
                let counters = gateway.counters().unwrap().since(&before);
                println!("{family:?} by {way:?} over {outer:?}: {counters:?}");
                assert!(counters.get("icmp_error") > 0, "{counters:?}");
            }
        }
    }
}

/// The same where addresses are translated: the router tells the client, through the gateway.
#[test]
fn translated_transfers_over_a_narrow_link_behind_a_router_inside_find_its_size() {
    let _place = gate::enter().unwrap();
    let lab = Lab::new(Options::default()).unwrap();
    let pool = TcpPool::start(&lab, "justiz", 2).unwrap();
    lab.put_behind_router(pool.site(), 1300).unwrap();
    let mut config = Config::new(&lab).with_site(pool.site(), 1000);
    for (backend, station) in config.pool[0].backend.iter_mut().zip(pool.site().stations()) {
        backend.address = station.routed_address(Family::V4).to_string();
        backend.address6 = Some(station.routed_address(Family::V6).to_string());
    }
    let gateway = started(&lab, &config);
    for family in [Family::V4, Family::V6] {
        let before = gateway.counters().unwrap();
        let host = lab.host().unwrap();
        let tally = TRANSFERS.run(host.ns(), pool.site().vip(family)).unwrap();
        assert_eq!((tally.completed, tally.broken()), (20, 0), "{tally:?}");
        let counters = gateway.counters().unwrap().since(&before);
        assert!(counters.get("icmp_error") > 0, "{family:?}: {counters:?}");
    }
}

/// What its own links do not take, with the tunnel's headers, the gateway says itself.
#[test]
fn transfers_over_the_gateways_own_narrow_link_find_its_size() {
    let _place = gate::enter().unwrap();
    let servers = Servers::start(2);
    let stations = servers.pool.site().stations();
    for way in WAYS {
        let gateway = servers.gateway(way);
        for family in [Family::V4, Family::V6] {
            // As above: of IPv6 no packet is too big that has no more than 1,280 bytes.
            let mtu = if family == Family::V4 { 1300 } else { 1340 };
            for station in stations {
                limit(&servers.lab, station.address(family), mtu);
            }
            until("the limit in the tables", SOON, || {
                let hops = gateway.call(&["nexthop", "list"])?;
                let limited = hops.as_array().unwrap().iter().filter(|hop| hop["mtu"] == mtu);
                let limited: BTreeSet<_> =
                    limited.filter_map(|hop| hop["neighbour"].as_str()).collect();
                let are_all = stations
                    .iter()
                    .all(|station| limited.contains(&*station.address(family).to_string()));
                Ok(are_all.then_some(()))
            })
            .unwrap();
            let before = gateway.counters().unwrap();
            transfer(&servers, family);
            let counters = gateway.counters().unwrap().since(&before);
            assert!(counters.get("icmp_too_big") > 0, "{way:?} {family:?}: {counters:?}");
            for station in stations {
                limit(&servers.lab, station.address(family), 1500);
            }
        }
    }
}

/// A router before the client says that an answer is too big, to the service's address.
#[test]
fn transfers_over_a_narrow_link_outside_find_its_size() {
    let _place = gate::enter().unwrap();
    let servers = Servers::start(2);
    for way in WAYS {
        let gateway = servers.gateway(way);
        for family in [Family::V4, Family::V6] {
            let host = servers.lab.host().unwrap();
            let (name, peer) =
                (format!("c{}u0", host.number()), plan::uplink_peer(host.number(), 0));
            servers.lab.inet().ip(&[format!("link set {name} mtu 1300")]).unwrap();
            let routes = [peer.v4.to_string(), peer.v6.to_string()]
                .map(|via| format!("route replace default via {via} dev up0 advmss 1440"));
            host.ns().ip(&["link set up0 mtu 1300"]).unwrap();
            host.ns().ip(&routes).unwrap();
            let before = gateway.counters().unwrap();
            let tally = TRANSFERS.run(host.ns(), servers.pool.site().vip(family)).unwrap();
            let counters = gateway.counters().unwrap().since(&before);
            assert_eq!((tally.completed, tally.broken()), (20, 0), "{tally:?}");
            assert!(counters.get("icmp_error") > 0, "{way:?} {family:?}: {counters:?}");
        }
    }
}

/// wireguard-go answers from the interface that it was asked on, which is not that of its way out where there is a tunnel.
#[test]
fn real_wireguard_clients_work_and_stay_while_their_concentrator_drains() {
    for (way, concentrators) in
        [(None, WireguardGo), (Some("ipip"), Boringtun), (Some("gue"), Boringtun)]
    {
        let _place = gate::enter().unwrap();
        let lab = Lab::new(Options::default()).unwrap();
        let mut pool = lab.pool("justiz", &[concentrators; 2]).unwrap();
        lab.let_answer(pool.site()).unwrap();
        let stations = pool.site().stations().iter();
        let _ends: Vec<_> = stations.map(|station| TunnelEnd::start(station).unwrap()).collect();
        let config = Config::new(&lab).with_tenant(&pool, 100).answered_directly(way);
        let gateway = started(&lab, &config);
        for family in [Family::V4, Family::V6] {
            let host = lab.host().unwrap();
            let listener = plan::listener(pool.number(), family);
            let client = WgClient::dial(&lab, &host, &mut pool, WireguardGo, listener, 0).unwrap();
            let on = client.reach(SOON).unwrap();
            let traffic = Sequence::start(&client.target(), 50, 64).unwrap();
            traffic.wait_for(50, SOON).unwrap();
            let name = format!("wg-{on}");
            gateway.act(&["backend", "drain", &name]).unwrap();
            traffic.wait_for(150, SOON).unwrap();
            let tally = traffic.stop();
            println!("{way:?} {family:?}: {tally:?}");
            assert_eq!((tally.lost, tally.answered_by.len()), (0, 1), "{tally:?}");
            gateway.act(&["backend", "undrain", &name]).unwrap();
        }
        assert_eq!(gateway.sessions().unwrap().len(), 0);
    }
}
