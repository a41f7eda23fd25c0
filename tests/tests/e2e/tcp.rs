//! TCP, and services of both protocols.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, TcpStream};
use std::time::Duration;

use lab::gateway::{Config, Gateway, Health, Limits, Rate};
use lab::layout::plan::{self, Family};
use lab::peer::{Client, OcClient, OcPool, TcpLoad, TcpPool};
use lab::traffic::SynFlood;
use lab::wait::until;
use lab::{Lab, Options, gate};
use socket2::SockRef;

use crate::common::{PLENTY, limit};

/// How long anything may take on a busy machine.
const SOON: Duration = Duration::from_secs(30);

/// Many connections come from few addresses here.
const UNLIMITED: Limits =
    Limits { unestablished_per_source: Rate { rate: 100_000, burst: 100_000 } };

/// Requests and answers that fill many packets, as large as there may be.
const TRANSFERS: TcpLoad =
    TcpLoad { connections: 20, concurrent: 5, requests: 2, bytes: 100_000, pause: Duration::ZERO };

fn gateway(lab: &Lab, pool: &TcpPool) -> Gateway {
    let mut config = Config::new(lab).with_site(pool.site(), 30_000);
    config.gateway.max_sessions = 32_768;
    config.limits = Some(UNLIMITED);
    let gateway = Gateway::start(lab, &config).unwrap();
    gateway.await_backends(SOON).unwrap();
    gateway
}

/// Connections that stand until they are told to end.
fn standing(connections: u32) -> TcpLoad {
    TcpLoad {
        connections,
        concurrent: connections,
        requests: u32::MAX,
        bytes: 300,
        pause: Duration::from_millis(300),
    }
}

#[test]
fn connections_outlast_drains_and_only_a_dead_servers_break() {
    let _place = gate::enter().unwrap();
    let lab = Lab::new(Options::default()).unwrap();
    let mut pool = TcpPool::start(&lab, "justiz", 3).unwrap();
    let gateway = gateway(&lab, &pool);
    // Of several addresses, which are on several servers.
    let stand: Vec<_> = (0..8)
        .map(|_| {
            let host = lab.host().unwrap();
            standing(20).start(host.ns(), pool.site().vip(Family::V6)).unwrap()
        })
        .collect();
    let mut on = BTreeMap::<u8, u64>::new();
    for load in &stand {
        for (server, open) in load.wait_for_answers(20, SOON).unwrap() {
            *on.entry(server).or_default() += u64::from(open);
        }
    }

    // 10,000 come and go while each server in turn is drained.
    let load = TcpLoad {
        connections: 10_000,
        concurrent: 200,
        requests: 3,
        bytes: 700,
        pause: Duration::from_millis(20),
    };
    let other = lab.host().unwrap();
    let passing = load.start(other.ns(), pool.site().vip(Family::V4)).unwrap();
    let names: Vec<_> = gateway.backends().unwrap().into_iter().map(|b| b.name).collect();
    for name in &names {
        let open = passing.so_far().begun;
        gateway.act(&["backend", "drain", name]).unwrap();
        until(
            "a thousand more",
            SOON,
            || Ok((passing.so_far().begun >= open + 1000).then_some(())),
        )
        .unwrap();
        gateway.act(&["backend", "undrain", name]).unwrap();
    }
    let passed = passing.finish().unwrap();
    println!("{passed:?}");
    assert_eq!((passed.completed, passed.broken()), (10_000, 0), "{passed:?}");

    // A server dies: its connections break, and no other.
    let broken = || stand.iter().map(|load| u64::from(load.so_far().broken())).sum::<u64>();
    assert_eq!(broken(), 0);
    let counters = gateway.counters().unwrap();
    // A port may come again while its last connection's session is not over yet, and goes on with that.
    assert!(counters.get("session_opened") >= 10_160 - 100, "{counters:?}");
    assert_eq!(counters.get("tentative_full"), 0);
    let (dead, theirs) = on.into_iter().max_by_key(|(_, open)| *open).unwrap();
    assert!((20..160).contains(&theirs), "{theirs} of 160 on one server");
    pool.server(dead).die().unwrap();
    until("its connections being over", SOON, || Ok((broken() >= theirs).then_some(()))).unwrap();
    for load in stand {
        let stood = load.stop().unwrap();
        println!("{stood:?}");
        assert!(matches!((stood.broken(), stood.completed), (0, 20) | (20, 0)), "{stood:?}");
    }
}

