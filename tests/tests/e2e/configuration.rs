//! What a configuration does: a reload, own VIPs, timeouts.

use std::time::Duration;

use lab::gate;
use lab::gateway::{Config, Gateway};
use lab::layout::plan::{self, Family};
use lab::peer::Implementation::WireguardGo;
use lab::peer::WgClient;
use lab::scenario::{FarmPlan, quota, sessions_open};
use lab::traffic::ping;
use lab::wait::until;
use lab::{Lab, Options};

use crate::common::{PLENTY, holds, one_pool, start};

const SOON: Duration = Duration::from_secs(20);

#[test]
fn a_reload_raises_a_quota_while_sessions_go_on() {
    let pools = [one_pool(1)];
    let (_place, mut farm) = start(&FarmPlan::new(&pools));
    farm.join(0, WireguardGo, Family::V4).unwrap();
    holds(&sessions_open(&farm).unwrap());
    let before = farm.session(0).unwrap();
    holds(&quota(&mut farm, 0, WireguardGo).unwrap());

    let mut wrong = farm.config().clone();
    wrong.tenant[0].max_sessions = 1_000_000;
    farm.gateway().write(&wrong).unwrap();
    let refused = farm.gateway().act(&["reload"]).unwrap_err().to_string();
    assert!(refused.contains("1000000"), "{refused}");

    let mut right = farm.config().clone();
    right.tenant[0].max_sessions = 2;
    farm.gateway().write(&right).unwrap();
    let traffic = farm.traffic(0, 200).unwrap();
    let printed = farm.gateway().show(&["reload"]).unwrap();
    assert!(printed.contains("justiz"), "the difference is printed: {printed}");
    farm.reach(1).unwrap();
    let tally = traffic.stop();
    assert_eq!(tally.lost, 0, "{tally:?}");
    let after = farm.session(0).unwrap();
    assert_eq!((after.id, after.backend), (before.id, before.backend));
    assert_eq!(farm.gateway().sessions().unwrap().len(), 2);
}

#[test]
fn the_daemon_adds_the_vips_where_it_manages_them() {
    let _place = gate::enter().unwrap();
    let lab = Lab::new(Options::default()).unwrap();
    let mut pool = lab.pool("justiz", &[WireguardGo]).unwrap();
    let vip = plan::vip(pool.number());
    lab.gateway()
        .ip(&[format!("addr del {}/32 dev lo", vip.v4), format!("addr del {}/128 dev lo", vip.v6)])
        .unwrap();
    let mut config = Config::new(&lab).with_tenant(&pool, PLENTY);
    config.gateway.manage_vips = true;
    let gateway = Gateway::start(&lab, &config).unwrap();
    let host = lab.host().unwrap();
    for family in [Family::V4, Family::V6] {
        until("an answer of the VIP", SOON, || {
            Ok(ping(host.ns(), family.of(vip), Duration::from_secs(1)).ok())
        })
        .unwrap();
        let client = WgClient::start(&lab, &host, &mut pool, WireguardGo, family).unwrap();
        client.reach(SOON).unwrap();
    }
    assert_eq!(gateway.sessions().unwrap().len(), 2);
}

#[test]
fn a_silent_session_ends_and_a_talking_one_stays() {
    let _place = gate::enter().unwrap();
    let lab = Lab::new(Options::default()).unwrap();
    let mut pool = lab.pool("justiz", &[WireguardGo]).unwrap();
    let mut config = Config::new(&lab).with_tenant(&pool, PLENTY);
    config.pool[0].idle_timeout = "3s".to_owned();
    let gateway = Gateway::start(&lab, &config).unwrap();
    let host = lab.host().unwrap();
    let mut client = || WgClient::start(&lab, &host, &mut pool, WireguardGo, Family::V4).unwrap();
    let (silent, talking) = (client(), client());
    let traffic = lab::traffic::Sequence::pings(&talking.target()).unwrap();
    silent.reach(SOON).unwrap();
    let of = |client: &WgClient| {
        gateway.session_of((host.address(Family::V4), client.port()).into()).unwrap()
    };
    assert!(of(&silent).is_some());
    until("the end of the silent session", SOON, || Ok(of(&silent).is_none().then_some(())))
        .unwrap();
    assert!(of(&talking).is_some());
    let tally = traffic.stop();
    assert_eq!(tally.lost, 0, "{tally:?}");
    // It comes back when the client speaks again.
    silent.reach(SOON).unwrap();
    assert!(of(&silent).is_some());
}
