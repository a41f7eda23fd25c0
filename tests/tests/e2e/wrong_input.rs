//! Wrong input, wrong places, wrong people: a clear answer in a sentence, and
//! the right exit code (1 failed, 2 bad usage or configuration).

use std::fs;
use std::net::UdpSocket;
use std::time::Duration;

use lab::gate::{self, Place};
use lab::gateway::{Caller, Config, Gateway, Said, invoke};
use lab::layout::plan::Family;
use lab::peer::Implementation::WireguardGo;
use lab::peer::Pool;
use lab::scenario::sessions_open;
use lab::{Lab, Options};
use serde_json::json;

use crate::common::{PLENTY, farm, holds};

const DEADLINE: Duration = Duration::from_secs(30);

/// A lab with one concentrator, a configuration for it, and no gateway yet.
fn lab() -> (Place, Lab, Pool, Config) {
    let place = gate::enter().unwrap();
    let lab = Lab::new(Options::default()).unwrap();
    let pool = lab.pool("justiz", &[WireguardGo]).unwrap();
    let config = Config::new(&lab).with_tenant(&pool, PLENTY);
    (place, lab, pool, config)
}

/// Writes a configuration file beside the gateway's own; its path.
fn file(lab: &Lab, text: &str) -> String {
    let path = lab.dir().join("wrong.toml");
    fs::write(&path, text).unwrap();
    path.display().to_string()
}

/// The answer has this exit code and all these words, and is fit for people.
#[track_caller]
fn answers(said: &Said, codes: &[i32], words: &[&str]) {
    let text = format!("{}{}", said.out, said.err);
    println!("{text}");
    assert!(
        said.code.is_some_and(|code| codes.contains(&code)),
        "exit code {:?}: {text}",
        said.code
    );
    for word in words {
        assert!(text.to_lowercase().contains(&word.to_lowercase()), "no `{word}` in: {text}");
    }
    for machine in
        ["panicked", "RUST_BACKTRACE", "Some(", "Err(", "Os {", "kind:", "src/", "unwrap"]
    {
        assert!(!text.contains(machine), "`{machine}` in: {text}");
    }
}

fn as_root(lab: &Lab, args: &[&str]) -> Said {
    invoke(lab.gateway(), Caller::Root, args, DEADLINE).unwrap()
}

/// A configuration with one line broken, for each line with a key and each way to break it; with the line's number, from 1.
fn broken(text: &str) -> Vec<(usize, String)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut all = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some((key, value)) = line.split_once(" = ") else { continue };
        let no_syntax = [
            format!("{key}x = {value}"),
            format!("{key} = 2026-01-01T08:00:00Z"),
            format!("{key} = [[1], [2]]"),
            format!("{key} = {{ colour = \"red\" }}"),
            format!("{key} {value}"),
            format!("{line}\n{line}"),
            format!("{key} ="),
        ];
        for wrong in no_syntax.into_iter().chain(senseless(key, value)) {
            let is_second = wrong.contains('\n');
            let mut lines = lines.clone();
            lines[at] = &wrong;
            all.push((at + 1 + usize::from(is_second), lines.join("\n")));
        }
    }
    all
}

/// A line that can be read, and makes no sense, for each way that its value has: a name that leads nowhere, a listener given twice, and
/// a number that is out of all ranges.
fn senseless(key: &str, value: &str) -> Vec<String> {
    let mut all = Vec::new();
    if ["tenant", "pool"].contains(&key) {
        all.push(format!("{key} = \"nowhere\""));
    }
    let first = value.strip_prefix("[\"").and_then(|list| list.split('"').next());
    if let Some(first) = first.filter(|_| key == "listen") {
        all.push(format!("{key} = [\"{first}\", {}", &value[1..]));
    }
    if let Ok(number) = value.parse::<i64>() {
        all.extend([number * 1_000_000_000, -number].map(|number| format!("{key} = {number}")));
    }
    all
}

/// Hundreds of wrong files, each reloaded by a gateway that forwards: each is refused at its line, with a mend, and nothing changes.
#[test]
fn wrong_configurations_change_nothing_of_a_running_gateway() {
    let (_place, mut farm) = farm();
    farm.join(0, WireguardGo, Family::V4).unwrap();
    holds(&sessions_open(&farm).unwrap());
    let traffic = farm.traffic(0, 200).unwrap();
    let file = farm.gateway().config_file();
    let text = fs::read_to_string(&file).unwrap();
    let unchanged = || {
        fs::write(&file, &text).unwrap();
        let same = farm.gateway().show(&["diff"]).unwrap();
        assert!(same.contains("the configuration in force is the file's"), "{same}");
    };
    let all = broken(&text);
    assert!(all.len() >= 220, "{}", all.len());
    for (n, (line, wrong)) in all.iter().enumerate() {
        fs::write(&file, wrong).unwrap();
        let said = invoke(
            farm.gateway().ns(),
            Caller::Root,
            &["--socket", farm.gateway().socket(), "reload"],
            DEADLINE,
        );
        let (said, place) = (said.unwrap(), format!("{}:{line}:", file.display()));
        answers(&said, &[2], &[&place]);
        // Each mistake says what would be right.
        for mistake in said.err.split("\n\n").filter(|part| part.contains("--> ")) {
            let has_mend =
                ["help: ", "must be", "expected"].iter().any(|mend| mistake.contains(mend));
            assert!(has_mend, "no mend in: {mistake}");
        }
        if n % 20 == 0 {
            unchanged();
        }
    }
    unchanged();
    let verified = farm.gateway().call(&["verify"]).unwrap();
    assert_eq!((&verified["drift"], &verified["writes"]), (&json!([]), &json!(0)));
    let tally = traffic.stop();
    assert_eq!(tally.lost, 0, "{tally:?}");
    // Two in a row may wait for different processors, where the sender was given another one between them.
    assert!(tally.reordered <= 2, "{tally:?}");
}