#[test]
fn a_flood_of_syns_opens_no_session_and_disturbs_none() {
    let _place = gate::enter().unwrap();
    let lab = Lab::new(Options::default()).unwrap();
    let pool = TcpPool::start(&lab, "justiz", 2).unwrap();
    let gateway = gateway(&lab, &pool);
    let host = lab.host().unwrap();
    let to = pool.site().vip(Family::V4);
    let stand = standing(100).start(host.ns(), to).unwrap();
    stand.wait_for_open(100, SOON).unwrap();
    let open = || gateway.sessions().unwrap().iter().filter(|s| s.state == "open").count();
    until("their sessions", SOON, || Ok((open() == 100).then_some(()))).unwrap();
    let before = gateway.counters().unwrap();
    let took = SynFlood { count: 1_000_000, rate: 100_000 }.run(lab.inet(), to).unwrap();
    // In the middle of it all, somebody new.
    let new =
        TcpLoad { connections: 20, concurrent: 20, requests: 2, bytes: 100, pause: Duration::ZERO };
    let new = new.run(lab.host().unwrap().ns(), to).unwrap();
    let counters = gateway.counters().unwrap().since(&before);
    println!("{took:?}, {counters:?}");
    assert!(counters.get("in_unestablished") >= 900_000, "{counters:?}");
    assert_eq!(counters.get("session_opened"), 20, "those of the new client");
    assert_eq!((new.completed, new.broken()), (20, 0), "{new:?}");
    let stood = stand.stop().unwrap();
    assert_eq!((stood.completed, stood.broken()), (100, 0), "{stood:?}");
}

/// The answers come from where those to clients come from.
#[test]
fn a_services_own_port_is_probed() {
    let _place = gate::enter().unwrap();
    let lab = Lab::new(Options::default()).unwrap();
    let mut pool = TcpPool::start(&lab, "justiz", 2).unwrap();
    let to = pool.site().vip(Family::V4);
    let mut config = Config::new(&lab).with_site(pool.site(), PLENTY);
    config.pool[0].health = Some(Health { probe: "tcp", port: Some(to.port()), ..Health::quick() });
    config.limits = Some(UNLIMITED);
    let gateway = Gateway::start(&lab, &config).unwrap();
    gateway.await_backends(SOON).unwrap();
    // Nothing of it is a client's.
    let probed = || gateway.counters().unwrap().get("not_ours");
    let before = probed();
    until("more probes", SOON, || Ok((probed() > before + 20).then_some(()))).unwrap();
    assert!(gateway.sessions().unwrap().is_empty());
    assert_eq!(gateway.counters().unwrap().get("session_tentative"), 0);
    // Clients are served, and who does not answer is found out.
    let host = lab.host().unwrap();
    let tally = TRANSFERS.run(host.ns(), to).unwrap();
    assert_eq!((tally.completed, tally.broken()), (20, 0), "{tally:?}");
    let dead = pool.servers()[0].number();
    pool.server(dead).die().unwrap();
    until("the death of a server", SOON, || {
        let backends = gateway.backends()?;
        let down = backends.iter().filter(|backend| backend.state == "down");
        Ok((down.count() == 1).then_some(()))
    })
    .unwrap();
    let tally = TRANSFERS.run(host.ns(), to).unwrap();
    assert_eq!((tally.completed, tally.broken()), (20, 0), "{tally:?}");
}

#[test]
fn tls_and_dtls_of_a_client_meet_on_one_server() {
    let _place = gate::enter().unwrap();
    let lab = Lab::new(Options::default()).unwrap();
    let mut pool = OcPool::start(&lab, "justiz", 2).unwrap();
    let mut config = Config::new(&lab).with_site(pool.site(), PLENTY);
    config.limits = Some(UNLIMITED);
    let gateway = Gateway::start(&lab, &config).unwrap();
    gateway.await_backends(SOON).unwrap();
    let hosts: Vec<_> = (0..3).map(|_| lab.host().unwrap()).collect();
    let mut clients = Vec::new();
    for n in 0..20 {
        let family = if n % 4 == 3 { Family::V6 } else { Family::V4 };
        let host = &hosts[n % 3];
        let client = OcClient::start(&lab, host, &mut pool, family).unwrap();
        clients.push((client, host.address(family)));
    }
    for (client, _) in &clients {
        client.dtls_connected(SOON).unwrap();
    }
    // Each client's server has seen its DTLS come, which it tells by a cookie of its TLS.
    let mut servers: BTreeMap<IpAddr, BTreeSet<u8>> = BTreeMap::new();
    for (client, address) in &clients {
        let answered_by = client.reach(SOON).unwrap();
        let server = pool.servers().iter().find(|s| s.number() == answered_by).unwrap();
        // The server tells of it later than it answers.
        let mut sessions = Vec::new();
        let seen = until("DTLS at the server", SOON, || {
            sessions = server.sessions()?;
            let own = sessions.iter().find(|session| session.client == client.name());
            Ok(own.is_some_and(|own| own.dtls && own.address == *address).then_some(()))
        });
        assert!(seen.is_ok(), "{}: {sessions:?}", client.name());
        servers.entry(*address).or_default().insert(answered_by);
        assert_eq!((client.tls_connections(), client.dtls_connections()), (1, 1));
    }
    assert!(servers.values().all(|of| of.len() == 1), "{servers:?}");
    // In the gateway's tables they are two sessions of one service, on one backend.
    for address in servers.keys() {
        let sessions = gateway.sessions().unwrap();
        let own: BTreeSet<_> = sessions
            .iter()
            .filter(|s| s.client.ip() == *address && s.state == "open")
            .map(|s| s.backend.clone())
            .collect();
        assert_eq!(own.len(), 1, "{address}: {own:?}");
    }
}

