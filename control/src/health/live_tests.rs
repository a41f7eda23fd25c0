//! Probes of real addresses and ports, in namespaces of the tests' own.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::time::Duration;

use tokio::net::TcpListener;

use super::{Monitor, Target};
use crate::config::{BackendId, Family, Health, Timing};
use crate::model::{AddressHealth, HealthView, Status};
use crate::routing::netns::{Namespace, ip};

/// Patient enough for a busy machine: nothing fails that is not meant to.
const TIMING: Timing = Timing {
    interval: Duration::from_millis(10),
    timeout: Duration::from_millis(700),
    rise: 2,
    fall: 2,
};
const ICMP: Health = Health::Icmp(TIMING);

fn id() -> BackendId {
    BackendId::new("pool", "wg-1")
}

fn targets(addresses: &[&str], health: Health) -> BTreeMap<BackendId, Target> {
    let addresses = addresses.iter().map(|text| text.parse::<IpAddr>().unwrap()).collect();
    BTreeMap::from([(id(), Target { addresses, health })])
}

fn health(v4: Status, v6: Status) -> AddressHealth {
    let mut health = AddressHealth::both(v4);
    health.set(Family::V6, v6);
    health
}

/// Whether the namespace's own addresses of a family answer echo requests.
fn answer(family: Family, yes: bool) {
    let file = match family {
        Family::V4 => "/proc/sys/net/ipv4/icmp_echo_ignore_all",
        Family::V6 => "/proc/sys/net/ipv6/icmp/echo_ignore_all",
    };
    fs::write(file, if yes { "0" } else { "1" }).expect("root may");
}

/// What the monitor says next of the backend. Nothing comes in between, and nothing is said twice.
async fn next(monitor: &mut Monitor) -> AddressHealth {
    let changes = monitor.changed().await;
    assert_eq!(changes.len(), 1, "{changes:?}");
    changes[&id()]
}

/// What the monitor says until this.
async fn until(monitor: &mut Monitor, last: AddressHealth) {
    while next(monitor).await != last {}
}

/// No address: of a backend that has none in a family, nothing is ever known.
const NONE: Status = Status::Unknown;

#[test]
fn an_address_that_falls_silent_is_down_until_it_answers_again() {
    let namespace = Namespace::new();
    namespace.run_async(|| async {
        let mut monitor = Monitor::start(targets(&["127.0.0.1"], ICMP), HealthView::new()).unwrap();
        assert_eq!(next(&mut monitor).await, health(Status::Up, NONE));
        assert_eq!(monitor.errors(), BTreeMap::new());
        answer(Family::V4, false);
        assert_eq!(next(&mut monitor).await, health(Status::Down, NONE));
        assert_eq!(monitor.errors()[&id()], "127.0.0.1: no reply within 700ms");
        answer(Family::V4, true);
        assert_eq!(next(&mut monitor).await, health(Status::Up, NONE));
        assert_eq!(monitor.errors(), BTreeMap::new());
    });
}

#[test]
fn an_address_without_a_route_is_down() {
    let namespace = Namespace::new();
    namespace.run_async(|| async {
        let mut monitor =
            Monitor::start(targets(&["10.20.0.11"], ICMP), HealthView::new()).unwrap();
        assert_eq!(next(&mut monitor).await, health(Status::Down, NONE));
        let error = &monitor.errors()[&id()];
        assert!(error.starts_with("10.20.0.11: Network is unreachable"), "{error}");
        ip("address add 10.20.0.11/32 dev lo");
        assert_eq!(next(&mut monitor).await, health(Status::Up, NONE));
    });
}

#[test]
fn each_family_is_for_itself() {
    let namespace = Namespace::new();
    namespace.run_async(|| async {
        answer(Family::V6, false);
        let mut monitor =
            Monitor::start(targets(&["127.0.0.1", "::1"], ICMP), HealthView::new()).unwrap();
        let impaired = health(Status::Up, Status::Down);
        until(&mut monitor, impaired).await;
        assert_eq!(monitor.errors()[&id()], "::1: no reply within 700ms");
        answer(Family::V6, true);
        assert_eq!(next(&mut monitor).await, AddressHealth::both(Status::Up));
        answer(Family::V4, false);
        assert_eq!(next(&mut monitor).await, health(Status::Down, Status::Up));
    });
}

