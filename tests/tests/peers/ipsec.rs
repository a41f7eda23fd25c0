//! IPsec.

use std::net::SocketAddr;

use lab::layout::plan::Family;
use lab::peer::{Client, IkeClient, IkePool};
use lab::traffic::Sequence;
use lab::wait::until;

use crate::common::{SOON, assert_gone, lab};

#[test]
fn ipsec_clients_roam_in_both_families() {
    let (_place, lab) = lab();
    let mut pool = IkePool::start(&lab, "direct", 1).unwrap();
    let number = pool.servers()[0].number();
    let mut pids = vec![pool.servers()[0].pid()];
    // Two on one host, one after the other: the second finds everything taken but its ports.
    let host = lab.host().unwrap();
    for family in [Family::V4, Family::V6] {
        let endpoint = pool.site().direct(family).ip();
        let mut client = IkeClient::dial(&lab, &host, &mut pool, endpoint).unwrap();
        pids.push(client.pid());
        assert_eq!(client.reach(SOON).unwrap(), number);

        let sequence = Sequence::start(&client.target().unwrap(), 100, 64).unwrap();
        sequence.wait_for(20, SOON).unwrap();
        let before = host.address(family);
        sequence.between(|| client.roam(&host)).unwrap();
        assert_ne!(host.address(family), before);
        sequence.wait_for(50, SOON).unwrap();
        let tally = sequence.stop();
        assert_eq!(tally.only_answerer(), Some(number));
        assert_eq!(client.authentications(), 1, "{}", client.log());
        println!("{family:?}: {tally:?}");

        // MOBIKE tries all addresses that both have told each other, of both families.
        let expected = [Family::V4, Family::V6].map(|family| host.address(family));
        let mut seen = None;
        until("the new address at the concentrator", SOON, || {
            let sessions = pool.servers()[0].sessions()?;
            seen = sessions.into_iter().find(|session| session.client == client.name());
            let address = seen.as_ref().map(|session| session.address);
            let is_new = |at: SocketAddr| expected.contains(&at.ip()) && at.port() == client.port();
            Ok(address.is_some_and(is_new).then_some(()))
        })
        .unwrap_or_else(|e| panic!("{e}: {seen:?} instead of {expected:?}\n{}", client.log()));
    }
    let id = lab.id().to_owned();
    drop((pool, lab));
    assert_gone(&id, &pids);
}