#[test]
fn an_unknown_key_is_named_with_its_line() {
    let (_place, lab, _pool, config) = lab();
    let good = config.to_toml().unwrap();
    let bad = file(&lab, &good.replace("max_sessions = 4096", "max_sesions = 4096"));
    for command in ["check", "run"] {
        answers(
            &as_root(&lab, &[command, "-c", &bad]),
            &[2],
            &["max_sesions", "max_sessions", "wrong.toml"],
        );
    }
    let good = file(&lab, &good);
    answers(&as_root(&lab, &["check", "-c", &good]), &[0], &[]);
    answers(&as_root(&lab, &["check", "-c", "/nowhere/x.toml"]), &[1, 2], &["/nowhere/x.toml"]);
}

#[test]
fn every_contradiction_in_a_configuration_is_told_at_once() {
    let (_place, lab, pool, config) = lab();
    let mut config = config.with_tenant(&pool, 1_000_000);
    config.tenant[1].name = "finanz".to_owned();
    config.service[1].name = "vpn-finanz".to_owned();
    config.service[1].tenant = "finanz".to_owned();
    config.pool.truncate(1);
    let path = file(&lab, &config.to_toml().unwrap());
    // Two services on one listener and on one endpoint, and a quota above the table.
    answers(
        &as_root(&lab, &["check", "-c", &path]),
        &[2],
        &["203.0.113.10:51820", "vpn-justiz", "vpn-finanz", "1000000", "4096"],
    );
}

#[test]
fn an_interface_that_cannot_do_it_is_named() {
    let (_place, lab, _pool, config) = lab();
    let mut nowhere = config.clone();
    nowhere.gateway.interfaces = vec!["wan0".to_owned(), "wan7".to_owned()];
    let path = file(&lab, &nowhere.to_toml().unwrap());
    answers(&as_root(&lab, &["run", "-c", &path]), &[1, 2], &["wan7"]);

    // A driver without native XDP: the loopback interface.
    let mut weak = config;
    weak.gateway.interfaces = vec!["lo".to_owned()];
    let path = file(&lab, &weak.to_toml().unwrap());
    answers(&as_root(&lab, &["run", "-c", &path]), &[1, 2], &["lo has no native", "generic"]);
    // Nothing was changed: there is nothing to take away.
    answers(&as_root(&lab, &["unload", "-c", &path]), &[1], &["nothing is loaded"]);
}

#[test]
fn a_second_daemon_on_the_same_bpffs_is_refused() {
    let (_place, lab, _pool, config) = lab();
    let gateway = Gateway::start(&lab, &config).unwrap();
    let mut second = config.clone();
    second.api.socket = lab.dir().join("second.sock").display().to_string();
    second.api.metrics = "127.0.0.1:9479".to_owned();
    let path = file(&lab, &second.to_toml().unwrap());
    answers(&as_root(&lab, &["run", "-c", &path]), &[1, 2], &["another", &config.gateway.bpffs]);
    second.gateway.state_dir = lab.dir().join("second").display().to_string();
    let path = file(&lab, &second.to_toml().unwrap());
    answers(&as_root(&lab, &["run", "-c", &path]), &[1, 2], &["another", &config.gateway.bpffs]);
    gateway.call(&["status"]).unwrap();
}

#[test]
fn pinned_maps_of_another_shape_are_not_adopted() {
    let (_place, lab, _pool, config) = lab();
    let mut gateway = Gateway::start(&lab, &config).unwrap();
    gateway.terminate().unwrap();
    // Two maps change places: a bpffs can do that, and so can an operator's script.
    let versions = fs::read_dir(&config.gateway.bpffs).unwrap().map(|entry| entry.unwrap().path());
    let pins = versions.into_iter().find(|path| path.is_dir()).unwrap();
    let swap = || {
        for (from, to) in [("ROUTES", "SWAPPED"), ("COUNTERS", "ROUTES"), ("SWAPPED", "COUNTERS")] {
            fs::rename(pins.join(from), pins.join(to)).unwrap();
        }
    };
    swap();
    let path = gateway.config_file().display().to_string();
    let said = as_root(&lab, &["run", "-c", &path]);
    answers(&said, &[1, 2], &["pinned", "another shape", "unload"]);
    swap();
    // What was pinned is as it was.
    gateway.run().unwrap();
}

