//! Probes of real addresses and ports, in namespaces of the tests' own.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::time::Duration;

use tokio::net::TcpListener;

use super::{Monitor, Target};
use crate::config::{BackendId, Family, Health, Port, Probe, Probing, Share, Timing};
use crate::model::{AddressHealth, HealthView, Probed, ProbedView, Status};
use crate::routing::netns::{Namespace, ip};

/// Patient enough for a busy machine: nothing fails that is not meant to.
const TIMING: Timing = Timing {
    interval: Duration::from_millis(10),
    timeout: Duration::from_millis(700),
    rise: 2,
    fall: 2,
};

pub(super) fn health_by(probe: Probe) -> Health {
    let max_down = Share::percent(75).unwrap();
    Health::Probed(Box::new(Probing { probe, timing: TIMING, max_down }))
}

fn id() -> BackendId {
    BackendId::new("pool", "wg-1")
}

/// Which are pinged.
fn targets(addresses: &[&str]) -> BTreeMap<BackendId, Target> {
    targets_by(addresses, None, health_by(Probe::Icmp))
}

fn targets_by(
    addresses: &[&str],
    port: Option<u16>,
    health: Health,
) -> BTreeMap<BackendId, Target> {
    let addresses = addresses.iter().map(|text| text.parse::<IpAddr>().unwrap()).collect();
    BTreeMap::from([(id(), Target { addresses, port, health })])
}

