//! The backends' side is a VLAN on a trunk: the program runs on the card below, takes tags off and puts them on.

use lab::peer::Implementation::{Boringtun, Kernel, WireguardGo};
use lab::scenario::{FarmPlan, PoolPlan, drain, roam};

use crate::common::{PLENTY, holds, join, outlast_a_kill, start};

const TAG: u16 = 20;

#[test]
fn sessions_open_roam_and_stay_where_backends_are_in_a_vlan() {
    let pools = [PoolPlan {
        name: "justiz",
        concentrators: &[WireguardGo, Boringtun, Kernel],
        max_sessions: PLENTY,
    }];
    let (_place, mut farm) = start(&FarmPlan { tag: Some(TAG), ..FarmPlan::new(&pools) });
    join(&mut farm, &[WireguardGo, Boringtun]);
    let hops = farm.gateway().call(&["nexthop", "list"]).unwrap();
    let tagged = hops.as_array().unwrap().iter().filter(|hop| hop["vlan"] == TAG).count();
    assert!(tagged >= 6, "{hops:#}");
    for member in 0..4 {
        holds(&roam(&mut farm, member).unwrap());
    }
    holds(&drain(&mut farm, 0, WireguardGo, 1).unwrap());
    outlast_a_kill(&mut farm, 0, 1);
    // Nothing of it took the way over the kernel's stack.
    let counters = farm.gateway().counters().unwrap();
    for none in ["stack_inbound", "stack_outbound", "head_room"] {
        assert_eq!(counters.get(none), 0, "{none}: {counters:?}");
    }
}
