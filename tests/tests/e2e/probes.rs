//! Probes in the protocols of real servers, through the gateway that they are behind; and how far they are believed.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use lab::gateway::{BackendView, Config, Gateway, Health};
use lab::lateness::Meter;
use lab::layout::Site;
use lab::layout::plan::Family;
use lab::net::Ns;
use lab::peer::Implementation::{Boringtun, WireguardGo};
use lab::peer::{IkePool, OcPool, OvpnPool, Secret};
use lab::scenario::{Farm, FarmPlan, PoolPlan, sessions_open};
use lab::wait::until;
use lab::{Lab, Options, gate};

use crate::common::{MIXED, PLENTY, Stopped, farm, holds, start};

/// How long anything may take on a busy machine.
const SOON: Duration = Duration::from_secs(40);

fn backend(gateway: &Gateway, name: &str) -> BackendView {
    let backends = gateway.backends().unwrap();
    backends.into_iter().find(|backend| backend.name == name).unwrap()
}

/// Waits for a state; with which error.
#[track_caller]
fn await_state(gateway: &Gateway, name: &str, state: &str) -> String {
    await_error(gateway, name, state, "")
}

/// Waits for a state with an error that says so; which it is. The first probes of another kind may fail otherwise, on a busy machine.
#[track_caller]
fn await_error(gateway: &Gateway, name: &str, state: &str, says: &str) -> String {
    let found = until(&format!("{name} being {state}: {says}"), SOON, || {
        let backend = backend(gateway, name);
        let error = backend.last_error.unwrap_or_default();
        Ok((backend.state == state && error.contains(says)).then_some(error))
    });
    match found {
        Ok(error) => error,
        Err(e) => panic!("{e}: {:?}", backend(gateway, name)),
    }
}

/// A gateway in front of a site that is probed so, with all of its servers up.
fn gateway(lab: &Lab, site: &Site, health: Health) -> Gateway {
    let mut config = Config::new(lab).with_site(site, PLENTY);
    config.pool[0].health = Some(health);
    let gateway = Gateway::start(lab, &config).unwrap();
    if let Err(e) = gateway.await_backends(SOON) {
        panic!("{e}: {:?}", gateway.backends().unwrap());
    }
    gateway
}

/// A server whose process is stopped is found, and found again when it goes on. What is said of it meanwhile.
fn stops_and_goes_on(gateway: &Gateway, name: &str, pid: u32) -> String {
    let stopped = Stopped::new(pid);
    let error = await_state(gateway, name, "down");
    drop(stopped);
    await_state(gateway, name, "active");
    error
}

/// A file with a key in it, that nobody else can read.
fn secret(dir: &Path, name: &str, text: &str) -> String {
    let file = dir.join(name);
    fs::write(&file, text).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    file.display().to_string()
}

/// Probes by a peer of the farm's servers, which all of them know.
fn wireguard(farm: &Farm, probe: &Secret) -> Health {
    for concentrator in farm.pools()[0].concentrators() {
        concentrator.know(&probe.public(), true).unwrap();
    }
    let key = secret(farm.lab().dir(), "probe.key", &probe.base64());
    let of_probe = [("public_key", farm.pools()[0].public().base64()), ("private_key_file", key)];
    Health::by("wireguard", of_probe)
}

fn reload(farm: &Farm, health: Health) {
    let mut config = farm.config().clone();
    config.pool[0].health = Some(health);
    farm.gateway().write(&config).unwrap();
    farm.gateway().act(&["reload"]).unwrap();
}

