//! What a configuration does: a reload, own VIPs, timeouts.

use std::time::{Duration, Instant};

use lab::gate;
use lab::gateway::{Config, Gateway, Limits, Rate, SessionView};
use lab::layout::plan::{self, Family};
use lab::layout::{Kind, Transport};
use lab::peer::Implementation::WireguardGo;
use lab::peer::WgClient;
use lab::scenario::{Farm, FarmPlan, quota, sessions_open};
use lab::traffic::{Crowd, ECHO_PORT, EchoServer, Target, ping};
use lab::wait::until;
use lab::{Lab, Options};
use serde_json::json;

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

/// A tenant, a pool, a service and a backend come and go by a reload, while others' clients send.
#[test]
fn what_a_reload_adds_serves_and_what_it_removes_ends_and_nobody_else_notices() {
    const UDP: Kind = Kind { prefix: "udp", profile: "udp", ports: &[(ECHO_PORT, Transport::Udp)] };
    let _place = gate::enter().unwrap();
    let lab = Lab::new(Options::default()).unwrap();
    let site = lab.site("justiz", UDP, 3).unwrap();
    let mut servers = Vec::new();
    for station in site.stations() {
        let at = station.address(Family::V4);
        servers.push(EchoServer::start(station.ns(), at, station.number()).unwrap());
    }
    let mut pool = lab.pool("finanz", &[WireguardGo, WireguardGo]).unwrap();
    let mut large = Config::new(&lab).with_site(&site, PLENTY).with_tenant(&pool, PLENTY);
    // Many come from few addresses here.
    large.service[0].affinity = Some("flow");
    large.limits = Some(Limits { unestablished_per_source: Rate { rate: 10_000, burst: 10_000 } });
    let mut small = large.clone();
    small.tenant.truncate(1);
    small.pool.truncate(1);
    small.service.truncate(1);
    let third = small.pool[0].backend.pop().unwrap().name;
    let gateway = Gateway::start(&lab, &small).unwrap();
    gateway.await_backends(SOON).unwrap();
    let crowd = |flows: usize| {
        let target = Target::outside(lab.host().unwrap().ns(), site.vip(Family::V4).ip());
        let crowd = Crowd::start(&[target], flows, 1000).unwrap();
        crowd.wait_for(3, SOON).unwrap();
        // The first ones are lost while the kernel asks for neighbours.
        crowd.anew().unwrap()
    };
    let old = crowd(200);
    old.wait_for(1, SOON).unwrap();
    let before = gateway.sessions().unwrap();
    assert_eq!(before.len(), 200);
    let is_right = || {
        let verified = gateway.call(&["verify"]).unwrap();
        (&verified["drift"], &verified["writes"]) == (&json!([]), &json!(0))
    };

    gateway.write(&large).unwrap();
    let printed = gateway.show(&["reload"]).unwrap();
    assert!(printed.contains("finanz") && printed.contains(&third), "{printed}");
    let client =
        WgClient::start(&lab, &lab.host().unwrap(), &mut pool, WireguardGo, Family::V4).unwrap();
    client.reach(SOON).unwrap();
    let new = crowd(100);
    new.wait_for(1, SOON).unwrap();
    let sessions = gateway.sessions().unwrap();
    let of_finanz = sessions.iter().filter(|session| session.tenant == "finanz");
    assert_eq!(of_finanz.count(), 1);
    let on_third = |sessions: &[SessionView]| {
        sessions.iter().filter(|session| session.backend.ends_with(&third)).count()
    };
    // A third of the new ones, and none of those that were there.
    assert!((15..=55).contains(&on_third(&sessions)), "{}", on_third(&sessions));
    assert!(is_right());

    gateway.write(&small).unwrap();
    let printed = gateway.show(&["reload"]).unwrap();
    assert!(printed.contains("finanz") && printed.contains(&third), "{printed}");
    until("the end of what was on it", SOON, || {
        let sessions = gateway.sessions()?;
        let finanz = sessions.iter().any(|session| session.tenant == "finanz");
        // Clients of the backend that is gone are served by the others.
        Ok((!finanz && on_third(&sessions) == 0 && sessions.len() == 300).then_some(()))
    })
    .unwrap();
    client.reach(Duration::from_secs(2)).unwrap_err();
    old.wait_for(1, SOON).unwrap();
    assert!(is_right());
    let number = site.stations()[2].number();
    for tally in [old.stop(), new.stop_where(|tally| !tally.answered_by.contains_key(&number))] {
        let wrong = tally.lost + tally.reordered + tally.duplicated + tally.strayed as u64;
        assert!(wrong == 0 && tally.sent > 1000, "{tally:?}");
    }
    let mut after = gateway.sessions().unwrap();
    after.retain(|session| before.iter().any(|old| old.id == session.id));
    let same = |sessions: &[SessionView]| -> Vec<_> {
        sessions.iter().map(|s| (s.id.clone(), s.client, s.backend.clone(), s.moves)).collect()
    };
    assert_eq!(same(&after), same(&before));
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
    config.pool[0].idle_timeout = "6s".to_owned();
    let gateway = Gateway::start(&lab, &config).unwrap();
    let host = lab.host().unwrap();
    let mut client = || WgClient::start(&lab, &host, &mut pool, WireguardGo, Family::V4).unwrap();
    let (silent, talking) = (client(), client());
    let traffic = lab::traffic::Sequence::pings(&talking.target()).unwrap();
    let of = |client: &WgClient| {
        gateway.session_of((host.address(Family::V4), client.port()).into()).unwrap()
    };
    // On a slow machine it may be over before it is looked for.
    let opens = || {
        until("its session", SOON, || {
            silent.reach(SOON)?;
            Ok(of(&silent).map(|_| ()))
        })
    };
    opens().unwrap();
    until("the end of the silent session", SOON, || Ok(of(&silent).is_none().then_some(())))
        .unwrap();
    assert!(of(&talking).is_some());
    let tally = traffic.stop();
    assert_eq!(tally.lost, 0, "{tally:?}");
    // It comes back when the client speaks again.
    opens().unwrap();
}

