//! OpenVPN.

use lab::layout::plan::Family;
use lab::peer::{Client, OvpnClient, OvpnPool};
use lab::traffic::Sequence;

use crate::common::{SOON, assert_gone, lab};

#[test]
fn openvpn_clients_roam_in_both_families() {
    let (_place, lab) = lab();
    let mut pool = OvpnPool::start(&lab, "direct", 2).unwrap();
    let mut pids: Vec<u32> = pool.servers().iter().map(|server| server.pid()).collect();
    for (index, family) in [Family::V4, Family::V6].into_iter().enumerate() {
        let host = lab.host().unwrap();
        let station = pool.site().stations()[index].clone();
        let endpoint = (station.address(family), pool.site().direct(family).port()).into();
        let mut client = OvpnClient::dial(&lab, &host, &mut pool, endpoint).unwrap();
        pids.push(client.pid());
        assert_eq!(client.reach(SOON).unwrap(), station.number());

        let sequence = Sequence::start(&client.target().unwrap(), 100, 64).unwrap();
        sequence.wait_for(20, SOON).unwrap();
        let before = host.address(family);
        sequence.between(|| client.roam(&host)).unwrap();
        assert_ne!(host.address(family), before);
        sequence.wait_for(50, SOON).unwrap();
        let tally = sequence.stop();
        assert!(tally.lost <= 10, "{family:?}: {tally:?}");
        assert_eq!(client.connections(), 1);

        let server = pool.server(station.number());
        let sessions = server.sessions().unwrap();
        let seen = sessions.iter().find(|session| session.client == client.name()).unwrap();
        assert_eq!(seen.address, host.address(family));
        assert!(seen.port.is_none_or(|port| port == client.port()), "{seen:?}");
        // Every server counts from 0.
        assert_eq!(seen.peer_id, 0);
        assert_eq!(server.strangers(), Vec::<String>::new());
    }
    let id = lab.id().to_owned();
    drop((pool, lab));
    assert_gone(&id, &pids[..2]);
}