#[test]
fn a_socket_that_is_not_there_is_named() {
    let (_place, lab, _pool, _config) = lab();
    for args in [["status"].as_slice(), &["session", "list"], &["backend", "drain", "wg-1"]] {
        let all = [["--socket", "/nowhere/api.sock"].as_slice(), args].concat();
        answers(&as_root(&lab, &all), &[1], &["/nowhere/api.sock", "run"]);
    }
}

#[test]
fn who_has_no_rights_is_told_so() {
    let (_place, lab, _pool, config) = lab();
    let gateway = Gateway::start(&lab, &config).unwrap();
    let nobody = |args: &[&str]| invoke(lab.gateway(), Caller::Nobody, args, DEADLINE).unwrap();
    let socket = gateway.socket();
    answers(&nobody(&["--socket", socket, "status"]), &[1], &[socket, "permission"]);
    let mut other = config;
    other.gateway.bpffs = "/run/fernpass-nobody/bpf".to_owned();
    other.gateway.state_dir = "/run/fernpass-nobody/state".to_owned();
    other.api.socket = "/run/fernpass-nobody/api.sock".to_owned();
    let path = file(&lab, &other.to_toml().unwrap());
    answers(&nobody(&["run", "-c", &path]), &[1], &["permission"]);
}

#[test]
fn a_name_that_matches_nothing_is_named() {
    let (_place, lab, _pool, config) = lab();
    let gateway = Gateway::start(&lab, &config).unwrap();
    let call =
        |args: &[&str]| as_root(&lab, &[["--socket", gateway.socket()].as_slice(), args].concat());
    for args in [
        ["backend", "drain", "wg-77"].as_slice(),
        &["backend", "undrain", "wg-77"],
        &["backend", "weight", "wg-77", "5"],
        &["session", "list", "--tenant", "wg-77"],
        &["session", "list", "--backend", "wg-77"],
    ] {
        answers(&call(args), &[1], &["wg-77"]);
    }
    for args in [["session", "show", "00000000deadbeef"], ["session", "kill", "00000000deadbeef"]] {
        answers(&call(&args), &[1], &["deadbeef"]);
    }
    // Errors are JSON too where JSON was asked for.
    let said = call(&["--json", "backend", "drain", "wg-77"]);
    answers(&said, &[1], &["wg-77"]);
    let text = if said.out.trim().is_empty() { &said.err } else { &said.out };
    assert!(serde_json::from_str::<serde_json::Value>(text).is_ok(), "not JSON: {text}");
}

#[test]
fn bad_usage_is_answered_with_the_usage() {
    let (_place, lab, _pool, _config) = lab();
    for args in [["sesion", "list"].as_slice(), &["session", "lst"], &["run"]] {
        answers(&as_root(&lab, args), &[2], &["usage"]);
    }
    answers(&as_root(&lab, &["backend", "weight", "wg-1", "x"]), &[2], &["weight", "--help"]);
}

#[test]
fn an_agent_that_cannot_be_one_says_why() {
    let (_place, lab, pool, config) = lab();
    let station = &pool.site().stations()[0];
    let on = |ns: &lab::net::Ns, args: &[&str]| {
        invoke(ns, Caller::Root, &[&["agent"], args].concat(), DEADLINE).unwrap()
    };
    let none = file(&lab, &config.to_toml().unwrap());
    let usual = ["-c", &none, "-i", "eth0", "-g", "10.20.0.1"];
    answers(&on(station.ns(), &usual), &[2], &["no pool has `agent = true`"]);
    answers(&on(station.ns(), &["-c", &none, "-g", "10.20.0.1"]), &[2], &["--interface"]);

    let agents = file(&lab, &config.answered_directly(None).with_agents().to_toml().unwrap());
    let agent = |interface: &'static str, gateway: &'static str| {
        ["-c", &agents, "-i", interface, "-g", gateway].map(str::to_owned)
    };
    let said = |ns: &lab::net::Ns, args: [String; 6]| on(ns, &args.each_ref().map(String::as_str));
    // On another machine, which is none of the backends.
    answers(
        &said(lab.gateway(), agent("lan0", "10.20.0.1")),
        &[2],
        &["none of the backends", &station.address(Family::V4).to_string()],
    );
    answers(
        &said(station.ns(), agent("eth1", "10.20.0.1")),
        &[1],
        &["no interface `eth1`", "did you mean `eth0`"],
    );
    let taken = (station.address(Family::V4), 6079);
    let socket = station.ns().enter(|| UdpSocket::bind(taken)).unwrap().unwrap();
    answers(&said(station.ns(), agent("eth0", "10.20.0.1")), &[1], &["6079", "in use"]);
    drop(socket);
    // It has addresses of both families; without the one it cannot tell a gateway of that.
    let text = fs::read_to_string(&agents).unwrap();
    let v6 = station.address(Family::V6);
    fs::write(&agents, text.replace(&format!("address6 = \"{v6}\"\n"), "")).unwrap();
    answers(
        &said(station.ns(), agent("eth0", "fd00:20::1")),
        &[2],
        &["fd00:20::1", "no address of its family"],
    );
}
