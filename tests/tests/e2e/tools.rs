//! What an operator does without the daemon, and what helps to find out what happens.

use std::time::Duration;

use lab::gate;
use lab::gateway::{Caller, Config, Gateway, Said, invoke};
use lab::layout::plan::{self, Family};
use lab::net::RawSender;
use lab::peer::Implementation::WireguardGo;
use lab::scenario::Farm;
use lab::wait::until;
use lab::{Lab, Options};

use crate::common::{PLENTY, farm, scrape};

const DEADLINE: Duration = Duration::from_secs(30);

/// `fernpass ARGS -c FILE`, without a daemon.
#[track_caller]
fn by_hand(farm: &Farm, args: &[&str]) -> Said {
    let file = farm.gateway().config_file().display().to_string();
    let args: Vec<&str> = args.iter().copied().chain(["-c", &file]).collect();
    invoke(farm.gateway().ns(), Caller::Root, &args, DEADLINE).unwrap()
}

#[track_caller]
fn done(farm: &Farm, args: &[&str]) -> String {
    let said = by_hand(farm, args);
    assert_eq!(said.code, Some(0), "{args:?}: {said:?}");
    said.out
}

#[test]
fn program_and_tables_are_handled_without_a_daemon() {
    let (_place, mut farm) = farm();
    let member = farm.join(0, WireguardGo, Family::V4).unwrap();
    farm.reach(member).unwrap();
    let before = farm.session(member).unwrap();

    // While the daemon runs, they are its own.
    let held = by_hand(&farm, &["detach", "wan0"]);
    assert_eq!(held.code, Some(1), "{held:?}");

    farm.gateway_mut().terminate().unwrap();
    let traffic = farm.traffic(member, 100).unwrap();
    traffic.wait_for(20, DEADLINE).unwrap();
    for interface in ["wan0", "wan1", "lan0"] {
        done(&farm, &["detach", interface]);
    }
    let twice = by_hand(&farm, &["detach", "wan0"]);
    assert!(twice.code == Some(1) && twice.err.contains("wan0"), "{twice:?}");
    // Nothing goes through a gateway that is on no interface.
    let lost = traffic.so_far().lost;
    until("losses", DEADLINE, || Ok((traffic.so_far().lost > lost + 20).then_some(()))).unwrap();
    for interface in ["wan0", "wan1", "lan0"] {
        done(&farm, &["attach", interface]);
    }
    traffic.wait_for(20, DEADLINE).unwrap();
    // A handshake goes through the programs of all stages: they stay when those who loaded them are gone.
    let late = farm.join(0, WireguardGo, Family::V4).unwrap();
    farm.reach(late).unwrap();
    // Loading again takes another program and keeps the tables.
    assert!(done(&farm, &["load"]).contains("with the tables"));
    traffic.wait_for(20, DEADLINE).unwrap();
    let later = farm.join(0, WireguardGo, Family::V6).unwrap();
    farm.reach(later).unwrap();
    farm.gateway_mut().run().unwrap();
    let after = farm.session(member).unwrap();
    assert_eq!((&after.id, &after.backend), (&before.id, &before.backend));

    farm.gateway_mut().terminate().unwrap();
    assert!(done(&farm, &["unload"]).contains("3 interfaces"));
    let again = by_hand(&farm, &["unload"]);
    assert!(again.code == Some(1) && !again.err.is_empty(), "{again:?}");
    assert!(done(&farm, &["load"]).contains("with new tables"));
    farm.gateway_mut().run().unwrap();
    traffic.wait_for(20, DEADLINE).unwrap();
    // The session is learnt anew from its traffic.
    assert_eq!(farm.session(member).unwrap().backend, before.backend);
}

