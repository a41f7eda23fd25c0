//! The kernel's own WireGuard, as concentrators and as clients.

use std::time::Duration;

use lab::layout::plan::Family;
use lab::peer::Implementation::{Boringtun, Kernel, WireguardGo};
use lab::scenario::{
    FarmPlan, PoolPlan, address_reused, drain, idle_clients, restart, roam, two_behind_one_address,
};

use crate::common::{PLENTY, holds, join, start};

const POOLS: [PoolPlan<'_>; 1] =
    [PoolPlan { name: "justiz", concentrators: &[Kernel; 3], max_sessions: PLENTY }];

#[test]
fn clients_of_kernel_concentrators_roam_and_outlast_a_drain_and_a_restart() {
    let (_place, mut farm) = start(&FarmPlan::new(&POOLS));
    join(&mut farm, &[WireguardGo, Boringtun, Kernel]);
    for member in 0..6 {
        let roamed = roam(&mut farm, member).unwrap();
        holds(&roamed);
        assert_eq!((roamed.pings.lost, roamed.moves()), (0, 1));
    }
    holds(&drain(&mut farm, 0, Kernel, 2).unwrap());
    holds(&restart(&mut farm, 4, Some(5), Duration::from_secs(10)).unwrap());
}

#[test]
fn silent_kernel_clients_keep_their_concentrators() {
    let (_place, mut farm) = start(&FarmPlan::new(&POOLS));
    holds(&idle_clients(&mut farm, 0, Kernel, 4).unwrap());
}

#[test]
fn a_kernel_client_shakes_hands_again_and_keeps_its_session() {
    let (_place, mut farm) = start(&FarmPlan::new(&POOLS));
    let member = farm.join(0, Kernel, Family::V4).unwrap();
    let number = farm.reach(member).unwrap();
    let before = farm.session(member).unwrap();
    farm.members()[member].client().rehandshake().unwrap();
    assert_eq!(farm.reach(member).unwrap(), number);
    let after = farm.session(member).unwrap();
    assert_eq!((after.id, after.moves), (before.id, before.moves));
    holds(&roam(&mut farm, member).unwrap());
}

#[test]
fn kernel_clients_behind_one_address_or_at_anothers_mislead_nobody() {
    let (_place, mut farm) = start(&FarmPlan::new(&POOLS));
    holds(&two_behind_one_address(&mut farm, 0, Kernel).unwrap());
    holds(&address_reused(&mut farm, 0, Kernel).unwrap());
}
