//! Routes, links and neighbours change while the gateway forwards.

use lab::layout::plan::Family;
use lab::peer::Implementation::WireguardGo;
use lab::scenario::{
    Farm, FarmPlan, link_down, neighbour_change, route_change, sessions_open, unresolved,
};

use crate::common::{PLENTY, farm, holds, one_pool, start};

fn one_client(farm: &mut Farm, family: Family) -> usize {
    let member = farm.join(0, WireguardGo, family).unwrap();
    holds(&sessions_open(farm).unwrap());
    member
}

#[test]
fn a_changed_route_is_followed() {
    for family in [Family::V4, Family::V6] {
        let (_place, mut farm) = farm();
        let member = one_client(&mut farm, family);
        holds(&route_change(&farm, member).unwrap());
    }
}

#[test]
fn a_link_that_goes_down_is_left() {
    let (_place, mut farm) = farm();
    let member = one_client(&mut farm, Family::V4);
    holds(&link_down(&farm, member).unwrap());
}

#[test]
fn a_neighbour_with_another_mac_address_is_found() {
    let (_place, mut farm) = farm();
    let member = one_client(&mut farm, Family::V4);
    holds(&neighbour_change(&farm, member).unwrap());
}

#[test]
fn an_unresolved_next_hop_is_left_to_the_kernel() {
    let pools = [one_pool(PLENTY)];
    let (_place, mut farm) = start(&FarmPlan { probes: false, ..FarmPlan::new(&pools) });
    let member = one_client(&mut farm, Family::V4);
    holds(&unresolved(&farm, member).unwrap());
}