#[test]
fn an_interface_that_takes_no_redirected_frames_is_told() {
    let (_place, farm) = farm();
    let warnings = || farm.gateway().call(&["status"]).unwrap()["warnings"].clone();
    assert_eq!(warnings(), serde_json::json!([]), "nothing is wrong with the lab");
    // As it is with a veth whose other end was never prepared.
    farm.lab().inet().run("ethtool", &["-K", "gw1", "gro", "off"]).unwrap();
    farm.gateway().act(&["reload"]).unwrap();
    let texts = || -> Vec<String> {
        let told = warnings();
        told.as_array().unwrap().iter().filter_map(|w| w.as_str().map(str::to_owned)).collect()
    };
    if kernel() < (6, 3) {
        assert!(texts().is_empty(), "these kernels do not tell: {:?}", texts());
    } else {
        // Where the kernel takes too long for its answer, it is asked again.
        let told = until("a warning", DEADLINE, || Ok(Some(texts()).filter(|t| !t.is_empty())));
        let texts = told.unwrap();
        assert!(texts.len() == 1 && texts[0].contains("wan1"), "{texts:?}");
    }
}

/// Major and minor version.
fn kernel() -> (u32, u32) {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split('.').map(|part| part.trim().parse().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

#[test]
fn prometheus_reads_what_the_command_line_shows() {
    let (_place, mut farm) = farm();
    let member = farm.join(0, WireguardGo, Family::V4).unwrap();
    farm.reach(member).unwrap();
    let session = farm.session(member).unwrap();
    let (head, body) = scrape(&farm);
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    assert!(head.to_lowercase().contains("content-type: application/openmetrics-text"), "{head}");
    let sample = |name: &str| sample(&body, name);
    assert_eq!(sample("fernpass_tenant_sessions{tenant=\"justiz\"}"), 1.0);
    assert_eq!(sample("fernpass_tenant_opened_total{tenant=\"justiz\"}"), 1.0);
    assert_eq!(sample("fernpass_tenant_max_sessions{tenant=\"justiz\"}"), f64::from(PLENTY));
    let labels = format!("{{pool=\"pool-justiz\",backend=\"{}\"}}", session.backend);
    assert_eq!(sample(&format!("fernpass_backend_sessions{labels}")), 1.0);
    assert_eq!(sample(&format!("fernpass_backend_up{labels}")), 1.0);
    let established =
        sample("fernpass_packets_total{kind=\"forwarded\",reason=\"in_established\"}");
    assert!(established >= 1.0 && established <= session.rx_packets as f64 + 1000.0);
    assert!(body.trim_end().ends_with("# EOF"));
}

#[track_caller]
fn sample(body: &str, name: &str) -> f64 {
    let value = body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no `{name}` in {body}")).parse().unwrap()
}

#[test]
fn the_kernel_program_tells_what_it_drops_where_it_is_asked_to() {
    let _place = gate::enter().unwrap();
    let lab = Lab::new(Options::default()).unwrap();
    let pool = lab.pool("justiz", &[WireguardGo]).unwrap();
    let mut gateway = Gateway::start(&lab, &Config::new(&lab).with_tenant(&pool, PLENTY)).unwrap();
    let sender = RawSender::new(lab.inet()).unwrap();
    let to = plan::listener(pool.number(), Family::V4);
    let malformed =
        || sender.send("198.18.200.1:1234".parse().unwrap(), to, b"no WireGuard").unwrap();
    let dropped = "packet wireguard_malformed: 54 bytes from interface ";

    malformed();
    until("the packet's count", DEADLINE, || {
        Ok((gateway.counters()?.get("wireguard_malformed") == 1).then_some(()))
    })
    .unwrap();
    assert!(!gateway.log().contains(dropped), "nobody asked");
    gateway.terminate().unwrap();
    gateway.run_with(&["--log-packets", "dropped"]).unwrap();
    malformed();
    until("the message", DEADLINE, || Ok(gateway.log().contains(dropped).then_some(()))).unwrap();
    assert!(!gateway.log().contains("packet not_ours"), "{}", gateway.log());

    gateway.terminate().unwrap();
    gateway.run_with(&["--log-packets", "all"]).unwrap();
    until("a message", DEADLINE, || Ok(gateway.log().contains("packet not_").then_some(())))
        .unwrap();
}
