//! ocserv and openconnect.

use lab::layout::plan::Family;
use lab::net::Capture;
use lab::peer::{Client, OcClient, OcPool};
use lab::traffic::Sequence;
use lab::wait::until;

use crate::common::{SOON, assert_gone, lab};

#[test]
fn openconnect_uses_tls_and_dtls_and_reconnects() {
    let (_place, lab) = lab();
    let mut pool = OcPool::start(&lab, "direct", 2).unwrap();
    let mut pids: Vec<u32> = pool.servers().iter().map(|server| server.pid()).collect();
    // Clients of both servers behind one address.
    let host = lab.host().unwrap();
    let mut clients = Vec::new();
    for (index, family) in [(0, Family::V4), (1, Family::V4), (0, Family::V6)] {
        let station = pool.site().stations()[index].clone();
        let endpoint = (station.address(family), pool.site().direct(family).port()).into();
        let client = OcClient::dial(&lab, &host, &mut pool, endpoint).unwrap();
        pids.push(client.pid());
        clients.push((client, index, family));
    }
    for (client, index, family) in &clients {
        let server = &pool.servers()[*index];
        assert_eq!(client.reach(SOON).unwrap(), server.number());
        client.dtls_connected(SOON).unwrap();
        // The server tells of it later than the client.
        let mut sessions = Vec::new();
        let seen = until("DTLS at the server", SOON, || {
            sessions = server.sessions()?;
            let own = sessions.iter().find(|session| session.client == client.name());
            let expected = (host.address(*family), true);
            Ok(own.is_some_and(|own| (own.address, own.dtls) == expected).then_some(()))
        });
        assert!(seen.is_ok(), "{}: {sessions:?}", client.name());
    }
    assert_eq!(pool.servers()[0].sessions().unwrap().len(), 2);

    let (client, index, family) = &mut clients[0];
    let server = &pool.servers()[*index];
    let capture = Capture::start(server.station().ns()).unwrap();
    let sequence = Sequence::start(&client.target().unwrap(), 100, 64).unwrap();
    sequence.wait_for(20, SOON).unwrap();
    let from = (host.address(*family), client.port()).into();
    let by_dtls = capture.count(|packet| packet.source == from).unwrap();
    assert!(by_dtls >= 20, "{by_dtls} packets by DTLS");

    client.roam(&host).unwrap();
    until("both connections after a change of address", SOON, || {
        let made = [client.tls_connections(), client.dtls_connections()];
        Ok((made >= [2, 2]).then_some(()))
    })
    .unwrap();
    sequence.wait_for(20, SOON).unwrap();
    let tally = sequence.stop();
    println!("{tally:?}");
    assert_eq!(tally.only_answerer(), Some(server.number()));
    let mut sessions = Vec::new();
    let seen = until("the new address at the server", SOON, || {
        sessions = server.sessions()?;
        let mut own = sessions.iter().filter(|s| s.client == client.name());
        Ok(own.any(|s| s.address == host.address(*family) && s.dtls).then_some(()))
    });
    assert!(seen.is_ok(), "{}: {sessions:?}", client.name());

    let id = lab.id().to_owned();
    drop((clients, pool, lab));
    assert_gone(&id, &pids);
}
