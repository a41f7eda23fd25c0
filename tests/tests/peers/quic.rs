//! QUIC.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use lab::layout::plan::Family;
use lab::net::Capture;
use lab::peer::{Client, QuicClient, QuicIds, QuicPool};
use lab::traffic::Sequence;
use lab::wait::until;

use crate::common::{SOON, lab};

#[test]
fn quic_connections_survive_rebinding_and_migration() {
    let (_place, lab) = lab();
    let pool = QuicPool::start(&lab, "direct", 1, QuicIds::Numbered).unwrap();
    let server = &pool.servers()[0];
    for family in [Family::V4, Family::V6] {
        let host = lab.host().unwrap();
        let endpoint = pool.site().direct(family);
        let capture = Capture::start(server.station().ns()).unwrap();
        let mut client = QuicClient::dial(&lab, &host, &pool, endpoint).unwrap();
        assert_eq!(client.reach(SOON).unwrap(), server.number());
        let sequence = Sequence::start(&client.target().unwrap(), 100, 64).unwrap();
        for migrates in [false, true] {
            sequence.wait_for(20, SOON).unwrap();
            let before = host.address(family);
            sequence
                .between(|| {
                    client.roam(&host)?;
                    if migrates { client.migrate(&host) } else { Ok(()) }
                })
                .unwrap();
            assert_ne!(host.address(family), before);
            sequence.wait_for(50, SOON).unwrap();
            let now = (host.address(family), client.port()).into();
            until("the new address at the server", SOON, || {
                Ok(server.clients().contains(&now).then_some(()))
            })
            .unwrap();
        }
        let tally = sequence.stop();
        println!("{family:?}: {tally:?}");
        assert!(tally.lost <= 20, "{family:?}: {tally:?}");
        assert_eq!(tally.only_answerer(), Some(server.number()));
        assert_eq!((client.connections(), client.breaks()), (1, Vec::new()));

        // Short headers (the bit below may be either, RFC 9287): who moves unnoticed keeps the id
        // it has, who migrates takes another; both have the number of the server.
        let mut ids = BTreeMap::<u16, BTreeSet<Vec<u8>>>::new();
        capture
            .count(|packet| {
                if packet.destination == endpoint && packet.payload[0] & 0x80 == 0 {
                    let of_port = ids.entry(packet.source.port()).or_default();
                    of_port.insert(packet.payload[1..9].to_vec());
                }
                true
            })
            .unwrap();
        let all: Vec<&Vec<u8>> = ids.values().flatten().collect();
        assert!(all.iter().all(|id| id[..3] == [7, 0, server.number()]), "{all:?}");
        assert_eq!((ids.len(), all.len()), (2, 2), "{ids:?}");
        assert_ne!(all[0], all[1]);
    }
}

#[test]
fn a_quic_client_says_why_its_connection_broke() {
    let (_place, lab) = lab();
    let mut pool = QuicPool::start(&lab, "direct", 1, QuicIds::Random).unwrap();
    let host = lab.host().unwrap();
    let endpoint = pool.site().direct(Family::V4);
    let client = QuicClient::dial(&lab, &host, &pool, endpoint).unwrap();
    client.reach(SOON).unwrap();
    let number = pool.servers()[0].number();
    pool.server(number).die().unwrap();
    let why = until("the end of the connection", Duration::from_secs(60), || {
        Ok(client.breaks().into_iter().next())
    })
    .unwrap();
    assert_eq!(why, "timed out");
}
