//! The kernel's ESP, which is a protocol of its own where there is no NAT: concentrators have the VIP, and answer by themselves.

use std::time::Duration;

use lab::gateway::{Agent, Config, Gateway};
use lab::peer::{Client as _, Esp, IkeClient, IkePool};
use lab::traffic::Sequence;
use lab::{Lab, Options, gate};

use crate::common::FAMILIES;

/// How long anything may take on a busy machine.
const SOON: Duration = Duration::from_secs(60);

#[test]
fn clients_whose_esp_is_not_in_udp_stay_on_their_concentrator_and_roam_by_mobike() {
    let _place = gate::enter().unwrap();
    let lab = Lab::new(Options::default()).unwrap();
    let mut pool = IkePool::with(&lab, "justiz", 2, Esp::Kernel).unwrap();
    lab.let_answer(pool.site()).unwrap();
    let config = Config::new(&lab).with_site(pool.site(), 1000);
    let gateway = Gateway::start(&lab, &config.answered_directly(None).with_agents()).unwrap();
    gateway.await_backends(SOON).unwrap();
    let stations = pool.site().stations().iter();
    let mut agents: Vec<_> = stations.map(|s| Agent::start(&lab, &gateway, s).unwrap()).collect();
    for family in FAMILIES {
        let host = lab.host().unwrap();
        let mut client = IkeClient::start(&lab, &host, &mut pool, family).unwrap();
        let on = client.reach(SOON).unwrap_or_else(|e| panic!("{e}\n{}", client.log()));
        let associations = pool.server(on).station().ns().run("ip", &["xfrm", "state"]).unwrap();
        assert!(associations.contains("proto esp"), "{associations}");
        assert!(!associations.contains("espinudp"), "{associations}");

        let before = gateway.counters().unwrap();
        let traffic = Sequence::pings(&client.target().unwrap()).unwrap();
        traffic.wait_for(40, SOON).unwrap();
        traffic.between(|| client.roam(&host)).unwrap();
        traffic.wait_for(80, SOON).unwrap();
        let tally = traffic.stop();
        let counters = gateway.counters().unwrap().since(&before);
        println!("{family:?}: {tally:?}\n{counters:?}");
        assert!(tally.lost <= client.most_lost(), "{tally:?}\n{}", client.log());
        assert_eq!(tally.answered_by.keys().collect::<Vec<_>>(), [&on]);
        assert_eq!(client.authentications(), 1, "{}", client.log());
        assert!(counters.get("in_direct") >= tally.sent - tally.lost, "{counters:?}");
    }

    // Before Linux 6.6 what an agent put on the interface is still there when it has ended.
    let station = &pool.site().stations()[0];
    let filters = || {
        let shown = station.ns().run("tc", &["filter", "show", "dev", "eth0", "egress"]).unwrap();
        shown.matches(" handle ").count()
    };
    let mut agent = agents.remove(0);
    for _ in 0..3 {
        agent.kill();
        agent = Agent::start(&lab, &gateway, station).unwrap();
        assert!(filters() <= 1, "{} filters", filters());
    }
    agent.terminate().unwrap();
    assert_eq!(filters(), 0);
}
