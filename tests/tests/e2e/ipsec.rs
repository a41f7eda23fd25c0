//! IPsec: strongSwan clients that roam by MOBIKE, on the two ports of one service.

use std::time::Duration;

use lab::gateway::{Config, Gateway};
use lab::layout::Host;
use lab::layout::plan::Family;
use lab::peer::{Client, IkeClient, IkePool};
use lab::scenario::roam_client;
use lab::{Lab, Options, gate};

use crate::common::{PLENTY, holds};

/// How long anything may take on a busy machine.
const SOON: Duration = Duration::from_secs(30);

/// Two concentrators behind a gateway. MOBIKE would tell the clients their inner addresses, which they
/// must not reach by another way.
fn start() -> (Lab, IkePool, Gateway) {
    let lab = Lab::new(Options::default()).unwrap();
    let pool = IkePool::start(&lab, "justiz", 2).unwrap();
    let config = Config::new(&lab).with_site(pool.site(), PLENTY);
    let gateway = Gateway::start(&lab, &config).unwrap();
    lab.hide_inside().unwrap();
    gateway.await_backends(SOON).unwrap();
    (lab, pool, gateway)
}

/// A client, and who answers it.
fn join(lab: &Lab, pool: &mut IkePool, family: Family) -> (Host, IkeClient, u8) {
    let host = lab.host().unwrap();
    let client = IkeClient::start(lab, &host, pool, family).unwrap();
    let answered_by = client.reach(SOON).unwrap_or_else(|e| panic!("{e}\n{}", client.log()));
    (host, client, answered_by)
}

#[test]
fn a_client_roams_again_and_again() {
    let _place = gate::enter().unwrap();
    let (lab, mut pool, gateway) = start();
    for family in [Family::V4, Family::V6] {
        let (host, mut client, answered_by) = join(&lab, &mut pool, family);
        let name = client.name().to_owned();
        // Two uplinks, of which one address may hash to the same concentrator.
        for moves in 1..=3 {
            let roamed = roam_client(&gateway, &name, &host, family, &mut client).unwrap();
            holds(&roamed);
            assert_eq!(roamed.after.moves, moves);
            assert_eq!(roamed.after.concentrator(), answered_by);
        }
        assert_eq!(client.authentications(), 1, "{}", client.log());
    }
    let sessions: usize = pool.servers().iter().map(|s| s.sessions().unwrap().len()).sum();
    assert_eq!(sessions, 2);
}