/// What tenants may have, by the daemon's own words.
fn quotas(farm: &Farm) -> u64 {
    let tenants = farm.gateway().call(&["tenant", "list"]).unwrap();
    tenants[0]["max_sessions"].as_u64().unwrap()
}

fn is_said(farm: &Farm, words: &str) -> bool {
    let status = farm.gateway().call(&["status"]).unwrap();
    status["warnings"].to_string().contains(words)
}

fn write(farm: &Farm, max_sessions: u32) {
    let mut config = farm.config().clone();
    config.tenant[0].max_sessions = max_sessions;
    farm.gateway().write(&config).unwrap();
}

const ON_TRIAL: &str = "on trial until";
const NOT_CONFIRMED: &str = "was not confirmed";

#[test]
fn a_configuration_that_nobody_confirms_is_taken_back_also_by_a_killed_daemon() {
    let pools = [one_pool(1)];
    let (_place, mut farm) = start(&FarmPlan::new(&pools));
    farm.join(0, WireguardGo, Family::V4).unwrap();
    farm.reach(0).unwrap();
    let session = farm.session(0).unwrap();
    let before = quotas(&farm);
    let traffic = farm.traffic(0, 100).unwrap();

    let show = |farm: &Farm, args: &[&str]| farm.gateway().show(args).unwrap();
    let same = "the configuration in force is the file's";
    assert!(show(&farm, &["diff"]).contains(same));
    write(&farm, 77);
    let shown = show(&farm, &["diff"]);
    assert!(shown.contains(&format!("{before} -> 77")) && shown.contains("1 table"), "{shown}");
    assert_eq!(quotas(&farm), before, "it was only shown");

    // Nobody confirms it.
    let applied = show(&farm, &["apply", "--confirm", "10s"]);
    assert!(applied.contains("is taken back at"), "{applied}");
    assert!(quotas(&farm) == 77 && is_said(&farm, ON_TRIAL));
    for args in [&["reload"][..], &["apply", "--confirm", "9s"]] {
        let refused = farm.gateway().act(args).unwrap_err().to_string();
        assert!(refused.contains(ON_TRIAL), "{refused}");
    }
    // The quota is the table's: it is back before the daemon says so.
    until("the return", SOON, || {
        Ok((quotas(&farm) == before && is_said(&farm, NOT_CONFIRMED)).then_some(()))
    })
    .unwrap();
    for args in [["confirm"], ["revert"]] {
        let refused = farm.gateway().act(&args).unwrap_err().to_string();
        assert!(refused.contains("no configuration is on trial"), "{refused}");
    }
    // The file is as it was written; a daemon that starts does not fall for it.
    for _ in 0..2 {
        farm.gateway_mut().kill();
        farm.gateway_mut().run().unwrap();
        assert!(quotas(&farm) == before && is_said(&farm, NOT_CONFIRMED));
    }
    assert!(show(&farm, &["diff"]).contains(&format!("{before} -> 77")));

    // One that is killed while it is on trial goes on with it, or takes it back if it comes too late.
    write(&farm, 78);
    let trial = Duration::from_secs(15);
    farm.gateway().act(&["apply", "--confirm", "15s"]).unwrap();
    let applied = Instant::now();
    farm.gateway_mut().kill();
    farm.gateway_mut().run().unwrap();
    assert!(quotas(&farm) == 78 && is_said(&farm, ON_TRIAL));
    farm.gateway_mut().kill();
    std::thread::sleep(trial.saturating_sub(applied.elapsed()));
    farm.gateway_mut().run().unwrap();
    assert!(quotas(&farm) == before && is_said(&farm, NOT_CONFIRMED));

    // What is confirmed stays.
    write(&farm, 79);
    farm.gateway().act(&["apply", "--confirm", "8s"]).unwrap();
    farm.gateway().act(&["confirm"]).unwrap();
    std::thread::sleep(Duration::from_secs(9));
    assert!(quotas(&farm) == 79 && !is_said(&farm, ON_TRIAL));
    farm.gateway_mut().kill();
    farm.gateway_mut().run().unwrap();
    assert!(quotas(&farm) == 79 && !is_said(&farm, NOT_CONFIRMED));

    // What operators said of backends is not lost with a configuration that does not know them.
    let mut backends = farm.config().pool[0].backend.iter();
    let at = backends.position(|backend| backend.name != session.backend).unwrap();
    let backend = farm.config().pool[0].backend[at].name.clone();
    farm.gateway().act(&["backend", "drain", &backend]).unwrap();
    let mut renamed = farm.config().clone();
    renamed.tenant[0].max_sessions = 79;
    renamed.pool[0].backend[at].name = "other".to_owned();
    farm.gateway().write(&renamed).unwrap();
    farm.gateway().act(&["apply", "--confirm", "1h"]).unwrap();
    farm.gateway().act(&["revert"]).unwrap();
    let backends = farm.gateway().backends().unwrap();
    let state = backends.iter().find(|b| b.name == backend).map(|b| b.state.as_str());
    assert_eq!(state, Some("draining"));
    farm.gateway().act(&["backend", "undrain", &backend]).unwrap();

    // A mistyped time changes nothing, and ends no daemon.
    write(&farm, 80);
    let far = ["9000y", "18446744073709551615s"];
    for far in far {
        for args in
            [&["apply", "--confirm", far][..], &["backend", "drain", &backend, "--deadline", far]]
        {
            let refused = farm.gateway().act(args).unwrap_err().to_string();
            assert!(refused.contains("more than ten years"), "{refused}");
        }
    }
    assert!(quotas(&farm) == 79 && !is_said(&farm, ON_TRIAL));

    // And one can go back at once, and mend the file.
    write(&farm, 80);
    farm.gateway().act(&["apply", "--confirm", "1h"]).unwrap();
    assert_eq!(quotas(&farm), 80);
    farm.gateway().act(&["revert"]).unwrap();
    assert_eq!(quotas(&farm), 79);
    // A reload that is refused forgets nothing.
    let mut other = farm.config().clone();
    other.gateway.state_dir += "-other";
    farm.gateway().write(&other).unwrap();
    farm.gateway().act(&["reload"]).unwrap_err();
    assert!(is_said(&farm, NOT_CONFIRMED));
    write(&farm, 81);
    farm.gateway().act(&["reload"]).unwrap();
    assert!(quotas(&farm) == 81 && !is_said(&farm, NOT_CONFIRMED));
    assert!(show(&farm, &["diff"]).contains(same));

    // What cannot be applied is refused as a whole, and nothing is on trial.
    write(&farm, 1_000_000);
    for args in [&["diff"][..], &["apply", "--confirm", "9s"]] {
        let refused = farm.gateway().act(args).unwrap_err().to_string();
        assert!(refused.contains("1000000"), "{refused}");
    }
    assert!(quotas(&farm) == 81 && !is_said(&farm, ON_TRIAL));
    // And after all that the tables are as they were written.
    let verified = farm.gateway().call(&["verify"]).unwrap();
    assert_eq!((&verified["drift"], &verified["writes"]), (&json!([]), &json!(0)));
    let tally = traffic.stop();
    assert_eq!((tally.lost, farm.session(0).unwrap().id), (0, session.id), "{tally:?}");
}