fn tcp() -> Health {
    health_by(Probe::Tcp(Port::default()))
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

/// A monitor, and what it said last.
pub(super) struct Watched {
    pub(super) monitor: Monitor,
    told: AddressHealth,
}

impl Watched {
    pub(super) fn start(targets: BTreeMap<BackendId, Target>) -> Self {
        Self::knowing(targets, AddressHealth::default())
    }

    fn knowing(targets: BTreeMap<BackendId, Target>, known: AddressHealth) -> Self {
        let known = HealthView::from([(id(), known)]);
        let monitor = Monitor::start(targets, &known).expect("root may");
        Self { monitor, told: known[&id()] }
    }

    /// What it says next of the backend's health, after single probes that failed. Nothing else comes in between.
    pub(super) async fn next(&mut self) -> AddressHealth {
        loop {
            let changes = self.monitor.changed().await;
            assert_eq!(changes.len(), 1, "{changes:?}");
            let now = changes[&id()].status;
            if now != self.told {
                self.told = now;
                return now;
            }
        }
    }

    /// Why the last probe failed.
    pub(super) fn error(&self) -> String {
        self.monitor.errors().remove(&id()).unwrap_or_default()
    }
}

/// What the monitor says until this.
async fn until(monitor: &mut Watched, last: AddressHealth) {
    while monitor.next().await != last {}
}

/// No address: of a backend that has none in a family, nothing is ever known.
const NONE: Status = Status::Unknown;

#[test]
fn an_address_that_falls_silent_is_down_until_it_answers_again() {
    let namespace = Namespace::new();
    namespace.run_async(|| async {
        let mut monitor = Watched::start(targets(&["127.0.0.1"]));
        assert_eq!(monitor.next().await, health(Status::Up, NONE));
        assert_eq!(monitor.monitor.errors(), BTreeMap::new());
        answer(Family::V4, false);
        assert_eq!(monitor.next().await, health(Status::Down, NONE));
        assert_eq!(monitor.error(), "127.0.0.1: no reply within 700ms");
        answer(Family::V4, true);
        assert_eq!(monitor.next().await, health(Status::Up, NONE));
        assert_eq!(monitor.monitor.errors(), BTreeMap::new());
    });
}

#[test]
fn an_address_without_a_route_is_down() {
    let namespace = Namespace::new();
    namespace.run_async(|| async {
        let mut monitor = Watched::start(targets(&["10.20.0.11"]));
        assert_eq!(monitor.next().await, health(Status::Down, NONE));
        let error = monitor.error();
        assert!(error.starts_with("10.20.0.11: Network is unreachable"), "{error}");
        ip("address add 10.20.0.11/32 dev lo");
        assert_eq!(monitor.next().await, health(Status::Up, NONE));
    });
}

#[test]
fn each_family_is_for_itself() {
    let namespace = Namespace::new();
    namespace.run_async(|| async {
        answer(Family::V6, false);
        let mut monitor = Watched::start(targets(&["127.0.0.1", "::1"]));
        let impaired = health(Status::Up, Status::Down);
        until(&mut monitor, impaired).await;
        assert_eq!(monitor.error(), "::1: no reply within 700ms");
        answer(Family::V6, true);
        assert_eq!(monitor.next().await, AddressHealth::both(Status::Up));
        answer(Family::V4, false);
        assert_eq!(monitor.next().await, health(Status::Down, Status::Up));
    });
}

#[test]
fn what_was_known_holds_until_a_probe_says_otherwise() {
    let namespace = Namespace::new();
    namespace.run_async(|| async {
        answer(Family::V6, false);
        let known = AddressHealth::both(Status::Down);
        let mut monitor = Watched::knowing(targets(&["127.0.0.1", "::1"]), known);
        // IPv4 has come back; that IPv6 has not is still known, and needs no telling.
        assert_eq!(monitor.next().await, health(Status::Up, Status::Down));
        answer(Family::V6, true);
        assert_eq!(monitor.next().await, AddressHealth::both(Status::Up));
    });
}

#[test]
fn a_port_must_accept() {
    let namespace = Namespace::new();
    namespace.run_async(|| async {
        let open = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = open.local_addr().unwrap();
        let targets = targets_by(&["127.0.0.1", "::1"], Some(at.port()), tcp());
        let mut monitor = Watched::start(targets);
        until(&mut monitor, health(Status::Up, Status::Down)).await;
        let error = monitor.error();
        assert!(error.contains("]:") && error.contains("Connection refused"), "{error}");
        drop(open);
        assert_eq!(monitor.next().await, AddressHealth::both(Status::Down));
        let _open = TcpListener::bind(at).await.unwrap();
        assert_eq!(monitor.next().await, health(Status::Up, Status::Down));
    });
}

#[test]
fn a_target_that_changes_is_known_by_what_it_keeps() {
    let namespace = Namespace::new();
    namespace.run_async(|| async {
        answer(Family::V6, false);
        let mut monitor = Watched::start(targets(&["127.0.0.1", "::1"]));
        until(&mut monitor, health(Status::Up, Status::Down)).await;

        // Of another address nothing is known, until it is probed.
        monitor.monitor.set_targets(targets(&["10.20.0.11", "::1"]));
        assert_eq!(monitor.next().await, health(Status::Unknown, Status::Down));
        assert_eq!(monitor.next().await, AddressHealth::both(Status::Down));

        // Another way of probing says something when it has found something out.
        let open = TcpListener::bind("[::1]:0").await.unwrap();
        let port = open.local_addr().unwrap().port();
        monitor.monitor.set_targets(targets_by(&["10.20.0.11", "::1"], Some(port), tcp()));
        assert_eq!(monitor.next().await, health(Status::Down, Status::Up));

        // Who is not probed counts as up, and the past is forgotten.
        monitor.monitor.set_targets(targets_by(&["10.20.0.11", "::1"], None, Health::None));
        assert_eq!(monitor.next().await, AddressHealth::both(Status::Unknown));
        assert_eq!(monitor.monitor.errors(), BTreeMap::new());
    });
}

#[test]
fn nothing_is_said_of_a_backend_that_is_gone() {
    let namespace = Namespace::new();
    namespace.run_async(|| async {
        let mut monitor = Watched::start(targets(&["10.20.0.11"]));
        assert_eq!(monitor.next().await, health(Status::Down, NONE));
        monitor.monitor.set_targets(targets(&["10.20.0.12"]));
        let other = BackendId::new("pool", "wg-2");
        let mut both = targets(&["127.0.0.1"]);
        both = both.into_values().map(|target| (other.clone(), target)).collect();
        // The change of wg-1 was not told yet, and is not to be.
        monitor.monitor.set_targets(both);
        let changes = monitor.monitor.changed().await;
        assert_eq!(changes, ProbedView::from([(other, Probed::known(health(Status::Up, NONE)))]));
        assert_eq!(monitor.monitor.errors(), BTreeMap::new());
    });
}

/// Else it would count as failing among those of its pool, though it answers.
#[test]
fn a_failure_before_a_target_changed_is_taken_back_by_the_first_good_probe() {
    let namespace = Namespace::new();
    namespace.run_async(|| async {
        let open = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = open.local_addr().unwrap();
        let health = |max_down| {
            let timing = Timing { fall: 1_000_000, ..TIMING };
            let probe = Probe::Tcp(Port::default());
            let max_down = Share::percent(max_down).unwrap();
            Health::Probed(Box::new(Probing { probe, timing, max_down }))
        };
        let targets = |max_down| targets_by(&["127.0.0.1"], Some(at.port()), health(max_down));
        let mut monitor = Monitor::start(targets(75), &HealthView::new()).unwrap();
        let fails = async |monitor: &mut Monitor, yes| {
            while monitor.changed().await[&id()].fails(Family::V4) != yes {}
        };
        fails(&mut monitor, false).await;
        drop(open);
        fails(&mut monitor, true).await;
        let _open = std::net::TcpListener::bind(at).unwrap();
        // Nothing runs between these: the task of before has not probed again.
        monitor.set_targets(targets(50));
        let told = tokio::time::timeout(Duration::from_secs(20), fails(&mut monitor, false));
        told.await.expect("it is told that it answers again");
    });
}