/// Its machine answers pings all the while, and its other clients' traffic goes on.
#[test]
fn a_wireguard_that_hangs_is_found_by_handshakes_and_its_clients_come_back_on_another() {
    let (_place, mut farm) = farm();
    for implementation in MIXED.into_iter().chain(MIXED) {
        farm.join(0, implementation, Family::V4).unwrap();
    }
    holds(&sessions_open(&farm).unwrap());
    let hanging = farm.reach(0).unwrap();
    let name = farm.backend_name(hanging);
    let probe = Secret::generate();
    // Short enough a timeout for it to be found down within `interval` × `fall`, the last timeout included.
    let (interval, fall) = (Duration::from_secs(1), 3);
    let timing =
        |health| Health { interval: "1s".to_owned(), timeout: "300ms".to_owned(), fall, ..health };
    reload(&farm, timing(wireguard(&farm, &probe)));
    farm.gateway().await_backends(SOON).unwrap();
    let traffic: Vec<_> =
        farm.members_of(0).into_iter().map(|m| (m, farm.traffic(m, 20).unwrap())).collect();
    for (_, sequence) in &traffic {
        sequence.wait_for(40, SOON).unwrap();
    }
    let concentrators = farm.pools()[0].concentrators();
    let on = |member: usize| farm.session(member).unwrap().concentrator();
    let (own, others): (Vec<_>, Vec<_>) = traffic.into_iter().partition(|(m, _)| on(*m) == hanging);
    assert!(!own.is_empty());

    let pid = concentrators.iter().find(|c| c.number() == hanging).unwrap().device().pid();
    let meter = Meter::start().unwrap();
    let stopped = Stopped::new(pid.expect("it is a process"));
    let (died, died_at) = (Instant::now(), SystemTime::now());
    let error = await_state(farm.gateway(), &name, "down");
    let late = meter.late();
    drop(meter);
    let found = [Family::V4, Family::V6]
        .map(|family| farm.gateway().went_down(&name, family, died_at).unwrap());
    let most = interval * fall * 11 / 10 + late.sum;
    println!("{name} hangs: found down after {found:?}, at most {most:?} ({late})");
    assert!(found.iter().all(|found| *found <= most), "{found:?}");
    let asked = format!("does it know the probe's public key {}?", probe.public().base64());
    assert!(error.contains(":51820: no handshake response within 300ms"), "{error}");
    assert!(error.contains(&asked), "{error}");
    let address = concentrators.iter().find(|c| c.number() == hanging).unwrap().address(Family::V4);
    farm.lab().gateway().run("ping", &["-c", "1", "-W", "5", &address.to_string()]).unwrap();
    for (_, sequence) in &own {
        // WireGuard's own patience is 15 s.
        until("its client's return on another", Duration::from_secs(60), || {
            Ok(sequence.so_far().answered_by.into_keys().find(|&n| n != hanging))
        })
        .unwrap();
    }
    println!("its {} clients are back after {:?}", own.len(), died.elapsed());
    for (member, sequence) in others {
        let tally = sequence.stop();
        assert_eq!(tally.lost, 0, "client {member}: {tally:?}");
    }
    drop(stopped);
    await_state(farm.gateway(), &name, "active");
}

#[test]
fn a_wireguard_that_does_not_know_the_probe_or_is_another_is_down() {
    let (_place, farm) = start(&FarmPlan::new(&[PoolPlan {
        name: "justiz",
        concentrators: &[WireguardGo, Boringtun, WireguardGo],
        max_sessions: PLENTY,
    }]));
    let probe = Secret::generate();
    let health = wireguard(&farm, &probe);
    reload(&farm, health.clone());
    farm.gateway().await_backends(SOON).unwrap();
    let sessions = || farm.gateway().sessions().unwrap().len();
    let counters = farm.gateway().counters().unwrap();
    for (n, concentrator) in farm.pools()[0].concentrators()[..2].iter().enumerate() {
        let name = concentrator.name();
        concentrator.know(&probe.public(), false).unwrap();
        let error = await_state(farm.gateway(), &name, "down");
        assert!(error.contains("no handshake response"), "{error}");
        assert_eq!(farm.gateway().backends().unwrap().iter().filter(|b| b.held).count(), 0, "{n}");
    }
    for concentrator in &farm.pools()[0].concentrators()[..2] {
        concentrator.know(&probe.public(), true).unwrap();
        await_state(farm.gateway(), &concentrator.name(), "active");
    }
    // A probe is no client.
    assert_eq!(sessions(), 0);
    let counted = farm.gateway().counters().unwrap().since(&counters);
    assert_eq!((counted.get("session_tentative"), counted.get("session_opened")), (0, 0));
    // The public key of others.
    let mut wrong = health.clone();
    wrong.of_probe.insert("public_key", Secret::generate().public().base64());
    reload(&farm, wrong);
    for concentrator in farm.pools()[0].concentrators() {
        await_state(farm.gateway(), &concentrator.name(), "held");
    }
    // A key that is not there is a mistake of the configuration, and nothing changes.
    let mut missing = health.clone();
    missing.of_probe.insert("private_key_file", "/nowhere/probe.key".to_owned());
    let mut config = farm.config().clone();
    config.pool[0].health = Some(missing);
    farm.gateway().write(&config).unwrap();
    let refused = farm.gateway().act(&["reload"]).unwrap_err().to_string();
    assert!(refused.contains("`/nowhere/probe.key` cannot be read"), "{refused}");
    let file = farm.gateway().config_file().display().to_string();
    let checked = farm.gateway().show(&["check", "-c", &file]).unwrap_err().to_string();
    assert!(checked.contains("`/nowhere/probe.key` cannot be read"), "{checked}");
    reload(&farm, health);
    farm.gateway().await_backends(SOON).unwrap();
}

