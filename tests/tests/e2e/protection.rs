//! Floods, quotas, and packets that no session can be found for.

use lab::gate;
use lab::gateway::{Config, Gateway};
use lab::layout::plan::Family;
use lab::peer::Implementation::WireguardGo;
use lab::scenario::{FarmPlan, flood, obstructed, quota, sessions_open};
use lab::{Lab, Options};

use crate::common::{MIXED, PLENTY, farm, holds, one_pool, start};

#[test]
fn two_hundred_thousand_spoofed_initiations_change_nothing() {
    let (_place, mut farm) = farm();
    for family in [Family::V4, Family::V6, Family::V4] {
        farm.join(0, WireguardGo, family).unwrap();
    }
    holds(&sessions_open(&farm).unwrap());
    holds(&flood(&farm, 200_000).unwrap());
}

#[test]
fn a_client_beyond_the_quota_is_refused_and_the_rest_work() {
    let pools = [one_pool(3)];
    let (_place, mut farm) = start(&FarmPlan::new(&pools));
    for implementation in MIXED {
        farm.join(0, implementation, Family::V4).unwrap();
    }
    holds(&sessions_open(&farm).unwrap());
    holds(&quota(&mut farm, 0, WireguardGo).unwrap());
    // A place that becomes free is taken.
    let session = farm.session(0).unwrap();
    farm.gateway().act(&["session", "kill", &session.id]).unwrap();
    farm.reach(3).unwrap();
    assert_eq!(farm.gateway().sessions().unwrap().len(), 3);
}

#[test]
fn options_and_extension_headers_are_refused_by_name() {
    let _place = gate::enter().unwrap();
    let lab = Lab::new(Options::default()).unwrap();
    let pool = lab.pool("justiz", &[WireguardGo]).unwrap();
    let gateway = Gateway::start(&lab, &Config::new(&lab).with_tenant(&pool, PLENTY)).unwrap();
    holds(&obstructed(&lab, &gateway).unwrap());
}
