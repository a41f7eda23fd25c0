//! TCP.

use std::time::Duration;

use lab::layout::plan::Family;
use lab::peer::{Client, TcpClient, TcpLoad, TcpPool};
use lab::traffic::{Sequence, SynFlood};
use lab::wait::until;

use crate::common::{SOON, lab};

#[test]
fn tcp_clients_count_what_becomes_of_their_connections() {
    let (_place, lab) = lab();
    let mut pool = TcpPool::start(&lab, "direct", 2).unwrap();
    let host = lab.host().unwrap();
    let to = pool.site().direct(Family::V4);

    // Some stand for a long time, while many come and go, and more are asked for by nobody.
    let standing = TcpLoad {
        connections: 200,
        concurrent: 200,
        requests: u32::MAX,
        bytes: 200,
        pause: Duration::from_millis(200),
    };
    let standing = standing.start(host.ns(), to).unwrap();
    standing.wait_for_open(200, SOON).unwrap();
    let passing = TcpLoad {
        connections: 2000,
        concurrent: 100,
        requests: 2,
        bytes: 3000,
        pause: Duration::ZERO,
    };
    let other = lab.host().unwrap();
    let passing = passing.start(other.ns(), pool.site().direct(Family::V6)).unwrap();
    SynFlood { count: 2000, rate: 10_000 }.run(lab.inet(), to).unwrap();
    let passed = passing.finish().unwrap();
    println!("{passed:?}");
    let number = pool.servers()[0].number();
    assert_eq!((passed.completed, passed.broken()), (2000, 0), "{passed:?}");
    assert_eq!(passed.answered_by, [(number, 2000)].into());
    assert_eq!(passed.bytes, 2000 * 2 * 3000);
    let stood = standing.stop().unwrap();
    assert_eq!((stood.completed, stood.broken()), (200, 0), "{stood:?}");
    assert!(pool.servers()[0].accepted() >= 2200);

    // A port that nobody listens on, and a server that dies.
    let one = TcpLoad { connections: 1, concurrent: 1, requests: 1, bytes: 1, pause: SOON };
    let refused = one.run(host.ns(), (to.ip(), 9).into()).unwrap();
    assert_eq!((refused.refused, refused.completed), (1, 0));
    pool.server(number).die().unwrap();
    let client = TcpClient::dial(&lab, &host, to).unwrap();
    client.connected(Duration::from_millis(100)).unwrap_err();
}

#[test]
fn a_tcp_client_makes_another_connection_when_it_roams() {
    let (_place, lab) = lab();
    let pool = TcpPool::start(&lab, "direct", 1).unwrap();
    for family in [Family::V4, Family::V6] {
        let host = lab.host().unwrap();
        let mut client = TcpClient::dial(&lab, &host, pool.site().direct(family)).unwrap();
        assert_eq!(client.reach(SOON).unwrap(), pool.servers()[0].number());
        let sequence = Sequence::start(&client.target().unwrap(), 100, 64).unwrap();
        sequence.wait_for(20, SOON).unwrap();
        let before = client.port();
        sequence.between(|| client.roam(&host)).unwrap();
        until("another connection", SOON, || Ok((client.connections() == 2).then_some(())))
            .unwrap();
        assert_ne!(client.port(), before);
        sequence.wait_for(20, SOON).unwrap();
        let tally = sequence.stop();
        assert_eq!((tally.lost, tally.duplicated), (0, 0), "{tally:?}");
        assert_eq!(client.breaks(), Vec::<String>::new());
    }
}