/// Who is cut off by it need not be able to mend the file, nor what it names.
#[test]
fn a_configuration_without_which_the_host_was_better_off_is_taken_back_by_a_start() {
    let pools = [one_pool(1)];
    let (_place, mut farm) = start(&FarmPlan::new(&pools));
    farm.join(0, WireguardGo, Family::V4).unwrap();
    farm.reach(0).unwrap();
    let ip = |farm: &Farm, line: &str| farm.gateway().ns().ip(&[line.to_owned()]).unwrap();
    ip(&farm, "link add gone0 type veth peer name gone1");
    let mut config = farm.config().clone();
    config.gateway.interfaces.push("gone0".to_owned());
    config.tenant[0].max_sessions = 77;
    farm.gateway().write(&config).unwrap();
    let before = quotas(&farm);
    farm.gateway().act(&["apply", "--confirm", "10s"]).unwrap();
    let applied = Instant::now();
    assert_eq!(quotas(&farm), 77);
    farm.gateway_mut().kill();
    ip(&farm, "link del gone0");

    // As long as it may be confirmed, it is what is wanted.
    let refused = farm.gateway_mut().run().unwrap_err().to_string();
    assert!(refused.contains("gone0"), "{refused}");
    std::thread::sleep(Duration::from_secs(10).saturating_sub(applied.elapsed()));
    farm.gateway_mut().run().unwrap();
    assert!(quotas(&farm) == before && is_said(&farm, NOT_CONFIRMED));
    farm.reach(0).unwrap();

    // What nobody has confirmed goes on, where the one before it is what cannot be used.
    farm.gateway().write(farm.config()).unwrap();
    farm.gateway().act(&["reload"]).unwrap();
    ip(&farm, "link add gone0 type veth peer name gone1");
    farm.gateway().write(&config).unwrap();
    farm.gateway().act(&["reload"]).unwrap();
    let mut without = farm.config().clone();
    without.tenant[0].max_sessions = 78;
    farm.gateway().write(&without).unwrap();
    farm.gateway().act(&["apply", "--confirm", "1s"]).unwrap();
    farm.gateway_mut().kill();
    ip(&farm, "link del gone0");
    std::thread::sleep(Duration::from_secs(2));
    farm.gateway_mut().run().unwrap();
    assert!(quotas(&farm) == 78 && is_said(&farm, "cannot be taken back"));
    farm.gateway().act(&["confirm"]).unwrap();
    assert!(!is_said(&farm, "cannot be taken back"));
    farm.gateway_mut().kill();
    farm.gateway_mut().run().unwrap();
    assert!(quotas(&farm) == 78 && !is_said(&farm, NOT_CONFIRMED));
}
