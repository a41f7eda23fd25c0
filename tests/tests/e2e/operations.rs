//! Drains, deaths and restarts.

use std::time::{Duration, Instant};

use lab::gate;
use lab::lateness::Meter;
use lab::layout::plan::Family;
use lab::peer::Implementation::WireguardGo;
use lab::scenario::{
    ChaosPlan, Farm, chaos, death, drain, drain_to_the_end, impaired, rebuild, restart, roam,
    sessions_open,
};
use lab::wait::until;

use crate::common::{MIXED, Stopped, farm, holds};

/// How long anything may take on a busy machine.
const SOON: Duration = Duration::from_secs(40);

#[test]
fn a_drained_concentrator_keeps_its_sessions_and_gets_no_more() {
    let (_place, mut farm) = farm();
    for implementation in MIXED {
        farm.join(0, implementation, Family::V4).unwrap();
    }
    holds(&sessions_open(&farm).unwrap());
    let drained = drain(&mut farm, 0, WireguardGo, 5).unwrap();
    holds(&drained);
    // A session on it still roams.
    let here = drained.after[0].client;
    let member = farm.members().iter().position(|m| m.address() == here).unwrap();
    holds(&roam(&mut farm, member).unwrap());
}

/// The concentrator still sends to its clients, who would believe that all is well.
#[test]
fn what_is_left_of_a_drain_at_its_deadline_is_served_elsewhere() {
    let (_place, mut farm) = farm();
    for implementation in MIXED.into_iter().chain(MIXED) {
        farm.join(0, implementation, Family::V4).unwrap();
    }
    holds(&sessions_open(&farm).unwrap());
    let drained = farm.reach(0).unwrap();
    let name = farm.backend_name(drained);
    let on_it = |farm: &Farm| {
        let sessions = farm.gateway().sessions().unwrap();
        sessions.iter().filter(|session| session.concentrator() == drained).count()
    };
    let before = on_it(&farm);
    assert!(before > 0);
    let traffic: Vec<_> =
        farm.members_of(0).into_iter().map(|m| farm.traffic(m, 20).unwrap()).collect();
    let counters = farm.gateway().counters().unwrap();
    farm.gateway()
        .act(&["backend", "drain", &name, "--deadline", "20s", "--spread", "5s"])
        .unwrap();
    until("a forecast", SOON, || {
        let backends = farm.gateway().backends()?;
        let backend = backends.iter().find(|backend| backend.name == name).unwrap();
        Ok(backend.drain_rate.is_some().then_some(()))
    })
    .unwrap();
    assert_eq!(on_it(&farm), before, "they stay until then");
    until("the end of the drain", 2 * SOON, || Ok((on_it(&farm) == 0).then_some(()))).unwrap();
    // Who has no answers shakes hands anew: after 15 s, by WireGuard's own rule.
    let all = farm.members_of(0);
    until("all clients being elsewhere", Duration::from_secs(60), || {
        // One of whom nothing is heard for a while may have lost a handshake.
        let mut answered = all.iter().map(|&m| farm.reach(m).ok());
        Ok(answered.all(|by| by.is_some_and(|by| by != drained)).then_some(()))
    })
    .unwrap();
    assert_eq!(on_it(&farm), 0);
    for sequence in traffic {
        sequence.stop();
    }
    let counters = farm.gateway().counters().unwrap().since(&counters);
    assert!(counters.get("released") > 0, "{counters:?}");
    // Given back, it opens sessions again.
    farm.gateway().act(&["backend", "undrain", &name]).unwrap();
    let counters = farm.gateway().counters().unwrap();
    for _ in 0..12 {
        let member = farm.join(0, WireguardGo, Family::V4).unwrap();
        farm.reach(member).unwrap();
    }
    assert!(on_it(&farm) > 0);
    assert_eq!(farm.gateway().counters().unwrap().since(&counters).get("released"), 0);
}

#[test]
fn sessions_of_a_drain_end_one_after_the_other_from_its_deadline_on() {
    let _place = gate::enter().unwrap();
    holds(&drain_to_the_end(900).unwrap());
}

#[test]
fn clients_of_a_dead_concentrator_come_back_on_another() {
    let (_place, mut farm) = farm();
    for implementation in MIXED.into_iter().chain(MIXED) {
        farm.join(0, implementation, Family::V4).unwrap();
    }
    holds(&sessions_open(&farm).unwrap());
    holds(&death(&mut farm, 0).unwrap());
}

