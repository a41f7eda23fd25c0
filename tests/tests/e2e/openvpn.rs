//! OpenVPN: clients that float, and peer-ids that every server counts from 0.

use std::time::Duration;

use lab::gateway::{Config, Gateway};
use lab::layout::Host;
use lab::layout::plan::Family;
use lab::peer::{Client, OvpnClient, OvpnPool};
use lab::scenario::roam_client;
use lab::wait::until;
use lab::{Lab, Options, gate};

use crate::common::{PLENTY, holds};

/// How long anything may take on a busy machine.
const SOON: Duration = Duration::from_secs(30);

/// Servers of one pool behind a gateway.
fn start(machines: usize) -> (Lab, OvpnPool, Gateway) {
    let lab = Lab::new(Options::default()).unwrap();
    let pool = OvpnPool::start(&lab, "justiz", machines).unwrap();
    let config = Config::new(&lab).with_site(pool.site(), PLENTY);
    let gateway = Gateway::start(&lab, &config).unwrap();
    gateway.await_backends(SOON).unwrap();
    (lab, pool, gateway)
}

/// A client, and who answers it.
fn join(lab: &Lab, pool: &mut OvpnPool, family: Family) -> (Host, OvpnClient, u8) {
    let host = lab.host().unwrap();
    let client = OvpnClient::start(lab, &host, pool, family).unwrap();
    let answered_by = client.reach(SOON).unwrap();
    (host, client, answered_by)
}

#[test]
fn a_client_floats_again_and_again() {
    let _place = gate::enter().unwrap();
    let (lab, mut pool, gateway) = start(2);
    for family in [Family::V4, Family::V6] {
        let (host, mut client, _) = join(&lab, &mut pool, family);
        let name = client.name().to_owned();
        // Two uplinks, of which one address may hash to the same server.
        for moves in 1..=3 {
            let roamed = roam_client(&gateway, &name, &host, family, &mut client).unwrap();
            holds(&roamed);
            assert_eq!(roamed.after.moves, moves);
        }
        assert_eq!(client.connections(), 1, "it had to connect again");
    }
    for server in pool.servers() {
        assert_eq!(server.strangers(), Vec::<String>::new());
    }
}

#[test]
fn clients_with_the_same_id_keep_their_servers() {
    let _place = gate::enter().unwrap();
    let (lab, mut pool, gateway) = start(2);
    let first = join(&lab, &mut pool, Family::V4);
    let backend = gateway.await_session((first.0.address(Family::V4), first.1.port()).into(), SOON);
    let backend = backend.unwrap().backend;
    gateway.act(&["backend", "drain", &backend]).unwrap();
    let second = join(&lab, &mut pool, Family::V4);
    gateway.act(&["backend", "undrain", &backend]).unwrap();
    assert_ne!(first.2, second.2, "{backend} was draining");
    for server in pool.servers() {
        let ids: Vec<_> = server.sessions().unwrap().iter().map(|s| s.peer_id).collect();
        assert_eq!(ids, [0]);
    }
    // The one says more than the other, as people do: their packet counters are apart.
    let traffic = lab::traffic::Sequence::start(&first.1.target().unwrap(), 500, 64).unwrap();
    traffic.wait_for(1000, SOON).unwrap();
    assert_eq!(traffic.stop().lost, 0);
    for (host, mut client, answered_by) in [first, second] {
        let name = client.name().to_owned();
        let roamed = roam_client(&gateway, &name, &host, Family::V4, &mut client).unwrap();
        holds(&roamed);
        assert_eq!(roamed.after.concentrator(), answered_by);
        assert_eq!(client.connections(), 1, "it had to connect again");
    }
    for server in pool.servers() {
        assert_eq!(server.strangers(), Vec::<String>::new());
    }
    assert!(gateway.counters().unwrap().get("id_collision") > 0);
}

#[test]
fn the_id_of_a_client_that_left_is_the_next_clients() {
    let _place = gate::enter().unwrap();
    let (lab, mut pool, gateway) = start(1);
    let (host, client, _) = join(&lab, &mut pool, Family::V4);
    let gone = gateway.await_session((host.address(Family::V4), client.port()).into(), SOON);
    let gone = gone.unwrap();
    drop(client);
    until("the server giving up its client", SOON, || {
        Ok(pool.servers()[0].sessions()?.is_empty().then_some(()))
    })
    .unwrap();
    let (host, mut client, _) = join(&lab, &mut pool, Family::V4);
    let sessions = pool.servers()[0].sessions().unwrap();
    assert_eq!(sessions.iter().map(|s| s.peer_id).collect::<Vec<_>>(), [0]);
    let name = client.name().to_owned();
    let roamed = roam_client(&gateway, &name, &host, Family::V4, &mut client).unwrap();
    holds(&roamed);
    assert_ne!(roamed.before.id, gone.id);
    assert_eq!(roamed.before.moves, 0);
    let counters = gateway.counters().unwrap();
    assert_eq!((counters.get("session_opened"), counters.get("session_moved")), (2, 1));
}
