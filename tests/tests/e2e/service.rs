//! The daemon with no more rights than systemd's unit gives it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use lab::gate;
use lab::gateway::{Config, Gateway};
use lab::layout::plan::Family;
use lab::peer::Implementation::WireguardGo;
use lab::scenario::{Farm, roam, sessions_open};
use lab::wait::until;
use lab::{Lab, Options};

use crate::common::{MIXED, PLENTY, farm, holds};

/// CAP_NET_ADMIN, CAP_NET_RAW, CAP_PERFMON and CAP_BPF (linux/capability.h).
const CAPABILITIES: u64 = 1 << 12 | 1 << 13 | 1 << 38 | 1 << 39;

/// The daemon has the unit's rights, and gave up the others itself.
fn has_few_rights(farm: &Farm) {
    let status = |key| farm.gateway().process_status(key).unwrap();
    assert_eq!(status("Uid"), "65534\t65534\t65534\t65534");
    for set in ["CapEff", "CapPrm", "CapBnd"] {
        let has = u64::from_str_radix(&status(set), 16).unwrap();
        assert_eq!(has & !CAPABILITIES, 0, "{set}: {has:x}");
    }
    assert_eq!(status("NoNewPrivs"), "1");
    // SECCOMP_MODE_FILTER
    assert_eq!(status("Seccomp"), "2");
}

#[test]
fn a_daemon_without_root_adopts_what_root_left_and_does_its_work() {
    let (_place, mut farm) = farm();
    for implementation in MIXED {
        farm.join(0, implementation, Family::V4).unwrap();
    }
    holds(&sessions_open(&farm).unwrap());
    let before = farm.gateway().sessions().unwrap();
    let traffic = farm.traffic(0, 100).unwrap();
    farm.gateway_mut().terminate().unwrap();
    farm.gateway_mut().run_as_service().unwrap();
    has_few_rights(&farm);
    traffic.wait_for(100, Duration::from_secs(20)).unwrap();
    let tally = traffic.stop();
    assert_eq!(tally.lost, 0, "{tally:?}");
    let after = farm.gateway().sessions().unwrap();
    assert_eq!(after.len(), before.len());
    assert!(before.iter().all(|old| after.iter().any(|new| new.id == old.id)), "{after:?}");

    // It writes tables, state and the kernel's settings, and probes.
    holds(&roam(&mut farm, 1).unwrap());
    let drained = farm.backend_name(1);
    farm.gateway().act(&["backend", "drain", &drained]).unwrap();
    let state = Path::new(&farm.config().gateway.state_dir).join("overrides.json");
    assert!(fs::read_to_string(state).unwrap().contains(&drained));
    farm.gateway().ns().sysctl("net/ipv4/ip_forward", "0").unwrap();
    farm.gateway().act(&["reload"]).unwrap();
    let forwards = farm.gateway().ns().run("cat", &["/proc/sys/net/ipv4/ip_forward"]).unwrap();
    assert_eq!(forwards.trim(), "1");
    let log = farm.gateway().log();
    assert!(!log.to_lowercase().contains("not permitted"), "{log}");
    assert!(!log.to_lowercase().contains("permission denied"), "{log}");
}

#[test]
fn a_daemon_without_root_makes_everything_new() {
    let (_place, mut farm) = farm();
    let bpffs = farm.config().gateway.bpffs.clone();
    farm.gateway_mut().terminate().unwrap();
    farm.gateway().act(&["unload", "--bpffs", &bpffs]).unwrap();
    farm.gateway_mut().run_as_service().unwrap();
    has_few_rights(&farm);
    for implementation in MIXED {
        farm.join(0, implementation, Family::V6).unwrap();
    }
    holds(&sessions_open(&farm).unwrap());
    holds(&roam(&mut farm, 0).unwrap());
    // A second one, after it was killed, has the same place.
    farm.gateway_mut().kill();
    farm.gateway_mut().run_as_service().unwrap();
    assert_eq!(farm.gateway().sessions().unwrap().len(), MIXED.len());
}

/// It may make none any more when it makes the socket.
#[test]
fn a_confined_daemon_has_the_directory_of_its_socket_and_makes_no_other() {
    let _place = gate::enter().unwrap();
    let lab = Lab::new(Options::default()).unwrap();
    let pool = lab.pool("justiz", &[WireguardGo]).unwrap();
    let mut config = Config::new(&lab).with_tenant(&pool, PLENTY);
    config.api.socket = lab.dir().join("not/there/api.sock").display().to_string();
    let mut gateway = Gateway::start(&lab, &config).unwrap();
    assert_eq!(gateway.sessions().unwrap().len(), 0);

    // Root may do that, and does not when it is confined.
    let directory = lab.dir().join("not");
    fs::remove_dir_all(&directory).unwrap();
    let denied = || Ok(gateway.log().contains("Permission denied").then_some(()));
    until("being refused", Duration::from_secs(30), denied).unwrap();
    assert!(!directory.exists());
    gateway.kill();
    gateway.run_with(&["--unconfined"]).unwrap();
    fs::remove_dir_all(&directory).unwrap();
    let answers = || Ok(gateway.sessions().ok());
    until("the socket", Duration::from_secs(30), answers).unwrap();
}

/// A service manager ends a daemon that it does not hear from in time.
#[test]
fn a_service_manager_hears_what_the_daemon_does_and_that_it_lives() {
    const SOON: Duration = Duration::from_secs(60);
    let _place = gate::enter().unwrap();
    let lab = Lab::new(Options::default()).unwrap();
    let pool = lab.pool("justiz", &[WireguardGo]).unwrap();
    let mut config = Config::new(&lab).with_tenant(&pool, PLENTY);
    let mut gateway = Gateway::start(&lab, &config).unwrap();
    gateway.terminate().unwrap();
    gateway.supervise(Duration::from_secs(2)).unwrap();
    gateway.run().unwrap();
    let said = |gateway: &Gateway, from: usize, word: &str| {
        gateway.heard()[from..].iter().filter(|line| line.starts_with(word)).count()
    };
    let hears = |gateway: &Gateway, from: usize, word: &str, times: usize| {
        let enough = || Ok((said(gateway, from, word) >= times).then_some(()));
        until(word, SOON, enough).unwrap_or_else(|e| panic!("{e}: {:?}", gateway.heard()));
    };
    hears(&gateway, 0, "READY=1", 1);
    // The loop turns, and nothing else is fed.
    hears(&gateway, 0, "WATCHDOG=1", 4);

    let before = gateway.heard().len();
    gateway.hang_up();
    hears(&gateway, before, "READY=1", 1);
    let order: Vec<String> = gateway.heard().split_off(before);
    let at = |word: &str| order.iter().position(|line| line.starts_with(word));
    assert!(
        at("RELOADING=1").is_some_and(|reloading| at("READY=1") > Some(reloading)),
        "{order:?}"
    );
    assert!(at("MONOTONIC_USEC=").is_some(), "{order:?}");

    // The loop does not turn while sessions move: each step is told, with the time that the next one may take.
    assert_eq!(said(&gateway, 0, "EXTEND_TIMEOUT_USEC="), 0);
    config.gateway.max_sessions *= 4;
    gateway.write(&config).unwrap();
    let before = gateway.heard().len();
    gateway.act(&["reload"]).unwrap();
    let steps = said(&gateway, before, "EXTEND_TIMEOUT_USEC=");
    assert!(steps >= 10, "{steps} steps of {:?}", &gateway.heard()[before..]);
    assert!(said(&gateway, before, "WATCHDOG=1") >= steps);

    gateway.terminate().unwrap();
    hears(&gateway, before, "STOPPING=1", 1);
}