/// Its machine answers pings all the while.
#[test]
fn a_concentrator_that_hangs_is_found_by_its_sessions_and_gets_no_more() {
    let (_place, mut farm) = farm();
    for implementation in MIXED.into_iter().chain(MIXED).chain(MIXED) {
        farm.join(0, implementation, Family::V4).unwrap();
    }
    holds(&sessions_open(&farm).unwrap());
    let sessions = farm.gateway().sessions().unwrap();
    let on = |number: u8| sessions.iter().filter(|s| s.concentrator() == number).count();
    let concentrators = farm.pools()[0].concentrators().iter().map(|c| c.number());
    let hanging = concentrators.max_by_key(|&number| on(number)).unwrap();
    let asking = on(hanging);
    let own = farm.members().iter().position(|m| {
        sessions.iter().any(|s| s.client == m.address() && s.concentrator() == hanging)
    });
    let name = farm.backend_name(hanging);
    let state = |farm: &Farm| {
        let backends = farm.gateway().backends().unwrap();
        let backend = backends.into_iter().find(|backend| backend.name == name).unwrap();
        assert!(backend.is_up(), "{backend:?}");
        backend.state
    };
    let traffic: Vec<_> =
        farm.members_of(0).into_iter().map(|m| farm.traffic(m, 20).unwrap()).collect();
    // It has to be heard before it can be missed.
    traffic[own.unwrap()].wait_for(20 * 25, Duration::from_secs(60)).unwrap();
    assert_eq!(state(&farm), "active");
    let before = farm.gateway().sessions().unwrap().len();
    // All concentrators are told of them, while they listen.
    let newcomers: Vec<_> =
        (0..6).map(|_| farm.join(0, WireguardGo, Family::V4).unwrap()).collect();

    let concentrators = farm.pools()[0].concentrators();
    let pid = concentrators.iter().find(|c| c.number() == hanging).unwrap().device().pid();
    let meter = Meter::start().unwrap();
    let stopped = Stopped::new(pid.unwrap());
    let silent = Instant::now();
    until("silence", SOON, || Ok((state(&farm) == "silent").then_some(()))).unwrap();
    let (silent, late) = (silent.elapsed(), meter.late());
    drop(meter);
    // Each second each session asks, and nine in ten have been answered so far at least: 14 answers must be missing. And it must have been
    // three seconds since the first second without any, which may seem to be a little less, and the next one counts. Before it all there
    // may be one that had some.
    let missed = (14.0 / (0.9 * asking as f64)).ceil().max(5.0);
    let most = Duration::from_secs_f64(1.1 * (1.0 + missed)).min(Duration::from_secs(10));
    // Each second's look may come late.
    let most = most + late.longest * (missed as u32 + 1);
    println!(
        "{name} with {asking} sessions hangs: silent after {silent:?}, at most {most:?} ({late})"
    );
    assert!(silent <= most, "{silent:?}");
    assert_eq!(farm.gateway().sessions().unwrap().len(), before, "its sessions stay");
    for member in newcomers {
        assert_ne!(farm.reach(member).unwrap(), hanging);
    }
    // An operator's word is believed, until its sessions say otherwise again.
    farm.gateway().act(&["backend", "undrain", &name]).unwrap();
    assert_eq!(state(&farm), "active");
    until("silence", SOON, || Ok((state(&farm) == "silent").then_some(()))).unwrap();
    drop(stopped);
    until("an answer", SOON, || Ok((state(&farm) == "active").then_some(()))).unwrap();
    // Nobody else has noticed. It may answer what waited for it in another order.
    let mut others = 0;
    for sequence in traffic {
        let tally = sequence.stop();
        if !tally.answered_by.contains_key(&hanging) {
            assert_eq!((tally.lost, tally.reordered), (0, 0), "{tally:?}");
            others += 1;
        }
    }
    assert_eq!(others, sessions.len() - asking);
}

#[test]
fn a_concentrator_without_ipv6_keeps_its_ipv4_clients() {
    let (_place, mut farm) = farm();
    holds(&impaired(&mut farm, 0, WireguardGo).unwrap());
}

#[test]
fn a_killed_daemon_comes_back_and_nothing_is_lost() {
    let (_place, mut farm) = farm();
    for implementation in MIXED {
        farm.join(0, implementation, Family::V4).unwrap();
    }
    holds(&sessions_open(&farm).unwrap());
    holds(&roam(&mut farm, 0).unwrap());
    holds(&restart(&mut farm, 0, Some(1), Duration::from_secs(10)).unwrap());
    // It still works: sessions open and roam.
    farm.join(0, WireguardGo, Family::V6).unwrap();
    farm.reach(3).unwrap();
    holds(&roam(&mut farm, 3).unwrap());
}

/// `cargo xtask chaos` has more of it.
#[test]
fn daemons_that_are_killed_at_any_moment_are_not_noticed() {
    let _place = gate::enter().unwrap();
    holds(&chaos(&ChaosPlan { kills: 12, sessions: 300, rate: 2000 }, |_| {}).unwrap());
}

#[test]
fn a_daemon_that_ends_in_peace_leaves_the_gateway_forwarding() {
    let (_place, mut farm) = farm();
    let member = farm.join(0, WireguardGo, Family::V4).unwrap();
    farm.reach(member).unwrap();
    let traffic = farm.traffic(member, 200).unwrap();
    farm.gateway_mut().terminate().unwrap();
    traffic.wait_for(200, Duration::from_secs(20)).unwrap();
    // Without a daemon a new client is served too.
    let late = farm.join(0, WireguardGo, Family::V4).unwrap();
    farm.reach(late).unwrap();
    farm.gateway_mut().run().unwrap();
    traffic.wait_for(200, Duration::from_secs(20)).unwrap();
    let tally = traffic.stop();
    assert_eq!(tally.lost, 0, "{tally:?}");
    assert_eq!(farm.gateway().sessions().unwrap().len(), 2);
}

#[test]
fn a_gateway_without_its_tables_rebuilds_them_from_traffic() {
    let (_place, mut farm) = farm();
    for implementation in MIXED {
        farm.join(0, implementation, Family::V4).unwrap();
    }
    holds(&sessions_open(&farm).unwrap());
    holds(&rebuild(&mut farm).unwrap());
    holds(&roam(&mut farm, 0).unwrap());
}