#[test]
fn transfers_over_a_narrow_link_outside_find_its_size() {
    let _place = gate::enter().unwrap();
    let lab = Lab::new(Options::default()).unwrap();
    let pool = TcpPool::start(&lab, "justiz", 2).unwrap();
    let gateway = gateway(&lab, &pool);
    for family in [Family::V4, Family::V6] {
        let host = lab.host().unwrap();
        // The client says that it takes as much as any; the router before it cannot pass that on, and tells
        // the service's address so.
        let (name, peer) = (format!("c{}u0", host.number()), plan::uplink_peer(host.number(), 0));
        lab.inet().ip(&[format!("link set {name} mtu 1300")]).unwrap();
        let routes = [peer.v4.to_string(), peer.v6.to_string()]
            .map(|via| format!("route replace default via {via} dev up0 advmss 1440"));
        host.ns().ip(&["link set up0 mtu 1300"]).unwrap();
        host.ns().ip(&routes).unwrap();
        let before = gateway.counters().unwrap();
        let tally = TRANSFERS.run(host.ns(), pool.site().vip(family)).unwrap();
        let counters = gateway.counters().unwrap().since(&before);
        println!("{family:?}: {tally:?}, {counters:?}");
        assert_eq!((tally.completed, tally.broken()), (20, 0), "{tally:?}");
        assert!(counters.get("icmp_error") > 0, "{counters:?}");
    }
}

/// Both ways: what its own links do not take, the gateway says itself, to clients and to servers.
#[test]
fn transfers_over_the_gateways_own_narrow_links_find_their_size() {
    let _place = gate::enter().unwrap();
    let lab = Lab::new(Options::default()).unwrap();
    let pool = TcpPool::start(&lab, "justiz", 2).unwrap();
    let gateway = gateway(&lab, &pool);
    for family in [Family::V4, Family::V6] {
        for is_inside in [true, false] {
            let host = lab.host().unwrap();
            let backends = || pool.servers().iter().map(|server| server.station().address(family));
            let narrow: Vec<IpAddr> =
                if is_inside { backends().collect() } else { vec![host.address(family)] };
            for address in narrow {
                limit(&lab, address, 1300);
            }
            until("the limit in the tables", SOON, || {
                let hops = gateway.call(&["nexthop", "list"])?;
                Ok(hops.to_string().contains("1300").then_some(()))
            })
            .unwrap();
            let before = gateway.counters().unwrap();
            let tally = TRANSFERS.run(host.ns(), pool.site().vip(family)).unwrap();
            let counters = gateway.counters().unwrap().since(&before);
            println!("{family:?}, inside {is_inside}: {tally:?}, {counters:?}");
            assert_eq!((tally.completed, tally.broken()), (20, 0), "{tally:?}");
            assert!(counters.get("icmp_too_big") > 0, "{counters:?}");
            assert_eq!(counters.get("stack_too_big"), 0, "{counters:?}");
            for address in backends().filter(|_| is_inside) {
                limit(&lab, address, 1500);
            }
        }
    }
}

/// Of the client's system, and of the server's, as each tells it: the smaller one of what the other said counts.
#[test]
fn both_ends_of_a_connection_are_told_of_a_smaller_segment() {
    let _place = gate::enter().unwrap();
    let lab = Lab::new(Options::default()).unwrap();
    let pool = TcpPool::start(&lab, "justiz", 2).unwrap();
    let mut config = Config::new(&lab).with_site(pool.site(), 100);
    for service in &mut config.service {
        service.tcp_mss = Some(900);
    }
    let gateway = Gateway::start(&lab, &config).unwrap();
    let host = lab.host().unwrap();
    for family in [Family::V4, Family::V6] {
        let vip = pool.site().vip(family);
        let connect = || TcpStream::connect_timeout(&vip, SOON);
        let client = host.ns().enter(connect).unwrap().unwrap();
        // Less twelve bytes of the time stamps in each segment.
        assert_eq!(SockRef::from(&client).tcp_mss().unwrap(), 888);
        let port = client.local_addr().unwrap().port();
        // The client's end is through with the handshake before the server's.
        let filter = format!("dport = :{port}");
        let mut said = String::new();
        let seen = until("the server's end of the connection", SOON, || {
            said.clear();
            for server in pool.servers() {
                let args = ["-tinH", "state", "established", &filter];
                said += &server.station().ns().run("ss", &args)?;
            }
            Ok(said.contains(" mss:888 ").then_some(()))
        });
        assert!(seen.is_ok(), "{said}");
    }
    drop(gateway);
}
