//! QUIC: connections whose clients' addresses change: those that do not notice, and those that migrate.

use std::time::Duration;

use lab::gateway::{Config, Gateway};
use lab::layout::plan::Family;
use lab::peer::{Client, QuicClient, QuicIds, QuicPool};
use lab::scenario::{migrate, roam_client};
use lab::traffic::Sequence;
use lab::{Lab, Options, gate};

use crate::common::{PLENTY, holds};

/// How long anything may take on a busy machine.
const SOON: Duration = Duration::from_secs(30);

#[test]
fn a_connection_survives_its_nats_forgetting_again_and_again() {
    let _place = gate::enter().unwrap();
    let lab = Lab::new(Options::default()).unwrap();
    let pool = QuicPool::start(&lab, "umwelt", 3, QuicIds::Random).unwrap();
    let gateway = Gateway::start(&lab, &Config::new(&lab).with_site(pool.site(), PLENTY)).unwrap();
    gateway.await_backends(SOON).unwrap();
    for family in [Family::V4, Family::V6] {
        let host = lab.host().unwrap();
        let mut client = QuicClient::start(&lab, &host, &pool, family).unwrap();
        let answered_by = client.reach(SOON).unwrap();
        let place = |client: &QuicClient| (host.address(family), client.port()).into();
        let session = gateway.await_session(place(&client), SOON).unwrap();
        assert_eq!(session.concentrator(), answered_by);
        // A server that sees another address takes another of the client's ids, which nobody else knows.
        let before = gateway.counters().unwrap();
        let pings = Sequence::pings(&client.target().unwrap()).unwrap();
        for moves in 1..=3 {
            pings.wait_for(20, SOON).unwrap();
            pings.between(|| client.roam(&host)).unwrap();
            let moved = gateway.await_session(place(&client), SOON).unwrap();
            assert_eq!((&moved.id, moved.moves), (&session.id, moves));
        }
        pings.wait_for(60, SOON).unwrap();
        let tally = pings.stop();
        let counters = gateway.counters().unwrap().since(&before);
        println!("{family:?}: {tally:?}, {counters:?}");
        assert!(tally.lost <= 6, "{tally:?}");
        assert_eq!(tally.only_answerer(), Some(answered_by));
        assert!(counters.get("in_by_id") > 0, "{counters:?}");
        assert_eq!((client.connections(), client.breaks()), (1, Vec::new()));
    }
}

/// A gateway before three servers that name themselves in their connection ids.
fn numbered() -> (Lab, QuicPool, Config, Gateway) {
    let lab = Lab::new(Options::default()).unwrap();
    let pool = QuicPool::start(&lab, "umwelt", 3, QuicIds::Numbered).unwrap();
    let config = Config::new(&lab).with_site(pool.site(), PLENTY).with_numbered_servers();
    let gateway = Gateway::start(&lab, &config).unwrap();
    gateway.await_backends(SOON).unwrap();
    (lab, pool, config, gateway)
}

#[test]
fn a_connection_survives_its_own_migration_and_its_nats_forgetting() {
    let _place = gate::enter().unwrap();
    let (lab, pool, _, mut gateway) = numbered();
    for family in [Family::V4, Family::V6] {
        let host = lab.host().unwrap();
        let mut client = QuicClient::start(&lab, &host, &pool, family).unwrap();
        // With ids that name their servers, too, a session follows a client that does not notice.
        holds(&roam_client(&gateway, "the client", &host, family, &mut client).unwrap());
        let migrated = migrate(&mut gateway, &host, family, &mut client, |_| Ok(())).unwrap();
        holds(&migrated);
        assert!(migrated.pings.lost <= 6, "{:?}", migrated.pings);
    }
}

/// Tables that are lost are no loss: the connection goes on, and then migrates.
#[test]
fn a_connection_survives_a_gateway_that_lost_its_tables() {
    let _place = gate::enter().unwrap();
    let (lab, pool, config, mut gateway) = numbered();
    let host = lab.host().unwrap();
    let mut client = QuicClient::start(&lab, &host, &pool, Family::V4).unwrap();
    let migrated = migrate(&mut gateway, &host, Family::V4, &mut client, |gateway| {
        gateway.terminate()?;
        gateway.act(&["unload", "--bpffs", &config.gateway.bpffs])?;
        gateway.run()?;
        assert_eq!(gateway.sessions()?, Vec::new());
        Ok(())
    });
    holds(&migrated.unwrap());
}