#[test]
fn what_was_known_holds_until_a_probe_says_otherwise() {
    let namespace = Namespace::new();
    namespace.run_async(|| async {
        answer(Family::V6, false);
        let known = HealthView::from([(id(), AddressHealth::both(Status::Down))]);
        let mut monitor = Monitor::start(targets(&["127.0.0.1", "::1"], ICMP), known).unwrap();
        // IPv4 has come back; that IPv6 has not is still known, and needs no telling.
        assert_eq!(next(&mut monitor).await, health(Status::Up, Status::Down));
        answer(Family::V6, true);
        assert_eq!(next(&mut monitor).await, AddressHealth::both(Status::Up));
    });
}

#[test]
fn a_port_must_accept() {
    let namespace = Namespace::new();
    namespace.run_async(|| async {
        let open = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = open.local_addr().unwrap();
        let probe = Health::Tcp { port: at.port(), timing: TIMING };
        let mut monitor =
            Monitor::start(targets(&["127.0.0.1", "::1"], probe), HealthView::new()).unwrap();
        until(&mut monitor, health(Status::Up, Status::Down)).await;
        let error = &monitor.errors()[&id()];
        assert!(error.contains("]:") && error.contains("Connection refused"), "{error}");
        drop(open);
        assert_eq!(next(&mut monitor).await, AddressHealth::both(Status::Down));
        let _open = TcpListener::bind(at).await.unwrap();
        assert_eq!(next(&mut monitor).await, health(Status::Up, Status::Down));
    });
}

#[test]
fn a_target_that_changes_is_known_by_what_it_keeps() {
    let namespace = Namespace::new();
    namespace.run_async(|| async {
        answer(Family::V6, false);
        let mut monitor =
            Monitor::start(targets(&["127.0.0.1", "::1"], ICMP), HealthView::new()).unwrap();
        until(&mut monitor, health(Status::Up, Status::Down)).await;

        // Of another address nothing is known, until it is probed.
        monitor.set_targets(targets(&["10.20.0.11", "::1"], ICMP));
        assert_eq!(next(&mut monitor).await, health(Status::Unknown, Status::Down));
        assert_eq!(next(&mut monitor).await, AddressHealth::both(Status::Down));

        // Another way of probing says something when it has found something out.
        let open = TcpListener::bind("[::1]:0").await.unwrap();
        let port = open.local_addr().unwrap().port();
        let probe = Health::Tcp { port, timing: TIMING };
        monitor.set_targets(targets(&["10.20.0.11", "::1"], probe));
        assert_eq!(next(&mut monitor).await, health(Status::Down, Status::Up));

        // Who is not probed counts as up, and the past is forgotten.
        monitor.set_targets(targets(&["10.20.0.11", "::1"], Health::None));
        assert_eq!(next(&mut monitor).await, AddressHealth::both(Status::Unknown));
        assert_eq!(monitor.errors(), BTreeMap::new());
    });
}

#[test]
fn nothing_is_said_of_a_backend_that_is_gone() {
    let namespace = Namespace::new();
    namespace.run_async(|| async {
        let mut monitor =
            Monitor::start(targets(&["10.20.0.11"], ICMP), HealthView::new()).unwrap();
        assert_eq!(next(&mut monitor).await, health(Status::Down, NONE));
        monitor.set_targets(targets(&["10.20.0.12"], ICMP));
        let other = BackendId::new("pool", "wg-2");
        let mut both = targets(&["127.0.0.1"], ICMP);
        both = both.into_values().map(|target| (other.clone(), target)).collect();
        // The change of wg-1 was not told yet, and is not to be.
        monitor.set_targets(both);
        let changes = monitor.changed().await;
        assert_eq!(changes, HealthView::from([(other, health(Status::Up, NONE))]));
        assert_eq!(monitor.errors(), BTreeMap::new());
    });
}