/// As the service's user, with its capabilities, confined: it reads what its group may read.
#[test]
fn a_confined_daemon_reads_its_keys_and_probes() {
    let (_place, mut farm) = farm();
    let probe = Secret::generate();
    let health = wireguard(&farm, &probe);
    let mut config = farm.config().clone();
    config.pool[0].health = Some(health);
    farm.gateway_mut().terminate().unwrap();
    farm.gateway().write(&config).unwrap();
    farm.gateway_mut().run_as_service().unwrap();
    farm.gateway().await_backends(SOON).unwrap();
    assert_eq!(farm.gateway().process_status("Seccomp").as_deref(), Some("2"));
    // Reading it again is a reload's, too.
    farm.gateway().act(&["reload"]).unwrap();
    let concentrator = &farm.pools()[0].concentrators()[0];
    concentrator.know(&probe.public(), false).unwrap();
    await_state(farm.gateway(), &concentrator.name(), "down");
}

#[test]
fn an_openvpn_that_hangs_is_found_by_resets() {
    let _place = gate::enter().unwrap();
    let lab = Lab::new(Options::default()).unwrap();
    let pool = OvpnPool::start(&lab, "justiz", 2).unwrap();
    let gateway = gateway(&lab, pool.site(), Health::by("openvpn", []));
    let server = &pool.servers()[0];
    let error = stops_and_goes_on(&gateway, server.station().name(), server.pid());
    assert!(error.contains(":1194: no answer to a reset"), "{error}");
    assert!(server.sessions().unwrap().is_empty());
}

#[test]
fn an_openvpn_with_encrypted_control_messages_answers_who_has_its_key() {
    let _place = gate::enter().unwrap();
    let lab = Lab::new(Options::default()).unwrap();
    let key = lab.dir().join("tls-crypt.key");
    let file = key.display().to_string();
    lab.gateway().run("openvpn", &["--genkey", "secret", &file]).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let pool = OvpnPool::start_with(&lab, "justiz", 2, &format!("tls-crypt {file}")).unwrap();
    let gateway = gateway(&lab, pool.site(), Health::by("openvpn", [("tls_crypt_file", file)]));
    let server = &pool.servers()[0];
    stops_and_goes_on(&gateway, server.station().name(), server.pid());
    assert_eq!(server.strangers(), Vec::<String>::new());
    // Without the key nobody answers, and it is said what that may be.
    let mut config = Config::new(&lab).with_site(pool.site(), PLENTY);
    config.pool[0].health = Some(Health::by("openvpn", []));
    gateway.write(&config).unwrap();
    gateway.act(&["reload"]).unwrap();
    await_error(&gateway, server.station().name(), "held", "does it want `tls-crypt`");
}

/// On both of its ports, and more often than a server has room for half-open exchanges with one address.
#[test]
fn a_strongswan_that_hangs_is_found_by_requests_of_which_nothing_stays() {
    let _place = gate::enter().unwrap();
    let lab = Lab::new(Options::default()).unwrap();
    let pool = IkePool::start(&lab, "justiz", 2).unwrap();
    let gateway = gateway(&lab, pool.site(), Health::by("ike", []));
    let server = &pool.servers()[0];
    let name = server.station().name();
    let error = stops_and_goes_on(&gateway, name, server.pid());
    assert!(error.contains(":500: no response of IKE"), "{error}");
    let mut config = Config::new(&lab).with_site(pool.site(), PLENTY);
    let often = Health {
        port: Some(4500),
        interval: "50ms".to_owned(),
        timeout: "50ms".to_owned(),
        fall: 20,
        ..Health::by("ike", [])
    };
    config.pool[0].health = Some(often);
    gateway.write(&config).unwrap();
    gateway.act(&["reload"]).unwrap();
    let refused = || server.log().matches("NO_PROP").count();
    let before = refused();
    until("many refusals", SOON, || Ok((refused() > before + 200).then_some(()))).unwrap();
    let log = server.log();
    assert!(!log.contains("per peer limit") && !log.contains("half-open"), "{log}");
    await_state(&gateway, name, "active");
    assert!(server.sessions().unwrap().is_empty());
}

