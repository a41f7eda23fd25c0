//! Sessions open, for both implementations and families, two-armed and one-armed.

use std::time::Duration;

use lab::layout::plan::Family;
use lab::peer::Implementation::{Boringtun, WireguardGo};
use lab::scenario::{Claim, FarmPlan, PoolPlan, roam, sessions_open};

use crate::common::{MIXED, PLENTY, farm, holds, one_pool, start};

#[test]
fn sessions_open_for_both_implementations_and_families() {
    let pools = [
        PoolPlan {
            name: "justiz",
            concentrators: &[WireguardGo, WireguardGo],
            max_sessions: PLENTY,
        },
        PoolPlan { name: "finanz", concentrators: &[Boringtun, Boringtun], max_sessions: PLENTY },
    ];
    let (_place, mut farm) = start(&FarmPlan::new(&pools));
    for pool in 0..pools.len() {
        for implementation in [WireguardGo, Boringtun] {
            for family in [Family::V4, Family::V6] {
                farm.join(pool, implementation, family).unwrap();
            }
        }
    }
    holds(&sessions_open(&farm).unwrap());
    for member in 0..farm.members().len() {
        holds(&roam(&mut farm, member).unwrap());
    }
}

#[test]
fn a_one_armed_gateway_works_the_same() {
    let pools = [one_pool(PLENTY)];
    let (_place, mut farm) = start(&FarmPlan { one_armed: true, ..FarmPlan::new(&pools) });
    for (implementation, family) in MIXED.into_iter().zip([Family::V4, Family::V6, Family::V4]) {
        farm.join(0, implementation, family).unwrap();
    }
    holds(&sessions_open(&farm).unwrap());
    holds(&roam(&mut farm, 0).unwrap());
    holds(&roam(&mut farm, 1).unwrap());
}

#[test]
fn a_client_shakes_hands_again_and_keeps_its_session() {
    let (_place, mut farm) = farm();
    for implementation in [WireguardGo, Boringtun] {
        let member = farm.join(0, implementation, Family::V4).unwrap();
        let number = farm.reach(member).unwrap();
        let before = farm.session(member).unwrap();
        farm.members()[member].client().rehandshake().unwrap();
        assert_eq!(farm.reach(member).unwrap(), number);
        let after = farm.session(member).unwrap();
        assert_eq!((after.id, after.moves), (before.id, before.moves));
        // The new ids are known too: they carry it to another address.
        holds(&roam(&mut farm, member).unwrap());
    }
}

#[test]
fn what_is_counted_is_what_was_sent() {
    let (_place, mut farm) = farm();
    let member = farm.join(0, WireguardGo, Family::V4).unwrap();
    farm.reach(member).unwrap();
    let before = farm.session(member).unwrap();
    let counters = farm.gateway().counters().unwrap();
    let traffic = farm.traffic(member, 500).unwrap();
    traffic.wait_for(1000, Duration::from_secs(20)).unwrap();
    let tally = traffic.stop();
    let after = farm.session(member).unwrap();
    let counted = farm.gateway().counters().unwrap().since(&counters);
    assert_eq!(tally.lost, 0, "{tally:?}");
    // WireGuard adds a keepalive or a handshake of its own now and then.
    let own = 20;
    for (what, packets) in [
        ("the session's inbound", after.rx_packets - before.rx_packets),
        ("the session's outbound", after.tx_packets - before.tx_packets),
        ("established inbound", counted.get("in_established")),
        ("established outbound", counted.get("out_established")),
    ] {
        assert!(
            (tally.sent..=tally.sent + own).contains(&packets),
            "{what}: {packets} for {tally:?}"
        );
    }
    // 64 bytes in IPv4 and UDP, padded, in WireGuard, in UDP and IPv4: 16 * 6 + 32 + 28.
    let bytes = after.rx_bytes - before.rx_bytes;
    assert!(
        (tally.sent * 156..=(tally.sent + own) * 176).contains(&bytes),
        "{bytes} bytes for {tally:?}"
    );
    let opened = sessions_open(&farm).unwrap();
    assert_eq!(opened.failures(), Vec::<String>::new());
}
