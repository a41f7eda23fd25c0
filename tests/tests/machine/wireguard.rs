//! The kernel's own WireGuard, as concentrators and as clients.

use lab::layout::plan::Family;
use lab::peer::Implementation::{Boringtun, Kernel, WireguardGo};
use lab::scenario::{
    FarmPlan, PoolPlan, address_reused, drain, idle_clients, roam, two_behind_one_address,
};

use crate::common::{PLENTY, holds, join, outlast_a_kill, start};

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
    outlast_a_kill(&mut farm, 4, 5);
}

#[test]
fn silent_kernel_clients_and_those_that_share_an_address_keep_their_concentrators() {
    let (_place, mut farm) = start(&FarmPlan::new(&POOLS));
    holds(&idle_clients(&mut farm, 0, Kernel, 4).unwrap());
    holds(&two_behind_one_address(&mut farm, 0, Kernel).unwrap());
    holds(&address_reused(&mut farm, 0, Kernel).unwrap());

    let member = farm.join(0, Kernel, Family::V4).unwrap();
    let number = farm.reach(member).unwrap();
    let before = farm.session(member).unwrap();
    farm.members()[member].client().rehandshake().unwrap();
    assert_eq!(farm.reach(member).unwrap(), number);
    let after = farm.session(member).unwrap();
    assert_eq!((after.id, after.moves), (before.id, before.moves));
    holds(&roam(&mut farm, member).unwrap());
}