#[test]
fn an_ocserv_is_asked_by_tls() {
    let _place = gate::enter().unwrap();
    let lab = Lab::new(Options::default()).unwrap();
    let pool = OcPool::start(&lab, "justiz", 2).unwrap();
    let gateway = gateway(&lab, pool.site(), Health::by("tls", []));
    let server = &pool.servers()[0];
    let name = server.station().name();
    let error = stops_and_goes_on(&gateway, name, server.pid());
    assert!(error.contains(":443: no TLS handshake"), "{error}");
    // Its certificate is for the VIP's address, by an authority of the lab's.
    let authority = lab.dir().join(format!("oc-{}", pool.site().number())).join("ca.crt");
    let vip = pool.site().vip(Family::V4).ip().to_string();
    let trust = |name: &str| {
        [("ca_file", authority.display().to_string()), ("server_name", name.to_owned())]
    };
    let mut config = Config::new(&lab).with_site(pool.site(), PLENTY);
    let mut ask = |health| {
        config.pool[0].health = Some(health);
        gateway.write(&config).unwrap();
        gateway.act(&["reload"]).unwrap();
    };
    ask(Health::by("tls", trust("www.example.org")));
    await_error(&gateway, name, "held", "TLS: invalid peer certificate");
    ask(Health::by("tls", trust(&vip)));
    await_state(&gateway, name, "active");
    // It talks to nobody without a certificate of its own.
    ask(Health::by("https", []));
    await_error(&gateway, name, "held", ":443: HTTP: ");
}

/// A firewall that drops what comes in for the host, on the gateway itself: not what it forwards.
struct Firewall(Ns);

impl Firewall {
    fn against_echo_replies(lab: &Lab) -> Self {
        let rules = "add table inet lab; \
                     add chain inet lab in { type filter hook input priority 0; }; \
                     add rule inet lab in icmp type echo-reply drop; \
                     add rule inet lab in icmpv6 type echo-reply drop";
        lab.gateway().run("nft", &[rules]).unwrap();
        Self(lab.gateway().clone())
    }
}

impl Drop for Firewall {
    fn drop(&mut self) {
        let _ = self.0.run("nft", &["delete table inet lab"]);
    }
}

/// Nothing comes through between the gateway and the farm. Concentrators fall silent one after the other, as each has another number of clients: that
/// does not make those that do first the only ones.
#[test]
fn when_the_way_to_the_farm_is_cut_no_session_ends() {
    let (_place, mut farm) = farm();
    for _ in 0..7 {
        farm.join(0, WireguardGo, Family::V4).unwrap();
    }
    holds(&sessions_open(&farm).unwrap());
    let traffic: Vec<_> =
        farm.members_of(0).into_iter().map(|m| farm.traffic(m, 20).unwrap()).collect();
    let ids = |farm: &Farm| -> BTreeSet<String> {
        farm.gateway().sessions().unwrap().into_iter().map(|s| s.id).collect()
    };
    let states = |farm: &Farm| -> Vec<String> {
        farm.gateway().backends().unwrap().into_iter().map(|b| b.state).collect()
    };
    // Each has to be heard before it can be missed.
    traffic[0].wait_for(20 * 22, Duration::from_secs(90)).unwrap();
    let before = ids(&farm);
    assert_eq!(before.len(), traffic.len());

    farm.lab().inside().ip(&["link set gw nomaster"]).unwrap();
    let cut = Instant::now();
    until("the silence of a concentrator", SOON, || {
        Ok(states(&farm).iter().any(|state| state == "silent").then_some(()))
    })
    .unwrap();
    println!("silent after {:?}: {:?}", cut.elapsed(), states(&farm));
    while cut.elapsed() < Duration::from_secs(20) {
        let states = states(&farm);
        assert!(states.iter().all(|state| state != "down"), "{states:?}");
        assert_eq!(ids(&farm), before, "{states:?}");
        std::thread::sleep(Duration::from_millis(200));
    }
    println!("at last: {:?}", states(&farm));
    farm.lab().inside().ip(&["link set gw master br0"]).unwrap();
    until("answers", Duration::from_secs(60), || {
        let states = states(&farm);
        assert!(states.iter().all(|state| state != "down"), "{states:?}");
        Ok(states.iter().all(|state| state == "active").then_some(()))
    })
    .unwrap();
    for sequence in traffic {
        sequence.wait_for(20, Duration::from_secs(60)).unwrap();
        sequence.stop();
    }
    assert_eq!(ids(&farm), before);
}

