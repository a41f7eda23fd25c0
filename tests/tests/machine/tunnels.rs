//! The kernel's own tunnels, as docs/configuration.md lays them, and its WireGuard behind them.

use std::net::SocketAddr;
use std::time::Duration;

use lab::gateway::{Agent, Config, Gateway};
use lab::layout::plan;
use lab::layout::plan::Family;
use lab::layout::{Site, Station};
use lab::peer::Implementation::{Boringtun, Kernel, WireguardGo};
use lab::peer::{TcpLoad, TcpPool, WgClient};
use lab::traffic::Sequence;
use lab::{Lab, Options, gate};

use crate::common::FAMILIES;

/// How long anything may take on a busy machine.
const SOON: Duration = Duration::from_secs(30);

/// Requests and answers that fill many packets, as large as there may be.
const TRANSFERS: TcpLoad =
    TcpLoad { connections: 10, concurrent: 5, requests: 2, bytes: 50_000, pause: Duration::ZERO };

/// What docs/configuration.md has an administrator do on a backend: the part between these lines is run as it stands there.
const DOCUMENTED: &str = include_str!("../../../docs/configuration.md");

/// The commands for an encapsulation, by what they are introduced with.
fn commands(encapsulation: &str) -> impl Iterator<Item = &'static str> {
    let mark = format!("# # {encapsulation}:");
    let listing = DOCUMENTED.split("```console\n").find(|listing| listing.starts_with(&mark));
    let listing = listing.unwrap_or_else(|| panic!("no listing begins with {mark:?}"));
    let lines = listing.split("```").next().unwrap_or_default().lines().skip(1);
    lines.filter_map(|line| line.strip_prefix("# ip ")).map(|line| {
        // What a command is for stands behind it.
        line.split(" #").next().unwrap_or(line).trim()
    })
}

/// Lets the kernel of a machine take packets out of tunnels of both kinds.
fn end(station: &Station) {
    let all: Vec<_> = commands("ipip").collect();
    station.ns().ip(&all).unwrap();
    for command in commands("gue") {
        // A batch has one family.
        let words: Vec<_> = command.split(' ').collect();
        station.ns().run("ip", &words).unwrap();
    }
}

/// A gateway whose backends are reached in such tunnels, at their addresses of a family.
fn config(lab: &Lab, site: &Site, encapsulation: &'static str, outer: Family) -> Config {
    let mut config = Config::new(lab).with_site(site, 1000).answered_directly(Some(encapsulation));
    for (backend, station) in config.pool[0].backend.iter_mut().zip(site.stations()) {
        backend.address = station.address(outer).to_string();
        backend.address6 = None;
    }
    config
}

fn started(lab: &Lab, config: &Config) -> Gateway {
    let gateway = Gateway::start(lab, config).unwrap();
    gateway.await_backends(SOON).unwrap();
    gateway
}

#[test]
fn the_kernel_takes_packets_out_of_tunnels_of_both_kinds_and_families() {
    let _place = gate::enter().unwrap();
    let lab = Lab::new(Options::default()).unwrap();
    let pool = TcpPool::start(&lab, "justiz", 2).unwrap();
    lab.let_answer(pool.site()).unwrap();
    pool.site().stations().iter().for_each(end);
    let of = |encapsulation, outer| config(&lab, pool.site(), encapsulation, outer);
    let gateway = started(&lab, &of("ipip", Family::V4));
    for encapsulation in ["ipip", "gue"] {
        for outer in FAMILIES {
            gateway.write(&of(encapsulation, outer)).unwrap();
            gateway.act(&["reload"]).unwrap();
            gateway.await_backends(SOON).unwrap();
            let before = gateway.counters().unwrap();
            for family in FAMILIES {
                let host = lab.host().unwrap();
                let tally = TRANSFERS.run(host.ns(), pool.site().vip(family)).unwrap();
                println!("{family:?} by {encapsulation} over {outer:?}: {tally:?}");
                assert_eq!((tally.completed, tally.broken()), (10, 0), "{tally:?}");
            }
            let counters = gateway.counters().unwrap().since(&before);
            assert!(counters.get("in_direct") > 100, "{counters:?}");
            assert_eq!(counters.get("stack_inbound"), 0, "{counters:?}");
        }
    }
}

/// With agents, so that there are sessions, which follow their clients.
#[test]
fn clients_of_kernel_concentrators_behind_kernel_tunnels_roam() {
    let _place = gate::enter().unwrap();
    let lab = Lab::new(Options::default()).unwrap();
    let mut pool = lab.pool("justiz", &[Kernel; 2]).unwrap();
    lab.let_answer(pool.site()).unwrap();
    pool.site().stations().iter().for_each(end);
    // Agents tell the gateway in both families, and so backends have both.
    let config = Config::new(&lab).with_site(pool.site(), 1000);
    let config = config.answered_directly(Some("gue")).with_agents();
    let gateway = started(&lab, &config);
    let agents = pool.site().stations().iter();
    let _agents: Vec<_> = agents.map(|s| Agent::start(&lab, &gateway, s).unwrap()).collect();
    for (implementation, family) in
        [(WireguardGo, Family::V4), (Boringtun, Family::V6), (Kernel, Family::V4)]
    {
        let host = lab.host().unwrap();
        let listener = plan::listener(pool.number(), family);
        let mut client =
            WgClient::dial(&lab, &host, &mut pool, implementation, listener, 0).unwrap();
        let on = client.reach(SOON).unwrap();
        let at = |client: &WgClient| SocketAddr::new(host.address(family), client.port());
        let session = gateway.await_session(at(&client), SOON).unwrap();
        let traffic = Sequence::pings(&client.target()).unwrap();
        traffic.wait_for(20, SOON).unwrap();
        traffic.between(|| client.roam(&host)).unwrap();
        traffic.wait_for(60, SOON).unwrap();
        let moved = gateway.await_session(at(&client), SOON).unwrap();
        let tally = traffic.stop();
        println!("{implementation:?} {family:?}: {tally:?}");
        assert_eq!((&moved.id, moved.moves, moved.concentrator()), (&session.id, 1, on));
        // As in the tests of agents elsewhere.
        assert!(tally.lost <= 2 && tally.answered_by.len() == 1, "{tally:?}");
    }
}
