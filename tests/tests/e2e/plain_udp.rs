//! Services of other protocols as plain UDP: their sessions are known by their flows.

use std::time::Duration;

use lab::gateway::{Config, Gateway};
use lab::layout::plan::Family;
use lab::peer::{Client, IkeClient, IkePool, OvpnClient, OvpnPool, QuicClient, QuicIds, QuicPool};
use lab::{Lab, Options, gate};

use crate::common::PLENTY;

/// How long anything may take on a busy machine.
const SOON: Duration = Duration::from_secs(30);

#[test]
fn what_a_session_says_is_where_its_answers_come_from() {
    let _place = gate::enter().unwrap();
    let lab = Lab::new(Options::default()).unwrap();
    // MOBIKE would go around the gateway.
    lab.hide_inside().unwrap();
    let mut ovpn = OvpnPool::start(&lab, "justiz", 2).unwrap();
    let mut ike = IkePool::start(&lab, "finanz", 2).unwrap();
    let quic = QuicPool::start(&lab, "umwelt", 2, QuicIds::Random).unwrap();
    let mut config = Config::new(&lab);
    for site in [ovpn.site(), ike.site(), quic.site()] {
        config = config.with_site(site, PLENTY);
    }
    for service in &mut config.service {
        service.profile = "udp";
    }
    let gateway = Gateway::start(&lab, &config).unwrap();
    for family in [Family::V4, Family::V6] {
        let host = lab.host().unwrap();
        let clients: [Box<dyn Client>; 3] = [
            Box::new(OvpnClient::start(&lab, &host, &mut ovpn, family).unwrap()),
            Box::new(IkeClient::start(&lab, &host, &mut ike, family).unwrap()),
            Box::new(QuicClient::start(&lab, &host, &quic, family).unwrap()),
        ];
        for client in clients {
            let answered_by = client.reach(SOON).unwrap();
            let place = (host.address(family), client.port()).into();
            let session = gateway.await_session(place, SOON).unwrap();
            assert_eq!(session.concentrator(), answered_by, "{session:?}");
        }
    }
    for server in ovpn.servers() {
        assert_eq!(server.strangers(), Vec::<String>::new());
    }
}