/// All probes fail, of no backend's fault: nobody loses anything, whatever becomes of the daemon. One that dies meanwhile is found
/// by its sessions.
#[test]
fn when_all_probes_fail_nobody_loses_a_packet() {
    let (_place, mut farm) = farm();
    for implementation in MIXED.into_iter().chain(MIXED).chain(MIXED) {
        farm.join(0, implementation, Family::V4).unwrap();
    }
    holds(&sessions_open(&farm).unwrap());
    let dying = farm.reach(0).unwrap();
    let traffic: Vec<_> =
        farm.members_of(0).into_iter().map(|m| (m, farm.traffic(m, 20).unwrap())).collect();
    let on = |farm: &Farm, member: usize| farm.session(member).unwrap().concentrator();
    let (own, others): (Vec<_>, Vec<_>) =
        traffic.into_iter().partition(|(member, _)| on(&farm, *member) == dying);
    let names: Vec<_> = farm.pools()[0].concentrators().iter().map(|c| c.name()).collect();
    let ids = |farm: &Farm| {
        farm.gateway().sessions().unwrap().into_iter().map(|s| s.id).collect::<Vec<_>>()
    };
    let before = ids(&farm);

    // They all send at one rate, so it is enough to wait for one of them, and that none has stopped.
    let answered = |more, deadline| {
        own[0].1.wait_for(more, deadline).unwrap();
        for (_, sequence) in own.iter().chain(&others) {
            sequence.wait_for(1, SOON).unwrap();
        }
    };
    // What is on its way is waited for.
    let account = || {
        own.iter().chain(&others).map(|(member, sequence)| {
            let tally = sequence.between(|| sequence.so_far());
            assert_eq!(tally.lost, 0, "client {member}: {tally:?}");
            tally.sent
        })
    };
    {
        let _firewall = Firewall::against_echo_replies(farm.lab());
        for name in &names {
            let error = await_state(farm.gateway(), name, "held");
            assert!(error.contains("no reply within"), "{error}");
        }
        let status = farm.gateway().show(&["status"]).unwrap();
        assert!(status.contains("3 of 3 are held in service"), "{status}");
        let list = farm.gateway().show(&["backend", "list"]).unwrap();
        assert_eq!(list.matches(" held ").count(), 3, "{list}");
        answered(100, SOON);
        assert_eq!(ids(&farm), before);
    }
    for name in &names {
        await_state(farm.gateway(), name, "active");
    }
    assert_eq!(ids(&farm), before);
    let log = farm.gateway().log();
    assert!(log.contains("held: its probes fail") && log.contains("no longer held"), "{log}");
    println!("all probes failed: no session ended, 0 of {} packets lost", account().sum::<u64>());

    // A daemon that starts in the middle of it takes nobody down either.
    let _firewall = Firewall::against_echo_replies(farm.lab());
    farm.gateway_mut().kill();
    farm.gateway_mut().run().unwrap();
    for name in &names {
        await_state(farm.gateway(), name, "held");
    }
    assert_eq!(ids(&farm), before);
    // It has to hear them before it can miss one.
    answered(20 * 25, Duration::from_secs(90));
    println!("and over a start of the daemon, 0 of {}", account().sum::<u64>());
    let name = farm.backend_name(dying);
    farm.pool(0).concentrator(dying).die().unwrap();
    let died = Instant::now();
    await_state(farm.gateway(), &name, "down");
    println!("one that dies while all are held: found down after {:?}", died.elapsed());
    for (_, sequence) in &own {
        until("its client's return on another", Duration::from_secs(60), || {
            Ok(sequence.so_far().answered_by.into_keys().find(|&n| n != dying))
        })
        .unwrap();
    }
    for (member, sequence) in others {
        let tally = sequence.stop();
        assert_eq!(tally.lost, 0, "client {member}: {tally:?}");
    }
}
